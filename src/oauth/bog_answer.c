
/*
 * Copyright (C) The nginx-bog authors
 */


#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "bog_json.h"
#include "bog_memory.h"
#include "bog_oauth.h"


/*
 * Far beyond any time that means something, and so far below the end of
 * int64_t that a sum of two cannot overflow.
 */
#define BOG_OAUTH_MSEC_MAX   ((int64_t) 1 << 60)

/* milliseconds by which two clocks differ that agree, and that do not */

#define BOG_OAUTH_AGREE      30000
#define BOG_OAUTH_DIFFER     60000


static bog_answer_status_e bog_oauth_parse(json_t **root, bog_arena_t *a,
    const char *text, size_t len);
static bog_answer_status_e bog_oauth_token(bog_answer_t *answer,
    const json_t *root);
static bog_answer_status_e bog_oauth_type(bog_answer_t *answer,
    const json_t *root);
static bog_answer_status_e bog_oauth_claims(json_t **claims,
    bog_arena_t *a, const bog_answer_t *answer);
static int bog_oauth_payload(bog_str_t *payload, const char *token,
    size_t len);
static size_t bog_oauth_base64url(unsigned char *dst, const bog_str_t *src);
static int bog_oauth_sextet(unsigned char ch);
static bog_answer_status_e bog_oauth_lifetime(bog_answer_t *answer,
    const json_t *root, const json_t *claims,
    const bog_answer_rules_t *rules);
static int64_t bog_oauth_clock(const bog_answer_rules_t *rules, int64_t iat);
static int64_t bog_oauth_expires_in(const json_t *value, int64_t clock);
static int bog_oauth_claim(const json_t *claims, const char *name,
    int64_t *msec);
static int64_t bog_oauth_msec(double msec);
static size_t bog_oauth_escape(char *dst, unsigned char ch);
static void bog_oauth_settle(bog_arena_t *a, bog_answer_t *answer);


bog_answer_status_e
bog_oauth_answer(bog_answer_t *answer, const char *body, size_t len,
    const bog_answer_rules_t *rules, void *arena, size_t arena_size)
{
    json_t              *root, *claims;
    bog_arena_t          a;
    bog_answer_status_e  status;

    memset(answer, 0, sizeof(bog_answer_t));
    bog_arena_init(&a, arena, arena_size);

    status = bog_oauth_parse(&root, &a, body, len);

    if (status == BOG_ANSWER_OK) {
        status = bog_oauth_token(answer, root);
    }

    if (status == BOG_ANSWER_OK) {
        status = bog_oauth_type(answer, root);
    }

    if (status == BOG_ANSWER_OK) {
        status = bog_oauth_claims(&claims, &a, answer);
    }

    if (status == BOG_ANSWER_OK) {
        status = bog_oauth_lifetime(answer, root, claims, rules);
    }

    if (status != BOG_ANSWER_OK) {
        memset(answer, 0, sizeof(bog_answer_t));
    }

    bog_oauth_settle(&a, answer);

    return status;
}


size_t
bog_oauth_error(char dst[BOG_OAUTH_ERROR_MAX], const char *body, size_t len,
    void *arena, size_t arena_size)
{
    char           text[4];
    size_t         n, size;
    json_t        *root;
    const char    *p;
    bog_arena_t    a;
    bog_answer_t   none;

    n = 0;

    memset(&none, 0, sizeof(bog_answer_t));
    bog_arena_init(&a, arena, arena_size);

    if (bog_json_parse(&root, &a, body, len) == BOG_JSON_OK) {
        p = json_string_value(json_object_get(root, "error"));

        for ( /* void */ ; p && *p; p++) {
            size = bog_oauth_escape(text, (unsigned char) *p);

            if (size > BOG_OAUTH_ERROR_MAX - n) {
                break;
            }

            memcpy(dst + n, text, size);
            n += size;
        }
    }

    bog_oauth_settle(&a, &none);

    return n;
}


static bog_answer_status_e
bog_oauth_parse(json_t **root, bog_arena_t *a, const char *text, size_t len)
{
    switch (bog_json_parse(root, a, text, len)) {

    case BOG_JSON_OK:
        return BOG_ANSWER_OK;

    case BOG_JSON_NO_MEMORY:
        return BOG_ANSWER_NO_MEMORY;

    default: /* BOG_JSON_INVALID */
        return BOG_ANSWER_NOT_JSON;
    }
}


