
/*
 * Copyright (C) The nginx-bog authors
 */


#include <string.h>

#include <openssl/evp.h>

#include "bog_memory.h"
#include "bog_oauth.h"


/*
 * This file writes what is sent to a token endpoint, and makes digests.  The
 * configuration calls it, once for each source, and each length is asked for
 * before anything is written.  Secrets go from memory of the caller to memory
 * of the caller: nothing of them may stay anywhere else.
 */


/* NULL plus a number is undefined */

#define bog_oauth_at(dst, n)  (((dst) == NULL) ? NULL : (dst) + (n))


static size_t bog_oauth_put(unsigned char *dst, const void *data, size_t len);
static size_t bog_oauth_half(unsigned char *dst, const bog_str_t *src,
    int urlencode);


size_t
bog_oauth_basic(unsigned char *dst, const bog_str_t *id,
    const bog_str_t *secret, int urlencode)
{
    size_t          len, n;
    unsigned char  *p, *work;

    n = bog_oauth_half(NULL, id, urlencode) + 1
        + bog_oauth_half(NULL, secret, urlencode);

    len = sizeof("Basic ") - 1 + (n + 2) / 3 * 4;

    if (dst == NULL) {
        return len + 1 + n;
    }

    /* the encoder writes a zero at its end, and must not overwrite its input */

    work = dst + len + 1;

    p = work;
    p += bog_oauth_half(p, id, urlencode);
    *p++ = ':';
    (void) bog_oauth_half(p, secret, urlencode);

    p = dst + bog_oauth_put(dst, "Basic ", sizeof("Basic ") - 1);
    (void) EVP_EncodeBlock(p, work, (int) n);

    bog_memory_wipe(dst + len, 1 + n);

    return len;
}


size_t
bog_oauth_body(unsigned char *dst, const bog_param_t *params, size_t n)
{
    size_t  i, len;

    len = bog_oauth_put(dst, "grant_type=client_credentials",
                        sizeof("grant_type=client_credentials") - 1);

    for (i = 0; i < n; i++) {
        len += bog_oauth_put(bog_oauth_at(dst, len), "&", 1);
        len += bog_oauth_form_encode(bog_oauth_at(dst, len), &params[i].name);
        len += bog_oauth_put(bog_oauth_at(dst, len), "=", 1);
        len += bog_oauth_form_encode(bog_oauth_at(dst, len), &params[i].value);
    }

    return len;
}


size_t
bog_oauth_form_encode(unsigned char *dst, const bog_str_t *src)
{
    size_t                i, len;
    unsigned char         ch;

    static const char     plain[] = BOG_OAUTH_ALNUM " *-._";
    static unsigned char  hex[] = "0123456789ABCDEF";

    len = 0;

    for (i = 0; i < src->len; i++) {
        ch = src->data[i];

        if (memchr(plain, ch, sizeof(plain) - 1)) {
            if (dst) {
                dst[len] = (ch == ' ') ? '+' : ch;
            }

            len++;

        } else {
            if (dst) {
                dst[len] = '%';
                dst[len + 1] = hex[ch >> 4];
                dst[len + 2] = hex[ch & 0xf];
            }

            len += 3;
        }
    }

    return len;
}


int
bog_oauth_digest(unsigned char digest[BOG_OAUTH_DIGEST_LEN],
    const bog_str_t *parts, size_t n)
{
    int             ok;
    size_t          i, k;
    EVP_MD_CTX     *ctx;
    unsigned char   len[8];

    ctx = EVP_MD_CTX_new();
    if (ctx == NULL) {
        return -1;
    }

    ok = EVP_DigestInit_ex(ctx, EVP_sha256(), NULL);

    for (i = 0; ok && i < n; i++) {

        for (k = 0; k < 8; k++) {
            len[k] = (unsigned char) ((uint64_t) parts[i].len >> (56 - 8 * k));
        }

        ok = EVP_DigestUpdate(ctx, len, sizeof(len))
             && EVP_DigestUpdate(ctx, parts[i].data, parts[i].len);
    }

    ok = ok && EVP_DigestFinal_ex(ctx, digest, NULL);

    /* this wipes the context's copy of the parts */

    EVP_MD_CTX_free(ctx);

    return ok ? 0 : -1;
}


int
bog_oauth_token_id(char id[16], const unsigned char *token, size_t len)
{
    size_t         i;
    unsigned char  digest[BOG_OAUTH_DIGEST_LEN];

    static char    hex[] = "0123456789abcdef";

    if (!EVP_Digest(token, len, digest, NULL, EVP_sha256(), NULL)) {
        return -1;
    }

    for (i = 0; i < 8; i++) {
        id[2 * i] = hex[digest[i] >> 4];
        id[2 * i + 1] = hex[digest[i] & 0xf];
    }

    return 0;
}


static size_t
bog_oauth_put(unsigned char *dst, const void *data, size_t len)
{
    if (dst && len) {
        memcpy(dst, data, len);
    }

    return len;
}


/* writes the id or the secret of "id:secret" */

static size_t
bog_oauth_half(unsigned char *dst, const bog_str_t *src, int urlencode)
{
    return urlencode ? bog_oauth_form_encode(dst, src)
                     : bog_oauth_put(dst, src->data, src->len);
}
