
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _BOG_MEMORY_H_INCLUDED_
#define _BOG_MEMORY_H_INCLUDED_


#include <stddef.h>


/*
 * Memory for secrets and tokens: private pages of their own, left out of core
 * dumps, and wiped before they go back to the system.
 */


/*
 * Returns zeroed memory of at least size bytes, page aligned, or NULL with
 * errno set.  The caller owns it and gives it back by bog_memory_free() with
 * the same size.
 */
void *bog_memory_alloc(size_t size);

/* Wipes and returns what bog_memory_alloc() gave; p may be NULL. */
void bog_memory_free(void *p, size_t size);

/*
 * Overwrites size bytes at p in a way that no compiler removes, and clears
 * what a copy has left of them in registers.
 */
void bog_memory_wipe(void *p, size_t size);

/*
 * Leaves existing pages (a shared memory zone) out of core dumps.  Returns 0,
 * or -1 with errno set.
 */
int bog_memory_exclude(void *p, size_t size);


#endif /* _BOG_MEMORY_H_INCLUDED_ */
