
/*
 * Copyright (C) The nginx-bog authors
 */


#include "unit.h"

#include "bog_oauth.h"


typedef struct {
    const char   *head;
    const char   *unit;           /* repeated, a number in the place of %x */
    const char   *tail;
    int           answer;
} unit_worst_t;


/* the bodies that cost the most memory for their size */

static unit_worst_t  unit_worsts[] = {
    { "{\"access_token\":\"a\",\"b\":[", "{},", "0]}", BOG_ANSWER_OK },
    { "{\"access_token\":\"a\",\"b\":[", "[],", "0]}", BOG_ANSWER_OK },
    { "{\"access_token\":\"a\",\"b\":[", "[{}],", "0]}", BOG_ANSWER_OK },
    { "{\"access_token\":\"a\",\"b\":[", "{\"\":{}},", "0]}", BOG_ANSWER_OK },
    { "{\"access_token\":\"a\",\"b\":[", "\"\",", "0]}", BOG_ANSWER_OK },
    { "{\"access_token\":\"a\",\"b\":[", "0,", "0]}", BOG_ANSWER_OK },
    { "{\"access_token\":\"a\",", "\"%x\":0,", "\"\":0}", BOG_ANSWER_OK },
    { "{\"access_token\":\"a\",", "\"%x\":{},", "\"\":0}", BOG_ANSWER_OK },
    { "{\"access_token\":\"a\",\"b\":\"", "xxxxxxx", "\"}", BOG_ANSWER_OK },
    { "{\"access_token\":\"", "aaaaaaa", "\"}", BOG_ANSWER_TOO_LARGE },
    { "{\"access_token\":\"a\",\"b\":", "[", "", BOG_ANSWER_NOT_JSON },
    { "{\"access_token\":\"a\",\"b\":", "{\"\":", "", BOG_ANSWER_NOT_JSON },
    { "", "[", "", BOG_ANSWER_NOT_JSON },
    { "", "{", "", BOG_ANSWER_NOT_JSON },
    { "", "\\", "", BOG_ANSWER_NOT_JSON },
    { "", " ", "", BOG_ANSWER_NOT_JSON }
};


/* header and payload say {} and {"iat":1,"exp":9999999999} */

static char  unit_answer_body[] =
    "{\"access_token\":\"e30.eyJpYXQiOjEsImV4cCI6OTk5OTk5OTk5OX0.c2lnbmF0dXJl"
    "\",\"expires_in\":300,\"token_type\":\"Bearer\",\"scope\":\"profile\","
    "\"not-before-policy\":0,\"a\":[1,2,3,4,5,6,7,8,9,10]}";

static bog_answer_rules_t  unit_rules = { 1000, -1, 3600000, 300000 };


/* the most that any body takes */

#define UNIT_WORST  ((size_t) 8 * 1024 * 1024)


static void
test_worst(void **state)
{
    char          *body, text[32];
    size_t         i, n, len, tail;
    bog_pool_t     pool = { NULL };
    bog_answer_t   answer;
    unit_worst_t  *row;

    (void) state;

    body = malloc(BOG_OAUTH_ANSWER_MAX);
    assert_non_null(body);

    for (i = 0; i < unit_count(unit_worsts); i++) {
        row = &unit_worsts[i];

        len = strlen(row->head);
        tail = strlen(row->tail);
        memcpy(body, row->head, len);

        for (n = 0; /* void */ ; n++) {
            snprintf(text, sizeof(text), row->unit, n);

            if (len + strlen(text) + tail > BOG_OAUTH_ANSWER_MAX) {
                break;
            }

            memcpy(body + len, text, strlen(text));
            len += strlen(text);
        }

        memcpy(body + len, row->tail, tail);

        unit_pool_left = UNIT_WORST;

        assert_int_equal(bog_oauth_answer(&answer, body, len + tail,
                                          &unit_rules, &pool),
                         row->answer);
        unit_destroy(&pool);
    }

    free(body);
}


/* memory of every size up to enough: either it is out, or all is well */

static void
test_short(void **state)
{
    size_t                size, full;
    bog_pool_t            pool = { NULL };
    bog_answer_t          answer;
    bog_answer_status_e   status;

    (void) state;

    full = 0;

    for (size = 0; size < 8192; size++) {
        unit_pool_left = size;

        status = bog_oauth_answer(&answer, unit_answer_body,
                                  sizeof(unit_answer_body) - 1, &unit_rules,
                                  &pool);

        if (status == BOG_ANSWER_OK) {
            assert_true(answer.lifetime == 300000);
            full = full ? full : size;

        } else {
            assert_int_equal(status, BOG_ANSWER_NO_MEMORY);
            assert_null(answer.token);
            assert_int_equal(answer.token_len, 0);
            assert_int_equal(full, 0);
        }

        unit_destroy(&pool);
    }

    assert_in_range(full, 1024, 4096);
}


static void
test_short_error(void **state)
{
    char        error[BOG_OAUTH_ERROR_MAX];
    size_t      size, len, full;
    bog_pool_t  pool = { NULL };

    static char  body[] = "{\"error\":\"invalid_client\",\"a\":[{},{},{}]}";

    (void) state;

    full = 0;

    for (size = 0; size < 4096; size++) {
        unit_pool_left = size;

        len = bog_oauth_error(error, body, sizeof(body) - 1, &pool);

        assert_int_equal(len, full ? 14 : len);
        assert_true(len == 0 || len == 14);

        unit_destroy(&pool);

        full = len;
    }

    assert_int_equal(full, 14);
}


int
unit_pool(void)
{
    const struct CMUnitTest  pool[] = {
        cmocka_unit_test(test_worst),
        cmocka_unit_test(test_short),
        cmocka_unit_test(test_short_error)
    };

    return cmocka_run_group_tests(pool, NULL, NULL);
}
