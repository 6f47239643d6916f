
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _NGX_HTTP_BOG_REPORT_H_INCLUDED_
#define _NGX_HTTP_BOG_REPORT_H_INCLUDED_


#include "ngx_http_bog_store.h"


/* what people are told of a source */


typedef enum {
    NGX_HTTP_BOG_MISSING = 0,
    NGX_HTTP_BOG_REFRESHING,        /* a refresh is due, or under way */
    NGX_HTTP_BOG_VALID
} ngx_http_bog_state_e;


/* times are in milliseconds since the epoch, by the wall clock of now */

typedef struct {
    ngx_http_bog_account_t   *account;
    ngx_http_bog_metrics_t   *metrics;
    ngx_http_bog_record_t     record;
    bog_time_t                now;

    ngx_http_bog_state_e      state;
    ngx_uint_t                valid;        /* there is a token */
    ngx_uint_t                fetching;
    ngx_uint_t                failures;     /* since the last success */
    ngx_uint_t                held;         /* requests */
    int64_t                   expires;      /* the token; 0: there is none */
    int64_t                   next;         /* fetch; now if one is under way,
                                               or due */
} ngx_http_bog_report_t;


/*
 * What the configuration and this binary are, for all sources.  "since" is when
 * counting began.
 */

typedef struct {
    time_t                    since;
    ngx_uint_t                reloads;
} ngx_http_bog_run_t;


extern char                *ngx_http_bog_states[];
extern ngx_http_bog_run_t   ngx_http_bog_run;


/* Tells that a configuration has been loaded, in the master. */
void ngx_http_bog_report_loaded(void);

/* Reads the state of the source as it is now. */
void ngx_http_bog_report_take(ngx_http_bog_report_t *report,
    ngx_http_bog_account_t *account);


#endif /* _NGX_HTTP_BOG_REPORT_H_INCLUDED_ */
