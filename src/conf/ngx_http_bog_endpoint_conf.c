
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_endpoint_conf.h"


static char *ngx_http_bog_endpoint_parse(ngx_conf_t *cf,
    ngx_http_bog_endpoint_t *endpoint);
static char *ngx_http_bog_endpoint_check_url(ngx_str_t *url);
static ngx_uint_t ngx_http_bog_endpoint_localhost(ngx_str_t *host);
static char *ngx_http_bog_endpoint_scheme(ngx_http_bog_endpoint_t *endpoint,
    ngx_url_t *u);
static ngx_int_t ngx_http_bog_endpoint_uri(ngx_conf_t *cf,
    ngx_http_bog_endpoint_t *endpoint, ngx_url_t *u);
static ngx_int_t ngx_http_bog_endpoint_upstream(ngx_conf_t *cf,
    ngx_http_bog_endpoint_t *endpoint);
static ngx_uint_t ngx_http_bog_endpoint_loopback(
    ngx_http_bog_endpoint_t *endpoint);


ngx_http_bog_endpoint_t *
ngx_http_bog_endpoint_get(ngx_conf_t *cf, ngx_str_t *url,
    ngx_http_bog_place_t *place, char **err)
{
    ngx_uint_t                 i;
    ngx_http_bog_endpoint_t   *endpoint, **endpoints, **slot;
    ngx_http_bog_main_conf_t  *bmcf;

    bmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_bog_module);

    endpoints = bmcf->endpoints.elts;

    for (i = 0; i < bmcf->endpoints.nelts; i++) {
        if (endpoints[i]->url.len == url->len
            && ngx_strncmp(endpoints[i]->url.data, url->data, url->len) == 0)
        {
            return endpoints[i];
        }
    }

    *err = "";

    endpoint = ngx_pcalloc(cf->pool, sizeof(ngx_http_bog_endpoint_t));
    if (endpoint == NULL) {
        return NULL;
    }

    endpoint->url = *url;
    endpoint->place = *place;

    *err = ngx_http_bog_endpoint_parse(cf, endpoint);
    if (*err) {
        return NULL;
    }

    *err = "";

    slot = ngx_array_push(&bmcf->endpoints);
    if (slot == NULL) {
        return NULL;
    }

    *slot = endpoint;

    return endpoint;
}


static char *
ngx_http_bog_endpoint_parse(ngx_conf_t *cf, ngx_http_bog_endpoint_t *endpoint)
{
    char       *err;
    size_t      len;
    u_char     *p, *last;
    ngx_url_t   u;

    ngx_memzero(&u, sizeof(ngx_url_t));

    err = ngx_http_bog_endpoint_check_url(&endpoint->url);
    if (err) {
        return err;
    }

    err = ngx_http_bog_endpoint_scheme(endpoint, &u);
    if (err) {
        return err;
    }

    u.uri_part = 1;
    u.no_resolve = 1;

    if (ngx_parse_url(cf->pool, &u) != NGX_OK) {
        return u.err ? u.err : "";
    }

    if (ngx_http_bog_endpoint_uri(cf, endpoint, &u) != NGX_OK) {
        return "";
    }

    /* a copy: nginx's resolver changes it to lower case, where it stands */

    endpoint->host.len = u.host.len;
    endpoint->host.data = ngx_pstrdup(cf->pool, &u.host);
    if (endpoint->host.data == NULL) {
        return "";
    }

    endpoint->port = u.port;
    endpoint->no_port = u.no_port;
    endpoint->addr = u.addrs;
    endpoint->local = ngx_http_bog_endpoint_localhost(&u.host);

    if (u.family == AF_UNIX) {
        ngx_str_set(&endpoint->authority, "localhost");
        return NULL;
    }

    /* "host:port", without the dot that ends a name like "host." */

    p = u.url.data + u.host.len;
    last = u.uri.len ? u.uri.data : u.url.data + u.url.len;

    endpoint->authority.data = ngx_pnalloc(cf->pool, last - u.url.data);
    if (endpoint->authority.data == NULL) {
        return "";
    }

    len = u.host.len - (p[-1] == '.');

    p = ngx_cpymem(ngx_cpymem(endpoint->authority.data, u.url.data, len), p,
                   last - p);

    endpoint->authority.len = p - endpoint->authority.data;

    return NULL;
}


static char *
ngx_http_bog_endpoint_check_url(ngx_str_t *url)
{
    size_t  i;
    u_char  ch;

    for (i = 0; i < url->len; i++) {
        ch = url->data[i];

        if (ch == '$') {
            return "variables are not supported in the URL";
        }

        if (ch <= 0x20 || ch >= 0x7f || ngx_strchr("\"#<>@\\^`{|}", ch)) {
            return "invalid character in the URL";
        }
    }

    return NULL;
}


