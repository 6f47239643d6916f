# What docs/recipes.md says of its configurations, shown with them as they stand
# there. That all of them load is docs.t's affair; the one for a 401 has its
# place in rejected.t.
#
# The bank's servers are t/lib's bank, by TLS; its certificate has their names.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Select;
use IO::Socket::INET;
use JSON::PP;
use POSIX ();
use Test::More;

use Bog::Bank;
use Bog::CA;
use Bog::Client qw(get parallel header);
use Bog::Nginx;
use Bog::Util qw(free_port slurp wait_until);

my $page = slurp("$FindBin::Bin/../docs/recipes.md");
my $ca = Bog::CA->shared;

my @names = qw(oauth2.bog.ge oauth2-sandbox.bog.ge api.bog.ge
               api-sandbox.bog.ge account.bog.ge api.businessonline.ge
               installment.bog.ge ipay.ge localhost);

my $cert = $ca->cert(name => 'localhost', san => [map { "DNS:$_" } @names]);

# where nginx finds the system's authorities
$ENV{SSL_CERT_FILE} = $ca->path;

# programs that a test has started; they end with it
my @helpers;


sub chapter {
    my $title = shift;

    my ($text) = $page =~ /^## \Q$title\E\n(.*?)(?=^## |\z)/ms;

    return $text // die "no recipe \"$title\"\n";
}


sub http {
    my $title = shift;

    my ($http) = chapter($title) =~ /^```nginx\n(.*?^server \{\n.*?)^```/ms;

    return $http // die "no configuration in \"$title\"\n";
}


# Each merchant's secret is of its own: "a secret of books_secret".

sub secret { "a secret of $_[0]" }

sub bank {
    my (%clients) = @_;

    return Bog::Bank->new(
        credentials => { map { $_ => secret($clients{$_}) } keys %clients },
        tls         => $cert,
    );
}


# Most recipes do not name the endpoint of production, which is the default.

sub gateway {
    my ($title, $bank, %opt) = @_;

    my $http = $opt{http} // http($title);

    $http = "bog_token_endpoint https://oauth2.bog.ge$Bog::Bank::PATH;\n$http"
        if $http =~ /\bbog_client_id\b/;

    my ($token, $api) = ($bank->tls_port, $bank->api_tls_port);

    $http =~ s/\bbog_token_endpoint\s+https:\/\/\K[\w.-]+\.ge\b
              /localhost:$token/gx;
    $http =~ s/\bproxy_pass\s+https:\/\/\K[\w.-]+\.ge\b/localhost:$api/g;
    $http =~ s/\blisten\s+\K127\.0\.0\.1:([0-9]+)/127.0.0.1:%%PORT_$1%%/g;
    $http =~ s/\/etc\/ssl\/certs\/ca-certificates\.crt/${\ $ca->path }/g;
    $http = $opt{edit}->($http) if $opt{edit};

    my %files = map { $_ => 1 } $http =~ /\/etc\/nginx\/bog\/(\w+)/g;
    $http =~ s/\/etc\/nginx\/bog\/(\w+)/%%SECRET_$1%%/g;

    return Bog::Nginx->new(
        secret => { map { $_ => secret($_) . "\n" } keys %files },
        conf   => $http,
    )->start;
}


# What the API has been asked, and by whom.

sub asked {
    my $bank = shift;

    return [map { "$_->{client} $_->{method} $_->{uri} $_->{state}" }
            $bank->api_requests];
}


sub done {
    my ($bank, @nginx) = @_;

    $_->stop for @nginx;
    $_->clean_log for @nginx;
}


subtest 'several merchants' => sub {
    my $bank = bank(8282 => 'books_secret', 8283 => 'flowers_secret');
    my $nginx = gateway('Several merchants', $bank);

    for my $shop (qw(books flowers books)) {
        is(get($nginx->port(8080), "/$shop/payments/v1/x")->{status}, 200,
           $shop);
    }

    is_deeply(asked($bank), ['8282 GET /payments/v1/x valid',
                             '8283 GET /payments/v1/x valid',
                             '8282 GET /payments/v1/x valid'],
              'each with its own token, without its part of the path');
    is($bank->count, 2, 'a token for each');

    done($bank, $nginx);
};


