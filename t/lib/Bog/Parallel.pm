package Bog::Parallel;

# Subtests that run beside each other, each in a process of its own: for those
# that spend their time waiting.
#
#   at_once(6, 'a worker is killed' => sub { ... },
#              'a worker is stopped' => sub { ... });
#
# Six at a time.  Their results come as they end, and what failed in one is
# printed below its name.  The environment: BOG_ONLY, an expression
# for the names of those to run.

use strict;
use warnings;

use Exporter 'import';
use File::Temp;
use POSIX ();
use Test::More ();

use Bog::Util 'slurp';

our @EXPORT_OK = qw(at_once);

my %running;


sub at_once {
    my ($limit, @subtests) = @_;

    my $dir = File::Temp->newdir('bog-parallel-XXXXXX', TMPDIR => 1);
    my $jobs = 0;

    while (my ($name, $code) = splice @subtests, 0, 2) {
        next if length($ENV{BOG_ONLY} // '') && $name !~ /$ENV{BOG_ONLY}/;

        _reap() while keys %running >= $limit;

        my $job = { name => $name, output => "$dir/" . $jobs++ };

        $running{_begin($job, $code)} = $job;
    }

    _reap() while %running;
}


sub _begin {
    my ($job, $code) = @_;

    STDOUT->flush;
    STDERR->flush;

    my $pid = fork // die "fork: $!\n";
    return $pid if $pid;

    %running = ();
    POSIX::_exit(_run($job, $code) ? 0 : 1);
}


sub _run {
    my ($job, $code) = @_;

    open my $output, '>', $job->{output} or die "$job->{output}: $!\n";
    $output->autoflush(1);

    my $builder = Test::More->builder;

    $builder->reset;
    $builder->$_($output) for qw(output failure_output todo_output);

    eval { $code->(); 1 } or Test::More::fail("died: $@");
    Test::More::done_testing();

    return $builder->is_passing;
}


sub _reap {
    my $pid = wait;
    die "wait: $!\n" if $pid < 0;

    my $status = $?;
    my $job = delete $running{$pid} or return;
    my $output = slurp($job->{output});

    local $Test::Builder::Level = $Test::Builder::Level + 2;

    Test::More::note($output);
    Test::More::ok($status == 0, $job->{name}) or Test::More::diag($output);
}


# A test that is ended takes these along: each of them ends its own nginx.

END {
    local ($?, $!);
    kill TERM => keys %running;
}


1;
