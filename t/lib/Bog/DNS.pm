package Bog::DNS;

# A name server on 127.0.0.1 whose answers change at run time.
#
#   my $dns = Bog::DNS->new;
#   $dns->answer('oauth2.test' => ['127.0.0.1', '::1']);
#   $dns->answer('oauth2.test' => 'SERVFAIL' | 'REFUSED' | 'NXDOMAIN' | 'SILENT');
#   $dns->answer('oauth2.test' => { A => ['127.0.0.1'], AAAA => 'SERVFAIL' });
#
# Names that it was never told do not exist.

use strict;
use warnings;

use IO::Socket::INET;
use Socket;

use Bog::Child;
use Bog::Util 'timeout';

my %type = (A => 1, AAAA => 28);
my %rcode = (NOERROR => 0, SERVFAIL => 2, NXDOMAIN => 3, REFUSED => 5);


# %opt: ttl of the answers in seconds; address and port to listen on.

sub new {
    my ($class, %opt) = @_;

    my $socket = IO::Socket::INET->new(Proto => 'udp',
                                       LocalAddr => $opt{address} // '127.0.0.1',
                                       LocalPort => $opt{port} // 0)
        // die "name server: $@\n";

    my $self = bless { port => $socket->sockport }, $class;

    $self->{child} = Bog::Child->new(sub {
        my $loop = shift;
        return _commands({
            loop    => $loop,
            socket  => $socket,
            ttl     => $opt{ttl} // 1,
            answers => {},
            queries => [],
            waiters => [],
        });
    });

    return $self;
}


sub port { $_[0]{port} }


sub answer {
    my ($self, $name, $answer) = @_;

    $self->{child}->call(answer => lc $name, $answer);
}


# The queries seen so far, [name, type, port of who asked] each.

sub queries { @{ $_[0]{child}->call('queries') } }


sub count {
    my ($self, $name) = @_;

    return scalar grep { !defined $name || $_->[0] eq lc $name }
                  $self->queries;
}


sub wait_queries {
    my ($self, $n, $seconds) = @_;

    return $self->{child}->call(wait => $n, timeout($seconds // 30));
}


sub stop { $_[0]{child}->stop }


sub _commands {
    my $self = shift;

    $self->{socket}->blocking(0);
    $self->{loop}->on_read($self->{socket}, sub { _receive($self) });

    return {
        answer  => sub {
            my ($arguments, $reply) = @_;
            $self->{answers}{$arguments->[0]} = $arguments->[1];
            $reply->(1);
        },
        queries => sub { $_[1]->($self->{queries}) },
        wait    => sub { _wait($self, @{ $_[0] }, $_[1]) },
    };
}


sub _wait {
    my ($self, $n, $seconds, $reply) = @_;

    my $waiter = { n => $n, reply => $reply };

    $waiter->{timer} = $self->{loop}->after($seconds, sub {
        $self->{waiters} = [grep { $_ != $waiter } @{ $self->{waiters} }];
        $reply->(0);
    });

    push @{ $self->{waiters} }, $waiter;
    _wake($self);
}


sub _wake {
    my $self = shift;

    my @left;

    for my $waiter (@{ $self->{waiters} }) {
        if (@{ $self->{queries} } < $waiter->{n}) {
            push @left, $waiter;
            next;
        }

        $self->{loop}->cancel($waiter->{timer});
        $waiter->{reply}->(1);
    }

    $self->{waiters} = \@left;
}


sub _receive {
    my $self = shift;

    while (my $peer = recv $self->{socket}, my $query, 4096, 0) {
        my ($id, $name, $type, $question) = _parse($query) or next;

        push @{ $self->{queries} }, [$name, $type,
                                     (unpack_sockaddr_in($peer))[0]];

        my $answer = $self->{answers}{$name} // 'NXDOMAIN';
        my $bytes = _reply($self, $answer, $id, $type, $question);

        send $self->{socket}, $bytes, 0, $peer if defined $bytes;
        _wake($self);
    }
}


sub _parse {
    my $query = shift;

    return if length $query < 17;

    my $id = unpack 'n', $query;
    my ($labels, $type) = substr($query, 12) =~ /^((?:[^\0].*?)?)\0(..)/s
        or return;

    my $name = join '.', unpack '(C/a*)*', $labels;
    my $question = substr $query, 12, length($labels) + 5;

    return ($id, lc $name, unpack('n', $type), $question);
}


sub _reply {
    my ($self, $answer, $id, $type, $question) = @_;

    if (ref $answer eq 'HASH') {
        ($answer) = map { $answer->{$_} } grep { $type{$_} == $type }
                    keys %$answer;
        $answer //= [];
    }

    return if $answer eq 'SILENT';

    my $rcode = ref $answer ? $rcode{NOERROR} : $rcode{$answer};
    my @data = ref $answer ? grep { length } map { _data($type, $_) } @$answer
                           : ();

    # flags: an authoritative response, recursion available; the name of each
    # record is a pointer to the question
    return pack('n6', $id, 0x8580 | $rcode, 1, scalar @data, 0, 0)
           . $question
           . join '', map { pack 'n n n N n/a*', 0xc00c, $type, 1,
                                 $self->{ttl}, $_ } @data;
}


sub _data {
    my ($type, $ip) = @_;

    my $is_ipv6 = $ip =~ /:/;

    return '' if $type != $type{$is_ipv6 ? 'AAAA' : 'A'};

    return Socket::inet_pton($is_ipv6 ? AF_INET6 : AF_INET, $ip);
}


1;
