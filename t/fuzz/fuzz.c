
/*
 * Copyright (C) The nginx-bog authors
 */


#include "fuzz.h"


/* the widest that nginx could hand over: years below 10000, in milliseconds */

#define FUZZ_TIME_MAX      253402300800000


/* the bank's 300 s, our defaults */

static bog_answer_rules_t  fuzz_rules = { 1700000000000, -1, 3600000, 300000 };

/* jansson's own, before anything has changed it */

static json_malloc_t       fuzz_malloc;
static json_free_t         fuzz_free;

static unsigned char      *fuzz_block;


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
    in->size = FUZZ_ARENA;

    if (sscanf(line, "%18lld %18lld %18lld %18lld %18lld",
               &now, &date, &max, &dflt, &size) != 5)
    {
        return;
    }

    in->rules.now = fuzz_clamp(now, 0, FUZZ_TIME_MAX);
    in->rules.date = fuzz_clamp(date, -1, FUZZ_TIME_MAX);
    in->rules.max_lifetime = fuzz_clamp(max, 1, FUZZ_TIME_MAX);
    in->rules.default_lifetime = fuzz_clamp(dflt, 1, FUZZ_TIME_MAX);
    in->size = (size_t) fuzz_clamp(size, 0, FUZZ_ARENA);
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

    if (fuzz_block == NULL) {
        json_get_alloc_funcs(&fuzz_malloc, &fuzz_free);

        fuzz_block = calloc(1, FUZZ_ARENA);
        fuzz_assert(fuzz_block);
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

    in->arena = fuzz_block + FUZZ_ARENA - in->size;
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


int
fuzz_wiped(const fuzz_input_t *in, size_t len)
{
    size_t          n;
    unsigned char  *p;

    /* the arena itself is aligned to 16 */

    n = -(uintptr_t) in->arena % 16;

    p = in->arena + ((n < in->size) ? n : in->size) + len;
    n = fuzz_block + FUZZ_ARENA - p;

    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}


void
fuzz_wipe(const fuzz_input_t *in)
{
    memset(in->arena, 0, in->size);
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
