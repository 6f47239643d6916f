package Bog::Bench::Start;

# A cold start: how long after the token's arrival the held requests are on
# their way, and what one that is held costs in memory.
#
# A token endpoint tells when it wrote its answer; a listener in the place of
# the API, in a process of its own, tells when each request's connection came.
# Between the two are the answer's way, its parsing, the publication, the waking
# of workers, and a connect() each. So what is measured is an upper bound.

use strict;
use warnings;

use Exporter 'import';
use IO::Socket::INET;
use List::Util 'max';

use Bog::Bench::Process 'memory';
use Bog::Child;
use Bog::Nginx;
use Bog::Util qw(now wait_until);

our @EXPORT_OK = qw(wake_up crowd held_memory);

my $workers = 8;


# A gateway whose token request waits for its answer, in front of the clock.

sub _cold {
    my ($endpoint, $api) = map {
        IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 16384,
                              ReuseAddr => 1) or die "listen: $@\n"
    } 1 .. 2;

    my $bank = _bank($endpoint);

    my $nginx = Bog::Nginx->new(workers => $workers, status => 1,
        log_level => 'error', connections => 16384,
        secret => { main => "s3cret\n" }, conf => <<"END");
        access_log              off;
        bog_client_id           8282;
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      http://127.0.0.1:${\ $endpoint->sockport };
        bog_wait_timeout        300s;
        bog_read_timeout        300s;

        server {
            listen 127.0.0.1:%%PORT%% reuseport backlog=16384;

            location / {
                proxy_pass http://127.0.0.1:${\ $api->sockport };
                proxy_set_header Authorization "Bearer \$bog_bearer_token";
            }
        }
END
    $nginx->start;
    $bank->call('wait');

    return ($bank, $nginx, _clock($api));
}


# "wait" waits for a token request; "release" answers it, and returns when that
# was, and how many requests there were.

sub _bank {
    my $listener = shift;

    my $body = '{"access_token":"' . 'x' x 1300 . '","expires_in":300,'
               . '"token_type":"Bearer"}';
    my $answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                 . 'Content-Length: ' . length($body) . "\r\n"
                 . "Connection: close\r\n\r\n$body";

    return Bog::Child->new(sub {
        my $loop = shift;

        my (@clients, $waiting);

        $loop->on_read($listener, sub {
            push @clients, scalar $listener->accept;
            sysread $clients[-1], my $request, 65536;

            $waiting->(1) if $waiting;
            undef $waiting;
        });

        return {
            wait    => sub { @clients ? $_[1]->(1) : ($waiting = $_[1]) },
            release => sub {
                my $time = now();
                syswrite $_, $answer for @clients;
                close $_ for @clients;
                $_[1]->([$time, scalar @clients]);
            },
        };
    });
}


# The times at which connections come; "take" waits for so many, answers them
# and returns them.

sub _clock {
    my $listener = shift;

    return Bog::Child->new(sub {
        my $loop = shift;

        my (@times, @open, $reply, $wanted);
        $listener->blocking(0);

        my $done = sub {
            return if !$reply || @times < $wanted;

            for my $client (splice @open) {
                $client->blocking(1);
                sysread $client, my $request, 65536;
                print {$client} "HTTP/1.1 204 No Content\r\n"
                                . "Connection: close\r\n\r\n";
                close $client;
            }

            $reply->([splice @times]);
            undef $reply;
        };

        $loop->on_read($listener, sub {
            while (my $client = $listener->accept) {
                push @times, now();
                push @open, $client;
            }
            $done->();
        });

        return {
            take => sub {
                ($wanted, $reply) = ($_[0][0], $_[1]);
                $done->();
            },
        };
    });
}


sub _client {
    my $nginx = shift;

    my $client = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $nginx->port) or die "connect: $@\n";

    return $client;
}


sub _send {
    print { $_ } "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        and $_->flush for @_;
}


# One held request in each worker, so often: milliseconds of all of them, and of
# those that follow the first one, from that one on.

sub wake_up {
    my $rounds = shift;

    my (@all, @after);

    for (1 .. $rounds) {
        my ($first, @others) = sort { $a <=> $b } _wake_up_once();

        push @all, $first, @others;
        push @after, map { $_ - $first } @others;
    }

    return (\@all, \@after);
}


sub _wake_up_once {
    my ($bank, $nginx, $clock) = _cold();

    my %of;

    while (keys %of < $workers) {
        my $client = _client($nginx);
        my $worker = wait_until { $nginx->worker_of_client($client) };

        $of{$worker} //= $client;
    }

    _send(values %of);
    $nginx->wait_active($workers) or die "not all are held\n";

    my ($answered) = @{ $bank->call('release') };
    my $times = $clock->call(take => $workers);

    $nginx->stop('TERM');

    return map { 1000 * ($_ - $answered) } @$times;
}


# So many at once: the token requests that they cause, and the time until the
# last of them is on its way.

sub crowd {
    my $n = shift;

    my ($bank, $nginx, $clock) = _cold();

    my @clients = map { _client($nginx) } 1 .. $n;

    _send(@clients);
    $nginx->wait_active($n, 120) or die "not all are held\n";

    my ($answered, $requests) = @{ $bank->call('release') };
    my $times = $clock->call(take => $n);

    $nginx->stop('TERM');

    return ($requests, 1000 * (max(@$times) - $answered));
}


# Bytes of memory of all workers that one held request takes, out of so many.

sub held_memory {
    my $n = shift;

    my ($bank, $nginx) = _cold();

    my $before = memory($nginx);
    my @clients = map { _client($nginx) } 1 .. $n;

    _send(@clients);
    $nginx->wait_active($n, 300) or die "not all are held\n";

    my $bytes = (memory($nginx) - $before) / $n;

    $nginx->stop('TERM');

    return $bytes;
}


1;
