# A worker that gets no memory, once: the first time that it asks for some, the
# second, ... all through a fetch, a held request and what comes of both. It
# lives on, and the next request gets its token.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use File::Temp;
use IO::Socket::INET;
use Test::More;

use Bog::Bank;
use Bog::Client 'get';
use Bog::Nginx;
use Bog::Util qw(now slurp timeout wait_until);

# so many nginx at a time, as most of it is waiting
my $at_once = 16;
my $lifetime = 8;

plan skip_all => 'nginx has another wrapper'
    if $ENV{BOG_WRAPPER} || $ENV{BOG_ASAN};

my $dir = File::Temp->newdir;
my $library = "$dir/fault.so";

system('cc', '-shared', '-fPIC', '-O1', '-o', $library,
       "$FindBin::Bin/memory/fault.c") == 0
    or plan skip_all => 'no compiler, or not glibc';

$ENV{BOG_WRAPPER} = "env LD_PRELOAD=$library BOG_FAULT=%%DIR%%/fault";


sub gateway {
    my $bank = shift;

    my $nginx = Bog::Nginx->new(
        files => { fault => "\0" x 12 },
        secret => { main => "s3cret\n" }, conf => <<"END");
        bog_client_id           8282;
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      ${\ $bank->url };
        bog_wait_timeout        60s;

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


# In place, as nginx has the file mapped.

sub fault {
    my ($nginx, $pid, $n) = @_;

    open my $fh, '+<:raw', $nginx->dir . '/fault' or die "fault: $!\n";
    syswrite $fh, pack 'l2', $pid, $n;
}


sub has_failed { (unpack 'l3', slurp($_[0]->dir . '/fault'))[2] }


sub request {
    my $nginx = shift;

    my $socket = IO::Socket::INET->new(
        PeerAddr => '127.0.0.1', PeerPort => $nginx->port,
        Timeout => timeout(10)) or return;

    $socket->print("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");

    return $socket;
}


# What the client gets: a status, or nothing.

sub outcome {
    my $socket = shift or return 'closed';

    local $SIG{ALRM} = sub { die "timeout\n" };
    alarm timeout(60);

    my $line = eval { <$socket> } // ($@ ? 'timeout' : 'closed');
    alarm 0;

    return $line =~ m{^HTTP/1\.1 ([0-9]+)} ? $1 : $line;
}


# The first token is there. Its refresh, which the bank lets wait until the
# token has ended, is where the counting begins; then a request comes and is
# held, and then the bank answers.

sub refresh {
    my ($bank, @numbers) = @_;

    $bank->answer(expires_in => $lifetime);

    my @nginx = map { gateway($bank) } @numbers;
    $_->wait_log(qr/token obtained/) for @nginx;

    my $ended = now() + $lifetime;
    $bank->answer(hold => 1);

    my @pids = count($bank, \@nginx, @numbers);
    wait_until { now() > $ended };

    return (\@nginx, \@pids);
}


# Counting begins when the first token has been asked for.

sub first {
    my ($bank, @numbers) = @_;

    $bank->answer(hold => 1);

    my @nginx = map { gateway($bank) } @numbers;
    wait_until { $bank->held == @nginx };

    return (\@nginx, [count($bank, \@nginx, @numbers)]);
}


sub count {
    my ($bank, $nginx, @numbers) = @_;

    my @pids = map { $_->workers } @$nginx;
    fault($nginx->[$_], $pids[$_], $numbers[$_]) for 0 .. $#$nginx;

    return @pids;
}


sub batch {
    my ($begin, @numbers) = @_;

    my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret' });

    my ($nginx, $pids) = $begin->($bank, @numbers);
    my @nginx = @$nginx;
    my @pids = @$pids;

    my @sockets = map { request($_) } @nginx;

    # a fetch that has failed begins again after a second
    wait_until { $bank->held == @nginx };

    $bank->answer(expires_in => 300);
    $bank->release(expires_in => 300);

    my @outcomes = map { outcome($_) } @sockets;
    my @failed = map { has_failed($_) } @nginx;

    for my $i (0 .. $#nginx) {
        my $nginx = $nginx[$i];
        my $n = $numbers[$i];

        fault($nginx, 0, 0);

        my $ends = $failed[$i] ? qr/^(200|500|503|closed)$/ : qr/^200$/;
        my $next = get($nginx->port, '/');

        like($outcomes[$i], $ends, "$n: the request ends: $outcomes[$i]");
        is($next->{status}, 200, "$n: the next one is served");
        is_deeply([$nginx->workers], [$pids[$i]], "$n: by the same worker");
        is($nginx->stop, 0, "$n: nginx stops");
        unlike($nginx->log, qr/exited on signal|exited with fatal/,
               "$n: none has died");
    }

    return grep { $_ } @failed;
}


sub all {
    my ($begin, $least) = @_;

    my $n = 1;
    my $failures = 0;

    for ( ;; ) {
        my $failed = batch($begin, $n .. $n + $at_once - 1);

        $failures += $failed;
        $n += $at_once;

        # the last ones had all the memory that they asked for
        last if $failed < $at_once || $n > 200;
    }

    cmp_ok($failures, '>=', $least, "$failures times there was no memory");
    cmp_ok($n, '<=', 200, 'and then there was enough');
}


subtest 'a refresh' => sub { all(\&refresh, 15) };
subtest 'the first token' => sub { all(\&first, 10) };

done_testing();
