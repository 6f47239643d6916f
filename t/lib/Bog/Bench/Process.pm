package Bog::Bench::Process;

# What the kernel says of an nginx's workers, all of them together.

use strict;
use warnings;

use Exporter 'import';
use POSIX ();

use Bog::Util 'slurp';

our @EXPORT_OK = qw(memory cpu switches);


# Bytes: what is theirs alone, and their share of the rest.

sub memory { 1024 * _sum($_[0], smaps_rollup => qr/^Pss: +(\d+)/m) }


# Seconds, of the user's and the system's.

sub cpu {
    my $ticks = _sum($_[0], stat => qr/.*\) (?:\S+ ){11}(\d+) (\d+)/s);

    return $ticks / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}


# How often they have gone to sleep.

sub switches {
    return _sum($_[0], status => qr/^voluntary_ctxt_switches:\s+(\d+)/m);
}


sub _sum {
    my ($nginx, $file, $numbers) = @_;

    my $sum = 0;

    for my $pid ($nginx->workers) {
        $sum += $_ for slurp("/proc/$pid/$file") =~ $numbers;
    }

    return $sum;
}


1;
