package Bog::Bench::Load;

# Load from other processes: as much as a gateway bears (wrk), or so many
# requests a second, each with its time (h2load).

use strict;
use warnings;

use Exporter 'import';
use File::Temp;
use Time::HiRes 'time';

use Bog::Bench::Instructions 'median';
use Bog::Util 'now';

our @EXPORT_OK = qw(throughput ratios rated quantile);


# Requests a second.

sub throughput {
    my ($port, $seconds) = @_;

    my $output = `wrk -t 1 -c 32 -d ${seconds}s http://127.0.0.1:$port/ 2>&1`;

    die "wrk: $output" if $output =~ /Non-2xx|Socket errors/;
    my ($rate) = $output =~ /^Requests\/sec: +([0-9.]+)/m
        or die "wrk: $output";

    return $rate;
}


# Each way against the first of them, in turn, so that what else the machine
# does hits both: the median of the ratios, and the rates.

sub ratios {
    my ($ports, $rounds, $seconds) = @_;

    my ($base, @ways) = @$ports;
    my (%ratio, %rate);

    for my $round (1 .. $rounds) {
        for my $way (@ways) {
            my @order = ($base, $way, $way, $base);
            @order = reverse @order if $round % 2;

            my %sum;
            $sum{$_->[0]} += throughput($_->[1], $seconds) / 2 for @order;

            push @{ $ratio{$way->[0]} }, $sum{$way->[0]} / $sum{$base->[0]};
            push @{ $rate{$_->[0]} }, $sum{$_->[0]} for $base, $way;
        }
    }

    return ({ map { $_ => median(@{ $ratio{$_} }) } keys %ratio },
            { map { $_ => median(@{ $rate{$_} }) } keys %rate });
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


sub quantile {
    my ($p, @numbers) = @_;

    my @sorted = sort { $a <=> $b } @numbers;

    return $sorted[$p * $#sorted];
}


1;
