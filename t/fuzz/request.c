
/*
 * Copyright (C) The nginx-bog authors
 */


/*
 * What is sent: the Authorization header, the body, and the digest that tells
 * sources apart.  The input's first byte parts it: the id, the secret, then
 * names and values of parameters in turn.
 */


#include "fuzz.h"


#define FUZZ_PARTS  12

#define FUZZ_FORM   "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" \
                    "0123456789*-._+%"


static size_t
fuzz_split(bog_str_t *parts, const uint8_t *data, size_t size)
{
    size_t       n;
    const char  *p, *end, *last;

    memset(parts, 0, (FUZZ_PARTS + 1) * sizeof(bog_str_t));

    if (size == 0) {
        return 0;
    }

    p = (const char *) data + 1;
    last = (const char *) data + size;

    for (n = 0; n < FUZZ_PARTS; n++) {
        end = memchr(p, data[0], last - p);

        parts[n].data = (const unsigned char *) p;
        parts[n].len = (end ? end : last) - p;

        if (end == NULL) {
            return n + 1;
        }

        p = end + 1;
    }

    return n;
}


static int
fuzz_hex(int ch)
{
    return (ch >= '0' && ch <= '9') ? ch - '0'
           : (ch >= 'A' && ch <= 'F') ? ch - 'A' + 10
           : -1;
}


/* that src, form-encoded, is text */

static void
fuzz_form(const bog_str_t *src, const unsigned char *text, size_t len)
{
    int                   high, low;
    size_t                i;
    unsigned char         ch;
    const unsigned char  *p, *last;

    p = text;
    last = text + len;

    for (i = 0; i < src->len; i++) {
        fuzz_assert(p < last);
        fuzz_assert(*p && strchr(FUZZ_FORM, *p));

        ch = *p++;

        if (ch == '+') {
            ch = ' ';

        } else if (ch == '%') {
            fuzz_assert(last - p >= 2);

            high = fuzz_hex(p[0]);
            low = fuzz_hex(p[1]);
            fuzz_assert(high >= 0 && low >= 0);

            ch = (unsigned char) (high << 4 | low);
            p += 2;
        }

        fuzz_assert(ch == src->data[i]);
    }

    fuzz_assert(p == last);
}


/* src in the form, in memory of just that size; the caller releases it */

static unsigned char *
fuzz_encode(const bog_str_t *src, size_t *len)
{
    unsigned char  *dst;

    *len = bog_oauth_form_encode(NULL, src);

    dst = malloc(*len);
    fuzz_assert(dst || *len == 0);

    /* without a place to write it to, it would only count */

    if (dst) {
        fuzz_assert(bog_oauth_form_encode(dst, src) == *len);
    }

    fuzz_form(src, dst, *len);

    return dst;
}


/* Base64 of RFC 4648, 4, read back one character at a time */

static size_t
fuzz_base64(unsigned char *dst, const unsigned char *src, size_t len)
{
    size_t        i, n;
    uint32_t      bits;
    const char   *p;

    static char   digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                             "abcdefghijklmnopqrstuvwxyz0123456789+/";

    fuzz_assert(len % 4 == 0);

    while (len && src[len - 1] == '=') {
        len--;
    }

    n = 0;
    bits = 0;

    for (i = 0; i < len; i++) {
        p = src[i] ? strchr(digits, src[i]) : NULL;
        fuzz_assert(p);

        bits = bits << 6 | (uint32_t) (p - digits);

        if (i % 4) {
            dst[n++] = (unsigned char) (bits >> (6 - 2 * (i % 4)));
        }
    }

    return n;
}


static void
fuzz_basic(const bog_str_t *id, const bog_str_t *secret, int urlencode)
{
    size_t          need, len, i, n, id_len, secret_len;
    bog_str_t       id_form, secret_form;
    unsigned char  *dst, *text, *left, *right;

    need = bog_oauth_basic(NULL, id, secret, urlencode);

    dst = malloc(need);
    fuzz_assert(dst);

    len = bog_oauth_basic(dst, id, secret, urlencode);

    fuzz_assert(len <= need);
    fuzz_assert(len > 6 && memcmp(dst, "Basic ", 6) == 0);

    for (i = len; i < need; i++) {
        fuzz_assert(dst[i] == 0);
    }

    left = fuzz_encode(id, &id_len);
    right = fuzz_encode(secret, &secret_len);

    id_form = *id;
    secret_form = *secret;

    if (urlencode) {
        id_form.data = left;
        id_form.len = id_len;
        secret_form.data = right;
        secret_form.len = secret_len;
    }

    text = malloc(len);
    fuzz_assert(text);

    n = fuzz_base64(text, dst + 6, len - 6);

    fuzz_assert(n == id_form.len + 1 + secret_form.len);
    fuzz_assert(fuzz_same(text, id_form.len, id_form.data, id_form.len));
    fuzz_assert(text[id_form.len] == ':');
    fuzz_assert(fuzz_same(text + id_form.len + 1, secret_form.len,
                          secret_form.data, secret_form.len));

    free(text);
    free(right);
    free(left);
    free(dst);
}


