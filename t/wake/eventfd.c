
/*
 * Copyright (C) The nginx-bog authors
 */


/*
 * Loaded before libc by wake.t: as long as a file is there, the module gets no
 * eventfd.  Those of nginx itself have other flags, or come without libc.
 */


#define _GNU_SOURCE

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>


int
eventfd(unsigned int n, int flags)
{
    const char  *path;

    path = getenv("BOG_NO_EVENTFD");

    if (flags == (EFD_NONBLOCK|EFD_CLOEXEC) && path
        && access(path, F_OK) == 0)
    {
        errno = EMFILE;
        return -1;
    }

    return (int) syscall(SYS_eventfd2, n, flags);
}
