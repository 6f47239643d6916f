# bench.pl [-w] [PART...]: see util/bench.sh.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use List::Util 'max';

use Bog::Bench::Faults qw(endpoint refreshes);
use Bog::Bench::Gateway;
use Bog::Bench::Instructions 'instructions';
use Bog::Bench::Load qw(ratios rated median quantile);
use Bog::Bench::Report;
use Bog::Bench::Scale qw(sources request_with);
use Bog::Bench::Start qw(wake_up crowd held_memory);
use Bog::Bench::Status 'scrapes';

my @parts = (
    [instructions => \&instructions_part],
    [throughput   => \&throughput_part],
    [latency      => \&latency_part],
    [faults       => \&faults_part],
    [start        => \&start_part],
    [refresh      => \&refresh_part],
    [status       => \&status_part],
    [scale        => \&scale_part],
);

my $write = @ARGV && $ARGV[0] eq '-w' ? shift : undef;
my %wanted = map { $_ => 1 } @ARGV;

for my $name (keys %wanted) {
    die "bench.pl: no part \"$name\", there are: @{[map { $_->[0] } @parts]}\n"
        unless grep { $_->[0] eq $name } @parts;
}

my $report = Bog::Bench::Report->new("$FindBin::Bin/../docs/performance");

$| = 1;

for my $part (@parts) {
    $part->[1]->() if !%wanted || $wanted{$part->[0]};
}

$report->write(head()) if $write;


