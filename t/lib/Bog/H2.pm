package Bog::H2;

# An HTTP/2 client that does what h2load cannot: it leaves some of its streams,
# or all of them, at a moment of the test's choice.
#
#   my $client = Bog::H2->new($port);
#   my @streams = map { $client->request("/$_") } 1 .. 3;
#   $client->reset($streams[0]);
#   $client->answer($streams[1]);      { status, body } or { reset => code }
#   $client->close;

use strict;
use warnings;

use Errno 'EINTR';
use IO::Select;
use IO::Socket::INET;
use Socket qw(IPPROTO_TCP TCP_NODELAY);

use Bog::Util qw(now timeout);

my ($DATA, $HEADERS, $RST_STREAM, $SETTINGS, $PING) = (0, 1, 3, 4, 6);
my ($END_STREAM, $ACK, $END_HEADERS) = (0x1, 0x1, 0x4);
my $CANCEL = 8;

# those that have a number of their own in HPACK's table
my %known = (0x88 => 200, 0x89 => 204, 0x8a => 206, 0x8b => 304, 0x8c => 400,
             0x8d => 404, 0x8e => 500);


sub new {
    my ($class, $port) = @_;

    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                       PeerPort => $port)
        or die "connect: $@\n";

    # a frame is not to wait for the acknowledgement of the one before
    setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1;

    my $self = bless { socket => $socket, in => '', next => 1,
                       streams => {} }, $class;

    $self->_write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                  . _frame($SETTINGS, 0, 0, ''));

    return $self;
}


# All of them in one write, so that nginx reads them at once.

sub request {
    my ($self, @uris) = @_;

    my ($frames, @ids) = ('');

    for my $uri (@uris) {
        my $id = $self->{next};
        $self->{next} += 2;
        $self->{streams}{$id} = { body => '' };

        $frames .= _frame($HEADERS, $END_STREAM | $END_HEADERS, $id, join '',
            _field(':method', 'GET'), _field(':scheme', 'http'),
            _field(':authority', 'localhost'), _field(':path', $uri));
        push @ids, $id;
    }

    $self->_write($frames);

    return wantarray ? @ids : $ids[0];
}


sub reset {
    my ($self, @ids) = @_;

    $self->_write(join '', map { _frame($RST_STREAM, 0, $_, pack 'N', $CANCEL) }
                           @ids);
}


sub close { close delete $_[0]{socket} }


# Waits for the end of a stream.

sub answer {
    my ($self, $id) = @_;

    my $stream = $self->{streams}{$id};
    my $deadline = now() + timeout(30);

    until ($stream->{ended}) {
        $self->_read($deadline - now()) or return { %$stream,
                                                    error => 'closed' };
    }

    return $stream;
}


sub _write {
    my ($self, $bytes) = @_;

    local $SIG{PIPE} = 'IGNORE';

    print { $self->{socket} } $bytes or die "write: $!\n";
    $self->{socket}->flush;
}


sub _read {
    my ($self, $seconds) = @_;

    IO::Select->new($self->{socket})->can_read($seconds > 0 ? $seconds : 0)
        or return;

    my $n = sysread $self->{socket}, $self->{in}, 65536, length $self->{in};

    return 1 if !defined $n && $! == EINTR;
    return unless $n;

    while (length $self->{in} >= 9) {
        my ($high, $low, $type, $flags, $id) = unpack 'CnCCN', $self->{in};
        my $length = $high << 16 | $low;

        last if length $self->{in} < 9 + $length;

        substr $self->{in}, 0, 9, '';
        $self->_got($type, $flags, $id, substr $self->{in}, 0, $length, '');
    }

    return 1;
}


sub _got {
    my ($self, $type, $flags, $id, $payload) = @_;

    return $self->_write(_frame($type, $ACK, 0, $type == $PING ? $payload : ''))
        if ($type == $SETTINGS || $type == $PING) && !($flags & $ACK);

    my $stream = $self->{streams}{$id} or return;

    $stream->{status} = _status($payload) if $type == $HEADERS;
    $stream->{body} .= $payload if $type == $DATA;
    $stream->{reset} = unpack 'N', $payload if $type == $RST_STREAM;

    $stream->{ended} = 1 if $type == $RST_STREAM
        || $flags & $END_STREAM && ($type == $HEADERS || $type == $DATA);
}


# The status comes first; nginx writes others than those with a number of
# their own as plain text.

sub _status {
    my $block = shift;

    # the size of a table that we do not have
    $block =~ s/^[\x20-\x3f]//;

    return $known{ord $block} // ($block =~ /^[\x48\x08]\x03(\d{3})/)[0];
}


sub _frame {
    my ($type, $flags, $id, $payload) = @_;

    return pack('CnCCN', length($payload) >> 16, length($payload) & 0xffff,
                $type, $flags, $id) . $payload;
}


# A literal without indexing, for names and values below 127 bytes.

sub _field {
    my ($name, $value) = @_;

    return pack 'C C/a* C/a*', 0, $name, $value;
}


1;
