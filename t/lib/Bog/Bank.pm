package Bog::Bank;

# A mock of the bank in one process of its own: the token endpoint on several
# listeners, and the API, which believes only tokens that were issued here and
# have not expired.
#
#   my $bank = Bog::Bank->new(credentials => { 8282 => 'secret' });
#   $bank->answer(expires_in => 5);        from now on; see Bog::Answer
#   $bank->queue({ status => 503 }, {});   the next two
#   $bank->answer(hold => 1);              no answer until ...
#   $bank->release;                        ... all that are held get theirs

use strict;
use warnings;

use IO::Socket::INET;
use IO::Socket::UNIX;

use Bog::Bank::Desk;
use Bog::Child;
use Bog::Util qw(pass_time timeout);

our $PATH = '/auth/realms/bog/protocol/openid-connect/token';


# %opt: credentials => { id => secret or list of secrets }, verify => 0 to
# answer whatever is asked, tls => { cert, key [, client_ca, protocols] },
# unix => path, ipv6 => 1, lag => seconds after its issue before which the API
# does not take a token; at => where some listen,
# { token => [address, port], tls => ..., api_tls => ... }.

sub new {
    my ($class, %opt) = @_;

    my %listeners = (
        token => _inet(_at(\%opt, 'token')),
        api   => _inet('127.0.0.1'),
        $opt{tls}  ? (tls     => _inet(_at(\%opt, 'tls')),
                      api_tls => _inet(_at(\%opt, 'api_tls'))) : (),
        $opt{ipv6} ? (ipv6 => _inet('::1')) : (),
        $opt{unix} ? (unix => _unix($opt{unix})) : (),
    );

    my $self = bless {
        unix  => $opt{unix},
        ports => { map { $_ => $listeners{$_}->sockport }
                   grep { $_ ne 'unix' } keys %listeners },
    }, $class;

    $self->{child} = Bog::Child->new(sub {
        my $loop = shift;
        return Bog::Bank::Desk->new($loop, \%listeners, $PATH, \%opt)->commands;
    });

    return $self;
}


sub _at { @{ $_[0]{at}{$_[1]} // ['127.0.0.1'] } }


sub _inet {
    my ($address, $port) = @_;

    my $class = $address =~ /:/ ? 'IO::Socket::IP' : 'IO::Socket::INET';
    require IO::Socket::IP;

    return $class->new(
        LocalAddr => $address,
        LocalPort => $port // 0,
        Listen    => 4096,
        ReuseAddr => 1,
    ) // die "listen on $address: $@\n";
}


sub _unix {
    my $path = shift;

    unlink $path;

    return IO::Socket::UNIX->new(Local => $path, Listen => 4096)
        // die "listen on $path: $!\n";
}


sub port      { $_[0]{ports}{token} }
sub tls_port  { $_[0]{ports}{tls} }
sub ipv6_port { $_[0]{ports}{ipv6} }
sub api_port  { $_[0]{ports}{api} }
sub api_tls_port { $_[0]{ports}{api_tls} }
sub pid       { $_[0]{child}->pid }


sub url {
    my ($self, $listener) = @_;

    $listener //= 'token';

    return "http://unix:$self->{unix}:$PATH" if $listener eq 'unix';

    my $port = $self->{ports}{$listener};

    return "http://[::1]:$port$PATH" if $listener eq 'ipv6';
    return "https://127.0.0.1:$port$PATH" if $listener eq 'tls';
    return "http://127.0.0.1:$port$PATH";
}


# How token requests are answered: by default, the next ones, those held.

sub answer  { my ($self, %how) = @_; $self->_call(answer => \%how) }
sub queue   { my ($self, @how) = @_; $self->_call(queue => @how) }
sub release { my ($self, %how) = @_; $self->_call(release => \%how) }


# The same for the API; what it does by itself with no answer set is to check
# the token.

sub api_answer { my ($self, %how) = @_; $self->_call(api_answer => \%how) }


sub credentials {
    my ($self, %credentials) = @_;

    $self->_call(credentials => \%credentials);
}


# What was seen.  A token request is a hash: raw, method, uri, headers, body,
# time, listener, peer, local, tls, client (whose credentials), refused (why),
# answered (when), token, gone (when, before the answer).

sub requests     { @{ $_[0]->_call('requests') } }
sub api_requests { @{ $_[0]->_call('api_requests') } }
sub tokens       { @{ $_[0]->_call('tokens') } }

sub counts       { $_[0]->_call('counts') }
sub count        { $_[0]->counts->{requests} }
sub held         { $_[0]->counts->{held} }
sub api_stats    { $_[0]->_call('api_stats') }


# The counts that one can wait for: requests, answered, held, gone, api,
# connections, tls_errors.

sub wait_count {
    my ($self, $name, $n, $seconds) = @_;

    return $self->_call(wait => $name, $n, timeout($seconds // 30));
}


sub wait_requests { my $self = shift; $self->wait_count(requests => @_) }


sub issue  { my $self = shift; $self->_call(issue => @_) }


# The API has accepted nothing for a second then, unless told not to wait: the
# gateway would not blame a token for the first 401s after that.

sub revoke {
    my ($self, $token, $wait) = @_;

    pass_time($wait // 1.2);

    return $self->_call(revoke => $token);
}


# The API says 401 to the last token of a client, for so many seconds.

sub reject { my $self = shift; $self->_call(reject => @_) }


sub stop   { $_[0]{child}->stop }

sub _call  { my $self = shift; $self->{child}->call(@_) }


1;
