# Clients while their requests are held: those that leave in every way there
# is, ten thousand at once, large bodies, and nginx's own limits and timeouts.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA 'sha256_hex';
use IO::Select;
use IO::Socket::INET;
use JSON::PP ();
use Socket 'SHUT_WR';
use Test::More;

use Bog::Backend;
use Bog::Bank;
use Bog::Child;
use Bog::Client qw(get parallel steady h2load header);
use Bog::H2;
use Bog::Nginx;
use Bog::Server;
use Bog::Util qw(now pass_time timeout wait_until slurp);

my $pass = 'proxy_set_header Authorization "Bearer $bog_bearer_token";'
           . ' proxy_pass http://127.0.0.1:%%API%%;';

my $poll = ($ENV{BOG_EVENTS} // '') =~ /poll;/
           && ($ENV{BOG_EVENTS} // '') !~ /epoll/;
my $slow = $poll || $ENV{BOG_WRAPPER};


# An nginx whose token request the bank holds.  %opt: listen, what is added to
# it; http, a text; api, the port of another one; what Bog::Nginx takes.

sub cold {
    my ($conf, %opt) = @_;

    my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret' });
    $bank->answer(hold => 1);

    my $api = delete $opt{api} // $bank->api_port;
    my ($listen, $http) = map { delete $opt{$_} // '' } qw(listen http);

    $conf =~ s/%%PASS%%/$pass/g;
    $conf =~ s/%%API%%/$api/g;

    my $nginx = Bog::Nginx->new(
        status => 1, secret => { main => "s3cret\n" }, %opt,
        conf   => <<"END");
        log_format hold '\$request_uri \$status \$bog_hold_time \$pid';
        bog_wait_timeout 120s;
        $http

        server {
            listen 127.0.0.1:%%PORT%% $listen;
            root %%DIR%%/html;
            access_log %%DIR%%/hold.log hold;

            bog_client_id           8282;
            bog_client_secret_file  %%SECRET_main%%;
            bog_token_endpoint      ${\ $bank->url };
            bog_read_timeout        120s;

            $conf
        }
END
    $nginx->start;
    ok($bank->wait_requests(1), 'the token is asked for');

    return ($bank, $nginx);
}


sub ends {
    my ($bank, $nginx) = @_;

    is($bank->count, 1, 'one token request');
    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
}


# [uri, status, seconds, worker]; awaited, as an answer comes before its line.

sub access {
    my ($nginx, $n) = @_;

    my @lines;

    wait_until {
        @lines = map { [split] } split /\n/, slurp($nginx->dir . '/hold.log');
        @lines >= $n;
    };

    return @lines;
}


sub statuses {
    my %count;
    $count{$_->{status} // $_->{error}}++ for @_;

    return join ' ', map { "$_: $count{$_}" } sort keys %count;
}


sub client {
    my ($nginx, $bytes, %opt) = @_;

    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', %opt,
        PeerPort => $nginx->port) or die "connect: $@\n";

    print {$socket} $bytes;
    $socket->flush;

    return $socket;
}


# Until the end, or so many answers.

sub read_answers {
    my ($socket, $n) = @_;

    my ($text, $deadline) = ('', now() + timeout(30));

    while (now() < $deadline) {
        IO::Select->new($socket)->can_read(timeout(1)) or next;

        my $got = sysread $socket, $text, 65536, length $text;
        last unless $got;

        # answers of ours, and nginx's own pages, end like this
        last if $n && (() = $text =~ /\}(?=HTTP|\z)|<\/html>/g) >= $n;
    }

    return $text;
}


sub codes { join ' ', $_[0] =~ m{HTTP/1\.1 ([0-9]{3})}g }

sub plain { "GET $_[0] HTTP/1.1\r\nHost: x\r\n\r\n" }

sub uris { join ' ', map { $_->{uri} } $_[0]->api_requests }


# All that have reached the API had the one token.

sub good_tokens {
    my ($bank, $n) = @_;

    is_deeply($bank->api_stats,
              { valid => $n, newborn => 0, expired => 0, unknown => 0, missing => 0 },
              'the API saw the token only');
}


sub released {
    my ($bank, $nginx) = @_;

    is($bank->release, 1, 'the token comes');
    is(get($nginx->port, '/last')->{status}, 200, 'for others');
}


subtest 'half of a hundred leave' => sub {
    my ($bank, $nginx) = cold('location / { %%PASS%% }', workers => 4,
                              listen => 'reuseport');

    my $start = now();
    my ($all, $left, $held);

    my @answers = parallel($nginx->port, 100, close_after => 0.5,
        uri     => sub { "/$_[0]" },
        on_sent => sub {
            ok($nginx->wait_active(100), 'held');
            $all = now();
            select undef, undef, undef, 0.3;
            $left = now();
        },
        on_closed => sub {
            ok($nginx->wait_active(50), 'nginx lets go');
            $held = now();
            $bank->release;
        });

    is(statuses(@answers), '200: 50 left: 50', 'the others are answered');

    my @lines = access($nginx, 100);
    my @gone = grep { $_->[1] == 499 } @lines;
    my @stayed = grep { $_->[1] == 200 } @lines;

    is(join(' ', sort { $a <=> $b } map { substr $_->[0], 1 } @gone),
       join(' ', 0 .. 49), 'status 499');
    is(scalar(@stayed), 50, 'status 200');

    my ($least) = sort { $a <=> $b } map { $_->[2] } @stayed, @gone;
    my ($most) = sort { $b <=> $a } map { $_->[2] } @stayed;

    cmp_ok($least, '>=', $left - $all - 0.01, 'the time of their wait');
    cmp_ok($most, '<=', now() - $start, 'and no more');

    good_tokens($bank, 50);
    ends($bank, $nginx);
};


subtest 'all leave' => sub {
    my ($bank, $nginx) = cold('location / { %%PASS%% }', workers => 2);

    parallel($nginx->port, 50, close_after => 1,
             on_sent => sub { ok($nginx->wait_active(50), 'held') });

    ok($nginx->wait_active(0), 'nginx lets go');
    is($bank->held, 1, 'the fetch goes on');

    released($bank, $nginx);
    good_tokens($bank, 1);
    ends($bank, $nginx);
};


subtest 'streams that are reset, and connections of them' => sub {
    my ($bank, $nginx) = cold('location / { %%PASS%% }', listen => 'http2');

    my @clients = map { Bog::H2->new($nginx->port) } 1 .. 3;

    my @streams = $clients[0]->request(map { "/a$_" } 0 .. 9);
    $clients[$_]->request(map { ("/b$_", "/c$_") } 0 .. 4) for 1, 2;
    ok($nginx->wait_active(30), 'held');

    $clients[0]->reset(@streams[0, 4, 9]);
    ok($nginx->wait_active(27), 'three streams are gone');

    $_->close for @clients[1, 2];
    ok($nginx->wait_active(7), 'and two connections');

    is(join(' ', sort map { "$_->[0] $_->[1]" } grep { $_->[0] =~ /^\/a/ }
            access($nginx, 23)), '/a0 499 /a4 499 /a9 499', 'status 499');

    $bank->release;

    my @answers = map { $clients[0]->answer($_) } @streams[1 .. 3, 5 .. 8];
    is(statuses(@answers), '200: 7', 'the others are answered');

    my $more = $clients[0]->request('/more');
    is($clients[0]->answer($more)->{status}, 200, 'the connection goes on');

    is(join(' ', sort map { $_->{uri} } $bank->api_requests),
       '/a1 /a2 /a3 /a5 /a6 /a7 /a8 /more', 'what has reached the API');
    good_tokens($bank, 8);

    $clients[0]->close;
    ends($bank, $nginx);
};


# All that a worker is told while it cannot run, it is told at once.

sub stopped {
    my ($nginx, $meanwhile) = @_;

    my ($pid) = $nginx->workers;

    kill STOP => $pid;
    wait_until { slurp("/proc/$pid/stat") =~ /\) T / };
    $meanwhile->();
    kill CONT => $pid;
}


for my $first ('token', 'client') {
    subtest "the client goes and the token comes, the $first first" => sub {
        my ($bank, $nginx) = cold('location / { %%PASS%% }',
                                  listen => 'http2');

        my $other = Bog::H2->new($nginx->port);
        my $client = Bog::H2->new($nginx->port);

        my @kept = $other->request('/0', '/1', '/2');
        my @lost = $client->request(map { "/lost/$_" } 1 .. 20);
        ok($nginx->wait_active(23), 'held');

        stopped($nginx, sub {
            my @events = (sub { $bank->release },
                          sub { $other->reset($kept[1]); $client->close });

            $_->() for $first eq 'token' ? @events : reverse @events;
        });

        is($other->answer($_)->{status}, 200, 'who stays is answered')
            for @kept[0, 2];

        is(scalar(access($nginx, 23)), 23, 'all are in the log');
        ok($nginx->wait_active(0), 'and gone');

        my %seen = map { $_->{uri} => 1 } $bank->api_requests;
        ok($seen{'/0'} && $seen{'/2'}, 'as the API saw');
        is(join(' ', map { $_->[1] } grep { $_->[0] =~ /lost|1/ }
                access($nginx, 23)), join(' ', ('499') x 21), 'status 499');

        $other->close;
        ends($bank, $nginx);
    };
}


subtest 'h2load' => sub {
    plan skip_all => 'no h2load' if system 'command -v h2load > /dev/null';

    my ($bank, $nginx) = cold('location / { %%PASS%% }', listen => 'http2',
                              workers => 2);

    my $h2 = h2load($nginx->port, n => 400, c => 4, m => 100, on_start => sub {
        ok($nginx->wait_active(400), 'held');
        $bank->release;
    });

    is($h2->{'2xx'}, 400, 'answered') or diag $h2->{output};
    good_tokens($bank, 400);
    ends($bank, $nginx);
};


subtest 'requests in a row' => sub {
    my ($bank, $nginx) = cold(<<'END');
        location / { %%PASS%% }
        location /short { bog_wait_timeout 200ms; %%PASS%% }
END
    my $row = join '', map { plain($_) } '/1', '/2', '/3';

    my $gone = client($nginx, $row);
    my $half = client($nginx, plain('/half'));
    ok($nginx->wait_active(2), 'the first one is held');

    close $gone;
    ok($nginx->wait_active(1), 'and leaves, with those behind it');

    # as nginx takes it anywhere
    shutdown $half, SHUT_WR;
    ok($nginx->wait_active(0), 'half-closed is closed');
    is(read_answers($half), '', 'no answer');

    is(join(' ', map { "$_->[0] $_->[1]" } access($nginx, 2)),
       '/1 499 /half 499', 'status 499');

    # the wait of one is not that of the next
    my $client = client($nginx, plain('/short/1') . plain('/short/2'));
    is(codes(read_answers($client, 2)), '503 503', 'each waits');

    print {$client} map { plain($_) } '/short/3', '/4', '/5';
    $client->flush;
    ok(wait_until { access($nginx, 5) >= 5 }, 'the third one has waited');
    ok($nginx->wait_active(1), 'the fourth one waits');
    pass_time(0.1);
    $bank->release;

    is(codes(read_answers($client, 3)), '503 200 200', 'answered in order');

    my %time = map { $_->[0] => $_->[2] } access($nginx, 7);
    cmp_ok($time{"/short/$_"}, '>=', 0.195, "/short/$_ was held") for 1 .. 3;
    cmp_ok($time{'/4'}, '>=', 0.09, '/4 was held');
    is($time{'/5'}, '0.000', '/5 was not');

    is(uris($bank), '/4 /5', 'what has reached the API');
    ends($bank, $nginx);
};


subtest 'keepalive_requests' => sub {
    my ($bank, $nginx) = cold('location / { keepalive_requests 3; %%PASS%% }');

    my $client = client($nginx, join '', map { plain("/$_") } 1 .. 5);
    ok($nginx->wait_active(1), 'held');
    $bank->release;

    my $text = read_answers($client);
    is(codes($text), '200 200 200', 'as many as may be');
    is(scalar(() = $text =~ /^Connection: close/mg), 1, 'then the end');
    is(uris($bank), '/1 /2 /3', 'at the API too');

    close $client;
    ends($bank, $nginx);
};


# --- very many

sub private_memory {
    my $sum = 0;

    $sum += $_ for map { slurp("/proc/$_/smaps_rollup")
                         =~ /^Private_Dirty:\s+(\d+) kB/mg } @_;

    return $sum * 1024;
}


sub files_allowed {
    my $hard = qx(sh -c 'ulimit -Hn');
    chomp $hard;

    return 1_000_000 if $hard eq 'unlimited';

    # the soft limit is what counts, for us and for those that we start
    system "prlimit --pid $$ --nofile=$hard:$hard";

    return $hard;
}


# As many as there can be, with some files to spare.

sub crowd {
    my $n = $slow ? 1000 : 10_000;
    my $most = files_allowed() - 200;

    return $n < $most ? $n : $most;
}


my $crowd = crowd();


subtest "$crowd at once" => sub {
    my ($bank, $nginx) = cold(<<'END', workers => 4, connections => 8192,
        location / { add_header X-Token $bog_bearer_token; empty_gif; }
END
        log_level => 'info', listen => 'reuseport backlog=4096');

    my $before = private_memory($nginx->workers);
    my @sockets = map { client($nginx, "GET /$_ HTTP/1.0\r\n\r\n") }
                  1 .. $crowd;

    ok($nginx->wait_active($crowd, 60), 'held');

    my $each = (private_memory($nginx->workers) - $before) / $crowd;
    my $start = now();

    diag sprintf '%d held requests: %d bytes each', $crowd, $each
        if $ENV{BOG_TIMES};

    # nginx's own pools for a connection and its request are most of it
    cmp_ok($each, '<', 12_000, 'memory')
        unless $slow || $ENV{BOG_ASAN}
               || Bog::Nginx->has('cc-opt=.*-fsanitize=address');

    $bank->release;

    my ($token) = map { $_->{token} } $bank->tokens;
    my $good = grep { m{^HTTP/1.1 200 .*\r\nX-Token: \Q$token\E\r\n}s }
               map { local $/; readline $_ } @sockets;

    is($good, $crowd, 'all are answered, with the token');
    diag sprintf 'answered in %.2f s', now() - $start if $ENV{BOG_TIMES};

    my @lines = access($nginx, $crowd);
    my %workers = map { $_->[3] => 1 } @lines;

    is(scalar(keys %workers), 4, 'by all workers');
    is(scalar(grep { $_->[2] == 0 } @lines), 0, 'all were held');

    close $_ for @sockets;
    ends($bank, $nginx);
};


subtest 'worker_shutdown_timeout with 1,000 held' => sub {
    my ($bank, $nginx) = cold('location / { %%PASS%% }', workers => 2,
        log_level => 'info', main => 'worker_shutdown_timeout 500ms;');

    my @sockets = map { client($nginx, plain('/')) } 1 .. 1000;
    ok($nginx->wait_active(1000), 'held');

    my $start = now();
    is($nginx->stop('QUIT'), 0, 'stops');
    my $passed = now() - $start;

    cmp_ok($passed, '>=', 0.5, 'by the limit');
    cmp_ok($passed, '<', 0.5 + timeout(5), 'and soon');

    is(join('', map { read_answers($_) } @sockets), '', 'no answer to anybody');
    is(scalar(access($nginx, 1000)), 1000, 'all are in the log');

    is($bank->count, 1, 'one token request');
    $nginx->clean_log;
};


# --- inside of other requests

subtest 'the client of an inner request leaves' => sub {
    my ($bank, $nginx) = cold(<<'END');
        location /last { %%PASS%% }
        location = /inner { internal; %%PASS%% }

        location /auth { bog_token off; auth_request /inner; %%PASS%% }
        location /ssi { ssi on; }
        location /add { add_after_body /inner; }
        location /mirror { bog_token off; mirror /inner; %%PASS%% }
END
    $nginx->file('html/ssi.html',
                 'before <!--# include virtual="/inner" --> after');
    $nginx->file('html/add.html', 'before');

    my @uris = qw(/auth /ssi.html /add.html /mirror);
    my @clients = map { client($nginx, plain($_)) } @uris;

    ok($nginx->wait_active(4), 'held');
    is($bank->wait_count(api => 1), 1, 'but for what the mirror copies');

    close $_ for @clients;

    # the mirror is nobody's: its client has had the answer
    ok($nginx->wait_active(1, 2), 'nginx lets go');

    # those who stay are not in their way
    my $patient = client($nginx, plain('/last/patient'));
    ok(wait_until { $nginx->active >= 1 }, 'another one');

    is($bank->release, 1, 'the token comes');
    is(codes(read_answers($patient, 1)), '200', 'for the other one');
    is(get($nginx->port, '/last')->{status}, 200, 'and later ones');

    ok($nginx->wait_active(0), 'nothing is left behind');

    is(join(' ', sort map { $_->[0] } access($nginx, 6)),
       join(' ', sort @uris, '/last', '/last/patient'), 'all are in the log');

    # of those whose clients have gone, the mirror has none to go with
    my @inner = grep { $_->{uri} eq '/inner' } $bank->api_requests;
    ok(@inner >= 1 && @inner <= 4, 'the mirror is sent');
    is(scalar(grep { $_->{state} ne 'valid' } @inner), 0, 'with the token');

    is($bank->api_stats->{missing}, 1, 'and what it is a copy of, without');
    ends($bank, $nginx);
};


# --- the client leaves, and nginx does something else with its request

my $audit = 'proxy_pass http://127.0.0.1:%%AUDIT%%;';

for my $case (
    ['proxy_pass', $audit],
    ['mirror', "mirror /copy; $audit"],
    ['a body without buffers', "proxy_request_buffering off; $audit"],
    ['slice', "slice 1k; $audit"],
    ['a cache', 'proxy_cache audit; proxy_cache_methods POST;'
                . " proxy_cache_key \$uri; $audit"],
    ['HTTP/2', $audit, listen => 'http2'],
    ['another source', 'bog_token required; bog_client_id 8383;'
                       . " bog_token_endpoint %%OTHER%%; $audit"
                       . ' proxy_set_header X-Token $bog_bearer_token;'],
) {
    my ($name, $location, %opt) = @$case;

    subtest "post_action of a held request: $name" => sub {
        my $other = Bog::Bank->new(credentials => { 8383 => 's3cret' });
        my $backend = Bog::Backend->new;

        my $conf = <<"END";
            location / { %%PASS%% }
            location /held { post_action /audit; %%PASS%% }
            location = /status { bog_status json; }

            location = /audit { bog_token off; $location }
            location = /copy { internal; bog_token off; $audit }
END
        $conf =~ s/bog_token off; (?=bog_token)//;
        $conf =~ s/%%AUDIT%%/$backend->port('http')/ge;
        $conf =~ s/%%OTHER%%/$other->url/ge;

        $other->answer(hold => 1);

        my ($bank, $nginx) = cold($conf, %opt, http => <<'END');
            proxy_cache_path %%DIR%%/cache keys_zone=audit:1m;
END
        my $get = sub {
            return get($nginx->port, $_[0]) unless $opt{listen};

            my $h2 = Bog::H2->new($nginx->port);
            return $h2->answer($h2->request($_[0]));
        };

        my $seen = sub {
            return join ' ', sort map { "@{ $_->{params}{REQUEST_METHOD} }"
                                        . " @{ $_->{params}{REQUEST_URI} }" }
                             $backend->requests;
        };

        $backend->answer(http => (hold => 1));

        my $client = $opt{listen} ? Bog::H2->new($nginx->port)
                     : client($nginx, "POST /held HTTP/1.1\r\nHost: x\r\n"
                                      . "Content-Length: 4\r\n\r\nbody");
        my $stream = $opt{listen} && $client->request('/held');

        ok($nginx->wait_active(1), 'held');
        $opt{listen} ? $client->reset($stream) : close $client;

        ok($nginx->wait_log(qr/post action/), 'the other location has it');
        ok($backend->wait_requests(1), 'and sends it on')
            unless $name eq 'another source';

        is($bank->release, 1, 'the token comes');
        is($get->('/last')->{status}, 200, 'for others');

        if ($name eq 'another source') {
            is($seen->(), '', 'the other token has not come');
            is($other->release, 1, 'it comes');
        }

        ok($backend->wait_requests($name eq 'mirror' ? 2 : 1), 'the audit');
        $backend->release;
        ok($nginx->wait_active(0), 'all is done');

        my $method = $opt{listen} ? 'GET' : 'POST';

        is($seen->(), join(' ', "$method /audit",
                           $name eq 'mirror' ? 'POST /copy' : ()),
           'was asked once');

        if ($name eq 'another source') {
            is("@{ ($backend->requests)[0]{params}{HTTP_X_TOKEN} }",
               ($other->tokens)[0]{token}, 'with the other token');
        }

        my $json = JSON::PP::decode_json(
                       $get->('/status')->{body});
        my %holds = map { $_->{client_id} => $_->{holds} }
                    @{ $json->{sources} };

        is($holds{8282}{aborted}, 1, 'a hold that was left');
        is($holds{8282}{token}, 0, 'and none that got the token');
        is($holds{8383}{token}, 1, 'but of the other source')
            if $name eq 'another source';

        is(uris($bank), '/last', 'nothing has come to the API');
        ends($bank, $nginx);
    };
}


# --- bodies

# An API that tells what it was sent, as it would fill the bank's memory.

sub digests {
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
        Listen => 64) or die "listen: $!\n";

    my $child = Bog::Child->new(sub {
        my $loop = shift;
        my @seen;

        Bog::Server->serve($loop, $listener, on_request => sub {
            my ($connection, $request) = @_;

            push @seen, join ' ', $request->{uri},
                                  sha256_hex($request->{body});

            $connection->play([send => "HTTP/1.1 200 OK\r\n"
                . "Content-Length: 2\r\nConnection: close\r\n\r\n{}"],
                [end => 'close']);
        });

        return { seen => sub { $_[1]->(\@seen) } };
    });

    return ($child, $listener->sockport);
}


