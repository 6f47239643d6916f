package Bog::Backend;

# Backends that speak what nginx can speak to one: FastCGI, uwsgi, SCGI and
# HTTP, with WebSocket's upgrade, all in one process of its own.
#
#   my $backend = Bog::Backend->new;
#   $backend->port('fastcgi');            uwsgi, scgi, http, spare (HTTP too)
#   $backend->reject($token);             401 for this one from now on
#   $backend->answer(http => delay => 1); see below
#   $backend->requests;
#
# An answer is 200 and "ok", but for a rejected token.  What may be said of it:
#
#   status, headers => [[name, value], ...]
#   body      a request for a range of it gets that range
#   echo      1: the body is the Authorization that came
#   hold      1: not before $backend->release
#   strict    1: 401 for no token, too
#   delay     seconds
#   early     1: it does not wait for the body of the request
#   close     1: the connection is closed instead
#
# A request is a hash: kind, connection (its number), params (of names to lists
# of values; a header is called HTTP_NAME, as in CGI), body, authorization (what
# came as one, in a list), time.

use strict;
use warnings;

use Digest::SHA 'sha1_base64';
use IO::Socket::INET;

use Bog::Child;
use Bog::HTTP 'parse_head';
use Bog::Util qw(now pass_time wait_until);

# what reads a request, and what writes an answer
my %kinds = (
    fastcgi => [\&_read_fastcgi, \&_write_fastcgi],
    uwsgi   => [\&_read_uwsgi, \&_write_uwsgi],
    scgi    => [\&_read_scgi, \&_write_scgi],
    http    => [\&_read_http, \&_write_http],
    spare   => [\&_read_http, \&_write_http],
);

my %reason = (200 => 'OK', 206 => 'Partial Content', 401 => 'Unauthorized',
              503 => 'Service Unavailable');


sub new {
    my $class = shift;

    my %listeners = map { $_ => _listen() } keys %kinds;
    my $self = bless {
        ports => { map { $_ => $listeners{$_}->sockport } keys %kinds },
    }, $class;

    $self->{child} = Bog::Child->new(sub { _serve($_[0], \%listeners) });

    return $self;
}


sub _listen {
    return IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 64)
           // die "listen: $@\n";
}


sub port     { $_[0]{ports}{$_[1]} }
sub requests { @{ $_[0]{child}->call('requests') } }
sub release  { $_[0]{child}->call('release') }


# Nothing has been accepted for a second then, see Bog::Bank.

sub reject {
    my ($self, $token) = @_;

    pass_time(1.2);

    return $self->{child}->call(reject => $token);
}


sub answer {
    my ($self, $kind, %how) = @_;

    $self->{child}->call(answer => $kind, \%how);
}

sub wait_requests {
    my ($self, $n) = @_;

    return wait_until { $self->requests >= $n };
}


# --- in the process of its own

sub _serve {
    my ($loop, $listeners) = @_;

    my $desk = { loop => $loop, requests => [], rejected => {}, answers => {},
                 held => [], connections => 0 };

    for my $kind (keys %$listeners) {
        my $listener = $listeners->{$kind};
        $loop->on_read($listener, sub { _accept($desk, $kind, $listener) });
    }

    return {
        requests => sub { $_[1]->($desk->{requests}) },
        reject   => sub { $desk->{rejected}{$_[0][0]} = 1; $_[1]->(1) },
        answer   => sub { $desk->{answers}{$_[0][0]} = $_[0][1]; $_[1]->(1) },
        release  => sub { my @held = splice @{ $desk->{held} };
                          $_->() for @held;
                          $_[1]->(scalar @held) },
    };
}


sub _accept {
    my ($desk, $kind, $listener) = @_;

    my $fh = $listener->accept or return;

    my $connection = { desk => $desk, kind => $kind, fh => $fh, in => '',
                       number => ++$desk->{connections} };

    $desk->{loop}->on_read($fh, sub { _readable($connection) });
}


sub _readable {
    my $connection = shift;

    my $n = sysread $connection->{fh}, $connection->{in}, 65536,
                    length $connection->{in};

    return _drop($connection) unless $n;
    return _echo($connection) if $connection->{upgraded};

    while ($connection->{fh} && !$connection->{deaf}) {
        my $request = $kinds{$connection->{kind}}[0]->($connection) or last;
        _handle($connection, $request);
    }
}


