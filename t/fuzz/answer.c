
/*
 * Copyright (C) The nginx-bog authors
 */


/*
 * The body of an answer, whatever it is.  What claims say of the lifetime is
 * claims.c's part.
 */


#include <strings.h>

#include "fuzz.h"


#define FUZZ_B64TOKEN  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" \
                       "0123456789-._~+/"


/* what has to come of a body, as far as its members tell */

static bog_answer_status_e
fuzz_expected(const json_t *root)
{
    size_t       len, n;
    json_t      *value;
    const char  *text;

    if (root == NULL) {
        return BOG_ANSWER_NOT_JSON;
    }

    value = json_object_get(root, "access_token");
    if (!json_is_string(value)) {
        return BOG_ANSWER_NO_TOKEN;
    }

    text = json_string_value(value);
    len = json_string_length(value);

    n = strspn(text, FUZZ_B64TOKEN);

    if (n == 0 || n + strspn(text + n, "=") != len) {
        return BOG_ANSWER_BAD_TOKEN;
    }

    if (len > BOG_OAUTH_TOKEN_MAX) {
        return BOG_ANSWER_TOO_LARGE;
    }

    value = json_object_get(root, "token_type");

    if (value && (!json_is_string(value)
                  || strcasecmp(json_string_value(value), "Bearer") != 0))
    {
        return BOG_ANSWER_BAD_TYPE;
    }

    return BOG_ANSWER_OK;
}


static void
fuzz_token(const fuzz_input_t *in, const bog_answer_t *answer,
    const json_t *root)
{
    json_t  *token;

    token = json_object_get(root, "access_token");

    fuzz_assert(fuzz_same(answer->token, answer->token_len,
                          json_string_value(token),
                          json_string_length(token)));

    fuzz_assert(fuzz_pooled(answer->token, answer->token_len));

    fuzz_assert(answer->lifetime > 0);
    fuzz_assert(answer->lifetime <= in->rules.max_lifetime);
    fuzz_assert(answer->type_missing
                == (json_object_get(root, "token_type") == NULL));
}


/* the same question has the same answer */

static void
fuzz_again(fuzz_input_t *in, const bog_answer_t *first,
    bog_answer_status_e status)
{
    char          *token;
    bog_answer_t   second;

    token = malloc(first->token_len + 1);
    fuzz_assert(token);

    if (first->token) {
        memcpy(token, first->token, first->token_len);
    }

    fuzz_destroy(in);

    fuzz_assert(bog_oauth_answer(&second, in->text, in->len, &in->rules,
                                 &in->pool)
                == status);

    fuzz_assert(fuzz_same(second.token, second.token_len,
                          token, first->token_len));

    fuzz_assert(second.lifetime == first->lifetime);
    fuzz_assert(second.stated == first->stated);
    fuzz_assert(second.type_missing == first->type_missing);

    free(token);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t               *root;
    fuzz_input_t          in;
    bog_answer_t          answer;
    bog_answer_status_e   status, expected;

    fuzz_read(&in, data, size);

    status = bog_oauth_answer(&answer, in.text, in.len, &in.rules,
                              &in.pool);

    fuzz_assert(fuzz_allocator());

    root = fuzz_json(in.text, in.len);
    expected = fuzz_expected(root);

    if (status == BOG_ANSWER_NO_MEMORY) {
        fuzz_assert(in.size < FUZZ_MEMORY || in.len > FUZZ_SURE);

    } else if (status == BOG_ANSWER_EXPIRED) {
        fuzz_assert(expected == BOG_ANSWER_OK);

    } else {
        fuzz_assert(status == expected);
    }

    if (status == BOG_ANSWER_OK) {
        fuzz_token(&in, &answer, root);

    } else {
        fuzz_assert(answer.token == NULL && answer.token_len == 0);
        fuzz_assert(answer.lifetime == 0 && !answer.type_missing);
    }

    fuzz_again(&in, &answer, status);
    fuzz_destroy(&in);

    json_decref(root);

    return 0;
}
