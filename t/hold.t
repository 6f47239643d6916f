# Held requests: who waits, for how long, what comes of them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Select;
use IO::Socket::INET;
use Test::More;

use Bog::Bank;
use Bog::Client qw(get parallel header);
use Bog::Nginx;
use Bog::Util qw(free_port now pass_time timeout wait_until);

my $pass = 'proxy_set_header Authorization "Bearer $bog_bearer_token";'
           . ' proxy_pass http://127.0.0.1:%%API%%;';


# An nginx whose token request the bank holds, unless told otherwise.

sub gateway {
    my ($bank, $conf, %opt) = @_;

    my $endpoint = delete $opt{endpoint} // $bank->url;

    $conf =~ s/%%PASS%%/$pass/g;
    $conf =~ s/%%API%%/$bank->api_port/ge;

    my $nginx = Bog::Nginx->new(
        status => 1, secret => { main => "s3cret\n" }, %opt,
        conf   => <<"END");
        log_format hold '\$request_uri \$status \$bog_hold_time';
        bog_wait_timeout 120s;

        server {
            listen 127.0.0.1:%%PORT%%;
            root %%DIR%%/html;
            access_log %%DIR%%/hold.log hold;

            bog_client_id           8282;
            bog_client_secret_file  %%SECRET_main%%;
            bog_token_endpoint      $endpoint;
            bog_read_timeout        120s;

            $conf
        }
END
    $nginx->file('html/file', 'static');
    $nginx->file('html/sorry.html', 'sorry');

    return $nginx->start;
}


sub bank { Bog::Bank->new(credentials => { 8282 => 's3cret' }) }

sub cold {
    my ($conf, %opt) = @_;

    my $bank = bank();
    $bank->answer(hold => 1);

    my $nginx = gateway($bank, $conf, %opt);
    ok($bank->wait_requests(1), 'the token is asked for');

    return ($bank, $nginx);
}


sub ends {
    my ($bank, $nginx) = @_;

    is($bank->count, 1, 'one token request') if $bank;
    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
}


# An answer comes before its line in the log, but the one worker has written
# that when it answers anything else.

sub access {
    my $nginx = shift;

    $nginx->active;

    return split /\n/, Bog::Util::slurp($nginx->dir . '/hold.log');
}


# Sends requests at once, waits until all are held, and lets the token come.

sub held {
    my ($bank, $nginx, $uris, %opt) = @_;

    return parallel($nginx->port, scalar @$uris, timeout => 120, %opt,
        uri     => sub { $uris->[$_[0]] },
        on_sent => sub {
            ok($nginx->wait_active(scalar @$uris), 'held');
            is($bank->counts->{api}, 0, 'none has reached the API');
            $opt{meanwhile}->() if $opt{meanwhile};
            pass_time(0.1);
            $bank->release;
        });
}


