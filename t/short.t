# A token that lives for milliseconds is no reason to ask without end.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use Bog::Bank;
use Bog::Nginx;


my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret' });
$bank->answer(expires_in => 0.05);

my $nginx = Bog::Nginx->new(secret => { main => "s3cret\n" }, conf => <<"END");
    server {
        listen 127.0.0.1:%%PORT%%;

        location / {
            bog_client_id           8282;
            bog_client_secret_file  %%SECRET_main%%;
            bog_token_endpoint      ${\ $bank->url };
            proxy_pass http://127.0.0.1:${\ $bank->api_port };
            proxy_set_header Authorization "Bearer \$bog_bearer_token";
        }
    }
END

$nginx->start;
$bank->wait_requests(1);

select undef, undef, undef, 2;
cmp_ok($bank->count, '<=', 12, 'some five in a second');

$nginx->stop;

done_testing();
