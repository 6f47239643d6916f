
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_conf.h"


/*
 * The URL of a token endpoint: what is refused in it, and its parts.  The
 * directive and the making of an account call this file.  It must not resolve
 * a name, so that nginx starts without name servers: the fetch does that.
 */


static char *ngx_http_bog_endpoint_parse(ngx_conf_t *cf,
    ngx_http_bog_endpoint_t *endpoint);
static ngx_int_t ngx_http_bog_endpoint_set_host(ngx_conf_t *cf,
    ngx_http_bog_endpoint_t *endpoint, ngx_url_t *u);


ngx_http_bog_endpoint_t *
ngx_http_bog_endpoint_get(ngx_conf_t *cf, ngx_str_t *url)
{
    char                      *err;
    ngx_uint_t                 i;
    ngx_http_bog_endpoint_t   *endpoint, **slot;
    ngx_http_bog_main_conf_t  *bmcf;

    bmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_bog_module);

    slot = bmcf->endpoints.elts;

    for (i = 0; i < bmcf->endpoints.nelts; i++) {
        if (slot[i]->url.len == url->len
            && ngx_strncmp(slot[i]->url.data, url->data, url->len) == 0)
        {
            return slot[i];
        }
    }

    endpoint = ngx_pcalloc(cf->pool, sizeof(ngx_http_bog_endpoint_t));
    if (endpoint == NULL) {
        return NULL;
    }

    endpoint->url = *url;
    endpoint->place.file = cf->conf_file->file.name;
    endpoint->place.line = cf->conf_file->line;

    err = ngx_http_bog_endpoint_parse(cf, endpoint);

    if (err) {
        if (*err) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "%s in token endpoint \"%V\"", err, url);
        }

        return NULL;
    }

    slot = ngx_array_push(&bmcf->endpoints);
    if (slot == NULL) {
        return NULL;
    }

    *slot = endpoint;

    return endpoint;
}


/* Returns what is wrong with the URL, or NULL; "" if there is no memory. */

static char *
ngx_http_bog_endpoint_parse(ngx_conf_t *cf, ngx_http_bog_endpoint_t *endpoint)
{
    size_t      i, len;
    u_char      ch;
    ngx_str_t  *url;
    ngx_url_t   u;

    url = &endpoint->url;

    for (i = 0; i < url->len; i++) {
        ch = url->data[i];

        if (ch == '$') {
            return "variables are not supported in the URL";
        }

        if (ch <= 0x20 || ch >= 0x7f || ngx_strchr("\"#<>@\\^`{|}", ch)) {
            return "invalid character in the URL";
        }
    }

    ngx_memzero(&u, sizeof(ngx_url_t));

    if (url->len > 8
        && ngx_strncasecmp(url->data, (u_char *) "https://", 8) == 0)
    {
        endpoint->ssl = 1;
        u.default_port = 443;
        len = 8;

    } else if (url->len > 7
               && ngx_strncasecmp(url->data, (u_char *) "http://", 7) == 0)
    {
        u.default_port = 80;
        len = 7;

    } else {
        return "the URL must begin with \"https://\" or \"http://\"";
    }

    u.url.data = url->data + len;
    u.url.len = url->len - len;
    u.uri_part = 1;
    u.no_resolve = 1;

    if (ngx_parse_url(cf->pool, &u) != NGX_OK) {
        return u.err ? u.err : "";
    }

    endpoint->port = u.port;
    endpoint->no_port = u.no_port;
    endpoint->addr = u.addrs;

    if (ngx_http_bog_endpoint_set_host(cf, endpoint, &u) != NGX_OK) {
        return "";
    }

    return NULL;
}


/* Sets the parts of the URL that are sent, and whether its host is local. */

