# The endpoint's name: nginx starts without it and follows it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use File::Temp;
use IO::Socket::INET;
use Test::More;

use Bog::Bank;
use Bog::Client qw(get header);
use Bog::DNS;
use Bog::Nginx;
use Bog::Util qw(free_port timeout wait_until);

my $name = 'oauth2.test';


sub bank {
    return Bog::Bank->new(credentials => { 8282 => 's3cret' }, @_);
}


sub gateway {
    my ($bank, $dns, $directives, $dead) = @_;

    $directives //= '';
    $dead //= '';

    return Bog::Nginx->new(
        workers => 2, secret => { main => "s3cret\n" }, conf => <<"END");
        resolver $dead 127.0.0.1:${\ $dns->port } ipv6=off;
        resolver_timeout 2s;

        bog_client_id           8282;
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      http://$name:${\ $bank->port }$Bog::Bank::PATH;
        $directives

        server {
            listen 127.0.0.1:%%PORT%%;

            location / {
                proxy_pass http://127.0.0.1:${\ $bank->api_port };
                proxy_set_header Authorization "Bearer \$bog_bearer_token";
            }
        }
END
}


for my $trouble (qw(NXDOMAIN SERVFAIL)) {
    subtest $trouble => sub {
        my ($bank, $dns) = (bank(), Bog::DNS->new);
        $dns->answer($name => $trouble);

        my $nginx = gateway($bank, $dns);

        is(($nginx->test)[0], 0, 'nginx -t') or diag(($nginx->test)[1]);
        $nginx->start;

        ok($dns->wait_queries(1), 'the name is asked for');

        my $answer = get($nginx->port, '/');
        is($answer->{status}, 503, 'no token');
        like(header($answer, 'Retry-After'), qr/^[1-9][0-9]*\z/,
             'Retry-After');
        is($bank->counts->{api}, 0, 'the API saw nothing');

        $dns->answer($name => ['127.0.0.1']);
        ok($bank->wait_requests(1, 60), 'the token comes when the name does');
        $bank->wait_count(answered => 1);

        is(get($nginx->port, '/')->{status}, 200, 'with a token');
        is($bank->count, 1, 'one token request');

        $nginx->ends;
    };
}


subtest 'silence' => sub {
    my ($bank, $dns) = (bank(), Bog::DNS->new);
    $dns->answer($name => 'SILENT');

    my $nginx = gateway($bank, $dns, 'bog_wait_timeout 1s;');

    is(($nginx->test)[0], 0, 'nginx -t');
    $nginx->start;

    my $answer = get($nginx->port, '/');
    is($answer->{status}, 503, 'no token');
    like(header($answer, 'Retry-After'), qr/^[1-9][0-9]*\z/, 'Retry-After');
    cmp_ok($answer->{time}, '<=', 1 + timeout(1), 'no later than it may');

    $dns->answer($name => ['127.0.0.1']);
    ok($bank->wait_requests(1, 60), 'the token comes when the name does');
    ok(wait_until { get($nginx->port, '/')->{status} == 200 }, 'served');
    is($bank->count, 1, 'one token request');

    $nginx->ends;
};


subtest 'a change of address' => sub {
    my ($old, $dns) = (bank(), Bog::DNS->new(ttl => 1));
    my $new = bank(at => { token => ['127.0.0.2', $old->port] });

    $_->answer(expires_in => 4) for $old, $new;
    $dns->answer($name => ['127.0.0.1']);

    my $nginx = gateway($old, $dns);
    $nginx->start;

    ok($old->wait_requests(1), 'the old address');
    $old->wait_count(answered => 1);
    is(get($nginx->port, '/')->{status}, 200, 'served');

    $dns->answer($name => ['127.0.0.2']);
    ok($new->wait_requests(1), 'the new address');
    cmp_ok($old->count, '<=', 2, 'within a lifetime');

    # the API of the old bank does not know the new one's tokens
    ok($new->wait_requests(2), 'and again');
    my $after = $old->count;
    ok($new->wait_requests(3), 'and again');
    is($old->count, $after, 'the old one is left alone');

    $nginx->ends;
};


subtest 'an address that is down' => sub {
    my ($bank, $dns) = (bank(), Bog::DNS->new);
    $dns->answer($name => ['127.0.0.3', '127.0.0.1']);

    my $nginx = gateway($bank, $dns);
    $nginx->start;

    ok($bank->wait_requests(1), 'the other one is tried');
    is(get($nginx->port, '/')->{status}, 200, 'served');

    $nginx->ends;
};


# nginx begins with any of the addresses: of so many one was always wrong.

subtest 'from an address of one family' => sub {
    my ($bank, $dns) = (bank(), Bog::DNS->new);
    $dns->answer($name => ['::1', '127.0.0.1']);

    my $sources = join '', map {
        "location /$_/ { bog_token_param n $_;
                         proxy_pass http://127.0.0.1:${\ $bank->api_port }; }"
    } 1 .. 20;

    my $nginx = gateway($bank, $dns, <<"END");
        bog_bind 127.0.0.1;

        server {
            listen 127.0.0.1:%%PORT_1%%;
            resolver 127.0.0.1:${\ $dns->port };
            $sources
        }
END
    $nginx->start;

    ok($bank->wait_count(answered => 21), 'all have their tokens');
    is($bank->count, 21, 'at once');
    unlike($nginx->log, qr/token request failed/, 'nothing fails');

    $nginx->ends;
};


