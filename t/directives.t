# Every directive in http, server and location: in effect, inherited and
# overridden.  What the bank gets to see comes back in the token.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Cwd 'abs_path';
use File::Temp 'tempdir';
use IO::Socket::UNIX;
use MIME::Base64 'encode_base64';

use Bog::CA;
use Bog::Util qw(free_port spew);

my ($root, $dir, $silent);

BEGIN {
    $root = abs_path("$FindBin::Bin/..");
    $dir = tempdir('bog-directives-XXXXXX', TMPDIR => 1, CLEANUP => 1);

    $ENV{TEST_NGINX_BINARY} //= '/usr/sbin/nginx';
    $ENV{TEST_NGINX_LOAD_MODULES}
        //= $ENV{BOG_MODULE} // "$root/build/ngx_http_bog_module.so";
    $ENV{TEST_NGINX_SERVROOT} //= "$root/build/servroot-directives";
    $ENV{TEST_NGINX_PORT} //= Bog::Util::free_port();
    mkdir "$root/build";

    unless (eval { require Test::Nginx::Socket; 1 }) {
        die "no Test::Nginx\n" if ($ENV{CI} // '') eq 'true';

        require Test::More;
        Test::More::plan(skip_all => 'no Test::Nginx');
    }
}

use Test::Nginx::Socket;

my $ca = Bog::CA->shared;
my $cert = $ca->cert(name => 'bank.test');
my $stranger = Bog::CA->new;
my $client = $ca->cert(name => 'client.test', client => 1);
my ($port, $tls) = free_port(2);

spew("$dir/$_", "$_-s3cret\n", 0600) for qw(one two);
spew("$dir/plus", "a+b\n", 0600);

# one that connections are made to, and that never answers
$silent = IO::Socket::UNIX->new(Local => "$dir/silent", Listen => 100)
    // die "listen: $!\n";
chmod 0777, "$dir/silent";
chmod 0755, $dir;

# What the token endpoint says, by the path that it is asked for.

my %say = (
    basic    => '$basic',
    uri      => '$uri',
    host     => '$host',
    body     => '$content_length',
    address  => '$remote_addr',
    sni      => '$ssl_server_name-$host',
    protocol => '$ssl_protocol',
    cipher   => '$ssl_cipher',
    client   => '$ssl_client_verify',
    life     => 'life',
);

my $locations = join "\n", map { <<"END" } sort keys %say;
        location /$_ { return 200
            '{\$life"access_token":"$say{$_}","token_type":"bearer"}'; }
END

# The endpoint, and an API that answers with the header it gets.

my $servers = <<"END";
    map \$http_authorization \$basic { "~^Basic ([^=]+)" \$1; }
    map \$arg_life \$life { "~." '"expires_in":\$arg_life,'; default ''; }

    limit_req_zone bank zone=bank:64k rate=1r/m;

    server {
        listen 127.0.0.1:$port;
        listen unix:$dir/bank;
        listen 127.0.0.1:$tls ssl;

        ssl_certificate         $cert->{cert};
        ssl_certificate_key     $cert->{key};
        ssl_client_certificate  ${\ $ca->path };
        ssl_verify_client       optional;
        ssl_protocols           TLSv1.2 TLSv1.3;

$locations

        location /none { return 401; }

        # when the first token is refreshed is left to chance: it lives for a
        # second, and those after it for 100
        location /short {
            limit_req zone=bank;
            error_page 503 =200 \@hundred;
            try_files /none \@one;
        }
        location \@one { return 200
            '{"expires_in":1,"access_token":"one","token_type":"bearer"}'; }
        location \@hundred { return 200
            '{"expires_in":100,"access_token":"two","token_type":"bearer"}'; }
    }

    server {
        listen unix:$dir/api;
        location / { return 200 \$http_authorization; }
    }
END


sub basic { encode_base64($_[0], '') =~ s/=+\z//r }

sub http { "bog_token_endpoint http://127.0.0.1:$port/$_[0];" }

sub https {
    return "bog_token_endpoint https://127.0.0.1:$tls/$_[0];"
           . ' bog_ssl_name bank.test;'
           . " bog_ssl_trusted_certificate ${\ $ca->path };";
}


my $id = 'bog_client_id one;';
my $file = "bog_client_secret_file $dir/one;";
my $both = "$id $file";

my $token = 'proxy_set_header Authorization $bog_bearer_token;';
my $expires = 'proxy_set_header Authorization $bog_token_expires;';
# a request waits for a second try, and not for a third one
my $either = 'bog_token optional; bog_wait_timeout 2s;'
             . ' proxy_set_header Authorization'
             . ' "$bog_token_error$bog_bearer_token";';
my $error = 'bog_token optional; proxy_set_header Authorization'
            . ' $bog_token_error;';

# The directive; what else there is; two values, and what they lead to.

my @rows = (
    ['bog_client_id', "$file " . http('basic'), $token,
     'one', basic("one:one-s3cret"), 'two', basic("two:one-s3cret")],
    ['bog_client_secret_file', "$id " . http('basic'), $token,
     "$dir/one", basic("one:one-s3cret"), "$dir/two", basic("one:two-s3cret")],
    ['bog_token_endpoint', $both, $token,
     "http://127.0.0.1:$port/uri", '/uri',
     "http://unix:$dir/bank:/host", 'localhost'],
    ['bog_token_param', "$both " . http('body'), $token,
     'scope corp', 40, 'a "b c"', 35],
    ['bog_client_auth', "$id bog_client_secret_file $dir/plus; "
     . http('basic'), $token,
     'basic', basic('one:a+b'), 'basic_urlencoded', basic('one:a%2Bb')],
    ['bog_token', "$both bog_wait_timeout 500ms; " . http('none'), $token,
     'required', 503, 'optional', ''],
    ['bog_token', "$both " . http('uri'), $token,
     'off', '', 'required', '/uri'],
    ['bog_wait_timeout', "$both bog_token_endpoint http://unix:$dir/silent:/;"
     . ' bog_read_timeout 500ms;', $error, '1ms', '', '1s', 'timeout'],
    ['bog_refresh_before', "$both " . http('short'), $token,
     '10s', { log => 'next refresh in (?:89|90)s', wait => 1 },
     '20s', { log => 'next refresh in (?:78|79|80)s', wait => 1 }],
    ['bog_max_lifetime', "$both " . http('life?life=5000'), $expires,
     '10m', qr/599|600/, '20m', qr/1199|1200/],
    ['bog_default_lifetime', "$both " . http('life'), $expires,
     '10m', qr/599|600/, '20m', qr/1199|1200/],
    ['bog_read_timeout', "$both bog_token_endpoint http://unix:$dir/silent:/;"
     . ' bog_wait_timeout 2s;', $error, '100ms', 'timeout', '30s', ''],
    ['bog_bind', "$both " . http('address'), $token,
     '127.0.0.2', '127.0.0.2', 'off', '127.0.0.1'],
    ['bog_ssl_verify', "$both bog_token_endpoint https://127.0.0.1:$tls/uri;",
     $either, 'on', 'tls', 'off', '/uri'],
    ['bog_ssl_trusted_certificate', "$both bog_ssl_name bank.test;"
     . " bog_token_endpoint https://127.0.0.1:$tls/uri;", $either,
     $ca->path, '/uri', $stranger->path, 'tls'],
    ['bog_ssl_name', "$both bog_token_endpoint https://127.0.0.1:$tls/sni;"
     . ' bog_ssl_trusted_certificate ' . $ca->path . ';', $either,
     'bank.test', 'bank.test-bank.test', 'other.test', 'tls'],
    ['bog_ssl_protocols', "$both " . https('protocol'), $token,
     'TLSv1.2', 'TLSv1.2', 'TLSv1.3', 'TLSv1.3'],
    ['bog_ssl_ciphers', "$both bog_ssl_protocols TLSv1.2; " . https('cipher'),
     $token,
     'ECDHE+AESGCM+AES128', qr/ECDHE-\w+-AES128-GCM-SHA256/,
     'ECDHE+CHACHA20', qr/ECDHE-\w+-CHACHA20-POLY1305/],
    ['bog_ssl_conf_command', "$both " . https('protocol'), $token,
     'MaxProtocol TLSv1.2', 'TLSv1.2', 'MinProtocol TLSv1.3', 'TLSv1.3'],
    ['bog_ssl_certificate', "$both bog_ssl_certificate_key $client->{key}; "
     . https('client'), $token,
     $client->{cert}, 'SUCCESS', '""', 'NONE'],
);


# where the first value stands, where the second one, and which one counts

my @places = (
    ['http'], ['server'], ['location'],
    ['http', 'server'], ['http', 'location'], ['server', 'location'],
);


sub block {
    my ($row, $place) = @_;

    my ($name, $base, $use, @values) = @$row;
    my %at = (http => '', server => '', location => '');

    $at{http} = $base;

    for my $i (0 .. $#$place) {
        # the last one is that in effect
        my $value = $values[2 * ($#$place - $i)];
        $at{$place->[$i]} .= " $name $value;";
    }

    my $expected = $values[1];
    my $number = $expected eq '503' ? 503 : 200;
    my $wait = ref $expected eq 'HASH' ? "--- wait: $expected->{wait}\n" : '';
    my $check = ref $expected eq 'HASH' ? "error_log eval\nqr/$expected->{log}/"
              : ref $expected   ? "response_body_like: ^(?:$expected)\$"
              : $number == 503  ? 'response_body_like: 503 Service'
              : $expected eq '' ? 'response_body:'
              :                   "response_body_like: ^\Q$expected\E\$";

    return <<"END";
=== $name @{[join ', ', @$place]}: $values[0]
--- http_config
$at{http}
$servers
--- config
$at{server}
location /t { $at{location} $use proxy_pass http://unix:$dir/api:; }
--- request
GET /t
--- error_code: $number
$wait--- $check
--- suppress_stderr
--- no_error_log
[alert]
[crit]
[emerg]

END
}


# With the values the other way round.

sub turned {
    my ($name, $base, $use, @values) = @{ $_[0] };

    return [$name, $base, $use, @values[2, 3, 0, 1]];
}


spec_string(join '', map {
    my $row = $_;
    (map({ block($row, $_) } @places), block(turned($row), $places[0]));
} @rows);

no_long_string();
no_root_location();
no_shuffle();
log_level('info');
repeat_each(1);
plan(tests => blocks() * 5);

run_tests();
