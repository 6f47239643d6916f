
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


#define unit_count(a)  (sizeof(a) / sizeof((a)[0]))


/* each runs a group and returns the number of its tests that failed */

int unit_memory(void);
int unit_request(void);
int unit_answer(void);
int unit_arena(void);
int unit_error(void);
int unit_policy(void);
int unit_history(void);
int unit_restore(void);
int unit_state(void);

/* a small generator of its own, so that a seed says the same everywhere */

uint32_t unit_random(uint64_t *seed);

/* whether size bytes at p all are zero */

int unit_zero(const void *p, size_t size);


#endif /* _UNIT_H_INCLUDED_ */
