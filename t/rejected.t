# The API's 401: a new token is asked for, once, however many requests get one;
# the token that was rejected serves on where there is no other.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA 'sha256_hex';
use IO::Socket::INET;
use Test::More;
use Time::HiRes 'sleep';

use Bog::Bank;
use Bog::Client qw(get parallel header steady);
use Bog::Nginx;
use Bog::Util qw(now pass_time timeout wait_until);

my $rejected = { status => 401, body => '{"error":"invalid_token"}' };


sub bank { Bog::Bank->new(credentials => { 8282 => 's3cret' }) }


# %opt: locations, http, and what Bog::Nginx takes.

sub gateway {
    my ($bank, %opt) = @_;

    my $api = '127.0.0.1:' . $bank->api_port;

    my $locations = delete $opt{locations} // "
            location / {
                proxy_pass http://$api;
                proxy_set_header Authorization \"Bearer \$bog_bearer_token\";
            }";

    my $http = delete $opt{http} // '';

    s/%%API%%/$api/g for $locations, $http;

    my $nginx = Bog::Nginx->new(log_level => 'info', %opt,
        secret => { main => "s3cret\n" }, conf => <<"END");
        $http

        bog_client_id           8282;
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      ${\ $bank->url };

        server {
            listen 127.0.0.1:%%PORT%%;
            listen 127.0.0.1:%%PORT_1%% reuseport;
            add_header X-Worker \$pid always;
            $locations
        }
END
    return $nginx->start;
}