my $others = 'The sandbox and other APIs of the bank';

subtest 'the sandbox beside production' => sub {
    my $bank = bank(8282 => 'client_secret', 10000001 => 'sandbox_secret');
    my $api = $bank->api_tls_port;

    my $nginx = gateway('Production', $bank,
        http => http('Production') . http($others),
        edit => sub { $_[0] =~ s/api\.bog\.ge:443/127.0.0.1:$api/r });

    for my $port (8080, 8081) {
        is(get($nginx->port($port), '/payments/v1/x')->{status}, 200,
           "port $port");
    }

    is_deeply(asked($bank), ['8282 GET /payments/v1/x valid',
                             '10000001 GET /payments/v1/x valid'],
              'each with its own token');

    done($bank, $nginx);
};


# The sandbox's server, with what the table has for another API.

sub other_api {
    my $name = shift;

    my ($row) = chapter($others) =~ /^\| (\Q$name\E.*) \|$/m;
    my ($api, $endpoint, $location, $pass) = split / \| /, $row;
    my $param = $api =~ /`(.*)`/ ? $1 : '';

    return http($others)
        =~ s/bog_token_endpoint\s+\K[^;]+/$endpoint =~ tr{`}{}dr/er
        =~ s/(?=bog_client_id)/$param\n    /r
        =~ s/location \K\S+/$location =~ tr{`}{}dr/er
        =~ s/proxy_pass\s+\K[^;]+/$pass =~ tr{`}{}dr/er;
}


# Name, path of the token request, what it says, a path of the API, and what else
# the endpoint says.

my @endpoints = (
    ['Business Online',
     $Bog::Bank::PATH, 'grant_type=client_credentials&scope=corp',
     '/api/accounts', {}],
    ['instalments',
     '/v1/oauth2/token', 'grant_type=client_credentials',
     '/v1/installment/checkout', {}],
    ['iPay',
     '/opay/api/v1/oauth2/token', 'grant_type=client_credentials',
     '/opay/api/v1/checkout/orders',
     { expires_in => (time + 600) * 1000, json => { app_id => 1006 } }],
);

for my $endpoint (@endpoints) {
    my ($name, $path, $body, $api, $answer) = @$endpoint;

    subtest $name => sub {
        my $id = 10000001;
        my $bank = Bog::Bank->new(
            credentials => { $id => secret('sandbox_secret') },
            verify => 0, tls => $cert);
        $bank->answer(%$answer);

        my $nginx = gateway($name, $bank, http => other_api($name));

        is(get($nginx->port(8081), $api)->{status}, 200, 'is passed on');
        is_deeply(asked($bank), ["$id GET $api valid"], 'with the token');

        my ($request) = $bank->requests;
        is("$request->{method} $request->{uri}", "POST $path", 'where from');
        is($request->{body}, $body, 'how');

        $nginx->wait_log(qr/token obtained, lifetime: ([0-9]+)s/);
        my ($lifetime) = $nginx->log =~ /token obtained, lifetime: ([0-9]+)s/;
        my $wanted = $answer->{expires_in} ? 600 : 300;
        cmp_ok(abs($lifetime - $wanted), '<=', 30, 'for how long');

        done($bank, $nginx);
    };
}


# An HTTP proxy that knows two names, and nothing but CONNECT.

sub proxy {
    my (%ports) = @_;

    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
                                         Listen => 16) or die "listen: $!\n";

    my $pid = fork // die "fork: $!\n";

    if ($pid) {
        push @helpers, $pid;
        return $listener->sockport;
    }

    $SIG{$_} = 'DEFAULT' for qw(INT TERM);
    $SIG{CHLD} = 'IGNORE';

    while (my $client = $listener->accept) {
        next if fork;
        tunnel($client, \%ports);
        POSIX::_exit(0);
    }

    POSIX::_exit(0);
}


sub tunnel {
    my ($client, $ports) = @_;

    my $head = '';
    1 while $head !~ /\r\n\r\n/ && sysread $client, $head, 1, length $head;

    my ($name) = $head =~ /\ACONNECT ([\w.-]+):443 HTTP\/1/;

    return syswrite $client, "HTTP/1.0 403 Forbidden\r\n\r\n"
        unless defined $name && $ports->{$name};

    my $server = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                       PeerPort => $ports->{$name}) or return;

    syswrite $client, "HTTP/1.0 200 OK\r\n\r\n";

    my $select = IO::Select->new($client, $server);

    for ( ;; ) {
        for my $from ($select->can_read) {
            sysread $from, my $bytes, 65536 or return;
            syswrite $from == $client ? $server : $client, $bytes;
        }
    }
}


# The commands of the page, with a proxy and ports that are there.

sub tunnels {
    my ($proxy, %ports) = @_;

    my @commands = chapter('Through a corporate proxy')
                   =~ /^ {4}(socat .*\\\n.*)\n/mg;

    for my $command (@commands) {
        $command =~ s/LISTEN:([0-9]+)/LISTEN:$ports{$1}/;
        $command =~ s/proxy\.example/127.0.0.1/;
        $command =~ s/proxyport=[0-9]+/proxyport=$proxy/;

        my $pid = fork // die "fork: $!\n";

        if (!$pid) {
            $SIG{$_} = 'DEFAULT' for qw(INT TERM);
            open STDERR, '>', '/dev/null';
            exec 'sh', '-c', "exec $command" or POSIX::_exit(127);
        }

        push @helpers, $pid;
    }
}


subtest 'through a corporate proxy' => sub {
    plan skip_all => 'no socat'
        unless (grep { -x "$_/socat" } split /:/, $ENV{PATH})
               || ($ENV{CI} // '') eq 'true';

    my $bank = bank(8282 => 'client_secret');

    my $port = proxy('oauth2.bog.ge' => $bank->tls_port,
                     'api.bog.ge'    => $bank->api_tls_port);

    my %ports;
    @ports{8443, 8444} = free_port(2);
    tunnels($port, %ports);

    is(scalar @helpers, 3, 'a proxy and two tunnels');

    for my $listener (values %ports) {
        ok(wait_until { IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                              PeerPort => $listener) },
           'a tunnel is open');
    }

    my $through = sub {
        $_[0] =~ s/127\.0\.0\.1:(844[34])/127.0.0.1:$ports{$1}/gr;
    };

    my $nginx = gateway('Through a corporate proxy', $bank, edit => $through);

    is(get($nginx->port(8080), '/payments/v1/x')->{status}, 200, 'passes');
    is_deeply(asked($bank), ['8282 GET /payments/v1/x valid'],
              'with the token');

    my ($token) = $bank->requests;
    my ($api) = $bank->api_requests;
    is(header($token, 'Host'), 'oauth2.bog.ge', 'Host of the token request');
    like($api->{raw}, qr/^Host: api\.bog\.ge\r$/m, 'Host of the request');

    done($bank, $nginx);

    # who is at the other end is still looked at
    my $other = gateway('Through a corporate proxy', $bank, edit => sub {
        $through->($_[0]) =~ s/bog_ssl_name\s+\S+;/bog_ssl_name other.test;/r;
    });

    is(get($other->port(8080), '/payments/v1/x')->{status}, 503,
       'another name is not believed');
    like($other->log, qr/certificate does not match "other\.test"/,
         'as it says');

    done($bank, $other);

    # the proxy itself is no way
    my $direct = gateway('Through a corporate proxy', $bank, edit => sub {
        $_[0] =~ s/127\.0\.0\.1:8443/127.0.0.1:$port/r
              =~ s/^/bog_connect_timeout 1s; bog_wait_timeout 30s;\n/r;
    });

    is(get($direct->port(8080), '/payments/v1/x')->{status}, 503,
       'the proxy as the endpoint');
    like($direct->log, qr/token request failed: (?:no answer from|TLS handshake)/,
         'as it says');
    is($bank->count, 1, 'the bank sees nothing of all that');

    done($bank, $direct);
};


# nginx tries the next address only with a request that it has not sent, unless
# "non_idempotent" is set.

subtest 'production, and an address of the API that is dead' => sub {
    my $bank = bank(8282 => 'client_secret');
    my ($dead, $api) = (free_port(), $bank->api_tls_port);

    my $nginx = gateway('Production', $bank, edit => sub {
        $_[0] =~ s/server\s+api\.bog\.ge:443
                  /server 127.0.0.1:$dead; server 127.0.0.1:$api/rx;
    });

    is_deeply([map { get($nginx->port(8080), "/payments/v1/$_",
                         method => 'POST', body => 'an order')->{status} }
               1 .. 6], [(200) x 6], 'each order is answered');
    is_deeply(asked($bank),
              [map { "8282 POST /payments/v1/$_ valid" } 1 .. 6],
              'and is seen once');

    $nginx->stop;
    $nginx->clean_log;
};


# A gateway as in "Production", and what is before the two.

subtest 'two gateways' => sub {
    my $bank = bank(8282 => 'client_secret');

    my $upstream = sub {
        my ($token, $api) = ($bank->tls_port, $bank->api_tls_port);
        $_[0] =~ s/server\s+api\.bog\.ge:443/server 127.0.0.1:$api/r;
    };

    my @gateways = map { gateway('Production', $bank, edit => $upstream) } 1, 2;
    my $mute = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 16);

    my $front = sub {
        my ($first, $second) = @_;

        return gateway('Two gateways', $bank, edit => sub {
            $_[0] =~ s/10\.0\.0\.5:8080/127.0.0.1:$first/r
                  =~ s/10\.0\.0\.6:8080/127.0.0.1:$second/r
                  =~ s/^/proxy_read_timeout 1s;\n/r;
        });
    };

    my @ports = map { $_->port(8080) } @gateways;
    my $seen = sub { $bank->counts->{api} };

    my @post = ('/payments/v1/x', method => 'POST', body => 'an order');

    my $both = $front->(@ports);
    is(get($both->port(8080), @post)->{status}, 200, 'both are there')
        for 1, 2;

    # a line is written when its request has ended
    my $lines = sub { $gateways[$_[0]]->access_log =~ tr/\n// };

    ok(wait_until { $lines->(0) == 2 }, 'the first one is asked');
    is($lines->(1), 0, 'the second one is not');

    $gateways[0]->stop;
    is(get($both->port(8080), @post)->{status}, 200, 'the first one is gone');
    ok(wait_until { $lines->(1) == 1 }, 'the second one is asked');
    is($seen->(), 3, 'the bank has seen each order once');
    $both->stop;

    my $stuck = $front->($mute->sockport, $ports[1]);
    is(get($stuck->port(8080), @post)->{status}, 504,
       'the first one takes an order and says nothing');
    is($seen->(), 3, 'it is not sent again');
    $stuck->stop;

    # what has failed is left alone for ten seconds
    $stuck = $front->($mute->sockport, $ports[1]);
    is(get($stuck->port(8080), '/payments/v1/x')->{status}, 200, 'a GET is');
    is($seen->(), 4, 'to the second one');

    is($bank->count, 2, 'a token for each gateway');

    done($bank, $both, $stuck, @gateways);
};


subtest 'rate limits' => sub {
    my $bank = bank(8282 => 'client_secret');
    $bank->answer(hold => 1);

    my $nginx = gateway('Rate limits', $bank, edit => sub {
        $_[0] =~ s/rate=10r\/s/rate=1r\/m/r
              =~ s/burst=20/burst=2/r
              =~ s/^/bog_wait_timeout 60s;\n/r;
    });

    ok($bank->wait_requests(1), 'there is no token yet');

    my $pid = fork // die "fork: $!\n";

    # these wait
    if (!$pid) {
        my @held = parallel($nginx->port(8080), 3, uri => '/payments/v1/x');
        POSIX::_exit(3 - grep { $_->{status} == 200 } @held);
    }

    ok(wait_until { 3 == (() = $nginx->log =~ /bog hold: /g) },
       'as many as there may be are held');

    my $answer = get($nginx->port(8080), '/payments/v1/x');
    is($answer->{status}, 429, 'one too many does not wait');
    is($bank->counts->{api}, 0, 'nothing was passed on yet');

    is($bank->release(hold => 0), 1, 'the token comes');
    waitpid $pid, 0;
    is($?, 0, 'those that were held are served');

    done($bank, $nginx);
};


done_testing();


END {
    my $status = $?;

    kill TERM => @helpers;
    waitpid $_, 0 for @helpers;

    $? = $status;
}