subtest 'bodies of 10 MB' => sub {
    my ($api, $port) = digests();

    my ($bank, $nginx) = cold(<<'END', api => $port, log_level => 'info');
        client_max_body_size 10m;
        client_body_timeout 120s;

        location /file { %%PASS%% }
        location /stream { proxy_request_buffering off; %%PASS%% }
        location /memory { client_body_buffer_size 10m; %%PASS%% }
        location /stream11 { proxy_request_buffering off;
                             proxy_http_version 1.1; %%PASS%% }
END
    my @uris = qw(/file /stream /memory /stream11);

    my $body = join '', map { pack 'N', $_ * 2654435761 % 2 ** 32 }
                        1 .. 10 * 1024 * 1024 / 4;

    my $load = steady($nginx->port, rate => 100, seconds => 0.04,
                      body => $body, uri => sub { $uris[$_[0]] });

    ok($nginx->wait_active(4), 'held, with most of the bodies to come');

    # of each kind one that leaves
    my @leaving = map { client($nginx, "POST $_/left HTTP/1.1\r\nHost: x\r\n"
        . 'Content-Length: ' . length($body) . "\r\n\r\n"
        . substr $body, 0, 50_000) } @uris;

    ok($nginx->wait_active(8), 'some more');
    close $_ for @leaving;

    # bytes that nobody has read hide the end where there is no EPOLLRDHUP
    ok($nginx->wait_active(4), 'leave') unless $poll;

    is_deeply($api->call('seen'), [], 'none has reached the API');
    $bank->release;

    my $result = $load->result;
    is_deeply($result->{status}, { 200 => 4 }, 'answered')
        or diag explain $result;

    is_deeply([sort @{ $api->call('seen') }],
              [sort map { "$_ " . sha256_hex($body) } @uris],
              'the bodies are whole, and nobody else\'s came');

    my @lines = access($nginx, 8);
    is(scalar(grep { $_->[0] =~ /left/ && $_->[1] =~ /^4(?:99|00)\z/ } @lines),
       4, 'those that left are in the log');

    ends($bank, $nginx);
};


