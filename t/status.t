# "bog_status": what it says of every source, to the count, and what it costs
# others.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA 'sha256_hex';
use IO::Socket::INET;
use JSON::PP ();
use Socket qw(SOL_SOCKET SO_RCVBUF);
use Sys::Hostname;
use Test::More;
use Time::Local 'timegm';

use Bog::Bank;
use Bog::CA;
use Bog::Client qw(get parallel header h2load steady);
use Bog::Leak;
use Bog::Nginx;
use Bog::Util qw(pass_time wait_until free_port slurp);

my $pass = 'proxy_set_header Authorization "Bearer $bog_bearer_token";'
           . ' proxy_pass http://127.0.0.1:%%API%%;';


sub bank { Bog::Bank->new(credentials => { 8282 => 's3cret' }, @_) }


# %opt: http, endpoint, and what Bog::Nginx takes.

sub gateway {
    my ($bank, $locations, %opt) = @_;

    my $http = delete $opt{http} // '';
    my $endpoint = delete $opt{endpoint} // $bank->url;

    for ($locations, $http) {
        s/%%PASS%%/$pass/g;
        s/%%API%%/$bank->api_port/ge;
    }

    my $nginx = Bog::Nginx->new(
        log_level => 'info', status => 1,
        secret    => { main => "s3cret\n", wrong => "wr0ng-one\n" },
        %opt, conf => <<"END");
        $http

        bog_client_id           8282;
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      $endpoint;

        server {
            listen 127.0.0.1:%%PORT%%;
            $locations

            location = /status { bog_status; }
            location = /json { bog_status json; }
            location = /metrics { bog_status prometheus; }
            location = /text { bog_status text; }
            location = /page { bog_status html; }
        }
END
    return $nginx->start;
}


