package Bog::Util;

# Time, waiting and free ports: what every other part of the harness needs.

use strict;
use warnings;

use Exporter 'import';
use IO::Socket::INET;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC sleep);

our @EXPORT_OK = qw(now timeout pass_time wait_until free_port slurp spew);


sub now { clock_gettime(CLOCK_MONOTONIC) }


# Everything is slower under valgrind, and only the limits know it.

sub timeout { $_[0] * ($ENV{BOG_TIMEOUT_FACTOR} || 1) }


# For what nobody can tell us about: other processes' logs and /proc.

sub wait_until (&;$) {
    my ($condition, $seconds) = @_;

    my $deadline = now() + timeout($seconds // 30);

    for ( ;; ) {
        my $value = $condition->();
        return $value if $value;
        return if now() > $deadline;
        sleep 0.01;
    }
}


# Ports stay open until all of them are known, so that no two are the same.

sub free_port {
    my $n = shift // 1;

    my @sockets = map {
        IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1)
            or die "no free port: $!\n"
    } 1 .. $n;

    my @ports = map { $_->sockport } @sockets;

    return wantarray ? @ports : $ports[0];
}


# For a time that has to be measurable: an event may come within the same
# millisecond as what it follows.

sub pass_time {
    my $end = now() + shift;

    sleep 0.01 while now() < $end;
}


sub slurp {
    my $path = shift;

    open my $fh, '<:raw', $path or return '';
    local $/;

    return scalar(<$fh>) // '';
}


# A rename makes the change atomic for an nginx that may be reading.

sub spew {
    my ($path, $content, $mode) = @_;

    open my $fh, '>:raw', "$path.new" or die "open $path.new: $!\n";
    chmod $mode // 0644, "$path.new";
    print {$fh} $content;
    close $fh or die "write $path.new: $!\n";

    rename "$path.new", $path or die "rename $path.new: $!\n";
}


1;
