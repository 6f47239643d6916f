
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _BOG_JSON_H_INCLUDED_
#define _BOG_JSON_H_INCLUDED_


#include <stddef.h>

#include <jansson.h>


/* memory that is handed out from the front, and given up as a whole */

typedef struct {
    unsigned char    *start;
    unsigned char    *pos;
    unsigned char    *end;
} bog_arena_t;


typedef enum {
    BOG_JSON_OK = 0,
    BOG_JSON_INVALID,           /* not one strict object */
    BOG_JSON_NO_MEMORY
} bog_json_status_e;


/* Takes the memory that is given; the caller keeps owning it. */
void bog_arena_init(bog_arena_t *a, void *memory, size_t size);

/* Returns aligned memory, or NULL where there is no more. */
void *bog_arena_alloc(bog_arena_t *a, size_t size);

/*
 * Reads one JSON object (RFC 8259), in which no name stands twice, all of it
 * in the arena: *root lives as long as that and needs no json_decref().
 */
bog_json_status_e bog_json_parse(json_t **root, bog_arena_t *a,
    const char *text, size_t len);


#endif /* _BOG_JSON_H_INCLUDED_ */
