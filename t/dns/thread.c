
/*
 * Copyright (C) The nginx-bog authors
 */


/* Loaded before libc by dns.t: each second thread is one too many. */


#define _GNU_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>


typedef int (*create_pt)(pthread_t *, const pthread_attr_t *,
    void *(*)(void *), void *);


int
pthread_create(pthread_t *thread, const pthread_attr_t *attr,
    void *(*start)(void *), void *data)
{
    create_pt  next;

    static int  n;

    if (n++ % 2) {
        return EAGAIN;
    }

    *(void **) &next = dlsym(RTLD_NEXT, "pthread_create");

    return next(thread, attr, start, data);
}
