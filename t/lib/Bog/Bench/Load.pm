package Bog::Bench::Load;

# Load from other processes: as much as a gateway bears (wrk), or so many
# requests a second, each with its time (h2load).

use strict;
use warnings;

use Exporter 'import';
use File::Temp;
use Time::HiRes 'time';

use Bog::Bench::Process 'cpu';
use Bog::Util 'now';

our @EXPORT_OK = qw(throughput ratios rated median quantile);


# As much as it bears: requests a second, and microseconds of its workers' CPU
# time for each.

sub throughput {
    my ($nginx, $seconds) = @_;

    my $port = $nginx->port;
    my $before = cpu($nginx);
    my $output = `wrk -t 1 -c 32 -d ${seconds}s http://127.0.0.1:$port/ 2>&1`;
    my $cpu = cpu($nginx) - $before;

    die "wrk: $output" if $output =~ /Non-2xx|Socket errors/;

    my ($requests) = $output =~ /^ +([0-9]+) requests in /m;
    my ($rate) = $output =~ m{^Requests/sec: +([0-9.]+)}m
        or die "wrk: $output";

    return ($rate, $cpu / $requests * 1e6);
}


# Each way against the first of them, in turn, so that what else the machine
# does hits both: rate, the median of its ratios, and CPU time, by way.

sub ratios {
    my ($gateways, $rounds, $seconds) = @_;

    my ($base, @ways) = @$gateways;
    my (%ratio, %rate, %cpu);

    for my $round (1 .. $rounds) {
        for my $way (@ways) {
            my @order = ($base, $way, $way, $base);
            @order = @order[1, 0, 3, 2] if $round % 2;

            my %sum;

            for my $one (@order) {
                my ($rate, $cpu) = throughput($one->[1], $seconds);

                $sum{$one->[0]} += $rate / 2;
                push @{ $cpu{$one->[0]} }, $cpu;
            }

            push @{ $ratio{$way->[0]} }, $sum{$way->[0]} / $sum{$base->[0]};
            push @{ $rate{$_->[0]} }, $sum{$_->[0]} for $base, $way;
        }
    }

    $ratio{$base->[0]} = [1];

    return map { my $table = $_;
                 +{ map { $_ => median(@{ $table->{$_} }) } keys %$table }
               } \%rate, \%ratio, \%cpu;
}


# What became of requests sent at a rate: [when it was sent (by now()'s clock),
# status, milliseconds], in their order.

sub rated {
    my ($port, $uri, $rate, $seconds, %opt) = @_;

    my $clients = $opt{clients} // 8;
    my $dir = File::Temp->newdir;
    my $shift = now() - time;

    my $output = qx(h2load --h1 -c $clients -t 1 --log-file=$dir/log \\
                    --rps=${\ ($rate / $clients) } -n ${\ ($rate * $seconds) } \\
                    http://127.0.0.1:$port$uri 2>&1);

    open my $log, '<', "$dir/log" or die "h2load: $output";
    my @rows = map { [split] } <$log>;

    return sort { $a->[0] <=> $b->[0] }
           map { [$_->[0] / 1e6 + $shift, $_->[1], $_->[2] / 1000] } @rows;
}


sub median {
    my @sorted = sort { $a <=> $b } @_;

    return $sorted[@sorted / 2];
}


sub quantile {
    my ($p, @numbers) = @_;

    my @sorted = sort { $a <=> $b } @numbers;

    return $sorted[$p * $#sorted];
}


1;
