
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_conf.h"
#include "ngx_http_bog_source.h"
#include "ngx_http_bog_store.h"


/*
 * Which locations share an account, and what is in it.  The merge of a location
 * calls this file; an account is made for the first location that passes
 * requests on, and never changes afterwards.  The token request contains the
 * secret, so it must be in guarded memory only.
 */


/* a name, and how many accounts have asked for it */

typedef struct {
    ngx_str_node_t   node;
    ngx_uint_t       n;
} ngx_http_bog_name_t;


static ngx_int_t ngx_http_bog_account_digest(ngx_conf_t *cf,
    ngx_http_bog_loc_conf_t *blcf, ngx_str_t *secret, u_char *digest);
static ngx_uint_t ngx_http_bog_setting_differs(ngx_command_t *cmd,
    ngx_http_bog_loc_conf_t *one, ngx_http_bog_loc_conf_t *two);
static ngx_int_t ngx_http_bog_account_create(ngx_conf_t *cf,
    ngx_http_bog_loc_conf_t *blcf, u_char *digest);
static ngx_int_t ngx_http_bog_account_check(ngx_conf_t *cf,
    ngx_http_bog_loc_conf_t *blcf);
static ngx_int_t ngx_http_bog_account_write_request(ngx_conf_t *cf,
    ngx_http_bog_account_t *account);
static ngx_int_t ngx_http_bog_account_set_name(ngx_conf_t *cf,
    ngx_http_bog_account_t *account);
static ngx_int_t ngx_http_bog_account_set_scope(ngx_conf_t *cf,
    ngx_http_bog_account_t *account);
static ngx_int_t ngx_http_bog_account_set_state(ngx_conf_t *cf,
    ngx_http_bog_account_t *account);
static ngx_int_t ngx_http_bog_number_name(ngx_conf_t *cf, ngx_str_t *name,
    char mark);


ngx_int_t
ngx_http_bog_account_get(ngx_conf_t *cf, ngx_http_bog_loc_conf_t *blcf)
{
    u_char                   digest[BOG_OAUTH_DIGEST_LEN];
    ngx_command_t           *cmd;
    ngx_http_bog_account_t  *account;

    blcf->client_id->used = 1;

    if (ngx_http_bog_account_find(cf, blcf, digest, &account) != NGX_OK) {
        return NGX_ERROR;
    }

    if (account == NULL) {
        return ngx_http_bog_account_create(cf, blcf, digest);
    }

    if (blcf->token == NGX_HTTP_BOG_REQUIRED) {
        account->required = 1;
    }

    cmd = ngx_http_bog_module.commands;

    for ( ;; ) {
        cmd = ngx_http_bog_find_difference(cmd,
                            offsetof(ngx_http_bog_loc_conf_t, refresh_before),
                            account->blcf, blcf);
        if (cmd == NULL) {
            return NGX_OK;
        }

        ngx_http_bog_conf_log(NGX_LOG_WARN, cf, &blcf->client_id->place,
                              "locations that share the token of client id "
                              "\"%V\" differ in \"%V\", that of the first "
                              "one is used",
                              &account->client_id, &cmd->name);
        cmd++;
    }
}