/* a name or a value in the body: takes what is up to the delimiter */

static const unsigned char *
fuzz_field(const bog_str_t *src, const unsigned char *p,
    const unsigned char *last, int delimiter)
{
    const unsigned char  *end;

    end = memchr(p, delimiter, last - p);

    if (end == NULL) {
        end = last;
    }

    fuzz_form(src, p, end - p);

    return (end < last) ? end + 1 : last;
}


static void
fuzz_body(const bog_param_t *params, size_t n)
{
    size_t                len, i;
    unsigned char        *dst;
    const unsigned char  *p, *last;

    static char           grant[] = "grant_type=client_credentials";

    len = bog_oauth_body(NULL, params, n);

    dst = malloc(len);
    fuzz_assert(dst);

    fuzz_assert(bog_oauth_body(dst, params, n) == len);
    fuzz_assert(len >= sizeof(grant) - 1);
    fuzz_assert(memcmp(dst, grant, sizeof(grant) - 1) == 0);

    p = dst + sizeof(grant) - 1;
    last = dst + len;

    for (i = 0; i < n; i++) {
        fuzz_assert(p < last && (i || *p == '&'));

        p += (i == 0);
        p = fuzz_field(&params[i].name, p, last, '=');
        p = fuzz_field(&params[i].value, p, last, '&');
    }

    fuzz_assert(p == last);

    free(dst);
}


static void
fuzz_digest(const bog_str_t *parts, size_t n)
{
    char           id[16];
    size_t         i;
    unsigned char  one[BOG_OAUTH_DIGEST_LEN], two[BOG_OAUTH_DIGEST_LEN];

    fuzz_assert(bog_oauth_digest(one, parts, n) == 0);
    fuzz_assert(bog_oauth_digest(two, parts, n) == 0);
    fuzz_assert(memcmp(one, two, sizeof(one)) == 0);

    fuzz_assert(bog_oauth_digest(two, parts, n + 1) == 0);
    fuzz_assert(memcmp(one, two, sizeof(one)) != 0);

    fuzz_assert(bog_oauth_token_id(id, parts[0].data, parts[0].len) == 0);

    for (i = 0; i < sizeof(id); i++) {
        fuzz_assert(memchr("0123456789abcdef", id[i], 16));
    }
}


/* the same bytes, parted at another place, have another digest */

static void
fuzz_parted(const uint8_t *data, size_t size)
{
    size_t         i;
    bog_str_t      parts[2];
    unsigned char  one[BOG_OAUTH_DIGEST_LEN], two[BOG_OAUTH_DIGEST_LEN];

    for (i = 0; i <= size && i < 4; i++) {
        parts[0].data = data;
        parts[0].len = i;
        parts[1].data = data + i;
        parts[1].len = size - i;

        fuzz_assert(bog_oauth_digest(two, parts, 2) == 0);
        fuzz_assert(i == 0 || memcmp(one, two, sizeof(one)) != 0);

        memcpy(one, two, sizeof(one));
    }
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t       i, n, len;
    bog_str_t    parts[FUZZ_PARTS + 1];
    bog_param_t  params[FUZZ_PARTS / 2];

    n = fuzz_split(parts, data, size);

    for (i = 0; i < n; i++) {
        free(fuzz_encode(&parts[i], &len));
    }

    fuzz_basic(&parts[0], &parts[1], 0);
    fuzz_basic(&parts[0], &parts[1], 1);

    for (i = 2; i + 1 < FUZZ_PARTS; i += 2) {
        params[i / 2 - 1].name = parts[i];
        params[i / 2 - 1].value = parts[i + 1];
    }

    fuzz_body(params, n > 2 ? (n - 1) / 2 : 0);

    fuzz_digest(parts, n);
    fuzz_parted(data, size);

    return 0;
}
