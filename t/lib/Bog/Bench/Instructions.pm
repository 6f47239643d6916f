package Bog::Bench::Instructions;

# What a request costs, in instructions of nginx, as callgrind counts them:
# the difference of two runs, one with twice as many requests. It is the same
# each time, whatever else the machine does.
#
# Two things are not the way's own. What malloc() and free() cost depends on what
# happens to lie next to each other, and differs by hundreds for the same
# requests of the same sizes: it is counted apart. One more timer is dear where
# there is none else: hence some idle connections, as every gateway has.

use strict;
use warnings;

use Exporter 'import';
use IO::Socket::INET;

our @EXPORT_OK = qw(instructions);

my $idle = 16;


# Of one way and one nginx: a sub that starts it, and the requests' URI. Returns
# what nginx needs, and what the allocator needs besides.

sub instructions {
    my ($start, $uri, $n) = @_;

    my @one = _run($start, $uri, $n);
    my @two = _run($start, $uri, 2 * $n);

    return map { ($two[$_] - $one[$_]) / $n } 0, 1;
}


sub _run {
    my ($start, $uri, $n) = @_;

    local $ENV{BOG_WRAPPER} = 'valgrind --tool=callgrind'
                              . ' --callgrind-out-file=%%DIR%%/callgrind';
    local $ENV{BOG_TIMEOUT_FACTOR} = 20;

    my $nginx = $start->(master => 0);
    my $port = $nginx->port;

    my @idle = map { _idle($port, $uri) } 1 .. $idle;

    my $output = `h2load --h1 -n $n -c 1 http://127.0.0.1:$port$uri 2>&1`;
    die "h2load: $output" if $output !~ /\b$n succeeded/;

    close $_ for @idle;
    $nginx->stop('QUIT');

    return _sums($nginx->dir . '/callgrind');
}


# https://valgrind.org/docs/manual/cl-format.html: costs stand below the file
# that they are of, but for the line below "calls=", which is that of the callee.

sub _sums {
    my $path = shift;

    open my $fh, '<', $path or die "callgrind counted nothing\n";

    my ($nginx, $allocator, $is_allocator, $call, %name) = (0, 0);

    while (my $line = <$fh>) {
        if ($line =~ /^f[lie]=(?:\((\d+)\) ?)?(.*)/) {
            $name{$1} = $2 if defined $1 && length $2;
            $is_allocator = (defined $1 ? $name{$1} : $2) =~ m{/malloc\.c$};

        } elsif ($line =~ /^cf[li]=\((\d+)\) (.+)/) {
            $name{$1} = $2;

        } elsif ($line =~ /^calls=/) {
            $call = 1;

        } elsif ($line =~ /^[-+*0-9]\S* (\d+)/) {
            ($is_allocator ? $allocator : $nginx) += $1 unless $call;
            $call = 0;
        }
    }

    return ($nginx, $allocator);
}


# A connection that has had its answer.

sub _idle {
    my ($port, $uri) = @_;

    my $client = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $port) or die "connect: $@\n";

    print {$client} "GET $uri HTTP/1.1\r\nHost: x\r\n\r\n";
    $client->flush;
    sysread $client, my $answer, 65536 or die "no answer\n";

    return $client;
}


1;
