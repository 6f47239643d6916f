
/*
 * Copyright (C) The nginx-bog authors
 */


#include <setjmp.h>
#include <stdint.h>
#include <string.h>

#include <jansson.h>

#include "bog_json.h"


#define BOG_ARENA_ALIGNMENT  16

#define BOG_JSON_FLAGS       (JSON_REJECT_DUPLICATES|JSON_DECODE_INT_AS_REAL)


static void *bog_json_malloc(size_t size);
static void bog_json_free(void *p);


/* jansson's allocator takes no context; set while it parses only */

static bog_arena_t  *bog_json_arena;
static jmp_buf       bog_json_full;


void
bog_arena_init(bog_arena_t *a, void *arena, size_t size)
{
    size_t  skip;

    skip = -(uintptr_t) arena % BOG_ARENA_ALIGNMENT;

    if (skip > size) {
        skip = size;
    }

    size = (size - skip) / BOG_ARENA_ALIGNMENT * BOG_ARENA_ALIGNMENT;

    a->start = (unsigned char *) arena + skip;
    a->pos = a->start;
    a->end = a->start + size;
}


void *
bog_arena_alloc(bog_arena_t *a, size_t size)
{
    void  *p;

    if (size > (size_t) (a->end - a->pos)) {
        return NULL;
    }

    p = a->pos;

    a->pos += (size + BOG_ARENA_ALIGNMENT - 1)
              / BOG_ARENA_ALIGNMENT * BOG_ARENA_ALIGNMENT;

    return p;
}


/*
 * The token passes through the parser's buffers, and must not stay on the
 * heap, so for the length of the call jansson allocates from the arena.  That
 * is a setting of the process; no other thread is there to see it, since
 * nginx's thread pools only read and write files.
 *
 * The parser's text of an error may hold a piece of the token, hence no
 * json_error_t.  Nothing is ever released: the arena goes as a whole.
 */

bog_json_status_e
bog_json_parse(json_t **root, bog_arena_t *a, const char *text, size_t len)
{
    json_free_t        free_fn;
    json_malloc_t      malloc_fn;
    bog_json_status_e  status;

    *root = NULL;

    /* jansson passes over a zero byte that follows a number */

    if (len == 0 || memchr(text, '\0', len)) {
        return BOG_JSON_INVALID;
    }

    json_get_alloc_funcs(&malloc_fn, &free_fn);
    json_set_alloc_funcs(bog_json_malloc, bog_json_free);

    bog_json_arena = a;

    if (setjmp(bog_json_full) == 0) {
        *root = json_loadb(text, len, BOG_JSON_FLAGS, NULL);
        status = json_is_object(*root) ? BOG_JSON_OK : BOG_JSON_INVALID;

    } else {
        status = BOG_JSON_NO_MEMORY;
    }

    bog_json_arena = NULL;

    json_set_alloc_funcs(malloc_fn, free_fn);

    return status;
}


/*
 * Parts of jansson, its scanner of strings for one, do not look whether they
 * got memory, and would run over the end of a buffer that could not grow.  So
 * where the arena is full they are left for good, which loses nothing: all
 * that they hold is in the arena.
 */

static void *
bog_json_malloc(size_t size)
{
    void  *p;

    p = bog_arena_alloc(bog_json_arena, size);

    if (p == NULL) {
        longjmp(bog_json_full, 1);
    }

    return p;
}


static void
bog_json_free(void *p)
{
    (void) p;
}
