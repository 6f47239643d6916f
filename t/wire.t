# What the bank gets to see, byte for byte.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use MIME::Base64 'encode_base64';
use Test::More;

use Bog::Bank;
use Bog::CA;
use Bog::DNS;
use Bog::Nginx;
use Bog::Util 'slurp';

# the sample of the bank's own page
my $id = '8282';
my $secret = '769706499f0709e234845863f98b2314';
my $basic = 'Basic ODI4Mjo3Njk3MDY0OTlmMDcwOWUyMzQ4NDU4NjNmOThiMjMxNA==';

my ($version) = slurp("$FindBin::Bin/../src/core/ngx_http_bog_core.h")
                =~ /NGX_HTTP_BOG_VERSION\s+"([^"]+)"/;


sub expected {
    my (%opt) = @_;

    my $body = join '&', 'grant_type=client_credentials', $opt{params} // ();

    return join "\r\n",
        "POST $Bog::Bank::PATH HTTP/1.1",
        "Host: $opt{host}",
        'Authorization: ' . ($opt{authorization} // $basic),
        'Content-Type: application/x-www-form-urlencoded',
        'Accept: application/json',
        'Accept-Encoding: identity',
        "User-Agent: nginx-bog/$version",
        'Content-Length: ' . length $body,
        '', $body;
}


# The first token request of an nginx with these directives.

sub request {
    my ($bank, $url, $directives, %opt) = @_;

    my $nginx = Bog::Nginx->new(%opt,
        secret => { main => $opt{secret} // "$secret\n" }, conf => <<"END");
        bog_client_id           $id;
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      $url;
        $directives

        server {
            listen 127.0.0.1:%%PORT%%;

            location / {
                proxy_pass http://127.0.0.1:${\ $bank->api_port };
                proxy_set_header Authorization "Bearer \$bog_bearer_token";
            }
        }
END
    $nginx->start;

    ok($bank->wait_requests(1), 'a token request');
    $bank->wait_count(answered => 1);

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
    is($bank->count, 1, 'one token request');

    return ($bank->requests)[0];
}


sub credentials { (credentials => { $id => $secret }) }


subtest 'the sample of the bank' => sub {
    my $bank = Bog::Bank->new(credentials());

    my $request = request($bank, $bank->url, '');

    is($request->{raw}, expected(host => '127.0.0.1:' . $bank->port), 'bytes');
    is($request->{refused}, undef, 'accepted');
};


subtest 'IPv6' => sub {
    my $bank = eval { Bog::Bank->new(credentials(), ipv6 => 1) }
        or plan skip_all => 'no IPv6';

    my $request = request($bank, $bank->url('ipv6'), '');

    is($request->{raw}, expected(host => '[::1]:' . $bank->ipv6_port), 'bytes');
};


subtest 'extra parameters' => sub {
    my $bank = Bog::Bank->new(credentials());

    my $request = request($bank, $bank->url, <<'END');
        bog_token_param scope corp;
        bog_token_param app_id "a b&c=d+e/f%";
        bog_token_param mark *-._~;
        bog_token_param "na me" ქ;
END

    is($request->{raw}, expected(
        host   => '127.0.0.1:' . $bank->port,
        params => 'scope=corp&app_id=a+b%26c%3Dd%2Be%2Ff%25&mark=*-._%7E'
                  . '&na+me=%E1%83%A5',
    ), 'form-encoded, in order');
};


subtest 'Basic as it is' => sub {
    my $bank = Bog::Bank->new(credentials => { $id => 'a:b/c d' });

    my $request = request($bank, $bank->url, '', secret => "a:b/c d\r\n");

    is($request->{raw}, expected(
        host          => '127.0.0.1:' . $bank->port,
        authorization => 'Basic ' . encode_base64("$id:a:b/c d", ''),
    ), 'bytes');
};


subtest 'Basic form-encoded' => sub {
    my $bank = Bog::Bank->new(verify => 0);

    my $request = request($bank, $bank->url,
        'bog_client_auth basic_urlencoded;', secret => 'a%b+c d:e');

    is($request->{raw}, expected(
        host          => '127.0.0.1:' . $bank->port,
        authorization => 'Basic ' . encode_base64("$id:a%25b%2Bc+d%3Ae", ''),
    ), 'bytes');
};


subtest 'TLS' => sub {
    my $ca = Bog::CA->shared;
    my $bank = Bog::Bank->new(credentials(),
                              tls => $ca->cert(name => 'oauth2.test'));

    my $dns = Bog::DNS->new;
    $dns->answer('oauth2.test' => ['127.0.0.1']);

    my $host = 'oauth2.test:' . $bank->tls_port;

    my $request = request($bank, "https://$host$Bog::Bank::PATH", <<"END");
        resolver 127.0.0.1:${\ $dns->port } ipv6=off;
        bog_ssl_trusted_certificate ${\ $ca->path };
END

    is($request->{raw}, expected(host => $host), 'bytes');
    is($request->{tls}{sni}, 'oauth2.test', 'name asked for');
    like($request->{tls}{version}, qr/^TLSv1_[23]\z/, 'version');
};


subtest 'TLS that does not verify' => sub {
    my $ca = Bog::CA->shared;
    my $bank = Bog::Bank->new(credentials(),
                              tls => $ca->cert(name => 'other.test'));

    my $dns = Bog::DNS->new;
    $dns->answer('oauth2.test' => ['127.0.0.1']);

    my $url = "https://oauth2.test:${\ $bank->tls_port }$Bog::Bank::PATH";

    for my $trusted ($ca->path, Bog::CA->new->path) {
        my $nginx = Bog::Nginx->new(
            secret => { main => $secret }, conf => <<"END");
            resolver 127.0.0.1:${\ $dns->port } ipv6=off;

            server {
                listen 127.0.0.1:%%PORT%%;

                bog_client_id                $id;
                bog_client_secret_file       %%SECRET_main%%;
                bog_token_endpoint           $url;
                bog_ssl_trusted_certificate  $trusted;

                location / {
                    proxy_pass http://127.0.0.1:${\ $bank->api_port };
                    proxy_set_header X-Token \$bog_bearer_token;
                }
            }
END
        $nginx->start;
        ok($nginx->wait_log(qr/upstream SSL certificate/), 'refused');
        $nginx->stop;
    }

    is($bank->count, 0, 'the secret was not sent');
};


done_testing;