# --- limits and permissions come first

subtest 'who may not enter does not wait' => sub {
    my ($bank, $nginx) = cold(<<'END', files => { users => "u:{PLAIN}p\n" },
        location /conn { limit_conn conn 1; limit_conn_status 429; %%PASS%% }
        location /req { limit_req zone=req; limit_req_status 429; %%PASS%% }
        location /slow { limit_req zone=slow burst=5; %%PASS%% }
        location /auth { auth_basic x; auth_basic_user_file %%DIR%%/users;
                         %%PASS%% }
        location /deny { deny all; %%PASS%% }
        location /allow { allow 127.0.0.1; deny all; %%PASS%% }
        location /any { satisfy any; deny all; auth_basic x;
                        auth_basic_user_file %%DIR%%/users; %%PASS%% }
        location /any/allow { satisfy any; allow all; auth_basic x;
                              auth_basic_user_file %%DIR%%/users; %%PASS%% }
        location /all { satisfy all; deny all; auth_basic x;
                        auth_basic_user_file %%DIR%%/users; %%PASS%% }
END
        http => 'limit_conn_zone $server_port zone=conn:1m;'
                . ' limit_req_zone $server_port zone=req:1m rate=1r/m;'
                . ' limit_req_zone $server_port zone=slow:1m rate=10r/s;');

    my @user = ('Authorization: Basic dTpw');
    my $request = sub {
        my ($uri, @fields) = @_;
        return join "\r\n", "GET $uri HTTP/1.1", 'Host: x',
                    'Connection: close', @fields, '', '';
    };

    my @held = map { client($nginx, $request->(@$_)) }
        ['/conn'], ['/req'], ['/auth', @user], ['/allow'],
        ['/any', @user], ['/any/allow'], ['/slow'], ['/slow'];

    ok($nginx->wait_active(8), 'who may wait waits');

    my %refused = ('/conn' => 429, '/req' => 429, '/auth' => 401,
                   '/deny' => 403, '/any' => 401, '/all' => 403);

    for my $uri (sort keys %refused) {
        my $answer = get($nginx->port, $uri, timeout => 20);

        is($answer->{status}, $refused{$uri}, "$uri: refused");
        is(header($answer, 'Retry-After'), undef, 'and not by us');
        cmp_ok($answer->{time}, '<', timeout(2), 'at once');
    }

    my $wrong = get($nginx->port, '/auth', timeout => 20,
                    headers => [['Authorization' => 'Basic dTp4']]);
    is($wrong->{status}, 401, 'a wrong password');

    is(join(' ', grep { $_ ne '0.000' } map { $_->[2] } access($nginx, 7)), '',
       'none of them was held');
    is($bank->count, 1, 'nor asked for a token');
    is($bank->counts->{api}, 0, 'none has reached the API');

    ok($nginx->wait_active(8), 'the others still wait');
    pass_time(0.1);
    $bank->release;

    is(join(' ', map { codes(read_answers($_)) } @held),
       join(' ', ('200') x 8), 'and are answered');

    my ($second) = sort { $b <=> $a } map { $_->[2] }
                   grep { $_->[0] eq '/slow' } access($nginx, 15);
    cmp_ok($second, '>=', 0.09, 'after limit_req\'s own delay too');

    ends($bank, $nginx);
};


