
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _BOG_STATE_H_INCLUDED_
#define _BOG_STATE_H_INCLUDED_


#include "bog_oauth.h"
#include "bog_policy.h"


/*
 * A token as a state file has it, for a warm start.  All numbers are
 * big-endian.
 *
 *     magic      8   "bogstate"
 *     version    1   1
 *     salt      32   random
 *     nonce     12   random
 *     sealed    1024 * N
 *         start      8   ms since the epoch: of the token's life
 *         lifetime   8   ms
 *         refresh    8   ms since the epoch: the next fetch is due
 *         length     4   of the token
 *         token
 *         zeros          up to the end: they hide the size of the token
 *     tag       16
 *
 * It is sealed by AES-256-GCM.  The key is HKDF-SHA-256 (RFC 5869) of the
 * client secret with the salt and "nginx-bog state 1".  The additional data are
 * all bytes before the sealed ones, and the digest of the source, so that no
 * other source can use the file.
 */


#define BOG_STATE_MAGIC     "bogstate"
#define BOG_STATE_VERSION   1
#define BOG_STATE_INFO      "nginx-bog state 1"

#define BOG_STATE_MAGIC_LEN  8
#define BOG_STATE_SALT_LEN   32
#define BOG_STATE_NONCE_LEN  12
#define BOG_STATE_KEY_LEN    32
#define BOG_STATE_TAG_LEN    16

/* the bytes before the sealed ones, and the sealed bytes before the token */

#define BOG_STATE_HEAD                                                        \
    (BOG_STATE_MAGIC_LEN + 1 + BOG_STATE_SALT_LEN + BOG_STATE_NONCE_LEN)
#define BOG_STATE_FIELDS    28

#define BOG_STATE_STEP      1024

#define BOG_STATE_SEALED(token_len)                                           \
    ((BOG_STATE_FIELDS + (token_len) + BOG_STATE_STEP - 1)                    \
     / BOG_STATE_STEP * BOG_STATE_STEP)

#define BOG_STATE_SIZE(token_len)                                             \
    (BOG_STATE_HEAD + BOG_STATE_SEALED(token_len) + BOG_STATE_TAG_LEN)

#define BOG_STATE_MIN       BOG_STATE_SIZE(1)
#define BOG_STATE_MAX       BOG_STATE_SIZE(BOG_OAUTH_TOKEN_MAX)

/* no time in a file is later, and no lifetime longer: the year 33658 */

#define BOG_STATE_TIME_MAX  ((int64_t) 1000000000000000)


typedef struct {
    bog_life_t            life;
    const unsigned char  *token;
    size_t                len;
} bog_state_t;


typedef enum {
    BOG_STATE_OK = 0,
    BOG_STATE_FOREIGN,          /* not a state file */
    BOG_STATE_OTHER_VERSION,
    BOG_STATE_BAD_SIZE,         /* cut short, or made longer */
    BOG_STATE_BAD_SEAL,         /* changed, or of another source or secret */
    BOG_STATE_MALFORMED,        /* sealed with our secret, but wrong inside */
    BOG_STATE_FAILED            /* OpenSSL failed */
} bog_state_status_e;


/*
 * Seals the state into dst, guarded memory with room for
 * BOG_STATE_SIZE(state->len) bytes.  Returns the length, or 0, with nothing in
 * dst, if OpenSSL fails or bog_state_open() would not take the state.
 */
size_t bog_state_seal(unsigned char *dst, const bog_state_t *state,
    const bog_str_t *secret, const unsigned char digest[BOG_OAUTH_DIGEST_LEN]);

/*
 * Opens a file of len bytes in place: p is guarded memory, and state->token
 * points into it.  If the result is not BOG_STATE_OK, p is wiped, and all of
 * *state is zero.
 */
bog_state_status_e bog_state_open(bog_state_t *state, unsigned char *p,
    size_t len, const bog_str_t *secret,
    const unsigned char digest[BOG_OAUTH_DIGEST_LEN]);


#endif /* _BOG_STATE_H_INCLUDED_ */
