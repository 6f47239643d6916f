package Bog::Bank::Desk;

# The bank's own side: who asks, what is answered, which tokens are good.

use strict;
use warnings;

use MIME::Base64 'encode_base64';

use Bog::Answer qw(steps issued);
use Bog::HTTP 'header';
use Bog::Server;
use Bog::Util 'now';


sub new {
    my ($class, $loop, $listeners, $path, $opt) = @_;

    my $self = bless {
        loop        => $loop,
        path        => $path,
        verify      => $opt->{verify} // 1,
        lag         => $opt->{lag} // 0,
        answer      => {},
        queue       => [],
        held        => [],
        requests    => [],
        api         => [],
        api_stats   => { map { $_ => 0 } qw(valid newborn expired unknown
                                               missing) },
        tokens      => {},
        issued      => [],
        waiters     => [],
        counts      => { map { $_ => 0 } qw(requests answered held gone api
                                            connections tls_errors) },
    }, $class;

    $self->_set_credentials($opt->{credentials});
    $self->_serve($_, $listeners->{$_}, $opt) for keys %$listeners;

    return $self;
}


sub _serve {
    my ($self, $name, $listener, $opt) = @_;

    my $api = $name =~ /^api/;
    my $handler = $api ? '_api_request' : '_token_request';

    Bog::Server->serve($self->{loop}, $listener,
        name         => $name,
        tls          => $name =~ /tls$/ ? _tls_context($opt->{tls}) : undef,
        on_request   => sub { $self->$handler(@_) },
        on_gone      => sub { $self->_gone(@_) },
        on_tls_error => sub { $self->_count('tls_errors') },
        on_accept    => sub { $self->_count('connections') unless $api },
    );
}


sub _tls_context {
    my $tls = shift;

    require IO::Socket::SSL;

    no warnings 'once';

    return IO::Socket::SSL::SSL_Context->new(
        SSL_server    => 1,
        SSL_cert_file => $tls->{cert},
        SSL_key_file  => $tls->{key},
        $tls->{protocols} ? (SSL_version => $tls->{protocols}) : (),
        $tls->{client_ca} ? (
            SSL_ca_file     => $tls->{client_ca},
            SSL_verify_mode => IO::Socket::SSL::SSL_VERIFY_PEER()
                | IO::Socket::SSL::SSL_VERIFY_FAIL_IF_NO_PEER_CERT(),
        ) : (SSL_verify_mode => IO::Socket::SSL::SSL_VERIFY_NONE()),
    ) // die "TLS: $IO::Socket::SSL::SSL_ERROR\n";
}


sub commands {
    my $self = shift;

    # a command that returns something is answered with it at once
    my %commands = (
        answer       => sub { $self->{answer} = $_[0]; 1 },
        api_answer   => sub { $self->{api_answer} = %{ $_[0] } && $_[0]; 1 },
        queue        => sub { push @{ $self->{queue} }, @_; 1 },
        release      => sub { $self->_release($_[0]) },
        credentials  => sub { $self->_set_credentials($_[0]); 1 },
        requests     => sub { $self->{requests} },
        api_requests => sub { $self->{api} },
        tokens       => sub { $self->{issued} },
        counts       => sub { $self->{counts} },
        api_stats    => sub { $self->{api_stats} },
        issue        => sub { $self->_issue(@_[0, 1], { client => $_[2] }, {});
                              1 },
        revoke       => sub { delete $self->{tokens}{$_[0]} ? 1 : 0 },
        reject       => sub { $self->_reject(@_) },
    );

    my %table = map {
        my $command = $commands{$_};
        ($_ => sub { my ($arguments, $reply) = @_;
                     $reply->($command->(@$arguments)) });
    } keys %commands;

    $table{wait} = sub { $self->_wait(@{ $_[0] }, $_[1]) };

    return \%table;
}


