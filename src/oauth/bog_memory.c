
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
 * and pools of small pieces.  All floors call it.  It must never give out
 * memory that a core dump has: if the system cannot leave a page out, there is
 * no memory, since better no start than a secret in a core.
 */


/* FreeBSD has it under another name */

#if !defined MADV_DONTDUMP && defined MADV_NOCORE
#define MADV_DONTDUMP  MADV_NOCORE
#endif


#define BOG_POOL_CHUNK      65536
#define BOG_POOL_ALIGNMENT  16


struct bog_chunk_s {
    bog_chunk_t    *next;
    size_t          size;
    size_t          used;           /* this header, and all that was given */
    size_t          reserved;       /* aligns what follows */
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

    p = mmap(NULL, full, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANON, -1, 0);

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
#ifdef MADV_DONTDUMP
    return madvise(p, size, MADV_DONTDUMP);
#else
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
 * A function may change these registers without saving them.  The other halves
 * of v8 to v15 of an ARM are the caller's.
 */

#if defined __x86_64__ && defined __GNUC__

#define BOG_XMM                                                               \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",   \
    "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"


__attribute__((target("avx512f")))
static void
bog_registers_clear_avx512(void)
{
    __asm__ volatile (
        ".irp n, 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n\t"
        "vpxorq %%zmm\\n, %%zmm\\n, %%zmm\\n\n\t"
        ".endr"
        ::: "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22",
            "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29",
            "xmm30", "xmm31");
}


void
bog_registers_clear(void)
{
    if (__builtin_cpu_supports("avx512f")) {
        bog_registers_clear_avx512();
    }

    if (__builtin_cpu_supports("avx")) {
        __asm__ volatile ("vzeroall" ::: BOG_XMM);

    } else {
        __asm__ volatile (
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\t"
            "pxor %%xmm\\n, %%xmm\\n\n\t"
            ".endr"
            ::: BOG_XMM);
    }
}

#elif defined __aarch64__ && defined __GNUC__

void
bog_registers_clear(void)
{
    __asm__ volatile (
        ".irp n, 0,1,2,3,4,5,6,7,16,17,18,19,20,21,22,23,24,25,26,27,28,29,"
        "30,31\n\t"
        "movi v\\n\\().2d, #0\n\t"
        ".endr"
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
