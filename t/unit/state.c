
/*
 * Copyright (C) The nginx-bog authors
 */


#include "unit.h"

#include "../seal.h"


/* what a token of 21 bytes makes */

#define UNIT_SIZE  (53 + 1024 + 16)

#define UNIT_NOW   1700000000000


typedef struct {
    int64_t              start;
    int64_t              lifetime;
    int64_t              refresh;
    uint32_t             len;
    const char          *token;
    size_t               size;         /* of all that is sealed */
    bog_state_status_e   status;
} unit_plain_t;


typedef struct {
    bog_life_t           life;
    bog_str_t            token;
} unit_insane_t;


static unsigned char  unit_digest[BOG_OAUTH_DIGEST_LEN] = "one source";
static bog_str_t      unit_secret = { (const unsigned char *) "s3cret", 6 };

static bog_state_t    unit_good = {
    { UNIT_NOW, 300000, UNIT_NOW + 240000 },
    (const unsigned char *) "tok-1-0123456789abcd=", 21
};


#define OK         BOG_STATE_OK
#define MALFORMED  BOG_STATE_MALFORMED

static unit_plain_t  unit_plains[] = {
    { 1, 1, 1, 1, "t", 1024, OK },
    { UNIT_NOW, 300000, UNIT_NOW, 3, "tok", 1024, OK },
    { BOG_STATE_TIME_MAX, BOG_STATE_TIME_MAX, BOG_STATE_TIME_MAX, 3, "tok",
      1024, OK },
    { 1, 1, 1, 6, "a-._~=", 1024, OK },

    /* times */

    { 0, 1, 1, 3, "tok", 1024, MALFORMED },
    { 1, 0, 1, 3, "tok", 1024, MALFORMED },
    { 1, 1, 0, 3, "tok", 1024, MALFORMED },
    { -1, 1, 1, 3, "tok", 1024, MALFORMED },
    { 1, -1, 1, 3, "tok", 1024, MALFORMED },
    { 1, 1, -1, 3, "tok", 1024, MALFORMED },
    { INT64_MIN, 1, 1, 3, "tok", 1024, MALFORMED },
    { INT64_MAX, 1, 1, 3, "tok", 1024, MALFORMED },
    { 1, INT64_MAX, 1, 3, "tok", 1024, MALFORMED },
    { 1, 1, INT64_MAX, 3, "tok", 1024, MALFORMED },
    { BOG_STATE_TIME_MAX + 1, 1, 1, 3, "tok", 1024, MALFORMED },
    { 1, BOG_STATE_TIME_MAX + 1, 1, 3, "tok", 1024, MALFORMED },
    { 1, 1, BOG_STATE_TIME_MAX + 1, 3, "tok", 1024, MALFORMED },

    /* lengths */

    { 1, 1, 1, 0, "", 1024, MALFORMED },
    { 1, 1, 1, 2, "tok", 1024, MALFORMED },
    { 1, 1, 1, 4, "tok", 1024, MALFORMED },
    { 1, 1, 1, 996, "tok", 1024, MALFORMED },
    { 1, 1, 1, 997, "tok", 1024, MALFORMED },
    { 1, 1, 1, 3, "tok", 2048, MALFORMED },
    { 1, 1, 1, 16384, "tok", 17408, MALFORMED },
    { 1, 1, 1, 16385, "tok", 17408, MALFORMED },
    { 1, 1, 1, 17380, "tok", 17408, MALFORMED },
    { 1, 1, 1, 0x7fffffff, "tok", 1024, MALFORMED },
    { 1, 1, 1, 0xffffffff, "tok", 1024, MALFORMED },

    /* tokens */

    { 1, 1, 1, 5, "tok\r\n", 1024, MALFORMED },
    { 1, 1, 1, 5, "to en", 1024, MALFORMED },
    { 1, 1, 1, 5, "t=ken", 1024, MALFORMED },
    { 1, 1, 1, 1, "=", 1024, MALFORMED },
    { 1, 1, 1, 3, "t\xc3\xb6", 1024, MALFORMED },
    { 1, 1, 1, 3, "t\"k", 1024, MALFORMED }
};


static unit_insane_t  unit_insanes[] = {
    { { 0, 1, 1 }, { (const unsigned char *) "tok", 3 } },
    { { 1, 0, 1 }, { (const unsigned char *) "tok", 3 } },
    { { 1, 1, 0 }, { (const unsigned char *) "tok", 3 } },
    { { BOG_STATE_TIME_MAX + 1, 1, 1 }, { (const unsigned char *) "tok", 3 } },
    { { 1, 1, 1 }, { (const unsigned char *) "", 0 } },
    { { 1, 1, 1 }, { (const unsigned char *) "t\nk", 3 } },
    { { 1, 1, 1 }, { (const unsigned char *) "===", 3 } }
};


/* all of it on the heap, where one byte too much is noticed */

