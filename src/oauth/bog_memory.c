
/*
 * Copyright (C) The nginx-bog authors
 */


#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "bog_memory.h"


/*
 * This file gives out the memory that holds secrets and tokens: whole pages,
 * and pools of small pieces.  Where the system cannot leave a page out of core
 * dumps there is no memory: better no start than a secret in a core.
 */


#if !defined MAP_ANONYMOUS && defined MAP_ANON
#define MAP_ANONYMOUS  MAP_ANON
#endif


/* FreeBSD has the same under another name; elsewhere there is nothing to do */

#if defined MADV_DONTDUMP
#define BOG_MEMORY_EXCLUDE  MADV_DONTDUMP
#elif defined MADV_NOCORE
#define BOG_MEMORY_EXCLUDE  MADV_NOCORE
#endif


#define BOG_POOL_CHUNK      65536
#define BOG_POOL_ALIGNMENT  16


struct bog_chunk_s {
    bog_chunk_t    *next;
    size_t          size;
    size_t          used;           /* this header, and all that was given */
    size_t          reserved;       /* keeps what follows aligned */
};


static size_t bog_memory_round(size_t size);


void *
bog_memory_alloc(size_t size)
{
    int     err;
    void   *p;
    size_t  full;

    full = bog_memory_round(size);

    if (full < size) {
        errno = ENOMEM;
        return NULL;
    }

    p = mmap(NULL, full, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS,
             -1, 0);

    if (p == MAP_FAILED) {
        return NULL;
    }

    if (bog_memory_exclude(p, full) == -1) {
        err = errno;
        (void) munmap(p, full);
        errno = err;
        return NULL;
    }

    return p;
}


void
bog_memory_free(void *p, size_t size)
{
    size_t  full;

    if (p == NULL) {
        return;
    }

    full = bog_memory_round(size);

    bog_memory_wipe(p, full);
    (void) munmap(p, full);
}


void
bog_memory_wipe(void *p, size_t size)
{
    OPENSSL_cleanse(p, size);
    bog_registers_clear();
}


int
bog_memory_exclude(void *p, size_t size)
{
#ifdef BOG_MEMORY_EXCLUDE

    return madvise(p, size, BOG_MEMORY_EXCLUDE);

#else

    (void) p;
    (void) size;

    return 0;

#endif
}


void *
bog_pool_alloc(bog_pool_t *pool, size_t size)
{
    void         *p;
    size_t        full;
    bog_chunk_t  *chunk;

    if (size > SIZE_MAX / 2) {
        errno = ENOMEM;
        return NULL;
    }

    size = (size + BOG_POOL_ALIGNMENT - 1) & ~(size_t) (BOG_POOL_ALIGNMENT - 1);

    chunk = pool->chunks;

    if (chunk == NULL || size > chunk->size - chunk->used) {

        full = sizeof(bog_chunk_t) + size;

        if (full < BOG_POOL_CHUNK) {
            full = BOG_POOL_CHUNK;
        }

        chunk = bog_memory_alloc(full);
        if (chunk == NULL) {
            return NULL;
        }

        chunk->size = full;
        chunk->used = sizeof(bog_chunk_t);
        chunk->next = pool->chunks;

        pool->chunks = chunk;
    }

    p = (unsigned char *) chunk + chunk->used;
    chunk->used += size;

    return p;
}


void
bog_pool_destroy(bog_pool_t *pool)
{
    size_t        size;
    bog_chunk_t  *chunk;

    for ( ;; ) {
        chunk = pool->chunks;

        if (chunk == NULL) {
            return;
        }

        pool->chunks = chunk->next;
        size = chunk->size;

        /* pages that were never touched stay so: they would cost a fault */

        bog_memory_wipe(chunk, chunk->used);
        (void) munmap(chunk, bog_memory_round(size));
    }
}


/* rounds up to whole pages; the result is below size where that overflows */

static size_t
bog_memory_round(size_t size)
{
    size_t  page;

    page = (size_t) sysconf(_SC_PAGESIZE);

    return (size + page - 1) & ~(page - 1);
}


/*
 * Clears the registers that a function may change without saving them, since
 * a caller expects nothing in them.
 */

#if defined __x86_64__ && defined __GNUC__

#define BOG_ZERO(n)  "pxor %%xmm" #n ", %%xmm" #n "\n\t"
#define BOG_WIDE(n)  "vpxorq %%zmm" #n ", %%zmm" #n ", %%zmm" #n "\n\t"

#define BOG_LOW                                                               \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",   \
    "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"


__attribute__((noinline, target("avx512f")))
static void
bog_registers_clear_avx512(void)
{
    __asm__ volatile (
        BOG_WIDE(16) BOG_WIDE(17) BOG_WIDE(18) BOG_WIDE(19)
        BOG_WIDE(20) BOG_WIDE(21) BOG_WIDE(22) BOG_WIDE(23)
        BOG_WIDE(24) BOG_WIDE(25) BOG_WIDE(26) BOG_WIDE(27)
        BOG_WIDE(28) BOG_WIDE(29) BOG_WIDE(30) BOG_WIDE(31)
        ::: "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22",
            "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29",
            "xmm30", "xmm31");
}


__attribute__((noinline, target("avx")))
static void
bog_registers_clear_avx(void)
{
    __asm__ volatile ("vzeroall" ::: BOG_LOW);
}


void
bog_registers_clear(void)
{
    if (__builtin_cpu_supports("avx512f")) {
        bog_registers_clear_avx512();
    }

    if (__builtin_cpu_supports("avx")) {
        bog_registers_clear_avx();
        return;
    }

    __asm__ volatile (
        BOG_ZERO(0) BOG_ZERO(1) BOG_ZERO(2) BOG_ZERO(3)
        BOG_ZERO(4) BOG_ZERO(5) BOG_ZERO(6) BOG_ZERO(7)
        BOG_ZERO(8) BOG_ZERO(9) BOG_ZERO(10) BOG_ZERO(11)
        BOG_ZERO(12) BOG_ZERO(13) BOG_ZERO(14) BOG_ZERO(15)
        ::: BOG_LOW);
}

#elif defined __aarch64__ && defined __GNUC__

#define BOG_ZERO(n)  "movi v" #n ".2d, #0\n\t"


/* a function has to keep the lower halves of v8 to v15 */

void
bog_registers_clear(void)
{
    __asm__ volatile (
        BOG_ZERO(0) BOG_ZERO(1) BOG_ZERO(2) BOG_ZERO(3)
        BOG_ZERO(4) BOG_ZERO(5) BOG_ZERO(6) BOG_ZERO(7)
        BOG_ZERO(16) BOG_ZERO(17) BOG_ZERO(18) BOG_ZERO(19)
        BOG_ZERO(20) BOG_ZERO(21) BOG_ZERO(22) BOG_ZERO(23)
        BOG_ZERO(24) BOG_ZERO(25) BOG_ZERO(26) BOG_ZERO(27)
        BOG_ZERO(28) BOG_ZERO(29) BOG_ZERO(30) BOG_ZERO(31)
        ::: "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v16", "v17",
            "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26",
            "v27", "v28", "v29", "v30", "v31");
}

#else

void
bog_registers_clear(void)
{
    /* void */
}

#endif
