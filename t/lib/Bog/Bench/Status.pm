package Bog::Bench::Status;

# What payments see of others that ask for the state of many sources.

use strict;
use warnings;

use Exporter 'import';
use List::Util 'max';
use POSIX ();

use Bog::Bench::Gateway;
use Bog::Bench::Load qw(rated quantile median);
use Bog::Client 'get';
use Bog::Util qw(spew wait_until);

our @EXPORT_OK = 'scrapes';

my ($rate, $seconds) = (1000, 4);


# n sources, one scrape a second, so many, and as many of a file as long: way
# => [p50, p99, worst] of payments, in milliseconds, the medians of all rounds;
# and the length of the answer.  All are answered 200, or this dies.

sub scrapes {
    my ($n, $scrapes, $rounds) = @_;

    my $site = Bog::Bench::Gateway->new;
    my $nginx = _start($site, $n);
    my $length = length get($nginx->port, '/metrics')->{body};

    spew($nginx->dir . '/file', 'x' x $length);

    my @ways = ([calm => undef, 0], [once => '/metrics', 1],
                [file => '/file', $scrapes], [status => '/metrics', $scrapes]);
    my %times;

    for (1 .. $rounds) {
        for my $way (@ways) {
            my @ms = _payments($nginx, @$way[1, 2]);
            my $i = 0;

            push @{ $times{$way->[0]}[$i++] }, $_
                for quantile(0.5, @ms), quantile(0.99, @ms), max(@ms);
        }
    }

    $nginx->stop('TERM');

    return ({ map { my $way = $_;
                    $way => [map { median(@$_) } @{ $times{$way} }]
                  } keys %times }, $length);
}


sub _start {
    my ($site, $n) = @_;

    my $locations = join '', map { <<"END" } 1 .. $n;
            location /$_/ {
                bog_client_id client$_;
                proxy_pass http://backend;
                proxy_set_header Authorization "Bearer \$bog_bearer_token";
            }
END
    $site->bank->credentials(8282 => 's3cret',
                             map { ("client$_" => 's3cret') } 1 .. $n);

    my $nginx = $site->start('module', workers => 2, conf => <<"END");
            location = /metrics { bog_status prometheus; }
            location = /file { root %%DIR%%; }
            $locations
END
    wait_until {
        my $body = get($nginx->port, '/metrics')->{body} // '';
        1 + $n == (() = $body =~ /^bog_token_valid\{.*\} 1$/mg)
    } 60 or die "not all are fetched\n";

    return $nginx;
}


sub _payments {
    my ($nginx, $uri, $scrapes) = @_;

    my $pid = $uri ? _scrape($nginx->port, $uri, $scrapes) : undef;

    my @rows = rated($nginx->port, '/', $rate, $seconds);

    if ($pid) {
        waitpid $pid, 0;
        die "not all scrapes went well\n" if $?;
    }

    die "not all payments are answered\n"
        if @rows != $rate * $seconds || grep { $_->[1] != 200 } @rows;

    return map { $_->[2] } @rows;
}


# From another process, for as long.  It is somewhere else in the world, and
# its share of our cores is not to count.

sub _scrape {
    my ($port, $uri, $scrapes) = @_;

    my $pid = fork // die "fork: $!\n";
    return $pid if $pid;

    POSIX::nice(19);

    my @rows = rated($port, $uri, $scrapes, $seconds,
                     clients => $scrapes < 5 ? 1 : 5);
    my $good = grep { $_->[1] == 200 } @rows;

    # nothing of the parent's is to be ended here
    POSIX::_exit($good == $scrapes * $seconds ? 0 : 1);
}


1;