static unsigned char *
unit_sealed(const bog_state_t *state, size_t *len)
{
    size_t          size;
    unsigned char  *p;

    size = 53 + (28 + state->len + 1023) / 1024 * 1024 + 16;

    p = malloc(size);
    assert_non_null(p);

    *len = bog_state_seal(p, state, &unit_secret, unit_digest);
    assert_int_equal(*len, size);

    return p;
}


/* opens a copy of it */

static bog_state_status_e
unit_open(const unsigned char *p, size_t len, const bog_str_t *secret,
    const unsigned char *digest)
{
    bog_state_t          state;
    unsigned char       *copy;
    bog_state_status_e   status;

    copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, p, len);

    status = bog_state_open(&state, copy, len, secret, digest);

    if (status != BOG_STATE_OK) {
        assert_true(unit_zero(copy, len));
        assert_true(unit_zero(&state, sizeof(bog_state_t)));
    }

    free(copy);

    return status;
}


static bog_state_status_e
unit_opened(const unsigned char *p, size_t len)
{
    return unit_open(p, len, &unit_secret, unit_digest);
}


static void
test_sizes(void **data)
{
    size_t          n, len;
    bog_state_t     state, opened;
    unsigned char  *p, *token;

    (void) data;

    token = malloc(BOG_OAUTH_TOKEN_MAX);
    assert_non_null(token);

    for (n = 0; n < BOG_OAUTH_TOKEN_MAX; n++) {
        token[n] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ-._~+/0123456789"[n * 7 % 42];
    }

    state = unit_good;
    state.token = token;

    for (n = 1; n <= BOG_OAUTH_TOKEN_MAX; n++) {
        state.len = n;
        p = unit_sealed(&state, &len);

        assert_int_equal(bog_state_open(&opened, p, len, &unit_secret,
                                        unit_digest),
                         BOG_STATE_OK);

        assert_true(opened.life.start == state.life.start);
        assert_true(opened.life.lifetime == state.life.lifetime);
        assert_true(opened.life.refresh == state.life.refresh);
        assert_int_equal(opened.len, n);
        assert_memory_equal(opened.token, token, n);
        assert_ptr_equal(opened.token, p + 81);

        free(p);
    }

    free(token);
}


static void
test_constants(void **data)
{
    (void) data;

    assert_int_equal(BOG_STATE_MIN, UNIT_SIZE);
    assert_int_equal(BOG_STATE_SIZE(996), UNIT_SIZE);
    assert_int_equal(BOG_STATE_SIZE(997), UNIT_SIZE + 1024);
    assert_int_equal(BOG_STATE_MAX, 53 + 17 * 1024 + 16);
}


/* neither key nor nonce comes twice */

static void
test_salts(void **data)
{
    size_t          i, len, same;
    unsigned char  *p, *q;

    (void) data;

    p = unit_sealed(&unit_good, &len);
    q = unit_sealed(&unit_good, &len);

    assert_memory_equal(p, "bogstate\1", 9);
    assert_memory_equal(q, "bogstate\1", 9);

    assert_memory_not_equal(p + 9, q + 9, 32);
    assert_memory_not_equal(p + 41, q + 41, 12);

    for (same = 0, i = 53; i < len; i++) {
        same += (p[i] == q[i]);
    }

    /* 4 are to be expected of 1040 */

    assert_true(same < 40);

    free(p);
    free(q);
}


static void
test_changes(void **data)
{
    size_t               i, k, len;
    unsigned char       *p, old;
    bog_state_status_e   expected;

    static unsigned char  bits[] = { 1, 2, 4, 8, 16, 32, 64, 128, 255 };

    (void) data;

    p = unit_sealed(&unit_good, &len);

    for (i = 0; i < len; i++) {
        expected = (i < 8) ? BOG_STATE_FOREIGN
                           : (i == 8) ? BOG_STATE_OTHER_VERSION
                                      : BOG_STATE_BAD_SEAL;
        old = p[i];

        for (k = 0; k < unit_count(bits); k++) {
            p[i] = old ^ bits[k];
            assert_int_equal(unit_opened(p, len), expected);
        }

        p[i] = old;
    }

    assert_int_equal(unit_opened(p, len), BOG_STATE_OK);

    free(p);
}


static void
test_cut(void **data)
{
    size_t          n, len;
    unsigned char  *p, *more;

    (void) data;

    p = unit_sealed(&unit_good, &len);

    for (n = 0; n < len; n++) {
        assert_int_equal(unit_opened(p, n), BOG_STATE_BAD_SIZE);
    }

    more = calloc(1, BOG_STATE_MAX + 2048);
    assert_non_null(more);
    memcpy(more, p, len);

    for (n = len + 1; n <= BOG_STATE_MAX + 2048; n++) {
        assert_int_equal(unit_opened(more, n),
                         ((n - len) % 1024 == 0 && n <= BOG_STATE_MAX)
                         ? BOG_STATE_BAD_SEAL : BOG_STATE_BAD_SIZE);
    }

    free(more);
    free(p);
}


