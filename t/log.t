# What the access log says of a request's token, which nginx writes when it has
# run the request's cleanups, and that no copy of a token is left behind.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA 'sha256_hex';
use Test::More;

use Bog::Bank;
use Bog::Client qw(get parallel);
use Bog::Nginx;
use Bog::Util qw(slurp wait_until);

my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret' });

my $nginx = Bog::Nginx->new(secret => { main => 's3cret' }, conf => <<"END");
    log_format bog '\$uri \$status \$bog_token_state \$bog_token_id '
                   '\$bog_hold_time';

    server {
        listen 127.0.0.1:%%PORT%%;

        bog_client_id           8282;
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      ${\ $bank->url };
        access_log              %%DIR%%/bog.log bog;

        proxy_set_header  Authorization "Bearer \$bog_bearer_token";

        location / {
            proxy_pass http://127.0.0.1:${\ $bank->api_port };
        }

        location /redirected {
            error_page 404 = /after;
            return 404;
        }
    }
END


# The copies of tokens that the worker has: a mapping of its own each, left out
# of core dumps.

sub copies {
    my ($pid) = $nginx->workers;
    my ($n, $kb) = (0, 0);

    for (split /\n/, slurp("/proc/$pid/smaps")) {
        $kb = $1 if /^Size: +([0-9]+) kB/;
        $n += $kb if /^VmFlags:.* dd( |$)/ && !/ sh /;
    }

    return $n;
}


sub logged {
    my $n = shift;

    ok(wait_until(sub { (() = slurp($nginx->{dir} . '/bog.log') =~ /\n/g)
                        >= $n }), "$n lines are logged");

    return slurp($nginx->{dir} . '/bog.log');
}


$nginx->start;
ok($bank->wait_requests(1), 'a token request');
ok($nginx->wait_log(qr/token obtained/), 'a token');

is(get($nginx->port, '/quick')->{status}, 200, 'quick');

$bank->api_answer(delay => 0.5);
is(get($nginx->port, '/slow')->{status}, 200, 'slow');

$bank->api_answer();
is(get($nginx->port, '/redirected')->{status}, 200, 'redirected');

my ($token) = map { $_->{token} } $bank->tokens;
my $id = substr sha256_hex($token), 0, 16;

is(logged(3), join('', map { "$_ 200 valid $id 0.000\n" }
                       qw(/quick /slow /after)), 'the log');

is($nginx->stop, 0, 'stops');
$nginx->clean_log;


subtest 'no copy is left behind' => sub {
    plan skip_all => 'no smaps' unless -r '/proc/self/smaps';

    $bank->answer(expires_in => 2);
    $nginx->start;

    my $first = $bank->count;
    my $before;

    # requests in the last third of a token's life end in that of the next one
    $bank->api_answer(delay => 0.7);

    for my $n (1 .. 4) {
        ok($bank->wait_requests($first + $n), "token $n");
        parallel($nginx->port, 20);
        $before //= copies();
    }

    $bank->api_answer();
    is(get($nginx->port, '/')->{status}, 200, 'none is in use any more');

    cmp_ok(copies(), '<=', $before + 24, 'one more at the most');

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
};


done_testing;
