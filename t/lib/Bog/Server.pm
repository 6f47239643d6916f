package Bog::Server;

# One server connection of a loop: requests in, scripts of bytes out, with or
# without TLS.  What a request means is the business of on_request.

use strict;
use warnings;

use Errno qw(EAGAIN EINTR EWOULDBLOCK);
use Socket;

use Bog::HTTP qw(parse_head header decode_body);
use Bog::Util 'now';


# %how: name, tls (a context), on_request (connection, request),
# on_accept, on_tls_error (reason), on_gone (connection).

sub serve {
    my ($class, $loop, $listener, %how) = @_;

    $listener->blocking(0);

    $loop->on_read($listener, sub {
        while (my $fh = $listener->accept) {
            $class->_accept($loop, $fh, \%how);
        }
    });
}


sub _accept {
    my ($class, $loop, $fh, $how) = @_;

    $fh->blocking(0);

    my $self = bless {
        loop  => $loop,
        how   => $how,
        fh    => $fh,
        in    => '',
        out   => '',
        peer  => _address(getpeername $fh),
        local => _address(getsockname $fh),
    }, $class;

    $how->{on_accept}->() if $how->{on_accept};

    return $self->_start_tls if $how->{tls};

    $loop->on_read($fh, sub { $self->_readable });
}


sub _address {
    my $sockaddr = shift;

    my $family = sockaddr_family($sockaddr // return '');
    return 'unix:' if $family == AF_UNIX;

    my ($port, $ip) = $family == AF_INET6 ? unpack_sockaddr_in6($sockaddr)
                                          : unpack_sockaddr_in($sockaddr);

    return Socket::inet_ntop($family, $ip) . " $port";
}


sub _start_tls {
    my $self = shift;

    require IO::Socket::SSL;

    # the class of the handle changes in place
    IO::Socket::SSL->start_SSL($self->{fh},
        SSL_server         => 1,
        SSL_startHandshake => 0,
        SSL_reuse_ctx      => $self->{how}{tls},
    ) or return $self->_tls_failed;

    $self->_handshake;
}


sub _handshake {
    my $self = shift;

    my ($loop, $fh) = @$self{qw(loop fh)};

    $loop->forget($fh);

    if ($fh->accept_SSL) {
        $self->{tls} = {
            version => $fh->get_sslversion,
            sni     => scalar $fh->get_servername,
            reused  => $fh->get_session_reused ? 1 : 0,
            subject => $fh->peer_certificate ?
                       $fh->peer_certificate('commonName') : undef,
        };

        $loop->on_read($fh, sub { $self->_readable });
        return $self->_readable;
    }

    my $again = sub { $self->_handshake };

    return $loop->on_read($fh, $again) if _wants_read();
    return $loop->on_write($fh, $again) if _wants_write();

    $self->_tls_failed;
}


sub _wants_read {
    no warnings 'once';
    return $IO::Socket::SSL::SSL_ERROR
           == IO::Socket::SSL::SSL_WANT_READ();
}


sub _wants_write {
    return $IO::Socket::SSL::SSL_ERROR
           == IO::Socket::SSL::SSL_WANT_WRITE();
}


sub _tls_failed {
    my $self = shift;

    my $handler = $self->{how}{on_tls_error};
    $handler->("$IO::Socket::SSL::SSL_ERROR") if $handler;

    $self->_drop;
}


sub _readable {
    my $self = shift;

    for ( ;; ) {
        my $n = sysread $self->{fh}, $self->{in}, 65536, length $self->{in};

        if (!defined $n) {
            last if $! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR;
            return $self->_gone;
        }

        return $self->_gone if $n == 0;

        # what TLS has decrypted already select() cannot tell
        last unless $self->{tls};
    }

    $self->_next_request;
}


sub _gone {
    my $self = shift;

    my $handler = $self->{how}{on_gone};
    $handler->($self) if $handler;

    $self->_drop;
}


sub _next_request {
    my $self = shift;

    return if $self->{busy};

    my $head = parse_head($self->{in}) or return;
    my $length = header($head, 'Content-Length') // 0;
    my $size = $head->{size} + $length;

    return if length $self->{in} < $size;

    my $raw = substr $self->{in}, 0, $size, '';
    my ($method, $uri, $protocol) = split / /, $head->{line}, 3;

    $self->{busy} = 1;
    $self->{keep} = ($protocol // '') eq 'HTTP/1.1'
                    && (header($head, 'Connection') // '') !~ /\bclose\b/i;

    $self->{how}{on_request}->($self, {
        raw      => $raw,
        method   => $method,
        uri      => $uri,
        headers  => $head->{headers},
        body     => substr($raw, $head->{size}),
        time     => now(),
        listener => $self->{how}{name},
        peer     => $self->{peer},
        local    => $self->{local},
        tls      => $self->{tls},
    });
}


sub keeps_alive { $_[0]{keep} }
sub is_open     { defined $_[0]{fh} }


# A script is a list of steps: [send => bytes], [wait => seconds] and at last
# [end => 'keep' | 'close' | 'reset'].

sub play {
    my ($self, @steps) = @_;

    while ($self->{fh} && @steps) {
        my ($step, $value) = @{ shift @steps };

        if ($step eq 'wait') {
            $self->{loop}->after($value, sub { $self->play(@steps) });
            return;
        }

        $step eq 'send' ? $self->_send($value) : $self->_end($value);
    }
}


sub _send {
    my ($self, $bytes) = @_;

    $self->{out} .= $bytes;
    $self->_flush;
}


sub _end {
    my ($self, $how) = @_;

    return $self->_reset if $how eq 'reset';

    if ($how eq 'close') {
        $self->{closing} = 1;
        return $self->_flush;
    }

    $self->{busy} = 0;
    $self->_next_request if length $self->{in};
}


sub _reset {
    my $self = shift;

    setsockopt $self->{fh}, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
    $self->_drop(SSL_no_shutdown => 1);
}


sub _flush {
    my $self = shift;

    my $fh = $self->{fh} or return;

    while (length $self->{out}) {
        my $n = syswrite $fh, $self->{out};

        if (defined $n) {
            substr $self->{out}, 0, $n, '';
            next;
        }

        return $self->_gone
            unless $! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR;

        return $self->{loop}->on_write($fh, sub { $self->_flush });
    }

    $self->{loop}->on_write($fh, undef);
    $self->_drop if $self->{closing};
}


sub _drop {
    my ($self, %tls) = @_;

    my $fh = delete $self->{fh} or return;

    $self->{loop}->forget($fh);

    $fh->isa('IO::Socket::SSL') ? $fh->close(SSL_fast_shutdown => 1, %tls)
                                : close $fh;
}


1;
