
/*
 * Copyright (C) The nginx-bog authors
 */


/*
 * A state file: what is on disk, and what somebody with the secret could put
 * into it.
 */


#include "fuzz.h"

#include "../seal.h"


static const bog_str_t      fuzz_secret = { (const unsigned char *) "s3cret",
                                            6 };
static const unsigned char  fuzz_digest[BOG_OAUTH_DIGEST_LEN] = "a source";


/* RFC 6750, 2.1, said in another way */

static int
fuzz_b64token(const unsigned char *p, size_t len)
{
    size_t  i;

    for (i = 0; i < len && p[i] != '='; i++) {
        if (p[i] == '\0'
            || !strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                       "0123456789-._~+/", p[i]))
        {
            return 0;
        }
    }

    if (i == 0) {
        return 0;
    }

    while (i < len && p[i] == '=') {
        i++;
    }

    return i == len && len <= BOG_OAUTH_TOKEN_MAX;
}


static uint64_t
fuzz_number(const unsigned char *p, size_t size)
{
    uint64_t  n;

    for (n = 0; size; size--) {
        n = n * 256 + *p++;
    }

    return n;
}


static int
fuzz_time(uint64_t n)
{
    return n >= 1 && n <= 1000000000000000;
}


/* whether what is sealed is as it has to be */

static int
fuzz_plain_good(const unsigned char *p, size_t size)
{
    size_t    i;
    uint64_t  len;

    if (!fuzz_time(fuzz_number(p, 8)) || !fuzz_time(fuzz_number(p + 8, 8))
        || !fuzz_time(fuzz_number(p + 16, 8)))
    {
        return 0;
    }

    len = fuzz_number(p + 24, 4);

    if (len > size - 28 || size - 28 - len >= 1024
        || !fuzz_b64token(p + 28, len))
    {
        return 0;
    }

    for (i = 28 + len; i < size; i++) {
        if (p[i]) {
            return 0;
        }
    }

    return 1;
}


/* opens a copy at the end of a block, where one byte too much is noticed */

static bog_state_status_e
fuzz_open(const unsigned char *p, size_t len, const bog_state_t *expected,
    const fuzz_input_t *in)
{
    size_t               i;
    bog_time_t           now;
    bog_state_t          state;
    bog_policy_t         policy;
    unsigned char       *copy;
    bog_state_status_e   status;

    copy = malloc(len ? len : 1);
    fuzz_assert(copy);

    if (len) {
        memcpy(copy, p, len);
    }

    status = bog_state_open(&state, copy, len, &fuzz_secret, fuzz_digest);

    if (status != BOG_STATE_OK) {
        for (i = 0; i < len; i++) {
            fuzz_assert(copy[i] == 0);
        }

    } else {
        fuzz_assert(fuzz_b64token(state.token, state.len));

        now.wall = in->rules.now;
        now.mono = in->rules.default_lifetime;

        if (bog_policy_restore(&policy, &state.life, &now,
                               in->rules.max_lifetime,
                               in->rules.default_lifetime))
        {
            fuzz_assert(bog_times_valid(&policy.token, &now));
            fuzz_assert(policy.token.refresh <= policy.token.until);
            fuzz_assert(policy.token.until <= policy.token.expires);
        }
    }

    if (expected) {
        fuzz_assert(status == BOG_STATE_OK);
        fuzz_assert(state.life.start == expected->life.start);
        fuzz_assert(state.life.lifetime == expected->life.lifetime);
        fuzz_assert(state.life.refresh == expected->life.refresh);
        fuzz_assert(fuzz_same(state.token, state.len, expected->token,
                              expected->len));
    }

    free(copy);

    return status;
}


/* the text is what is sealed, or the beginning of it */

static void
fuzz_plain(const fuzz_input_t *in)
{
    int             good;
    size_t          size;
    unsigned char  *plain, *sealed;

    size = (in->len ? in->len + 1023 : 1024) / 1024 * 1024;

    if (size > BOG_STATE_MAX) {
        return;
    }

    plain = calloc(1, size);
    sealed = malloc(53 + size + 16);
    fuzz_assert(plain && sealed);

    if (in->len) {
        memcpy(plain, in->text, in->len);
    }

    good = fuzz_plain_good(plain, size);

    fuzz_assert(seal_plain(sealed, plain, size, 1, &fuzz_secret,
                           fuzz_digest));
    fuzz_assert(fuzz_open(sealed, 53 + size + 16, NULL, in)
                == (good ? BOG_STATE_OK : BOG_STATE_MALFORMED));

    free(plain);
    free(sealed);
}


/* the text is a token; it comes back, and not if a bit is another one */

static void
fuzz_token(const fuzz_input_t *in)
{
    int             good;
    size_t          len, at;
    bog_state_t     state;
    unsigned char  *sealed;

    state.life.start = in->rules.now;
    state.life.lifetime = in->rules.max_lifetime;
    state.life.refresh = in->rules.default_lifetime;
    state.token = (const unsigned char *) in->text;
    state.len = in->len;

    good = (fuzz_b64token(state.token, state.len)
            && fuzz_time((uint64_t) state.life.start));

    sealed = malloc(53 + (28 + in->len + 1023) / 1024 * 1024 + 16);
    fuzz_assert(sealed);

    len = bog_state_seal(sealed, &state, &fuzz_secret, fuzz_digest);

    fuzz_assert(len == (good ? 53 + (28 + in->len + 1023) / 1024 * 1024 + 16
                             : 0));

    if (good) {
        fuzz_assert(fuzz_open(sealed, len, &state, in) == BOG_STATE_OK);

        at = in->size % len;
        sealed[at] ^= (unsigned char) (1 << (in->rules.now % 8));

        fuzz_assert(fuzz_open(sealed, len, NULL, in) != BOG_STATE_OK);
    }

    free(sealed);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input_t  in;

    fuzz_read(&in, data, size);

    /* as a file, nobody can hit upon one that is good */

    fuzz_assert(fuzz_open(data, size, NULL, &in) != BOG_STATE_OK);

    fuzz_plain(&in);
    fuzz_token(&in);

    return 0;
}
