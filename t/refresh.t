# The life of a token: refreshed in time, once, and never in anybody's way.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use Bog::Bank;
use Bog::Client qw(get steady);
use Bog::Nginx;
use Bog::Util qw(now pass_time timeout wait_until);


sub gateway {
    my ($bank, %opt) = @_;

    my $nginx = Bog::Nginx->new(%opt,
        secret => { main => "s3cret\n" }, conf => <<"END");
        bog_client_id           8282;
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      ${\ $bank->url };

        server {
            listen 127.0.0.1:%%PORT%%;

            location / {
                proxy_pass http://127.0.0.1:${\ $bank->api_port };
                proxy_set_header Authorization "Bearer \$bog_bearer_token";
            }
        }
END
    return $nginx->start;
}


sub bank { Bog::Bank->new(credentials => { 8282 => 's3cret' }) }


# By the clock: what is awaited here is the time of day itself.

sub pause_until {
    my $left = $_[0] - now();

    select undef, undef, undef, $left if $left > 0;
}


# Between an answer and the next request: half of the lifetime, less up to a
# tenth of that, and a token must not see its last tenth.

sub fetches_are_apart {
    my ($bank, $lifetime) = @_;

    my @requests = $bank->requests;

    my @gaps = map { $requests[$_]{time} - $requests[$_ - 1]{answered} }
               1 .. $#requests;

    my ($shortest, $longest) = (sort { $a <=> $b } @gaps)[0, -1];

    cmp_ok($shortest, '>=', 0.45 * $lifetime - timeout(0.05),
           'never too soon');
    cmp_ok($longest, '<=', 0.5 * $lifetime + timeout(0.5), 'never too late');
}


# Some servers hand out the same token until it ends: an answer in the middle of
# its life brings nothing, and the lifetime that is told goes down to 0.

subtest 'the same token again' => sub {
    my $bank = bank();
    $bank->answer(expires_in => 8, repeat => 1);

    my $nginx = gateway($bank, workers => 2, log_level => 'info');

    is(get($nginx->port, '/')->{status}, 200, 'a token');

    my $result = steady($nginx->port, rate => 20, seconds => 30)->result;

    is_deeply($result->{status}, { 200 => 600 }, 'all are answered')
        or diag explain $result->{failures};
    is($bank->api_stats->{valid}, 601, 'none was sent a token that has ended');

    my $tokens = () = $bank->tokens;
    ok($bank->count == 2 * $tokens - 1 || $bank->count == 2 * $tokens,
       'two token requests for each token')
        or diag $bank->count, " for $tokens";

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
};


subtest 'a lifetime of 0 for the token that is held' => sub {
    my $bank = bank();
    $bank->queue({ token => 'T1', expires_in => 6 },
                 ({ token => 'T1', expires_in => 0 }) x 2);
    $bank->answer(token => 'T2', expires_in => 300);
    $bank->api_answer(body => 'ok');

    my $nginx = gateway($bank, workers => 2, log_level => 'info');

    is(get($nginx->port, '/')->{status}, 200, 'a token');

    my $result = steady($nginx->port, rate => 20, seconds => 12)->result;

    is_deeply($result->{status}, { 200 => 240 }, 'all are answered')
        or diag explain $result->{failures};

    # at its end it comes a third time, which is a failure; then another one
    my @requests = $bank->requests;
    is(scalar @requests, 4, 'token requests');
    ok($nginx->log =~ /the token had expired when it came, next try in 1\./,
       'it is not taken when it has ended');

    my ($last) = map { $_->{time} } grep { $_->{authorization} eq 'Bearer T1' }
                 reverse $bank->api_requests;
    cmp_ok($last - $requests[0]{answered}, '<', 6, 'nor sent');

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
};


for my $lag (1, 3) {
    subtest "an API that takes a token $lag s after its issue" => sub {
        my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret' },
                                  lag => $lag);
        $bank->answer(expires_in => 30);

        my $nginx = gateway($bank, workers => 4, log_level => 'info');

        ok($bank->wait_count(answered => 1), 'a token');
        pass_time($lag + 0.1);

        my $result = steady($nginx->port, rate => 30, seconds => 30)->result;

        is_deeply($result->{status}, { 200 => 900 }, 'all are answered')
            or diag explain $result->{failures};
        is($bank->api_stats->{newborn}, 0, 'none was sent a newborn token');
        cmp_ok(scalar(my @tokens = $bank->tokens), '>=', 3, 'of three tokens');

        is($nginx->stop, 0, 'stops');
        $nginx->clean_log;
    };
}