/* RFC 6761, 6.3: such names are never asked of a name server */

static ngx_uint_t
ngx_http_bog_endpoint_localhost(ngx_str_t *host)
{
    size_t   len;
    u_char  *p;

    len = sizeof("localhost") - 1;

    if (host->len < len) {
        return 0;
    }

    p = host->data + host->len - len;

    return ngx_strncasecmp(p, (u_char *) "localhost", len) == 0
           && (p == host->data || p[-1] == '.');
}


static char *
ngx_http_bog_endpoint_scheme(ngx_http_bog_endpoint_t *endpoint, ngx_url_t *u)
{
    size_t      len;
    ngx_str_t  *url;

    url = &endpoint->url;

    if (url->len > 8
        && ngx_strncasecmp(url->data, (u_char *) "https://", 8) == 0)
    {
        endpoint->ssl = 1;
        u->default_port = 443;
        len = 8;

    } else if (url->len > 7
               && ngx_strncasecmp(url->data, (u_char *) "http://", 7) == 0)
    {
        u->default_port = 80;
        len = 7;

    } else {
        return "the URL must begin with \"https://\" or \"http://\"";
    }

    u->url.data = url->data + len;
    u->url.len = url->len - len;

    return NULL;
}


static ngx_int_t
ngx_http_bog_endpoint_uri(ngx_conf_t *cf, ngx_http_bog_endpoint_t *endpoint,
    ngx_url_t *u)
{
    if (u->uri.len && u->uri.data[0] == '/') {
        endpoint->uri = u->uri;
        return NGX_OK;
    }

    /* "https://host" or "https://host?arguments" */

    endpoint->uri.len = u->uri.len + 1;

    endpoint->uri.data = ngx_pnalloc(cf->pool, endpoint->uri.len);
    if (endpoint->uri.data == NULL) {
        return NGX_ERROR;
    }

    endpoint->uri.data[0] = '/';

    if (u->uri.len) {
        ngx_memcpy(endpoint->uri.data + 1, u->uri.data, u->uri.len);
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_bog_endpoint_check(ngx_conf_t *cf, ngx_http_bog_endpoint_t *endpoint)
{
    if (endpoint->checked) {
        return NGX_OK;
    }

    endpoint->checked = 1;

    if (endpoint->addr == NULL
        && ngx_http_bog_endpoint_upstream(cf, endpoint) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (!endpoint->ssl && endpoint->upstream == NULL
        && !ngx_http_bog_endpoint_loopback(endpoint))
    {
        ngx_http_bog_conf_log(NGX_LOG_WARN, cf, &endpoint->place,
                              "the client secret is sent in clear text to "
                              "\"%V\", use \"https://\"", &endpoint->url);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_bog_endpoint_upstream(ngx_conf_t *cf,
    ngx_http_bog_endpoint_t *endpoint)
{
    ngx_str_t                       *host;
    ngx_uint_t                       i;
    ngx_http_upstream_srv_conf_t   **uscfp;
    ngx_http_upstream_main_conf_t   *umcf;

    host = &endpoint->host;

    umcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_upstream_module);
    uscfp = umcf->upstreams.elts;

    for (i = 0; i < umcf->upstreams.nelts; i++) {

        /* those that a "proxy_pass" made have an address from the start */

        if (!(uscfp[i]->flags & NGX_HTTP_UPSTREAM_CREATE)
            || uscfp[i]->host.len != host->len
            || ngx_strncasecmp(uscfp[i]->host.data, host->data, host->len)
               != 0)
        {
            continue;
        }

        if (!endpoint->no_port) {
            ngx_http_bog_conf_log(NGX_LOG_EMERG, cf, &endpoint->place,
                                  "upstream \"%V\" may not have port %d",
                                  host, (int) endpoint->port);
            return NGX_ERROR;
        }

        endpoint->upstream = uscfp[i];

        return NGX_OK;
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_bog_endpoint_loopback(ngx_http_bog_endpoint_t *endpoint)
{
    struct sockaddr     *sa;
    struct sockaddr_in  *sin;
#if (NGX_HAVE_INET6)
    struct sockaddr_in6 *sin6;
#endif

    if (endpoint->addr == NULL) {
        return endpoint->local;
    }

    sa = endpoint->addr->sockaddr;

    switch (sa->sa_family) {

#if (NGX_HAVE_INET6)
    case AF_INET6:
        sin6 = (struct sockaddr_in6 *) sa;
        return IN6_IS_ADDR_LOOPBACK(&sin6->sin6_addr);
#endif

    case AF_INET:
        sin = (struct sockaddr_in *) sa;
        return (ntohl(sin->sin_addr.s_addr) >> 24) == IN_LOOPBACKNET;

    default: /* AF_UNIX */
        return 1;
    }
}
