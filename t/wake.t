# Where the master gets no eventfd, workers look for themselves whether a token
# has come.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use File::Temp;
use Test::More;

use Bog::Bank;
use Bog::Client 'parallel';
use Bog::Nginx;
use Bog::Util qw(now spew timeout);

my $dir = File::Temp->newdir;
my $library = "$dir/eventfd.so";

system('cc', '-shared', '-fPIC', '-O1', '-o', $library,
       "$FindBin::Bin/wake/eventfd.c") == 0
    or plan skip_all => 'no compiler';

my $mark = "$dir/no-eventfd";
spew($mark, '');

# not what is on stderr too, where nginx starts
my $failed = qr/^[0-9].*\[warn\].* eventfd\(\) failed, held requests are polled for /m;


sub held {
    my ($bank, $nginx) = @_;

    my $released;

    my @answers = parallel($nginx->port, 40, on_sent => sub {
        ok($nginx->wait_active(40), 'held');
        $released = now();
        $bank->release;
    });

    is(scalar(grep { ($_->{status} // 0) == 200 } @answers), 40,
       'all are served');
    cmp_ok(now() - $released, '<', timeout(2), 'soon');
}


my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret' });
$bank->answer(hold => 1);

my $nginx = Bog::Nginx->new(
    workers => 4, status => 1, log_level => 'info',
    env    => { LD_PRELOAD => $library, BOG_NO_EVENTFD => $mark },
    secret => { main => "s3cret\n" }, conf => <<"END");
    bog_client_id           8282;
    bog_client_secret_file  %%SECRET_main%%;
    bog_token_endpoint      ${\ $bank->url };
    bog_wait_timeout        60s;

    server {
        listen 127.0.0.1:%%PORT%% reuseport;

        location / {
            proxy_pass http://127.0.0.1:${\ $bank->api_port };
            proxy_set_header Authorization "Bearer \$bog_bearer_token";
        }
    }
END

$nginx->start;
ok($bank->wait_requests(1), 'the token is asked for');
is(scalar(() = $nginx->log =~ /$failed/g), 1, 'no eventfd');

held($bank, $nginx);
is($bank->count, 1, 'one token request');

# old workers go on as they were, new ones have one
unlink $mark;
$nginx->reload(wait_old => 1);

is(scalar(() = $nginx->log =~ /$failed/g), 1, 'the next time there is one');

$bank->revoke(($bank->tokens)[0]{token});
parallel($nginx->port, 1);
ok($bank->wait_requests(2), 'another token is asked for');

held($bank, $nginx);
is($bank->count, 2, 'one token request');

is($nginx->stop, 0, 'stops');
$nginx->clean_log('nothing else in the log', except => $failed);

done_testing;