# --- nginx's timeouts

subtest 'the time of the wait is not that of the client' => sub {
    my ($bank, $nginx) = cold(<<'END');
        client_header_timeout 300ms;
        client_body_timeout 300ms;
        send_timeout 300ms;
        keepalive_timeout 300ms;
        reset_timedout_connection on;

        location / { %%PASS%% }
        location /stream { proxy_request_buffering off; %%PASS%% }
END
    my $post = sub {
        my ($uri, $length, $body) = @_;
        return "POST $uri HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
               . "Content-Length: $length\r\n\r\n$body";
    };

    my %client = (
        get    => client($nginx, plain('/get')),
        whole  => client($nginx, $post->('/whole', 4, 'body')),
        late   => client($nginx, $post->('/late', 4, 'bo')),
        stream => client($nginx, $post->('/stream/late', 4, 'bo')),
        never  => client($nginx, $post->('/never', 4, 'bo')),
    );

    ok($nginx->wait_active(5), 'held');

    # longer than all of them
    select undef, undef, undef, 1;
    is($nginx->active, 5, 'still');
    is($nginx->mark && scalar(access($nginx, 0)), 0, 'nobody was sent away');

    print { $client{$_} } 'dy' for qw(late stream);
    $client{$_}->flush for qw(late stream);

    $bank->release;

    is(codes(read_answers($client{$_}, 1)), '200', "$_: answered")
        for qw(get whole late stream);

    # now its time has come
    ok(wait_until { !defined sysread $client{never}, my $buffer, 65536 },
       'never: no answer');
    ok($!{ECONNRESET}, 'but a reset');

    close $_ for values %client;
    ok($nginx->wait_active(0), 'nothing is left behind');

    my %status = map { $_->[0] => $_->[1] } access($nginx, 5);
    is($status{'/never'}, 408, 'status 408');

    my %body = map { $_->{uri} => $_->{body} } $bank->api_requests;
    is_deeply(\%body, { '/get' => '', '/whole' => 'body', '/late' => 'body',
                        '/stream/late' => 'body' }, 'the bodies');

    ends($bank, $nginx);
};


