
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _BOG_MEMORY_H_INCLUDED_
#define _BOG_MEMORY_H_INCLUDED_


#include <stddef.h>


/*
 * Guarded memory, for secrets and tokens: private pages that no core dump has,
 * and that are wiped before they go back to the system.
 */


typedef struct bog_chunk_s  bog_chunk_t;


/* guarded memory for many small things; all zero where it is empty */

typedef struct {
    bog_chunk_t  *chunks;       /* allocations come from the first one */
} bog_pool_t;


/*
 * Returns zeroed pages with room for size bytes, or NULL with errno set.  The
 * caller gives them back by bog_memory_free() with the same size.
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

/*
 * Returns size bytes of zeroed memory, aligned to 16, or NULL with errno set.
 * The pool owns them until it is destroyed.
 */
void *bog_pool_alloc(bog_pool_t *pool, size_t size);

/* Wipes and returns all that was allocated.  The pool is empty then. */
void bog_pool_destroy(bog_pool_t *pool);

/*
 * Clears the vector registers.  What was copied or encrypted last stays in
 * them, for hours in a process that sleeps, and a core dump has a copy.
 */
void bog_registers_clear(void);


#endif /* _BOG_MEMORY_H_INCLUDED_ */