static bog_answer_status_e
bog_oauth_token(bog_answer_t *answer, const json_t *root)
{
    size_t       len;
    json_t      *value;
    const char  *token;

    value = json_object_get(root, "access_token");

    token = json_string_value(value);
    if (token == NULL) {
        return BOG_ANSWER_NO_TOKEN;
    }

    len = json_string_length(value);

    if (!bog_oauth_b64token(token, len)) {
        return BOG_ANSWER_BAD_TOKEN;
    }

    if (len > BOG_OAUTH_TOKEN_MAX) {
        return BOG_ANSWER_TOO_LARGE;
    }

    /* the string is ours: it lies in the arena, and jansson is done with it */

    answer->token = (char *) token;
    answer->token_len = len;

    return BOG_ANSWER_OK;
}


int
bog_oauth_b64token(const char *token, size_t len)
{
    size_t  i;

    while (len && token[len - 1] == '=') {
        len--;
    }

    for (i = 0; i < len; i++) {
        if (!bog_oauth_alnum((unsigned char) token[i])
            && !memchr("-._~+/", token[i], 6))
        {
            return 0;
        }
    }

    return len > 0;
}


static bog_answer_status_e
bog_oauth_type(bog_answer_t *answer, const json_t *root)
{
    json_t      *value;
    const char  *type;

    value = json_object_get(root, "token_type");

    if (value == NULL) {
        answer->type_missing = 1;
        return BOG_ANSWER_OK;
    }

    type = json_string_value(value);

    if (type == NULL || strcasecmp(type, "bearer") != 0) {
        return BOG_ANSWER_BAD_TYPE;
    }

    return BOG_ANSWER_OK;
}


/*
 * What a JWT says of itself.  Its signature is the API's affair: here it only
 * helps to tell how long the token lives.  A token need not be a JWT, so all
 * that is not one has no claims.
 */

static bog_answer_status_e
bog_oauth_claims(json_t **claims, bog_arena_t *a,
    const bog_answer_t *answer)
{
    size_t                len;
    bog_str_t             payload;
    unsigned char        *text;
    bog_answer_status_e   status;

    *claims = NULL;

    if (!bog_oauth_payload(&payload, answer->token, answer->token_len)) {
        return BOG_ANSWER_OK;
    }

    text = bog_arena_alloc(a, payload.len);
    if (text == NULL) {
        return BOG_ANSWER_NO_MEMORY;
    }

    len = bog_oauth_base64url(text, &payload);

    status = bog_oauth_parse(claims, a, (char *) text, len);

    if (status == BOG_ANSWER_NOT_JSON) {
        *claims = NULL;
        return BOG_ANSWER_OK;
    }

    return status;
}


/* the middle of header.payload.signature; an unsigned one ends with the dot */

static int
bog_oauth_payload(bog_str_t *payload, const char *token, size_t len)
{
    const char  *p, *dot, *last;

    last = token + len;

    p = memchr(token, '.', len);
    if (p == NULL || p == token) {
        return 0;
    }

    p++;

    dot = memchr(p, '.', last - p);
    if (dot == NULL || memchr(dot + 1, '.', last - dot - 1)) {
        return 0;
    }

    payload->data = (const unsigned char *) p;
    payload->len = dot - p;

    return 1;
}


/*
 * Base64 of RFC 4648, 5, without padding.  dst has room for src->len bytes.
 * Returns the length, 0 also where src is none.
 */

static size_t
bog_oauth_base64url(unsigned char *dst, const bog_str_t *src)
{
    int             sextet;
    size_t          i;
    unsigned        bits;
    unsigned char  *p;

    if (src->len % 4 == 1) {
        return 0;
    }

    p = dst;
    bits = 0;

    for (i = 0; i < src->len; i++) {

        sextet = bog_oauth_sextet(src->data[i]);
        if (sextet < 0) {
            return 0;
        }

        bits = (bits << 6 | (unsigned) sextet) & 0xffff;

        /* 6, 4, 2 bits are left over from the characters before */

        if (i % 4) {
            *p++ = (unsigned char) (bits >> (6 - 2 * (i % 4)));
        }
    }

    return p - dst;
}