sub statuses { join ' ', map { $_->{status} // $_->{error} } @_ }


sub retry_after { header($_[0], 'Retry-After') }


sub tokens_seen {
    my $bank = shift;

    my ($token) = map { $_->{token} } $bank->tokens;

    return grep { ($_->{authorization} // '') eq "Bearer $token" }
           $bank->api_requests;
}


subtest 'required, optional, off' => sub {
    my ($bank, $nginx) = cold(<<'END');
        location /required { %%PASS%% }
        location /said { bog_token required; %%PASS%% }
        location /optional { bog_token optional; %%PASS%% }
        location /off { bog_token off; %%PASS%% }
END

    my @off;
    my @answers = held($bank, $nginx, ['/required', '/said', '/optional'],
        meanwhile => sub {
            is_deeply([$bank->api_requests], [], 'nobody there yet');
            @off = get($nginx->port, '/off');
        });

    is(statuses(@answers), '200 200 200', 'answered');
    is(statuses(@off), 401, 'who takes no part is passed on at once');
    is(scalar(tokens_seen($bank)), 3, 'with the token');

    my ($off) = grep { $_->{uri} eq '/off' } $bank->api_requests;
    is($off->{authorization}, 'Bearer ', 'the other one without');

    my ($time) = map { /^\/required 200 (.*)/ } access($nginx);
    cmp_ok($time, '>=', 0.09, 'the time of it is known');
    like($time, qr/^\d+\.\d{3}\z/, 'in milliseconds');
    is_deeply([grep { /^\/off/ } access($nginx)], ['/off 401 0.000'],
              'zero for the other one');

    ends($bank, $nginx);
};


subtest 'a fetch in stub_status' => sub {
    my ($bank, $nginx) = cold('location / { %%PASS%% }');

    like($nginx->stub_status, qr/^Reading: 0 Writing: 1 /m, 'is no client');
    is($bank->release, 1, 'the token comes');
    is(get($nginx->port, '/')->{status}, 200, 'and is used');
    like($nginx->stub_status, qr/^Reading: 0 Writing: 1 /m, 'nor later');

    ends($bank, $nginx);
};


subtest 'the end of the wait' => sub {
    my ($bank, $nginx) = cold(<<'END');
        location /required { bog_wait_timeout 300ms; %%PASS%% }
        location /optional { bog_wait_timeout 300ms; bog_token optional;
                             %%PASS%% }
        location /none { bog_wait_timeout 0; %%PASS%% }
        location /none/optional { bog_wait_timeout 0; bog_token optional;
                                  %%PASS%% }
END

    my @uris = qw(/required /optional /none /none/optional);
    my %answer;
    @answer{@uris} = parallel($nginx->port, 4, uri => sub { $uris[$_[0]] });

    is($answer{'/required'}{status}, 503, 'required');
    is(retry_after($answer{'/required'}), 1, 'Retry-After');
    is($answer{'/none'}{status}, 503, 'required, at once');
    is(retry_after($answer{'/none'}), 1, 'Retry-After');
    is($answer{'/optional'}{status}, 401, 'optional goes on');
    is($answer{'/none/optional'}{status}, 401, 'optional, at once');

    my %time = map { /^(\S+) \d+ (.*)/ } access($nginx);

    for ('/required', '/optional') {
        cmp_ok($time{$_}, '>=', 0.295, "$_ waited");
        cmp_ok($time{$_}, '<', timeout(2), "and no longer");
        cmp_ok($answer{$_}{time}, '>=', 0.29, 'by our clock too');
    }

    is($time{$_}, '0.000', "$_ did not") for '/none', '/none/optional';

    is(join(' ', sort map { "$_->{uri} $_->{authorization}" }
            $bank->api_requests),
       '/none/optional Bearer  /optional Bearer ', 'an empty variable');
    is($bank->held, 1, 'the fetch goes on');

    is($bank->release, 1, 'the token comes');
    ok($nginx->wait_log(qr/token obtained/), 'is obtained');
    is(get($nginx->port, '/none')->{status}, 200,
       'with a token nobody has to wait');

    ends($bank, $nginx);
};


# A fetch that fails answers all who cannot wait for the next one.

subtest 'a failure' => sub {
    my ($bank, $nginx) = cold(<<'END');
        location /required { %%PASS%% }
        location /optional { bog_token optional; %%PASS%% }
        location /short { bog_wait_timeout 100ms; %%PASS%% }
END
    my $start = now();

    my @answers = parallel($nginx->port, 4, timeout => 120,
        uri     => sub { ('/required', '/optional')[$_[0] % 2] },
        on_sent => sub {
            ok($nginx->wait_active(4), 'held');
            $bank->answer(status => 503,
                          headers => [['Retry-After' => 200]]);
            $bank->release(status => 503, hold => 0,
                           headers => [['Retry-After' => 200]]);
        });

    is(statuses(@answers), '503 401 503 401', 'all get the answer of the one');

    for (@answers[0, 2]) {
        # what the bank asked for, and up to a quarter of it at random
        cmp_ok(retry_after($_), '>=', 200, 'Retry-After');
        cmp_ok(retry_after($_), '<=', 250, 'of the next try');
    }

    my $later = get($nginx->port, '/short');
    my $left = now() - $start;

    is($later->{status}, 503, 'the next one');
    cmp_ok($later->{time}, '<', timeout(1), 'at once');
    cmp_ok(retry_after($later), '>=', 200 - $left - 1, 'told when');
    cmp_ok(retry_after($later), '<=', 250, 'exactly');
    like((access($nginx))[-1], qr{^/short 503 0\.000$}, 'not held');

    ends($bank, $nginx);
};


# What the bank does for a moment at a cold start costs no request.

for my $case (
    ['a connection that is reset', { delay => 1, close => 'reset' }],
    ['a status of 500', { delay => 1, status => 500, body => '' }],
    ['no answer', { close => 'empty' }, { close => 'empty' }],
    ['HTML', { body => '<html>' }, { body => '<html>' }],
) {
    my ($name, @first) = @$case;

    subtest "a hiccup: $name" => sub {
        my $bank = bank();
        $bank->queue(@first);

        my $nginx = gateway($bank, 'location / { %%PASS%% }', workers => 2);

        my @answers = parallel($nginx->port, 50, timeout => 120);

        is(statuses(@answers), join(' ', (200) x 50), 'all are answered');
        is($bank->count, 1 + @first, 'token requests');
        is(scalar $bank->api_requests, 50, 'each was sent once');

        is($nginx->stop, 0, 'stops');
        $nginx->clean_log(undef, except => qr/recv\(\) failed|premature/);
    };
}


for my $seconds (2, 5) {
    subtest "a hiccup: the port is closed for $seconds s" => sub {
        my $bank = bank();
        my $port = free_port();
        my $nginx = gateway($bank, 'location / { %%PASS%% }', workers => 2,
                            endpoint => "http://127.0.0.1:$port$Bog::Bank::PATH");
        my $late;

        my @answers = parallel($nginx->port, 50, timeout => 120,
            on_sent => sub {
                pass_time($seconds);
                $late = Bog::Bank->new(at => { token => ['127.0.0.1', $port] },
                                       verify => 0);
                $late->answer(token => 'late');
                $bank->issue(late => 300, 8282);
            });

        is(statuses(@answers), join(' ', (200) x 50), 'all are answered');
        is($late->count, 1, 'one token request');
        is(scalar $bank->api_requests, 50, 'each was sent once');

        is($nginx->stop, 0, 'stops');
        $nginx->clean_log(undef, except => qr/connect\(\) failed/);
    };
}


subtest 'who does not wait' => sub {
    my ($bank, $nginx) = cold(<<'END', files => { users => "u:{PLAIN}p\n" });
        location / { }
        location /return { return 200 "[$bog_bearer_token$bog_hold_time]"; }
        location /redirect { return 302 /file; }
        location /deny { deny all; %%PASS%% }
        location /auth { auth_basic x; auth_basic_user_file %%DIR%%/users;
                         %%PASS%% }
        location /rewrite { rewrite .* /file; %%PASS%% }
        location /limit { limit_except GET { deny all; } %%PASS%% }
        location /try { try_files /file =404; }
        location /dir/ { autoindex on; }
        location /internal { internal; %%PASS%% }
        location /subrequest-denied { auth_request /denied; %%PASS%% }
        location /denied { return 403; }
END
    $nginx->file('html/dir/x', '');

    my %expected = (
        '/file' => 200, '/missing' => 404, '/return' => 200,
        '/redirect' => 302, '/deny' => 403, '/auth' => 401,
        '/rewrite' => 200, '/limit' => 403, '/try' => 200, '/dir/' => 200,
        '/internal' => 404, '/subrequest-denied' => 403,
    );

    for my $uri (sort keys %expected) {
        my $answer = get($nginx->port, $uri, timeout => 20,
                         $uri eq '/limit' ? (method => 'POST', body => 'x')
                                          : ());

        is($answer->{status}, $expected{$uri}, $uri);
    }

    is(join(' ', grep { !/ 0\.000$/ } access($nginx)), '', 'none was held');
    is($bank->counts->{api}, 0, 'none has reached the API');

    my ($answer) = held($bank, $nginx, ['/auth'],
                        headers => [['Authorization' => 'Basic dTpw']]);

    is($answer->{status}, 200, 'who is let in waits');

    ends($bank, $nginx);
};


subtest 'clients that go away' => sub {
    my ($bank, $nginx) = cold(<<'END');
        location / { %%PASS%% }
        location /ignore { proxy_ignore_client_abort on; %%PASS%% }
END

    my $gone = sub {
        my ($bytes) = @_;

        my $client = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
            PeerPort => $nginx->port) or die "connect: $@\n";

        print {$client} $bytes;
        ok($nginx->wait_active(1), 'held');
        close $client;
        ok($nginx->wait_active(0), 'nginx lets go');
    };

    $gone->("GET /get HTTP/1.1\r\nHost: x\r\n\r\n");
    $gone->("POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody");
    $gone->("POST /short HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nx");

    is(join(' ', map { s/ [\d.]+$//r } access($nginx)),
       '/get 499 /post 499 /short 499', 'status 499');

    is($bank->release, 1, 'the token comes');
    is(get($nginx->port, '/last')->{status}, 200, 'for others');
    is(join(' ', map { $_->{uri} } $bank->api_requests), '/last',
       'no request of the others');

    ends($bank, $nginx);
};


subtest 'bodies' => sub {
    my ($bank, $nginx) = cold('location / { client_max_body_size 10m;'
        . ' %%PASS%% }'
        . ' location /stream { client_max_body_size 10m;'
        . ' proxy_request_buffering off; %%PASS%% }'
        . ' location /small { client_max_body_size 10; %%PASS%% }');

    my $large = join '', map { sprintf "%07d\n", $_ } 1 .. 131072;
    my @rows = (['/a', 'short'], ['/b', $large], ['/stream', $large],
                ['/c', '']);

    my @answers;

    # requests of different kinds, held together
    my @sockets = map {
        my ($uri, $body) = @$_;
        my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
            PeerPort => $nginx->port) or die "connect: $@\n";

        my $half = int(length($body) / 2 > 1000 ? 1000 : length($body) / 2);

        print {$socket} "POST $uri HTTP/1.1\r\nHost: x\r\nConnection: close"
            . "\r\nContent-Length: " . length($body) . "\r\n\r\n"
            . substr $body, 0, $half;

        [$socket, substr $body, $half];
    } @rows;

    ok($nginx->wait_active(4), 'held, with half of the body to come');
    is(get($nginx->port, '/small', body => 'x' x 11)->{status}, 413,
       'one too large is refused at once');

    $bank->release;

    for (@sockets) {
        my ($socket, $rest) = @$_;

        print {$socket} $rest;
        local $/;
        push @answers, scalar <$socket>;
    }

    is(scalar(grep { m{^HTTP/1.1 200 } } @answers), 4, 'answered');

    my %body = map { $_->{uri} => $_->{body} } $bank->api_requests;

    ok($body{$_->[0]} eq $_->[1], "$_->[0]: the body is whole") for @rows;

    ends($bank, $nginx);
};


subtest 'connections that are kept' => sub {
    my ($bank, $nginx) = cold(<<'END');
        location / { %%PASS%% }
        location /return { return 200 "$bog_hold_time"; }
END

    my $request = sub { "GET $_[0] HTTP/1.1\r\nHost: x\r\n\r\n" };
    my $client = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $nginx->port) or die "connect: $@\n";

    my $answers = sub {
        my ($n, $text) = (shift, '');

        wait_until {
            sysread $client, $text, 65536, length $text;
            (() = $text =~ m{HTTP/1\.1 }g) >= $n && $text =~ /[}0]\z/;
        };

        return $text;
    };

    print {$client} $request->('/return');
    like($answers->(1), qr/\r\n\r\n0\.000\z/, 'a request that does not wait');

    print {$client} map { $request->($_) } '/1', '/2', '/return', '/3';
    ok($nginx->wait_active(1), 'the first of four in a row is held');

    pass_time(0.1);
    $bank->release;

    my $text = $answers->(4);

    is(scalar(() = $text =~ m{HTTP/1\.1 200 }g), 4, 'all are answered');
    is(join(' ', map { $_->{uri} } $bank->api_requests), '/1 /2 /3',
       'in their order');
    is(scalar(tokens_seen($bank)), 3, 'with the token');

    my @time = map { (split)[2] } grep { m{^/[123]} } access($nginx);

    cmp_ok($time[0], '>=', 0.09, 'the first one waited');
    is("@time[1, 2]", '0.000 0.000', 'the others did not');
    is((() = $text =~ /\r\n\r\n0\.000/g), 1, 'nor did the return');

    print {$client} $request->('/4');
    like($answers->(1), qr{^HTTP/1.1 200 }, 'and the connection goes on');

    ends($bank, $nginx);
};


subtest 'inner requests' => sub {
    my ($bank, $nginx) = cold(<<'END');
        location /checked { bog_token off; auth_request /check;
                            proxy_pass http://127.0.0.1:%%API%%/checked;
                            proxy_set_header Authorization "Bearer $got";
                            auth_request_set $got $bog_bearer_token; }
        location = /check { internal; %%PASS%% }

        location /both { auth_request /check; %%PASS%% }

        location /mirrored { mirror /mirror; return 204; }
        location /mirrored/pass { bog_token off; mirror /mirror; %%PASS%% }
        location = /mirror { internal; %%PASS%% }

        location /named { try_files /none @named; }
        location @named { %%PASS%% }

        location /missing { error_page 404 = @named; }
        location /try { try_files /none /tried; }
        location /tried { %%PASS%% }
        location /rewrite { rewrite ^ /tried last; }

        location /page { error_page 401 = @named; bog_token off;
                         proxy_intercept_errors on;
                         proxy_pass http://127.0.0.1:%%API%%; }
        location /add { add_before_body /tried; return 200; }
END

    # the API refuses what comes without a token, hence /page waits after it
    my @uris = qw(/checked /both /named /missing /try /rewrite);
    my @answers = held($bank, $nginx, \@uris);

    for my $i (0 .. $#uris) {
        next if $uris[$i] eq '/checked';
        is($answers[$i]{status}, 200, $uris[$i]);
    }

    my %checked = map { $_->{uri} => 1 } grep { $_->{state} eq 'valid' }
                  $bank->api_requests;

    ok($checked{'/check'}, 'auth_request');
    ok($checked{'/both'}, 'a request after its auth_request');
    is(scalar(grep { $_->{uri} eq '/check' } $bank->api_requests), 2,
       'one subrequest each');

    my %time = map { /^(\S+) \d+ (.*)/ } access($nginx);

    cmp_ok($time{$_}, '>=', 0.09, "$_: the time of its wait")
        for qw(/named /missing /try /rewrite);

    ends($bank, $nginx);
};


subtest 'mirrors' => sub {
    my ($bank, $nginx) = cold(<<'END');
        location / { bog_token off; mirror /mirror;
                     proxy_pass http://127.0.0.1:%%API%%; }
        location = /mirror { internal; %%PASS%% }
END

    my $answer;

    # the client has its answer; the connection waits for the mirror
    ($answer) = parallel($nginx->port, 1, method => 'POST', body => 'copy',
        on_sent => sub {
            ok($bank->wait_count(api => 1), 'the request itself passes');
            ok($nginx->wait_active(1), 'the mirror is held');
            $bank->release;
            ok($bank->wait_count(api => 2), 'the mirror passes');
        });

    is($answer->{status}, 401, 'answered');

    my ($mirror) = grep { $_->{uri} eq '/mirror' } $bank->api_requests;

    is($mirror->{state}, 'valid', 'the mirror has the token');
    is($mirror->{body}, 'copy', 'and the body');

    ends($bank, $nginx);
};


subtest 'post_action' => sub {
    my ($bank, $nginx) = cold(<<'END');
        location / { bog_token off; post_action /after;
                     proxy_pass http://127.0.0.1:%%API%%; }
        location = /after { internal; %%PASS%% }
END

    my $client = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $nginx->port) or die "connect: $@\n";

    print {$client} "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    like(scalar <$client>, qr/ 401 /, 'answered');
    ok($nginx->wait_active(1), 'held');

    close $client;
    pass_time(0.1);
    is($nginx->active, 1, 'no matter that the client leaves');

    $bank->release;
    ok($bank->wait_count(api => 2), 'it passes');
    is(($bank->api_requests)[1]{state}, 'valid', 'with the token');

    ends($bank, $nginx);
};


subtest 'inner requests that get none' => sub {
    my ($bank, $nginx) = cold(<<'END');
        bog_wait_timeout 300ms;

        location /checked { bog_token off; auth_request /check;
                            proxy_pass http://127.0.0.1:%%API%%; }
        location = /check { internal; %%PASS%% }
        location /mirrored { bog_token off; mirror /mirror;
                             proxy_pass http://127.0.0.1:%%API%%; }
        location = /mirror { internal; %%PASS%% }

        location /page { error_page 503 /sorry.html; %%PASS%% }
        location /status { error_page 503 =200 /sorry.html; %%PASS%% }
        location /named { error_page 503 @sorry; %%PASS%% }
        location @sorry { return 200 "named $bog_token_state"; }

        # each of them could wait once more
        location /chain { error_page 503 = /chain2; %%PASS%% }
        location /chain2 { error_page 503 = @chain3; %%PASS%% }
        location @chain3 { %%PASS%% }
        location /chain/fallback { error_page 503 = @chain4; %%PASS%% }
        location @chain4 { bog_token optional; %%PASS%% }
END

    my @uris = qw(/checked /mirrored /page /status /named /chain
                  /chain/fallback);
    my %answer;
    @answer{@uris} = parallel($nginx->port, scalar @uris,
                              uri => sub { $uris[$_[0]] });

    # what auth_request makes of a status that is neither 2xx nor 401 nor 403
    is($answer{'/checked'}{status}, 500, 'auth_request');
    is($answer{'/mirrored'}{status}, 401, 'mirror: the request itself');
    is($answer{'/page'}{status}, 503, 'error_page');
    is($answer{'/page'}{body}, 'sorry', 'its body');
    is(retry_after($answer{'/page'}), 1, 'Retry-After');
    is($answer{'/status'}{status}, 200, 'error_page with a status');
    is($answer{'/status'}{body}, 'sorry', 'its body');
    is($answer{'/named'}{body}, 'named missing', 'error_page to a name');
    is($answer{'/chain'}{status}, 503, 'a chain of three');
    is($answer{'/chain/fallback'}{status}, 401, 'a chain that goes on');

    is(scalar(grep { $_->[0] eq 'Retry-After' }
              @{ $answer{'/chain'}{headers} }), 1, 'one Retry-After');

    my %time = map { /^(\S+) \d+ (.*)/ } access($nginx);

    for my $uri (qw(/page /status /named /chain /chain/fallback)) {
        cmp_ok($time{$uri}, '>=', 0.295, "$uri waited");
        cmp_ok($time{$uri}, '<', 0.55, 'once') unless timeout(1) > 1;
    }

    is(join(' ', sort map { $_->{uri} } $bank->api_requests),
       '/chain/fallback /mirrored', 'what has reached the API');

    $bank->release;
    ends($bank, $nginx);
};


# nginx would add what it did last: " while sending to client".

subtest 'the line about no token, after an answer of another server' => sub {
    my ($bank, $nginx) = cold(<<'END');
        location /first {
            bog_token off;
            proxy_pass http://127.0.0.1:%%API%%;
            proxy_intercept_errors on;
            error_page 401 = @second;
        }
        location @second { bog_wait_timeout 0; %%PASS%% }
END
    is(get($nginx->port, '/first')->{status}, 503, 'answered');

    my $api = 'http://127.0.0.1:' . $bank->api_port . '/first';
    my ($line) = $nginx->log =~ /^(.* no token for client id .*)$/m;

    is($line =~ s/.*? \[info\] \d+#\d+: \*\d+ //r,
       'no token for client id "8282" after 0 ms, client: 127.0.0.1, server: , '
       . qq(request: "GET /first HTTP/1.1", upstream: "$api", )
       . 'host: "localhost"', 'the line');

    $bank->release;
    ends($bank, $nginx);
};


subtest 'a chain that gets the token in its second wait' => sub {
    my ($bank, $nginx) = cold(<<'END');
        location /a { bog_wait_timeout 100ms; error_page 503 = /b; %%PASS%% }
        location /b { %%PASS%% }
END
    my ($answer) = parallel($nginx->port, 1, uri => '/a', timeout => 60,
        on_sent => sub {
            ok($nginx->wait_log(qr/no token for client id "8282" after/),
               'the first wait is over');
            ok($nginx->wait_active(1), 'the next location waits on');
            $bank->release;
        });

    is($answer->{status}, 200, 'answered');
    is(retry_after($answer), undef, 'no Retry-After in a success');

    ends($bank, $nginx);
};


# The header says when to come again.  It belongs to our 503, not to what another
# location answers in its place.

my $success = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n";
my $busy = "HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n";

for my $case (
    ['plain', '', '', 503, 1],
    ['a page', 'error_page 503 /sorry.html;', '', 503, 1],
    ['a page from a backend', 'error_page 503 /spare;', $success, 503, 1],
    ['such a page with its own', 'error_page 503 /spare;',
     $success . "Retry-After: 120\r\n", 503, 120],
    ['a page with 200', 'error_page 503 =200 /sorry.html;', '', 200],
    ['a page with 502', 'error_page 503 =502 /sorry.html;', '', 502],
    ['a named location', 'error_page 503 = @spare;', $success, 200],
    ['its 503', 'error_page 503 = @spare;', $busy, 503],
    ['its 503 and its header', 'error_page 503 = @spare;',
     $busy . "Retry-After: 120\r\n", 503, 120],
    ['a redirect', 'error_page 503 http://localhost/;', '', 302],
) {
    my ($name, $page, $head, $status, @expected) = @$case;

    subtest "Retry-After: $name" => sub {
        my ($bank, $nginx) = cold(<<"END");
            bog_wait_timeout 0;

            location / { $page %%PASS%% }
            location /sorry.html { }
            location /spare { bog_token off; %%PASS%% }
            location \@spare { bog_token off; %%PASS%% }
END
        $bank->api_answer(raw => "$head\r\nok");

        for my $method ('GET', 'HEAD') {
            my $answer = get($nginx->port, '/', method => $method,
                             timeout => 20);

            is($answer->{status}, $status, "status of $method");
            is_deeply([map { $_->[1] } grep { $_->[0] eq 'Retry-After' }
                       @{ $answer->{headers} }], \@expected, 'Retry-After');
        }

        $bank->release;
        ends($bank, $nginx);
    };
}


# nginx 1.29 and later send the headers that are there so far with it, and
# empty their list for those of the answer.

subtest 'Retry-After: a backend that sends early hints' => sub {
    my ($bank, $nginx) = cold(<<'END');
        bog_wait_timeout 0;
        early_hints 1;

        location / { error_page 503 =200 @spare; %%PASS%% }
        location @spare { bog_token off; %%PASS%% }
END
    $bank->api_answer(raw => "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
                             . "${success}X-First: yes\r\n\r\nok");

    my $raw = get($nginx->port, '/')->{raw};

    like($raw, qr{^HTTP/1.1 103 .*\r\nLink: </x>\r\n\r\nHTTP/1.1 200 }s,
         'the hints, and the answer');
    like($raw, qr/^X-First: yes\r$/m, 'with its header');
    unlike($raw, qr/^Retry-After/m, 'and not with ours');

    $bank->release;
    ends($bank, $nginx);
} if Bog::Nginx->since(1, 29, 0);


subtest 'Retry-After: HTTP/2' => sub {
    plan skip_all => 'no nghttp' if system 'command -v nghttp > /dev/null';

    my ($bank, $nginx) = cold(<<'END');
        listen 127.0.0.1:%%PORT_1%% http2;
        bog_wait_timeout 0;
        location / { %%PASS%% }
END
    my $output = `nghttp -v http://127.0.0.1:${\ $nginx->port(1) }/`;

    like($output, qr/:status: .*503/, 'a refusal');
    is(scalar(() = $output =~ /retry-after: /g), 1, 'one Retry-After');

    $bank->release;
    ends($bank, $nginx);
};


# Fetches and other locations find a connection however many requests come.

for my $case (
    ['worker_connections', connections => 64],
    ['worker_rlimit_nofile', file_limit => 64],
) {
    my ($limit, %opt) = @$case;

    subtest "the last connections: $limit" => sub {
        plan skip_all => 'the limit is not set under a wrapper'
            if $opt{file_limit} && $ENV{BOG_WRAPPER};

        my ($bank, $nginx) = cold(<<'END', %opt);
            location / { empty_gif; add_header X-Token $bog_bearer_token; }
            location /optional { bog_token optional; empty_gif; }
            location /file { }
            location /status { bog_status prometheus; }
END
        $bank->answer;
        $bank->release(status => 503, headers => [['Retry-After' => 4]]);
        ok($nginx->wait_log(qr/token request failed/), 'a bank that is away');

        my $request = sub {
            my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                PeerPort => $nginx->port) or die "connect: $@\n";
            print {$socket} "GET / HTTP/1.0\r\n\r\n";
            return $socket;
        };

        # one by one: connections without a request are closed by nginx itself
        my @sockets = map { $request->() } 1 .. 200;
        my $select = IO::Select->new(@sockets);
        my $refused;

        ok(wait_until { $refused = $select->can_read(0);
                        $refused + $nginx->active == 200 },
           'each is held or answered at once');

        my @others = map { get($nginx->port, $_) } qw(/file /optional);
        is(statuses(@others), '200 200', 'others are answered');
        is($bank->count, 1, 'while the bank is away');

        my @answers = map { local $/; <$_> // '' } @sockets;
        my ($token) = map { $_->{token} } $bank->tokens;

        is(scalar(grep { m{^HTTP/1.1 503 .*^Retry-After: 1\r$}ms } @answers),
           $refused, 'the refused ones may come again in a second');
        is(scalar(grep { m{^HTTP/1.1 200 .*^X-Token: $token\r$}ms } @answers),
           200 - $refused, 'the held ones get the token');
        cmp_ok($refused, '>=', 200 - 48, 'sixteen connections are left');
        cmp_ok($refused, '<=', 200 - 24, 'and few more');
        is($bank->count, 2, 'one fetch, as soon as it is due');

        my %without = get($nginx->port, '/status')->{body}
            =~ /^bog_requests_without_token_total\{.*="(\w+)"\} (\d+)/mg;
        is("$without{required} $without{optional}", "$refused 1", 'counted');

        my @warnings = $nginx->log
            =~ /\[warn\] .*held and no more can be, increase "(\w+)"/g;
        is($warnings[0], $limit, 'the log says what to do');
        cmp_ok(scalar(@warnings), '<=', 5, 'once a second');

        ends(undef, $nginx);
    };
}


# Each that goes on needs a connection to the API, beside that of its client.

subtest 'more held requests than free connections' => sub {
    my ($bank, $nginx) = cold('location / { %%PASS%% }', connections => 64);

    my @answers = held($bank, $nginx, [map { "/$_" } 1 .. 40], body => 'x');

    is(join(' ', map { $_->{status} } @answers), join(' ', (200) x 40),
       'all are answered');
    is(join(' ', sort { $a <=> $b } map { substr $_->{uri}, 1 }
            $bank->api_requests), join(' ', 1 .. 40), 'each was sent once');
    is(scalar(tokens_seen($bank)), 40, 'with the token');

    ends($bank, $nginx);
};


subtest 'a single process' => sub {
    my ($bank, $nginx) = cold(<<'END', master => 0);
        location / { %%PASS%% }
        location /file { }
END
    my @answers = held($bank, $nginx, [map { "/$_" } 1 .. 20],
        meanwhile => sub { is(get($nginx->port, '/file')->{status}, 200,
                              'others are answered') });

    is(scalar(grep { $_->{status} == 200 } @answers), 20, 'answered');
    is(scalar(tokens_seen($bank)), 20, 'with the token');

    ends($bank, $nginx);
};


done_testing;