sub _drop {
    my $connection = shift;

    my $fh = delete $connection->{fh} or return;

    $connection->{desk}{loop}->forget($fh);
    close $fh;
}


sub _echo {
    my $connection = shift;

    syswrite $connection->{fh}, $connection->{in};
    $connection->{in} = '';
}


sub _how { $_[0]{desk}{answers}{$_[0]{kind}} // {} }


sub _handle {
    my ($connection, $request) = @_;

    my $desk = $connection->{desk};
    my $how = _how($connection);

    $request->{kind} = $connection->{kind};
    $request->{connection} = $connection->{number};
    $request->{time} = now();
    $request->{authorization} = $request->{params}{HTTP_AUTHORIZATION} // [];
    push @{ $desk->{requests} }, $request;

    return _drop($connection) if $how->{close};

    # by what is known now, however late the answer comes
    my $refused = _refused($desk, $request, $how);
    my $answer = sub { _answer($connection, $request, $how, $refused) };

    return push @{ $desk->{held} }, $answer if $how->{hold};

    $how->{delay} ? $desk->{loop}->after($how->{delay}, $answer)
                  : $answer->();
}


sub _refused {
    my ($desk, $request, $how) = @_;

    my ($token) = "@{ $request->{authorization} }" =~ /^Bearer (\S+)\z/;

    return defined $token ? $desk->{rejected}{$token} : $how->{strict};
}


sub _answer {
    my ($connection, $request, $how, $refused) = @_;

    return unless $connection->{fh};

    return _upgrade($connection, $request)
        if !$refused && exists $request->{params}{HTTP_UPGRADE};

    my @headers = (['Content-Type' => 'text/plain'],
                   @{ $how->{headers} // [] });

    $refused ? _write($connection, 401, 'rejected', @headers)
             : _write($connection, _part($request, $how, \@headers), @headers);
}


sub _part {
    my ($request, $how, $headers) = @_;

    my $body = $how->{echo} ? "@{ $request->{authorization} }"
                            : $how->{body} // 'ok';

    my ($first, $last) = ($request->{params}{HTTP_RANGE}[0] // '')
                         =~ /^bytes=(\d+)-(\d+)\z/
        or return ($how->{status} // 200, $body);

    my $size = length $body;
    $last = $size - 1 if $last >= $size;

    push @$headers, ['Content-Range' => "bytes $first-$last/$size"],
                    ['ETag' => '"one"'];

    return (206, substr $body, $first, $last - $first + 1);
}


sub _upgrade {
    my ($connection, $request) = @_;

    my $accept = sha1_base64($request->{params}{HTTP_SEC_WEBSOCKET_KEY}[0]
                             . '258EAFA5-E914-47DA-95CA-C5AB0DC85B11');

    $connection->{upgraded} = 1;

    syswrite $connection->{fh}, join "\r\n",
        'HTTP/1.1 101 Switching Protocols', 'Connection: Upgrade',
        'Upgrade: websocket', "Sec-WebSocket-Accept: $accept=", '', '';
}


sub _write {
    my ($connection, $status, $body, @headers) = @_;

    my $writer = $kinds{$connection->{kind}}[1];

    $writer->($connection, $status, $body,
              join '', map { "$_->[0]: $_->[1]\r\n" } @headers);
}


sub _reason { "$_[0] $reason{$_[0]}" }


# --- HTTP

sub _read_http {
    my $connection = shift;

    my $head = parse_head($connection->{in}) or return;
    my %params;

    for my $header (@{ $head->{headers} }) {
        my $name = 'HTTP_' . uc($header->[0]) =~ tr/-/_/r;
        push @{ $params{$name} }, $header->[1];
    }

    @params{qw(REQUEST_METHOD REQUEST_URI)} = map { [$_] }
        (split / /, $head->{line})[0, 1];

    if (_how($connection)->{early}) {
        $connection->{deaf} = 1;
        return { params => \%params, body => '' };
    }

    return _with_body($connection, $head->{size}, \%params,
                      $params{HTTP_CONTENT_LENGTH}[0]);
}


sub _with_body {
    my ($connection, $size, $params, $length) = @_;

    return if length $connection->{in} < $size + ($length || 0);

    substr $connection->{in}, 0, $size, '';
    my $body = substr $connection->{in}, 0, $length || 0, '';

    return { params => $params, body => $body };
}


sub _write_http {
    my ($connection, $status, $body, $headers) = @_;

    my $length = length $body;

    syswrite $connection->{fh}, 'HTTP/1.1 ' . _reason($status)
        . "\r\n${headers}Content-Length: $length\r\n\r\n$body";

    # who has not read all that comes can only close
    shutdown $connection->{fh}, 1 if $connection->{deaf};
}


# --- uwsgi and SCGI

sub _read_uwsgi {
    my $connection = shift;

    return if length $connection->{in} < 4;

    my $size = unpack 'x v', $connection->{in};
    return if length $connection->{in} < 4 + $size;

    my @pairs = unpack '(v/a*)*', substr $connection->{in}, 4, $size;

    return _cgi($connection, 4 + $size, @pairs);
}


sub _read_scgi {
    my $connection = shift;

    my ($size) = $connection->{in} =~ /^(\d+):/ or return;
    my $start = 1 + length $size;

    return if length $connection->{in} < $start + $size + 1;

    my @pairs = split /\0/, substr($connection->{in}, $start, $size), -1;
    pop @pairs;

    return _cgi($connection, $start + $size + 1, @pairs);
}


sub _cgi {
    my ($connection, $size, @pairs) = @_;

    my $params = _params(@pairs);

    return _with_body($connection, $size, $params,
                      $params->{CONTENT_LENGTH}[0]);
}


sub _params {
    my %params;

    while (my ($name, $value) = splice @_, 0, 2) {
        push @{ $params{$name} }, $value;
    }

    return \%params;
}


sub _write_uwsgi {
    my ($connection, $status, $body, $headers) = @_;

    syswrite $connection->{fh}, 'HTTP/1.1 ' . _reason($status)
                                . "\r\n$headers\r\n$body";
    _drop($connection);
}


sub _write_scgi {
    my ($connection, $status, $body, $headers) = @_;

    syswrite $connection->{fh}, _cgi_answer($status, $body, $headers);
    _drop($connection);
}


sub _cgi_answer {
    my ($status, $body, $headers) = @_;

    return 'Status: ' . _reason($status) . "\r\n$headers\r\n$body";
}


# --- FastCGI

my ($BEGIN, $END, $PARAMS, $STDIN, $STDOUT) = (1, 3, 4, 5, 6);


sub _read_fastcgi {
    my $connection = shift;

    while (length $connection->{in} >= 8) {
        my ($type, $length, $padding) = unpack 'x C x2 n C', $connection->{in};
        my $size = 8 + $length + $padding;

        last if length $connection->{in} < $size;

        my $content = substr $connection->{in}, 8, $length;
        substr $connection->{in}, 0, $size, '';

        $connection->{keep} = (unpack 'n C', $content)[1] & 1
            if $type == $BEGIN;

        $connection->{parts}{$type} .= $content;

        next if $type != $STDIN || $length;

        my $parts = delete $connection->{parts};

        return { params => _params(_fastcgi_pairs($parts->{$PARAMS})),
                 body   => $parts->{$STDIN} };
    }

    return;
}


sub _fastcgi_pairs {
    my $bytes = shift;

    my @pairs;

    while (length $bytes) {
        my @lengths = map { _fastcgi_length(\$bytes) } 1, 2;
        push @pairs, map { substr $bytes, 0, $_, '' } @lengths;
    }

    return @pairs;
}


sub _fastcgi_length {
    my $bytes = shift;

    return unpack 'C', substr $$bytes, 0, 1, '' if ord($$bytes) < 0x80;
    return 0x7fffffff & unpack 'N', substr $$bytes, 0, 4, '';
}


sub _write_fastcgi {
    my ($connection, $status, $body, $headers) = @_;

    my $record = sub { pack 'C C n n C C a*', 1, $_[0], 1, length $_[1], 0, 0,
                            $_[1] };

    syswrite $connection->{fh},
        $record->($STDOUT, _cgi_answer($status, $body, $headers))
        . $record->($STDOUT, '')
        . $record->($END, "\0" x 8);

    _drop($connection) unless $connection->{keep};
}


1;
