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

use IO::Socket::INET;
use Test::More;

use Bog::Backend;
use Bog::Bank;
use Bog::Client qw(get parallel header);
use Bog::Nginx;
use Bog::Util qw(slurp spew timeout wait_until);

my $bearer = '"Bearer $bog_bearer_token"';
my $pass = "proxy_set_header Authorization $bearer;"
           . ' proxy_pass http://127.0.0.1:%%http%%;';


# A bank, a backend and a gateway between them.  In the configuration %%http%%
# and the like are ports of the backend.  %opt: http, a text; listen, what is
# added to it; cold => 1, the bank holds the token request; what Bog::Nginx
# takes.

sub set_up {
    my ($conf, %opt) = @_;

    my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret',
                                               8283 => 's3cret' });
    my $backend = Bog::Backend->new;

    $bank->answer(hold => 1) if delete $opt{cold};
    $bank->answer(@{ delete $opt{answer} }) if $opt{answer};

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


# As Perl has its own: 1.022001 for 1.22.1.

sub version {
    my @numbers = `"${\ Bog::Nginx::binary() }" -v 2>&1`
                  =~ m{/(\d+)\.(\d+)\.(\d+)};

    return sprintf '%d.%03d%03d', @numbers;
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
    # before 1.29.6 nginx says that a body is what it has of it
    version() < 1.029006 ? () :
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
        is_deeply([$backend->requests], [], 'nothing has come');

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
        is(count_of($nginx, qr/\[warn\].* was rejected, it is dropped/), 1,
           'one was dropped');

        my @last = map { $_->{connection} } ($backend->requests)[-3 .. -1];
        is(scalar(keys %{ { map { $_ => 1 } @last } }), $connections,
           'one connection, the 401 does not end it') if $connections;

        ends($bank, $nginx, 2);
    };
}

done_testing;
