# A connection that others left open was not verified as ours are.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use Bog::Bank;
use Bog::CA;
use Bog::Client 'get';
use Bog::Nginx;


my $good = Bog::CA->new(name => 'good CA');
my $evil = Bog::CA->new(name => 'evil CA');

my $cert = $evil->cert(name => 'bank.test', san => ['DNS:bank.test']);
my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret' }, tls => $cert);

my $nginx = Bog::Nginx->new(secret => { main => "s3cret\n" }, conf => <<"END");
    upstream bank {
        server 127.0.0.1:${\ $bank->tls_port };
        keepalive 4;
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        location / {
            bog_client_id           8282;
            bog_client_secret_file  %%SECRET_main%%;
            bog_token_endpoint      https://bank$Bog::Bank::PATH;
            bog_ssl_name            bank.test;
            bog_ssl_trusted_certificate ${\ $good->path };
            proxy_pass http://127.0.0.1:${\ $bank->api_port };
            proxy_set_header Authorization "Bearer \$bog_bearer_token";
        }

        location /other/ {
            proxy_pass https://bank;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }
    }
END

$nginx->start;

$nginx->wait_log(qr/TLS handshake with/) // fail('no first try');

my $before = grep { $_->{raw} =~ /^POST/ } $bank->requests;
is($before, 0, 'the secret is not sent to a server that is not verified');

# leaves its connection open
for (1 .. 40) {
    get($nginx->port, '/other/');
    last if grep { $_->{raw} =~ /^POST/ } $bank->requests;
    select undef, undef, undef, 0.2;
}

my @sent = grep { $_->{raw} =~ /^POST/ } $bank->requests;
is(@sent, 0, 'nor over a connection that another location has opened');
diag $sent[0]{raw} if @sent;

$nginx->stop;

done_testing();
