
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _SEAL_H_INCLUDED_
#define _SEAL_H_INCLUDED_


/*
 * Seals any bytes as a state file has them, by HKDF of its own: for tests of
 * what nobody but the owner of the secret could make.
 */


#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "bog_state.h"


/* RFC 5869: one block is all that a key of 32 bytes takes */

static int
seal_key(unsigned char key[32], const unsigned char *salt,
    const bog_str_t *secret)
{
    unsigned char  prk[32], info[sizeof(BOG_STATE_INFO)];

    memcpy(info, BOG_STATE_INFO, sizeof(info) - 1);
    info[sizeof(info) - 1] = 1;

    return HMAC(EVP_sha256(), salt, 32, secret->data, secret->len, prk, NULL)
           && HMAC(EVP_sha256(), prk, 32, info, sizeof(info), key, NULL);
}


/*
 * dst gets 53 bytes, the len bytes of plain sealed, and 16 bytes.  Returns 1,
 * or 0 where OpenSSL fails.
 */

static int
seal_plain(unsigned char *dst, const unsigned char *plain, size_t len,
    int version, const bog_str_t *secret, const unsigned char *digest)
{
    int              n, ok;
    unsigned char    key[32];
    EVP_CIPHER_CTX  *ctx;

    memcpy(dst, "bogstate", 8);
    dst[8] = (unsigned char) version;
    memset(dst + 9, 0x5a, 44);

    ctx = EVP_CIPHER_CTX_new();
    if (ctx == NULL) {
        return 0;
    }

    ok = seal_key(key, dst + 9, secret)
         && EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, dst + 41)
         && EVP_EncryptUpdate(ctx, NULL, &n, dst, 53)
         && EVP_EncryptUpdate(ctx, NULL, &n, digest, 32)
         && EVP_EncryptUpdate(ctx, dst + 53, &n, plain, (int) len)
         && EVP_EncryptFinal_ex(ctx, dst + 53 + len, &n)
         && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, 16,
                                dst + 53 + len);

    EVP_CIPHER_CTX_free(ctx);

    return ok;
}


#endif /* _SEAL_H_INCLUDED_ */
