
/*
 * Copyright (C) The nginx-bog authors
 */


#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "bog_memory.h"
#include "bog_registers.h"


#if !defined MAP_ANONYMOUS && defined MAP_ANON
#define MAP_ANONYMOUS  MAP_ANON
#endif


/* FreeBSD has the same under another name; elsewhere there is nothing to do */

#if defined MADV_DONTDUMP
#define BOG_MEMORY_EXCLUDE  MADV_DONTDUMP
#elif defined MADV_NOCORE
#define BOG_MEMORY_EXCLUDE  MADV_NOCORE
#endif


#define BOG_MEMORY_HUGE  ((size_t) 2 * 1024 * 1024)


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

    /* better no memory than a secret in a core */

    if (bog_memory_exclude(p, full) == -1) {
        err = errno;
        (void) munmap(p, full);
        errno = err;
        return NULL;
    }

#ifdef MADV_NOHUGEPAGE

    /* of many pages few are used */

    if (full >= BOG_MEMORY_HUGE) {
        (void) madvise(p, full, MADV_NOHUGEPAGE);
    }

#endif

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


/* rounds up to whole pages; the result is below size where that overflows */

static size_t
bog_memory_round(size_t size)
{
    size_t  page;

    page = (size_t) sysconf(_SC_PAGESIZE);

    return (size + page - 1) & ~(page - 1);
}
