# Workers that die in a fetch, and an nginx that has to end in one.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use Bog::Bank;
use Bog::Client qw(get parallel);
use Bog::Nginx;
use Bog::Util qw(now slurp timeout wait_until);

my $killed = qr/exited on signal 9/;


sub bank { Bog::Bank->new(credentials => { 8282 => 's3cret' }) }


# %opt: read_timeout, listen, and what Bog::Nginx takes.

sub gateway {
    my ($bank, %opt) = @_;

    my $read_timeout = delete $opt{read_timeout} // '60s';
    my $listen = delete $opt{listen} // '';

    my $nginx = Bog::Nginx->new(
        status => 1, %opt,
        secret => { main => "s3cret\n" }, conf => <<"END");
        bog_client_id           8282;
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      ${\ $bank->url };
        bog_wait_timeout        60s;
        bog_read_timeout        $read_timeout;

        server {
            listen 127.0.0.1:%%PORT%% $listen;

            location / {
                proxy_pass http://127.0.0.1:${\ $bank->api_port };
                proxy_set_header Authorization "Bearer \$bog_bearer_token";
            }
        }
END
    return $nginx->start;
}


# The worker behind the last token request.

sub fetcher {
    my ($bank, $nginx) = @_;

    my ($port) = ($bank->requests)[-1]{peer} =~ / ([0-9]+)\z/;

    my $pid = $nginx->worker_of_port($port);

    diag("nobody has port $port: workers ", join(' ', $nginx->workers), "\n",
         map { slurp($_) } '/proc/net/tcp', $nginx->dir . '/notice.log')
        unless $pid;

    return $pid;
}


subtest 'a worker is killed in a fetch' => sub {
    my $bank = bank();
    $bank->queue({ hold => 1 });

    my $nginx = gateway($bank, workers => 4);

    ok($bank->wait_requests(1), 'a token request');
    my $pid = fetcher($bank, $nginx);
    ok($pid, 'is from one of the workers');

    $nginx->kill_worker($pid);
    my $died = now();

    ok($bank->wait_requests(2), 'another worker asks');
    cmp_ok(now() - $died, '<', timeout(10), 'long before the timeout');

    my @answers = parallel($nginx->port, 40);
    is(scalar(grep { $_->{status} == 200 } @answers), 40, 'all are served');
    is($bank->count, 2, 'two token requests');

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log(undef, except => $killed);
};


