# The harness itself: a test is worth what its tools are.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Select;
use IO::Socket::INET;
use IO::Socket::SSL;
use MIME::Base64 qw(encode_base64 decode_base64url);
use Socket;
use Test::More;

use Bog::Bank;
use Bog::CA;
use Bog::Client qw(get parallel steady h2load header);
use Bog::DNS;
use Bog::Nginx;
use Bog::Util qw(wait_until slurp);

my @credentials = (credentials => { 8282 => 's3cret' });
my $basic = 'Basic ' . encode_base64('8282:s3cret', '');


sub token {
    my ($bank, %opt) = @_;

    return get($bank->port, $opt{uri} // $Bog::Bank::PATH,
        method  => $opt{method} // 'POST',
        headers => [
            ['Content-Type' => $opt{type}
                               // 'application/x-www-form-urlencoded'],
            ['Authorization' => $opt{authorization} // $basic],
        ],
        body    => $opt{body} // 'grant_type=client_credentials',
        timeout => $opt{timeout} // 10,
    );
}


sub access_token { $_[0]{body} =~ /"access_token":"([^"]+)"/ ? $1 : undef }


sub api {
    my ($bank, $token) = @_;

    return get($bank->api_port, '/payments', headers => [
        defined $token ? ['Authorization' => "Bearer $token"] : (),
    ]);
}


subtest 'the bank checks what it is asked' => sub {
    my $bank = Bog::Bank->new(@credentials);

    my $good = token($bank);
    is($good->{status}, 200, 'a good request');
    is(header($good, 'Content-Type'), 'application/json', 'answered in JSON');

    is(token($bank, authorization => 'Basic eDp5')->{status}, 401, 'secret');
    is(token($bank, method => 'PUT')->{status}, 405, 'method');
    is(token($bank, uri => '/token')->{status}, 404, 'path');
    is(token($bank, type => 'text/plain')->{status}, 400, 'content type');
    is(token($bank, body => 'grant_type=password')->{status}, 400, 'grant');

    my @requests = $bank->requests;
    is(scalar @requests, 6, 'all are on record');
    is($requests[0]{client}, 8282, 'with the client');
    is($requests[0]{token}, access_token($good), 'and the token');
    is($requests[1]{refused}, 'invalid_client', 'or why there was none');
    like($requests[0]{raw}, qr{^POST /\S+ HTTP/1.1\r\n.*\r\n\r\ngrant_type=}s,
         'byte for byte');

    $bank->credentials(8282 => ['new', 's3cret']);
    is(token($bank)->{status}, 200, 'one of several secrets');
    $bank->credentials(8282 => 'new');
    is(token($bank)->{status}, 401, 'a secret that was changed');
};


subtest 'the API believes what the bank has issued' => sub {
    my $bank = Bog::Bank->new(@credentials);

    $bank->queue({ lifetime => 1 }, {});
    my ($short, $long) = map { access_token(token($bank)) } 1 .. 2;
    isnt($short, $long, 'every token is new');

    is(api($bank, $short)->{status}, 200, 'valid');
    is(api($bank, $long)->{body}, qq({"authorization":"Bearer $long"}),
       'its header comes back');

    ok(wait_until { api($bank, $short)->{status} == 401 }, 'expired');
    is(api($bank, 'x')->{status}, 401, 'unknown');
    is(api($bank)->{status}, 401, 'missing');

    ok($bank->revoke($long), 'revoke');
    is(api($bank, $long)->{status}, 401, 'revoked');

    $bank->issue('by-hand', 10);
    is(api($bank, 'by-hand')->{status}, 200, 'issued by hand');

    my $stats = $bank->api_stats;
    is($stats->{missing}, 1, 'missing ones are counted');
    is($stats->{unknown}, 2, 'so are unknown ones');
    cmp_ok($stats->{valid}, '>=', 3, 'and valid ones');

    my ($first) = $bank->api_requests;
    is($first->{authorization}, "Bearer $short", 'requests are on record');
    is($first->{client}, 8282, 'with the owner of the token');

    $bank->api_answer(status => 502, body => 'x');
    is(api($bank, 'by-hand')->{status}, 502, 'an answer of the test');
    $bank->api_answer;
    is(api($bank, 'by-hand')->{status}, 200, 'the check again');
};


subtest 'answers are made to order' => sub {
    my $bank = Bog::Bank->new(@credentials);

    my $of = sub { $bank->queue({ @_ }); token($bank) };

    is($of->(status => 503, headers => [['Retry-After' => 7]])->{status}, 503,
       'status');
    is(header($of->(headers => [['X-A' => 'b']]), 'X-A'), 'b', 'header');
    like($of->(expires_in => '17')->{body}, qr/"expires_in":"17"/, 'string');
    unlike($of->(expires_in => undef)->{body}, qr/expires_in/, 'no member');
    is(access_token($of->(token => 'abc')), 'abc', 'given token');
    like($of->(json => { token_type => undef, scope => 'x' })->{body},
         qr/^\{"access_token":"[^"]+","expires_in":300,"scope":"x"\}$/,
         'members');
    is($of->(body => 'x' x 100_000)->{body}, 'x' x 100_000, 'body');
    is($of->(raw => "HTTP/1.1 200 OK\r\n\r\nabc")->{body}, 'abc', 'raw');

    my $jwt = access_token($of->(jwt => { exp => 17, iat => 3 }));
    like(decode_base64url((split /\./, $jwt)[1]), qr/"exp":17,"iat":3/, 'JWT');

    my $chunked = $of->(chunked => 1);
    is(header($chunked, 'Content-Length'), undef, 'chunked: no length');
    ok(access_token($chunked), 'chunked');
    is($of->(chunked => ["2\r\nab\r\n", "0\r\n\r\n"])->{body}, 'ab',
       'chunks of the test');
    is($of->(chunked => ["2\r\nab\r\n"], close_delimited => 1)->{body},
       "2\r\nab\r\n", 'close-delimited');

    is($of->(close => 'empty')->{raw}, '', 'no answer');
    is($of->(close => 'header')->{error}, 'closed', 'half a head');
    is($of->(close => 'body')->{status}, 200, 'half a body');
    is($of->(close => 'body')->{error}, 'closed', 'is an error');
    is($of->(close => 'reset')->{error}, 'closed', 'reset');

    cmp_ok($of->(delay => 0.2)->{time}, '>=', 0.2, 'delay');
    cmp_ok($of->(drip => 0.001)->{time}, '>=', 0.2, 'drip');
};


subtest 'a reset is a reset' => sub {
    my $bank = Bog::Bank->new(verify => 0);
    $bank->answer(close => 'reset');

    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                       PeerPort => $bank->port);
    print {$socket} "POST / HTTP/1.1\r\n\r\n";

    IO::Select->new($socket)->can_read(5);
    ok(wait_until { !defined sysread $socket, my $buffer, 65536 }, 'read');
    ok($!{ECONNRESET}, 'connection reset');
};


