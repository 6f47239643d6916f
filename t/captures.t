# What a regular expression captured of a token outlives that token.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use Bog::Bank;
use Bog::Client 'get';
use Bog::Nginx;
use Bog::Util 'slurp';


my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret' });
$bank->answer(expires_in => 1);
$bank->api_answer(delay => 2, body => 'late');

my $nginx = Bog::Nginx->new(secret => { main => "s3cret\n" }, conf => <<"END");
    bog_client_id           8282;
    bog_client_secret_file  %%SECRET_main%%;
    bog_token_endpoint      ${\ $bank->url };

    # the token that the request was given has ended, so this is another one
    log_format ids "\$early \$first \$bog_bearer_token \$bog_token_id \$first";

    server {
        listen 127.0.0.1:%%PORT%%;

        location / {
            set \$early "id=\$bog_token_id";

            if (\$bog_token_id ~ "^(?<first>[0-9a-f]+)\$") {
                set \$captured yes;
            }

            proxy_pass http://127.0.0.1:${\ $bank->api_port };
            proxy_set_header Authorization "Bearer \$bog_bearer_token";
            access_log %%DIR%%/ids.log ids;
        }
    }
END

$nginx->start;

$nginx->wait_log(qr/token obtained/) // BAIL_OUT('no token');

my ($worker) = $nginx->workers;

is(get($nginx->port, '/')->{body}, 'late', 'answered when the token is gone');

is_deeply([$nginx->workers], [$worker], 'nobody died');

$nginx->stop;

my ($early, $first, $token, $id, $again) = split ' ', slurp($nginx->dir . '/ids.log');

isnt("id=$id", $early, 'the token has changed meanwhile');
is("id=$first", $early, 'the capture is still of the first one');
is("id=$again", $early, 'however often it is read');

done_testing();