sub _set_credentials {
    my ($self, $credentials) = @_;

    my %clients;

    for my $id (keys %{ $credentials // {} }) {
        my $secrets = $credentials->{$id};

        $clients{'Basic ' . encode_base64("$id:$_", '')} = $id
            for ref $secrets ? @$secrets : $secrets;
    }

    $self->{clients} = \%clients;
}


sub _token_request {
    my ($self, $connection, $request) = @_;

    push @{ $self->{requests} }, $request;

    $request->{client} = $self->{clients}{
        header($request, 'Authorization') // ''
    };

    my $how = $self->_refusal($request)
              // shift @{ $self->{queue} } // $self->{answer};

    if ($how->{hold}) {
        push @{ $self->{held} }, [$connection, $request, $how];
        $self->{counts}{held}++;

    } else {
        $self->_answer($connection, $request, $how);
    }

    $self->_count('requests');
}


sub _refusal {
    my ($self, $request) = @_;

    return unless $self->{verify};

    my ($status, $error) = $self->_fault($request) or return;

    $request->{refused} = $error;

    return { status => $status, body => qq({"error":"$error"}) };
}


sub _fault {
    my ($self, $request) = @_;

    return (404, 'not_found') if $request->{uri} ne $self->{path};
    return (405, 'method_not_allowed') if $request->{method} ne 'POST';

    return (400, 'invalid_request')
        if (header($request, 'Content-Type') // '')
           ne 'application/x-www-form-urlencoded';

    return (400, 'unsupported_grant_type')
        if $request->{body} !~ /^grant_type=client_credentials(?:&|\z)/;

    return (401, 'invalid_client')
        if %{ $self->{clients} } && !defined $request->{client};

    return;
}


sub _answer {
    my ($self, $connection, $request, $how) = @_;

    $how = $self->_repeated($request, $how) if $how->{repeat};

    my ($token, $lifetime) = issued($how);

    if (defined $token) {
        $self->_issue($token, $lifetime, $request, $how)
            unless defined $request->{repeated};
        $request->{token} = $token;
    }

    $request->{answered} = now();
    $connection->{request} = undef;

    $connection->play(steps($how, $token, $connection->keeps_alive));
    $self->_count('answered');
}


# The token that the source got last, until it ends; its lifetime is counted
# down.

sub _repeated {
    my ($self, $request, $how) = @_;

    my $last = $self->{last}{ _source($request) } or return $how;
    my $left = $last->{expires} - now();

    return $how if $left <= 0;

    $request->{repeated} = int $left;

    return { %$how, token => $last->{token}, expires_in => int $left };
}


sub _source { join ' ', map { $_ // '' } @{ $_[0] }{qw(client body)} }


sub _release {
    my ($self, $how) = @_;

    my @held = splice @{ $self->{held} };
    $self->{counts}{held} = 0;

    $self->_answer($_->[0], $_->[1], { %{ $_->[2] }, %$how }) for @held;

    return scalar @held;
}


sub _gone {
    my ($self, $connection) = @_;

    my ($found) = grep { $_->[0] == $connection } @{ $self->{held} } or return;

    $found->[1]{gone} = now();

    $self->{held} = [grep { $_ != $found } @{ $self->{held} }];
    $self->{counts}{held}--;
    $self->_count('gone');
}


sub _issue {
    my ($self, $token, $lifetime, $request, $how) = @_;

    my $now = now();

    my $issued = $self->{tokens}{$token} = {
        token   => $token,
        client  => $request->{client},
        issued  => $now,
        mature  => $now + ($how->{mature} // $self->{lag}),
        expires => $now + $lifetime,
    };

    push @{ $self->{issued} }, $issued;

    # one that comes late may never be known to the gateway
    $self->{last}{ _source($request) } = $issued
        unless $how->{delay} || $how->{drip};
}


# For some seconds the API says 401 to the last token of this client.

sub _reject {
    my ($self, $client, $seconds) = @_;

    my ($token) = grep { ($_->{client} // '') eq $client }
                  reverse @{ $self->{issued} } or return 0;

    $token->{rejected} = now() + $seconds;

    return 1;
}


sub _api_request {
    my ($self, $connection, $request) = @_;

    my $authorization = header($request, 'Authorization');
    my ($state, $client) = $self->_judge($authorization);

    $self->{api_stats}{$state}++;

    my $how = $self->{api_answer}
              || _echo($state, $authorization // '');

    push @{ $self->{api} }, {
        raw           => $request->{raw},
        method        => $request->{method},
        uri           => $request->{uri},
        body          => $request->{body},
        time          => $request->{time},
        authorization => $authorization,
        state         => $state,
        client        => $client,
    };

    $connection->play(steps($how, undef, $connection->keeps_alive));
    $self->_count('api');
}


sub _judge {
    my ($self, $authorization) = @_;

    return 'missing' unless defined $authorization;

    my ($name) = $authorization =~ /^Bearer (\S+)\z/ or return 'missing';
    my $token = $self->{tokens}{$name} or return 'unknown';

    my $now = now();
    my $state = $now >= $token->{expires}           ? 'expired'
              : $now < $token->{mature}             ? 'newborn'
              : $now < ($token->{rejected} // 0)    ? 'rejected'
              :                                       'valid';

    return ($state, $token->{client});
}


sub _echo {
    my ($state, $authorization) = @_;

    return {
        status  => 401,
        headers => [['WWW-Authenticate' => 'Bearer error="invalid_token"']],
        body    => qq({"error":"invalid_token","state":"$state"}),
    } if $state ne 'valid';

    # by hand: this is the path of thousands of requests a second
    $authorization =~ s/(["\\])/\\$1/g;

    return { body => qq({"authorization":"$authorization"}) };
}


sub _count {
    my ($self, $name) = @_;

    $self->{counts}{$name}++;
    $self->_wake;
}


sub _wait {
    my ($self, $name, $n, $seconds, $reply) = @_;

    die "no count \"$name\"\n" unless exists $self->{counts}{$name};

    my $waiter = { name => $name, n => $n, reply => $reply };

    $waiter->{timer} = $self->{loop}->after($seconds, sub {
        $self->{waiters} = [grep { $_ != $waiter } @{ $self->{waiters} }];
        $reply->(0);
    });

    push @{ $self->{waiters} }, $waiter;
    $self->_wake;
}


sub _wake {
    my $self = shift;

    my @due = grep { $self->{counts}{$_->{name}} >= $_->{n} }
              @{ $self->{waiters} } or return;

    my %due = map { $_ => 1 } @due;
    $self->{waiters} = [grep { !$due{$_} } @{ $self->{waiters} }];

    for my $waiter (@due) {
        $self->{loop}->cancel($waiter->{timer});
        $waiter->{reply}->(1);
    }
}


1;
