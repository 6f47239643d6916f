
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _BOG_OAUTH_H_INCLUDED_
#define _BOG_OAUTH_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>

#include "bog_memory.h"


/*
 * The client credentials grant of OAuth 2.0 (RFC 6749, 4.4): what is sent to a
 * token endpoint, and what it answers.
 */


#define BOG_OAUTH_TOKEN_MAX   16384
#define BOG_OAUTH_ANSWER_MAX  65536
#define BOG_OAUTH_ERROR_MAX   64
#define BOG_OAUTH_DIGEST_LEN  32

/* isalnum() depends on the locale; this is in the order of Base64 */

#define BOG_OAUTH_ALNUM       "ABCDEFGHIJKLMNOPQRSTUVWXYZ"                    \
                              "abcdefghijklmnopqrstuvwxyz0123456789"


typedef struct {
    const unsigned char  *data;
    size_t                len;
} bog_str_t;


/* a parameter of the request's body, not yet encoded */

typedef struct {
    bog_str_t             name;
    bog_str_t             value;
} bog_param_t;


typedef enum {
    BOG_ANSWER_OK = 0,
    BOG_ANSWER_NOT_JSON,        /* not one strict JSON object */
    BOG_ANSWER_NO_TOKEN,        /* no "access_token", or not a string */
    BOG_ANSWER_BAD_TOKEN,       /* not a b64token (RFC 6750, 2.1) */
    BOG_ANSWER_TOO_LARGE,       /* a token of over 16384 bytes */
    BOG_ANSWER_BAD_TYPE,        /* "token_type" is not Bearer */
    BOG_ANSWER_EXPIRED,         /* "exp" has passed by every clock */
    BOG_ANSWER_NO_MEMORY
} bog_answer_status_e;


/* what is needed to read an answer; all times in milliseconds */

typedef struct {
    int64_t               now;               /* our wall clock, epoch */
    int64_t               date;              /* the answer's Date, epoch;
                                                -1: none */
    int64_t               max_lifetime;      /* above zero */
    int64_t               default_lifetime;  /* above zero */
} bog_answer_rules_t;


typedef struct {
    const char           *token;             /* in the pool */
    size_t                token_len;
    int64_t               lifetime;          /* milliseconds, above zero */
    unsigned              stated:1;          /* the answer or the token says
                                                how long it lives */
    unsigned              type_missing:1;    /* there was no "token_type" */
} bog_answer_t;


/*
 * Writes the value of the Authorization header, without a terminating zero:
 * "Basic " and Base64 of "id:secret" (RFC 7617).  With urlencode the id and the
 * secret are form-encoded before (RFC 6749, 2.3.1).  Returns the length.  With
 * dst NULL returns the room that dst must have, which is more: it includes room
 * to work in, which is wiped.
 */
size_t bog_oauth_basic(unsigned char *dst, const bog_str_t *id,
    const bog_str_t *secret, int urlencode);

/*
 * Writes the body of the token request: "grant_type=client_credentials" and the
 * n parameters in their order, form-encoded (RFC 6749, appendix B).  Returns
 * the length.  With dst NULL nothing is written.
 */
size_t bog_oauth_body(unsigned char *dst, const bog_param_t *params, size_t n);

/* Form-encodes src.  Returns the length.  With dst NULL nothing is written. */
size_t bog_oauth_form_encode(unsigned char *dst, const bog_str_t *src);

/*
 * Writes the digest that tells one source from another: SHA-256 of the n parts,
 * each with its length in front, so that no two lists of parts are the same.
 * Returns 0, or -1 if OpenSSL fails.
 */
int bog_oauth_digest(unsigned char digest[BOG_OAUTH_DIGEST_LEN],
    const bog_str_t *parts, size_t n);

/*
 * Writes the first 16 hex digits of the token's SHA-256, without a terminating
 * zero.  Returns 0, or -1 if OpenSSL fails.
 */
int bog_oauth_token_id(char id[16], const unsigned char *token, size_t len);

/* Returns 1 if an Authorization header may hold the token (RFC 6750, 2.1). */
int bog_oauth_b64token(const char *token, size_t len);

/*
 * Reads a successful answer (RFC 6749, 5.1).  The token, and all memory of the
 * parser, is in the pool, which the caller destroys after it has copied the
 * token.  The worst body of BOG_OAUTH_ANSWER_MAX bytes takes 5.1 MB with
 * jansson 2.14, an answer of the bank about 10 kB.  If the result is not
 * BOG_ANSWER_OK, all of *answer is zero.  Not for threads: the allocator of
 * jansson is changed for the call.
 */
bog_answer_status_e bog_oauth_answer(bog_answer_t *answer, const char *body,
    size_t len, const bog_answer_rules_t *rules, bog_pool_t *pool);

/*
 * Writes the "error" code of an answer that has no token (RFC 6749, 5.2) to
 * dst, for a log line.  Quotes, backslashes, control characters and bytes above
 * ASCII become \xHH.  What has no room is cut off.  Returns the length, 0 if
 * there is no code.  The pool is as with bog_oauth_answer().
 */
size_t bog_oauth_error(char dst[BOG_OAUTH_ERROR_MAX], const char *body,
    size_t len, bog_pool_t *pool);


#endif /* _BOG_OAUTH_H_INCLUDED_ */