subtest 'the name server falls silent' => sub {
    my ($bank, $dns) = (bank(), Bog::DNS->new(ttl => 1));
    $bank->answer(expires_in => 4);
    $dns->answer($name => ['127.0.0.1']);

    my $nginx = gateway($bank, $dns)->start;
    ok($bank->wait_requests(1), 'a token');

    $dns->answer($name => 'SILENT');
    my ($lost, $seen) = (0, $bank->count);

    ok(wait_until(sub {
        $lost++ if get($nginx->port, '/')->{status} != 200;
        $bank->count >= $seen + 4;
    }, 60), 'tokens all the while');

    is($lost, 0, 'no request is lost');
    unlike($nginx->log, qr/token request failed/, 'the last address serves');

    $nginx->ends;
};


subtest 'one of two name servers does not answer' => sub {
    my ($bank, $dns, $dead) = (bank(), Bog::DNS->new, Bog::DNS->new);
    $dns->answer($name => ['127.0.0.1']);
    $dead->answer($name => 'SILENT');

    my $nginx = gateway($bank, $dns, '',
                        "127.0.0.1:${\ $dead->port }")->start;

    ok($bank->wait_requests(1), 'the other one is asked');
    unlike($nginx->log, qr/token request failed/, 'nothing fails');
    ok($dead->count, 'the first one was asked');

    $nginx->ends;
};


subtest 'the endpoint moves, DNS says so, and its old answer has an hour' => sub {
    my ($old, $dns) = (bank(), Bog::DNS->new(ttl => 3600));
    my $port = $old->port;
    my $new = bank(at => { token => ['127.0.0.2', $port] });
    $_->answer(expires_in => 4) for $old, $new;
    $dns->answer($name => ['127.0.0.1']);

    my $nginx = gateway($old, $dns)->start;
    ok($old->wait_requests(1), 'a token');

    $dns->answer($name => ['127.0.0.2']);
    $old->stop;
    ok($new->wait_requests(1, 12), 'DNS is asked again');

    $nginx->ends;
};


# Their queues are full, and Linux drops the SYN of the next one.

subtest 'five addresses that do not answer, before the good one' => sub {
    my ($bank, $dns) = (bank(), Bog::DNS->new);
    my @dead = map { "127.0.1.$_" } 1 .. 5;
    my (@listeners, @clients);

    for my $address (@dead) {
        push @listeners, IO::Socket::INET->new(LocalAddr => $address,
            LocalPort => $bank->port, Listen => 1) // die "listen: $@\n";

        push @clients, map { IO::Socket::INET->new(PeerAddr => $address,
            PeerPort => $bank->port, Blocking => 0) } 1 .. 4;
    }

    $dns->answer($name => [@dead, '127.0.0.1']);

    my $nginx = gateway($bank, $dns)->start;

    ok($bank->wait_requests(1, 15), 'it is found');
    unlike($nginx->log, qr/token request failed/, 'by the first fetch');

    $nginx->ends;
};


subtest 'no sockets of IPv6' => sub {
    my $dir = File::Temp->newdir;

    system('cc', '-shared', '-fPIC', '-O1', '-o', "$dir/socket.so",
           "$FindBin::Bin/dns/socket.c") == 0
        or plan skip_all => 'no compiler';

    local $ENV{LD_PRELOAD} = "$dir/socket.so";

    my ($bank, $dns) = (bank(), Bog::DNS->new);
    $dns->answer($name => ['::1', '127.0.0.1']);

    my $sources = join '', map {
        "location /$_/ { bog_token_param n $_;
                         proxy_pass http://127.0.0.1:${\ $bank->api_port }; }"
    } 1 .. 20;

    my $nginx = gateway($bank, $dns, <<"END")->start;
        server {
            listen 127.0.0.1:%%PORT_1%%;
            resolver 127.0.0.1:${\ $dns->port };
            $sources
        }
END

    ok($bank->wait_count(answered => 21), 'all have their tokens');
    unlike($nginx->log, qr/token request failed/, 'nothing fails');

    $nginx->ends;
};


# An nginx that asks the system, with a library of ours before libc.

sub preloaded {
    my ($library, $url, $api) = @_;

    my $dir = File::Temp->newdir;

    system('cc', '-shared', '-fPIC', '-O1', '-o', "$dir/preload.so",
           "$FindBin::Bin/dns/$library", '-ldl') == 0
        or plan skip_all => 'no compiler';

    my $nginx = Bog::Nginx->new(
        secret => { main => "s3cret\n" },
        env    => { LD_PRELOAD => "$dir/preload.so" },
        conf   => <<"END");
        bog_client_id           8282;
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      $url;

        server {
            listen 127.0.0.1:%%PORT%%;

            location / {
                proxy_pass http://127.0.0.1:$api;
                proxy_set_header Authorization "Bearer \$bog_bearer_token";
            }
        }
END

    return $nginx->start;
}


subtest 'an answer comes while the worker exits' => sub {
    my $nginx = preloaded('exit.c', "https://$name/", free_port());

    my ($worker) = $nginx->workers;
    ok(wait_until { @{[glob "/proc/$worker/task/*"]} > 1 }, 'a thread asks')
        if -d '/proc/self/task';

    $nginx->ends;
};


subtest 'one thread, and no more' => sub {
    my $bank = bank();
    my $nginx = preloaded('thread.c',
        "http://localhost:${\ $bank->port }$Bog::Bank::PATH",
        $bank->api_port);

    is(get($nginx->port, '/')->{status}, 200, 'with a token');
    like($nginx->log, qr/pthread_create\(\) failed/, 'the log says so');

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log(undef, except => qr/pthread_create\(\) failed/);
};


done_testing;