sub statuses {
    my %count;
    $count{$_->{status} // $_->{error}}++ for @_;
    return \%count;
}


sub count_of {
    my ($nginx, $pattern) = @_;
    return scalar(() = $nginx->log =~ /$pattern/g);
}


# What the log says of rejected tokens, in the order of its lines: the level,
# the token's number in the order of its issue, and what follows.

sub outcomes {
    my ($bank, $nginx) = @_;

    my $n = 0;
    my %number = map { (substr(sha256_hex($_->{token}), 0, 16), ++$n) }
                 $bank->tokens;

    my $line = qr/\[(\w+)\]\ \d+\#\d+:\ \*\d+\ token\ "(\w{16})"\ of\ client
                  \ id\ "8282"\ was\ rejected,\ (.*?),\ client:\ 127\.0\.0\.1,
                  \ server:\ /x;

    return [map { /$line/ ? "$1 $number{$2}: $3" : $_ }
            grep { /was rejected/ } split /\n/, $nginx->log];
}


# The token goes to every worker, then the bank ends it.

sub ended {
    my ($bank, $nginx) = @_;

    is_deeply(statuses(parallel($nginx->port, 40)), { 200 => 40 }, 'a token');
    my $token = ($bank->tokens)[-1]{token};
    ok($bank->revoke($token), 'which the bank ends');

    return $token;
}


subtest 'a token that the bank has ended' => sub {
    my $bank = bank();
    my $nginx = gateway($bank, workers => 4);

    my $token = ended($bank, $nginx);
    my $id = substr sha256_hex($token), 0, 16;

    is(get($nginx->port, '/')->{status}, 401, 'the API rejects it');
    is_deeply(statuses(parallel($nginx->port, 100)), { 200 => 100 },
              'nobody gets it again, in any worker');
    is($bank->count, 2, 'one more token request');

    my $line = qq(token "$id" of client id "8282" was rejected, )
               . 'it is being replaced';

    is(count_of($nginx, qr/\[warn\].*\Q$line\E, client: /), 1,
       'one line about it, and nothing of what nginx does');
    is(count_of($nginx, qr/was rejected/), 1, 'and no other');

    $nginx->ends;
};


subtest 'many rejections of one token' => sub {
    my $bank = bank();
    my $nginx = gateway($bank, workers => 4);

    ended($bank, $nginx);

    # all are sent with the old token before the first answer comes
    $bank->api_answer(%$rejected, delay => 1);
    my $before = $bank->counts->{api};

    my @answers = parallel($nginx->port, 200, on_sent => sub {
        ok($bank->wait_count(api => $before + 200), 'all are with the API');
    });

    is_deeply(statuses(@answers), { 401 => 200 }, 'all are rejected');

    $bank->api_answer();
    is_deeply(statuses(parallel($nginx->port, 100)), { 200 => 100 },
              'those who come later are not');
    is($bank->count, 2, 'one more token request');
    is(count_of($nginx, qr/it is being replaced,/), 1, 'one was replaced');

    $nginx->ends;
};


subtest 'two rejections while a fetch is under way' => sub {
    my $bank = bank();
    my $nginx = gateway($bank);

    ended($bank, $nginx);
    $bank->answer(hold => 1);

    # both are sent with the old token before the first answer comes
    $bank->api_answer(%$rejected, delay => 0.5);
    my $before = $bank->counts->{api};

    my @answers = parallel($nginx->port, 2, on_sent => sub {
        ok($bank->wait_count(api => $before + 2), 'both are with the API');
    });

    is_deeply(statuses(@answers), { 401 => 2 }, 'both are rejected');
    ok($bank->wait_requests(2), 'a new token is asked for');
    is($bank->release, 1, 'a new token comes');
    is_deeply(outcomes($bank, $nginx),
              ['warn 1: it is being replaced',
               'info 1: it is being replaced already'], 'the log');

    $nginx->ends;
};


# No other token has come, and this one is not given out any more.

subtest 'the rejection of a token at its end' => sub {
    my $bank = bank();
    $bank->queue({ expires_in => 2 });
    $bank->answer(status => 503, body => '');
    $bank->api_answer(%$rejected, delay => 2.5);

    my $nginx = gateway($bank);

    is(get($nginx->port, '/')->{status}, 401, 'the API rejects it late');
    is_deeply(outcomes($bank, $nginx),
              ['info 1: it is too old to be sent again'], 'the log');

    $nginx->ends;
};


# A new token is given out three seconds after it came, and the old one until
# then.  One location says which it is, without asking the API.

sub two_tokens {
    my ($bank) = @_;

    # the refresh comes after 9 to 10 s
    $bank->queue({ expires_in => 20 });
    $bank->answer(expires_in => 30);

    my $nginx = gateway($bank, locations => '
            location / {
                proxy_pass http://%%API%%;
                proxy_set_header Authorization "Bearer $bog_bearer_token";
            }
            location /id { return 200 $bog_token_id; }');

    ok($nginx->wait_log(qr/token obtained, lifetime: 20s/), 'a token');
    ok($nginx->wait_log(qr/token obtained, lifetime: 30s/), 'a refresh');
    $bank->api_answer(%$rejected);

    return $nginx;
}


sub gives {
    my ($bank, $nginx, $n) = @_;

    my $id = substr sha256_hex(($bank->tokens)[$n - 1]{token}), 0, 16;

    return wait_until { get($nginx->port, '/id')->{body} eq $id };
}


subtest 'the old token is rejected while it covers for a new one' => sub {
    my $bank = bank();
    my $nginx = two_tokens($bank);

    is(get($nginx->port, '/')->{status}, 401, 'the old one is rejected');
    ok(gives($bank, $nginx, 2), 'the new one is given out');
    is($bank->count, 2, 'no other was asked for');

    is_deeply(outcomes($bank, $nginx),
              ['warn 1: the newer token takes over'], 'the log');

    $nginx->ends;
};


subtest 'a newborn token is rejected' => sub {
    my $bank = bank();
    my $nginx = two_tokens($bank);

    ok(gives($bank, $nginx, 2), 'the new token is given out');
    is(get($nginx->port, '/')->{status}, 401, 'the API rejects it');
    ok(gives($bank, $nginx, 1), 'the old one is given out');
    is($bank->count, 2, 'no other was asked for');

    is(get($nginx->port, '/')->{status}, 401, 'the API rejects that, too');
    ok($bank->wait_count(answered => 3), 'a third one is asked for');

    is_deeply(outcomes($bank, $nginx),
              ['warn 2: the older token takes over again',
               'warn 1: it is being replaced'], 'the log');

    $nginx->ends;
};


# What an API does that rejects everything, or a part of it that does.

subtest 'rejections that go on' => sub {
    my $bank = bank();
    my $nginx = gateway($bank, workers => 2);

    is(get($nginx->port, '/')->{status}, 200, 'a token');
    $bank->api_answer(%$rejected);

    my $start = now();
    my ($n, $passed) = (0, 0);

    # until the second one may be replaced, and a while longer
    for ( ;; ) {
        is_deeply(statuses(parallel($nginx->port, 10)), { 401 => 10 },
                  'answered by the API')
            if $n % 20 == 0;

        $n++;
        $passed = now() - $start;
        last if $passed > 8;

        select undef, undef, undef, 0.05;
        get($nginx->port, '/');
    }

    my @times = map { $_->{time} } $bank->requests;

    is(scalar @times, 3, 'two more token requests');
    # the first may have waited for a moment, as fetches keep apart
    cmp_ok($times[2] - $times[1], '>=', 4.5, 'five seconds apart');
    is(count_of($nginx, qr/it is being replaced,/), 2, 'two were replaced');
    is(count_of($nginx, qr/\[(?:warn|error)\]/), 2, 'and nothing else said');

    $bank->api_answer();
    is(get($nginx->port, '/')->{status}, 200, 'the token serves all the time');

    $nginx->ends;
};


subtest 'the newer token stays' => sub {
    my $bank = bank();
    my $nginx = gateway($bank);

    ended($bank, $nginx);
    my $late;

    # the answer to this one comes when another fetch may be forced
    $bank->api_answer(%$rejected, delay => 6.5);
    my $before = $bank->counts->{api};

    ($late) = parallel($nginx->port, 1, on_sent => sub {
        ok($bank->wait_count(api => $before + 1), 'one is with the API');
        $bank->api_answer();
        is(get($nginx->port, '/')->{status}, 401, 'another is rejected');
        is(get($nginx->port, '/')->{status}, 200, 'a new token');
    });

    is($late->{status}, 401, 'then the first one is');
    is(get($nginx->port, '/')->{status}, 200, 'the new token');
    is($bank->count, 2, 'one more token request');

    is_deeply(outcomes($bank, $nginx),
              ['warn 1: it is being replaced',
               'info 1: it has been replaced already'],
              'the log: the old one was replaced once');

    $nginx->ends;
};


# A client that has sent half of its body.

sub half_a_request {
    my $port = shift;

    my $fh = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port)
        // die "connect: $@\n";

    print {$fh} "POST /slow HTTP/1.1\r\nHost: localhost\r\n",
                "Connection: close\r\nContent-Length: 10\r\n\r\n12345";

    return $fh;
}


# A request that has its token, and is sent later: its body has to come first.

subtest 'a request on its way to the API' => sub {
    my $bank = bank();
    my $nginx = gateway($bank, status => 1);

    ended($bank, $nginx);

    my $fh = half_a_request($nginx->port);

    ok($nginx->wait_active(1), 'one that still sends its body');
    is(get($nginx->port, '/')->{status}, 401, 'another is rejected');
    ok($bank->wait_count(answered => 2), 'a new token comes');
    ok(wait_until { get($nginx->port, '/')->{status} == 200 }, 'and is used');

    print {$fh} '67890';
    my $answer = do { local $/; <$fh> };

    like($answer, qr/^HTTP\/1.1 200 /, 'it was sent with the new one');
    is($bank->count, 2, 'one more token request');

    $nginx->ends;
};


# There is no other token yet when its body has come.

subtest 'a request on its way to the API, and no other token' => sub {
    my $bank = bank();
    my $nginx = gateway($bank, status => 1);

    my $token = ended($bank, $nginx);
    $bank->answer(hold => 1);

    my $fh = half_a_request($nginx->port);

    ok($nginx->wait_active(1), 'one that still sends its body');
    is(get($nginx->port, '/')->{status}, 401, 'another is rejected');
    ok($bank->wait_requests(2), 'a new token is asked for');

    print {$fh} '67890';
    my $answer = do { local $/; <$fh> };

    like($answer, qr/^HTTP\/1.1 401 /, 'the request is sent');
    my ($slow) = grep { $_->{uri} eq '/slow' } $bank->api_requests;
    is($slow->{authorization}, "Bearer $token", 'with the token that it has');
    is($bank->release, 1, 'the new token comes');

    $nginx->ends;
};


# On the second port each worker has a share of its own. The token was read
# early too, by a rewrite.

for my $early (0, 1) {
    my $name = 'many on their way, in all workers'
               . ($early ? ', the token was looked at' : '');

    subtest $name => sub {
        my ($bank, $n) = (bank(), 40);
        my $look = $early ? 'if ($bog_bearer_token = "none") { return 500; }' : '';

        my $nginx = gateway($bank, workers => 4, status => 1, locations => "
            location / {
                $look
                proxy_pass http://%%API%%;
                proxy_set_header Authorization \"Bearer \$bog_bearer_token\";
            }");

        ended($bank, $nginx);

        my @slow = map { half_a_request($nginx->port(1)) } 1 .. $n;

        ok($nginx->wait_active($n), 'all send their bodies');
        is(get($nginx->port, '/')->{status}, 401, 'another is rejected');
        ok($bank->wait_count(answered => 2), 'a new token comes');
        ok(wait_until { get($nginx->port, '/')->{status} == 200 },
           'and is used');

        # a state once given does not change for so long
        sleep 0.1;

        print {$_} '67890' for @slow;
        my @answers = map { my $fh = $_; local $/; <$fh> } @slow;

        is(scalar(grep { m{^HTTP/1.1 200 } } @answers), $n,
           'all were sent with the new one');
        cmp_ok(scalar(keys %{ { map { /^X-Worker: (\d+)/m => 1 } @answers } }),
               '>', 1, 'by more than one worker');
        is($bank->count, 2, 'one more token request');

        $nginx->ends;
    };
}


subtest 'while a refresh is under way' => sub {
    my $bank = bank();
    $bank->queue({ expires_in => 8 }, { hold => 1 });

    my $nginx = gateway($bank, workers => 2, status => 1);

    is(get($nginx->port, '/')->{status}, 200, 'a token');
    ok($bank->wait_requests(2), 'a refresh');
    ok($bank->revoke(($bank->tokens)[0]{token}), 'the bank ends the old one');

    is(get($nginx->port, '/')->{status}, 401, 'the API rejects it');

    my @answers = parallel($nginx->port, 20, on_sent => sub {
        ok($nginx->wait_active(20), 'all others wait');
        is($bank->release, 1, 'for the refresh');
    });

    is_deeply(statuses(@answers), { 200 => 20 }, 'and get its token');
    is($bank->count, 2, 'which is no other token request');

    $nginx->ends;
};


# A token that one part of the API rejects is better than none.

subtest 'while fetches fail' => sub {
    my $bank = bank();
    $bank->queue({ expires_in => 3600 },
                 ({ status => 503, body => '',
                    headers => [['Retry-After' => 300]] }) x 2);

    my $nginx = gateway($bank);

    is(get($nginx->port, '/')->{status}, 200, 'a token');
    my $token = ($bank->tokens)[-1]{token};

    pass_time(1.2);
    $bank->api_answer(%$rejected);
    is(get($nginx->port, '/')->{status}, 401, 'it is rejected');
    ok($nginx->wait_log(qr/token request failed/), 'there is no other');

    $bank->api_answer();
    is_deeply(statuses(parallel($nginx->port, 90)), { 200 => 90 },
              'it serves on');
    is(scalar(grep { $_->{authorization} eq "Bearer $token" }
              $bank->api_requests), 92, 'as it was');
    is($bank->count, 2, 'one more token request');

    $nginx->ends;
};


# The endpoint has not answered yet: requests wait, then the token is sent all
# the same.

subtest 'while a fetch hangs' => sub {
    my $bank = bank();
    $bank->queue({}, { hold => 1 });

    my $nginx = gateway($bank, http => 'bog_wait_timeout 1s;');

    is(get($nginx->port, '/')->{status}, 200, 'a token');

    pass_time(1.2);
    $bank->api_answer(%$rejected);
    is(get($nginx->port, '/')->{status}, 401, 'it is rejected');
    ok($bank->wait_requests(2), 'another one is asked for');

    $bank->api_answer();
    my @answers = parallel($nginx->port, 20);
    is_deeply(statuses(@answers), { 200 => 20 }, 'it is sent in the end');
    cmp_ok((sort { $a <=> $b } map { $_->{time} } @answers)[0], '>=', 0.9,
           'after the time that requests may wait');

    is($bank->count, 2, 'one more token request');
    $nginx->ends;
};


# The bank rotates its keys in a restart: a refresh has failed, and the next one
# is due four seconds later, while the bank is back.

subtest 'a 401 while a failed refresh waits' => sub {
    my $bank = bank();
    $bank->queue({ expires_in => 24 }, ({ status => 500, body => '' }) x 3);

    my $nginx = gateway($bank);

    is(get($nginx->port, '/')->{status}, 200, 'a token');
    ok($bank->wait_count(answered => 4), 'three refreshes fail');
    ok($bank->revoke(($bank->tokens)[0]{token}), 'the bank ends the token');

    is(get($nginx->port, '/')->{status}, 401, 'the API rejects it');
    is_deeply(statuses(parallel($nginx->port, 20)), { 200 => 20 },
              'the others get a new one');

    my @times = map { $_->{time} } $bank->requests;
    is(scalar @times, 5, 'one more token request');
    cmp_ok($times[4] - $times[3], '<', 4, 'before it was due');

    $nginx->ends;
};


# One path of an API always says 401, and the others are well.

subtest 'a path that always says 401' => sub {
    my $bank = bank();
    my $nginx = gateway($bank, workers => 2, locations => '
            location / {
                proxy_pass http://%%API%%;
                proxy_set_header Authorization "Bearer $bog_bearer_token";
            }
            location /bad {
                proxy_pass http://127.0.0.1:%%PORT_2%%;
                proxy_set_header Authorization "Bearer $bog_bearer_token";
            }',
        http => 'server {
            listen 127.0.0.1:%%PORT_2%%; bog_token off; return 401;
        }');

    is(get($nginx->port, '/')->{status}, 200, 'a token');
    my $load = steady($nginx->port, rate => 20, seconds => 8);

    my %bad;
    for (1 .. 40) {
        pass_time(0.15);
        $bad{get($nginx->port, '/bad')->{status}}++;
    }

    my $result = $load->result;

    is_deeply(\%bad, { 401 => 40 }, 'says so');
    is_deeply($result->{status}, { 200 => 160 }, 'the others are answered');
    is($bank->count, 1, 'one token request');
    is_deeply(outcomes($bank, $nginx), [('info 1: it is kept') x 40],
              'the token is kept');

    ok($bank->revoke(($bank->tokens)[0]{token}), 'the bank ends it');
    is(get($nginx->port, '/')->{status}, 401, 'the API rejects it');
    is_deeply(statuses(parallel($nginx->port, 40)), { 200 => 40 },
              'nobody gets it again');
    is($bank->count, 2, 'one more token request');

    $nginx->ends;
};


# RFC 6750, 3.1 has 401 for it; some say it with another status.

for my $status (400, 403) {
    subtest "invalid_token with status $status" => sub {
        my $bank = bank();
        my $nginx = gateway($bank, workers => 2);

        is(get($nginx->port, '/')->{status}, 200, 'a token');
        pass_time(1.2);

        $bank->api_answer(status => $status, body => '', headers =>
                          [['WWW-Authenticate' => 'Basic realm="other"'],
                           ['WWW-Authenticate' =>
                            'bearer realm="x", error="invalid_token"']]);
        is(get($nginx->port, '/')->{status}, $status, 'the token is rejected');
        ok($bank->wait_count(answered => 2), 'and another one asked for');

        $bank->api_answer(status => $status, body => '', headers =>
                          [['WWW-Authenticate' =>
                            'Bearer error="insufficient_scope"']]);
        pass_time(1.2);
        is(get($nginx->port, '/')->{status}, $status, 'another error');
        is($bank->count, 2, 'is not about the token');
        is(count_of($nginx, qr/was rejected/), 1, 'one was rejected');

        $nginx->ends;
    };
}


subtest 'it is kept while no fetch may begin' => sub {
    my $bank = bank();
    $bank->queue({ expires_in => 8 },
                 { status => 503, body => '',
                   headers => [['Retry-After' => 300]] });

    my $nginx = gateway($bank);

    is(get($nginx->port, '/')->{status}, 200, 'a token');
    ok($nginx->wait_log(qr/token request failed/), 'a refresh fails');

    $bank->api_answer(%$rejected);
    is(get($nginx->port, '/')->{status}, 401, 'it is rejected');

    $bank->api_answer();
    is(get($nginx->port, '/')->{status}, 200, 'and kept');

    is($bank->count, 2, 'two token requests');
    is_deeply(outcomes($bank, $nginx), ['info 1: it is kept'], 'the log');

    $nginx->ends;
};


# Each is a 401, and nobody's token is to blame.

subtest 'a 401 that is not the API\'s' => sub {
    my $bank = bank();

    my $nginx = gateway($bank,
        files => { passwords => "user:{PLAIN}right\n" },
        http => 'proxy_cache_path %%DIR%%/cache keys_zone=one:1m;',
        locations => '
            location / {
                proxy_pass http://%%API%%;
                proxy_set_header Authorization "Bearer $bog_bearer_token";
            }

            location /without {
                bog_token off;
                proxy_pass http://%%API%%;
                proxy_set_header Authorization "";
            }

            location /unused {
                proxy_pass http://%%API%%;
                proxy_set_header Authorization "";
            }

            location /closed {
                auth_basic closed;
                auth_basic_user_file %%DIR%%/passwords;
                proxy_pass http://%%API%%;
                proxy_set_header Authorization "Bearer $bog_bearer_token";
            }

            location /returned {
                set $token $bog_bearer_token;
                return 401;
            }');

    is(get($nginx->port, '/')->{status}, 200, 'a token');

    is(get($nginx->port, "/$_")->{status}, 401, $_)
        for qw(without unused closed returned);

    is(get($nginx->port, '/')->{status}, 200, 'it stays');
    is($bank->count, 1, 'one token request');
    is(count_of($nginx, qr/was rejected/), 0, 'nothing is said of it');

    $nginx->ends;
};


# A token was read, but it is not what the server got that says 401.

for my $case (
    ['error_page with a location that takes no part' => '
            location /broken {
                proxy_pass http://127.0.0.1:%%PORT_1%%/502;
                proxy_set_header Authorization "Bearer $bog_bearer_token";
                proxy_intercept_errors on;
                error_page 502 = @other;
            }
            location @other {
                bog_token off;
                rewrite ^ /401 break;
                proxy_pass http://127.0.0.1:%%PORT_1%%;
            }'],

    ['error_page with a location that answers by itself' => '
            location /broken {
                bog_token off;
                proxy_pass http://127.0.0.1:%%PORT_1%%/401;
                proxy_intercept_errors on;
                error_page 401 = @own;
            }
            location @own {
                set $token $bog_bearer_token;
                return 401;
            }'],

    ['a token that the server {} reads' => '
            set $token $bog_bearer_token;

            location /broken {
                bog_token off;
                proxy_pass http://127.0.0.1:%%PORT_1%%/401;
            }'],
) {
    my ($name, $locations) = @$case;

    subtest "a 401 of another server: $name" => sub {
        my $bank = bank();

        my $nginx = gateway($bank,
            http => '
            server {
                listen 127.0.0.1:%%PORT_1%%;
                bog_token off;
                location /401 { return 401; }
                location /502 { return 502; }
            }',
            locations => "
            location / {
                proxy_pass http://%%API%%;
                proxy_set_header Authorization \"Bearer \$bog_bearer_token\";
            }
            $locations");

        is(get($nginx->port, '/')->{status}, 200, 'a token');
        is(get($nginx->port, '/broken')->{status}, 401, 'the answer');
        is(get($nginx->port, '/')->{status}, 200, 'it stays');
        is($bank->count, 1, 'one token request');
        is(count_of($nginx, qr/was rejected/), 0, 'nothing is said of it');

        $nginx->ends;
    };
}


subtest 'a 401 from the cache' => sub {
    my $bank = bank();

    my $nginx = gateway($bank,
        http => 'proxy_cache_path %%DIR%%/cache keys_zone=one:1m;',
        locations => '
            location / {
                proxy_pass http://%%API%%;
                proxy_set_header Authorization "Bearer $bog_bearer_token";
                proxy_cache one;
                proxy_cache_valid 401 10m;
                add_header Cache $upstream_cache_status always;
            }');

    $bank->api_answer(%$rejected);

    my $first = get($nginx->port, '/');
    is("$first->{status} " . header($first, 'Cache'), '401 MISS', 'rejected');
    ok($bank->wait_count(answered => 2), 'a new token');

    # long enough that another fetch may be forced
    my $start = now();
    wait_until { now() - $start > 6 };

    my $next = get($nginx->port, '/');
    is("$next->{status} " . header($next, 'Cache'), '401 HIT', 'again');
    is($bank->count, 2, 'this time by the cache');
    is(count_of($nginx, qr/was rejected/), 1, 'which rejects no token');

    $nginx->ends;
};


# Wherever nginx goes with the answer instead of sending it, and whoever asked.

for my $case (
    ['auth_request' => '401', '
            location / {
                auth_request /check;
                proxy_pass http://%%API%%;
                proxy_set_header Authorization "";
            }
            location = /check {
                internal;
                proxy_pass http://%%API%%;
                proxy_pass_request_body off;
                proxy_set_header Content-Length "";
                proxy_set_header Authorization "Bearer $bog_bearer_token";
            }'],

    ['error_page with a page' => '200', '
            location / {
                proxy_pass http://%%API%%;
                proxy_set_header Authorization "Bearer $bog_bearer_token";
                proxy_intercept_errors on;
                error_page 401 =200 /page;
            }
            location = /page { bog_token off; return 200 page; }'],

    ['error_page with a location that takes no part' => '401', '
            location / {
                proxy_pass http://%%API%%;
                proxy_set_header Authorization "Bearer $bog_bearer_token";
                proxy_intercept_errors on;
                error_page 401 = @plain;
            }
            location @plain {
                bog_token off;
                proxy_pass http://%%API%%;
                proxy_set_header Authorization "";
            }'],

    ['error_page with another server' => '200', '
            location / {
                proxy_pass http://%%API%%;
                proxy_set_header Authorization "Bearer $bog_bearer_token";
                proxy_intercept_errors on;
                error_page 401 = @other;
            }
            location @other {
                bog_token off;
                proxy_pass http://%%API%%;
                proxy_set_header Authorization "Bearer good";
            }'],

    ['error_page with a location that has read the token' => '401', '
            location / {
                proxy_pass http://127.0.0.1:1;
                proxy_set_header Authorization "Bearer $bog_bearer_token";
                error_page 502 = @other;
            }
            location @other {
                set $token $bog_bearer_token;
                proxy_pass http://%%API%%;
                proxy_set_header Authorization "Bearer $token";
            }'],

    ['post_action' => '200', '
            location / {
                bog_token off;
                post_action /copy;
                proxy_pass http://%%API%%/ok;
                proxy_set_header Authorization "Bearer good";
            }
            location = /copy {
                internal;
                proxy_pass http://%%API%%;
                proxy_set_header Authorization "Bearer $bog_bearer_token";
            }'],

    ['error_page with a location that is closed' => '403', '
            location / {
                proxy_pass http://%%API%%;
                proxy_set_header Authorization "Bearer $bog_bearer_token";
                proxy_intercept_errors on;
                error_page 401 = @closed;
            }
            location @closed { deny all; proxy_pass http://%%API%%; }'],

    ['error_page with a location that reads the token first' => '200', '
            location / {
                proxy_pass http://%%API%%;
                proxy_set_header Authorization "Bearer $bog_bearer_token";
                proxy_intercept_errors on;
                error_page 401 = @again;
            }
            location @again {
                set $token $bog_bearer_token;
                proxy_pass http://%%API%%;
                proxy_set_header Authorization "Bearer $bog_bearer_token";
                proxy_set_header X-Early $token;
            }'],

    ['mirror' => '200', '
            location / {
                mirror /copy;
                bog_token off;
                proxy_pass http://%%API%%/ok;
                proxy_set_header Authorization "Bearer good";
            }
            location = /copy {
                internal;
                proxy_pass http://%%API%%;
                proxy_set_header Authorization "Bearer $bog_bearer_token";
            }'],
) {
    my ($name, $status, $locations) = @$case;

    subtest $name => sub {
        my $bank = bank();
        $bank->issue(good => 3600, 8282);

        my $nginx = gateway($bank, locations => $locations);

        # no request was needed for this one
        ok($bank->wait_count(answered => 1), 'a token');
        ok($nginx->wait_log(qr/token obtained/), 'is there');
        ok($bank->revoke(($bank->tokens)[-1]{token}), 'the bank ends it');

        is(get($nginx->port, '/')->{status}, $status, 'the answer');
        ok($nginx->wait_log(qr/was rejected, it is being replaced,/),
           'it is replaced');
        ok($bank->wait_requests(2), 'and a new one asked for');
        ok($nginx->wait_log(qr/token obtained.*\n/, 30,
                            index $nginx->log, 'was rejected'),
           'which comes');

        is($bank->count, 2, 'one more token request');
        $nginx->ends;
    };
}


# The recipe of docs/recipes.md.

my $replay = '
            proxy_set_header  Authorization "Bearer $bog_bearer_token";

            location /payments/ {
                proxy_pass              http://%%API%%;
                proxy_intercept_errors  on;
                error_page              401 = @replay;
            }

            location @replay {
                if ($replay = "") {
                    return 401;
                }

                proxy_pass http://%%API%%;
            }';

my $map = '
        map "$request_method $http_idempotency_key" $replay {
            default                            "";
            "~^(?:GET|HEAD|PUT|DELETE) "       1;
            "~^POST ."                         1;
        }';

my $body = join '', map { chr(32 + $_ % 90) } 1 .. 100_000;


for my $case (
    ['GET', { method => 'GET' }, 200, 2],
    ['PUT', { method => 'PUT', body => $body }, 200, 2],
    ['POST with a key', { method => 'POST', body => $body,
                          headers => [['Idempotency-Key' => 'one']] }, 200, 2],
    ['POST without one', { method => 'POST', body => $body }, 401, 1],
) {
    my ($name, $request, $status, $sent) = @$case;

    subtest "replay: $name" => sub {
        my $bank = bank();
        my $nginx = gateway($bank, locations => $replay, http => $map);

        ok($nginx->wait_log(qr/token obtained/), 'a token');
        ok($bank->revoke(($bank->tokens)[0]{token}), 'the bank ends it');

        my $answer = get($nginx->port, '/payments/v1', %$request);
        is($answer->{status}, $status, 'the answer');

        my @seen = $bank->api_requests;

        is(scalar @seen, $sent, 'requests to the API');
        is_deeply([map { [@$_{qw(method uri body)}] } @seen],
                  [([$request->{method}, '/payments/v1',
                     $request->{body} // '']) x $sent], 'all the same');
        is(join(' ', map { $_->{state} } @seen),
           $sent == 2 ? 'unknown valid' : 'unknown', 'their tokens');

        ok($bank->wait_count(answered => 2), 'a new token');
        is($bank->count, 2, 'one more token request');
        $nginx->ends;
    };
}


subtest 'replay: once, if that is rejected too' => sub {
    my $bank = bank();
    my $nginx = gateway($bank, locations => $replay, http => $map);

    $bank->api_answer(%$rejected);

    my $answer = get($nginx->port, '/payments/v1');

    is($answer->{status}, 401, 'the API\'s answer');
    is($answer->{body}, $rejected->{body}, 'and its body');
    is(scalar $bank->api_requests, 2, 'two requests to the API');

    my @sent = map { $_->{authorization} } $bank->api_requests;
    isnt($sent[0], $sent[1], 'with two tokens');
    is($bank->count, 2, 'two token requests');

    $nginx->ends;
};


subtest 'replay: many at once' => sub {
    my $bank = bank();
    my $nginx = gateway($bank, workers => 4, locations => $replay,
                        http => $map);

    ok($nginx->wait_log(qr/token obtained/), 'a token');
    ok($bank->revoke(($bank->tokens)[0]{token}), 'the bank ends it');

    my @answers = parallel($nginx->port, 100, uri => '/payments/v1');

    is_deeply(statuses(@answers), { 200 => 100 }, 'nobody sees it');
    is($bank->count, 2, 'one more token request');

    my $stats = $bank->api_stats;
    is($stats->{valid}, 100, 'each was taken once');

    $nginx->ends;
};


done_testing;
