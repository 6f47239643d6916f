
/*
 * Copyright (C) The nginx-bog authors
 */


/* Loaded before libc by dns.t: a kernel that has no IPv6. */


#define _GNU_SOURCE

#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>


int
socket(int family, int type, int protocol)
{
    if (family == AF_INET6) {
        errno = EAFNOSUPPORT;
        return -1;
    }

    return (int) syscall(SYS_socket, family, type, protocol);
}
