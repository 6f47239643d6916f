
/*
 * Copyright (C) The nginx-bog authors
 */


#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <jansson.h>

#include "bog_memory.h"
#include "bog_oauth.h"


/*
 * This file reads what a token endpoint answers: it finds the token and tells
 * how long that lives, or finds the error code.  A fetch calls it with the
 * body as it came.  It must believe nothing that it reads, and must leave no
 * piece of a token on the heap: all that the parser needs comes from a pool.
 */


/* no time is later: a sum of two of them does not overflow */

#define BOG_ANSWER_MSEC_MAX  ((int64_t) 1 << 60)
#define BOG_ANSWER_NONE      INT64_MIN

/* milliseconds: clocks closer than this agree, clocks further apart do not */

#define BOG_ANSWER_AGREE     30000
#define BOG_ANSWER_DIFFER    60000

#define BOG_ANSWER_JSON      (JSON_REJECT_DUPLICATES|JSON_DECODE_INT_AS_REAL)


static bog_answer_status_e bog_answer_parse(json_t **root, bog_pool_t *pool,
    const char *text, size_t len);
static void *bog_answer_malloc(size_t size);
static void bog_answer_free(void *p);
static bog_answer_status_e bog_answer_claims(json_t **claims,
    bog_pool_t *pool, const char *token, size_t len);
static size_t bog_answer_base64url(char *dst, const char *src, size_t len);
static bog_answer_status_e bog_answer_lifetime(bog_answer_t *answer,
    const json_t *root, const json_t *claims,
    const bog_answer_rules_t *rules);
static int64_t bog_answer_clock(const bog_answer_rules_t *rules, int64_t iat);
static int64_t bog_answer_expires_in(const json_t *value, int64_t clock);
static int64_t bog_answer_claim(const json_t *claims, const char *name);
static int64_t bog_answer_msec(double msec);


/* jansson's allocator takes no context; both are set while it parses only */

static bog_pool_t  *bog_answer_pool;
static jmp_buf      bog_answer_no_memory;


bog_answer_status_e
bog_oauth_answer(bog_answer_t *answer, const char *body, size_t len,
    const bog_answer_rules_t *rules, bog_pool_t *pool)
{
    size_t                size;
    json_t               *root, *claims, *value, *type;
    const char           *token;
    bog_answer_status_e   status;

    memset(answer, 0, sizeof(bog_answer_t));

    status = bog_answer_parse(&root, pool, body, len);
    if (status != BOG_ANSWER_OK) {
        return status;
    }

    value = json_object_get(root, "access_token");

    token = json_string_value(value);
    if (token == NULL) {
        return BOG_ANSWER_NO_TOKEN;
    }

    size = json_string_length(value);

    if (!bog_oauth_b64token(token, size)) {
        return BOG_ANSWER_BAD_TOKEN;
    }

    if (size > BOG_OAUTH_TOKEN_MAX) {
        return BOG_ANSWER_TOO_LARGE;
    }

    type = json_object_get(root, "token_type");

    if (type && (!json_is_string(type)
                 || strcasecmp(json_string_value(type), "bearer") != 0))
    {
        return BOG_ANSWER_BAD_TYPE;
    }

    status = bog_answer_claims(&claims, pool, token, size);
    if (status != BOG_ANSWER_OK) {
        return status;
    }

    status = bog_answer_lifetime(answer, root, claims, rules);
    if (status != BOG_ANSWER_OK) {
        return status;
    }

    answer->token = token;
    answer->token_len = size;
    answer->type_missing = (type == NULL);

    return BOG_ANSWER_OK;
}


size_t
bog_oauth_error(char dst[BOG_OAUTH_ERROR_MAX], const char *body, size_t len,
    bog_pool_t *pool)
{
    int          plain;
    char         text[sizeof("\\x00")];
    size_t       n, size;
    json_t      *root;
    const char  *p;

    if (bog_answer_parse(&root, pool, body, len) != BOG_ANSWER_OK) {
        return 0;
    }

    n = 0;
    p = json_string_value(json_object_get(root, "error"));

    for ( /* void */ ; p && *p; p++) {

        plain = (*p >= 0x20 && *p < 0x7f && strchr("\"'\\", *p) == NULL);

        size = snprintf(text, sizeof(text), plain ? "%c" : "\\x%02X",
                        (unsigned char) *p);

        if (size > BOG_OAUTH_ERROR_MAX - n) {
            break;
        }

        memcpy(dst + n, text, size);
        n += size;
    }

    return n;
}


