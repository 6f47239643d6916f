
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _BOG_OAUTH_H_INCLUDED_
#define _BOG_OAUTH_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>

#include "bog_memory.h"


/*
 * What OAuth 2.0 says of the client credentials grant (RFC 6749, 4.4), and
 * how the bank's token endpoint speaks it.  Knows no nginx: libc, OpenSSL and
 * jansson only.
 */


#define BOG_OAUTH_TOKEN_MAX   16384
#define BOG_OAUTH_ANSWER_MAX  65536
#define BOG_OAUTH_ERROR_MAX   64
#define BOG_OAUTH_DIGEST_LEN  32

/* letters and digits, in the order of Base64; isalnum() depends on the locale */

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


/* how an answer is to be understood; all times in milliseconds */

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
    unsigned              stated:1;          /* the answer or the token tells
                                                the lifetime */
    unsigned              type_missing:1;    /* there was no "token_type" */
} bog_answer_t;


/*
 * The value of the Authorization header: "Basic " and Base64 of "id:secret"
 * (RFC 7617), with urlencode each half form-encoded before (RFC 6749, 2.3.1).
 * With dst NULL returns the bytes needed, else writes them, without a
 * terminating zero, and returns their number.  Nothing of the secret stays
 * behind but in dst; dst must have the full length asked for, which includes
 * room to work in.  The length needed and the length written may differ.
 */
size_t bog_oauth_basic(unsigned char *dst, const bog_str_t *id,
    const bog_str_t *secret, int urlencode);

/*
 * The request's body: "grant_type=client_credentials" and the n parameters in
 * their order, as application/x-www-form-urlencoded (RFC 6749, appendix B).
 * With dst NULL returns the length, else writes and returns it.
 */
size_t bog_oauth_body(unsigned char *dst, const bog_param_t *params, size_t n);

/* form-encodes src; with dst NULL returns the length only */
size_t bog_oauth_form_encode(unsigned char *dst, const bog_str_t *src);

/*
 * What tells one source from another: SHA-256 over the n parts, each with its
 * length in front, so that no two lists of parts run together.  Returns 0, or
 * -1 where OpenSSL fails.
 */
int bog_oauth_digest(unsigned char digest[BOG_OAUTH_DIGEST_LEN],
    const bog_str_t *parts, size_t n);

/* the first 16 hex digits of the token's SHA-256; returns 0 or -1 */
int bog_oauth_token_id(char id[16], const unsigned char *token, size_t len);

/* Says whether it is what a Bearer header may hold (RFC 6750, 2.1). */
int bog_oauth_b64token(const char *token, size_t len);

/*
 * Reads a successful answer (RFC 6749, 5.1).  The token, and all memory that
 * the parser needs, is in the pool, which the caller destroys when it has
 * copied the token: the worst body of BOG_OAUTH_ANSWER_MAX bytes takes 5.1 MB
 * with jansson 2.14, an answer of the bank about 10 kB.  All of the answer is
 * zero where the result is not BOG_ANSWER_OK.  Not for threads: the parser's
 * allocator is changed for the call.
 */
bog_answer_status_e bog_oauth_answer(bog_answer_t *answer, const char *body,
    size_t len, const bog_answer_rules_t *rules, bog_pool_t *pool);

/*
 * Finds the "error" code of a refusal (RFC 6749, 5.2) and writes it to dst,
 * escaped for a log line (anything outside of visible ASCII, quotes and
 * backslashes as \xHH), cut to BOG_OAUTH_ERROR_MAX characters.  Returns its
 * length, 0 where there is none.  The pool is as with bog_oauth_answer().
 */
size_t bog_oauth_error(char dst[BOG_OAUTH_ERROR_MAX], const char *body,
    size_t len, bog_pool_t *pool);


#endif /* _BOG_OAUTH_H_INCLUDED_ */