subtest 'its death is not that of others' => sub {
    my $bank = bank();
    $bank->queue({ hold => 1 });

    # else one worker may accept them all
    my $nginx = gateway($bank, workers => 4, listen => 'reuseport');

    my @answers = parallel($nginx->port, 100, on_sent => sub {
        ok($bank->wait_requests(1), 'a token request');
        ok($nginx->wait_active(100), 'everybody waits for it');

        $nginx->kill_worker(fetcher($bank, $nginx));
    });

    my %count;
    $count{$_->{status} // $_->{error}}++ for @answers;

    is($count{200} + ($count{closed} // 0), 100,
       'held elsewhere: answered; held there: closed')
        or diag explain \%count;
    cmp_ok($count{200}, '>=', 1, 'some were held elsewhere');
    is($bank->count, 2, 'two token requests');

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log(undef, except => $killed);
};


subtest 'workers that die later take no token along' => sub {
    my $bank = bank();
    my $nginx = gateway($bank, workers => 2);

    my $token = get($nginx->port, '/')->{body};

    for my $pid ($nginx->workers) {
        $nginx->kill_worker($pid);
        is(get($nginx->port, '/')->{body}, $token, 'the same token');
    }

    is($bank->count, 1, 'one token request');

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log(undef, except => $killed);
};


# With and without a master; none of these may wait for a timer of ours.

for my $master (1, 0) {
    my $mode = $master ? 'with a master' : 'without a master';

    for my $signal (qw(QUIT TERM)) {
        subtest "$signal at rest, $mode" => sub {
            my $bank = bank();
            my $nginx = gateway($bank, master => $master);

            is(get($nginx->port, '/')->{status}, 200, 'a token');

            my $start = now();
            is($nginx->stop($signal), 0, 'status');
            cmp_ok(now() - $start, '<', timeout(5), 'at once');

            is($bank->count, 1, 'one token request');
            $nginx->clean_log;
        };
    }


    subtest "TERM in a fetch, $mode" => sub {
        my $bank = bank();
        $bank->answer(hold => 1);

        my $nginx = gateway($bank, master => $master);
        ok($bank->wait_requests(1), 'a token request');

        my $start = now();
        is($nginx->stop('TERM'), 0, 'status');
        cmp_ok(now() - $start, '<', timeout(5), 'at once');
        ok($bank->wait_count(gone => 1), 'the fetch is given up');

        $nginx->clean_log;
    };


    subtest "QUIT in a fetch, $mode" => sub {
        my $bank = bank();
        $bank->answer(hold => 1);

        my $nginx = gateway($bank, master => $master, read_timeout => '2s');
        ok($bank->wait_requests(1), 'a token request');

        my $start = now();
        is($nginx->stop('QUIT'), 0, 'status');
        cmp_ok(now() - $start, '<', 2 + timeout(5), 'by its own timeout');

        is($bank->count, 1, 'and no second try');
        $nginx->clean_log;
    };


    # nginx without a master knows no graceful end
    next unless $master;


    subtest 'QUIT with requests held' => sub {
        my $bank = bank();
        $bank->answer(hold => 1);

        my $nginx = gateway($bank, master => $master);

        my @answers = parallel($nginx->port, 20, on_sent => sub {
            ok($bank->wait_requests(1), 'a token request');
            ok($nginx->wait_active(20), 'everybody waits for it');

            $nginx->signal('QUIT');
            ok($nginx->wait_log(qr/gracefully shutting down/), 'QUIT');

            is($bank->release, 1, 'it is answered');
        });

        is(scalar(grep { ($_->{status} // 0) == 200 } @answers), 20,
           'so are they');
        is($nginx->stop, 0, 'status');
        is($bank->count, 1, 'one token request');

        $nginx->clean_log;
    };
}


# nginx itself serves nothing afterwards, and unmaps what sources share.

subtest 'a reload without a master takes a source away' => sub {
    my $bank = bank();
    $bank->answer(expires_in => 4);

    my $nginx = gateway($bank, master => 0);
    is(get($nginx->port, '/')->{status}, 200, 'a token');

    $nginx->conf('');
    $nginx->signal('HUP');
    ok($nginx->wait_log(qr/no reload with "master_process off"/), 'is refused');

    my $count = $bank->count;
    ok($bank->wait_requests($count + 1), 'tokens are refreshed as before');
    is(get($nginx->port, '/')->{status}, 200, 'and requests are served');

    is($nginx->stop('TERM'), 0, 'stops');
    $nginx->clean_log(undef, except => qr/master_process off/);
};


subtest 'worker_shutdown_timeout' => sub {
    my $bank = bank();
    $bank->answer(hold => 1);

    my $nginx = gateway($bank, main => 'worker_shutdown_timeout 1s;');
    ok($bank->wait_requests(1), 'a token request');

    my $start = now();
    is($nginx->stop('QUIT'), 0, 'status');
    cmp_ok(now() - $start, '<', 1 + timeout(5), 'after a second');

    $nginx->clean_log;
};


subtest 'binary upgrade' => sub {
    my $bank = bank();
    my $nginx = gateway($bank, daemon => 1, workers => 2);

    is(get($nginx->port, '/')->{status}, 200, 'a token');

    $nginx->upgrade;
    is(scalar(grep { $_->{status} == 200 } parallel($nginx->port, 20)), 20,
       'both binaries serve');

    $nginx->finish_upgrade;
    is(scalar(grep { $_->{status} == 200 } parallel($nginx->port, 20)), 20,
       'the new one serves');

    cmp_ok($bank->count, '<=', 2, 'at most one more token request');

    $nginx->stop;
    $nginx->clean_log;
};


done_testing;
