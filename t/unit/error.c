
/*
 * Copyright (C) The nginx-bog authors
 */


#include "unit.h"

#include "bog_oauth.h"


/* in the bodies ' stands for " */

typedef struct {
    const char  *body;
    const char  *error;
} unit_error_t;


#define X10  "xxxxxxxxxx"
#define X60  X10 X10 X10 X10 X10 X10


static unit_error_t  unit_errors[] = {
    { "{'error':'unauthorized_client'}", "unauthorized_client" },
    { "{'error':'invalid_client','error_description':'Invalid client'}",
      "invalid_client" },
    { "{'error_description':'x','error':'a'}", "a" },

    /* there is none */

    { "", "" },
    { "{}", "" },
    { "[]", "" },
    { "['error']", "" },
    { "'error'", "" },
    { "<html>", "" },
    { "{'error':''}", "" },
    { "{'error':null}", "" },
    { "{'error':1}", "" },
    { "{'error':['a']}", "" },
    { "{'error':{'error':'a'}}", "" },
    { "{'Error':'a'}", "" },
    { "{'error':'a'", "" },
    { "{'error':'a'}x", "" },
    { "{'error':'a','error':'a'}", "" },
    { "{'error':'\\u0000'}", "" },

    /* escaped */

    { "{'error':'Unable to find'}", "Unable to find" },
    { "{'error':' '}", " " },
    { "{'error':'\\u001f'}", "\\x1F" },
    { "{'error':'\\u00a0'}", "\\xC2\\xA0" },
    { "{'error':'a\\'b'}", "a\\x22b" },
    { "{'error':'a\\u0027b'}", "a\\x27b" },
    { "{'error':'a\\\\b'}", "a\\x5Cb" },
    { "{'error':'a\\nb\\r\\t'}", "a\\x0Ab\\x0D\\x09" },
    { "{'error':'\\u001b[31m'}", "\\x1B[31m" },
    { "{'error':'\\u007f'}", "\\x7F" },
    { "{'error':'\\u00ff'}", "\\xC3\\xBF" },
    { "{'error':'\xe1\x83\x90'}", "\\xE1\\x83\\x90" },
    { "{'error':'!~'}", "!~" },

    /* cut, and no escape in two */

    { "{'error':'" X60 "1234'}", X60 "1234" },
    { "{'error':'" X60 "12345'}", X60 "1234" },
    { "{'error':'" X60 X60 "'}", X60 "xxxx" },
    { "{'error':'" X60 "\\n'}", X60 "\\x0A" },
    { "{'error':'" X60 "1\\n'}", X60 "1" },
    { "{'error':'" X60 "12\\n'}", X60 "12" },
    { "{'error':'" X60 "123\\n'}", X60 "123" },
    { "{'error':'" X60 "1234\\n'}", X60 "1234" },
    { "{'error':'" X60 "123\\nabc'}", X60 "123" },
    { "{'error':'" X60 "123 b'}", X60 "123 " }
};


static void
test_error(void **state)
{
    char           body[512], error[BOG_OAUTH_ERROR_MAX + 1], *p;
    size_t         i, len;
    bog_pool_t     pool = { NULL };
    unit_error_t  *row;

    (void) state;

    for (i = 0; i < unit_count(unit_errors); i++) {
        row = &unit_errors[i];

        strcpy(body, row->body);

        while ((p = strchr(body, '\'')) != NULL) {
            *p = '"';
        }

        memset(error, '#', sizeof(error));

        len = bog_oauth_error(error, body, strlen(body), &pool);

        if (len != strlen(row->error) || memcmp(error, row->error, len) != 0) {
            fail_msg("row %zu: %s: \"%.*s\"", i, row->body, (int) len, error);
        }

        assert_int_equal(error[len], '#');

        unit_destroy(&pool);
    }
}


int
unit_error(void)
{
    const struct CMUnitTest  error[] = {
        cmocka_unit_test(test_error)
    };

    return cmocka_run_group_tests(error, NULL, NULL);
}
