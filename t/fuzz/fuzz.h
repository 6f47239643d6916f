
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _FUZZ_H_INCLUDED_
#define _FUZZ_H_INCLUDED_


/*
 * What the targets of util/fuzz.sh share.  Each reads an input that is text
 * as far as can be, so that a case of the corpus can be read, and written by
 * hand.
 */


#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "bog_oauth.h"


/* memory that is enough for every body of up to FUZZ_SURE bytes */

#define FUZZ_MEMORY  (256 * 1024)
#define FUZZ_SURE    2048


/* an assert() that no option of a compiler removes */

#define fuzz_assert(expr)                                                     \
    if (!(expr)) {                                                            \
        fuzz_fail(#expr, __FILE__, __LINE__);                                 \
    }


/* the first line of an input: "NOW DATE MAX DEFAULT SIZE" */

typedef struct {
    bog_answer_rules_t   rules;

    /* the rest */
    const char          *text;
    size_t               len;

    /* the pool gives out up to that many bytes, one more is noticed */
    bog_pool_t           pool;
    size_t               size;
} fuzz_input_t;


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

void fuzz_fail(const char *what, const char *file, int line)
    __attribute__((noreturn));

/* Without a line of numbers all of the input is text. */
void fuzz_read(fuzz_input_t *in, const uint8_t *data, size_t size);

/* Takes a line off the front of the text. */
bog_str_t fuzz_line(fuzz_input_t *in);

/* Whether len bytes at p are of the pool. */
int fuzz_pooled(const void *p, size_t len);

/* Destroys the pool, for another call; fails if that has not wiped it. */
void fuzz_destroy(fuzz_input_t *in);

/*
 * What jansson says with memory of the heap, where sanitizers see what it
 * does.  NULL where the text is not a strict object; else to be released.
 */
json_t *fuzz_json(const char *text, size_t len);

/* Whether jansson has its own allocator again. */
int fuzz_allocator(void);

int fuzz_same(const void *a, size_t alen, const void *b, size_t blen);


#endif /* _FUZZ_H_INCLUDED_ */