sub head {
    my ($processor) = map { /^model name\s*:\s*(.*)/m ? $1 : () }
                      Bog::Util::slurp('/proc/cpuinfo');
    my $cores = () = Bog::Util::slurp('/proc/cpuinfo') =~ /^processor/mg;
    my $nginx = Bog::Nginx::binary();
    my ($version) = `"$nginx" -v 2>&1` =~ m{nginx/(\S+)};
    my @date = gmtime;

    return sprintf <<"END", $date[5] + 1900, $date[4] + 1, $date[3];
# Figures

Made by `sh util/bench.sh -w` on %04d-%02d-%02d: nginx $version, $cores cores
of ${\ ($processor // 'an unnamed processor') }.
[measurements.md](../measurements.md#cost-of-a-request) explains them.
END
}


sub number { sprintf "%.$_[1]f", $_[0] }


sub instructions_part {
    $report->section('Instructions', <<'END' =~ s/\n\z//r);
Of nginx, for one request that is passed on over kept connections with a token
of 1.3 kB, as callgrind counts them. Those of malloc() and free() stand apart:
they depend on what happens to lie next to each other.
END

    my $site = Bog::Bench::Gateway->new;
    my @ways = $site->ways;

    my %count = map {
        my $way = $_;
        $way => [instructions(sub { $site->start($way, @_) }, '/', 2000)];
    } @ways;

    my $more = sub { sprintf '%+.0f', $_[0] - $count{literal}[0] };

    $report->table(['way', 'instructions', 'more than literal', 'allocator'],
        map { [$site->name($_), number($count{$_}[0], 0),
               $more->($count{$_}[0]), number($count{$_}[1], 0)] } @ways);

    $report->bars('instructions', 'instructions a request',
        map { [$site->name($_), number($count{$_}[0], 0)] } @ways);
}


# All of them run all the time.

sub gateways {
    my @more = @_;

    my $site = Bog::Bench::Gateway->new;

    my @ways = ('literal', @more, grep { $_ ne 'literal' } $site->ways);
    my %nginx = map { $_ => $site->start($_, workers => 2) } @ways;

    return ($site, \%nginx, @ways);
}


sub throughput_part {
    my $rounds = 15;

    $report->section('Throughput', <<"END" =~ s/\n\z//r);
Requests a second that two workers bear, wrk with 32 connections and the backend
on the same cores; each way in turn with the token in the configuration, the
median of $rounds ratios. "The same again" is another nginx with the same
configuration: how far it is from 1 is how far the others may be from the truth.
END

    my ($site, $nginx, @ways) = gateways('again');
    my ($rate, $ratio, $cpu) = ratios([map { [$_, $nginx->{$_}] } @ways],
                                      $rounds, 1);

    $report->table(['way', 'requests a second', 'ratio',
                    'CPU of a request, microseconds'],
        map { [$site->name($_), number($rate->{$_}, 0),
               number($ratio->{$_}, 3), number($cpu->{$_}, 2)] } @ways);

    $_->stop('TERM') for values %$nginx;
}


sub latency_part {
    my ($rate, $rounds) = (5000, 5);

    $report->section('Latency at equal load', <<"END" =~ s/\n\z//r);
$rate requests a second, two workers, in milliseconds; in turn, the medians of
$rounds rounds of four seconds.
END

    my ($site, $nginx, @ways) = gateways();
    my %times;

    for (1 .. $rounds) {
        for my $way (@ways) {
            my @ms = map { $_->[2] } rated($nginx->{$way}->port, '/', $rate, 4);
            push @{ $times{$way}{$_} }, quantile($_, @ms)
                for 0.5, 0.99, 0.999;
        }
    }

    $report->table(['way', 'p50', 'p99', 'p99.9'],
        map { my $way = $_;
              [$site->name($way), map { number(median(@{ $times{$way}{$_} }), 2) }
                                  0.5, 0.99, 0.999] } @ways);

    $_->stop('TERM') for values %$nginx;
}


sub faults_part {
    $report->section('While the token endpoint fails', <<'END' =~ s/\n\z//r);
The token is there and a refresh is due, 1000 requests a second: milliseconds of
payments and of another location, two workers. All are answered 200.
END

    my $found = endpoint();

    $report->table(['token endpoint', 'p50', 'p99', 'worst', 'other p50',
                    'other p99', 'other worst'],
        map { my $row = $found->{$_};
              [$_, map { number($_, 2) } @{ $row->{payments} },
                                         @{ $row->{other} }] }
        'calm', sort grep { $_ ne 'calm' } keys %$found);
}


sub start_part {
    my ($rounds, $crowd, $held) = (100, 1000, 10_000);

    $report->section('Cold start', <<"END" =~ s/\n\z//r);
Eight workers. From the moment in which the token endpoint writes its answer to
the moment in which the API sees a request's connection: one held request in
each worker, $rounds times; and $crowd held at once.
END

    my ($all, $after) = wake_up($rounds);
    my ($requests, $last) = crowd($crowd);
    my $bytes = held_memory($held);

    $report->table(['what', 'figure'],
        ['one request in each worker, p50',
         number(quantile(0.5, @$all), 2) . ' ms'],
        ['p99', number(quantile(0.99, @$all), 2) . ' ms'],
        ['worst', number(max(@$all), 2) . ' ms'],
        ['the others after the first of the eight, p99',
         number(quantile(0.99, @$after), 2) . ' ms'],
        ["the last of $crowd", number($last, 1) . ' ms'],
        ['token requests for them', $requests],
        ["memory of one of $held held requests",
         number($bytes / 1024, 1) . ' kB']);
}


sub refresh_part {
    $report->section('Refresh under load', <<'END' =~ s/\n\z//r);
1000 requests a second: the worst one in the second that begins with a refresh,
and in the second before it.
END

    my @pairs = refreshes(10);

    $report->table(['', 'second before', 'second of the refresh'],
        ['median, ms', map { my $i = $_;
                             number(median(map { $_->[$i] } @pairs), 2) } 0, 1],
        ['worst, ms', map { my $i = $_;
                            number(max(map { $_->[$i] } @pairs), 2) } 0, 1]);
}


sub status_part {
    my ($n, $scrapes, $rounds) = (1000, 50, 7);

    my ($times, $length) = scrapes($n, $scrapes, $rounds);

    $report->section('While the state is asked for', <<"END" =~ s/\n\z//r);
$n sources, two workers, 1000 payments a second in milliseconds, while
`bog_status prometheus`, ${\ number($length / 1e6, 1) } MB, is asked for, and while a file of that length
is; in turn, medians of $rounds rounds. At $scrapes times a second that is ${\ number($scrapes * $length / 1e6, 0) } MB,
which those who send and read it take from the same cores.
END

    my %name = (calm => 'nothing else', once => 'bog_status, once a second',
                file => "a file, $scrapes times",
                status => "bog_status, $scrapes times");

    $report->table(['meanwhile', 'p50', 'p99', 'worst'],
        map { [$name{$_}, map { number($_, 2) } @{ $times->{$_} }] }
        qw(calm once file status));
}


sub scale_part {
    my @counts = (1, 100, 1000, 10_000);

    $report->section('Many sources', <<'END' =~ s/\n\z//r);
Locations with a client id each, four workers; the token endpoint answers at
once. At rest: how often all workers together wake up in a second, and how much
of a core they use. A request: instructions, to the last location.
END

    my %row = map { $_ => sources($_) } @counts;
    my %cost = map { $_ => [request_with($_)] } @counts;

    $report->table(['sources', 'nginx -t, s', 'start, s', 'all fetched, s',
                    'token requests', 'CPU of one, ms', 'reload, s',
                    'kB a source, worker', 'wake-ups/s', 'CPU', 'request',
                    'more than literal'],
        map { my $row = $row{$_};
              [$_, (map { number($row->{$_}, 3) } qw(test start fetched)),
               $row->{requests},
               $_ < 1000 ? '' : number(1000 * $row->{fetch}, 2),
               number($row->{reload}, 3),
               number($row->{bytes} / 1024, 1), number($row->{switches}, 1),
               number(100 * $row->{cpu}, 1) . ' %',
               map { number($_, 0) } @{ $cost{$_} }] } @counts);

    $report->lines('sources', 'sources', 'seconds',
        ['nginx -t', 'start', 'all fetched'],
        map { [$_, @{ $row{$_} }{qw(test start fetched)}] } @counts);
}
