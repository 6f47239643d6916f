package Bog::Client;

# HTTP/1.1 clients in the test's own process (get, parallel) or beside it
# (steady), and HTTP/2 ones by h2load.
#
# An answer is a hash: status, headers, body, raw, time (seconds that it took),
# or error ('connect', 'timeout', 'closed', 'left') with whatever came before.
#
# Options of a request: method, host, headers => [[name, value], ...], body,
# unix => path, ipv6 => 1, timeout.

use strict;
use warnings;

use Errno qw(EAGAIN EINPROGRESS EINTR EWOULDBLOCK);
use Exporter 'import';
use IO::Handle;
use Socket;

use Bog::Child;
use Bog::HTTP qw(parse_head header decode_body);
use Bog::Loop;
use Bog::Util qw(now timeout);

our @EXPORT_OK = qw(get parallel steady h2load header);


sub get {
    my ($port, $uri, %opt) = @_;

    my ($answer) = parallel($port, 1, %opt, uri => $uri);

    return $answer;
}


# All connections are opened and all requests sent before anything is read.
# Then on_sent is called; then the fraction close_after of the clients goes
# away, and on_closed is called; then the answers of the others are collected.
# uri may be a sub that gets the number of the request.

sub parallel {
    my ($port, $n, %opt) = @_;

    local $SIG{PIPE} = 'IGNORE';

    my $loop = Bog::Loop->new;
    my @exchanges = map { _exchange($loop, $port, $_, \%opt) } 0 .. $n - 1;

    _all($loop, 'sent', @exchanges);
    $opt{on_sent}->() if $opt{on_sent};

    my $leaving = int $n * ($opt{close_after} // 0);
    my @leaving = grep { !$_->{done} } @exchanges[0 .. $leaving - 1];

    _finish($_, 'left') for @leaving;
    $opt{on_closed}->() if $opt{on_closed};

    _all($loop, 'done', @exchanges);

    return map { $_->{answer} } @exchanges;
}


sub _all {
    my ($loop, $state, @exchanges) = @_;

    my %waiting = map { $_ => 1 } grep { !$_->{$state} && !$_->{done} }
                                  @exchanges;

    for my $exchange (@exchanges) {
        $exchange->{on}{$state} = sub {
            delete $waiting{$exchange};
            $loop->stop unless %waiting;
        };
    }

    $loop->run if %waiting;

    delete $_->{on}{$state} for @exchanges;
}


sub _exchange {
    my ($loop, $port, $i, $opt) = @_;

    my $self = {
        loop   => $loop,
        opt    => $opt,
        start  => now(),
        out    => _request($port, $i, $opt),
        in     => '',
        answer => {},
        on     => {},
    };

    $self->{timer} = $loop->after(timeout($opt->{timeout} // 60),
                                  sub { _finish($self, 'timeout') });

    $self->{fh} = _connect($port, $opt);
    $loop->on_write($self->{fh}, sub { _writable($self) });

    return $self;
}


sub _request {
    my ($port, $i, $opt) = @_;

    my $uri = $opt->{uri} // '/';
    $uri = $uri->($i) if ref $uri;

    my $body = $opt->{body};
    my $method = $opt->{method} // (defined $body ? 'POST' : 'GET');
    my $host = $opt->{host} // 'localhost';

    my @headers = (
        ['Host' => $host],
        ['Connection' => 'close'],
        defined $body ? ['Content-Length' => length $body] : (),
        @{ $opt->{headers} // [] },
    );

    return join "\r\n", "$method $uri HTTP/1.1",
        (map { "$_->[0]: $_->[1]" } @headers), '', $body // '';
}


sub _connect {
    my ($port, $opt) = @_;

    my ($family, $address) =
          $opt->{unix} ? (AF_UNIX, pack_sockaddr_un($opt->{unix}))
        : $opt->{ipv6} ? (AF_INET6, pack_sockaddr_in6($port,
                                        Socket::inet_pton(AF_INET6, '::1')))
        :                (AF_INET, pack_sockaddr_in($port, INADDR_LOOPBACK));

    socket my $fh, $family, SOCK_STREAM, 0 or die "socket: $!\n";
    $fh->blocking(0);

    # what fails here fails again, and better, on the first write
    connect $fh, $address;

    return $fh;
}


sub _writable {
    my $self = shift;

    my $n = syswrite $self->{fh}, $self->{out};

    if (!defined $n) {
        return if _again();
        return _finish($self, 'connect');
    }

    substr $self->{out}, 0, $n, '';
    return if length $self->{out};

    $self->{loop}->on_write($self->{fh}, undef);
    $self->{loop}->on_read($self->{fh}, sub { _readable($self) });

    _reach($self, 'sent');
}


sub _readable {
    my $self = shift;

    my $n = sysread $self->{fh}, $self->{in}, 65536, length $self->{in};
    return if !defined $n && _again();

    _parse($self, !$n) and return _finish($self);

    _finish($self, 'closed') unless $n;
}


sub _again {
    return $! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR
           || $! == EINPROGRESS;
}


sub _parse {
    my ($self, $eof) = @_;

    my $head = parse_head($self->{in}) or return;
    my $answer = $self->{answer};

    ($answer->{status}) = $head->{line} =~ m{^HTTP/1\.[01] ([0-9]{3})};
    $answer->{headers} = $head->{headers};

    my ($body) = decode_body($head, substr($self->{in}, $head->{size}), $eof);
    $answer->{body} = $body;

    return defined $body;
}


sub _finish {
    my ($self, $error) = @_;

    return if $self->{done};

    $self->{loop}->forget($self->{fh});
    $self->{loop}->cancel($self->{timer});
    close delete $self->{fh};

    my $answer = $self->{answer};

    $answer->{error} = $error if defined $error;
    $answer->{raw} = $self->{in};
    $answer->{time} = now() - $self->{start};

    _reach($self, 'sent');
    _reach($self, 'done');
}


sub _reach {
    my ($self, $state) = @_;

    return if $self->{$state}++;

    my $handler = $self->{on}{$state};
    $handler->() if $handler;
}


# A steady rate of requests from a process of its own, each on its own
# connection.  The object's result waits for the end: sent, status => { code
# => count }, errors => { name => count }, slowest, failures (the first ten
# that are not 200).

sub steady {
    my ($port, %opt) = @_;

    return Bog::Client::Steady->new($port, \%opt);
}


# HTTP/2 without TLS: n requests on c connections, m at a time on each.
# on_start is called while they run.

sub h2load {
    my ($port, %opt) = @_;

    my @command = ('h2load', '-n', $opt{n} // 1, '-c', $opt{c} // 1,
                   '-m', $opt{m} // 1, '-T', timeout(60),
                   "http://127.0.0.1:$port" . ($opt{uri} // '/'));

    open my $pipe, '-|', @command or die "h2load: $!\n";

    $opt{on_start}->() if $opt{on_start};

    my $output = do { local $/; <$pipe> } // '';
    close $pipe;

    my %result = (output => $output);

    my $names = qr/succeeded|failed|errored|timeout|[2-5]xx/;
    $result{$2} = $1 while $output =~ /\b([0-9]+) ($names)\b/g;

    return \%result;
}


package Bog::Client::Steady;

use Bog::Util qw(now timeout);


sub new {
    my ($class, $port, $opt) = @_;

    my $child = Bog::Child->new(sub {
        my $loop = shift;
        my $load = bless { loop => $loop, port => $port, opt => $opt }, $class;
        return $load->_begin;
    });

    return bless { child => $child }, $class;
}


sub result {
    my $self = shift;

    $self->{result} //= $self->{child}->call('result');
    $self->{child}->stop;

    return $self->{result};
}


sub _begin {
    my $self = shift;

    $self->{left} = $self->{opt}{rate} * $self->{opt}{seconds};
    $self->{next} = now();
    $self->{result} = { sent => 0, status => {}, errors => {}, slowest => 0,
                        failures => [] };

    $self->_tick;

    return { result => sub { $self->{reply} = $_[1]; $self->_report } };
}


# By the clock, not by the last request: a pause is made up for.

sub _tick {
    my $self = shift;

    while ($self->{left} > 0 && $self->{next} <= now()) {
        $self->_send;
        $self->{next} += 1 / $self->{opt}{rate};
        $self->{left}--;
    }

    return if $self->{left} <= 0;

    my $pause = $self->{next} - now();
    $self->{loop}->after($pause > 0 ? $pause : 0, sub { $self->_tick });
}


sub _send {
    my $self = shift;

    my $result = $self->{result};
    my $i = $result->{sent}++;

    my $exchange = Bog::Client::_exchange($self->{loop}, $self->{port}, $i,
                                          $self->{opt});

    $self->{open}++;
    $exchange->{on}{done} = sub {
        $self->{open}--;
        $self->_record($exchange->{answer});
        %$exchange = (done => 1, sent => 1);
        $self->_report;
    };
}


sub _record {
    my ($self, $answer) = @_;

    my $result = $self->{result};
    my $status = $answer->{status} // 0;

    defined $answer->{error} ? $result->{errors}{$answer->{error}}++
                             : $result->{status}{$status}++;

    $result->{slowest} = $answer->{time}
        if $answer->{time} > $result->{slowest};

    push @{ $result->{failures} }, { at => now(), %$answer }
        if @{ $result->{failures} } < 10
           && ($status != 200 || defined $answer->{error});
}


sub _report {
    my $self = shift;

    return if $self->{left} > 0 || $self->{open} || !$self->{reply};

    $self->{reply}->($self->{result});
}


1;
