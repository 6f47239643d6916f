
/*
 * Copyright (C) The nginx-bog authors
 */


#include "ngx_http_bog_report.h"


/* by ngx_http_bog_state_e */

char  *ngx_http_bog_states[] = {
    "missing", "refreshing", "valid"
};


/* the master's; workers have a copy of the time when they were forked */

ngx_http_bog_run_t  ngx_http_bog_run;


void
ngx_http_bog_report_loaded(void)
{
    if (ngx_http_bog_run.since == 0) {
        ngx_http_bog_run.since = ngx_time();
        return;
    }

    ngx_http_bog_run.reloads++;
}


void
ngx_http_bog_report_take(ngx_http_bog_report_t *report,
    ngx_http_bog_account_t *account)
{
    int64_t        left;
    bog_time_t    *now;
    bog_policy_t  *policy;

    now = &report->now;
    policy = &report->record.policy;

    ngx_http_bog_now(now);

    (void) ngx_http_bog_store_read(account, &report->record, NULL, 0);

    report->account = account;
    report->metrics = &ngx_http_bog_store_slot(account)->metrics;
    report->held = ngx_http_bog_metrics_holding(report->metrics);
    report->failures = policy->failures;
    report->fetching = ngx_http_bog_store_leased(&report->record, now);
    report->valid = bog_times_valid(&policy->token, now);

    if (!report->valid) {
        report->state = NGX_HTTP_BOG_MISSING;

    } else if (report->fetching || bog_times_refreshing(&policy->token, now)) {
        report->state = NGX_HTTP_BOG_REFRESHING;

    } else {
        report->state = NGX_HTTP_BOG_VALID;
    }

    report->expires = report->valid
                      ? now->wall + bog_times_left(&policy->token, now) : 0;

    left = report->fetching ? 0 : bog_policy_next(policy, now) - now->mono;

    report->next = now->wall + ngx_max(left, 0);
}
