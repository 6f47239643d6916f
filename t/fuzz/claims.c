
/*
 * Copyright (C) The nginx-bog authors
 */


/*
 * How long a token lives.  The input's second line is the value of
 * "expires_in", all that follows the claims, as they are before Base64: at
 * random hardly any body would have a token whose claims can be read.
 */


#include "fuzz.h"


#define FUZZ_MSEC_MAX  ((int64_t) 1 << 60)


/* what is known of a token, in milliseconds; the first three may be absent */

typedef struct {
    int       has_iat;
    int       has_exp;
    int       has_left;
    int64_t   iat;
    int64_t   exp;
    int64_t   left;
} fuzz_facts_t;


static size_t
fuzz_base64url(char *dst, const char *src, size_t len)
{
    size_t       i, n;
    uint32_t     bits;

    static char  digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                            "abcdefghijklmnopqrstuvwxyz0123456789-_";

    n = 0;

    for (i = 0; i < len * 8; i += 6) {
        bits = (uint32_t) (unsigned char) src[i / 8] << 8;

        if (i / 8 + 1 < len) {
            bits |= (unsigned char) src[i / 8 + 1];
        }

        dst[n++] = digits[(bits >> (10 - i % 8)) & 63];
    }

    return n;
}


/*
 * An answer whose token has the claims, with a tail behind their Base64; the
 * caller releases it.
 */

static char *
fuzz_body(size_t *len, const bog_str_t *expires_in, const char *claims,
    size_t claims_len, const char *tail)
{
    char  *body, *p;

    static char  head[] = "{\"access_token\":\"e30.";
    static char  middle[] = ".c2ln\",\"token_type\":\"Bearer\"";
    static char  expires[] = ",\"expires_in\":";

    body = malloc(sizeof(head) + sizeof(middle) + sizeof(expires)
                  + expires_in->len + claims_len * 2 + 8);
    fuzz_assert(body);

    p = stpcpy(body, head);
    p += fuzz_base64url(p, claims, claims_len);
    p = stpcpy(p, tail);
    p = stpcpy(p, middle);

    if (expires_in->len) {
        p = stpcpy(p, expires);
        memcpy(p, expires_in->data, expires_in->len);
        p += expires_in->len;
    }

    *p++ = '}';
    *len = p - body;

    return body;
}


static int64_t
fuzz_msec(double msec)
{
    if (msec <= (double) -FUZZ_MSEC_MAX) {
        return -FUZZ_MSEC_MAX;
    }

    return (msec >= (double) FUZZ_MSEC_MAX) ? FUZZ_MSEC_MAX : (int64_t) msec;
}


static void
fuzz_claim(int *has, int64_t *msec, const json_t *claims, const char *name)
{
    json_t  *value;

    value = json_object_get(claims, name);

    *has = json_is_number(value);

    if (*has) {
        *msec = fuzz_msec(json_number_value(value) * 1000);
    }
}


/* seconds, or the moment of the end: in seconds from 2001 on, or in ms */

static void
fuzz_left(fuzz_facts_t *facts, const json_t *value, int64_t clock)
{
    char    *end;
    double   n;

    if (json_is_string(value)) {

        if (strspn(json_string_value(value), "0123456789")
            != json_string_length(value))
        {
            return;
        }

        n = strtod(json_string_value(value), &end);

    } else if (json_is_number(value)) {
        n = json_number_value(value);

    } else {
        return;
    }

    if (n <= 1e9) {
        facts->left = fuzz_msec(n * 1000);

    } else {
        facts->left = fuzz_msec(n <= 1e12 ? n * 1000 : n) - clock;
    }

    facts->has_left = (facts->left > 0);
}


/* the lifetime, or 0 for a token that has expired */

static int64_t
fuzz_lifetime(const bog_answer_rules_t *rules, const json_t *root,
    const json_t *claims)
{
    int64_t       ahead, clock, left, lifetime;
    fuzz_facts_t  facts;

    memset(&facts, 0, sizeof(facts));

    fuzz_claim(&facts.has_iat, &facts.iat, claims, "iat");
    fuzz_claim(&facts.has_exp, &facts.exp, claims, "exp");

    facts.has_iat = (facts.has_iat && facts.iat > 0);

    /* of a Date that is minutes off, the issuer may know better */

    ahead = facts.iat - rules->now;

    if (rules->date != -1
        && !(facts.has_iat && ahead <= 30000 && ahead >= -30000
             && (rules->date > rules->now + 60000
                 || rules->date < rules->now - 60000)))
    {
        clock = rules->date;

    } else if (facts.has_iat && (rules->date == -1 || ahead > 0)) {
        clock = facts.iat;

    } else {
        clock = rules->now;
    }

    fuzz_left(&facts, json_object_get(root, "expires_in"), clock);

    left = facts.exp - clock;

    if (facts.has_exp && left <= 0) {

        if (facts.exp <= rules->now) {
            return 0;
        }

        left = facts.exp - (facts.has_iat && facts.iat < facts.exp
                            ? facts.iat : rules->now);
    }

    lifetime = INT64_MAX;

    if (facts.has_left) {
        lifetime = facts.left;
    }

    if (facts.has_exp && left < lifetime) {
        lifetime = left;
    }

    if (!facts.has_left && !facts.has_exp) {
        lifetime = rules->default_lifetime;
    }

    return (lifetime < rules->max_lifetime) ? lifetime : rules->max_lifetime;
}


static void
fuzz_check(fuzz_input_t *in, const char *body, size_t len,
    const json_t *claims)
{
    json_t               *root;
    int64_t               lifetime;
    bog_answer_t          answer;
    bog_answer_status_e   status;

    status = bog_oauth_answer(&answer, body, len, &in->rules,
                              &in->pool);

    root = fuzz_json(body, len);
    lifetime = fuzz_lifetime(&in->rules, root, claims);

    switch (status) {

    case BOG_ANSWER_OK:
        fuzz_assert(root);
        fuzz_assert(lifetime > 0);
        fuzz_assert(answer.lifetime == lifetime);
        break;

    case BOG_ANSWER_EXPIRED:
        fuzz_assert(root);
        fuzz_assert(lifetime == 0);
        break;

    case BOG_ANSWER_NO_MEMORY:
        fuzz_assert(in->size < FUZZ_MEMORY || len > FUZZ_SURE);
        break;

    default:
        fuzz_assert(root == NULL || len > BOG_OAUTH_TOKEN_MAX);
    }

    fuzz_assert(fuzz_allocator());

    json_decref(root);
}


/* with claims that are seen, or with ones that some tail makes unreadable */

static void
fuzz_claims(fuzz_input_t *in, const bog_str_t *expires_in,
    const json_t *claims, const char *tail)
{
    char    *body, *copy;
    size_t   len;

    body = fuzz_body(&len, expires_in, in->text, in->len, tail);

    /* without room behind it */

    copy = malloc(len);
    fuzz_assert(copy);
    memcpy(copy, body, len);

    fuzz_check(in, copy, len, claims);
    fuzz_destroy(in);

    free(copy);
    free(body);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t        *claims;
    bog_str_t      expires_in;
    fuzz_input_t   in;

    fuzz_read(&in, data, size);
    expires_in = fuzz_line(&in);

    claims = fuzz_json(in.text, in.len);
    fuzz_claims(&in, &expires_in, claims, "");
    json_decref(claims);

    /* a character too many, or one of the other Base64 */

    fuzz_claims(&in, &expires_in, NULL, in.len % 3 ? "+" : "A");

    return 0;
}
