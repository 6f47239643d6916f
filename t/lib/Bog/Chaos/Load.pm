package Bog::Chaos::Load;

# Clients of HTTP/1.1 in a process of their own: at a steady rate, some on
# connections that are kept, some that leave.  Each request is a payment with a
# number of its own, and every other one has a body.  Of each a record is
# kept: uri, start, end, port (the client's own), status or error ('connect',
# 'closed', 'timeout', 'left'), worker and version (what the answer says of
# them), late (a connection that was kept, and that nginx closed just then).

use strict;
use warnings;

use Errno qw(EAGAIN EINPROGRESS EINTR);
use Socket;

use Bog::Child;
use Bog::HTTP qw(parse_head header decode_body);
use Bog::Util qw(now timeout);

my @uris = ('/8282', '/8383');


# %opt: port, rate, seconds, seed, limit (seconds that a request may take).

sub new {
    my ($class, %opt) = @_;

    my $child = Bog::Child->new(sub {
        my $loop = shift;

        # a helper is seeded anew, but this one is to do the same again
        srand $opt{seed};

        my $self = bless { %opt, loop => $loop, records => [], open => 0,
                           left => $opt{rate} * $opt{seconds},
                           next => now() }, $class;
        $self->_tick;

        return { result => sub { $self->{reply} = $_[1]; $self->_report } };
    });

    return bless { child => $child }, $class;
}


sub result {
    my $self = shift;

    my $records = $self->{child}->call('result');
    $self->{child}->stop;

    return @$records;
}


sub _tick {
    my $self = shift;

    while ($self->{left} > 0 && $self->{next} <= now()) {
        my $requests = rand() < 0.1 ? 5 : 1;
        my $leave = rand() < 0.05 ? rand 0.3 : undef;

        $self->_connect($requests, $leave);

        $self->{next} += 1 / $self->{rate};
        $self->{left}--;
    }

    return $self->_report if $self->{left} <= 0;

    my $pause = $self->{next} - now();
    $self->{loop}->after($pause > 0 ? $pause : 0, sub { $self->_tick });
}


sub _report {
    my $self = shift;

    return if $self->{left} > 0 || $self->{open} || !$self->{reply};

    $self->{reply}->($self->{records});
}


sub _connect {
    my ($self, $requests, $leave) = @_;

    socket my $fh, AF_INET, SOCK_STREAM, 0 or die "socket: $!\n";
    $fh->blocking(0);
    connect $fh, pack_sockaddr_in($self->{port}, INADDR_LOOPBACK);

    my ($port) = unpack_sockaddr_in(getsockname $fh);

    $self->{open}++;
    $self->_request({ fh => $fh, port => $port, left => $requests,
                      leave => $leave, uri => $uris[rand @uris] });
}


sub _request {
    my ($self, $c) = @_;

    my $loop = $self->{loop};

    $c->{left}--;
    $c->{in} = '';
    my $id = ++$self->{payments};
    my $post = $id % 2;

    $c->{out} = join "\r\n",
                ($post ? 'POST' : 'GET') . " $c->{uri} HTTP/1.1",
                'Host: localhost', "X-Payment: $id",
                $post ? 'Content-Length: 8' : (),
                $c->{left} ? () : 'Connection: close', '',
                $post ? sprintf('%08d', $id) : '';
    $c->{record} = { uri => $c->{uri}, start => now(), port => $c->{port} };

    $c->{timer} = $loop->after($self->{limit},
                               sub { $self->_end($c, 'timeout') });
    $c->{leaves} = $loop->after($c->{leave}, sub { $self->_end($c, 'left') })
        if defined $c->{leave};

    $loop->on_read($c->{fh}, undef);
    $loop->on_write($c->{fh}, sub { $self->_writable($c) });
}


sub _writable {
    my ($self, $c) = @_;

    my $n = syswrite $c->{fh}, $c->{out};

    if (!defined $n) {
        return if _again();
        return $self->_end($c, $c->{used} ? 'closed' : 'connect');
    }

    substr $c->{out}, 0, $n, '';
    return if length $c->{out};

    $self->{loop}->on_write($c->{fh}, undef);
    $self->{loop}->on_read($c->{fh}, sub { $self->_readable($c) });
}


sub _readable {
    my ($self, $c) = @_;

    my $n = sysread $c->{fh}, $c->{in}, 65536, length $c->{in};
    return if !defined $n && _again();

    my $head = parse_head($c->{in});
    my ($body) = $head ? decode_body($head, substr($c->{in}, $head->{size}),
                                     !$n) : ();

    return $self->_answered($c, $head) if defined $body;

    $self->_end($c, 'closed') unless $n;
}


sub _again { $! == EAGAIN || $! == EINTR || $! == EINPROGRESS }


sub _answered {
    my ($self, $c, $head) = @_;

    my $record = $c->{record};

    ($record->{status}) = $head->{line} =~ m{^HTTP/1\.1 ([0-9]{3})};
    $record->{worker} = header($head, 'X-Worker');
    $record->{version} = header($head, 'X-Version');

    my $kept = (header($head, 'Connection') // '') ne 'close';

    return $self->_end($c) unless $c->{left} && $kept;

    $self->_note($c);
    $c->{used} = 1;

    # what comes now, while nothing is asked, is the end
    $self->{loop}->on_read($c->{fh}, sub { $self->_close($c) });
    $c->{pause} = $self->{loop}->after(rand 0.3, sub { $self->_request($c) });
}


sub _note {
    my ($self, $c) = @_;

    $self->{loop}->cancel(delete $c->{$_}) for qw(timer leaves);

    $c->{record}{end} = now();
    push @{ $self->{records} }, delete $c->{record};
}


sub _end {
    my ($self, $c, $error) = @_;

    my $record = $c->{record};

    $record->{error} = $error if defined $error;
    $record->{late} = 1 if $c->{used} && !length $c->{in};

    $self->_note($c);
    $self->_close($c);
}


sub _close {
    my ($self, $c) = @_;

    $self->{loop}->cancel($c->{pause});
    $self->{loop}->forget($c->{fh});
    close delete $c->{fh};

    $self->{open}--;
    $self->_report;
}


1;