ngx_int_t
ngx_http_bog_account_find(ngx_conf_t *cf, ngx_http_bog_loc_conf_t *blcf,
    u_char digest[BOG_OAUTH_DIGEST_LEN], ngx_http_bog_account_t **account)
{
    ngx_str_t                  key;
    ngx_http_bog_main_conf_t  *bmcf;

    if (ngx_http_bog_account_digest(cf, blcf, &blcf->client_secret->value,
                                    digest)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    bmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_bog_module);

    key.data = digest;
    key.len = BOG_OAUTH_DIGEST_LEN;

    *account = (ngx_http_bog_account_t *)
                   ngx_str_rbtree_lookup(&bmcf->digests, &key,
                                         ngx_crc32_short(key.data, key.len));

    if (*account) {
        blcf->source = (*account)->source;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_account_digest(ngx_conf_t *cf, ngx_http_bog_loc_conf_t *blcf,
    ngx_str_t *secret, u_char *digest)
{
    u_char       certificate[EVP_MAX_MD_SIZE];
    bog_str_t   *part;
    ngx_uint_t   n;

    n = blcf->params ? blcf->params->nelts : 0;

    part = ngx_palloc(cf->temp_pool, (5 + 2 * n) * sizeof(bog_str_t));
    if (part == NULL) {
        return NGX_ERROR;
    }

    part[0].data = blcf->endpoint->url.data;
    part[0].len = blcf->endpoint->url.len;
    part[1].data = blcf->client_id->value.data;
    part[1].len = blcf->client_id->value.len;
    part[2].data = secret->data;
    part[2].len = secret->len;
    part[3].data = (u_char *) (blcf->client_auth ? "1" : "0");
    part[3].len = 1;

    if (n) {
        /* a parameter is two strings */

        ngx_memcpy(&part[4], blcf->params->elts, n * sizeof(bog_param_t));
    }

    n = 4 + 2 * n;

    if (blcf->ssl_certificate.len) {
        part[n].data = certificate;
        part[n].len = ngx_http_bog_certificate_digest(cf,
                                                      &blcf->ssl_certificate,
                                                      certificate);
        n++;
    }

    if (bog_oauth_digest(digest, part, n) != 0) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "SHA-256 of the client credentials failed");
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_command_t *
ngx_http_bog_find_difference(ngx_command_t *cmd, size_t first,
    ngx_http_bog_loc_conf_t *one, ngx_http_bog_loc_conf_t *two)
{
    for ( /* void */ ; cmd->name.len; cmd++) {
        if (cmd->conf == NGX_HTTP_LOC_CONF_OFFSET
            && cmd->offset >= first
            && ngx_http_bog_setting_differs(cmd, one, two))
        {
            return cmd;
        }
    }

    return NULL;
}


/* The handler of the directive tells the type of its field. */

static ngx_uint_t
ngx_http_bog_setting_differs(ngx_command_t *cmd, ngx_http_bog_loc_conf_t *one,
    ngx_http_bog_loc_conf_t *two)
{
    u_char       *p, *q;
    ngx_str_t    *s, *t;
    ngx_uint_t    i, n;
    ngx_array_t  *a, *b;

    p = (u_char *) one + cmd->offset;
    q = (u_char *) two + cmd->offset;

    if (cmd->set == ngx_conf_set_str_slot) {
        s = (ngx_str_t *) p;
        t = (ngx_str_t *) q;
        n = 1;

    } else if (cmd->set == ngx_conf_set_keyval_slot) {
        a = *(ngx_array_t **) p;
        b = *(ngx_array_t **) q;

        if (a == NULL || b == NULL || a->nelts != b->nelts) {
            return a != b;
        }

        /* an ngx_keyval_t is two strings */

        s = a->elts;
        t = b->elts;
        n = 2 * a->nelts;

    } else if (cmd->set == ngx_http_bog_bind) {

        if (one->local == NULL || two->local == NULL) {
            return one->local != two->local;
        }

        s = &one->local->addr->name;
        t = &two->local->addr->name;
        n = 1;

    } else {
        /* a number, a flag, a time, or a set of bits */

        return *(ngx_uint_t *) p != *(ngx_uint_t *) q;
    }

    for (i = 0; i < n; i++) {
        if (s[i].len != t[i].len
            || (s[i].len && ngx_memcmp(s[i].data, t[i].data, s[i].len) != 0))
        {
            return 1;
        }
    }

    return 0;
}


static ngx_int_t
ngx_http_bog_account_create(ngx_conf_t *cf, ngx_http_bog_loc_conf_t *blcf,
    u_char *digest)
{
    ngx_http_bog_account_t    *account, **slot;
    ngx_http_bog_main_conf_t  *bmcf;

    bmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_bog_module);

    account = ngx_pcalloc(cf->pool, sizeof(ngx_http_bog_account_t));
    if (account == NULL) {
        return NGX_ERROR;
    }

    account->index = bmcf->accounts.nelts;
    account->blcf = blcf;
    account->client_id = blcf->client_id->value;
    account->endpoint = blcf->endpoint;
    account->required = (blcf->token == NGX_HTTP_BOG_REQUIRED);

    account->refresh_before = blcf->refresh_before;
    account->max_lifetime = blcf->max_lifetime;
    account->default_lifetime = blcf->default_lifetime;

    ngx_memcpy(account->digest, digest, BOG_OAUTH_DIGEST_LEN);
    account->node.str.data = account->digest;
    account->node.str.len = BOG_OAUTH_DIGEST_LEN;
    account->node.node.key = ngx_crc32_short(digest, BOG_OAUTH_DIGEST_LEN);

    ngx_rbtree_insert(&bmcf->digests, &account->node.node);

    if (ngx_http_bog_account_check(cf, blcf) != NGX_OK
        || ngx_http_bog_endpoint_check(cf, account->endpoint) != NGX_OK
        || ngx_http_bog_account_set_upstream(cf, account) != NGX_OK
        || ngx_http_bog_account_write_request(cf, account) != NGX_OK
        || ngx_http_bog_account_set_name(cf, account) != NGX_OK
        || ngx_http_bog_account_set_scope(cf, account) != NGX_OK
        || ngx_http_bog_account_set_state(cf, account) != NGX_OK
        || ngx_http_bog_store_add(cf, account) != NGX_OK)
    {
        return NGX_ERROR;
    }

    account->source = ngx_pcalloc(cf->pool, sizeof(ngx_http_bog_source_t));
    if (account->source == NULL) {
        return NGX_ERROR;
    }

    slot = ngx_array_push(&bmcf->accounts);
    if (slot == NULL) {
        return NGX_ERROR;
    }

    *slot = account;

    blcf->source = account->source;

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_account_check(ngx_conf_t *cf, ngx_http_bog_loc_conf_t *blcf)
{
    size_t      i;
    ngx_str_t  *id, *secret;

    if (blcf->ssl_certificate.len && blcf->ssl_certificate_key.len == 0) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "no \"bog_ssl_certificate_key\" is defined "
                      "for certificate \"%V\"", &blcf->ssl_certificate);
        return NGX_ERROR;
    }

    if (blcf->ssl_certificate_key.len && blcf->ssl_certificate.data == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "no \"bog_ssl_certificate\" is defined for key \"%V\"",
                      &blcf->ssl_certificate_key);
        return NGX_ERROR;
    }

    if (blcf->client_auth == NGX_HTTP_BOG_BASIC_URLENCODED) {
        return NGX_OK;
    }

    id = &blcf->client_id->value;

    for (i = 0; i < id->len; i++) {
        if (id->data[i] == ' ' || id->data[i] >= 0x80 || id->data[i] == ':') {
            ngx_http_bog_conf_log(NGX_LOG_EMERG, cf, &blcf->client_id->place,
                                  "client id \"%V\" is not of visible ASCII "
                                  "characters other than \":\", as "
                                  "\"bog_client_auth basic\" needs it", id);
            return NGX_ERROR;
        }
    }

    secret = &blcf->client_secret->value;

    if (ngx_strlchr(secret->data, secret->data + secret->len, '%')
        || ngx_strlchr(secret->data, secret->data + secret->len, '+'))
    {
        ngx_http_bog_conf_log(NGX_LOG_WARN, cf, &blcf->client_secret->place,
                              "the client secret has a \"%%\" or a \"+\", "
                              "which some servers decode, see "
                              "\"bog_client_auth\"");
    }

    return NGX_OK;
}


