
/*
 * Copyright (C) The nginx-bog authors
 */


/*
 * Loaded before libc by memory.t: in one process, the n-th time that memory is
 * asked for, there is none.  Which process and when says a file that is mapped
 * by nginx and written by the test.
 */


#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>


typedef struct {
    int32_t   pid;
    int32_t   left;         /* how many go well, this one included */
    int32_t   failed;
} fault_t;


/* glibc's own, under names that nobody replaces */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);


static volatile fault_t  *fault;


__attribute__((constructor))
static void
fault_init(void)
{
    int          fd;
    void        *p;
    const char  *path;

    path = getenv("BOG_FAULT");
    if (path == NULL) {
        return;
    }

    fd = open(path, O_RDWR);
    if (fd == -1) {
        return;
    }

    p = (void *) syscall(SYS_mmap, NULL, sizeof(fault_t),
                         PROT_READ|PROT_WRITE, MAP_SHARED, fd, 0);

    if (p != MAP_FAILED) {
        fault = p;
    }

    (void) close(fd);
}


static int
fault_now(void)
{
    if (fault == NULL || fault->left <= 0 || fault->pid != getpid()) {
        return 0;
    }

    if (--fault->left) {
        return 0;
    }

    fault->failed = 1;
    errno = ENOMEM;

    return 1;
}


void *
malloc(size_t size)
{
    return fault_now() ? NULL : __libc_malloc(size);
}


void *
calloc(size_t n, size_t size)
{
    return fault_now() ? NULL : __libc_calloc(n, size);
}


void *
realloc(void *p, size_t size)
{
    return fault_now() ? NULL : __libc_realloc(p, size);
}


int
posix_memalign(void **p, size_t alignment, size_t size)
{
    if (fault_now()) {
        return ENOMEM;
    }

    *p = __libc_memalign(alignment, size);

    return *p ? 0 : ENOMEM;
}


void *
mmap(void *p, size_t size, int prot, int flags, int fd, off_t offset)
{
    if (fault_now()) {
        return MAP_FAILED;
    }

    return (void *) syscall(SYS_mmap, p, size, prot, flags, fd, offset);
}


int
madvise(void *p, size_t size, int advice)
{
    return fault_now() ? -1 : (int) syscall(SYS_madvise, p, size, advice);
}
