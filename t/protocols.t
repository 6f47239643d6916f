# Every way in which nginx passes a request on, with a token: what reaches the
# backend, held and at once, and what the backend's 401 comes to.
#
# Of what nginx does around it, other suites have: mirror, post_action,
# auth_request, error_page, try_files, internal, add_before_body (hold.t,
# rejected.t, variables.t), clients that leave (clients.t), bodies of 10 MB
# (clients.t).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Select;
use IO::Socket::INET;
use Test::More;

use Bog::Backend;
use Bog::Bank;
use Bog::CA;
use Bog::Client qw(get parallel header);
use Bog::Nginx;
use Bog::Util qw(now slurp timeout wait_until);

my $bearer = '"Bearer $bog_bearer_token"';
my $pass = "proxy_set_header Authorization $bearer;"
           . ' proxy_pass http://127.0.0.1:%%http%%;';


# A bank, a backend and a gateway between them.  In the configuration %%http%%
# and the like are ports of the backend.  %opt: http, a text; listen, what is
# added to it; cold => 1, the bank holds the token request; prepare, a sub that
# gets the bank; what Bog::Nginx takes.

sub set_up {
    my ($conf, %opt) = @_;

    my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret',
                                               8283 => 's3cret' });
    my $backend = Bog::Backend->new;

    $bank->answer(hold => 1) if delete $opt{cold};
    (delete $opt{prepare})->($bank) if $opt{prepare};

    my ($http, $listen) = map { delete $opt{$_} // '' } qw(http listen);

    for ($conf, $http) {
        s/%%PASS%%/$pass/g;
        s/%%([a-z]+)%%/$backend->port($1)/ge;
    }

    my $nginx = Bog::Nginx->new(
        status => 1, secret => { main => "s3cret\n" }, %opt,
        conf   => <<"END");
        bog_token_endpoint  ${\ $bank->url };
        bog_wait_timeout    60s;
        bog_read_timeout    60s;

        proxy_cache_path %%DIR%%/cache keys_zone=one:1m;
        fastcgi_cache_path %%DIR%%/fcache keys_zone=two:1m;
        $http

        server {
            listen 127.0.0.1:%%PORT%% $listen;
            root %%DIR%%/html;
            bog_client_id           8282;
            bog_client_secret_file  %%SECRET_main%%;

            $conf
        }
END
    $nginx->start;

    return ($bank, $backend, $nginx);
}


sub ends {
    my ($bank, $nginx, $requests, %opt) = @_;

    is($bank->count, $requests, "token requests: $requests");
    is($nginx->stop, 0, 'stops');
    $nginx->clean_log(undef, %opt);
}


# The value of the n-th token's header.