static void
test_foreign(void **data)
{
    (void) data;

    assert_int_equal(unit_opened((unsigned char *) "", 0), BOG_STATE_BAD_SIZE);
    assert_int_equal(unit_opened((unsigned char *) "b", 1),
                     BOG_STATE_BAD_SIZE);
    assert_int_equal(unit_opened((unsigned char *) "B", 1), BOG_STATE_FOREIGN);
    assert_int_equal(unit_opened((unsigned char *) "bogstat\n", 8),
                     BOG_STATE_FOREIGN);
    assert_int_equal(unit_opened((unsigned char *) "bogstate\2", 9),
                     BOG_STATE_OTHER_VERSION);
}


/* sealed as of another version, it still is not ours to read */

static void
test_versions(void **data)
{
    int             version;
    unsigned char   plain[1024], sealed[UNIT_SIZE];

    (void) data;

    memset(plain, 0, sizeof(plain));
    plain[7] = plain[15] = plain[23] = plain[27] = 1;
    plain[28] = 't';

    for (version = 0; version < 256; version++) {
        assert_int_equal(seal_plain(sealed, plain, sizeof(plain), version,
                                    &unit_secret, unit_digest), 1);

        assert_int_equal(unit_opened(sealed, sizeof(sealed)),
                         (version == 1) ? BOG_STATE_OK
                                        : BOG_STATE_OTHER_VERSION);
    }
}


static void
test_others(void **data)
{
    size_t          i, len;
    bog_str_t       secret;
    unsigned char  *p, other[4096], digest[BOG_OAUTH_DIGEST_LEN];

    (void) data;

    p = unit_sealed(&unit_good, &len);

    /* longer than a block of SHA-256, too */

    memset(other, 's', sizeof(other));
    secret.data = other;

    for (i = 1; i <= sizeof(other); i = i * 2 + (i == 32)) {
        secret.len = i;
        assert_int_equal(unit_open(p, len, &secret, unit_digest),
                         BOG_STATE_BAD_SEAL);
    }

    memcpy(other, "s3creT", 6);
    secret.len = 6;
    assert_int_equal(unit_open(p, len, &secret, unit_digest),
                     BOG_STATE_BAD_SEAL);

    /* a shorter key of HMAC is filled up with zeros: this one is not a key */

    memcpy(other, "s3cret\0", 7);
    secret.len = 7;
    assert_int_equal(unit_open(p, len, &secret, unit_digest),
                     BOG_STATE_BAD_SEAL);

    for (i = 0; i < sizeof(digest); i++) {
        memcpy(digest, unit_digest, sizeof(digest));
        digest[i] ^= 1;

        assert_int_equal(unit_open(p, len, &unit_secret, digest),
                         BOG_STATE_BAD_SEAL);
    }

    free(p);
}


static void
unit_put(unsigned char *p, uint64_t n, size_t size)
{
    while (size--) {
        p[size] = (unsigned char) (n & 0xff);
        n >>= 8;
    }
}


/* what only the owner of the secret could make */

static void
test_plains(void **data)
{
    size_t          i;
    unit_plain_t   *u;
    unsigned char  *plain, *sealed;

    (void) data;

    for (i = 0; i < unit_count(unit_plains); i++) {
        u = &unit_plains[i];

        plain = calloc(1, u->size);
        sealed = malloc(53 + u->size + 16);
        assert_non_null(plain);
        assert_non_null(sealed);

        unit_put(plain, (uint64_t) u->start, 8);
        unit_put(plain + 8, (uint64_t) u->lifetime, 8);
        unit_put(plain + 16, (uint64_t) u->refresh, 8);
        unit_put(plain + 24, u->len, 4);
        memcpy(plain + 28, u->token, strlen(u->token));

        assert_int_equal(seal_plain(sealed, plain, u->size, 1, &unit_secret,
                                    unit_digest), 1);

        if (unit_opened(sealed, 53 + u->size + 16) != u->status) {
            fail_msg("row %zu", i);
        }

        free(plain);
        free(sealed);
    }
}


static void
test_insanes(void **data)
{
    size_t         i;
    bog_state_t    state;
    unsigned char  dst[UNIT_SIZE];

    (void) data;

    memset(dst, 0, sizeof(dst));

    for (i = 0; i < unit_count(unit_insanes); i++) {
        state.life = unit_insanes[i].life;
        state.token = unit_insanes[i].token.data;
        state.len = unit_insanes[i].token.len;

        assert_int_equal(bog_state_seal(dst, &state, &unit_secret,
                                        unit_digest), 0);
        assert_true(unit_zero(dst, sizeof(dst)));
    }

    state = unit_good;
    state.len = BOG_OAUTH_TOKEN_MAX + 1;

    assert_int_equal(bog_state_seal(dst, &state, &unit_secret, unit_digest),
                     0);
}


int
unit_state(void)
{
    const struct CMUnitTest  state[] = {
        cmocka_unit_test(test_constants),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_salts),
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_others),
        cmocka_unit_test(test_plains),
        cmocka_unit_test(test_insanes)
    };

    return cmocka_run_group_tests(state, NULL, NULL);
}
