package Bog::Clock;

# A clock for nginx that can be set while nginx runs, by libfaketime.
#
#   my $clock = Bog::Clock->new(offset => -600);
#   my $nginx = Bog::Nginx->new(env => $clock->env, ...);
#   $clock->set(3600);      an hour ahead of the real one
#
# Bank and clients keep the real time.

use strict;
use warnings;

use File::Temp;

use Bog::Util 'spew';


# Where Debian and others have it.

sub library {
    my ($found) = grep { -e } map { glob "$_/faketime/libfaketime.so.1" }
                  '/usr/lib/*', '/usr/lib', '/usr/local/lib', '/usr/lib64';

    return $found;
}


# %opt: offset in seconds; monotonic => 1 to set the monotonic clock too.

sub new {
    my ($class, %opt) = @_;

    my $self = bless {
        dir       => File::Temp->newdir('bog-clock-XXXXXX', TMPDIR => 1),
        monotonic => $opt{monotonic},
    }, $class;

    $self->set($opt{offset} // 0);

    return $self;
}


# Seen at once: the file is read whenever somebody asks for the time.

sub set {
    my ($self, $offset) = @_;

    spew("$self->{dir}/offset", sprintf "%+d\n", $offset);
}


sub env {
    my $self = shift;

    return {
        LD_PRELOAD                   => library(),
        FAKETIME_TIMESTAMP_FILE      => "$self->{dir}/offset",
        FAKETIME_NO_CACHE            => 1,
        FAKETIME_DONT_FAKE_MONOTONIC => $self->{monotonic} ? 0 : 1,
        NO_FAKE_STAT                 => 1,
    };
}


1;
