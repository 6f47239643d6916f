# The variables in all their states and in all places that can use them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA 'sha256_hex';
use IO::Socket::INET;
use Test::More;

use Bog::Bank;
use Bog::CA;
use Bog::Client qw(get parallel header);
use Bog::DNS;
use Bog::Nginx;
use Bog::Util qw(now timeout wait_until slurp free_port);

my $all = '$bog_token_state|$bog_token_error|$bog_token_expires|$bog_token_id'
          . '|$bog_bearer_token|$bog_hold_time';
my $authorization = 'proxy_set_header Authorization'
                    . ' "Bearer $bog_bearer_token";';


sub bank { Bog::Bank->new(credentials => { 8282 => 's3cret' }) }

sub gateway {
    my ($bank, $conf, %opt) = @_;

    $conf =~ s/%%ALL%%/$all/g;
    $conf =~ s/%%URL%%/$bank->url/ge;
    $conf =~ s/%%PASS%%/$authorization proxy_pass http:\/\/127.0.0.1:%%API%%;/g;
    $conf =~ s/%%API%%/$bank->api_port/ge;

    my $nginx = Bog::Nginx->new(
        status => 1, secret => { main => "s3cret\n" }, %opt,
        conf   => <<"END");
        ${\ ($opt{http} // '') }
        server {
            listen 127.0.0.1:%%PORT%%;
            root %%DIR%%/html;

            bog_client_id           8282;
            bog_client_secret_file  %%SECRET_main%%;
            bog_token_endpoint      ${\ $bank->url };
            bog_wait_timeout        120s;
            bog_read_timeout        120s;

            # somebody has to need the token
            location /needs { proxy_pass http://127.0.0.1:1; }

            $conf
        }
END
    $nginx->file('html/file', 'static');

    return $nginx->start;
}


sub id { substr sha256_hex($_[0]), 0, 16 }
sub body { get($_[0]->port, $_[1])->{body} }

sub token { my ($token) = map { $_->{token} } $_[0]->tokens; $token }


# The token, once nginx has it.

sub obtained {
    my ($bank, $nginx) = @_;

    ok($nginx->wait_log(qr/token obtained/), 'a token is obtained');

    return token($bank);
}


# They tell merchants apart, in a log too, whether there is a token or not.

subtest 'whose token' => sub {
    my $bank = bank();
    $bank->answer(hold => 1);

    my $nginx = gateway($bank, <<'END', http => <<'HTTP');
        access_log %%DIR%%/who.log who;

        location /one { return 200 "$bog_client_id $bog_source"; }
        location /two { bog_client_id 8283; %%PASS%% bog_wait_timeout 100ms; }
        location /file { }
        location /to { rewrite ^ /two last; }
        location /off { bog_token off; return 200 "$bog_client_id$bog_source"; }
END
        log_format who '$request_uri $status "$bog_client_id" "$bog_source"';
HTTP
    my $host = '127.0.0.1:' . $bank->port;

    is(body($nginx, '/one'), "8282 8282\@$host", 'both');
    is(body($nginx, '/off'), '', 'none');
    is(get($nginx->port, $_)->{status}, 503, $_) for qw(/two /to);
    is(body($nginx, '/file'), 'static', 'a file');

    my $log = join '',
        qq{/one 200 "8282" "8282\@$host"\n}, qq{/off 200 "-" "-"\n},
        map({ qq{$_ 503 "8283" "8283\@$host"\n} } qw(/two /to)),
        qq{/file 200 "8282" "8282\@$host"\n};

    wait_until { slurp("$nginx->{dir}/who.log") eq $log };
    is(slurp("$nginx->{dir}/who.log"), $log, 'the access log');
};


# Both count to the moment at which the token expires, and not to its last five
# seconds, in which it is not given out.

subtest '$bog_token_expires, and the lifetime in the log' => sub {
    my $bank = bank();
    $bank->answer(expires_in => 3000);

    my $start = now();
    my $nginx = gateway($bank,
                        'location /left { return 200 $bog_token_expires; }');

    my $line = $nginx->wait_log(qr/(token obtained.*)\n/);
    my $left = body($nginx, '/left');
    my $took = now() - $start;

    like($line, qr/\Atoken\ obtained,\ lifetime:\ 3000s,
                   \ next\ refresh\ in\ [0-9]+s,\ client\ id:\ "8282",
                   \ token\ endpoint:\ "\Q${\ $bank->url }\E",
                   \ upstream:\ "127\.0\.0\.1:${\ $bank->port }"\z/x,
         'the log');
    cmp_ok($left, '<=', 3000, 'the variable');
    cmp_ok($left, '>=', int(3000 - $took - 1), 'to the second');

    $nginx->ends;
};


subtest 'valid, refreshing, missing, off' => sub {
    my $bank = bank();
    $bank->answer(hold => 1, expires_in => 10);

    my $nginx = gateway($bank, <<'END');
        bog_refresh_before 9s;
        location /all { return 200 "%%ALL%%"; }
        location /off { bog_token off; return 200 "%%ALL%%"; }
END
    ok($bank->wait_requests(1), 'the token is asked for');
    is(body($nginx, '/all'), 'missing|||||0.000', 'missing');
    is(body($nginx, '/off'), 'off|||||0.000', 'off');

    my $start = now();
    $bank->release;

    my $token = obtained($bank, $nginx);
    my $id = id($token);

    # half of the lifetime, for bog_refresh_before is longer
    my $seen = body($nginx, '/all');
    my $took = now() - $start;

    my ($expires) = $seen =~ s/\|(\d+)\|/|N|/ && $1;

    is($seen, "valid||N|$id|$token|0.000", 'valid');
    cmp_ok($expires, '<=', 10, 'expires');
    cmp_ok($expires, '>=', int(10 - $took - 1), 'exactly');
    is(body($nginx, '/off'), 'off|||||0.000', 'off, all the same');

    ok($bank->wait_requests(2, 20), 'a refresh');
    $seen = body($nginx, '/all');
    $took = now() - $start;

    like($seen, qr/^refreshing\|\|\d\|$id\|\Q$token\E\|0\.000\z/,
         'refreshing, and valid');

    $bank->release(status => 500, hold => 0);
    ok($nginx->wait_log(qr/token request failed/), 'which fails');
    like(body($nginx, '/all'),
         qr/^refreshing\|http_500\|\d\|$id\|\Q$token\E\|0\.000\z/,
         'the error, and still the token');

    ok($bank->wait_requests(3, 20), 'another one');
    $bank->answer(expires_in => 100);
    $bank->release(expires_in => 100);

    ok($nginx->wait_log(qr/token obtained again/), 'which brings a token');
    my ($new) = map { $_->{token} } ($bank->tokens)[-1];
    isnt($new, $token, 'another one');

    # three seconds later it is given out
    ok(wait_until {
        body($nginx, '/all')
            =~ /^valid\|\|\d+\|${\ id($new) }\|\Q$new\E\|0\.000\z/;
    }, 'valid, the error forgotten');

    $nginx->ends;
};


subtest 'the end of a token' => sub {
    my $bank = bank();
    $bank->queue({ expires_in => 2 });
    $bank->answer(status => 503, headers => [['Retry-After' => 100]]);

    my $nginx = gateway($bank, 'location /all { return 200 "%%ALL%%"; }');
    my $token = obtained($bank, $nginx);

    my $last = '';
    my $state = wait_until {
        my $seen = body($nginx, '/all');
        $seen =~ /^missing/ ? $seen : ($last = $seen) && undef;
    };

    is($state, 'missing|http_503||||0.000', 'it is gone');
    like($last, qr/^refreshing\|http_503\|0\|${\ id($token) }/,
         'in its last second it was there');
    is($bank->count, 2, 'two token requests');

    $nginx->ends;
};


subtest 'classes of errors' => sub {
    my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret' },
                              tls => Bog::CA->shared->cert(name => 'a.test'));
    my $other = Bog::Bank->new(verify => 0);
    my $dns = Bog::DNS->new;

    $other->answer(hold => 1);

    my ($closed) = free_port();

    # the endpoint, how it is asked, what is seen
    my %endpoints = (
        resolve   => ['http://no.test/token',
                      "resolver 127.0.0.1:${\ $dns->port } ipv6=off;"],
        connect   => ["http://127.0.0.1:$closed/token"],
        tls       => [$bank->url('tls')],
        timeout   => [$other->url, 'bog_read_timeout 500ms;'],
        rejected  => [$bank->url, 'bog_client_id other;'],
        http_404  => ["http://127.0.0.1:${\ $bank->port }/none"],
    );

    my $conf = join "\n", map {
        my ($url, @more) = @{ $endpoints{$_} };
        my $id = "@more" =~ /bog_client_id/ ? '' : "bog_client_id $_;";

        "location /$_ { bog_token_endpoint $url; $id @more"
        . ' return 200 "$bog_token_error|$bog_token_state|$bog_token_id"; }';
    } sort keys %endpoints;

    my $nginx = gateway($bank, $conf);

    for my $class (sort keys %endpoints) {
        my $seen = wait_until {
            my $body = body($nginx, "/$class");
            $body =~ /^\|/ ? undef : $body;
        };

        is($seen, "$class|missing|", $class);
    }

    $nginx->ends;
};


subtest 'places' => sub {
    my $bank = bank();

    my $nginx = gateway($bank, <<'END', http => <<'HTTP');
        location /header { proxy_set_header X-Token $bog_bearer_token;
                           proxy_set_header X-State "<$bog_token_state>";
                           %%PASS%% }
        location /body { proxy_set_body "t=$bog_bearer_token"; %%PASS%% }
        location /set { set $a "1-$bog_bearer_token"; set $b $a-2;
                        return 200 $b; }
        location /map { return 200 $mapped; }
        location /if { if ($bog_token_state = valid) { return 200 yes; }
                       return 200 no; }
        location /iftoken { if ($bog_bearer_token) { return 200 yes; }
                            return 200 no; }
        location /ifpass { if ($bog_token_state = valid) {
                           proxy_pass http://127.0.0.1:%%API%%; }
                           proxy_set_header Authorization
                               "Bearer $bog_bearer_token"; }
        location /add { add_header X-Id $bog_token_id;
                        add_header X-Twice "$bog_token_id $bog_token_id";
                        return 204; }
        location /trailer { add_trailer X-Id $bog_token_id; %%PASS%% }
        location /return { return 200 "$bog_bearer_token"; }
        location /redirect { return 302 /x?$bog_token_id; }
        location /rewrite { rewrite ^ /rewritten?$bog_token_id break;
                            %%PASS%% }
        location /rewritten { return 200 $args; }
        location /rewrite/last { rewrite ^ /rewritten?$bog_token_id last; }
        location /try { try_files /$bog_token_id /rewritten?$bog_token_id; }
        location /page { error_page 404 =200 /rewritten?$bog_token_id;
                         return 404; }
        location /named { error_page 404 = @named; return 404; }
        location @named { return 200 "$bog_token_id $bog_token_state"; }
        location /pass { proxy_set_header Authorization
                             "Bearer $bog_bearer_token";
                         proxy_pass http://127.0.0.1:%%API%%/$bog_token_id; }
        location /limit { limit_req zone=id burst=10; return 200 ok; }
        location /auth { auth_request /check; auth_request_set $got
                             $bog_token_id;
                         auth_request_set $sent $upstream_http_content_length;
                         bog_token off; proxy_set_header X-Got $got;
                         proxy_pass http://127.0.0.1:%%API%%; }
        location = /check { %%PASS%% }
        location /sub { sub_filter static $bog_token_id; sub_filter_once off;
                        sub_filter_types *; alias %%DIR%%/html/file; }
END
        map $bog_token_state $mapped { valid "good $bog_token_id";
                                       default bad; }
        limit_req_zone $bog_token_id zone=id:1m rate=100r/s;
HTTP

    my $token = obtained($bank, $nginx);
    my $id = id($token);

    my %expected = (
        '/set' => "1-$token-2", '/map' => "good $id", '/if' => 'yes',
        '/iftoken' => 'yes', '/return' => $token, '/rewrite/last' => $id,
        '/try' => $id, '/page' => $id, '/named' => "$id valid",
        '/limit' => 'ok', '/sub' => $id,
    );

    is(body($nginx, $_), $expected{$_}, $_) for sort keys %expected;

    my $add = get($nginx->port, '/add');

    is(header($add, 'X-Id'), $id, '/add');
    is(header($add, 'X-Twice'), "$id $id", 'twice');
    like(header(get($nginx->port, '/redirect'), 'Location'), qr{/x\?$id\z},
         '/redirect');
    like(get($nginx->port, '/trailer')->{raw}, qr/^X-Id: $id\r$/m, '/trailer');

    my $api = sub {
        my $uri = shift;
        get($nginx->port, $uri);
        return ($bank->api_requests)[-1];
    };

    my $header = $api->('/header');

    is($header->{authorization}, "Bearer $token", '/header');
    like($header->{raw}, qr/^X-Token: \Q$token\E\r$/m, 'the token alone');
    like($header->{raw}, qr/^X-State: <valid>\r$/m, 'and its state');
    is($api->('/body')->{body}, "t=$token", '/body');
    is($api->('/ifpass')->{state}, 'valid', '/ifpass');
    is($api->('/rewrite')->{uri}, "/rewritten?$id", '/rewrite');
    is($api->('/pass')->{uri}, "/$id", '/pass');

    my $auth = $api->('/auth');

    unlike($auth->{raw}, qr/^Authorization/m, '/auth: none of its own');
    like($auth->{raw}, qr/^X-Got: $id\r$/m,
         'but what its subrequest got');
    is((grep { $_->{uri} eq '/check' } $bank->api_requests)[0]{state},
       'valid', 'which had the token');

    is($bank->count, 1, 'one token request');
    $nginx->ends;
};


# What a location of the log format's server says of requests of any kind.

subtest 'the access log' => sub {
    my $bank = bank();
    $bank->answer(hold => 1);

    my $nginx = gateway($bank, <<'END', http => <<'HTTP');
        access_log %%DIR%%/token.log token;

        location /pass { %%PASS%% }
        location /return { return 200; }
        location /off { bog_token off; return 200; }
        location /named { error_page 404 = @named; return 404; }
        location @named { %%PASS%% }
        location /slow { limit_rate 500; return 200 "0123456789012345"; }
        location /cached { proxy_cache one; proxy_cache_valid 200 1m; %%PASS%% }
        location /page { bog_wait_timeout 100ms; error_page 503 /file;
                         %%PASS%% }
END
        log_format token '$request_uri $status $bog_token_state'
                         ' [$bog_token_id] [$bog_token_error]'
                         ' [$bog_token_expires] $bog_hold_time';
        proxy_cache_path %%DIR%%/cache keys_zone=one:1m;
HTTP

    # a filter finds that it is not what the client has: 412
    my $old = [['If-Unmodified-Since', 'Sun, 06 Nov 1994 08:49:37 GMT']];

    my $lines = sub { split /\n/, slurp($nginx->dir . '/token.log') };
    my $line = sub {
        my ($uri) = @_;

        my $before = grep { /^$uri / } $lines->();
        my @found;

        get($nginx->port, $uri);
        # the client may be faster than the log
        wait_until { (@found = grep { /^$uri / } $lines->()) > $before };

        return $found[-1];
    };

    ok($bank->wait_requests(1), 'the token is asked for');

    is($line->('/file'), '/file 200 missing [-] [-] [-] 0.000', 'no token yet');
    is($line->('/off'), '/off 200 off [-] [-] [-] 0.000', 'off');
    like($line->('/page'),
         qr{^/page 503 missing \[-\] \[-\] \[-\] 0\.[1-4]\d\d$},
         'an error page after a wait');

    parallel($nginx->port, 3, headers => $old,
        uri     => sub { ('/pass', '/named', '/cached')[$_[0]] },
        on_sent => sub {
            ok($nginx->wait_active(3), 'held');
            # for longer than what the log writes as nothing
            select undef, undef, undef, 0.01;
            $bank->release;
        });

    # the one worker has written its log when it answers anything else
    $nginx->active;

    my $id = id(token($bank));
    my $valid = qr{200 valid \[$id\] \[-\] \[(?:29\d|300)\]};

    like((grep { m{^/pass} } $lines->())[-1],
         qr{^/pass $valid (?!0\.000)\d+\.\d{3}$}, 'a request that waited');
    like((grep { m{^/named} } $lines->())[-1],
         qr{^/named $valid (?!0\.000)\d+\.\d{3}$}, 'in a named location');
    like((grep { m{^/cached} } $lines->())[-1],
         qr{^/cached 412 valid \[$id\] \[-\] \[\d+\] (?!0\.000)\d+\.\d{3}$},
         'where a filter has sent an error');

    like($line->($_), qr{^$_ $valid 0\.000$}, $_)
        for '/pass', '/return', '/file', '/named', '/slow';

    is($bank->count, 1, 'one token request');
    $nginx->ends;
};


# One request sees one token, however long it takes.

subtest 'one token for a request' => sub {
    my $bank = bank();
    $bank->queue({ expires_in => 4 });
    $bank->answer(expires_in => 300);

    my $nginx = gateway($bank, <<'END', http => <<'HTTP');
        access_log %%DIR%%/token.log token;

        location /a { add_header X-Id $bog_token_id;
                      add_trailer X-Late $bog_token_id; %%PASS%% }
END
        log_format token '$request_uri $bog_token_id';
HTTP

    my $token = obtained($bank, $nginx);

    # the answer comes when the token has been refreshed, and has expired
    $bank->api_answer(delay => 4, body => '{}');

    my ($answer) = parallel($nginx->port, 1, uri => '/a', on_sent => sub {
        ok($bank->wait_count(api => 1), 'a request');
        ok($bank->wait_requests(2, 10), 'a refresh meanwhile');
    });

    my $id = id($token);

    isnt(($bank->tokens)[-1]{token}, $token, 'another token');
    is(($bank->api_requests)[0]{authorization}, "Bearer $token",
       'the request');
    is(header($answer, 'X-Id'), $id, 'the answer');
    is(wait_until { (split /\n/, slurp($nginx->dir . '/token.log'))[0] },
       "/a $id", 'the log');

    $nginx->ends;
};


# A rewrite evaluates its value twice, all of it, and the token that the request
# was given has ended since: what comes before another one is as long both times.

for my $case (
    ['there is one', { expires_in => 3000 }, qr{^299\d//tok-[^/]+/$}],
    ['there is none', { status => 401, body => '{}' }, qr{^/rejected//$}])
{
    my ($name, $how, $expected) = @$case;

    subtest "a value with the next token: $name" => sub {
        my $bank = bank();
        $bank->queue({ expires_in => 2 });
        $bank->answer(%$how);

        my $nginx = gateway($bank, <<'END');
            location /a { %%PASS%%
                          proxy_intercept_errors on;
                          error_page 502 = @again; }

            location @again {
                set $all
                    "$bog_token_expires/$bog_token_error/$bog_bearer_token/";
                return 200 $all;
            }
END
        my $token = obtained($bank, $nginx);

        $bank->api_answer(delay => 3, status => 502, body => '');

        my $body = body($nginx, '/a');

        is(($bank->api_requests)[0]{authorization}, "Bearer $token",
           'the request');
        like($body, $expected, 'the value, all of it');

        $nginx->ends;
    };
}


# Each request has a hold on its token, and has to let go of it.

subtest 'tokens of the past' => sub {
    my $bank = bank();
    $bank->answer(expires_in => 0.5);

    my $nginx = gateway($bank, <<'END', http => <<'HTTP');
        access_log %%DIR%%/token.log token;

        location /pass { %%PASS%% }
        location /return { return 200; }
        location /read { return 200 $bog_token_id; }
        location /slow { limit_rate 1000; return 200 "$bog_token_id"; }
        location /page { error_page 404 /file; return 404; }
END
        log_format token '$request_uri $bog_token_id $bog_token_expires';
HTTP

    obtained($bank, $nginx);

    my ($worker) = $nginx->workers;

    # the worker's memory that is kept out of core dumps, in kB
    my $kept = sub {
        my ($sum, $size) = (0, 0);

        for (split /\n/, slurp("/proc/$worker/smaps")) {
            $size = $1 if /^Size: +(\d+) kB/;
            $sum += $size if /^VmFlags:.* dd/;
        }

        return $sum;
    };

    # a fetch under way has a few megabytes for itself
    my $least = sub {
        my $least;

        wait_until {
            my $now = $kept->();
            $least = $now if !defined $least || $now < $least;
            undef;
        } 1;

        return $least;
    };

    plan skip_all => 'no flags of memory'
        unless slurp("/proc/$worker/smaps") =~ /^VmFlags:.* dd/m;

    my $before = $least->();
    my $n = $bank->count;

    for my $more (1 .. 12) {
        get($nginx->port, $_) for qw(/pass /return /read /slow /page /file);
        $bank->wait_requests($n + $more);
    }

    my $after = $least->();

    cmp_ok($after, '<=', $before + 64, 'are forgotten');

    $nginx->ends;
};


# A location has the token of its own source, wherever a request comes from.

subtest 'from source to source' => sub {
    my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret',
                                               two => 's3cret' });

    my $nginx = gateway($bank, <<'END');
        location /a { error_page 404 = @b; return 404; }
        location @b { bog_client_id two; %%PASS%% }
        location /both { auth_request /check; bog_client_id two; %%PASS%% }
        location = /check { %%PASS%% }
        location /back { bog_client_id two; set $x $bog_token_id;
                         error_page 404 = @one; return 404; }
        location @one { add_header X-Was $x; %%PASS%% }
END
    wait_until { $bank->counts->{answered} == 2 };

    get($nginx->port, $_) for qw(/a /both /back);

    is(join(' ', map { "$_->{uri} $_->{client}" } $bank->api_requests),
       '/a two /check 8282 /both two /back 8282', 'to each its own');
    is($bank->count, 2, 'two token requests');

    $nginx->ends;
};


# Subrequests and redirects share what nginx keeps of variables.

subtest 'a map, from source to source' => sub {
    my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret',
                                               two => 's3cret' });
    my $pass = 'proxy_set_header Authorization $authorization;'
               . ' proxy_pass http://127.0.0.1:%%API%%;';

    my $nginx = gateway($bank, <<"END", http => <<'HTTP');
        location /a { auth_request /check; $pass }
        location = /check { bog_client_id two; $pass }
        location /b { error_page 502 = \@two;
                      proxy_set_header Authorization \$authorization;
                      proxy_pass http://127.0.0.1:1; }
        location \@two { bog_client_id two; $pass }
END
        map $bog_bearer_token $authorization {
            volatile;
            default "Bearer $bog_bearer_token";
        }
HTTP
    wait_until { $bank->counts->{answered} == 2 };

    is(get($nginx->port, $_)->{status}, 200, $_) for qw(/a /b);

    is(join(' ', map { "$_->{uri} $_->{client}" } $bank->api_requests),
       '/check two /a 8282 /b two', 'to each its own, as it is volatile');

    $nginx->ends;
};


subtest 'fastcgi, uwsgi, scgi' => sub {
    my $bank = bank();
    my %listeners;

    # It reads what comes, and closes: the parameters are readable as they are.
    my $sink = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 10);

    my $nginx = gateway($bank, <<"END");
        location /fastcgi { fastcgi_pass 127.0.0.1:${\ $sink->sockport };
            fastcgi_param HTTP_AUTHORIZATION "Bearer \$bog_bearer_token"; }
        location /uwsgi { uwsgi_pass 127.0.0.1:${\ $sink->sockport };
            uwsgi_param HTTP_AUTHORIZATION "Bearer \$bog_bearer_token"; }
        location /scgi { scgi_pass 127.0.0.1:${\ $sink->sockport };
            scgi_param HTTP_AUTHORIZATION "Bearer \$bog_bearer_token"; }
        location /grpc { grpc_pass grpc://127.0.0.1:${\ $sink->sockport };
            grpc_set_header X-Token \$bog_bearer_token; }
END
    my $token = obtained($bank, $nginx);

    for my $uri (qw(/fastcgi /uwsgi /scgi)) {
        my $bytes = '';

        my ($answer) = parallel($nginx->port, 1, uri => $uri, on_sent => sub {
            my $fh = $sink->accept;

            wait_until {
                sysread $fh, $bytes, 65536, length $bytes;
                $bytes =~ /\Q$token\E/;
            };

            close $fh;
        });

        like($bytes, qr/HTTP_AUTHORIZATION[\0-\x1f]*Bearer \Q$token\E/, $uri);
    }

    $nginx->ends;
};


done_testing;
