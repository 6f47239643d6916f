package Bog::Bench::Instructions;

# What a request costs, in instructions of nginx, as callgrind counts them:
# the difference of two runs, one with twice as many requests. It is the same
# each time, whatever else the machine does.
#
# Two things are not the way's own and are kept from it. How the allocator lays
# out a request's memory depends on every length: hence several lengths of
# token, and the median. One more timer is dear where there is none else: hence
# some idle connections, as every gateway has.

use strict;
use warnings;

use Exporter 'import';
use IO::Socket::INET;

use Bog::Client;
use Bog::Util 'slurp';

our @EXPORT_OK = qw(instructions median);

my $idle = 16;


sub median {
    my @sorted = sort { $a <=> $b } @_;
    return $sorted[@sorted / 2];
}


# Of one way and one nginx: a sub that starts it, and the requests' URI.

sub instructions {
    my ($start, $uri, $n) = @_;

    return (_run($start, $uri, 2 * $n) - _run($start, $uri, $n)) / $n;
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

    my ($total) = slurp($nginx->dir . '/callgrind')
                  =~ /^(?:summary|totals): ([0-9]+)/m;

    return $total // die "callgrind counted nothing\n";
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
