# Metrics as a real Prometheus takes them, and what docs/examples makes of them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Test::More;

use Bog::Bank;
use Bog::Client qw(get parallel header);
use Bog::Nginx;
use Bog::Prometheus;
use Bog::Util qw(now pass_time slurp wait_until);

my $root = "$FindBin::Bin/..";
my $examples = "$root/docs/examples";

unless (Bog::Prometheus::is_there()) {
    my $reason = 'Prometheus is not installed: util/deps.sh prometheus';

    die "$reason\n" if ($ENV{CI} // '') eq 'true';
    plan skip_all => $reason;
}

# what a label, or a line of the text format, could be broken with
my @odd = ('q"uote', 'back\\slash\\', '{le="1"}#,=\\n');

my %bank = map { $_ => Bog::Bank->new } qw(good failing rejecting odd);

$bank{good}->answer(hold => 1);
$bank{failing}->answer(status => 500, body => '');
$bank{rejecting}->answer(status => 401, body => '{"error":"invalid_client"}');

my $begun = now();
my $nginx = gateway();
my $prometheus;

subtest 'no token yet'       => \&no_token;
subtest 'a token'            => \&a_token;
subtest 'failures'           => \&failures;
subtest 'credentials'        => \&credentials;
subtest 'client ids'         => \&client_ids;
subtest 'a token rejected'   => \&token_rejected;
subtest 'a reload'           => \&reloaded;
subtest 'alerts'             => \&alerts;
subtest 'the dashboard'      => \&dashboard;
subtest 'the documentation'  => \&documentation;

my $pid = $prometheus->{pid};
$prometheus->stop;
ok(!kill(0 => $pid), 'Prometheus has ended');

is($nginx->stop, 0, 'stops');
$nginx->clean_log;

done_testing;


sub gateway {
    my @locations = map { location($_, $_, $bank{$_}) }
                    qw(good failing rejecting);

    $locations[1] =~ s/\}\s*\z/bog_token optional; }\n/;

    push @locations, map { location("odd$_", $odd[$_], $bank{odd}) } 0 .. $#odd;

    return Bog::Nginx->new(
        workers => 2,
        status  => 1,
        secret  => { main => "s3cret-of-all\n" },
        conf    => <<"END")->start;
        server {
            listen 127.0.0.1:%%PORT%%;

            # all that makes a location wait, and makes it a source
            bog_client_id           good;
            bog_client_secret_file  %%SECRET_main%%;
            proxy_set_header        Authorization "Bearer \$bog_bearer_token";

            location = /metrics {
                bog_status prometheus;
            }

            @locations
        }
END
}


