
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_report.h"


static ngx_http_bog_state_e ngx_http_bog_report_state(bog_policy_t *policy,
    bog_time_t *now, ngx_uint_t fetching);


/* by ngx_http_bog_state_e */

char  *ngx_http_bog_states[] = {
    "missing", "refreshing", "valid"
};


/* the master's; workers have those of the time when they were forked */

static ngx_uint_t          ngx_http_bog_loads;
static ngx_http_bog_run_t  ngx_http_bog_run;


void
ngx_http_bog_report_loaded(void)
{
    if (ngx_http_bog_loads++ == 0) {
        ngx_http_bog_run.since = ngx_time();
        return;
    }

    ngx_http_bog_run.reloads++;
}


ngx_http_bog_run_t *
ngx_http_bog_report_run(void)
{
    return &ngx_http_bog_run;
}


void
ngx_http_bog_report_count(ngx_http_bog_report_t *report,
    ngx_http_bog_account_t *account)
{
    report->account = account;
    report->metrics = ngx_http_bog_store_metrics(account);
}


void
ngx_http_bog_report_take(ngx_http_bog_report_t *report,
    ngx_http_bog_account_t *account)
{
    int64_t        left;
    bog_time_t    *now;
    bog_policy_t  *policy;

    ngx_http_bog_report_count(report, account);

    now = &report->now;
    policy = &report->record.policy;

    ngx_http_bog_now(now);

    (void) ngx_http_bog_store_read(account, &report->record, NULL, 0);

    report->fetching = ngx_http_bog_store_leased(&report->record, now);
    report->state = ngx_http_bog_report_state(policy, now, report->fetching);

    /* a policy has the times of its token, by the same names */

    report->expires = now->wall + ngx_http_bog_token_left(policy, now);

    left = report->fetching ? 0 : bog_policy_next(policy, now) - now->mono;

    report->next = now->wall + ngx_max(left, 0);
}


static ngx_http_bog_state_e
ngx_http_bog_report_state(bog_policy_t *policy, bog_time_t *now,
    ngx_uint_t fetching)
{
    if (!bog_policy_valid(policy, now)) {
        return NGX_HTTP_BOG_MISSING;
    }

    if (fetching || ngx_http_bog_token_refreshing(policy, now)) {
        return NGX_HTTP_BOG_REFRESHING;
    }

    return NGX_HTTP_BOG_VALID;
}