static int
bog_oauth_sextet(unsigned char ch)
{
    if (ch >= 'A' && ch <= 'Z') {
        return ch - 'A';
    }

    if (ch >= 'a' && ch <= 'z') {
        return ch - 'a' + 26;
    }

    if (ch >= '0' && ch <= '9') {
        return ch - '0' + 52;
    }

    return (ch == '-') ? 62 : (ch == '_') ? 63 : -1;
}


static bog_answer_status_e
bog_oauth_lifetime(bog_answer_t *answer, const json_t *root,
    const json_t *claims, const bog_answer_rules_t *rules)
{
    int64_t  clock, exp, iat, left, lifetime;

    if (!bog_oauth_claim(claims, "iat", &iat) || iat <= 0) {
        iat = -1;
    }

    clock = bog_oauth_clock(rules, iat);

    lifetime = bog_oauth_expires_in(json_object_get(root, "expires_in"),
                                    clock);

    if (bog_oauth_claim(claims, "exp", &exp)) {

        left = exp - clock;

        if (left <= 0 && exp > rules->now) {

            /* the answer's clock alone says that the token has expired */

            left = exp - ((iat == -1 || iat >= exp) ? rules->now : iat);
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
 * wrong: the Date, else the time at which the token was issued.  Where the Date
 * is far from ours, and the token's issuer agrees with us, the Date is wrong.
 */

static int64_t
bog_oauth_clock(const bog_answer_rules_t *rules, int64_t iat)
{
    if (rules->date < 0) {
        return (iat == -1) ? rules->now : iat;
    }

    if (iat != -1
        && llabs(rules->date - rules->now) > BOG_OAUTH_DIFFER
        && llabs(iat - rules->now) <= BOG_OAUTH_AGREE)
    {
        return (iat > rules->now) ? iat : rules->now;
    }

    return rules->date;
}


/*
 * Seconds, says RFC 6749; epoch milliseconds, says the bank's own sample.
 * Returns milliseconds left by the clock, 0 where there is nothing to believe.
 */

static int64_t
bog_oauth_expires_in(const json_t *value, int64_t clock)
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
        left = bog_oauth_msec(n) - clock;

    } else {
        left = bog_oauth_msec(n * 1000) - ((n > 1e9) ? clock : 0);
    }

    return (left > 0) ? left : 0;
}


static int
bog_oauth_claim(const json_t *claims, const char *name, int64_t *msec)
{
    json_t  *value;

    value = json_object_get(claims, name);

    if (!json_is_number(value)) {
        return 0;
    }

    *msec = bog_oauth_msec(json_number_value(value) * 1000);

    return 1;
}


/* conversion of what does not fit is undefined, so it ends at the bounds */

static int64_t
bog_oauth_msec(double msec)
{
    if (!(msec > (double) -BOG_OAUTH_MSEC_MAX)) {
        return -BOG_OAUTH_MSEC_MAX;
    }

    if (msec > (double) BOG_OAUTH_MSEC_MAX) {
        return BOG_OAUTH_MSEC_MAX;
    }

    return (int64_t) msec;
}


static size_t
bog_oauth_escape(char *dst, unsigned char ch)
{
    static char  hex[] = "0123456789ABCDEF";

    if (ch > 0x20 && ch < 0x7f && ch != '"' && ch != '\'' && ch != '\\') {
        dst[0] = (char) ch;
        return 1;
    }

    dst[0] = '\\';
    dst[1] = 'x';
    dst[2] = hex[ch >> 4];
    dst[3] = hex[ch & 0xf];

    return 4;
}


/* moves the token, if any, to the start of the arena, and wipes the rest */

static void
bog_oauth_settle(bog_arena_t *a, bog_answer_t *answer)
{
    if (answer->token) {
        memmove(a->start, answer->token, answer->token_len);
        answer->token = (char *) a->start;
    }

    bog_memory_wipe(a->start + answer->token_len,
                    a->pos - a->start - answer->token_len);

    a->pos = a->start;
}
