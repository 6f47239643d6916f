package Bog::Child;

# A forked helper and the socket pair that controls it.  Messages are JSON
# behind a 32-bit length.  The helper lives as long as the other end is open:
# a test that dies leaves nothing behind.

use strict;
use warnings;

use Errno qw(EAGAIN EINTR);
use IO::Handle;
use JSON::PP;
use POSIX ();
use Socket;

use Bog::Loop;
use Bog::Util qw(now timeout);

my $json = JSON::PP->new->utf8->allow_nonref;
my %ends;


# serve is called in the helper with the loop and this object; the table of
# commands that it returns maps a name to a sub (arguments, reply).  The reply
# may be called later: that is how one waits for an event.

sub new {
    my ($class, $serve) = @_;

    socketpair my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC
        or die "socketpair: $!\n";

    $_->autoflush(1) for $ours, $theirs;

    STDOUT->flush;
    STDERR->flush;

    my $pid = fork // die "fork: $!\n";

    if ($pid == 0) {
        close $ours;
        close $_ for values %ends;

        my $ok = eval { _serve($theirs, $serve); 1 };
        print STDERR "$class $$: $@" unless $ok;

        # no END blocks here: the test's own plan is none of our business
        POSIX::_exit($ok ? 0 : 1);
    }

    close $theirs;

    my $self = bless { pid => $pid, owner => $$, socket => $ours }, $class;
    $ends{$pid} = $ours;

    return $self;
}


sub pid { $_[0]{pid} }


sub call {
    my ($self, $command, @arguments) = @_;

    my $socket = $self->{socket} or die "helper $self->{pid} is gone\n";

    local $SIG{PIPE} = 'IGNORE';
    _put($socket, [$command, @arguments]);

    my $reply = _get($socket)
        // die "helper $self->{pid} died on \"$command\"\n";

    die $reply->{error} if defined $reply->{error};

    return $reply->{result};
}


sub stop {
    my $self = shift;

    my $socket = delete $self->{socket} or return;
    delete $ends{$self->{pid}};
    close $socket;

    # a helper inherited by a fork of the test is not ours to end
    return if $self->{owner} != $$;

    local ($?, $@, $!);

    my $deadline = now() + timeout(5);

    while (waitpid($self->{pid}, POSIX::WNOHANG()) == 0) {
        kill KILL => $self->{pid} if now() > $deadline;
        select undef, undef, undef, 0.002;
    }
}


sub DESTROY { $_[0]->stop }


sub _serve {
    my ($socket, $serve) = @_;

    $SIG{PIPE} = 'IGNORE';
    $SIG{INT} = $SIG{TERM} = 'DEFAULT';

    # or two helpers make the same tokens
    srand;

    my $loop = Bog::Loop->new;
    my $commands = $serve->($loop);

    $loop->on_read($socket, sub {
        my $message = _get($socket);

        defined $message ? _execute($commands, $socket, @$message)
                         : $loop->stop;
    });

    $loop->run;
}


sub _execute {
    my ($commands, $socket, $name, @arguments) = @_;

    my $reply = sub { _put($socket, { result => $_[0] }) };

    my $command = $commands->{$name}
        or return _put($socket, { error => "no command \"$name\"\n" });

    eval { $command->(\@arguments, $reply); 1 }
        or _put($socket, { error => $@ });
}


sub _put {
    my ($socket, $message) = @_;

    my $bytes = pack 'N/a*', $json->encode($message);

    while (length $bytes) {
        my $n = syswrite $socket, $bytes;

        if (defined $n) {
            substr $bytes, 0, $n, '';

        } elsif ($! != EINTR) {
            return;
        }
    }
}


sub _get {
    my $socket = shift;

    my $head = _read($socket, 4) // return;
    my $body = _read($socket, unpack 'N', $head) // return;

    return $json->decode($body);
}


sub _read {
    my ($socket, $size) = @_;

    my $bytes = '';

    while (length $bytes < $size) {
        my $n = sysread $socket, $bytes, $size - length $bytes, length $bytes;

        next if !defined $n && $! == EINTR;
        return unless $n;
    }

    return $bytes;
}


1;
