
/*
 * Copyright (C) The nginx-bog authors
 */


#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "bog_memory.h"


#if !defined MAP_ANONYMOUS && defined MAP_ANON
#define MAP_ANONYMOUS  MAP_ANON
#endif


/* FreeBSD has the same under another name; elsewhere there is nothing to do */

#if defined MADV_DONTDUMP
#define BOG_MEMORY_EXCLUDE  MADV_DONTDUMP
#elif defined MADV_NOCORE
#define BOG_MEMORY_EXCLUDE  MADV_NOCORE
#endif


/* a register, emptied; all of these are the called function's to use */

#define BOG_MEMORY_XMM(n)  "pxor %xmm" #n ", %xmm" #n "\n"
#define BOG_MEMORY_ZMM(n)  "vpxorq %zmm" #n ", %zmm" #n ", %zmm" #n "\n"


static size_t bog_memory_round(size_t size);

#if defined __x86_64__ && defined __GNUC__
static void bog_memory_forget_avx512(void);
static void bog_memory_forget_avx(void);
static void bog_memory_forget_sse(void);
#endif


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

    /* better no memory than a secret in a core */

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
    bog_memory_forget();
}


/* a function may use all of these registers: no caller expects his back */

void
bog_memory_forget(void)
{
#if defined __x86_64__ && defined __GNUC__

    if (__builtin_cpu_supports("avx512f")) {
        bog_memory_forget_avx512();

    } else if (__builtin_cpu_supports("avx")) {
        bog_memory_forget_avx();

    } else {
        bog_memory_forget_sse();
    }

#endif
}


#if defined __x86_64__ && defined __GNUC__

__attribute__((noinline, target("avx512f")))
static void
bog_memory_forget_avx512(void)
{
    /* the first instruction is for those below zmm16 */

    __asm__ volatile (
        "vzeroall\n"
        BOG_MEMORY_ZMM(16) BOG_MEMORY_ZMM(17) BOG_MEMORY_ZMM(18)
        BOG_MEMORY_ZMM(19) BOG_MEMORY_ZMM(20) BOG_MEMORY_ZMM(21)
        BOG_MEMORY_ZMM(22) BOG_MEMORY_ZMM(23) BOG_MEMORY_ZMM(24)
        BOG_MEMORY_ZMM(25) BOG_MEMORY_ZMM(26) BOG_MEMORY_ZMM(27)
        BOG_MEMORY_ZMM(28) BOG_MEMORY_ZMM(29) BOG_MEMORY_ZMM(30)
        BOG_MEMORY_ZMM(31));
}


__attribute__((noinline, target("avx")))
static void
bog_memory_forget_avx(void)
{
    __asm__ volatile ("vzeroall");
}


__attribute__((noinline))
static void
bog_memory_forget_sse(void)
{
    __asm__ volatile (
        BOG_MEMORY_XMM(0) BOG_MEMORY_XMM(1) BOG_MEMORY_XMM(2)
        BOG_MEMORY_XMM(3) BOG_MEMORY_XMM(4) BOG_MEMORY_XMM(5)
        BOG_MEMORY_XMM(6) BOG_MEMORY_XMM(7) BOG_MEMORY_XMM(8)
        BOG_MEMORY_XMM(9) BOG_MEMORY_XMM(10) BOG_MEMORY_XMM(11)
        BOG_MEMORY_XMM(12) BOG_MEMORY_XMM(13) BOG_MEMORY_XMM(14)
        BOG_MEMORY_XMM(15));
}

#endif


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


/* rounds up to whole pages; the result is below size where that overflows */

static size_t
bog_memory_round(size_t size)
{
    size_t  page;

    page = (size_t) sysconf(_SC_PAGESIZE);

    return (size + page - 1) & ~(page - 1);
}