sub location {
    my ($uri, $id, $bank) = @_;

    $id =~ s/(["\\])/\\$1/g;

    return <<"END";
            location /$uri {
                bog_client_id       "$id";
                bog_token_endpoint  ${\ $bank->url };
                bog_wait_timeout    60s;
                proxy_pass          http://127.0.0.1:${\ $bank->api_port };
            }
END
}


sub scrape { get($nginx->port, '/metrics') }


sub is_clean {
    my $name = shift;

    my ($code, $output) =
        Bog::Prometheus::promtool(scrape()->{body}, 'check', 'metrics');

    is("$code $output", '0 ', "$name: nothing that promtool does not like");
}


# The label that a client's metrics have.

sub source_of {
    my $id = shift;

    my ($sample) = grep { $_->[0]{client_id} eq $id }
                   $prometheus->wait_samples('bog_source_info');

    return $sample ? $sample->[0]{source} : 'none';
}


# NAME or NAME{LABELS} of a client, or an expression with %s for {source=...}.

sub is_value {
    my ($id, $name, $value) = @_;

    my $label = 'source="' . source_of($id) =~ s/(["\\])/\\$1/gr . '"';
    my $expression = $name;

    $expression =~ s/\{(?=\w)/{$label,/ || $expression =~ s/%s/{$label}/
        || ($expression .= "{$label}");

    is($prometheus->wait_value($expression, $value), $value, "$id: $name");
}


sub no_token {
    ok($bank{good}->wait_requests(1), 'a fetch hangs');

    my $answer = scrape();

    is($answer->{status}, 200, 'metrics');
    is(header($answer, 'Content-Type'),
       'text/plain; version=0.0.4; charset=utf-8', 'their type');
    is_clean('no token');

    $prometheus = Bog::Prometheus->new(
        target => '127.0.0.1:' . $nginx->port,
        rules  => "$examples/prometheus-alerts.yml");

    is($prometheus->wait_value('up', 1), 1, 'Prometheus takes them');
    is($prometheus->wait_value('bog_sources', 3 + @odd), 3 + @odd, 'sources');
    is($prometheus->wait_value('count(bog_source_info == 1)', 3 + @odd),
       3 + @odd, 'what they are');

    is_value(good => 'bog_token_valid', 0);
    is_value(good => 'bog_fetching', 1);
    is_value(good => 'bog_consecutive_failures', 0);
    is_value(good => 'absent(bog_token_expiry_timestamp_seconds%s)', 1);
    is_value(good => 'absent(bog_last_success_timestamp_seconds%s)', 1);
    is_value(good => 'absent(bog_last_failure_timestamp_seconds%s)', 1);
    is_value(good => 'bog_fetch_duration_seconds_count', 0);
}


sub a_token {
    my @answers = parallel($nginx->port, 20, uri => '/good', on_sent => sub {
        ok($nginx->wait_active(20), '20 requests are held');
        is_value(good => 'bog_held_requests', 20);
        is_clean('while requests are held');

        # all of them longer than this
        pass_time(0.3);
        is($bank{good}->release(expires_in => 3000), 1, 'a token');
    });

    is(scalar(grep { $_->{status} == 200 } @answers), 20, 'all go on');

    is_value(good => 'bog_token_valid', 1);
    is_value(good => 'bog_fetching', 0);
    is_value(good => 'bog_held_requests', 0);
    is_value(good => 'bog_holds_total{result="token"}', 20);
    is_value(good => 'bog_holds_total{result="failure"}', 0);
    is_value(good => 'bog_hold_seconds_count', 20);
    is_value(good => 'bog_hold_seconds_bucket{le="0.25"}', 0);
    is_value(good => 'bog_hold_seconds_bucket{le="+Inf"}', 20);
    is_value(good => 'bog_fetches_total{result="success"}', 1);
    is_value(good => 'bog_fetches_total{result="failure"}', 0);
    is_value(good => 'bog_fetches_total{result="aborted"}', 0);
    is_value(good => 'bog_fetch_duration_seconds_count', 1);
    is_value(good => 'bog_fetch_duration_seconds_bucket{le="0.25"}', 0);
    is_value(good => 'bog_fetch_duration_seconds_bucket{le="+Inf"}', 1);

    my ($left) = map { $_->[1] } $prometheus->wait_samples(
        'bog_token_expiry_timestamp_seconds{source="' . source_of('good')
        . '"} - bog_last_success_timestamp_seconds');

    # it may be as old as the request that it came for
    cmp_ok($left, '<=', 3000.001, "it expires after $left seconds");
    cmp_ok($left, '>=', 2999 - (now() - $begun), 'and not much earlier');
}


sub failures {
    ok($bank{failing}->wait_requests(3), 'three fetches');

    is(get($nginx->port, '/rejecting')->{status}, 503, 'no token, no answer');

    is_clean('failures');
    is_value(failing => 'bog_token_valid', 0);
    is_value(failing => 'bog_fetches_total{result="success"}', 0);
    is_value(failing => 'bog_failures_total{class="rejected"}', 0);

    # the number grows while one looks
    is_value(failing => 'bog_failures_total{class="http_5xx"} - ignoring(class)'
             . ' bog_consecutive_failures', 0);
    is_value(failing => 'bog_failures_total{class="http_5xx"} >= bool 3', 1);
}


sub credentials {
    is_value(rejecting => 'bog_requests_without_token_total{mode="required"}',
             1);
    is_value(rejecting => 'bog_requests_without_token_total{mode="optional"}',
             0);
    is_value(rejecting => 'bog_failures_total{class="rejected"} >= bool 1', 1);
    is_value(rejecting => 'bog_failures_total{class="http_4xx"}', 0);
    is_value(rejecting => 'absent(bog_last_success_timestamp_seconds%s)', 1);
}


sub client_ids {
    for my $id (@odd) {
        isnt(source_of($id), 'none', "Prometheus has read $id as it is");
        is_value($id => 'bog_token_valid', 1);
    }

    my %seen;
    $seen{$_->[0]{source}}++
        for $prometheus->wait_samples('bog_source_info');

    is_deeply([grep { $_ > 1 } values %seen], [], 'no two sources are the same');
    is(scalar(keys %seen), 3 + @odd, 'none is missing');
}


sub token_rejected {
    my ($token) = map { $_->{token} } ($bank{good}->tokens)[-1];

    ok($bank{good}->revoke($token), 'the bank ends a token');
    $bank{good}->answer(expires_in => 3000);

    is(get($nginx->port, '/good')->{status}, 401, 'the API says so');

    is_value(good => 'bog_unauthorized_answers_total', 1);
    is_value(good => 'bog_rejected_tokens_total', 1);
    is_value(good => 'bog_fetches_total{result="success"}', 2);
    is_value(good => 'bog_token_valid', 1);
}


sub reloaded {
    is($prometheus->wait_value('bog_reloads_total', 0), 0, 'none yet');
    $nginx->reload;
    is($prometheus->wait_value('bog_reloads_total', 1), 1, 'one');

    is_value(good => 'bog_fetches_total{result="success"}', 2);
    is_value(good => 'bog_hold_seconds_count', 20);
    is_clean('after a reload');
}


sub alerts {
    for my $command (['check', 'config', "$examples/prometheus.yml"],
                     ['check', 'rules', "$examples/prometheus-alerts.yml"],
                     ['test', 'rules', "$examples/prometheus-alerts-test.yml"])
    {
        my ($code, $output) = Bog::Prometheus::promtool('', @$command);
        is($code, 0, "promtool @$command[0, 1]") or diag($output);
    }

    # each fires in a test, and does not in another one
    my $tests = slurp("$examples/prometheus-alerts-test.yml");
    my %fires = ('' => {}, exp_alerts => {});

    $fires{$2 // ''}{$1} = 1 while $tests
        =~ /- alertname: (\w+)\n\s+eval_time: \S+\n(?:\s+(exp_alerts))?/g;

    my %names = map { $_ => 1 }
                slurp("$examples/prometheus-alerts.yml") =~ /- alert: (\w+)/g;

    is_deeply($fires{exp_alerts}, \%names, 'all are tested');
    is_deeply($fires{''}, \%names, 'and the time before they fire');

    # as evaluated on the metrics of this nginx
    my @rules = $prometheus->rules;

    is(join("\n", map { "$_->{name}: $_->{lastError}" }
                  grep { $_->{health} ne 'ok' } @rules), '',
       scalar(@rules) . ' alerts can be evaluated');
    is(scalar(@rules), scalar(keys %names), 'these are all');

    # nobody can have a token from two of the banks
    my @missing;

    ok(wait_until { @missing = map { @{ $_->{alerts} } }
                               grep { $_->{name} eq 'BogTokenMissing' }
                               $prometheus->rules;
                    @missing == 2 },
       'one is due, for two sources');

    is_deeply([sort map { join ' ', @{ $_->{labels} }{qw(client_id server
                                    required severity)} } @missing],
              [sort map { my $port = $bank{$_}->port;
                          "$_ 127.0.0.1:$port " . ($_ eq 'failing'
                              ? 'false warning' : 'true critical') }
                    qw(failing rejecting)],
              'a source that is optional gets nobody up');
    ok(wait_until { my %state = $prometheus->alerts;
                    $state{BogGatewayDown} eq 'inactive'
                    && $state{BogMetricsAbsent} eq 'inactive' },
       'those that look for the gateway are not');

    names_exist('prometheus-alerts.yml');
    names_exist('prometheus-alerts-test.yml');
}


# All that an example calls bog_something is there.

sub types { my %types = scrape()->{body} =~ /^# TYPE (\S+) (\S+)$/mg; \%types }


sub names_exist {
    my $file = shift;

    my $types = types();

    my %known = map { $types->{$_} eq 'histogram'
                      ? ("${_}_bucket" => 1, "${_}_sum" => 1, "${_}_count" => 1)
                      : ($_ => 1) } keys %$types;

    my %named = map { $_ => 1 }
                slurp("$examples/$file") =~ /\b(bog_[a-z0-9_]+)\b(?!\s*[;`])/g;

    # what a text says of a directive
    delete @named{grep { documented($_) } keys %named};

    is(join(' ', grep { !$known{$_} } sort keys %named), '',
       "$file: metrics that are there");
    cmp_ok(scalar(keys %named), '>=', 8, 'there are some');
}


sub documented {
    my $directive = shift;

    return slurp("$root/docs/directives.md") =~ /^### $directive$/m;
}


# What a query answers with: seconds, a number, or a number in a second.

sub unit {
    local ($_) = @_;

    return 's' if /\btime\(\)|^histogram_quantile/;
    return 'reqps' if /\brate\(/;
    return 'number';
}


sub looks {
    my $panels = shift;

    my (%ids, %taken);

    for my $panel (@$panels) {
        my ($x, $y, $w, $h) = @{ $panel->{gridPos} }{qw(x y w h)};
        my $defaults = $panel->{fieldConfig}{defaults};
        my $unit = $defaults->{unit} // 'short';

        $ids{$panel->{id}}++;

        for my $at (map { my $row = $_; map { "$_,$row" } $x .. $x + $w - 1 }
                    $y .. $y + $h - 1)
        {
            $taken{$at}++;
        }

        cmp_ok($x + $w, '<=', 24, "$panel->{title}: as wide as the page");
        ok(length($panel->{description} // ''), 'it says what it shows');

        is(join(' ', keys %{ { map { unit($_->{expr}) => 1 }
                               @{ $panel->{targets} } } }),
           $unit =~ /\A(?:short|none)\z/ ? 'number' : $unit,
           'one axis, in its unit');
    }

    is(scalar(keys %ids), scalar(@$panels), 'each panel has its id');
    is_deeply([grep { $taken{$_} > 1 } sort keys %taken], [],
              'no panel is on another one');
}


# The variable of a source offers those of the gateways and clients chosen, so
# queries need not have the client id.

sub filtered {
    my ($title, $expression) = @_;

    my $per_source = $expression !~ /bog_(?:build_info|reloads_total|sources
                                     |start_time_seconds)\b/x;

    like($expression, qr/\{instance=~"\$instance"[,}]/, "$title: a gateway");
    like($expression, qr/,source=~"\$source"\}/, 'a source') if $per_source;
}


# Some of its panels show what is not here.

sub dashboard {
    my $dashboard = decode_json(slurp("$examples/grafana-dashboard.json"));

    my @expressions = map { [$_->{title}, map { $_->{expr} }
                             @{ $_->{targets} }] } @{ $dashboard->{panels} };

    push @expressions, ['annotations', map { $_->{target}{expr} // () }
                        @{ $dashboard->{annotations}{list} }];

    my $n = 0;

    for my $panel (@expressions) {
        my ($title, @all) = @$panel;

        for my $expression (@all) {
            filtered($title, $expression);

            my $text = $expression =~ s/\$(?:instance|source)\b/.*/gr
                                   =~ s/\$__rate_interval\b/1m/gr;

            unlike($text, qr/\$/, 'no other variable is left');

            my $answer = $prometheus->api(query => query => $text);

            is($answer->{error} // '', '', 'Prometheus understands it');
            $n++;

            next if $answer->{error} || $title eq 'annotations';

            ok($prometheus->wait_samples($text) > 0, 'and has an answer');
        }
    }

    cmp_ok($n, '>=', 20, 'there are some');
    names_exist('grafana-dashboard.json');
    looks($dashboard->{panels});
    variables($dashboard->{templating}{list});
}


# What Grafana asks for label_values(): the series with that label.

sub variables {
    my ($datasource, @variables) = @{ shift() };

    is("$datasource->{name} $datasource->{type}", 'datasource datasource',
       'Prometheus can be chosen');
    is_deeply([map { $_->{name} } @variables], [qw(instance client_id source)],
              'a gateway, a client and a source, too');

    my $before = '';

    for my $variable (@variables) {
        my $name = $variable->{name};
        my ($series, $label) = $variable->{query}{query}
                               =~ /\Alabel_values\((.*), (\w+)\)\z/;

        is($label, $name, "$name: its label");
        is($series, 'bog_source_info' . ($before && "{$before}"),
           'of those that are chosen before it');
        ok(!exists $variable->{allValue}, '"All" means these');

        $before .= ($before && ',') . "$name=~\"\$$name\"";
        $series =~ s/\$\w+/.*/g;

        cmp_ok(scalar(grep { exists $_->[0]{$label} }
                      $prometheus->wait_samples($series)), '>', 0,
               'Prometheus knows some');
    }
}


# The table of docs/guide.md: each of them, with its type.

sub documentation {
    my $page = slurp("$root/docs/guide.md");

    my %table = $page =~ /^\| `(bog_\w+)`[^|]*\| (gauge|counter|histogram) \|/mg;

    is_deeply(\%table, types(), 'all metrics, and no others');
}
