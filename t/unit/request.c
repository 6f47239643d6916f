
/*
 * Copyright (C) The nginx-bog authors
 */


#include "unit.h"

#include "bog_oauth.h"


#define UNIT_CANARY  0x5a

#define unit_str(s)  { (const unsigned char *) (s), sizeof(s) - 1 }


typedef struct {
    bog_str_t     src;
    const char   *form;
} unit_form_t;


typedef struct {
    bog_str_t     id;
    bog_str_t     secret;
    int           urlencode;
    const char   *value;
} unit_basic_t;


typedef struct {
    bog_param_t   params[3];
    size_t        n;
    const char   *body;
} unit_body_t;


typedef struct {
    bog_str_t     parts[3];
    size_t        n;
    const char   *hex;
} unit_digest_t;


static unit_form_t  unit_forms[] = {
    { unit_str(""), "" },
    { unit_str("abcXYZ059"), "abcXYZ059" },
    { unit_str("*-._"), "*-._" },
    { unit_str(" "), "+" },
    { unit_str("a b  c"), "a+b++c" },
    { unit_str("+"), "%2B" },
    { unit_str("%"), "%25" },
    { unit_str("&="), "%26%3D" },
    { unit_str("~"), "%7E" },
    { unit_str("!\"#$'(),/"), "%21%22%23%24%27%28%29%2C%2F" },
    { unit_str(":;<>?@[\\]^`{|}"),
      "%3A%3B%3C%3E%3F%40%5B%5C%5D%5E%60%7B%7C%7D" },
    { unit_str("\r\n\t"), "%0D%0A%09" },
    { unit_str("\0" "a\0"), "%00a%00" },
    { unit_str("\x7f\x80\xff"), "%7F%80%FF" },
    { unit_str(" %&+\xc2\xa3\xe2\x82\xac"), "+%25%26%2B%C2%A3%E2%82%AC" }
};


static unit_basic_t  unit_basics[] = {
    { unit_str("8282"), unit_str("769706499f0709e234845863f98b2314"), 0,
      "Basic ODI4Mjo3Njk3MDY0OTlmMDcwOWUyMzQ4NDU4NjNmOThiMjMxNA==" },
    { unit_str("8282"), unit_str("769706499f0709e234845863f98b2314"), 1,
      "Basic ODI4Mjo3Njk3MDY0OTlmMDcwOWUyMzQ4NDU4NjNmOThiMjMxNA==" },
    { unit_str("a"), unit_str("b"), 0, "Basic YTpi" },
    { unit_str("ab"), unit_str("c"), 0, "Basic YWI6Yw==" },
    { unit_str("a"), unit_str("\xc3\xa9"), 0, "Basic YTrDqQ==" },
    { unit_str("a b"), unit_str("p % & \xc3\xa9"), 1,
      "Basic YStiOnArJTI1KyUyNislQzMlQTk=" }
};


static unit_body_t  unit_bodies[] = {
    { { { unit_str(""), unit_str("") } }, 0,
      "grant_type=client_credentials" },
    { { { unit_str("scope"), unit_str("corp") } }, 1,
      "grant_type=client_credentials&scope=corp" },
    { { { unit_str("z"), unit_str("") },
        { unit_str("a b"), unit_str("c&d=e") },
        { unit_str("z"), unit_str("\xe1\x83\x90") } }, 3,
      "grant_type=client_credentials&z=&a+b=c%26d%3De&z=%E1%83%90" }
};