subtest 'requests are held and released' => sub {
    my $bank = Bog::Bank->new(@credentials);
    $bank->answer(hold => 1);

    my @answers = parallel($bank->port, 500,
        method => 'POST', body => 'grant_type=client_credentials',
        uri => $Bog::Bank::PATH, close_after => 0.5,
        headers => [['Content-Type' => 'application/x-www-form-urlencoded'],
                    ['Authorization' => $basic]],
        on_sent => sub {
            ok($bank->wait_requests(500), 'all have arrived');
            is($bank->held, 500, 'all are held');
        },
        on_closed => sub {
            ok($bank->wait_count(gone => 250), 'half are gone');
            is($bank->release(expires_in => 9), 250, 'the others go on');
        },
    );

    is(scalar(grep { ($_->{error} // '') eq 'left' } @answers), 250, 'left');
    is(scalar(grep { ($_->{status} // 0) == 200 } @answers), 250, 'answered');
    like($answers[-1]{body}, qr/"expires_in":9/, 'by the last word');
    is($bank->count, 500, 'count');
    ok(!$bank->wait_requests(501, 0.05), 'waiting ends');
};


subtest 'all listeners' => sub {
    my $dir = File::Temp->newdir;
    my $ca = Bog::CA->shared;
    my $server = $ca->cert(name => 'localhost',
                           san => ['DNS:localhost', 'IP:127.0.0.1']);
    my $client = $ca->cert(name => 'gateway', client => 1);

    is($ca->cert(name => 'gateway', client => 1), $client, 'made once');

    my $bank = Bog::Bank->new(
        verify => 0, unix => "$dir/socket", ipv6 => 1,
        tls => { %$server, client_ca => $ca->path },
    );

    like($bank->url, qr{^http://127.0.0.1:\d+/auth/}, 'url');
    like($bank->url('tls'), qr{^https://127.0.0.1:\d+/auth/}, 'TLS url');

    is(get(undef, '/', unix => "$dir/socket")->{status}, 200, 'unix socket');
    is(get($bank->ipv6_port, '/', ipv6 => 1)->{status}, 200, 'IPv6');

    my @tls = (PeerAddr => '127.0.0.1', PeerPort => $bank->tls_port,
               SSL_ca_file => $ca->path, SSL_hostname => 'oauth2.test');

    my $socket = IO::Socket::SSL->new(@tls, SSL_verifycn_name => 'localhost',
        SSL_cert_file => $client->{cert}, SSL_key_file => $client->{key});
    print {$socket} "GET / HTTP/1.0\r\n\r\n";
    like(join('', <$socket>), qr/access_token/, 'TLS');

    my @requests = $bank->requests;
    is(join(' ', map { $_->{listener} } @requests), 'unix ipv6 tls', 'record');
    is($requests[2]{tls}{sni}, 'oauth2.test', 'name asked for');
    is($requests[2]{tls}{subject}, 'gateway', 'client certificate');

    ok(!IO::Socket::SSL->new(@tls, SSL_verifycn_name => 'other'), 'bad name');
    ok($bank->wait_count(tls_errors => 1), 'failures are counted');
};


subtest 'certificates' => sub {
    my $ca = Bog::CA->new(name => 'another');

    my $old = $ca->cert(name => 'oauth2.test', days => -1);
    my $good = $ca->cert(name => 'oauth2.test');
    my $revoked = $ca->cert(name => 'revoked.test');
    my $crl = $ca->crl($revoked);

    my $verify = sub {
        my ($cert, @options) = @_;
        return scalar qx(openssl verify -CAfile ${\ $ca->path } @options \\
                         $cert->{cert} 2>&1);
    };

    like($verify->($good), qr/: OK/, 'good');
    like($verify->($old), qr/has expired/, 'expired');
    like($verify->($revoked, '-crl_check', '-CRLfile', $crl), qr/revoked/,
         'revoked');
    like($verify->($good, '-crl_check', '-CRLfile', $crl), qr/: OK/,
         'not revoked');
};


subtest 'name server' => sub {
    my $dns = Bog::DNS->new;
    my ($bank, $nginx) = (Bog::Bank->new, undef);

    $nginx = Bog::Nginx->new(module => 0, conf => <<"END");
        resolver 127.0.0.1:${\ $dns->port } ipv6=off valid=1s;
        resolver_timeout 200ms;

        server {
            listen 127.0.0.1:%%PORT%%;

            location / {
                set \$name oauth2.test;
                proxy_pass http://\$name:${\ $bank->api_port };
            }
        }
END
    $nginx->start;

    is(get($nginx->port, '/')->{status}, 502, 'a name that does not exist');
    cmp_ok($dns->count('oauth2.test'), '>=', 1, 'queries are counted');

    $dns->answer('oauth2.test' => ['127.0.0.1', '::1']);
    is(get($nginx->port, '/')->{status}, 401, 'a name with an address');

    my $asked = $dns->count;
    $dns->answer('oauth2.test' => 'SERVFAIL');
    wait_until { get($nginx->port, '/')->{status} == 502 };
    ok($dns->wait_queries($asked + 1), 'waiting for queries');

    $dns->answer('oauth2.test' => 'SILENT');
    is(get($nginx->port, '/')->{status}, 502, 'silence');
};


subtest 'nginx and its clients' => sub {
    my $nginx = Bog::Nginx->new(module => 0, workers => 2, conf => <<'END',
        server {
            listen 127.0.0.1:%%PORT%%;
            location / { root %%DIR%%; }
            location /1 { return 200 one; }
        }

        server {
            listen 127.0.0.1:%%PORT_1%% http2;
            location / { return 200 two; }
        }
END
        secret => { main => 's3cret' },
        files  => { 'hello.txt' => 'hello' },
    );

    is(($nginx->test)[0], 0, 'nginx -t');
    like(($nginx->dump)[1], qr/return 200 two/, 'nginx -T');

    $nginx->start;
    is(get($nginx->port, '/hello.txt')->{body}, 'hello', 'a file');
    is(sprintf('%o', (stat $nginx->dir . '/secret/main')[2] & 07777), '600',
       'a secret');

    my @first = $nginx->workers;
    is(scalar @first, 2, 'workers');

    my $new = $nginx->kill_worker($first[0], 'KILL');
    is_deeply([sort $nginx->workers], [sort $first[1], $new], 'one new');
    like(join('', $nginx->log_errors), qr/exited on signal 9/, 'in the log');

    my @ones = parallel($nginx->port, 500, uri => '/1');
    is(scalar(grep { $_->{body} eq 'one' } @ones), 500, '500 at once');

    my $load = steady($nginx->port, rate => 200, seconds => 1, uri => '/1');
    $nginx->reload(wait_old => 1);
    is(scalar(grep { $_ == $new } $nginx->workers), 0, 'reloaded');

    my $result = $load->result;
    is_deeply($result->{status}, { 200 => 200 }, 'steady load')
        or diag explain $result;

    SKIP: {
        skip 'no h2load', 1 if system 'command -v h2load > /dev/null';

        my $h2 = h2load($nginx->port(1), n => 100, c => 5, m => 10);
        is($h2->{'2xx'}, 100, 'HTTP/2');
    }

    ok($nginx->wait_log(qr/reconfiguring/), 'wait_log');
    is($nginx->stop, 0, 'stops');
    $nginx->clean_log('log', except => qr/exited on signal 9/);
};


subtest 'who is at work' => sub {
    my $bank = Bog::Bank->new(verify => 0);
    $bank->answer(hold => 1);

    my $nginx = Bog::Nginx->new(module => 0, workers => 2, status => 1,
                                conf => <<"END")->start;
        server {
            listen 127.0.0.1:%%PORT%%;
            location / { proxy_pass http://127.0.0.1:${\ $bank->port }; }
        }
END
    is($nginx->active, 0, 'nobody');

    parallel($nginx->port, 20, on_sent => sub {
        ok($nginx->wait_active(20), '20 requests');
        ok($bank->wait_requests(20), 'all are held');

        my ($request) = $bank->requests;
        my ($port) = $request->{peer} =~ / (\d+)\z/;
        my $worker = $nginx->worker_of_port($port);

        is(scalar(grep { $_ == $worker } $nginx->workers), 1, 'one of ours');
        $bank->release;
    });
};


subtest 'what a log must not have' => sub {
    my $nginx = Bog::Nginx->new(module => 0, conf => '');

    is(scalar($nginx->log_errors), 0, 'nothing yet');

    my @bad = (
        '==17==ERROR: AddressSanitizer: heap-use-after-free on address 0x6',
        'src/a.c:1:2: runtime error: null pointer passed as argument 1',
        '==17== Invalid read of size 8',
        '==17== ERROR SUMMARY: 2 errors from 1 contexts',
    );

    $nginx->file("sanitizer.$_", "$bad[$_]\n") for 0 .. 1;
    $nginx->file("valgrind.$_", "$bad[$_]\n==17==    at 0x1: main\n")
        for 2 .. 3;
    $nginx->file('notice.log', "2026/01/01 00:00:00 [alert] 1#1: open socket\n"
                               . "2026/01/01 00:00:00 [error] 1#1: refused\n");

    my $found = join "\n", $nginx->log_errors;
    like($found, qr/\Q$_\E/, $_) for @bad;
    like($found, qr/open socket/, 'alerts');
    unlike($found, qr/refused|main/, 'and nothing else');
};


# As a file, and by a process of its own: at the end it is too late for a test.

subtest 'where a secret must not be' => sub {
    my $secret = 's3cret-+/7';
    my $conf = 'bog_client_id 8282;';

    my @forms = (
        ['as it is', "key=$secret;"],
        ['behind another id', encode_base64("another:$secret", '')],
        ['behind no id', encode_base64($secret, '')],
        ['in a longer text', encode_base64("xy\n8282:$secret\nz", '')],
        ['in a URL', 's3cret-%2B%2F7'],
        ['in lower case', 's3cret-%2b%2f7'],
        ['form-encoded, then in Base64', encode_base64('1:s3cret-%2B%2F7', '')],
    );

    for my $form (@forms) {
        my $nginx = Bog::Nginx->new(module => 0, conf => '',
                                    secret => { main => "$secret\n" });

        is(join('', $nginx->leaks), '', 'nothing yet');

        # across the blocks that are read
        $nginx->file('temp/x.log', "\n" x (2 ** 20 - 4) . "$form->[1]\n");

        like(join('', $nginx->leaks), qr{/temp/x.log has .*secret}, $form->[0]);
        is(join('', $nginx->leaks), '', 'and is told once');
    }

    # a short one is found with the ids of the configuration only
    my $nginx = Bog::Nginx->new(module => 0, conf => "# $conf",
                                secret => { main => 'abc' });
    $nginx->file('y.log', encode_base64('8282:abc', ''));
    like(join('', $nginx->leaks), qr{/y.log has Base64}, 'a short secret');

    my $lib = "$FindBin::Bin/lib";
    my $program = 'use Bog::Nginx; my $n = Bog::Nginx->new(module => 0, '
        . 'conf => "", secret => { main => "s3cret-5\n" }); '
        . '$n->file("x", $ARGV[0]); exit 0';

    for my $case (['clean', 0], ['s3cret-5', 1]) {
        my ($text, $status) = @$case;
        my $said = qx($^X -I '$lib' -e '$program' $text 2>&1);

        is($? >> 8, $status, "status $status");
        is($said =~ /A secret got out: .*\/x has the secret/ ? 1 : 0, $status,
           'and why');
    }
};


subtest 'an nginx that cannot start says why' => sub {
    my $nginx = Bog::Nginx->new(module => 0, conf => 'nonsense;');

    ok(!eval { $nginx->start; 1 }, 'does not start');
    like($@, qr/unknown directive "nonsense"/, 'reason');
};


subtest 'binary upgrade' => sub {
    my $nginx = Bog::Nginx->new(module => 0, daemon => 1, conf => <<'END');
        server {
            listen 127.0.0.1:%%PORT%%;
            return 200 up;
        }
END
    $nginx->start;
    my $old = $nginx->pid;

    $nginx->upgrade;
    isnt($nginx->pid, $old, 'a new master');
    $nginx->finish_upgrade;

    is(get($nginx->port, '/')->{body}, 'up', 'serves alone');
    $nginx->stop;
    $nginx->clean_log;
};


subtest 'nothing is left behind' => sub {
    my $bank = Bog::Bank->new;
    my $pid = $bank->pid;

    ok(kill(0, $pid), 'the bank runs');
    undef $bank;
    ok(!kill(0, $pid), 'and ends');

    pipe my $reader, my $writer or die "pipe: $!\n";
    my $test = fork // die "fork: $!\n";

    if ($test == 0) {
        my $orphan = Bog::Bank->new;
        syswrite $writer, $orphan->pid . "\n";
        kill KILL => $$;
    }

    chomp($pid = <$reader>);
    waitpid $test, 0;
    ok(wait_until { slurp("/proc/$pid/stat") !~ /\) [^Z]/ },
       'even where the test was killed');
};


done_testing;