# The answer comes while the client is still sending: a connection that was
# closed at once would take it back.

subtest 'a refusal while the body comes' => sub {
    for my $lingering (qw(on always)) {
        my ($bank, $nginx) = cold(<<"END");
            client_max_body_size 10m;
            lingering_close $lingering;
            reset_timedout_connection on;

            location / { bog_wait_timeout 200ms; %%PASS%% }
END
        my $answer = get($nginx->port, '/', body => 'x' x 8_000_000);

        is($answer->{status}, 503, "lingering_close $lingering");
        is(header($answer, 'Retry-After'), 1, 'is whole');
        is($bank->counts->{api}, 0, 'none has reached the API');

        my ($line) = access($nginx, 1);
        cmp_ok($line->[2], '>=', 0.195, 'after its time');

        $bank->release;
        ends($bank, $nginx);
    }
};


# --- a page instead of 503

subtest 'a page that needs a token' => sub {
    my $other = Bog::Bank->new(credentials => { 8383 => 's3cret' });
    my $conf = <<'END';
        bog_wait_timeout 300ms;

        location /other { error_page 503 = /page/other; %%PASS%% }
        location /page/other {
            bog_client_id 8383;
            bog_token_endpoint %%OTHER%%;
            proxy_set_header Authorization "Bearer $bog_bearer_token";
            proxy_pass http://127.0.0.1:%%OTHER_API%%;
        }

        location /same { error_page 503 /page/same; %%PASS%% }
        location /page/same { %%PASS%% }

        location /named { error_page 503 = @named; %%PASS%% }
        location @named { bog_token optional; %%PASS%% }
END
    $conf =~ s/%%OTHER%%/$other->url/ge;
    $conf =~ s/%%OTHER_API%%/$other->api_port/ge;

    my ($bank, $nginx) = cold($conf);
    ok($other->wait_count(answered => 1), 'another bank that answers');

    my @uris = qw(/other /same /named);
    my @answers = parallel($nginx->port, 3, uri => sub { $uris[$_[0]] });

    is($answers[0]{status}, 200, 'by the token of another source');
    is($other->api_stats->{valid}, 1, 'as its API saw');
    is(header($answers[0], 'Retry-After'), undef, 'no Retry-After');
    is($answers[1]{status}, 503, 'none of the same one either');
    is(header($answers[1], 'Retry-After'), 1, 'Retry-After');
    is($answers[2]{status}, 401, 'who needs none goes on');

    my %time = map { $_->[0] => $_->[2] } access($nginx, 3);
    for my $uri (@uris) {
        cmp_ok($time{$uri}, '>=', 0.295, "$uri was held");
        cmp_ok($time{$uri}, '<', 0.55, 'once') unless timeout(1) > 1;
    }

    # who leaves on its page
    my $client = client($nginx, plain('/same'));
    ok($nginx->wait_active(1), 'held');
    close $client;
    ok($nginx->wait_active(0), 'nginx lets go');

    $bank->release;
    is($other->count, 1, 'one token request there');
    ends($bank, $nginx);
};


done_testing;
