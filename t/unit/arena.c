
/*
 * Copyright (C) The nginx-bog authors
 */


#include "unit.h"

#include "bog_memory.h"
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


static void
test_worst(void **state)
{
    char          *arena, *body, text[32];
    size_t         i, n, len, tail;
    bog_answer_t   answer;
    unit_worst_t  *row;

    (void) state;

    body = malloc(BOG_OAUTH_ANSWER_MAX);
    arena = bog_memory_alloc(BOG_OAUTH_ARENA);

    assert_non_null(body);
    assert_non_null(arena);

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

        assert_int_equal(bog_oauth_answer(&answer, body, len + tail,
                                          &unit_rules, arena, BOG_OAUTH_ARENA),
                         row->answer);
        assert_true(unit_zero(arena + answer.token_len,
                              BOG_OAUTH_ARENA - answer.token_len));
    }

    bog_memory_free(arena, BOG_OAUTH_ARENA);
    free(body);
}


/*
 * An arena of every size up to enough: either there is no memory, or all is
 * well.  It ends where the heap block does, so that a byte too far is seen.
 */

static void
test_short(void **state)
{
    char                 *arena;
    size_t                size, full;
    bog_answer_t          answer;
    bog_answer_status_e   status;

    (void) state;

    full = 0;

    for (size = 1; size < 8192; size++) {
        arena = calloc(1, size);
        assert_non_null(arena);

        status = bog_oauth_answer(&answer, unit_answer_body,
                                  sizeof(unit_answer_body) - 1, &unit_rules,
                                  arena, size);

        if (status == BOG_ANSWER_OK) {
            assert_true(answer.lifetime == 300000);
            full = full ? full : size;

        } else {
            assert_int_equal(status, BOG_ANSWER_NO_MEMORY);
            assert_null(answer.token);
            assert_int_equal(full, 0);
        }

        assert_true(unit_zero(arena + answer.token_len,
                              size - answer.token_len));
        free(arena);
    }

    assert_in_range(full, 1024, 4096);
}


/* too short to hold an aligned byte */

static void
test_tiny(void **state)
{
    char          *arena;
    size_t         size;
    bog_answer_t   answer;

    (void) state;

    for (size = 0; size < 16; size++) {
        arena = calloc(1, size + 1);
        assert_non_null(arena);

        assert_int_equal(bog_oauth_answer(&answer, unit_answer_body,
                                          sizeof(unit_answer_body) - 1,
                                          &unit_rules, arena + 1, size),
                         BOG_ANSWER_NO_MEMORY);
        assert_true(unit_zero(arena, size + 1));

        free(arena);
    }
}


static void
test_short_error(void **state)
{
    char    *arena, error[BOG_OAUTH_ERROR_MAX];
    size_t   size, len, full;

    static char  body[] = "{\"error\":\"invalid_client\",\"a\":[{},{},{}]}";

    (void) state;

    full = 0;

    for (size = 1; size < 4096; size++) {
        arena = calloc(1, size);
        assert_non_null(arena);

        len = bog_oauth_error(error, body, sizeof(body) - 1, arena, size);

        assert_int_equal(len, full ? 14 : len);
        assert_true(len == 0 || len == 14);
        assert_true(unit_zero(arena, size));

        full = len;
        free(arena);
    }

    assert_int_equal(full, 14);
}


/* the arena need not be aligned, the parser's memory is */

static void
test_unaligned(void **state)
{
    char          *arena;
    size_t         i;
    bog_answer_t   answer;

    (void) state;

    arena = calloc(1, 8192 + 16);
    assert_non_null(arena);

    for (i = 0; i < 16; i++) {
        assert_int_equal(bog_oauth_answer(&answer, unit_answer_body,
                                          sizeof(unit_answer_body) - 1,
                                          &unit_rules, arena + i, 8192),
                         BOG_ANSWER_OK);

        assert_true(answer.token >= arena + i);
        assert_int_equal((uintptr_t) answer.token % 16, 0);

        bog_memory_wipe(answer.token, answer.token_len);
        assert_true(unit_zero(arena, 8192 + 16));
    }

    free(arena);
}


int
unit_arena(void)
{
    const struct CMUnitTest  arena[] = {
        cmocka_unit_test(test_worst),
        cmocka_unit_test(test_short),
        cmocka_unit_test(test_tiny),
        cmocka_unit_test(test_short_error),
        cmocka_unit_test(test_unaligned)
    };

    return cmocka_run_group_tests(arena, NULL, NULL);
}
