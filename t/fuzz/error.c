
/*
 * Copyright (C) The nginx-bog authors
 */


/* The body of a refusal: what of it may stand in a line of the log. */


#include "fuzz.h"


/* reads an escape back; -1 where it is none */

static int
fuzz_unescape(const char *p, const char *last)
{
    char          hex[3];
    char         *end;
    const char   *digits;

    digits = "0123456789ABCDEF";

    if (last - p < 4 || p[1] != 'x'
        || !memchr(digits, p[2], 16) || !memchr(digits, p[3], 16))
    {
        return -1;
    }

    hex[0] = p[2];
    hex[1] = p[3];
    hex[2] = '\0';

    return (int) strtol(hex, &end, 16);
}


/* what is written stands for the beginning of what was there, or all of it */

static void
fuzz_code(const char *dst, size_t len, const char *error)
{
    int          ch;
    size_t       need;
    const char  *p, *last;

    p = dst;
    last = dst + len;

    while (p < last) {
        ch = (unsigned char) *p;

        fuzz_assert(ch >= 0x20 && ch < 0x7f && ch != '"' && ch != '\'');

        if (ch == '\\') {
            ch = fuzz_unescape(p, last);

            fuzz_assert(ch > 0);
            fuzz_assert(ch < 0x20 || ch >= 0x7f || strchr("\"'\\", ch));
            p += 3;
        }

        fuzz_assert(ch == (unsigned char) *error);

        error++;
        p++;
    }

    if (*error) {
        ch = (unsigned char) *error;
        need = (ch >= 0x20 && ch < 0x7f && !strchr("\"'\\", ch)) ? 1 : 4;

        fuzz_assert(len + need > BOG_OAUTH_ERROR_MAX);
    }
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char          *dst, again[BOG_OAUTH_ERROR_MAX];
    size_t         len;
    json_t        *root, *error;
    fuzz_input_t   in;

    fuzz_read(&in, data, size);

    /* on the heap, where one byte too much is noticed */

    dst = malloc(BOG_OAUTH_ERROR_MAX);
    fuzz_assert(dst);

    len = bog_oauth_error(dst, in.text, in.len, &in.pool);

    fuzz_assert(fuzz_allocator());
    fuzz_assert(len <= BOG_OAUTH_ERROR_MAX);

    root = fuzz_json(in.text, in.len);
    error = json_object_get(root, "error");

    if (len) {
        fuzz_assert(json_is_string(error));
    }

    /* where memory is out there is no error */

    if (json_is_string(error)
        && (len || (in.size == FUZZ_MEMORY && in.len <= FUZZ_SURE)))
    {
        fuzz_code(dst, len, json_string_value(error));
    }

    fuzz_destroy(&in);

    fuzz_assert(fuzz_same(dst, len, again,
                          bog_oauth_error(again, in.text, in.len, &in.pool)));

    fuzz_destroy(&in);

    json_decref(root);
    free(dst);

    return 0;
}
