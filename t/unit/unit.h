
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _UNIT_H_INCLUDED_
#define _UNIT_H_INCLUDED_


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bog_memory.h"


#define unit_count(a)  (sizeof(a) / sizeof((a)[0]))


/* each runs a group and returns the number of its tests that failed */

int unit_memory(void);
int unit_request(void);
int unit_answer(void);
int unit_pool(void);
int unit_error(void);
int unit_policy(void);
int unit_history(void);
int unit_restore(void);
int unit_state(void);

/* a small generator of its own, so that a seed says the same everywhere */

uint32_t unit_random(uint64_t *seed);

/* whether size bytes at p all are zero */

int unit_zero(const void *p, size_t size);

/* whether the mapping with p in it has the flag in /proc/self/smaps */

int unit_vm_flag(const void *p, const char *flag);

/*
 * bytes that pools may give out before memory is said to be out; a write past
 * the end of any piece is seen by AddressSanitizer
 */

extern size_t  unit_pool_left;

/* destroys the pool; fails if it was not wiped as a whole */

void unit_destroy(bog_pool_t *pool);


#endif /* _UNIT_H_INCLUDED_ */