int
bog_oauth_b64token(const char *token, size_t len)
{
    size_t  i;

    static const char  allowed[] = BOG_OAUTH_ALNUM "-._~+/";

    while (len && token[len - 1] == '=') {
        len--;
    }

    for (i = 0; i < len; i++) {
        if (memchr(allowed, token[i], sizeof(allowed) - 1) == NULL) {
            return 0;
        }
    }

    return len > 0;
}


/*
 * Reads one JSON object (RFC 8259) in which no name stands twice.  All of it
 * is in the pool: *root needs no json_decref().
 *
 * The allocator of jansson is a setting of the process.  No other thread sees
 * the change: nginx's thread pools only read and write files.  The parser's
 * text of an error may hold a piece of the token, hence no json_error_t.
 */

static bog_answer_status_e
bog_answer_parse(json_t **root, bog_pool_t *pool, const char *text, size_t len)
{
    json_free_t          free_fn;
    json_malloc_t        malloc_fn;
    bog_answer_status_e  status;

    *root = NULL;

    /* jansson passes over a zero byte that follows a number */

    if (len == 0 || memchr(text, '\0', len)) {
        return BOG_ANSWER_NOT_JSON;
    }

    json_get_alloc_funcs(&malloc_fn, &free_fn);
    json_set_alloc_funcs(bog_answer_malloc, bog_answer_free);

    bog_answer_pool = pool;

    if (setjmp(bog_answer_no_memory) == 0) {
        *root = json_loadb(text, len, BOG_ANSWER_JSON, NULL);
        status = json_is_object(*root) ? BOG_ANSWER_OK : BOG_ANSWER_NOT_JSON;

    } else {
        status = BOG_ANSWER_NO_MEMORY;
    }

    bog_answer_pool = NULL;

    json_set_alloc_funcs(malloc_fn, free_fn);

    if (status != BOG_ANSWER_OK) {
        *root = NULL;
    }

    return status;
}


/*
 * Parts of jansson, its scanner of strings for one, do not check that they got
 * memory, and would write past the end of a buffer that could not grow.  So
 * where there is no memory the parser is left by a jump.  That loses nothing:
 * all that it holds is in the pool.
 */

static void *
bog_answer_malloc(size_t size)
{
    void  *p;

    p = bog_pool_alloc(bog_answer_pool, size);

    if (p == NULL) {
        longjmp(bog_answer_no_memory, 1);
    }

    return p;
}


static void
bog_answer_free(void *p)
{
    (void) p;
}


/*
 * Reads the claims of a JWT.  They only help to tell how long the token lives,
 * so the signature is not checked: that is the API's part.  A token need not
 * be a JWT: *claims is NULL where there are none to read.
 */

static bog_answer_status_e
bog_answer_claims(json_t **claims, bog_pool_t *pool, const char *token,
    size_t len)
{
    char                 *text;
    const char           *p, *dot, *last;
    bog_answer_status_e   status;

    *claims = NULL;

    /* header.payload.signature: an unsigned one ends with the second dot */

    last = token + len;

    p = memchr(token, '.', len);
    if (p == NULL || p == token) {
        return BOG_ANSWER_OK;
    }

    p++;

    dot = memchr(p, '.', last - p);
    if (dot == NULL || memchr(dot + 1, '.', last - dot - 1)) {
        return BOG_ANSWER_OK;
    }

    text = bog_pool_alloc(pool, dot - p);
    if (text == NULL) {
        return BOG_ANSWER_NO_MEMORY;
    }

    len = bog_answer_base64url(text, p, dot - p);

    status = bog_answer_parse(claims, pool, text, len);

    return (status == BOG_ANSWER_NOT_JSON) ? BOG_ANSWER_OK : status;
}


/*
 * Decodes Base64 of RFC 4648, 5, without padding.  dst has room for len bytes.
 * Returns the length, 0 also where src is not Base64.
 */

