package Bog::Loop;

# A select() loop: handles, timers, nothing else.

use strict;
use warnings;

use Bog::Util 'now';


sub new {
    my $class = shift;

    return bless {
        handlers => [{}, {}],
        wanted   => ['', ''],
        timers   => {},
        order    => [],
        serial   => 0,
    }, $class;
}


# A handler that is not defined takes the handle out of the set.

sub on_read  { my $self = shift; $self->_watch(0, @_) }
sub on_write { my $self = shift; $self->_watch(1, @_) }


sub _watch {
    my ($self, $kind, $fh, $handler) = @_;

    my $fd = fileno $fh;
    return unless defined $fd;

    if ($handler) {
        $self->{handlers}[$kind]{$fd} = $handler;
        vec($self->{wanted}[$kind], $fd, 1) = 1;

    } elsif (delete $self->{handlers}[$kind]{$fd}) {
        vec($self->{wanted}[$kind], $fd, 1) = 0;
    }
}


# To be called before the handle is closed, while its number is its own.

sub forget {
    my ($self, $fh) = @_;

    $self->_watch($_, $fh, undef) for 0, 1;
}


sub after {
    my ($self, $seconds, $handler) = @_;

    my $id = ++$self->{serial};
    my $timer = { id => $id, at => now() + $seconds };

    $self->{timers}{$id} = $handler;

    my $order = $self->{order};
    my $i = @$order;
    $i-- while $i > 0 && $order->[$i - 1]{at} > $timer->{at};
    splice @$order, $i, 0, $timer;

    return $id;
}


sub cancel {
    my ($self, $id) = @_;

    delete $self->{timers}{$id} if defined $id;
}


sub stop { $_[0]{stopped} = 1 }


sub run {
    my $self = shift;

    local $self->{stopped} = 0;

    $self->_once until $self->{stopped};
}


sub _once {
    my $self = shift;

    my ($readable, $writable) = @{ $self->{wanted} };

    my $found = select $readable, $writable, undef, $self->_pause;

    if ($found > 0) {
        $self->_dispatch(1, $writable);
        $self->_dispatch(0, $readable);
    }

    $self->_expire;
}


sub _pause {
    my $self = shift;

    my $order = $self->{order};

    shift @$order while @$order && !$self->{timers}{$order->[0]{id}};
    return undef unless @$order;

    my $left = $order->[0]{at} - now();

    return $left > 0 ? $left : 0;
}


# A handler may have closed the next handle, or given its number to another
# one: that other one then sees a spurious event, which non-blocking code bears.

sub _dispatch {
    my ($self, $kind, $ready) = @_;

    my $handlers = $self->{handlers}[$kind];

    for my $fd (keys %$handlers) {
        next unless vec $ready, $fd, 1;

        my $handler = $handlers->{$fd};
        $handler->() if $handler;
    }
}


sub _expire {
    my $self = shift;

    my $order = $self->{order};
    my $now = now();

    while (@$order && $order->[0]{at} <= $now) {
        my $handler = delete $self->{timers}{(shift @$order)->{id}};
        $handler->() if $handler;
    }
}


1;
