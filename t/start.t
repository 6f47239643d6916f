# A cold start: everybody is held, one fetch answers all.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use Bog::Bank;
use Bog::Client qw(get parallel h2load);
use Bog::Nginx;
use Bog::Util qw(free_port now pass_time timeout);

my $clients = 500;


# An nginx with four workers whose only token request is held by the bank.

sub cold {
    my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret' });
    $bank->answer(hold => 1);

    my $nginx = Bog::Nginx->new(workers => 4, status => 1,
        secret => { main => "s3cret\n" }, conf => <<"END");
        bog_client_id           8282;
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      ${\ $bank->url };
        bog_wait_timeout        120s;
        bog_read_timeout        120s;

        server {
            listen 127.0.0.1:%%PORT%%;
            listen 127.0.0.1:%%PORT_1%% http2;

            location / {
                proxy_pass http://127.0.0.1:${\ $bank->api_port };
                proxy_set_header Authorization "Bearer \$bog_bearer_token";
            }
        }
END
    $nginx->start;

    return ($bank, $nginx);
}


sub all_are_held {
    my ($bank, $nginx, $n) = @_;

    ok($bank->wait_requests(1), 'the token is asked for');
    ok($nginx->wait_active($n, 60), "$n requests are held");
    is($bank->counts->{api}, 0, 'none has reached the API');
}


sub statuses {
    my %count;

    $count{$_->{status} // $_->{error}}++ for @_;

    return \%count;
}


# The bank would hold a second token request for ever: a request that is
# answered did not need one.

sub one_fetch {
    my ($bank, $nginx) = @_;

    is(get($nginx->port, '/')->{status}, 200, 'a later request');
    is($bank->count, 1, 'one token request');
    is($bank->held, 0, 'and no other is under way');

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
}


subtest 'HTTP/1.1' => sub {
    my ($bank, $nginx) = cold();

    my @answers = parallel($nginx->port, $clients, timeout => 120,
        on_sent => sub {
            all_are_held($bank, $nginx, $clients);
            is($bank->release, 1, 'the token comes');
        },
    );

    my ($token) = map { $_->{token} } $bank->tokens;

    is_deeply(statuses(@answers), { 200 => $clients }, 'all answered');
    is(scalar(grep { $_->{body} eq qq({"authorization":"Bearer $token"}) }
              @answers), $clients, 'with the right header');
    is($bank->api_stats->{valid}, $clients, 'all seen by the API');

    one_fetch($bank, $nginx);
};


subtest 'HTTP/2' => sub {
    plan skip_all => 'no h2load' if system 'which h2load >/dev/null';

    my ($bank, $nginx) = cold();

    my $result = h2load($nginx->port(1), n => $clients, c => 10, m => 50,
        on_start => sub {
            all_are_held($bank, $nginx, $clients);
            is($bank->release, 1, 'the token comes');
        },
    );

    is($result->{'2xx'}, $clients, 'all answered') or diag $result->{output};
    is($bank->api_stats->{valid}, $clients, 'all seen by the API');

    one_fetch($bank, $nginx);
};


subtest 'half of the clients leave' => sub {
    my ($bank, $nginx) = cold();

    my $half = $clients / 2;

    my @answers = parallel($nginx->port, $clients, timeout => 120,
        close_after => 0.5,
        on_sent   => sub { all_are_held($bank, $nginx, $clients) },
        on_closed => sub {
            ok($nginx->wait_active($half), 'nginx lets go of them');
            is($bank->release, 1, 'the token comes');
        },
    );

    is_deeply(statuses(@answers), { 200 => $half, left => $half },
              'the others are answered');
    is($bank->api_stats->{valid}, $half, 'only they reach the API');

    one_fetch($bank, $nginx);
};


subtest 'all clients leave' => sub {
    my ($bank, $nginx) = cold();

    parallel($nginx->port, 20, close_after => 1,
        on_sent   => sub { all_are_held($bank, $nginx, 20) },
        on_closed => sub { ok($nginx->wait_active(0), 'nobody is left') },
    );

    is($bank->counts->{gone}, 0, 'the fetch needs no client');
    is($bank->release, 1, 'the token comes');

    one_fetch($bank, $nginx);
};


subtest 'a port that was closed for 20 s' => sub {
    my $port = free_port();
    my $nginx = Bog::Nginx->new(workers => 2, log_level => 'info',
        secret => { main => 's3cret' }, conf => <<"END")->start;
        bog_client_id           8282;
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      http://127.0.0.1:$port$Bog::Bank::PATH;

        server {
            listen 127.0.0.1:%%PORT%%;
            location / {
                proxy_pass http://127.0.0.1:1;
                proxy_set_header Authorization "Bearer \$bog_bearer_token";
            }
        }
END
    pass_time(20);

    my $bank = Bog::Bank->new(at => { token => ['127.0.0.1', $port] },
                              verify => 0);
    my $open = now();

    ok($bank->wait_requests(1), 'is tried again');
    cmp_ok(($bank->requests)[0]{time} - $open, '<', 10 + timeout(0.5),
           'within 10 s');

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log(undef, except => qr/connect\(\) failed/);
};


done_testing;
