package Bog::Bench::Faults;

# What requests see of the token endpoint while they have a token: when it is
# asked for the next one, and when it hangs, refuses or drips.

use strict;
use warnings;

use Exporter 'import';
use List::Util 'max';

use Bog::Bench::Gateway;
use Bog::Bench::Load qw(rated quantile);
use Bog::Client 'get';
use Bog::Util 'wait_until';

our @EXPORT_OK = qw(endpoint refreshes);

my $rate = 1000;


# How the bank takes a refresh.

my %faults = (
    hangs   => sub { $_[0]->queue({ hold => 1 }) },
    drips   => sub { $_[0]->queue({ drip => 0.2 }) },
    refuses => sub { $_[0]->stop },
);


# The times of payments and of another location in the same gateway, in its
# calm and in each fault: name => { payments or other => [[p50, p99, max],
# ...] }.  All of them are answered 200, or this dies.

sub endpoint {
    my %found;

    $found{calm} = _times(Bog::Bench::Gateway->new);

    for my $fault (sort keys %faults) {
        $found{$fault} = _times(Bog::Bench::Gateway->new, $fault);
    }

    return \%found;
}


sub _times {
    my ($site, $fault) = @_;

    my $bank = $site->bank;

    # half of it is left for the fault
    $bank->answer(token => $site->token, expires_in => 20) if $fault;

    my $nginx = $site->start('module', workers => 2, conf => <<'END');
        location /other { return 200 "ok\n"; }
        location /state { proxy_pass http://backend;
                          add_header X-State $bog_token_state; }
END

    if ($fault) {
        $faults{$fault}->($bank);

        wait_until {
            (get($nginx->port, '/state')->{raw} // '') =~ /refreshing/
        } 30 or die "no refresh\n";
    }

    my %times;

    for my $location (['payments', '/'], ['other', '/other']) {
        my ($name, $uri) = @$location;
        my @rows = rated($nginx->port, $uri, $rate, 2);

        my @failed = grep { $_->[1] != 200 } @rows;
        die "$name: $failed[0][1]\n" if @failed || @rows != 2 * $rate;

        my @ms = map { $_->[2] } @rows;
        $times{$name} = [quantile(0.5, @ms), quantile(0.99, @ms), max(@ms)];
    }

    my $raw = get($nginx->port, '/state')->{raw} // '';
    die "the fault was over too soon\n" if $fault && $raw !~ /refreshing/;

    $nginx->stop('TERM');

    return \%times;
}


# The worst time in the second that begins with a refresh, against that in the
# second before, for so many refreshes: pairs of milliseconds.

sub refreshes {
    my $n = shift;

    my $site = Bog::Bench::Gateway->new;

    # each token is another one: the same one would serve until its end
    $site->bank->answer(jwt => { pad => 'x' x 900 }, expires_in => 5);

    my $nginx = $site->start('module', workers => 2);
    my @rows = rated($nginx->port, '/', $rate, 3 * $n + 3);

    die "not all are answered\n" if grep { $_->[1] != 200 } @rows;

    my ($first, $last) = ($rows[0][0] + 1, $rows[-1][0] - 1);
    my @pairs;

    for my $time (map { $_->{time} } $site->bank->requests) {
        next if $time < $first || $time > $last;

        push @pairs, [map { my $from = $_;
                            max(map { $_->[2] }
                                grep { $_->[0] >= $from && $_->[0] < $from + 1 }
                                @rows) } $time - 1, $time];
    }

    $nginx->stop('TERM');

    return @pairs;
}


1;
