
/*
 * Copyright (C) The nginx-bog authors
 */


#include "fuzz.h"

#include <sys/mman.h>

#include <sanitizer/asan_interface.h>


/* set by the linker's --wrap */

void *__real_bog_pool_alloc(bog_pool_t *pool, size_t size);
void *__wrap_bog_pool_alloc(bog_pool_t *pool, size_t size);
int __real_munmap(void *p, size_t size);
int __wrap_munmap(void *p, size_t size);


/* the widest that nginx could hand over: years below 10000, in milliseconds */

#define FUZZ_TIME_MAX      253402300800000


/* the bank's 300 s, our defaults */

static bog_answer_rules_t  fuzz_rules = { 1700000000000, -1, 3600000, 300000 };

/* jansson's own, before anything has changed it */

static json_malloc_t       fuzz_malloc;
static json_free_t         fuzz_free;

/* bytes that the pool still gives out; the first and the last one it gave */

static size_t              fuzz_left;
static const char         *fuzz_low, *fuzz_high;


static int64_t
fuzz_clamp(int64_t n, int64_t min, int64_t max)
{
    return (n < min) ? min : (n > max) ? max : n;
}


static void
fuzz_head(fuzz_input_t *in, const char *line)
{
    long long  now, date, max, dflt, size;

    in->rules = fuzz_rules;
    in->size = FUZZ_MEMORY;

    if (sscanf(line, "%18lld %18lld %18lld %18lld %18lld",
               &now, &date, &max, &dflt, &size) != 5)
    {
        return;
    }

    in->rules.now = fuzz_clamp(now, 0, FUZZ_TIME_MAX);
    in->rules.date = fuzz_clamp(date, -1, FUZZ_TIME_MAX);
    in->rules.max_lifetime = fuzz_clamp(max, 1, FUZZ_TIME_MAX);
    in->rules.default_lifetime = fuzz_clamp(dflt, 1, FUZZ_TIME_MAX);
    in->size = (size_t) fuzz_clamp(size, 0, FUZZ_MEMORY);
}


void
fuzz_fail(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: this does not hold: %s\n", file, line, what);
    abort();
}


void
fuzz_read(fuzz_input_t *in, const uint8_t *data, size_t size)
{
    char       text[128];
    bog_str_t  line;

    if (fuzz_malloc == NULL) {
        json_get_alloc_funcs(&fuzz_malloc, &fuzz_free);
    }

    in->text = (const char *) data;
    in->len = size;
    text[0] = '\0';

    if (size && (data[0] == '-' || (data[0] >= '0' && data[0] <= '9'))) {
        line = fuzz_line(in);

        if (line.len < sizeof(text)) {
            memcpy(text, line.data, line.len);
            text[line.len] = '\0';
        }
    }

    fuzz_head(in, text);

    in->pool.chunks = NULL;
    fuzz_destroy(in);
}


bog_str_t
fuzz_line(fuzz_input_t *in)
{
    size_t       used;
    bog_str_t    line;
    const char  *end;

    end = in->len ? memchr(in->text, '\n', in->len) : NULL;

    line.data = (const unsigned char *) in->text;
    line.len = end ? (size_t) (end - in->text) : in->len;

    used = line.len + (end != NULL);

    in->text += used;
    in->len -= used;

    return line;
}


/* every piece is followed by bytes that AddressSanitizer guards */

void *
__wrap_bog_pool_alloc(bog_pool_t *pool, size_t size)
{
    char  *p;

    if (size > fuzz_left) {
        return NULL;
    }

    fuzz_left -= size;

    p = __real_bog_pool_alloc(pool, size + 16);
    fuzz_assert(p);

    ASAN_POISON_MEMORY_REGION(p + size, 16);

    fuzz_low = (fuzz_low == NULL || p < fuzz_low) ? p : fuzz_low;
    fuzz_high = (p + size > fuzz_high) ? p + size : fuzz_high;

    return p;
}


int
__wrap_munmap(void *p, size_t size)
{
    const char  *data = p;

    ASAN_UNPOISON_MEMORY_REGION(p, size);

    fuzz_assert(data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);

    return __real_munmap(p, size);
}


int
fuzz_pooled(const void *p, size_t len)
{
    return fuzz_low && (const char *) p >= fuzz_low
           && (const char *) p + len <= fuzz_high;
}


void
fuzz_destroy(fuzz_input_t *in)
{
    bog_pool_destroy(&in->pool);
    fuzz_assert(in->pool.chunks == NULL);

    fuzz_left = in->size;
    fuzz_low = NULL;
    fuzz_high = NULL;
}


json_t *
fuzz_json(const char *text, size_t len)
{
    json_t  *root;

    if (len == 0 || memchr(text, '\0', len)) {
        return NULL;
    }

    root = json_loadb(text, len,
                      JSON_REJECT_DUPLICATES|JSON_DECODE_INT_AS_REAL, NULL);

    if (root && !json_is_object(root)) {
        json_decref(root);
        return NULL;
    }

    return root;
}


int
fuzz_allocator(void)
{
    json_free_t    free_fn;
    json_malloc_t  malloc_fn;

    json_get_alloc_funcs(&malloc_fn, &free_fn);

    return malloc_fn == fuzz_malloc && free_fn == fuzz_free;
}


int
fuzz_same(const void *a, size_t alen, const void *b, size_t blen)
{
    return alen == blen && (alen == 0 || memcmp(a, b, alen) == 0);
}