sub bearer {
    my ($bank, $n) = @_;

    return 'Bearer ' . ($bank->tokens)[($n // 1) - 1]{token};
}


sub obtained {
    my ($bank, $nginx) = @_;

    ok($nginx->wait_log(qr/token obtained/), 'a token is obtained');

    return bearer($bank);
}


# What the last so many requests had as an Authorization, each that is another
# one once.

sub sent {
    my ($backend, $n) = @_;

    my @requests = $backend->requests;
    my %seen;

    return join ' | ', grep { !$seen{$_}++ }
           map { join ', ', @{ $_->{authorization} } }
           @requests[@requests - ($n // 1) .. $#requests];
}


sub statuses { join ' ', map { $_->{status} // $_->{error} } @_ }

sub count_of { scalar(() = $_[0]->log =~ /$_[1]/g) }


sub client {
    my ($nginx, @bytes) = @_;

    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $nginx->port) or die "connect: $@\n";

    print {$socket} @bytes;
    $socket->flush;

    return $socket;
}


# The status, when all of it has come.

sub answer {
    my $socket = shift;

    my $text = do { local $/; <$socket> };
    close $socket;

    return ($text // '') =~ m{^HTTP/1\.1 ([0-9]{3}) } ? $1 : "none: $text";
}


sub post {
    my ($uri, $length, @fields) = @_;

    return join "\r\n", "POST $uri HTTP/1.1", 'Host: x', 'Connection: close',
           "Content-Length: $length", @fields, '', '';
}


# Whether SCGI has the length of a body that is still to come: before 1.29.6, and
# in some forks, nginx says that a body is what it has of it.

sub scgi_has_length {
    my $scgi = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1)
        or die "listen: $@\n";

    my $nginx = Bog::Nginx->new(module => 0, conf => <<"END")->start;
        server {
            listen 127.0.0.1:%%PORT%%;
            scgi_request_buffering off;
            location / { scgi_pass 127.0.0.1:${\ $scgi->sockport }; }
        }
END
    my $client = client($nginx, post('/', 7));
    my $backend = $scgi->accept or die "accept: $!\n";

    my $text = '';
    1 until $text =~ /CONTENT_LENGTH\0([0-9]+)\0/
            || !sysread $backend, $text, 4096, length $text;

    return ($1 // '') eq '7';
}


# --- all kinds of backends

my $cgi = join ' ', map { "%%_param $_;" }
          'REQUEST_METHOD $request_method', 'REQUEST_URI $request_uri',
          "HTTP_AUTHORIZATION $bearer";

sub cgi {
    my ($kind, $more) = @_;

    return ($cgi =~ s/%%/$kind/gr) . $more;
}

my $relay = <<'END';
        server {
            listen 127.0.0.1:%%PORT_2%% http2;
            location / { proxy_pass http://127.0.0.1:%%http%%;
                         proxy_http_version 1.1;
                         proxy_set_header Connection ""; }
        }
END

my $kept = 'upstream kept { server 127.0.0.1:%%http%%; keepalive 4; }'
           . ' upstream fcgi { server 127.0.0.1:%%fastcgi%%; keepalive 4; }';

# name, location, http, connections to the backend for requests one by one
my @kinds = (
    ['proxy_pass' => $pass . ' proxy_http_version 1.0;'],
    ['proxy_pass, keepalive' => '
        proxy_pass http://kept; proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Authorization "Bearer $bog_bearer_token";',
     $kept, 1],
    ['proxy_pass, request_buffering off' => $pass
        . ' proxy_http_version 1.1; proxy_request_buffering off;'],
    ['fastcgi_pass' => cgi(fastcgi => 'fastcgi_pass 127.0.0.1:%%fastcgi%%;')],
    ['fastcgi_pass, keepalive' => cgi(fastcgi =>
        'fastcgi_pass fcgi; fastcgi_keep_conn on;'), $kept, 1],
    ['fastcgi_pass, request_buffering off' => cgi(fastcgi =>
        'fastcgi_pass 127.0.0.1:%%fastcgi%%; fastcgi_request_buffering off;')],
    ['uwsgi_pass' => cgi(uwsgi =>
        'uwsgi_pass 127.0.0.1:%%uwsgi%%;
         uwsgi_param CONTENT_LENGTH $content_length;')],
    ['uwsgi_pass, request_buffering off' => cgi(uwsgi =>
        'uwsgi_pass 127.0.0.1:%%uwsgi%%; uwsgi_request_buffering off;
         uwsgi_param CONTENT_LENGTH $content_length;')],
    ['scgi_pass' => cgi(scgi => 'scgi_pass 127.0.0.1:%%scgi%%;')],
    !scgi_has_length() ? () :
    ['scgi_pass, request_buffering off' => cgi(scgi =>
        'scgi_pass 127.0.0.1:%%scgi%%; scgi_request_buffering off;')],
    ['grpc_pass' => '
        grpc_pass grpc://127.0.0.1:%%PORT_2%%;
        grpc_set_header Authorization "Bearer $bog_bearer_token";', $relay],
);

# more than nginx keeps in memory, and than a window of HTTP/2
my $body = join '', map { sprintf "%07d\n", $_ } 1 .. 16384;


for my $case (@kinds) {
    my ($name, $location, $http, $connections) = @$case;

    subtest $name => sub {
        my ($bank, $backend, $nginx) = set_up("location / { $location }",
                                              http => $http, cold => 1);

        ok($bank->wait_requests(1), 'the token is asked for');

        # its own header is no way around the gateway's
        my $slow = client($nginx, post('/slow', length $body,
                                       'Authorization: Bearer mine'),
                          substr $body, 0, 1000);
        my $quick = client($nginx, "GET /quick HTTP/1.1\r\nHost: x\r\n"
                                   . "Connection: close\r\n\r\n");

        ok($nginx->wait_active(2), 'held');
        is_deeply([$backend->requests], [], 'nothing has come');

        $bank->release;
        is(answer($quick), '200', 'a GET');

        print {$slow} substr $body, 1000;
        $slow->flush;
        is(answer($slow), '200', 'a POST');

        my %body = map { $_->{params}{REQUEST_URI}[0] => $_->{body} }
                   $backend->requests;

        is(sent($backend, 2), bearer($bank), 'the header that came, once each');
        ok($body{'/slow'} eq $body, 'the body is whole');
        is($body{'/quick'}, '', 'and where it belongs');
        is($bank->count, 1, 'one token request');

        # not held
        $bank->answer();
        is(get($nginx->port, '/warm', body => $body)->{status}, 200, 'warm');
        is(sent($backend), bearer($bank), 'the header');
        ok(($backend->requests)[-1]{body} eq $body, 'and the body');
        is($bank->count, 1, 'no other token request');

        # ended by the bank
        $backend->reject(($bank->tokens)[0]{token});
        my $refused = get($nginx->port, '/refused');
        is("$refused->{status} $refused->{body}", '401 rejected', 'a 401');
        is(sent($backend), bearer($bank), 'to the old one');

        is(get($nginx->port, '/next')->{status}, 200, 'the next one');
        is(sent($backend), bearer($bank, 2), 'has another token');
        is(count_of($nginx, qr/\[warn\].* rejected, it is being replaced,/),
           1, 'one was dropped');

        my @last = map { $_->{connection} } ($backend->requests)[-3 .. -1];
        is(scalar(keys %{ { map { $_ => 1 } @last } }), $connections,
           'one connection, the 401 does not end it') if $connections;

        ends($bank, $nginx, 2);
    };
}


# --- gRPC, and its clients

sub nghttp {
    my ($nginx, $uri, %opt) = @_;

    $nginx->file('body', $opt{body} // '');

    my @command = ('nghttp', '-v', '-t', timeout(60), '-H', 'te: trailers',
                   defined $opt{body} ? ('-d', $nginx->dir . '/body') : (),
                   "http://127.0.0.1:${\ $nginx->port }$uri");

    open my $pipe, '-|', @command or die "nghttp: $!\n";

    $opt{on_start}->() if $opt{on_start};

    return scalar(do { local $/; <$pipe> }) =~ s/\e\[[0-9;]*m//gr;
}


subtest 'gRPC: trailers, and what they say of a token' => sub {
    plan skip_all => 'no nghttp' if system 'command -v nghttp > /dev/null';

    my ($bank, $backend, $nginx) = set_up(<<'END',
        location / { grpc_pass grpc://127.0.0.1:%%PORT_2%%;
                     grpc_set_header Authorization "Bearer $bog_bearer_token"; }
END
        listen => 'http2', cold => 1,
        http => $relay =~ s/proxy_pass/add_trailer grpc-status 16; proxy_pass/r);

    ok($bank->wait_requests(1), 'the token is asked for');

    my $output = nghttp($nginx, '/service/method', body => $body,
        on_start => sub {
            ok($nginx->wait_active(1), 'an HTTP/2 client that sends is held');
            is_deeply([$backend->requests], [], 'nothing has come');
            $bank->release;
        });

    like($output, qr/:status: 200$/m, 'its answer');
    like($output, qr/grpc-status: 16$/m, 'and the trailer');

    my ($request) = $backend->requests;

    is(sent($backend), bearer($bank), 'the header');
    ok($request->{body} eq $body, 'the body is whole');

    # 16 is "unauthenticated", but the status is 200
    like(nghttp($nginx, '/next'), qr/:status: 200$/m, 'the next one');
    is(sent($backend, 2), bearer($bank), 'has the same token');

    ends($bank, $nginx, 1);
};


subtest 'an HTTP/3 client' => sub {
    plan skip_all => 'no nginx with HTTP/3'
        unless Bog::Nginx->has('http_v3_module');
    plan skip_all => 'no gtlsclient'
        if system 'command -v gtlsclient > /dev/null';

    my $cert = Bog::CA->shared->cert(name => 'localhost');

    my ($bank, $backend, $nginx) = set_up(<<"END", cold => 1);
        listen 127.0.0.1:%%PORT%% quic;
        ssl_certificate $cert->{cert};
        ssl_certificate_key $cert->{key};
        client_max_body_size 1m;
        location / { %%PASS%% }
END
    ok($bank->wait_requests(1), 'the token is asked for');
    $nginx->file('body', $body);

    my ($port, $dir) = ($nginx->port, $nginx->dir);

    open my $pipe, '-|', "gtlsclient --exit-on-all-streams-close -q"
        . " -d $dir/body 127.0.0.1 $port https://localhost:$port/h3 2>&1"
        or die "gtlsclient: $!\n";

    ok($nginx->wait_active(1), 'held');
    is_deeply([$backend->requests], [], 'nothing has come');
    $bank->release;

    ok($backend->wait_requests(1), 'it passes');
    do { local $/; <$pipe> };

    is(sent($backend), bearer($bank), 'with the token');
    ok(($backend->requests)[0]{body} eq $body, 'the body is whole');

    ends($bank, $nginx, 1);
};


subtest 'an HTTP/3 client that stops the answer' => sub {
    plan skip_all => 'no nginx with HTTP/3'
        unless Bog::Nginx->has('http_v3_module');
    plan skip_all => 'no aioquic'
        if system 'python3 -c "import aioquic" 2> /dev/null';

    my $cert = Bog::CA->shared->cert(name => 'localhost');

    my ($bank, $backend, $nginx) = set_up(<<"END", cold => 1);
        listen 127.0.0.1:%%PORT%% quic;
        ssl_certificate $cert->{cert};
        ssl_certificate_key $cert->{key};
        access_log %%DIR%%/h3.log;
        location / { %%PASS%% }
END
    ok($bank->wait_requests(1), 'the token is asked for');

    open my $client, '|-', "python3 $FindBin::Bin/lib/stop_sending.py"
        . " ${\ $nginx->port } 2> /dev/null" or die "python3: $!\n";
    $client->autoflush;

    ok($nginx->wait_active(1), 'held');
    print {$client} "stop\n";
    ok($nginx->wait_active(0), 'nginx lets go');

    $bank->release;
    ok($nginx->wait_log(qr/token obtained/), 'the token comes');
    print {$client} "leave\n";
    close $client;

    is_deeply([$backend->requests], [], 'for others');
    like(slurp($nginx->dir . '/h3.log'), qr{"GET /stopped HTTP/3.0" 499 },
         'status 499');

    ends($bank, $nginx, 1);
};


# --- the cache

# Two merchants ask for the same thing, at two servers by default; the answers
# tell whose token they were got with.

my $cache = 'proxy_cache one;'
            . ' add_header Cache $upstream_cache_status always;';
my $cached = "$cache proxy_cache_valid 200 10m;";

sub merchants {
    my ($location, %opt) = @_;

    my $second = $opt{second} // $location;
    my $flowers = $opt{path} ? '' : <<"END";
        server {
            listen 127.0.0.1:%%PORT%%;
            server_name flowers;
            bog_client_id 8283;
            bog_client_secret_file %%SECRET_main%%;
            $second
        }
END
    my ($bank, $backend, $nginx) = set_up($location,
        listen => 'default_server', http => ($opt{http} // '') . $flowers);

    ok($bank->wait_count(answered => 2), 'two tokens');
    $backend->answer($_ => (echo => 1, headers => [['Vary' => 'Authorization']]))
        for qw(http fastcgi);

    my @paths = $opt{path} ? ('/books/1', '/flowers/1') : ('/1', '/1');
    my @hosts = $opt{path} ? qw(books books) : qw(books flowers);
    my %merchants;

    for my $i (0, 1, 0, 1) {
        my $answer = get($nginx->port, $paths[$i], host => $hosts[$i]);

        $merchants{$_->{token}} = $_->{client} for $bank->tokens;
        my ($token) = ($answer->{body} // '') =~ /^Bearer (\S+)\z/;

        push @{ $opt{seen} }, join ' ', header($answer, 'Cache'),
                                  $merchants{$token // ''} // '-';
    }

    ends($bank, $nginx, 2);

    return join ', ', @{ $opt{seen} };
}


my $apart = 'MISS 8282, MISS 8283, HIT 8282, HIT 8283';

subtest 'cache: the key that nginx has by itself' => sub {
    is(merchants("location / { $cached %%PASS%% }"),
       'MISS 8282, HIT 8282, HIT 8282, HIT 8282',
       'two servers: the second one gets what is the first one\'s');
};

subtest 'cache: two paths' => sub {
    is(merchants("
            location /books/ { $cached %%PASS%% }
            location /flowers/ { bog_client_id 8283; $cached %%PASS%% }",
        path => 1), $apart, 'the path is in the key');
};

subtest 'cache: a key with the merchant in it' => sub {
    my $key = 'proxy_cache_key "%s $scheme$proxy_host$request_uri";';

    is(merchants("location / { $cached %%PASS%% " . sprintf($key, 'books') . '}',
        second => "location / { $cached %%PASS%% "
                  . sprintf($key, 'flowers') . '}'), $apart, 'to each its own');
};

subtest 'cache: a key with the token\'s id in it, for all' => sub {
    is(merchants("location / { $cached %%PASS%% }",
        http => 'proxy_cache_key
                     "$bog_token_id $scheme$proxy_host$request_uri";'),
       $apart, 'to each its own');
};

# docs/security.md

subtest 'cache: a key with the source in it, for all' => sub {
    is(merchants("location / { $cached %%PASS%% }",
        http => 'proxy_cache_key
                     "$bog_source $scheme$proxy_host$request_uri";'),
       $apart, 'to each its own');
};

subtest 'cache: FastCGI, with the token\'s id' => sub {
    my $location = 'location / { ' . cgi(fastcgi =>
        'fastcgi_pass 127.0.0.1:%%fastcgi%%; fastcgi_cache two;
         fastcgi_cache_valid 200 10m;
         add_header Cache $upstream_cache_status;') . ' }';

    is(merchants($location,
        http => 'fastcgi_cache_key "$bog_token_id $request_uri";'),
       $apart, 'to each its own');
};


subtest 'cache: no token' => sub {
    my $key = $cache . ' proxy_cache_key "books $arg_id";'
              . ' proxy_cache_use_stale error timeout updating;';

    my ($bank, $backend, $nginx) = set_up(<<"END",
        bog_wait_timeout 0;

        location / { $key proxy_cache_valid 200 10m; %%PASS%% }
        location /short { $key proxy_cache_valid 200 1s; %%PASS%% }
        location /optional { bog_token optional; $key %%PASS%% }
        location /page { error_page 503 = \@cached; $key %%PASS%% }
        location \@cached { bog_token off; $key proxy_pass http://nowhere; }
END
        http => 'upstream nowhere { server 127.0.0.1:1 down; }',
        prepare => sub {
            $_[0]->queue({ expires_in => 6 });
            $_[0]->answer(status => 503, headers => [['Retry-After' => 300]]);
        });

    my $get = sub {
        my $answer = get($nginx->port, $_[0]);
        return join ' ', $answer->{status}, header($answer, 'Cache') // '-';
    };

    obtained($bank, $nginx);

    is($get->($_), '200 MISS', "$_ is cached")
        for '/long?id=1', '/short?id=2';
    is($get->('/long?id=1'), '200 HIT', 'and answered from the cache');
    is(scalar $backend->requests, 2, 'which asks nobody');

    # the first token ends, and there is no other
    ok(wait_until { $get->('/long?id=1') eq '503 -' },
       'what is cached is not looked for');
    is($get->('/short?id=2'), '503 -', 'nor what is stale');

    is($get->('/optional?id=1'), '200 HIT', 'unless no token is needed');
    is($get->('/page?id=1'), '200 HIT', 'or an error_page looks');
    ok(wait_until { $get->('/page?id=2') eq '200 STALE' },
       'at stale ones too');
    is($get->('/page?id=3'), '502 MISS', 'and there is nothing');

    is(scalar $backend->requests, 2, 'none of it went to the backend');

    ends($bank, $nginx, 2);
};


subtest 'cache: a 401 that may be kept' => sub {
    my ($bank, $backend, $nginx) = set_up("location / { $cached %%PASS%% }
        location /other { %%PASS%% }");

    obtained($bank, $nginx);
    $backend->answer(http => (headers => [['Cache-Control' => 'max-age=60']]));
    $backend->reject(($bank->tokens)[0]{token});

    my ($first, $next) = map { get($nginx->port, '/') } 1, 2;

    is("$first->{status} " . header($first, 'Cache'), '401 MISS', 'a 401');
    is("$next->{status} " . header($next, 'Cache'), '401 HIT', 'is kept');
    is(count_of($nginx, qr/was rejected/), 1, 'the first one only is for us');

    is(get($nginx->port, '/other')->{status}, 200, 'a new token');
    is(get($nginx->port, '/')->{status}, 401, 'of no use here');

    ends($bank, $nginx, 2);
};


subtest 'cache: updates' => sub {
    my ($bank, $backend, $nginx) = set_up("
        location / { $cache proxy_cache_valid 200 1s;
            proxy_cache_use_stale updating; proxy_cache_background_update on;
            %%PASS%% }");

    my $bearer = obtained($bank, $nginx);

    is(get($nginx->port, '/')->{status}, 200, 'is cached');
    $backend->answer(http => (delay => 1));

    ok(wait_until { header(get($nginx->port, '/'), 'Cache') eq 'STALE' },
       'a stale answer');
    ok($backend->wait_requests(2), 'while the cache asks for a new one');
    is(sent($backend), $bearer, 'with the token');

    ends($bank, $nginx, 1);
};


subtest 'cache: one asks for all' => sub {
    my ($bank, $backend, $nginx) = set_up("
        location / { $cached proxy_cache_lock on; %%PASS%% }
        location /other { %%PASS%% }", cold => 1, workers => 2);

    ok($bank->wait_requests(1), 'the token is asked for');

    my @answers = parallel($nginx->port, 20, on_sent => sub {
        ok($nginx->wait_active(20), 'held');
        $backend->answer(http => (delay => 0.5));
        $bank->answer();
        $bank->release;
    });

    is(statuses(@answers), join(' ', (200) x 20), 'answered');
    is(scalar $backend->requests, 1, 'one request');
    is(sent($backend), bearer($bank), 'with the token');

    # a 401 is not kept: the others ask too, and have passed by where requests
    # are held
    $bank->answer(hold => 1);
    $backend->answer(http => (hold => 1));
    $backend->reject(($bank->tokens)[0]{token});

    @answers = parallel($nginx->port, 3, uri => '/rejected', on_sent => sub {
        ok($backend->wait_requests(2), 'one asks');
        ok($nginx->wait_active(3), 'the others wait');
        $backend->answer(http => (strict => 1));
        $backend->release;
    });

    is(statuses(@answers), '401 401 401', 'all are rejected');
    is(sent($backend, 2), bearer($bank), 'those who came after, with it too');

    $bank->release;
    is(get($nginx->port, '/rejected')->{status}, 200, 'a new token');
    is(sent($backend), bearer($bank, 2), 'is sent');

    ends($bank, $nginx, 2);
};


# --- more than one server

subtest 'the next upstream' => sub {
    my ($bank, $backend, $nginx) = set_up(<<'END', http => <<'HTTP');
        proxy_set_header Authorization "Bearer $bog_bearer_token";
        location / { proxy_pass http://two; }
        location /status { proxy_next_upstream http_503; proxy_pass http://two; }
        location /twice { proxy_next_upstream error non_idempotent;
                          proxy_pass http://two; }
        location /other { proxy_pass http://127.0.0.1:%%spare%%; }
END
        upstream two {
            server 127.0.0.1:%%http%% max_fails=0;
            server 127.0.0.1:%%spare%% backup;
        }
HTTP
    my $bearer = obtained($bank, $nginx);

    my $seen = sub {
        my ($uri, %opt) = @_;
        my $before = $backend->requests;
        my $answer = get($nginx->port, $uri, %opt);
        my @requests = $backend->requests;
        splice @requests, 0, $before;

        is(scalar(grep { ($_->{body} // '') ne ($opt{body} // '') } @requests),
           0, 'the body');
        is(sent($backend, scalar @requests), $bearer, 'one token');

        return join ' ', $answer->{status}, map { $_->{kind} } @requests;
    };

    $backend->answer(http => (close => 1));
    is($seen->('/'), '200 http spare', 'a GET');
    is($seen->('/', body => $body), '502 http', 'a POST is not repeated');
    is($seen->('/twice', body => $body), '200 http spare', 'unless told to');

    $backend->answer(http => (status => 503));
    is($seen->('/status'), '200 http spare', 'by status');

    # the header is made once, and goes to the next server as it is
    $backend->answer(http => (hold => 1, status => 503));

    my ($late) = parallel($nginx->port, 1, uri => '/status', on_sent => sub {
        ok($backend->wait_requests(8), 'one is on its way');
        $backend->reject(($bank->tokens)[0]{token});
        is($seen->('/other'), '401 spare', 'its token is dropped');
        is(get($nginx->port, '/other')->{status}, 200, 'there is another');
        $backend->release;
    });

    is($late->{status}, 401, 'the next server gets the old one');
    is(sent($backend), $bearer, 'as the first one did');

    ends($bank, $nginx, 2);
};


subtest 'a 401 before the body has come' => sub {
    my ($bank, $backend, $nginx) = set_up(<<'END');
        location / { proxy_http_version 1.1; proxy_request_buffering off;
                     %%PASS%% }
END
    my $bearer = obtained($bank, $nginx);

    $backend->reject(($bank->tokens)[0]{token});
    $backend->answer(http => (early => 1));

    my $client = client($nginx, post('/', length $body), substr $body, 0, 1000);

    is(answer($client), 401, 'the answer does not wait for the body');
    is(sent($backend), $bearer, 'to the token');

    $backend->answer(http => ());
    is(get($nginx->port, '/', body => $body)->{status}, 200, 'a new one');
    ok(($backend->requests)[-1]{body} eq $body, 'with its whole body');
    is(sent($backend), bearer($bank, 2), 'and its token');

    ends($bank, $nginx, 2);
};


# --- WebSocket

sub websocket {
    my $nginx = shift;

    return client($nginx, join "\r\n", 'GET /socket HTTP/1.1', 'Host: x',
        'Connection: Upgrade', 'Upgrade: websocket',
        'Sec-WebSocket-Version: 13',
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', '', '');
}


# The head of an answer, or so many bytes of what comes later.

sub got {
    my ($socket, $n) = @_;

    my ($text, $select) = ('', IO::Select->new($socket));

    # byte by byte: what comes then is not a part of it
    while ($select->can_read(timeout(30))
           && sysread $socket, $text, 1, length $text)
    {
        last if $n ? length $text == $n : $text =~ /\r\n\r\n\z/;
    }

    return $text;
}


subtest 'WebSocket' => sub {
    my ($bank, $backend, $nginx) = set_up(<<'END', cold => 1);
        location / { proxy_http_version 1.1;
                     proxy_set_header Upgrade $http_upgrade;
                     proxy_set_header Connection upgrade; %%PASS%% }
END
    ok($bank->wait_requests(1), 'the token is asked for');

    my $socket = websocket($nginx);
    ok($nginx->wait_active(1), 'held');

    $bank->answer(expires_in => 300);
    $bank->release(expires_in => 3);

    my $head = got($socket);
    like($head, qr{^HTTP/1.1 101 }, 'upgraded');
    like($head, qr{^Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=\r$}m,
         'by the backend');
    is(sent($backend), bearer($bank), 'with the token');

    # a masked "hello", and what no client may send, which nginx passes as well
    my $frame = pack 'H*', '818537fa213d7f9f4d5158';
    my $echo = sub { syswrite $socket, $frame; got($socket, length $frame) };

    is(unpack('H*', $echo->()), unpack('H*', $frame), 'frames pass');

    ok($bank->wait_requests(2), 'the token is refreshed');
    my $expires = ($bank->tokens)[0]{expires};
    ok(wait_until { now() > $expires }, 'it expires');

    is(unpack('H*', $echo->()), unpack('H*', $frame), 'frames pass as before');

    my $next = websocket($nginx);
    like(got($next), qr{^HTTP/1.1 101 }, 'another one');
    is(sent($backend), bearer($bank, 2), 'has the new token');

    $backend->reject(($bank->tokens)[1]{token});
    like(got(websocket($nginx)), qr{^HTTP/1.1 401 }, 'a 401');
    like(got(websocket($nginx)), qr{^HTTP/1.1 101 }, 'the next one passes');
    is(sent($backend), bearer($bank, 3), 'with the next token');

    is(unpack('H*', $echo->()), unpack('H*', $frame), 'the first one lives on');
    close $_ for $socket, $next;

    ends($bank, $nginx, 3);
};


# --- requests in requests

my $sliced = 'location / { slice 32k; proxy_http_version 1.1;'
             . ' proxy_set_header Range $slice_range; %%PASS%% }';

subtest 'slice' => sub {
    my ($bank, $backend, $nginx) = set_up($sliced, cold => 1);

    ok($bank->wait_requests(1), 'the token is asked for');
    $backend->answer(http => (body => $body, delay => 1));
    $bank->answer(expires_in => 300);

    my ($answer) = parallel($nginx->port, 1, on_sent => sub {
        ok($nginx->wait_active(1), 'held');
        $bank->release(expires_in => 3);
    });

    ok($answer->{body} eq $body, 'the body is whole');
    is(scalar $backend->requests, 4, 'of four parts');

    my %expires = map { +"Bearer $_->{token}" => $_->{expires} } $bank->tokens;
    is(scalar(grep { $_->{time} > $expires{$_->{authorization}[0]} }
              $backend->requests), 0, 'each had a token that was valid');
    is(sent($backend, 4), bearer($bank) . ' | ' . bearer($bank, 2),
       'the new one, as soon as it was there');

    ends($bank, $nginx, 2);
};


# A slice goes to the backend from where the request has got to: it is not held.

# The map is that of docs/recipes.md.

my $map = 'map $bog_bearer_token $authorization { volatile; "" "";'
          . ' default "Bearer $bog_bearer_token"; }';

for my $case (
    ['is rejected' => sub { $_[0]->reject($_[1]) }],
    ['comes after a 401 elsewhere' => \&reject_elsewhere],
    ['comes after a 401 elsewhere, with a map' => \&reject_elsewhere,
     '$authorization'],
) {
    my ($name, $meanwhile, $value) = @$case;

    subtest "a slice that $name" => sub {
        my $conf = $sliced =~ s/%%PASS%%/$pass/r;
        $conf =~ s/\Q$bearer\E/$value/ if $value;

        my ($bank, $backend, $nginx) = set_up($conf
            . ' location /other { ' . cgi(scgi =>
              'scgi_pass 127.0.0.1:%%scgi%%;') . ' }', http => $map);

        my $bearer = obtained($bank, $nginx);

        $backend->answer(http => (body => $body, hold => 1));
        $bank->answer(hold => 1);

        my ($answer) = parallel($nginx->port, 1, on_sent => sub {
            ok($backend->wait_requests(1), 'the first part');
            $meanwhile->($backend, ($bank->tokens)[0]{token}, $nginx);

            # or the first part speaks for the token
            $backend->answer(http => (body => $body, strict => 1,
                                      delay => 1.2));
            $backend->release;
        });

        is($answer->{status}, 200, 'the answer has begun');
        is(length($answer->{raw} =~ s/.*?\r\n\r\n//sr), 32768,
           'and ends after that part');
        is($answer->{error}, 'closed', 'as an answer that is not whole');

        is(sent($backend), $bearer,
           'what the second part was asked with');
        is(count_of($nginx, qr/rejected, it is being replaced,/), 1, 'a 401');

        ok($bank->wait_requests(2), 'a new token is asked for');
        $bank->release;
        $backend->answer(http => (body => $body, strict => 1));
        ok(get($nginx->port, '/')->{body} eq $body, 'the next one is whole');
        is(sent($backend, 4), bearer($bank, 2), 'with it');

        ends($bank, $nginx, 2);
    };
}


sub reject_elsewhere {
    my ($backend, $token, $nginx) = @_;

    $backend->reject($token);
    is(get($nginx->port, '/other')->{status}, 401, 'a 401 elsewhere');
}


subtest 'SSI' => sub {
    my ($bank, $backend, $nginx) = set_up(<<'END', cold => 1);
        location /page { ssi on; }
        location /inner { internal; %%PASS%% }
        location /short/page { ssi on; }
        location /short/inner { internal; bog_wait_timeout 0; %%PASS%% }
END
    my $page = sub {
        my $uri = shift;
        return join ' ', map { "<!--# include virtual=\"$uri/$_\" -->" } @_;
    };

    $nginx->file('html/page.html', $page->('/inner', 1 .. 5) . ' end');
    $nginx->file('html/short/page.html', 'a '
        . $page->('/short/inner', 1) . ' z'
        . '<!--# block name="none" -->nothing<!--# endblock -->'
        . '<!--# include virtual="/short/inner/2" stub="none" -->');

    ok($bank->wait_requests(1), 'the token is asked for');

    my $short = get($nginx->port, '/short/page.html');
    like($short->{body}, qr/\Aa <html>.*503 Service.*<\/html>\r\n znothing\z/s,
         'a part that gets no token is a page of its own, or its stub');

    my ($answer) = parallel($nginx->port, 1, uri => '/page.html',
        on_sent => sub {
            ok($nginx->wait_active(1), 'held');
            $bank->answer();
            $bank->release;
        });

    is($answer->{body}, 'ok ok ok ok ok end', 'all parts');
    is(scalar $backend->requests, 5, 'one request each');
    is(sent($backend, 5), bearer($bank), 'with the token');
    is($bank->count, 1, 'one token request');

    $backend->reject(($bank->tokens)[0]{token});
    is(get($nginx->port, '/page.html')->{status}, 200, 'rejected parts');
    is(get($nginx->port, '/page.html')->{body}, 'ok ok ok ok ok end',
       'the next page is whole');
    is(sent($backend, 5), bearer($bank, 2), 'with another token');

    ends($bank, $nginx, 2);
};


subtest 'X-Accel-Redirect' => sub {
    my $inner = cgi(scgi => 'scgi_pass 127.0.0.1:%%scgi%%;');

    my ($bank, $backend, $nginx) = set_up(<<"END", cold => 1);
        location /free { bog_token off; proxy_pass http://127.0.0.1:%%http%%; }
        location /token { %%PASS%% }
        location /inner { internal; $inner }
        location /other { internal; bog_client_id 8283; $inner }
END
    my $to = sub {
        $backend->answer(http => (headers => [['X-Accel-Redirect' => $_[0]]]));
    };

    ok($bank->wait_requests(2), 'both tokens are asked for');
    is(get($nginx->port, '/inner')->{status}, 404, 'internal');

    $to->('/inner');
    my ($answer) = parallel($nginx->port, 1, uri => '/free', body => 'mine',
        on_sent => sub {
            ok($backend->wait_requests(1), 'to a backend without a token');
            ok($nginx->wait_active(1), 'then held');
            is(scalar $backend->requests, 1, 'before the one with a token');
            $bank->answer();
            $bank->release;
        });

    my ($first, $second) = $backend->requests;
    my %bearer = map { $_->{client} => "Bearer $_->{token}" } $bank->tokens;

    is("$answer->{status} $answer->{body}", '200 ok', 'the answer');
    is("@{ $first->{authorization} }", '', 'the first has none');
    is(sent($backend), $bearer{8282}, 'the second has it');
    is("@{ $second->{params}{REQUEST_METHOD} }", 'GET', 'and is a GET');

    $to->('/other');
    is(get($nginx->port, '/token')->{status}, 200, 'from source to source');
    is(sent($backend, 2), "$bearer{8282} | $bearer{8283}", 'to each its own');

    # a 401 that sends nginx elsewhere
    $backend->reject($bearer{8282} =~ s/Bearer //r);
    is(get($nginx->port, '/token')->{status}, 200, 'a 401 that nobody sees');
    is(count_of($nginx, qr/"8282" was rejected, it is being replaced,/), 1,
       'but the module');
    is(count_of($nginx, qr/was rejected/), 1, 'nothing else');
    ok($bank->wait_requests(3), 'a new token is asked for');

    ends($bank, $nginx, 3);
};


done_testing;
