
/*
 * Copyright (C) The nginx-bog authors
 */


#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/rand.h>

#include "bog_memory.h"
#include "bog_state.h"


/*
 * This file turns a token into the bytes of a state file, and back.  The store
 * calls it and reads and writes the files.  The token and the keys pass through
 * guarded memory and the stack only, and both are wiped.
 */


#define BOG_STATE_SALT   (BOG_STATE_MAGIC_LEN + 1)
#define BOG_STATE_NONCE  (BOG_STATE_SALT + BOG_STATE_SALT_LEN)


static int bog_state_sane(const bog_state_t *state);
static bog_state_status_e bog_state_check_head(const unsigned char *p,
    size_t len);
static bog_state_status_e bog_state_crypt(unsigned char *p, size_t len,
    const bog_str_t *secret, const unsigned char *digest, int seal);
static int bog_state_key(unsigned char *key, const unsigned char *salt,
    const bog_str_t *secret);
static void bog_state_put(unsigned char *p, uint64_t n, size_t size);
static uint64_t bog_state_get(const unsigned char *p, size_t size);


size_t
bog_state_seal(unsigned char *dst, const bog_state_t *state,
    const bog_str_t *secret, const unsigned char digest[BOG_OAUTH_DIGEST_LEN])
{
    size_t          len;
    unsigned char  *p;

    if (!bog_state_sane(state)) {
        return 0;
    }

    len = BOG_STATE_SIZE(state->len);

    memset(dst, 0, len);
    memcpy(dst, BOG_STATE_MAGIC, BOG_STATE_MAGIC_LEN);
    dst[BOG_STATE_MAGIC_LEN] = BOG_STATE_VERSION;

    p = dst + BOG_STATE_HEAD;

    bog_state_put(p, (uint64_t) state->life.start, 8);
    bog_state_put(p + 8, (uint64_t) state->life.lifetime, 8);
    bog_state_put(p + 16, (uint64_t) state->life.refresh, 8);
    bog_state_put(p + 24, state->len, 4);
    memcpy(p + BOG_STATE_FIELDS, state->token, state->len);

    if (RAND_bytes(dst + BOG_STATE_SALT,
                   BOG_STATE_SALT_LEN + BOG_STATE_NONCE_LEN)
        != 1
        || bog_state_crypt(dst, len, secret, digest, 1) != BOG_STATE_OK)
    {
        bog_memory_wipe(dst, len);
        return 0;
    }

    return len;
}


bog_state_status_e
bog_state_open(bog_state_t *state, unsigned char *p, size_t len,
    const bog_str_t *secret, const unsigned char digest[BOG_OAUTH_DIGEST_LEN])
{
    size_t               i, size;
    unsigned char       *fields;
    bog_state_status_e   status;

    status = bog_state_check_head(p, len);

    if (status == BOG_STATE_OK) {
        status = bog_state_crypt(p, len, secret, digest, 0);
    }

    if (status != BOG_STATE_OK) {
        goto failed;
    }

    fields = p + BOG_STATE_HEAD;
    size = len - BOG_STATE_HEAD - BOG_STATE_TAG_LEN;

    state->life.start = (int64_t) bog_state_get(fields, 8);
    state->life.lifetime = (int64_t) bog_state_get(fields + 8, 8);
    state->life.refresh = (int64_t) bog_state_get(fields + 16, 8);
    state->len = bog_state_get(fields + 24, 4);
    state->token = fields + BOG_STATE_FIELDS;

    /*
     * Whoever has the secret can seal anything.  The token becomes a part of a
     * header line, and the times are added up, so all of it is checked.
     */

    status = BOG_STATE_MALFORMED;

    if (state->len > BOG_OAUTH_TOKEN_MAX
        || BOG_STATE_SEALED(state->len) != size
        || !bog_state_sane(state))
    {
        goto failed;
    }

    for (i = BOG_STATE_FIELDS + state->len; i < size; i++) {
        if (fields[i] != 0) {
            goto failed;
        }
    }

    return BOG_STATE_OK;

failed:

    memset(state, 0, sizeof(bog_state_t));
    bog_memory_wipe(p, len);

    return status;
}


static int
bog_state_sane(const bog_state_t *state)
{
    const bog_life_t  *life;

    life = &state->life;

    return life->start > 0 && life->start <= BOG_STATE_TIME_MAX
           && life->lifetime > 0 && life->lifetime <= BOG_STATE_TIME_MAX
           && life->refresh > 0 && life->refresh <= BOG_STATE_TIME_MAX
           && state->len > 0 && state->len <= BOG_OAUTH_TOKEN_MAX
           && bog_oauth_b64token((const char *) state->token, state->len);
}