/*
 * The whole token request is written once, in guarded memory, and every fetch
 * sends it from there.
 */

static ngx_int_t
ngx_http_bog_account_write_request(ngx_conf_t *cf,
    ngx_http_bog_account_t *account)
{
    size_t                     basic, body;
    u_char                    *p;
    bog_str_t                  id, secret;
    ngx_str_t                 *host;
    ngx_uint_t                 n;
    bog_param_t               *params;
    ngx_http_bog_loc_conf_t   *blcf;
    ngx_http_bog_main_conf_t  *bmcf;

    static char  first[] =
        "POST %V HTTP/1.1" CRLF
        "Host: %V" CRLF
        "Authorization: ";

    static char  second[] = CRLF
        "Content-Type: application/x-www-form-urlencoded" CRLF
        "Accept: application/json" CRLF
        "Accept-Encoding: identity" CRLF
        "User-Agent: nginx-bog/" NGX_HTTP_BOG_VERSION CRLF
        "Content-Length: %uz" CRLF CRLF;

    bmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_bog_module);

    blcf = account->blcf;

    host = blcf->ssl_name.len ? &blcf->ssl_name
                              : &account->endpoint->authority;

    id.data = blcf->client_id->value.data;
    id.len = blcf->client_id->value.len;
    secret.data = blcf->client_secret->value.data;
    secret.len = blcf->client_secret->value.len;

    params = blcf->params ? blcf->params->elts : NULL;
    n = blcf->params ? blcf->params->nelts : 0;

    basic = bog_oauth_basic(NULL, &id, &secret, blcf->client_auth);
    body = bog_oauth_body(NULL, params, n);

    p = ngx_http_bog_pool_alloc(bmcf->requests,
                                sizeof(first) + account->endpoint->uri.len
                                + host->len + basic + sizeof(second)
                                + NGX_SIZE_T_LEN + body, cf->log);
    if (p == NULL) {
        return NGX_ERROR;
    }

    account->request.data = p;

    p = ngx_sprintf(p, first, &account->endpoint->uri, host);
    p += bog_oauth_basic(p, &id, &secret, blcf->client_auth);
    p = ngx_sprintf(p, second, body);
    p += bog_oauth_body(p, params, n);

    account->request.len = p - account->request.data;

    return NGX_OK;
}