# The new token is taken back, and the old one serves to its end.

subtest 'an API that takes a token 5 s after its issue' => sub {
    my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret' }, lag => 5);
    $bank->answer(expires_in => 40);

    my $nginx = gateway($bank, workers => 2, log_level => 'info');

    ok($bank->wait_count(answered => 1), 'a token');
    pass_time(5.1);

    my $result = steady($nginx->port, rate => 20, seconds => 30)->result;

    cmp_ok($bank->api_stats->{newborn}, '<=', 5, 'few of a newborn token');
    cmp_ok($bank->api_stats->{newborn}, '>=', 1, 'which is taken back');
    is($bank->count, 2, 'two token requests');

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
};


subtest 'a minute of load and reloads' => sub {
    my ($seconds, $rate, $lifetime) = (60, 100, 5);

    my $bank = bank();
    $bank->answer(expires_in => $lifetime);

    # at debug this would be a large log
    my $nginx = gateway($bank, workers => 4, log_level => 'info');

    my $start = now();
    my $load = steady($nginx->port, rate => $rate, seconds => $seconds);

    for (my $at = 7; $at < $seconds; $at += 7) {
        pause_until($start + $at);
        $nginx->reload;
    }

    my $result = $load->result;
    my $passed = now() - $start;

    is_deeply($result->{status}, { 200 => $rate * $seconds }, 'only 200')
        or diag explain $result->{failures};
    is_deeply($result->{errors}, {}, 'no error');

    is_deeply($bank->api_stats, { valid => $rate * $seconds, newborn => 0,
                                  expired => 0, unknown => 0, missing => 0 },
              'the API saw good tokens only');

    fetches_are_apart($bank, $lifetime);
    cmp_ok($bank->count, '<=', 2 + $passed / (0.45 * $lifetime),
           'one token request a lifetime');
    cmp_ok($bank->count, '>=', $passed / $lifetime, 'and no fewer');

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
};


subtest 'the old token serves while a refresh hangs' => sub {
    my $bank = bank();
    $bank->queue({ expires_in => 8 }, { hold => 1 });

    my $nginx = gateway($bank, workers => 2);

    my $before = get($nginx->port, '/');
    is($before->{status}, 200, 'the first token');

    ok($bank->wait_requests(2), 'a refresh');

    my $during = get($nginx->port, '/');
    is($during->{body}, $before->{body}, 'the same token');
    cmp_ok($during->{time}, '<', timeout(1), 'at once');

    is($bank->release, 1, 'the refresh ends');
    ok(wait_until { get($nginx->port, '/')->{body} ne $before->{body} },
       'the new token');
    is($bank->api_stats->{expired}, 0, 'nothing has expired');
    is($bank->count, 2, 'token requests');

    $nginx->stop;
    $nginx->clean_log;
};


subtest 'the old token serves while refreshes fail' => sub {
    my $bank = bank();
    $bank->queue({ expires_in => 12 }, { status => 500, body => '' },
                 { close => 'reset' }, {});

    my $nginx = gateway($bank, workers => 2);

    my $before = get($nginx->port, '/')->{body};

    for my $n (2, 3) {
        ok($bank->wait_requests($n), 'a refresh that fails');
        is(get($nginx->port, '/')->{body}, $before, 'the same token');
    }

    ok($bank->wait_requests(4), 'and one that does not');
    ok(wait_until { get($nginx->port, '/')->{body} ne $before }, 'new token');

    my @times = map { $_->{time} } $bank->requests;
    cmp_ok($times[2] - $times[1], '>=', 0.5, 'one second between them');
    cmp_ok($times[3] - $times[2], '>=', 1, 'then two');

    my $stats = $bank->api_stats;
    is($stats->{expired} + $stats->{unknown} + $stats->{missing}, 0,
       'the API saw good tokens only');

    $nginx->stop;
    $nginx->clean_log;
};


subtest 'an expired token is never sent' => sub {
    my $bank = bank();
    $bank->queue({ expires_in => 2 });
    $bank->answer(hold => 1);

    my $nginx = gateway($bank);

    my $load = steady($nginx->port, rate => 50, seconds => 4);

    ok($bank->wait_requests(2), 'a refresh that hangs');
    ok(wait_until { now() > ($bank->tokens)[0]{expires} + 1 }, 'expiry');
    cmp_ok($bank->release, '>=', 1, 'an answer');

    is_deeply($load->result->{status}, { 200 => 200 },
              'who came too late was held');
    is($bank->api_stats->{expired}, 0, 'nothing has expired');

    $nginx->stop;
    $nginx->clean_log;
};


done_testing;