static ngx_int_t
ngx_http_bog_endpoint_set_host(ngx_conf_t *cf,
    ngx_http_bog_endpoint_t *endpoint, ngx_url_t *u)
{
    size_t      len;
    u_char     *p;
    ngx_str_t   port;

    /* a copy, because nginx's resolver changes it to lower case in place */

    endpoint->host.len = u->host.len;
    endpoint->host.data = ngx_pstrdup(cf->pool, &u->host);
    if (endpoint->host.data == NULL) {
        return NGX_ERROR;
    }

    endpoint->uri = u->uri;

    if (u->uri.len == 0 || u->uri.data[0] != '/') {

        /* "https://host" or "https://host?arguments" */

        endpoint->uri.len = u->uri.len + 1;
        endpoint->uri.data = ngx_pnalloc(cf->pool, endpoint->uri.len);
        if (endpoint->uri.data == NULL) {
            return NGX_ERROR;
        }

        ngx_sprintf(endpoint->uri.data, "/%V", &u->uri);
    }

    /* RFC 6761, 6.3: no name server is asked for "localhost" */

    len = sizeof("localhost") - 1;

    if (u->host.len >= len) {
        p = u->host.data + u->host.len - len;

        endpoint->localhost =
                       ngx_strncasecmp(p, (u_char *) "localhost", len) == 0
                       && (p == u->host.data || p[-1] == '.');
    }

    if (u->family == AF_UNIX) {
        ngx_str_set(&endpoint->authority, "localhost");
        return NGX_OK;
    }

    /* "host:port", without the dot that ends a name like "host." */

    port.data = u->url.data + u->host.len;
    port.len = (u->uri.len ? u->uri.data : u->url.data + u->url.len)
               - port.data;

    len = u->host.len - (port.data[-1] == '.');

    endpoint->authority.len = len + port.len;
    endpoint->authority.data = ngx_pnalloc(cf->pool, len + port.len);
    if (endpoint->authority.data == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(endpoint->authority.data, "%*s%V", len, u->url.data, &port);

    return NGX_OK;
}


ngx_int_t
ngx_http_bog_endpoint_check(ngx_conf_t *cf, ngx_http_bog_endpoint_t *endpoint)
{
    u_char                          *addr;
    ngx_str_t                       *host;
    ngx_uint_t                       i, loopback;
    ngx_http_upstream_srv_conf_t   **uscfp;
    ngx_http_upstream_main_conf_t   *umcf;

    if (endpoint->checked) {
        return NGX_OK;
    }

    endpoint->checked = 1;

    if (endpoint->addr) {

        /* nginx has written it: "127.0.0.1:80", "[::1]:80", "unix:/path" */

        addr = endpoint->addr->name.data;

        loopback = ngx_strncmp(addr, "127.", 4) == 0
                   || ngx_strncmp(addr, "[::1]:", 6) == 0
                   || ngx_strncasecmp(addr, (u_char *) "unix:", 5) == 0;

    } else {
        loopback = endpoint->localhost;
    }

    host = &endpoint->host;

    umcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_upstream_module);
    uscfp = umcf->upstreams.elts;

    for (i = 0; i < umcf->upstreams.nelts && endpoint->addr == NULL; i++) {

        /* entries without the flag are of a "proxy_pass" to a host name */

        if ((uscfp[i]->flags & NGX_HTTP_UPSTREAM_CREATE)
            && uscfp[i]->host.len == host->len
            && ngx_strncasecmp(uscfp[i]->host.data, host->data, host->len)
               == 0)
        {
            endpoint->upstream = uscfp[i];
            break;
        }
    }

    if (endpoint->upstream && !endpoint->no_port) {
        ngx_http_bog_conf_log(NGX_LOG_EMERG, cf, &endpoint->place,
                              "upstream \"%V\" may not have port %d",
                              host, (int) endpoint->port);
        return NGX_ERROR;
    }

    if (!endpoint->ssl && endpoint->upstream == NULL && !loopback) {
        ngx_http_bog_conf_log(NGX_LOG_WARN, cf, &endpoint->place,
                              "the client secret is sent in clear text to "
                              "\"%V\", use \"https://\"", &endpoint->url);
    }

    return NGX_OK;
}
