
/*
 * Copyright (C) The nginx-bog authors
 */


/* Loaded before libc by dns.t: an answer comes while the process exits. */


#define _GNU_SOURCE

#include <dlfcn.h>
#include <netdb.h>
#include <stdatomic.h>
#include <unistd.h>


static atomic_int  exiting;


int
getaddrinfo(const char *node, const char *service,
    const struct addrinfo *hints, struct addrinfo **res)
{
    while (!exiting) {
        usleep(1000);
    }

    return EAI_AGAIN;
}


void
exit(int status)
{
    void  (*next)(int) __attribute__((noreturn));

    exiting = 1;
    usleep(200000);

    *(void **) &next = dlsym(RTLD_NEXT, "exit");
    next(status);
}
