# The clock is set while tokens live: an hour on, an hour back, in a fetch, in
# backoff, under requests that are held; and it is wrong all the time.  A
# machine that was suspended is one whose wall clock was set on.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use Bog::Bank;
use Bog::Client qw(get parallel steady header);
use Bog::Clock;
use Bog::Nginx;
use Bog::Util qw(now timeout wait_until);

# ASan's allocator asks for the time while it holds its lock, and libfaketime,
# asked for the first time, allocates: nginx would never start

plan skip_all => 'no libfaketime under AddressSanitizer' if $ENV{BOG_ASAN};

unless (Bog::Clock->library) {
    my $reason = 'libfaketime is not installed: util/deps.sh libfaketime';

    die "$reason\n" if ($ENV{CI} // '') eq 'true';
    plan skip_all => $reason;
}

my $hour = 3600;


sub bank { Bog::Bank->new(credentials => { 8282 => 's3cret' }) }


# %opt: directives, and what Bog::Nginx takes.

sub gateway {
    my ($bank, $clock, %opt) = @_;

    my $directives = delete $opt{directives} // '';

    my $nginx = Bog::Nginx->new(
        status => 1, env => $clock->env, %opt,
        secret => { main => "s3cret\n" }, conf => <<"END");
        bog_client_id           8282;
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      ${\ $bank->url };
        $directives

        server {
            listen 127.0.0.1:%%PORT%%;

            location / {
                proxy_pass http://127.0.0.1:${\ $bank->api_port };
                proxy_set_header Authorization "Bearer \$bog_bearer_token";
            }

            location = /state {
                return 200
                    "\$bog_token_state \$bog_token_error/\$bog_token_expires";
            }

            location = /status {
                bog_status;
            }

            location = /time {
                return 200 \$msec;
            }
        }
END
    return $nginx->start;
}


sub state { (split m{/}, get($_[0]->port, '/state')->{body})[0] }


# Whole seconds are cut, and the answer took its time.

sub expires_in {
    my ($nginx, $seconds, $name) = @_;

    my ($left) = get($nginx->port, '/state')->{body} =~ m{/([0-9]+)\z};

    ok(defined $left && $left <= $seconds && $left >= $seconds - timeout(2),
       $name) or diag 'seconds left: ', $left // 'none', " of $seconds";
}


sub first_token {
    my ($bank, $nginx) = @_;

    my $answer = get($nginx->port, '/');
    is($answer->{status}, 200, 'the first token');

    return $answer->{body};
}


sub only {
    my ($status, $answers, $name) = @_;

    is(scalar(grep { ($_->{status} // 0) == $status } @$answers),
       scalar @$answers, $name)
        or diag explain [map { $_->{status} // $_->{error} } @$answers];
}


# Nobody may see a token that has ended by either clock, and the API has
# been told of its end where it could not know.

sub good_tokens_only {
    my $bank = shift;

    my $stats = $bank->api_stats;
    is($stats->{expired} + $stats->{unknown} + $stats->{missing}, 0,
       'the API saw good tokens only');
}


sub end {
    my $nginx = shift;

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
}


subtest 'the clock of nginx can be set' => sub {
    my $clock = Bog::Clock->new;
    my $nginx = gateway(bank(), $clock, workers => 2);

    my $ahead = sub { get($nginx->port, '/time')->{body} - time };

    for my $offset (0, $hour, -$hour, 0) {
        $clock->set($offset);
        ok(abs($ahead->() - $offset) <= timeout(2), "by $offset seconds");
    }

    end($nginx);
};


for my $seconds ($hour, 86400 * 365) {
    subtest "$seconds seconds on, and the token is gone" => sub {
        my ($bank, $clock) = (bank(), Bog::Clock->new);
        $bank->queue({}, { hold => 1 });

        my $nginx = gateway($bank, $clock, workers => 2);
        my $before = first_token($bank, $nginx);

        # for the bank too this is how much time has gone by
        ok($bank->revoke(($bank->requests)[0]{token}), 'it ends');
        $clock->set($seconds);

        is(state($nginx), 'missing ', 'it is not given any more');

        my @answers = parallel($nginx->port, 20, on_sent => sub {
            ok($bank->wait_requests(2), 'a token request');
            ok($nginx->wait_active(20), 'everybody waits for it');
            is($bank->release, 1, 'it is answered');
        });

        only(200, \@answers, 'so are they');
        is(scalar(grep { $_->{body} eq $before } @answers), 0,
           'with another token');
        expires_in($nginx, 300, 'which lives as long as any');

        only(200, [parallel($nginx->port, 20)], 'it serves');
        is($bank->count, 2, 'two token requests');
        good_tokens_only($bank);

        end($nginx);
    };
}


# The first gap between two fetches is the one in which the clock is set.

for my $offset (-$hour, -86400 * 365) {
    subtest "$offset seconds, and the token ends when it would have" => sub {
        my ($bank, $clock, $lifetime) = (bank(), Bog::Clock->new, 5);
        $bank->answer(expires_in => $lifetime);

        my $nginx = gateway($bank, $clock, workers => 2);
        my $before = first_token($bank, $nginx);

        $clock->set($offset);
        is(get($nginx->port, '/')->{body}, $before, 'it lives on');

        my $load = steady($nginx->port, rate => 50, seconds => 8);
        is_deeply($load->result->{status}, { 200 => 400 }, 'only 200');

        my @requests = $bank->requests;

        for my $n (1, 2) {
            my $gap = $requests[$n]{time} - $requests[$n - 1]{answered};

            cmp_ok($gap, '>=', 0.45 * $lifetime - 0.05,
                   "refresh $n: not too soon");
            cmp_ok($gap, '<=', 0.5 * $lifetime + timeout(0.5),
                   "refresh $n: not too late");
        }

        good_tokens_only($bank);
        end($nginx);
    };
}


subtest 'back, where nothing refreshes it' => sub {
    my ($bank, $clock, $lifetime) = (bank(), Bog::Clock->new, 3);
    $bank->queue({ expires_in => $lifetime });
    $bank->answer(hold => 1);

    my $nginx = gateway($bank, $clock);
    first_token($bank, $nginx);
    $clock->set(-$hour);

    my $load = steady($nginx->port, rate => 50, seconds => 5);

    ok($bank->wait_requests(2), 'a refresh that hangs');
    ok(wait_until { now() > ($bank->tokens)[0]{expires} + 1 }, 'expiry');
    is(state($nginx), 'missing ', 'it has ended');
    is($bank->release, 1, 'an answer');

    is_deeply($load->result->{status}, { 200 => 250 },
              'who came too late was held');
    is($bank->count, 2, 'two token requests');
    good_tokens_only($bank);

    end($nginx);
};


subtest 'on and back again' => sub {
    my ($bank, $clock) = (bank(), Bog::Clock->new);
    my $nginx = gateway($bank, $clock, workers => 2);

    my $first = first_token($bank, $nginx);

    for my $offset ($hour, 0, -$hour, 0) {
        $clock->set($offset);
        is(state($nginx), $offset > 0 ? 'missing ' : 'valid ',
           "the token, at $offset seconds");
    }

    is(get($nginx->port, '/')->{body}, $first, 'the first one serves');
    is($bank->count, 1, 'nobody asked for another one');

    $clock->set($hour);
    my $second = get($nginx->port, '/')->{body};
    isnt($second, $first, 'a second one');

    $clock->set(0);
    is(get($nginx->port, '/')->{body}, $second, 'which serves after that');
    expires_in($nginx, 300, 'not an hour longer');

    is($bank->count, 2, 'two token requests');
    good_tokens_only($bank);

    end($nginx);
};


# Requests of the last minute are counted by the clock that is never set.

subtest 'requests refused in the last minute' => sub {
    my ($bank, $clock) = (bank(), Bog::Clock->new(monotonic => 1));
    $bank->answer(status => 503, headers => [['Retry-After' => 300]],
                  body => '');

    my $nginx = gateway($bank, $clock, workers => 2,
                        directives => 'bog_wait_timeout 0;');

    my $refused = sub {
        get($nginx->port, '/status')->{body} =~ /"refused_last_minute": (\d+)/;
        return $1;
    };
    my $refuse = sub { get($nginx->port, '/')->{status} };

    ok($bank->wait_requests(1), 'a fetch');
    is($refuse->(), 503, 'refused') for 1 .. 3;
    is($refused->(), 3, 'three');

    $clock->set(30);
    is($refused->(), 3, 'half a minute later');
    is($refuse->(), 503, 'refused') for 1, 2;
    is($refused->(), 5, 'five');

    $clock->set(75);
    is($refused->(), 2, 'the first ones are older than a minute');

    # as many seconds as there are counters: one that is in use begins anew
    $clock->set(90);
    is($refuse->(), 503, 'refused');
    is($refused->(), 1, 'a minute after the others');

    $clock->set(200);
    is($refused->(), 0, 'none');

    end($nginx);
};


# Its wall clock, an hour behind, would let it live an hour too long.

subtest 'a token of the time ahead' => sub {
    my ($bank, $clock, $lifetime) = (bank(), Bog::Clock->new(offset => $hour),
                                   4);
    $bank->queue({ expires_in => $lifetime });
    $bank->answer(hold => 1);

    my $nginx = gateway($bank, $clock);
    first_token($bank, $nginx);
    $clock->set(0);

    ok($bank->wait_requests(2), 'a refresh that hangs');
    ok(wait_until(sub { state($nginx) eq 'missing ' }, 10), 'it ends');
    cmp_ok(now(), '<', ($bank->tokens)[0]{expires}, 'in time');

    is($bank->count, 2, 'two token requests');
    is($nginx->stop('TERM'), 0, 'stops');
    $nginx->clean_log;
};


subtest 'a suspended machine' => sub {
    my ($bank, $clock) = (bank(), Bog::Clock->new);
    my $nginx = gateway($bank, $clock, workers => 2);

    my $before = first_token($bank, $nginx);
    expires_in($nginx, 300, 'five minutes');

    $clock->set(200);
    expires_in($nginx, 100, 'after it has slept through 200 seconds');
    is(get($nginx->port, '/')->{body}, $before, 'the token is still good');

    # its last five seconds
    $clock->set(297);
    is(state($nginx), 'missing ', 'at its end it is not given');
    isnt(get($nginx->port, '/')->{body}, $before, 'a new one is there');

    expires_in($nginx, 300, 'for five minutes');
    is($bank->count, 2, 'two token requests');
    good_tokens_only($bank);

    end($nginx);
};


subtest 'a machine that slept through most of a lifetime' => sub {
    my ($bank, $clock) = (bank(), Bog::Clock->new);
    $bank->queue({}, { hold => 1 });

    my $nginx = gateway($bank, $clock, workers => 2);
    my $before = first_token($bank, $nginx);

    $clock->set(250);
    is(state($nginx), 'refreshing ', 'a refresh is due');
    is(get($nginx->port, '/')->{body}, $before, 'the old token serves');
    ok($bank->wait_requests(2), 'a refresh is under way, nobody is held');
    is(get($nginx->port, '/')->{body}, $before, 'the old token serves on');
    is($bank->release, 1, 'it is answered');

    ok(wait_until { get($nginx->port, '/')->{body} ne $before },
       'a new token');
    # it is given out when it is three seconds old
    expires_in($nginx, 297, 'for five minutes');
    is(state($nginx), 'valid ', 'nothing is due');
    is($bank->count, 2, 'two token requests');
    good_tokens_only($bank);

    end($nginx);
};


# All timers are due at once: those of requests, of the fetch, of the source.

subtest 'the monotonic clock jumps' => sub {
    my ($bank, $clock) = (bank(), Bog::Clock->new(monotonic => 1));
    my $nginx = gateway($bank, $clock);

    my $before = first_token($bank, $nginx);
    ok($bank->revoke(($bank->requests)[0]{token}), 'it ends');
    $clock->set($hour);

    isnt(get($nginx->port, '/')->{body}, $before, 'a new token');
    expires_in($nginx, 300, 'for five minutes');
    is($bank->count, 2, 'two token requests');
    good_tokens_only($bank);

    end($nginx);
};


subtest 'the monotonic clock jumps while requests are held' => sub {
    my ($bank, $clock) = (bank(), Bog::Clock->new(monotonic => 1));
    $bank->queue({ hold => 1 });

    my $nginx = gateway($bank, $clock);

    my @answers = parallel($nginx->port, 20, on_sent => sub {
        ok($bank->wait_requests(1), 'a token request');
        ok($nginx->wait_active(20), 'everybody waits for it');
        $clock->set($hour);
    });

    only(503, \@answers, 'their time is over');
    like(state($nginx), qr/^\S+ timeout\z/, 'so is that of the fetch');
    is(get($nginx->port, '/')->{status}, 200, 'the next one brings a token');
    is($bank->count, 2, 'two token requests');
    good_tokens_only($bank);

    end($nginx);
};


# Nothing tells a clock that was set from an hour that has passed, which the
# token cannot have survived.

subtest 'an hour on in a fetch' => sub {
    my ($bank, $clock) = (bank(), Bog::Clock->new);
    $bank->queue({ hold => 1 }, {});

    my $nginx = gateway($bank, $clock, workers => 2);
    ok($bank->wait_requests(1), 'a token request');

    $clock->set($hour);
    is($bank->release, 1, 'it is answered');
    ok($nginx->wait_log(qr/token request failed/), 'too late');

    is(get($nginx->port, '/')->{status}, 200, 'a token');
    expires_in($nginx, 300, 'that lives as long as any');

    my @requests = $bank->requests;
    is(scalar @requests, 2, 'two token requests');
    cmp_ok($requests[1]{time} - $requests[0]{answered}, '<=', timeout(2),
           'the second one a second later');
    is(get($nginx->port, '/')->{body},
       qq({"authorization":"Bearer $requests[1]{token}"}), 'its token serves');

    end($nginx);
};


for my $case ([60, 240], [-60, 300], [-$hour, 300]) {
    my ($offset, $left) = @$case;

    subtest "$offset seconds in a fetch" => sub {
        my ($bank, $clock) = (bank(), Bog::Clock->new);
        $bank->queue({ hold => 1 });

        my $nginx = gateway($bank, $clock, workers => 2);

        my @answers = parallel($nginx->port, 20, on_sent => sub {
            ok($bank->wait_requests(1), 'a token request');
            ok($nginx->wait_active(20), 'everybody waits for it');
            $clock->set($offset);
            is($bank->release, 1, 'it is answered');
        });

        only(200, \@answers, 'so are they');
        expires_in($nginx, $left, 'the token has its time, or less');
        is($bank->count, 1, 'one token request');

        end($nginx);
    };
}


for my $offset ($hour, -$hour) {
    subtest "$offset seconds in backoff" => sub {
        my ($bank, $clock) = (bank(), Bog::Clock->new);
        $bank->queue({ status => 500, body => '' },
                     { status => 500, body => '' });

        my $nginx = gateway($bank, $clock, workers => 2);

        # held through failures, or refused: either way the bank is asked
        # no sooner and no later
        ok($bank->wait_requests(1), 'a failure');
        $clock->set($offset);
        ok($bank->wait_requests(2), 'another one');
        $clock->set(0);
        ok($bank->wait_requests(3), 'and a token');

        my @requests = $bank->requests;

        for my $n (1, 2) {
            my $gap = $requests[$n]{time} - $requests[$n - 1]{answered};

            cmp_ok($gap, '>=', $n - 0.05, "$n s of waiting");
            cmp_ok($gap, '<=', 1.25 * $n + timeout(1), 'and not much more');
        }

        is(get($nginx->port, '/')->{status}, 200, 'served');
        is($bank->count, 3, 'three token requests');
        end($nginx);
    };


    subtest "$offset seconds while requests are held" => sub {
        my ($bank, $clock) = (bank(), Bog::Clock->new);
        $bank->queue({ hold => 1 });

        my $nginx = gateway($bank, $clock, workers => 2, directives =>
            'bog_wait_timeout 2s; bog_read_timeout 60s;');

        my @answers = parallel($nginx->port, 20, on_sent => sub {
            ok($bank->wait_requests(1), 'a token request');
            ok($nginx->wait_active(20), 'everybody waits for it');
            $clock->set($offset);
        });

        only(503, \@answers, 'all are refused');

        my ($soonest, $latest) = (sort { $a <=> $b }
                                  map { $_->{time} } @answers)[0, -1];

        cmp_ok($soonest, '>=', 1.95, 'after two seconds');
        cmp_ok($latest, '<=', 2 + timeout(1.5), 'and not much more');
        is($bank->count, 1, 'one token request');

        is($nginx->stop('TERM'), 0, 'stops');
        $nginx->clean_log;
    };
}


subtest 'an hour on and back while a refresh hangs' => sub {
    my ($bank, $clock) = (bank(), Bog::Clock->new);
    $bank->queue({ expires_in => 60 }, { hold => 1 });

    my $nginx = gateway($bank, $clock, directives => 'bog_read_timeout 60s;');
    my $before = first_token($bank, $nginx);

    # half of its lifetime is left when a refresh is due
    $clock->set($hour);

    parallel($nginx->port, 5, on_sent => sub {
        ok($bank->wait_requests(2), 'a token request');
        ok($nginx->wait_active(5), 'everybody waits for it');

        $clock->set(0);
        is(get($nginx->port, '/')->{body}, $before, 'the old token serves');
        is($bank->release, 1, 'a new one comes');
    });

    ok(wait_until { get($nginx->port, '/')->{body} ne $before },
       'and replaces it');
    is($bank->count, 2, 'two token requests');
    good_tokens_only($bank);

    end($nginx);
};


# What the bank says counts by the bank's clock, whatever ours says.

for my $offset (600, -600) {
    my %answers = (
        'seconds' => sub { { expires_in => 120 } },
        'epoch seconds' => sub { { expires_in => time + 120 } },
        'epoch milliseconds' => sub { { expires_in => (time + 120) * 1000 } },
        'exp of a JWT' => sub {
            { expires_in => undef, lifetime => 120,
              jwt => { iat => time, exp => time + 120 } };
        },
        'exp of a JWT, no Date' => sub {
            { expires_in => undef, lifetime => 120, date => undef,
              jwt => { iat => time, exp => time + 120 } };
        },
        'epoch milliseconds, iat, no Date' => sub {
            { expires_in => (time + 120) * 1000, date => undef,
              jwt => { iat => time } };
        },
        'seconds, exp' => sub {
            { expires_in => 120, jwt => { exp => time + 500 } };
        },
    );

    subtest "a clock that is $offset seconds off" => sub {
        for my $name (sort keys %answers) {
            my ($bank, $clock) = (bank(), Bog::Clock->new(offset => $offset));
            $bank->answer(%{ $answers{$name}->() });

            my $nginx = gateway($bank, $clock);

            first_token($bank, $nginx);
            expires_in($nginx, 120, $name);
            is($bank->count, 1, 'one token request');
            good_tokens_only($bank);

            end($nginx);
        }
    };


    subtest "a bank whose clock is $offset seconds off" => sub {
        my ($bank, $clock) = (bank(), Bog::Clock->new);
        my $time = time + $offset;

        $bank->answer(date => $offset, lifetime => 120,
                      expires_in => ($time + 120) * 1000,
                      jwt => { exp => $time + 120 });

        my $nginx = gateway($bank, $clock);

        first_token($bank, $nginx);
        expires_in($nginx, 120, 'the lifetime');
        is($bank->count, 1, 'one token request');

        end($nginx);
    };
}


done_testing;