sub status {
    my $nginx = shift;

    my $answer = get($nginx->port, '/json');

    die 'no status: ' . ($answer->{status} // $answer->{error}) . "\n"
        unless ($answer->{status} // 0) == 200;

    return JSON::PP->new->utf8->decode($answer->{body});
}


sub revoke {
    my $bank = shift;

    $bank->revoke(($bank->tokens)[-1]{token});
}


sub source { status($_[0])->{sources}[0] }


# What has happened is counted a moment later.

sub is_soon {
    my ($got, $expected, $name) = @_;

    my $json = JSON::PP->new->canonical->allow_nonref;

    wait_until { $json->encode($got->()) eq $json->encode($expected) };

    return is_deeply($got->(), $expected, $name);
}


sub nonzero {
    my $counts = shift;

    return { map { $_ => $counts->{$_} } grep { $counts->{$_} }
             keys %$counts };
}


# sample => value of a text for Prometheus, with the labels as they stand.

sub samples {
    my $text = shift;

    return { map { /\A(\w+(?:\{.*\})?) ([0-9.]+)\z/ ? ($1 => $2)
                                                    : (bad => $_) }
             grep { !/^#/ } split /\n/, $text };
}


sub metrics { samples(get($_[0]->port, '/metrics')->{body}) }


# The exit code of the script for Nagios.

sub plugin {
    my $nginx = shift;

    my $script = slurp("$FindBin::Bin/../docs/examples/check_bog.sh");
    my $url = 'http://127.0.0.1:' . $nginx->port . '/text';
    $script =~ s{'http://[^']*'}{'$url'} or die "no URL\n";

    system('sh', '-c', "($script) > /dev/null");

    return $? >> 8;
}


# The script asks by curl, which not every machine has.

sub plugin_says {
    my ($nginx, $code) = @_;

    SKIP: {
        skip 'no curl', 1 unless grep { -x "$_/curl" } split /:/, $ENV{PATH};

        is(plugin($nginx), $code, 'what Nagios is told');
    }
}


sub seconds {
    my @t = $_[0] =~ /\A(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)Z\z/
        or return;

    return timegm(@t[5, 4, 3, 2], $t[1] - 1, $t[0]);
}


sub near {
    my ($got, $expected, $distance, $name) = @_;

    return cmp_ok(abs($got - $expected), '<=', $distance, $name)
        || diag("got $got, expected $expected");
}


subtest 'JSON' => sub {
    my $before = time;
    my $bank = bank();
    $bank->answer(expires_in => 1800);

    my $nginx = gateway($bank, 'location / { %%PASS%% }');
    is(get($nginx->port, '/')->{status}, 200, 'a request');

    my $answer = get($nginx->port, '/json');
    is($answer->{status}, 200, 'the state');
    is(header($answer, 'Content-Type'), 'application/json', 'its type');
    is(header($answer, 'Content-Length'), length $answer->{body},
       'its length');
    is(header($answer, 'Cache-Control'), 'no-store', 'nobody keeps it');
    is(header($answer, 'X-Content-Type-Options'), 'nosniff',
       'it is what it is');

    my $all = JSON::PP->new->utf8->decode($answer->{body});
    my ($source) = @{ delete $all->{sources} };

    is(delete $all->{version}, '0.2.0', 'the version');
    like(delete $all->{nginx}, qr/\A1\.\d+\.\d+\z/, 'that of nginx');

    my ($time, $since) = map { seconds(delete $all->{$_}) } qw(time since);
    cmp_ok($since, '>=', $before, 'counted since the start');
    cmp_ok($time, '>=', $since, 'the time');
    cmp_ok($time, '<=', time, 'which has come');
    is(delete $all->{host}, hostname(), 'the host');
    is_deeply($all, { reloads => 0 }, 'and that is all');

    my ($issued) = $bank->tokens;
    my $token = delete $source->{token};

    is($token->{id}, substr(sha256_hex($issued->{token}), 0, 16), 'the id');
    near(seconds($token->{obtained_at}) - $since, 0, 30, 'obtained');
    near(seconds($token->{expires_at}) - seconds($token->{obtained_at}), 1800,
         1, 'expires');
    near($token->{age} + $token->{expires_in}, 1800, 1,
         'its age and what is left');

    my $next = seconds(delete $source->{next_fetch_at});
    my $in = delete $source->{next_fetch_in};
    cmp_ok($in, '>', 0, 'the next fetch is to come');
    cmp_ok($in, '<=', 1740, 'before the token ends');
    near($next - $time, $in, 1, 'at the time that is said');
    is(delete $source->{last_success_at}, $token->{obtained_at},
       'the last success');
    cmp_ok(delete $source->{$_}, '<', 30, $_)
        for qw(fetch_seconds hold_seconds);
    delete $source->{holds};

    is_deeply($source, {
        source               => '8282@127.0.0.1:' . $bank->port,
        client_id            => '8282',
        server               => '127.0.0.1:' . $bank->port,
        endpoint             => $bank->url,
        scope                => '',
        required             => JSON::PP::true,
        level                => 'ok',
        state                => 'valid',
        fetching             => JSON::PP::false,
        consecutive_failures => 0,
        consecutive_rejections => 0,
        failing_since        => undef,
        last_failure         => undef,
        fetches              => { success => 1, failure => 0, aborted => 0 },
        failures             => { map { $_ => 0 } qw(resolve connect tls
                                  timeout http_4xx http_5xx http_other
                                  rejected malformed too_large) },
        held                 => 0,
        without_token        => { required => 0, optional => 0 },
        refused_last_minute  => 0,
        unauthorized_answers => 0,
        rejected_tokens      => 0,
    }, 'the source');

    is($bank->count, 1, 'one token request');
    $nginx->ends;
};


subtest 'methods and formats' => sub {
    my $bank = bank();
    my $nginx = gateway($bank, 'location / { %%PASS%% }');
    my $port = $nginx->port;

    my $kind = sub {
        my ($uri, @accept) = @_;

        my $answer = get($port, $uri,
                         headers => [map { [Accept => $_] } @accept]);
        my ($type) = (header($answer, 'Content-Type') // '') =~ /\A([^;]+)/;

        return "$answer->{status} $type";
    };

    my @accept = ('text/html,application/xhtml+xml,application/xml;q=0.9,'
                  . '*/*;q=0.8',
                  'application/openmetrics-text;version=1.0.0;q=0.5,'
                  . 'text/plain;version=0.0.4;q=0.3,*/*;q=0.2');

    my %type = (json => '200 application/json', html => '200 text/html',
                prometheus => '200 text/plain', text => '200 text/plain');

    is($kind->('/status'), $type{json}, 'JSON by itself');
    is($kind->('/status', @accept), $type{json}, 'whatever is accepted');

    for my $format (sort keys %type) {
        is($kind->("/status?format=$format"), $type{$format},
           "an argument: $format");
        is($kind->("/json?a=b&format=$format"), $type{$format},
           'over what is configured');
    }

    is($kind->('/json'), $type{json}, 'configured: JSON');
    is($kind->('/metrics'), $type{prometheus}, 'configured: Prometheus');
    is($kind->('/text'), $type{text}, 'configured: text');
    is($kind->('/page'), $type{html}, 'configured: a page');

    is(get($port, "/status?format=$_")->{status}, 400, "no format: \"$_\"")
        for 'xml', '', 'JSON', 'jsonx';

    is(header(get($port, '/status'), 'Vary'), undef, 'nothing varies');

    is(get($port, '/status', method => $_, body => 'x')->{status}, 405, $_)
        for qw(POST PUT DELETE OPTIONS);

    my $head = get($port, '/metrics', method => 'HEAD');
    is($head->{status}, 200, 'HEAD');
    is($head->{body} // '', '', 'has no body');
    cmp_ok(header($head, 'Content-Length'), '>', 1000, 'but a length');

    is(get($port, '/json', body => 'a body', method => 'GET')->{status}, 200,
       'a body is ignored');
    is(get($port, '/json', headers => [['If-Match', '"x"']])->{status}, 200,
       'and conditions');

    $nginx->ends;
};


# Quotes and backslashes are escaped, and names are told apart.

subtest 'names' => sub {
    my $bank = bank(verify => 0);
    my $nginx = gateway($bank, <<'END');
        location /1 { %%PASS%% }
        location /2 { bog_client_secret_file %%SECRET_wrong%%; %%PASS%% }
        location /3 { bog_token_param scope 'corp <&>"'; %%PASS%% }
        location /4 { bog_token optional; %%PASS%%
                      bog_token_param other 'c0nfidential&x'; }
        location /5 { bog_client_id '<b>"&\\\'</b>#2@x'; %%PASS%% }
END
    my $host = '127.0.0.1:' . $bank->port;
    my $odd = q(<b>"&\\'</b>#2@x);

    $bank->wait_count(answered => 5);

    my @sources = @{ status($nginx)->{sources} };

    is_deeply([map { $_->{source} } @sources],
              ["8282\@$host", map({ "8282\@$host#$_" } 2 .. 4), "$odd\@$host"],
              'in JSON');
    is_deeply([map { $_->{client_id} } @sources], [(8282) x 4, $odd],
              'client ids');
    is_deeply([map { !!$_->{required} } @sources],
              [1, 1, 1, '', 1], 'one is optional');
    is_deeply([map { $_->{scope} } @sources],
              ['', '', 'corp+%3C%26%3E%22', '', ''], 'scopes');

    my $metrics = metrics($nginx);
    my $quoted = $odd =~ s/(["\\])/\\$1/gr;

    is(scalar(grep { /^bog_source_info\{/ } keys %$metrics), 5,
       'five for Prometheus');
    is($metrics->{"bog_source_info{source=\"$quoted\@$host\",client_id="
                  . "\"$quoted\",server=\"$host\",endpoint="
                  . "\"${\ $bank->url }\",scope=\"\",required=\"true\"}"},
       1, 'quoted');
    is_deeply([map { /^bog_source_info\{source="(.*?)".*,required="false"\}/ }
               keys %$metrics], ["8282\@$host#4"],
              'one is optional for Prometheus, too');

    unlike(join('', get($nginx->port, '/json')->{body}, %$metrics),
           qr/c0nfidential/, 'other parameters are not shown');

    $nginx->ends;
};


subtest 'nothing of a token or a secret' => sub {
    my $bank = bank();
    $bank->queue({ status => 500, body => '{"error":"oops"}' });

    my $nginx = gateway($bank, <<'END');
        location /1 { %%PASS%% }
        location /2 { bog_client_secret_file %%SECRET_wrong%%; %%PASS%% }
END
    wait_until { grep { $_->{state} eq 'valid' }
                 @{ status($nginx)->{sources} } };

    my $leak = Bog::Leak->new;
    $leak->secret($_, '8282') for 's3cret', 'wr0ng-one';
    $leak->text('the token', $_->{token}) for $bank->tokens;

    is(join(' ', $leak->in_text(get($nginx->port, $_)->{raw})), '', $_)
        for qw(/json /metrics /text /page);

    $nginx->ends;
};


# The time of the first failure stays until a token comes.

subtest 'failing since' => sub {
    my $bank = bank();
    $bank->queue(map { { status => 500 } } 1 .. 3);
    $bank->answer(hold => 1);

    my $nginx = gateway($bank, 'location / { %%PASS%% }');
    my $since = sub { source($nginx)->{failing_since} };

    ok(wait_until { $since->() }, 'it fails');
    my $first = $since->();

    ok($bank->wait_count(held => 1), 'three times');

    my $source = source($nginx);
    is($source->{consecutive_failures}, 3, 'so it is said');
    is($source->{failing_since}, $first, 'since the first time');
    cmp_ok(seconds($source->{last_failure}{failed_at}), '>', seconds($first),
           'not the last one');

    $bank->release;
    is_soon($since, undef, 'until there is a token');

    $nginx->ends;
};


# Troubles first, each on a line of its own.

subtest 'text' => sub {
    my ($good, $failing, $down) = (bank(), bank(), bank());

    $good->answer(expires_in => 3000);
    $failing->queue({ expires_in => 3000 });
    $_->answer(status => 503, headers => [['Retry-After' => 300]], body => '')
        for $failing, $down;

    my $down_url = $down->url;
    my $nginx = gateway($good, <<"END");
        location / { %%PASS%% }
        location /failing {
            bog_token_endpoint ${\ $failing->url };
            proxy_pass http://127.0.0.1:${\ $failing->api_port };
            proxy_set_header Authorization "Bearer \$bog_bearer_token";
        }
        location /optional { bog_token_endpoint $down_url; bog_token optional;
                             bog_token_param a b; %%PASS%% }
        location /down { bog_token_endpoint $down_url; %%PASS%% }
END
    # the API refuses the first token, the fetch of another one fails
    ok($failing->wait_count(answered => 1), 'a token');
    $failing->api_answer(status => 401, body => '');
    is(get($nginx->port, '/failing')->{status}, 401, 'which is refused');

    is_soon(sub { [map { $_->{consecutive_failures} }
                   @{ status($nginx)->{sources} }] }, [0, 1, 1, 1],
            'three of four fail');

    is(get($nginx->port, '/down')->{status}, 503, 'a request') for 1, 2;

    my @sources = @{ status($nginx)->{sources} };
    my @reason = map { $_ && qr/\Q$_->{reason}\E/ }
                 map { $_->{last_failure} } @sources;

    is_deeply([map { $_->{level} } @sources],
              [qw(ok warning warning critical)], 'the levels');
    is_deeply([map { $_->{refused_last_minute} } @sources], [0, 0, 0, 2],
              'two requests are refused');

    my $answer = get($nginx->port, '/text');
    is(header($answer, 'Content-Type'), 'text/plain; charset=utf-8',
       'the type');

    my @lines = split /^/, $answer->{body};
    my ($g, $f, $d) = map { '8282@127.0.0.1:' . $_->port }
                      $good, $failing, $down;
    my $valid = qr/token valid for 2\d\d\d s/;
    my $since = qr/failing for \d\d? s/;
    my $try = qr/next try in 3\d\d s|next try in 29\d s/;

    is(shift @lines, "CRITICAL - 4 sources, 2 without a token, "
                     . "1 whose refreshes fail\n", 'the summary');
    is(scalar @lines, 4, 'four lines');

    like($lines[0], qr/\ACRITICAL\ $d\#2:\ no\ token,\ $since:\ $reason[3],
                       \ (?:$try),\ 2\ requests\ refused\ in\ the\ last
                       \ minute\n\z/x, 'no token');
    like($lines[1], qr/\AWARNING $f: $valid, $since: $reason[1], (?:$try)\n\z/,
         'the old token serves');
    like($lines[2], qr/\AWARNING $d: no token, $since: $reason[2], (?:$try)\n\z/,
         'requests go on without a token');
    plugin_says($nginx, 2);
    like($lines[3], qr/\AOK $g: $valid, next fetch in \d+ s\n\z/, 'well');

    $nginx->ends;
};


# A client id may have any character but control characters.

subtest 'text, one source' => sub {
    my $bank = bank(verify => 0);
    $bank->answer(hold => 1);

    my $id = q(<b>"&\\'</b>#2 | x);
    my $quoted = $id =~ s/(['\\])/\\$1/gr;
    my $nginx = gateway($bank, <<"END");
        bog_client_id '$quoted';
        bog_client_auth basic_urlencoded;
        location / { %%PASS%% }
END
    my $text = sub { get($nginx->port, '/text')->{body} };
    my $name = "$id\@127.0.0.1:" . $bank->port;

    ok($bank->wait_requests(1), 'a token request');
    is($text->(), "WARNING - 1 source, 1 without a token\n"
                  . "WARNING $name: no token yet, a fetch is under way\n",
       'the first fetch');
    plugin_says($nginx, 1);

    $bank->release(expires_in => 300);
    is_soon(sub { source($nginx)->{state} }, 'valid', 'there is a token');
    like($text->(), qr/\AOK\ -\ 1\ source\n
                       OK\ \Q$name\E:\ token\ valid\ for\ 2\d\d\ s,
                       \ next\ fetch\ in\ \d+\ s\n\z/x, 'a token');
    plugin_says($nginx, 0);

    $nginx->ends;
};


# For probes: a status of its own, and the body as ever.

subtest 'check' => sub {
    my $bank = bank();
    $bank->answer(hold => 1);

    my $nginx = gateway($bank, <<'END');
        location / { %%PASS%% }
        location /optional { bog_token optional; bog_token_param a b;
                             %%PASS%% }
END
    my $port = $nginx->port;
    my $check = sub { get($port, $_[0])->{status} };

    ok($bank->wait_requests(2), 'two fetches');

    is($check->($_), 503, "no token: $_")
        for '/status?check', '/text?check', '/metrics?check', '/page?check',
            '/status?check=', '/status?check=1', '/status?format=text&check',
            '/status?a&check&b';

    is($check->($_), 200, "no check: $_")
        for '/status', '/status?checks', '/status?a=check', '/status?uncheck',
            '/status?chec', '/status?';

    is(get($port, '/status?check', method => 'HEAD')->{status}, 503, 'HEAD');
    is(get($port, '/page?check')->{body}, get($port, '/page')->{body},
       'the page is the same');
    is(get($port, '/text?check')->{body}, get($port, '/text')->{body},
       'and the text');

    $bank->release;
    is_soon(sub { $check->('/status?check') }, 200, 'a token');

    $nginx->ends;
};


subtest 'check, optional sources only' => sub {
    my $bank = bank();
    $bank->answer(status => 503, headers => [['Retry-After' => 300]],
                  body => '');

    my $nginx = gateway($bank,
                        'location / { bog_token optional; %%PASS%% }');

    is_soon(sub { source($nginx)->{level} }, 'warning', 'it has no token');
    is(get($nginx->port, '/status?check')->{status}, 200, 'and needs none');

    $nginx->ends;
};


# The code of a failure comes from outside.

subtest 'a failure in all its words' => sub {
    my $bank = bank();
    $bank->answer(status => 401,
                  body => '{"error":"<i>\"no\\\\ \u0001"}');

    my $nginx = gateway($bank, 'location / { %%PASS%% }');

    is_soon(sub { source($nginx)->{consecutive_failures} }, 1, 'it fails');

    my $source = source($nginx);
    my $failure = $source->{last_failure};

    is($source->{failing_since}, $failure->{failed_at}, 'since then');

    is($source->{state}, 'missing', 'no token');
    is($source->{token}, undef, 'nothing of one');
    is($source->{last_success_at}, undef, 'no success');
    cmp_ok(delete $failure->{age}, '<', 30, 'its age');
    ok(seconds(delete $failure->{failed_at}), 'its time');
    is_deeply($failure, { class => 'rejected', status => 401,
                          reason => 'the credentials were rejected, '
                              . 'status 401, error "<i>\x22no\x5C \x01"',
                          error => '<i>\x22no\x5C \x01' }, 'why');

    $nginx->ends;
};


# What makes a fetch fail, by class, and what $bog_token_error calls it where
# that is another word.

my @classes = (
    [http_4xx   => { status => 404 }, 'http_404'],
    [http_5xx   => { status => 503, headers => [['Retry-After', 60]] },
     'http_503'],
    [http_other => { status => 302 }, 'http_302'],
    [rejected   => { status => 400, body => '{"error":"invalid_client"}' }],
    [malformed  => { body => 'no JSON' }],
    [too_large  => { body => '{"a":"' . 'x' x 70000 . '"}' }],
    [timeout    => { stall => ['header', 60] }],
    ['connect'],
    ['resolve'],
    ['tls'],
);


subtest 'failures by class' => sub {
    my $cert = Bog::CA->shared->cert(name => 'other');
    my $bank = bank(tls => { map { $_ => $cert->{$_} } qw(cert key) });

    my %endpoint = (
        connect => 'http://127.0.0.1:' . free_port() . '/',
        resolve => 'http://nowhere.test/',
        tls     => $bank->url('tls'),
    );

    for (@classes) {
        my ($class, $answer, $said) = @$_;

        $bank->queue($answer) if $answer;

        my $nginx = gateway($bank, 'location / { %%PASS%% }',
            endpoint => $endpoint{$class}, http => <<'END');
            resolver 127.0.0.1:1 ipv6=off;
            bog_connect_timeout 500ms;
            bog_read_timeout 500ms;
END
        ok(wait_until { source($nginx)->{consecutive_failures} },
           "$class: it fails");

        my $source = source($nginx);
        my $n = $source->{consecutive_failures};

        is_deeply(nonzero($source->{failures}), { $class => $n }, 'so often');
        is($source->{fetches}{failure}, $n, 'and all in all');
        is($source->{last_failure}{class}, $said // $class,
           'as $bog_token_error says');

        my $label = "source=\"$source->{source}\",class=\"$class\"";
        cmp_ok(metrics($nginx)->{"bog_failures_total{$label}"}, '>=', $n,
               'for Prometheus');

        is($nginx->stop, 0, 'stops');
    }
};


subtest 'holds' => sub {
    my $bank = bank();
    $bank->answer(hold => 1);

    my $nginx = gateway($bank, <<'END', workers => 2);
        location / { bog_wait_timeout 120s; %%PASS%% }
        location /short { bog_wait_timeout 200ms; %%PASS%% }
        location /optional { bog_wait_timeout 200ms; bog_token optional;
                             %%PASS%% }
END
    my $port = $nginx->port;
    my $held = sub { source($nginx)->{held} };
    my $label = 'source="8282@127.0.0.1:' . $bank->port . '"';

    ok($bank->wait_requests(1), 'the token is asked for');

    is(source($nginx)->{state}, 'missing', 'there is none');
    is(source($nginx)->{fetching}, JSON::PP::true, 'one is under way');
    is(get($port, '/short')->{status}, 503, 'a deadline');
    is(get($port, '/optional')->{status}, 401, 'goes without');

    parallel($port, 12, uri => '/', close_after => 0.25, timeout => 120,
        on_sent   => sub { is_soon($held, 12, 'twelve wait') },
        on_closed => sub {
            is_soon($held, 9, 'three have left');
            is(metrics($nginx)->{"bog_held_requests{$label}"}, 9,
               'for Prometheus');
            pass_time(0.1);
            $bank->release;
        });

    is_soon(sub { my $s = source($nginx); [@$s{qw(held holds)}] },
            [0, { token => 9, failure => 0, timeout => 2, aborted => 3 }],
            'how each has ended');

    my $source = source($nginx);
    is_deeply($source->{without_token}, { required => 1, optional => 1 },
              'two had no token');
    is_deeply($source->{fetches}, { success => 1, failure => 0, aborted => 0 },
              'one fetch');
    cmp_ok($source->{hold_seconds}, '>', 9 * 0.1, 'they have waited');

    my $metrics = metrics($nginx);
    my @buckets = map { $metrics->{"bog_hold_seconds_bucket{$label,le=\"$_\"}"} }
        qw(0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10 +Inf);

    is($metrics->{"bog_hold_seconds_count{$label}"}, 14, 'fourteen holds');
    is($buckets[-1], 14, 'in all buckets');
    is_deeply(\@buckets, [sort { $a <=> $b } @buckets], 'which add up');
    is($metrics->{"bog_hold_seconds_sum{$label}"},
       sprintf('%.3f', $source->{hold_seconds}), 'their sum');
    is($metrics->{"bog_fetch_duration_seconds_count{$label}"}, 1,
       'one fetch');

    $nginx->ends;
};


# One that is passed on to another location is one request still.

subtest 'without a token, passed on' => sub {
    my $bank = bank();
    $bank->answer(status => 500, body => 'x');

    my $nginx = gateway($bank, <<'END', http => 'bog_wait_timeout 0;');
        location = /first { error_page 503 /second; %%PASS%% }
        location = /second { %%PASS%% }
        location = /third { error_page 503 = @open; %%PASS%% }
        location @open { bog_token optional; %%PASS%% }
END
    is(get($nginx->port, '/first')->{status}, 503, 'refused twice');
    is_deeply(source($nginx)->{without_token},
              { required => 1, optional => 0 }, 'counted once');
    is(source($nginx)->{refused_last_minute}, 1, 'and refused');

    is(get($nginx->port, '/third')->{status}, 401, 'passed on');
    is_deeply(source($nginx)->{without_token},
              { required => 2, optional => 1 }, 'counted for each mode');

    $nginx->ends;
};


# A process that waits no more leaves its place to others, while it lives: here
# forty old ones that still send something.

subtest 'two generations' => sub {
    my $bank = bank();
    $bank->answer(hold => 1);

    my $nginx = gateway($bank, <<'END', workers => 40, http => <<'HTTP');
        location / { %%PASS%% }
        location = /slow { bog_token off; root %%DIR%%; limit_rate 100; }
        listen 127.0.0.1:%%PORT_1%% reuseport;
END
        bog_wait_timeout 100s;
        bog_read_timeout 100s;
HTTP
    $nginx->file(slow => 'x' x 100_000);

    my $open = sub {
        my ($n, $uri) = @_;

        map { my $client = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                                 PeerPort => $nginx->port(1))
                  or die "connect: $!\n";
              print $client "GET $uri HTTP/1.1\r\nHost: a\r\n\r\n";
              $client } 1 .. $n;
    };

    my @slow = $open->(300, '/slow');
    my @held = $open->(300, '/');

    is_soon(sub { source($nginx)->{held} }, 300, 'all wait');
    @held = ();
    is_soon(sub { source($nginx)->{held} }, 0, 'none does');

    # those before stay as well, for who is slow
    $nginx->reload;

    @held = $open->(300, '/');
    is_soon(sub { source($nginx)->{held} }, 300, 'all wait again');

    @slow = @held = ();
    $bank->release;
    $nginx->stop('TERM');
};


subtest 'a failure for all' => sub {
    my $bank = bank();
    $bank->answer(hold => 1);

    my $nginx = gateway($bank, 'location / { bog_wait_timeout 120s; %%PASS%% }');

    ok($bank->wait_requests(1), 'the token is asked for');

    # the next fetch comes later than the requests may wait

    parallel($nginx->port, 3, uri => '/', timeout => 120, on_sent => sub {
        is_soon(sub { source($nginx)->{held} }, 3, 'three wait');
        $bank->release(status => 503, headers => [['Retry-After' => 200]]);
    });

    is($bank->count, 1, 'one token request');

    is_soon(sub { my $s = source($nginx);
                  [$s->{holds}{failure}, $s->{without_token}{required}] },
            [3, 3], 'three got 503');
    $nginx->ends;
};


# A worker that dies takes its requests with it.

subtest 'a worker dies' => sub {
    my $bank = bank();
    $bank->answer(hold => 1);

    my $nginx = gateway($bank, 'location / { bog_wait_timeout 120s; %%PASS%% }',
                        workers => 2);

    ok($bank->wait_requests(1), 'the token is asked for');

    parallel($nginx->port, 6, uri => '/', timeout => 120, on_sent => sub {
        is_soon(sub { source($nginx)->{held} }, 6, 'six wait');
        $nginx->kill_worker($_) for $nginx->workers;
        is_soon(sub { source($nginx)->{held} }, 0, 'none does any more');
        $bank->answer(hold => 0);
        $bank->release;
    });

    is_soon(sub { source($nginx)->{state} }, 'valid', 'a token comes');
    is_deeply(source($nginx)->{fetches},
              { success => 1, failure => 0, aborted => 0 }, 'one success');

    is($nginx->stop, 0, 'stops');
};


subtest "the API's 401" => sub {
    my $bank = bank();
    my $nginx = gateway($bank, <<'END');
        location / { %%PASS%% }
        location /free { bog_token off; proxy_pass http://127.0.0.1:%%API%%; }
END
    my $port = $nginx->port;
    my $counts = sub {
        my $source = source($nginx);
        return [@$source{qw(unauthorized_answers rejected_tokens)}];
    };

    is(get($port, '/')->{status}, 200, 'a token');
    is(get($port, '/free')->{status}, 401, 'none');
    is_deeply($counts->(), [0, 0], 'which is not for us');

    revoke($bank);
    is(get($port, '/')->{status}, 401, 'revoked');
    is_soon($counts, [1, 1], 'one answer, one token');
    is(get($port, '/')->{status}, 200, 'a new token');

    revoke($bank);
    is(get($port, '/')->{status}, 401, 'again') for 1 .. 3;
    is_soon($counts, [4, 1], 'too soon: it is kept');

    is(source($nginx)->{fetches}{success}, 2, 'two tokens');
    is($bank->count, 2, 'two token requests');
    $nginx->ends;
};


# Old workers and new ones count in one place; a source that is new begins at
# nothing.

subtest 'reloads' => sub {
    my $bank = bank(credentials => { 8282 => 's3cret', 8383 => 'wr0ng-one' });
    my $nginx = gateway($bank, 'location / { %%PASS%% }', workers => 2);

    is(get($nginx->port, '/')->{status}, 200, 'a token');

    my $since = status($nginx)->{since};

    for my $n (1 .. 3) {
        $nginx->reload(wait_old => 1);

        my $status = status($nginx);
        is($status->{reloads}, $n, "reload $n");
        is($status->{since}, $since, 'counted since the start');
        is($status->{sources}[0]{fetches}{success}, 1, 'counts go on');
    }

    is(metrics($nginx)->{bog_reloads_total}, 3, 'for Prometheus');

    my $conf = slurp($nginx->dir . '/nginx.conf');

    $nginx->file('nginx.conf', "$conf}\n");
    $nginx->signal('HUP');
    ok($nginx->wait_log(qr/unexpected "\}"/), 'one that does not load');
    is(status($nginx)->{reloads}, 3, 'is none');

    $nginx->file('nginx.conf', $conf =~ s{(location / \{)}{
        location /2 {
            bog_client_id           8383;
            bog_client_secret_file  $nginx->{dir}/secret/wrong;
            proxy_pass              http://127.0.0.1:1;
        }
        $1}r);
    $nginx->reload;

    is_soon(sub { [map { $_->{fetches}{success} }
                   @{ status($nginx)->{sources} }] }, [1, 1],
            'another source');
    is($bank->count, 2, 'two token requests');

    is($nginx->stop, 0, 'stops');
};


# An hour of a merchant's life in fifteen seconds: tokens live for two.  All
# that is counted is compared with what the bank and the clients saw.

subtest 'an hour' => sub {
    my $bank = bank();
    $bank->answer(expires_in => 2);

    my $nginx = gateway($bank, 'location / { bog_wait_timeout 30s; %%PASS%% }',
                        workers => 2, http => 'bog_refresh_before 500ms;');

    is(get($nginx->port, '/')->{status}, 200, 'it begins');

    my $load = steady($nginx->port, rate => 40, seconds => 15, uri => '/');
    my $fetches = sub { ok($bank->wait_requests($_[0]), "fetch $_[0]") };

    $fetches->(3);
    $bank->queue({ status => 500 }, { status => 502 });
    $fetches->(6);
    $nginx->reload;
    $bank->queue({ body => '[]' });
    $fetches->(8);
    is_soon(sub { source($nginx)->{fetches}{success} }, 5, 'a token again');

    # the third 401 in a row counts
    $bank->revoke(($bank->tokens)[-1]{token}, 0);
    $fetches->(9);
    $nginx->reload;

    my $result = $load->result;
    my $unauthorized = $result->{status}{401} // 0;

    is_deeply($result->{errors}, {}, 'every request had an answer');
    cmp_ok($unauthorized, '>', 0, 'some were revoked');
    my $refused = $result->{status}{503} // 0;

    is($result->{status}{200} + $unauthorized + $refused, 600,
       'and all but some had a token');

    # the last one has come, and no other comes to its end
    $bank->answer(hold => 1);
    ok($bank->wait_count(held => 1), 'the end');

    my $n = scalar $bank->tokens;

    # the one before it may have been given out again for a moment
    my $replaced = () = $nginx->log =~ /\[warn\].* was rejected, /g;
    ok($replaced == 1 || $replaced == 2, 'the token is replaced');

    is_soon(sub {
        my $status = status($nginx);
        my ($source) = @{ $status->{sources} };

        return [$source->{fetches}, nonzero($source->{failures}),
                @$source{qw(rejected_tokens unauthorized_answers)},
                $source->{without_token}{required}, $status->{reloads}];
    }, [{ success => $n, failure => 3, aborted => 0 },
        { http_5xx => 2, malformed => 1 }, $replaced, $unauthorized, $refused,
        2],
       'to the count');

    is($n + 3 + 1, $bank->count, 'what the bank saw');

    $bank->release;
    is($nginx->stop, 0, 'stops');
};


# A long answer is made at once, and sent as the client reads it.

my $many = 400;

sub many {
    my ($bank, $locations, %opt) = @_;

    return gateway($bank, join("\n", map({
        "location /$_/ { bog_client_id id-$_; %%PASS%% }"
    } 1 .. $many), $locations), %opt);
}


subtest 'many sources' => sub {
    my $bank = bank(verify => 0);
    my $nginx = many($bank, <<'END');
        location = /slow { limit_rate 1m; bog_status prometheus; }
        location = /zipped { gzip on; gzip_types text/plain;
                             bog_status prometheus; }
        location = /both.html { ssi on; root %%DIR%%/html; }
END
    $nginx->file('html/both.html', join ' and ',
                 ('<!--# include virtual="/json" -->') x 2);

    my $port = $nginx->port;

    ok($bank->wait_count(answered => $many), 'all are fetched');
    is_soon(sub { scalar grep { $_->{state} eq 'valid' }
                  @{ status($nginx)->{sources} } }, $many, 'all are valid');

    is_deeply([map { $_->{client_id} } @{ status($nginx)->{sources} }],
              [map { "id-$_" } 1 .. $many], 'in their order');

    my $answer = get($port, '/metrics');
    my $samples = samples($answer->{body});
    my $lines = $answer->{body} =~ tr/\n//;

    is(header($answer, 'Content-Length'), length $answer->{body},
       'its length');
    is(scalar(grep { /^bog_token_valid\{/ } keys %$samples), $many,
       'one sample each');
    is($samples->{bog_sources}, $many, 'to the end');
    ok(!exists $samples->{bad}, 'and nothing else') or diag $samples->{bad};

    my @names = $answer->{body} =~ /^# TYPE (\S+)/mg;
    my %names = map { $_ => 1 } @names;
    is_deeply([sort keys %names], [sort @names], 'each metric once');

    is(get($port, '/slow')->{body} =~ tr/\n//, $lines, 'at a limited rate');

    my $zipped = get($port, '/zipped',
                     headers => [['Accept-Encoding', 'gzip']]);
    is(header($zipped, 'Content-Encoding'), 'gzip', 'compressed');

    require IO::Uncompress::Gunzip;
    IO::Uncompress::Gunzip::gunzip(\$zipped->{body}, \my $text);
    is($text =~ tr/\n//, $lines, 'all of it');

    my @parts = split / and /, get($port, '/both.html')->{body};
    is_deeply([map { scalar @{ JSON::PP->new->utf8->decode($_)->{sources} } }
               @parts], [$many, $many], 'two in one, by SSI');

    my @answers = parallel($port, 20, uri => '/metrics', close_after => 0.5,
                           timeout => 120);
    is(scalar(grep { ($_->{body} // '') =~ /^bog_sources $many\n\z/m }
              @answers), 10, 'ten at once, while ten leave');

    $nginx->ends;
};


# One that does not read is given up.

subtest 'who does not read' => sub {
    my $bank = bank(verify => 0);
    my $nginx = many($bank, '', http => 'send_timeout 1s;');

    my $client = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                       PeerPort => $nginx->port)
        or die "connect: $!\n";

    setsockopt $client, SOL_SOCKET, SO_RCVBUF, 4096;

    # more than all that lies between us can hold
    print $client "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" x 30;

    ok($nginx->wait_log(qr/client timed out/), 'is given up');
    is(get($nginx->port, '/json')->{status}, 200, 'others are served');

    close $client;
    is($nginx->stop, 0, 'stops');
};


# A worker that is to exit sends what it has begun.

subtest 'a worker exits' => sub {
    my $bank = bank(verify => 0);
    my $nginx = many($bank, '');

    ok($bank->wait_count(answered => $many), 'all are fetched');

    my $whole = 0;

    for (1 .. 10) {
        my $client = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                           PeerPort => $nginx->port)
            or die "connect: $!\n";

        print $client "GET /metrics HTTP/1.1\r\nHost: a\r\n"
                      . "Connection: close\r\n\r\n";
        sysread $client, my $answer, 1000;

        my ($worker) = $nginx->workers;
        kill QUIT => $worker;

        1 while sysread $client, $answer, 65536, length $answer;
        $whole++ if $answer =~ /^bog_sources $many\n\z/m;

        wait_until { my @pids = $nginx->workers;
                     @pids == 1 && $pids[0] != $worker };
    }

    is($whole, 10, 'when it has sent all');
    $nginx->ends;
};


# The streams of a connection that has gone are not waited for.

subtest 'HTTP/2, a client leaves' => sub {
    my $bank = bank(verify => 0);
    my $nginx = many($bank, 'listen 127.0.0.1:%%PORT_1%% http2;',
                     http => 'send_timeout 600s;');

    ok($bank->wait_count(answered => $many), 'all are fetched');

    my $client = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                       PeerPort => $nginx->port(1))
        or die "connect: $!\n";

    # GET http://a/metrics, and never a window beyond the first 65535 bytes
    my $headers = "\x82\x86\x01\x01a\x04\x08/metrics";

    print $client "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\0\0\0\4\0\0\0\0\0",
        substr(pack('N', length $headers), 1), "\1\5\0\0\0\1", $headers;

    my $read = 0;

    while ($read < 65535) {
        $read += sysread($client, my $data, 65536) || last;
    }

    cmp_ok($read, '>=', 65535, 'the window is used up');
    close $client;

    is(eval { $nginx->stop(QUIT => 20) }, 0, 'stops');
};


subtest 'HTTP/2' => sub {
    plan skip_all => 'no h2load' if system 'command -v h2load > /dev/null';

    my $bank = bank(verify => 0);
    my $nginx = many($bank, 'listen 127.0.0.1:%%PORT_1%% http2;');

    ok($bank->wait_count(answered => $many), 'all are fetched');

    my $result = h2load($nginx->port(1), n => 40, c => 2, m => 10,
                        uri => '/metrics');
    is($result->{succeeded}, 40, 'all answered') or diag $result->{output};
    is($result->{'2xx'}, 40, 'with 200');

    is($nginx->stop, 0, 'stops');
};


# nginx keeps the handler of a location in an "if", and nothing else of it.

subtest 'in an if' => sub {
    my $bank = bank();
    $bank->answer(hold => 1);

    my $nginx = gateway($bank, <<'END');
        location / { %%PASS%% }
        location = /if { bog_status prometheus; if ($uri) { set $a b; } }
        location = /any { bog_status; if ($uri) { set $a b; } }
        location = /limited { bog_status; limit_except GET { deny all; } }
        location = /other {
            bog_status;
            bog_token off;
            if ($uri) { proxy_pass http://127.0.0.1:%%API%%; }
        }
END
    my $port = $nginx->port;

    ok($bank->wait_requests(1), 'the token is asked for');

    is(header(get($port, '/if'), 'Content-Type'),
       'text/plain; version=0.0.4; charset=utf-8', 'as configured');
    is(header(get($port, '/any'), 'Content-Type'), 'application/json',
       'by itself');
    is(get($port, '/limited')->{status}, 200, 'allowed');
    is(get($port, '/limited', method => 'POST')->{status}, 403, 'denied');
    is(get($port, '/other')->{status}, 401, "another one's");

    $bank->release;
    $nginx->ends;
};


subtest 'no sources' => sub {
    my $nginx = Bog::Nginx->new(conf => <<'END');
        server { listen 127.0.0.1:%%PORT%%; location / { bog_status; } }
END
    $nginx->start;

    my $port = $nginx->port;

    is_deeply(JSON::PP->new->decode(get($port, '/')->{body})->{sources}, [],
              'in JSON');
    is(get($port, '/?format=text')->{body},
       "WARNING - 0 sources\n", 'as text');
    is(get($port, '/?check')->{status}, 200, 'none is missing');
    is(samples(get($port, '/?format=prometheus')->{body})->{bog_sources}, 0,
       'for Prometheus');

    $nginx->ends;
};


done_testing();