/*
 * The name is "ID@HOST".  Accounts with the same one, which differ in the
 * secret, the path or the parameters, get a number behind it.
 */

static ngx_int_t
ngx_http_bog_account_set_name(ngx_conf_t *cf, ngx_http_bog_account_t *account)
{
    ngx_str_t  *name;

    name = &account->name;

    name->len = account->client_id.len + 1 + account->endpoint->authority.len;

    name->data = ngx_pnalloc(cf->pool, name->len + 1 + NGX_INT_T_LEN);
    if (name->data == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(name->data, "%V@%V", &account->client_id,
                &account->endpoint->authority);

    return ngx_http_bog_number_name(cf, name, '#');
}


/*
 * Of all parameters only "scope", which RFC 6749 defines, is shown in the
 * status.  What others hold is between the client and the endpoint.
 */

static ngx_int_t
ngx_http_bog_account_set_scope(ngx_conf_t *cf, ngx_http_bog_account_t *account)
{
    u_char       *p;
    ngx_uint_t    i;
    ngx_array_t  *params;
    bog_param_t  *param;

    params = account->blcf->params;

    for (i = 0; params && i < params->nelts; i++) {

        param = (bog_param_t *) params->elts + i;

        if (param->name.len != 5
            || ngx_strncmp(param->name.data, "scope", 5) != 0)
        {
            continue;
        }

        p = ngx_pnalloc(cf->pool, bog_oauth_form_encode(NULL, &param->value));
        if (p == NULL) {
            return NGX_ERROR;
        }

        account->scope.len = bog_oauth_form_encode(p, &param->value);
        account->scope.data = p;
    }

    return NGX_OK;
}


/*
 * The name of the file does not depend on the secret, so that a new secret
 * leads to the same file.
 */

static ngx_int_t
ngx_http_bog_account_set_state(ngx_conf_t *cf, ngx_http_bog_account_t *account)
{
    u_char                     digest[BOG_OAUTH_DIGEST_LEN];
    ngx_str_t                  name;
    ngx_http_bog_loc_conf_t   *blcf;
    ngx_http_bog_main_conf_t  *bmcf;

    static ngx_str_t  none = ngx_null_string;

    bmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_bog_module);

    if (bmcf->state_dir.path == NULL) {
        return NGX_OK;
    }

    blcf = account->blcf;

    if (ngx_http_bog_account_digest(cf, blcf, &none, digest) != NGX_OK) {
        return NGX_ERROR;
    }

    name.len = (size_t) 2 * NGX_HTTP_BOG_STATE_NAME;

    name.data = ngx_pnalloc(cf->pool, name.len + 1 + NGX_INT_T_LEN);
    if (name.data == NULL) {
        return NGX_ERROR;
    }

    ngx_hex_dump(name.data, digest, NGX_HTTP_BOG_STATE_NAME);

    /* accounts that differ in the secret only are numbered in their order */

    if (ngx_http_bog_number_name(cf, &name, '-') != NGX_OK) {
        return NGX_ERROR;
    }

    account->state = ngx_http_bog_state_create(cf->pool,
                                               &bmcf->state_dir.path->name,
                                               &name,
                                               &blcf->client_secret->value,
                                               bmcf->requests);

    return account->state ? NGX_OK : NGX_ERROR;
}


/*
 * Appends the mark and a number to a name that earlier accounts have had, which
 * needs room for 1 + NGX_INT_T_LEN bytes more.
 */

static ngx_int_t
ngx_http_bog_number_name(ngx_conf_t *cf, ngx_str_t *name, char mark)
{
    uint32_t                   hash;
    ngx_http_bog_name_t       *node;
    ngx_http_bog_main_conf_t  *bmcf;

    bmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_bog_module);

    hash = ngx_crc32_short(name->data, name->len);

    node = (ngx_http_bog_name_t *)
               ngx_str_rbtree_lookup(&bmcf->names, name, hash);

    if (node == NULL) {
        node = ngx_pcalloc(cf->pool, sizeof(ngx_http_bog_name_t));
        if (node == NULL) {
            return NGX_ERROR;
        }

        node->node.str = *name;
        node->node.node.key = hash;

        ngx_rbtree_insert(&bmcf->names, &node->node.node);
    }

    if (++node->n > 1) {
        name->len = ngx_sprintf(name->data + name->len, "%c%ui", mark, node->n)
                    - name->data;
    }

    return NGX_OK;
}