static unit_digest_t  unit_digests[] = {
    { { unit_str("") }, 0,
      "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
    { { unit_str("") }, 1,
      "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc" },
    { { unit_str(""), unit_str("") }, 2,
      "374708fff7719dd5979ec875d56cd2286f6d3cf7ec317a3b25632aab28ec37bb" },
    { { unit_str("ab"), unit_str("c") }, 2,
      "601d5476e2ccfe2c87a2bba7a322659734a05749d5b5aa781f513e4912db0d5f" },
    { { unit_str("a"), unit_str("bc") }, 2,
      "3fafa1cf2f19a7c1129beb20cf0983f73a489a221fc0dd2f16d1be292d089205" },
    { { unit_str("abc") }, 1,
      "c3494ca1a2cf8eeb8a11ded316fb55b83c3bbbedb6313cd50415251e5d09e12f" },
    { { unit_str("abc"), unit_str("") }, 2,
      "f5a934b5ab96157b46905e4dec48ff8175fe8926c36ec293b98c8fbd0886171b" },
    { { unit_str(""), unit_str("abc") }, 2,
      "e7fa8174d147ee73954836b6f21933539ff7094b1654f9dbd42b665592df84ad" },
    { { unit_str("https://oauth2.bog.ge"), unit_str("8282"),
        unit_str("a\0b") }, 3,
      "1aa5103e664aa79ea765fb056749b77f5b5a00ff9fd90fe6094255da87073d83" }
};


static void
test_form_encode(void **state)
{
    size_t          i, len;
    unsigned char   dst[256];
    unit_form_t    *row;

    (void) state;

    for (i = 0; i < unit_count(unit_forms); i++) {
        row = &unit_forms[i];

        len = strlen(row->form);

        assert_int_equal(bog_oauth_form_encode(NULL, &row->src), len);

        memset(dst, UNIT_CANARY, sizeof(dst));

        assert_int_equal(bog_oauth_form_encode(dst, &row->src), len);
        assert_memory_equal(dst, row->form, len);
        assert_int_equal(dst[len], UNIT_CANARY);
    }
}


static void
test_form_encode_bytes(void **state)
{
    char            expected[4];
    size_t          len;
    unsigned        n;
    bog_str_t       src;
    unsigned char   ch, dst[4];

    static char  kept[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                          "abcdefghijklmnopqrstuvwxyz0123456789*-._";

    (void) state;

    for (n = 0; n < 256; n++) {
        ch = (unsigned char) n;
        src.data = &ch;
        src.len = 1;

        if (n && strchr(kept, (int) n)) {
            snprintf(expected, sizeof(expected), "%c", n);

        } else {
            snprintf(expected, sizeof(expected), n == ' ' ? "+" : "%%%02X", n);
        }

        len = bog_oauth_form_encode(dst, &src);

        assert_int_equal(len, strlen(expected));
        assert_memory_equal(dst, expected, len);
    }
}


static void
test_basic(void **state)
{
    size_t          i, k, need, len;
    unsigned char   dst[256];
    unit_basic_t   *row;

    (void) state;

    for (i = 0; i < unit_count(unit_basics); i++) {
        row = &unit_basics[i];

        need = bog_oauth_basic(NULL, &row->id, &row->secret, row->urlencode);
        assert_true(need < sizeof(dst));

        memset(dst, UNIT_CANARY, sizeof(dst));

        len = bog_oauth_basic(dst, &row->id, &row->secret, row->urlencode);

        assert_int_equal(len, strlen(row->value));
        assert_true(len <= need);
        assert_memory_equal(dst, row->value, len);

        /* nothing readable is left behind it, nothing is touched beyond */

        assert_true(unit_zero(dst + len, need - len));

        for (k = need; k < sizeof(dst); k++) {
            assert_int_equal(dst[k], UNIT_CANARY);
        }
    }
}


/* a long secret with room of just the size asked for */

static void
test_basic_long(void **state)
{
    size_t          n, need, len;
    bog_str_t       id, secret;
    unsigned char   data[4096], *dst;

    (void) state;

    memset(data, '%', sizeof(data));

    id.data = data;
    id.len = 256;
    secret.data = data;

    for (n = 4090; n <= 4096; n++) {
        secret.len = n;

        need = bog_oauth_basic(NULL, &id, &secret, 1);

        dst = malloc(need);
        assert_non_null(dst);

        len = bog_oauth_basic(dst, &id, &secret, 1);

        assert_int_equal(len, 6 + (256 * 3 + 1 + n * 3 + 2) / 3 * 4);
        assert_memory_equal(dst, "Basic JTI1JTI1", 14);
        assert_true(unit_zero(dst + len, need - len));

        free(dst);
    }
}


static void
test_body(void **state)
{
    size_t          i, len;
    unsigned char   dst[256];
    unit_body_t    *row;

    (void) state;

    for (i = 0; i < unit_count(unit_bodies); i++) {
        row = &unit_bodies[i];

        len = strlen(row->body);

        assert_int_equal(bog_oauth_body(NULL, row->params, row->n), len);

        memset(dst, UNIT_CANARY, sizeof(dst));

        assert_int_equal(bog_oauth_body(dst, row->params, row->n), len);
        assert_memory_equal(dst, row->body, len);
        assert_int_equal(dst[len], UNIT_CANARY);
    }
}


static void
test_digest(void **state)
{
    char            hex[2 * BOG_OAUTH_DIGEST_LEN + 1];
    size_t          i, k;
    unsigned char   digest[BOG_OAUTH_DIGEST_LEN];
    unit_digest_t  *row;

    (void) state;

    for (i = 0; i < unit_count(unit_digests); i++) {
        row = &unit_digests[i];

        assert_int_equal(bog_oauth_digest(digest, row->parts, row->n), 0);

        for (k = 0; k < BOG_OAUTH_DIGEST_LEN; k++) {
            snprintf(hex + 2 * k, 3, "%02x", digest[k]);
        }

        assert_string_equal(hex, row->hex);

        for (k = 0; k < i; k++) {
            assert_string_not_equal(hex, unit_digests[k].hex);
        }
    }
}


static void
test_digest_long(void **state)
{
    bog_str_t       part;
    unsigned char   data[300], digest[BOG_OAUTH_DIGEST_LEN];

    static unsigned char  start[] = { 0xed, 0x6e, 0x47, 0x6c, 0x63, 0xcf };

    (void) state;

    /* a length that takes two bytes */

    memset(data, 'x', sizeof(data));

    part.data = data;
    part.len = sizeof(data);

    assert_int_equal(bog_oauth_digest(digest, &part, 1), 0);
    assert_memory_equal(digest, start, sizeof(start));
}


static void
test_token_id(void **state)
{
    char  id[17];

    static unsigned char  token[] = "eyJhbGciOiJSUzI1NiJ9.e30.c2ln";

    (void) state;

    memset(id, UNIT_CANARY, sizeof(id));

    assert_int_equal(bog_oauth_token_id(id, token, sizeof(token) - 1), 0);
    assert_memory_equal(id, "cc529d9b1b8a8336", 16);
    assert_int_equal(id[16], UNIT_CANARY);

    assert_int_equal(bog_oauth_token_id(id, token, 0), 0);
    assert_memory_equal(id, "e3b0c44298fc1c14", 16);
}


int
unit_request(void)
{
    const struct CMUnitTest  request[] = {
        cmocka_unit_test(test_form_encode),
        cmocka_unit_test(test_form_encode_bytes),
        cmocka_unit_test(test_basic),
        cmocka_unit_test(test_basic_long),
        cmocka_unit_test(test_body),
        cmocka_unit_test(test_digest),
        cmocka_unit_test(test_digest_long),
        cmocka_unit_test(test_token_id)
    };

    return cmocka_run_group_tests(request, NULL, NULL);
}