/* the version comes first: another one may have another size */

static bog_state_status_e
bog_state_check_head(const unsigned char *p, size_t len)
{
    size_t  n;

    n = (len < BOG_STATE_MAGIC_LEN) ? len : BOG_STATE_MAGIC_LEN;

    if (n && memcmp(p, BOG_STATE_MAGIC, n) != 0) {
        return BOG_STATE_FOREIGN;
    }

    if (len > BOG_STATE_MAGIC_LEN
        && p[BOG_STATE_MAGIC_LEN] != BOG_STATE_VERSION)
    {
        return BOG_STATE_OTHER_VERSION;
    }

    if (len < BOG_STATE_MIN || len > BOG_STATE_MAX
        || (len - BOG_STATE_HEAD - BOG_STATE_TAG_LEN) % BOG_STATE_STEP != 0)
    {
        return BOG_STATE_BAD_SIZE;
    }

    return BOG_STATE_OK;
}


static bog_state_status_e
bog_state_crypt(unsigned char *p, size_t len, const bog_str_t *secret,
    const unsigned char *digest, int seal)
{
    int                  n;
    unsigned char        key[BOG_STATE_KEY_LEN], *sealed, *tag;
    EVP_CIPHER_CTX      *ctx;
    bog_state_status_e   status;

    status = BOG_STATE_FAILED;

    sealed = p + BOG_STATE_HEAD;
    tag = p + len - BOG_STATE_TAG_LEN;

    ctx = EVP_CIPHER_CTX_new();

    if (ctx == NULL
        || !bog_state_key(key, p + BOG_STATE_SALT, secret)
        || EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, key,
                             p + BOG_STATE_NONCE, seal) != 1
        || EVP_CipherUpdate(ctx, NULL, &n, p, BOG_STATE_HEAD) != 1
        || EVP_CipherUpdate(ctx, NULL, &n, digest, BOG_OAUTH_DIGEST_LEN) != 1
        || EVP_CipherUpdate(ctx, sealed, &n, sealed, (int) (tag - sealed))
           != 1)
    {
        goto done;
    }

    if (!seal && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG,
                                     BOG_STATE_TAG_LEN, tag) != 1)
    {
        goto done;
    }

    if (EVP_CipherFinal_ex(ctx, tag, &n) != 1) {
        status = seal ? BOG_STATE_FAILED : BOG_STATE_BAD_SEAL;
        goto done;
    }

    if (seal && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG,
                                    BOG_STATE_TAG_LEN, tag) != 1)
    {
        goto done;
    }

    status = BOG_STATE_OK;

done:

    /* this wipes the context's copy of the key; then registers are cleared */

    EVP_CIPHER_CTX_free(ctx);
    bog_memory_wipe(key, sizeof(key));

    /* nginx would log what is left in the queue as an error of its own */

    if (status != BOG_STATE_OK) {
        ERR_clear_error();
    }

    return status;
}


static int
bog_state_key(unsigned char *key, const unsigned char *salt,
    const bog_str_t *secret)
{
    int            ok;
    size_t         len;
    EVP_PKEY_CTX  *ctx;

    ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, NULL);
    if (ctx == NULL) {
        return 0;
    }

    len = BOG_STATE_KEY_LEN;

    ok = EVP_PKEY_derive_init(ctx) == 1
         && EVP_PKEY_CTX_set_hkdf_md(ctx, EVP_sha256()) == 1
         && EVP_PKEY_CTX_set1_hkdf_salt(ctx, salt, BOG_STATE_SALT_LEN) == 1
         && EVP_PKEY_CTX_set1_hkdf_key(ctx, secret->data, (int) secret->len)
            == 1
         && EVP_PKEY_CTX_add1_hkdf_info(ctx,
                                        (unsigned char *) BOG_STATE_INFO,
                                        sizeof(BOG_STATE_INFO) - 1)
            == 1
         && EVP_PKEY_derive(ctx, key, &len) == 1
         && len == BOG_STATE_KEY_LEN;

    EVP_PKEY_CTX_free(ctx);

    return ok;
}


static void
bog_state_put(unsigned char *p, uint64_t n, size_t size)
{
    while (size--) {
        p[size] = (unsigned char) n;
        n >>= 8;
    }
}


static uint64_t
bog_state_get(const unsigned char *p, size_t size)
{
    size_t    i;
    uint64_t  n;

    n = 0;

    for (i = 0; i < size; i++) {
        n = n << 8 | p[i];
    }

    return n;
}
