# What an operator sees when something is wrong: the line in the log, the line of
# "bog_status text", the class, and the paragraph of troubleshooting.md that
# they lead to.  All of it is compared exactly, but for ports and seconds.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Socket::INET;
use Socket;
use Test::More;

use Bog::Bank;
use Bog::CA;
use Bog::Client 'get';
use Bog::DNS;
use Bog::Nginx;
use Bog::Util qw(slurp wait_until);

my $ca = Bog::CA->shared;
my $html = { body => "<html>We are back soon.</html>\n",
             headers => [['Content-Type', 'text/html']] };

my $manual = slurp("$FindBin::Bin/../docs/troubleshooting.md");


sub bank { Bog::Bank->new(credentials => { 8282 => 's3cret' }, @_) }


# %opt: url, of the bank by default; conf, in http {}; id and secret; api, a
# port; log_level.

sub gateway {
    my ($bank, %opt) = @_;

    my $url = $opt{url} // $bank->url;
    my $api = $opt{api} // $bank->api_port;

    return Bog::Nginx->new(
        secret => { main => ($opt{secret} // 's3cret') . "\n" },
        log_level => 'info', conf => <<"END");
        ${\ ($opt{conf} // '') }

        bog_client_id           ${\ ($opt{id} // 8282) };
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      $url;

        server {
            listen 127.0.0.1:%%PORT%%;

            location = /status {
                bog_status text;
            }

            location / {
                proxy_pass http://127.0.0.1:$api;
                proxy_set_header Authorization "Bearer \$bog_bearer_token";
                access_log %%DIR%%/access.log;
            }
        }
END
}


# Ports are chosen anew in each run, and seconds go by.

sub plain {
    my $text = shift;

    $text =~ s/(?<=127\.0\.0\.1:)\d+|(?<=\.test:)\d+/PORT/g;
    $text =~ s/\b\d+(?:\.\d+)?(?= ?s\b)/N/g;
    $text =~ s/"[0-9a-f]{16}"/"TOKEN"/;
    $text =~ s/\/tmp\/bog-[\w-]+/DIR/g;
    $text =~ s/, 1 request refused in the last minute//;

    return $text;
}


# The lines of that level or worse, without time and numbers of processes.

sub lines {
    my ($nginx, $levels) = @_;

    return map { plain($_) }
           map { /\[(?:$levels)\]\ \S+\ (?:\*\d+\ )?(.*)/x ? $1 : () }
           split /\n/, $nginx->log;
}


sub status_line {
    my $nginx = shift;

    my (undef, $line) = split /\n/, get($nginx->port, '/status')->{body};

    return plain($line);
}


# The paragraph has the words that the line in the log has.

sub read_on {
    my ($heading, $words) = @_;

    my ($text) = $manual =~ /^## \Q$heading\E\n(.*?)(?=^## |\z)/ms
        or return fail("no heading $heading");

    ok(index($text =~ s/\s+/ /gr, $words) >= 0, "read: $heading, \"$words\"");
}


# What makes a bank that answers like this, and its gateway.

sub answering {
    my %how = @_;

    return sub {
        my $bank = bank();
        $bank->answer(%how);

        return ($bank, gateway($bank));
    };
}


# The same for a bank with TLS, and a gateway that trusts that authority.

sub over_tls {
    my ($tls, $trusted) = @_;

    return sub {
        my $bank = bank(tls => $tls);

        return ($bank, gateway($bank,
            url  => "https://127.0.0.1:${\ $bank->tls_port }$Bog::Bank::PATH",
            conf => 'bog_ssl_trusted_certificate ' . $trusted->path . ';'));
    };
}


# A source that has no token.  %opt: make, which returns a bank and a gateway;
# url and id, if they are not the usual ones; asked, 0 if no server is; reason,
# in log and page; class; read, a heading and words below it.

sub no_token {
    my ($name, %opt) = @_;

    subtest $name => sub {
        my ($bank, $nginx) = $opt{make}->();

        $nginx->start;
        ok($nginx->wait_log(qr/token request failed: .*next try/), 'it fails');

        my $url = $opt{url} // "http://127.0.0.1:PORT$Bog::Bank::PATH";
        my $server = $url =~ s{^\w+://([^/]+).*}{$1}r;
        my $asked = $opt{asked} // 1;

        my @lines = grep { !/in clear text/ }
                    lines($nginx, 'warn|error|crit|alert');

        is($lines[0],
           "token request failed: $opt{reason}, next try in Ns, client id: "
           . ($opt{id} ? qq("$opt{id}") : '"8282"')
           . qq(, token endpoint: "$url")
           . ($asked ? ', upstream: "127.0.0.1:PORT"' : ''), 'the log');
        is(scalar(@lines), 1, 'and nothing else') or diag explain \@lines;

        is(status_line($nginx) =~ s/next try in N s|a fetch is under way/NEXT/r,
           'CRITICAL ' . ($opt{id} // 8282) . "\@$server: no token, failing for "
           . "N s: $opt{reason}, NEXT", 'the page');

        my $source = get($nginx->port, '/status?format=json')->{body};
        like($source, qr/"class": "$opt{class}"/, 'the class');

        read_on(@{ $opt{read} });

        $nginx->ends;
    };
}


my @rejected = (class => 'rejected',
                read => ['Credentials rejected',
                         'the credentials were rejected']);

no_token('a wrong secret',
    make   => sub { my $bank = bank(); ($bank, gateway($bank,
                                                       secret => 'wr0ng')) },
    reason => 'the credentials were rejected, status 401, error '
              . '"invalid_client"', @rejected);

no_token('a wrong client id',
    make   => sub { my $bank = bank(); ($bank, gateway($bank, id => 9999)) },
    id     => 9999,
    reason => 'the credentials were rejected, status 401, error '
              . '"invalid_client"', @rejected);

my $named = "http://oauth2.test:PORT$Bog::Bank::PATH";

for my $drill (['a typo in the host name', 'NXDOMAIN', '3: Host not found'],
               ['no name server', 'SILENT', '110: Operation timed out']) {
    my ($name, $answer, $reason) = @$drill;

    no_token($name,
        make => sub {
            my ($bank, $dns) = (bank(), Bog::DNS->new);
            $dns->answer('oauth2.test' => $answer);

            return ([$bank, $dns], gateway($bank,
                url  => "http://oauth2.test:${\ $bank->port }$Bog::Bank::PATH",
                conf => "resolver 127.0.0.1:${\ $dns->port } ipv6=off; "
                        . 'resolver_timeout 1s;'));
        },
        url    => $named, asked => 0, class => 'resolve',
        reason => "oauth2.test could not be resolved ($reason)",
        read   => ['DNS', $reason]);
}

no_token('a typo in the path',
    make   => answering(status => 404, %$html),
    reason => 'unexpected status 404', class => 'http_404',
    read   => ['Unexpected status',
               'The path in `bog_token_endpoint` is wrong.']);

no_token('a parameter that the server does not know',
    make   => answering(status => 400, body => '{"error":"invalid_target"}'),
    reason => 'refused with status 400, error "invalid_target"',
    class  => 'http_400', read => ['Unexpected status', '`invalid_target`']);

no_token('too many requests',
    make   => answering(status => 429, headers => [['Retry-After', 60]]),
    reason => 'unexpected status 429', class => 'http_429',
    read   => ['Unexpected status', 'There are too many requests']);

no_token('a maintenance page',
    make   => answering(status => 503, %$html),
    reason => 'unexpected status 503', class => 'http_503',
    read   => ['Unexpected status', 'maintenance']);

no_token('a maintenance page with status 200',
    make   => answering(%$html),
    reason => 'the answer is not a JSON object', class => 'malformed',
    read   => ['Invalid answer', 'a maintenance page']);

no_token('a closed port',
    make => sub {
        my $bank = bank();
        $bank->stop;
        return ($bank, gateway($bank));
    },
    reason => 'could not connect to 127.0.0.1:PORT: connect() failed (111: '
              . 'Connection refused)',
    class  => 'connect', read => ['No connection', '111: Connection refused']);


# The kernel drops packets to a socket whose queue of connections is full.

no_token('a firewall that drops',
    make => sub {
        my $bank = bank();
        my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
                                           Listen => 1) or die "listen: $@\n";
        listen $socket, 0;

        my @full = map { IO::Socket::INET->new(
            PeerAddr => '127.0.0.1', PeerPort => $socket->sockport,
            Blocking => 0) } 1 .. 4;

        return ([$bank, $socket, @full], gateway($bank,
            conf => 'bog_connect_timeout 1s;', url => 'http://127.0.0.1:'
                . $socket->sockport . $Bog::Bank::PATH));
    },
    reason => 'no answer from 127.0.0.1:PORT in N s while connecting',
    class  => 'timeout', read => ['No answer', 'while connecting']);


my $handshake = 'TLS handshake with 127.0.0.1:PORT failed: ';
my $https = "https://127.0.0.1:PORT$Bog::Bank::PATH";

for my $drill (
    ['a CA bundle without the right authority',
     { name => '127.0.0.1' }, Bog::CA->new(name => 'another CA'),
     'unable to get local issuer certificate (error 20 at depth 0)',
     'unable to get local issuer certificate'],
    ['a certificate that has expired', { name => '127.0.0.1', days => -1 },
     $ca, 'certificate has expired (error 10 at depth 0)',
     'certificate has expired'],
    ['a certificate for another name', { name => 'other.test' }, $ca,
     'upstream SSL certificate does not match "127.0.0.1"',
     'certificate does not match'],
) {
    my ($name, $cert, $trusted, $reason, $words) = @$drill;

    no_token($name,
        make   => over_tls($ca->cert(%$cert), $trusted),
        url    => $https, class => 'tls', reason => "$handshake$reason",
        read   => ['TLS', $words]);
}


no_token('a client certificate that is missing',
    make   => over_tls({ %{ $ca->cert(name => '127.0.0.1') },
                         client_ca => $ca->path }, $ca),
    url    => $https, class => 'tls',
    reason => "${handshake}the server sent \"tlsv13 alert certificate required\"",
    read   => ['TLS', 'certificate required']);


subtest 'a CA bundle that is missing' => sub {
    my $bank = bank();
    my $nginx = gateway($bank, url => 'https://127.0.0.1/',
                        conf => 'bog_ssl_trusted_certificate %%DIR%%/no.pem;');

    my ($code, $text) = $nginx->test;

    is($code, 1, 'nginx does not start');

    # the second one is what nginx says since 1.27.2
    like($text, qr/\[emerg\].*(?:SSL_CTX_load_verify_locations\(
                               |cannot\ load\ certificate\ )
                   "\Q${\ $nginx->dir }\E\/no\.pem"\)?[ :].*failed\ \(.*
                   No\ such\ file\ or\ directory/x, 'the log');
    read_on('nginx does not start', 'SSL_CTX_load_verify_locations');
};


subtest 'a clock that is an hour off' => sub {
    for my $offset (-3600, 3600) {
        my $bank = bank();
        $bank->answer(date => $offset, lifetime => 120,
                      expires_in => (time + $offset + 120) * 1000);

        my $nginx = gateway($bank)->start;

        is(get($nginx->port, '/')->{status}, 200, 'payments go on');
        is(join("\n", grep { /token/ } lines($nginx, 'notice|warn|error')),
           'token obtained, lifetime: Ns, next refresh in Ns, client id: '
           . qq("8282", token endpoint: "http://127.0.0.1:PORT$Bog::Bank::PATH")
           . ', upstream: "127.0.0.1:PORT"', 'the log');
        is(status_line($nginx), 'OK 8282@127.0.0.1:PORT: token valid for N s, '
           . 'next fetch in N s', 'the page');

        $nginx->ends;
    }

    read_on('The clock', 'does no harm');
};


subtest 'a token that is too large for the API' => sub {
    my $bank = bank();
    $bank->answer(token => 'x' x 9000);

    # an nginx as it is by default
    my $api = Bog::Nginx->new(module => 0, conf => <<'END')->start;
        server {
            listen 127.0.0.1:%%PORT%%;
        }
END

    my $nginx = gateway($bank, api => $api->port)->start;
    my $answer = get($nginx->port, '/');

    is($answer->{status}, 400, 'the API refuses the request');
    like($answer->{body}, qr/Request Header Or Cookie Too Large/, 'the answer');
    is(join("\n", lines($nginx, 'warn|error|crit|alert')), '',
       'no line of ours, and none of nginx\'s');
    is(status_line($nginx), 'OK 8282@127.0.0.1:PORT: token valid for N s, '
       . 'next fetch in N s', 'the page');
    like(get($nginx->port, '/status?format=json')->{body}, qr/"size": 9000,/,
         'its size');
    read_on('400 or 431 from the API', 'Request Header Or Cookie Too Large');

    $nginx->ends;
    $api->ends;
};


subtest 'a token that the API refuses' => sub {
    my $bank = bank();
    my $nginx = gateway($bank)->start;

    is(get($nginx->port, '/')->{status}, 200, 'a payment');
    $bank->revoke(($bank->tokens)[0]{token});
    is(get($nginx->port, '/')->{status}, 401, 'the bank ends the token');

    is((lines($nginx, 'warn|error'))[0] =~ s/, client: .*//r, 'token "TOKEN" of '
       . 'client id "8282" was rejected, it is being replaced', 'the log');
    is(get($nginx->port, '/')->{status}, 200, 'and it goes on');
    is(status_line($nginx), 'OK 8282@127.0.0.1:PORT: token valid for N s, '
       . 'next fetch in N s', 'the page');
    read_on('401 from the API', 'it is being replaced');

    $nginx->ends;
};


subtest 'an API that refuses every token' => sub {
    my $bank = bank();
    $bank->api_answer(status => 401, body => '');

    my $nginx = gateway($bank)->start;
    my $line;

    ok(wait_until {
        get($nginx->port, '/');
        $line = status_line($nginx);
        $line =~ /WARNING/;
    }, 'it is no success');

    is(get($nginx->port, '/status')->{body} =~ s/\n.*//sr,
       'WARNING - 1 source, 1 whose tokens the API rejects', 'the summary');
    is($line =~ s/a fetch is under way/next fetch in N s/r,
       'WARNING 8282@127.0.0.1:PORT: token valid for N s, the API rejected 2 '
       . 'tokens in a row, next fetch in N s', 'the page');
    read_on('401 from the API', '401 again and again');

    $nginx->ends;
};


subtest 'a full disk for the stored token' => sub {
    plan skip_all => 'no mount namespaces'
        if $> || system('unshare -m mount -t tmpfs none /mnt 2>/dev/null');
    plan skip_all => 'a wrapper is there' if $ENV{BOG_WRAPPER};

    my $bank = bank();
    my $nginx = gateway($bank, conf => 'bog_state_path %%DIR%%/state;');
    my $dir = $nginx->dir . '/state';

    mkdir $dir, 0700;
    $nginx->file('start.sh', <<"END");
exec unshare -m sh -c 'mount -t tmpfs -o size=4k none "$dir" \\
    && head -c 4096 /dev/zero > "$dir/fill" && exec "\$@"' \\
    sh "\$@"
END

    {
        local $ENV{BOG_WRAPPER} = 'sh %%DIR%%/start.sh';
        $nginx->start;
    }

    ok($nginx->wait_log(qr/is not kept for a restart/), 'it fails');
    is((lines($nginx, 'error'))[0] =~ s/"DIR\S*"/"FILE"/r,
       'write() of state file "FILE" failed, the token of client id "8282" is '
       . 'not kept for a restart (28: No space left on device)', 'the log');
    is(get($nginx->port, '/')->{status}, 200, 'payments go on');
    is(status_line($nginx), 'OK 8282@127.0.0.1:PORT: token valid for N s, '
       . 'next fetch in N s', 'the page');
    read_on('The stored token', 'No space left on device');

    $nginx->ends;
};


done_testing;