static size_t
bog_answer_base64url(char *dst, const char *src, size_t len)
{
    char        *p;
    size_t       i;
    unsigned     bits;
    const char  *digit;

    static const char  digits[] = BOG_OAUTH_ALNUM "-_";

    if (len % 4 == 1) {
        return 0;
    }

    p = dst;
    bits = 0;

    for (i = 0; i < len; i++) {

        digit = memchr(digits, src[i], sizeof(digits) - 1);
        if (digit == NULL) {
            return 0;
        }

        bits = (bits << 6 | (unsigned) (digit - digits)) & 0xffff;

        /* 6, 4, 2 bits are left over from the characters before */

        if (i % 4) {
            *p++ = (char) (bits >> (6 - 2 * (i % 4)));
        }
    }

    return p - dst;
}


/* sets the lifetime by "expires_in" and "exp", or by the rules */

static bog_answer_status_e
bog_answer_lifetime(bog_answer_t *answer, const json_t *root,
    const json_t *claims, const bog_answer_rules_t *rules)
{
    int64_t  clock, exp, iat, left, lifetime;

    exp = bog_answer_claim(claims, "exp");
    iat = bog_answer_claim(claims, "iat");

    if (iat <= 0) {
        iat = BOG_ANSWER_NONE;
    }

    clock = bog_answer_clock(rules, iat);

    lifetime = bog_answer_expires_in(json_object_get(root, "expires_in"),
                                     clock);

    if (exp != BOG_ANSWER_NONE) {

        left = exp - clock;

        if (left <= 0 && exp > rules->now) {

            /* the answer's clock alone says that the token has expired */

            left = exp - ((iat == BOG_ANSWER_NONE || iat >= exp) ? rules->now
                                                                 : iat);
        }

        if (left <= 0) {
            return BOG_ANSWER_EXPIRED;
        }

        if (lifetime == 0 || lifetime > left) {
            lifetime = left;
        }
    }

    answer->stated = (lifetime != 0);

    if (lifetime == 0) {
        lifetime = rules->default_lifetime;
    }

    if (lifetime > rules->max_lifetime) {
        lifetime = rules->max_lifetime;
    }

    answer->lifetime = lifetime;

    return BOG_ANSWER_OK;
}


/*
 * Absolute times count against the answer's own clock, so that ours may be
 * wrong.  That is the Date, or the time at which the token was issued.  Where
 * the Date is far from our clock, and the issuer agrees with us, the Date is
 * wrong.
 */

static int64_t
bog_answer_clock(const bog_answer_rules_t *rules, int64_t iat)
{
    if (rules->date < 0) {
        return (iat == BOG_ANSWER_NONE) ? rules->now : iat;
    }

    if (iat != BOG_ANSWER_NONE
        && llabs(rules->date - rules->now) > BOG_ANSWER_DIFFER
        && llabs(iat - rules->now) <= BOG_ANSWER_AGREE)
    {
        return (iat > rules->now) ? iat : rules->now;
    }

    return rules->date;
}


/*
 * RFC 6749 says seconds, the bank's own sample says epoch milliseconds.
 * Returns the milliseconds left by the clock, or 0 where the value is of no
 * use.
 */

static int64_t
bog_answer_expires_in(const json_t *value, int64_t clock)
{
    double       n;
    int64_t      left;
    const char  *text;

    if (json_is_number(value)) {
        n = json_number_value(value);

    } else {
        text = json_string_value(value);

        if (text == NULL || text[strspn(text, "0123456789")] != '\0') {
            return 0;
        }

        n = strtod(text, NULL);
    }

    if (n > 1e12) {
        left = bog_answer_msec(n) - clock;

    } else {
        left = bog_answer_msec(n * 1000) - ((n > 1e9) ? clock : 0);
    }

    return (left > 0) ? left : 0;
}


/* returns the time in milliseconds, or BOG_ANSWER_NONE */

static int64_t
bog_answer_claim(const json_t *claims, const char *name)
{
    json_t  *value;

    value = json_object_get(claims, name);

    return json_is_number(value)
           ? bog_answer_msec(json_number_value(value) * 1000)
           : BOG_ANSWER_NONE;
}


/* a number that does not fit becomes the bound: C leaves that undefined */

static int64_t
bog_answer_msec(double msec)
{
    if (!(msec > (double) -BOG_ANSWER_MSEC_MAX)) {
        return -BOG_ANSWER_MSEC_MAX;
    }

    if (msec > (double) BOG_ANSWER_MSEC_MAX) {
        return BOG_ANSWER_MSEC_MAX;
    }

    return (int64_t) msec;
}
