package Bog::Browser;

# A headless Chromium, driven by the DevTools protocol over a pair of pipes:
# messages are JSON, each with a zero byte behind it.
#
#   my $browser = Bog::Browser->new;
#   my $page = $browser->load('http://127.0.0.1:8080/', width => 390);
#   $page->evaluate('document.title');
#   $page->screenshot('build/screenshots/page.png');
#   $page->accessible;                     what a screen reader is told
#
# %opt of load: width, height, dark => 1, mobile => 1.
#
# What the page did is in the lists $page->{requests} (the URLs), {console} and
# {errors}.

use strict;
use warnings;

use Errno 'EINTR';
use Fcntl 'F_DUPFD';
use File::Temp;
use JSON::PP;
use POSIX ();

use Bog::Util qw(now timeout wait_until);

my $json = JSON::PP->new->utf8;


sub binary {
    my ($found) = grep { -x } map { my $name = $_;
                                    map { "$_/$name" } split /:/, $ENV{PATH} }
                  qw(chromium-headless-shell chromium);
    return $found;
}


sub new {
    my $class = shift;

    my $self = bless {
        owner  => $$,
        dir    => File::Temp->newdir('bog-browser-XXXXXX', TMPDIR => 1),
        in     => '',
        serial => 0,
        pages  => {},
    }, $class;

    pipe my $commands, $self->{write} or die "pipe: $!\n";
    pipe $self->{read}, my $answers or die "pipe: $!\n";
    $self->{write}->autoflush(1);

    $self->{pid} = fork // die "fork: $!\n";
    $self->_become($commands, $answers) if $self->{pid} == 0;

    return $self;
}


# Its own group: it starts processes of its own, and all have to end.

sub _become {
    my ($self, $commands, $answers) = @_;

    setpgrp;

    # either may be 3 or 4 itself
    my @high = map { fcntl $_, F_DUPFD, 10 } $commands, $answers;

    POSIX::dup2($high[$_], 3 + $_) for 0, 1;
    POSIX::close($_) for @high;

    open STDIN, '<', '/dev/null';
    open STDOUT, '>', "$self->{dir}/output";
    open STDERR, '>&', \*STDOUT;

    exec binary(), '--headless', '--remote-debugging-pipe', '--disable-gpu',
        '--no-first-run', '--disable-dev-shm-usage', '--hide-scrollbars',
        "--user-data-dir=$self->{dir}/profile",
        # whatever else it may want to know of the world
        '--disable-background-networking', '--no-proxy-server',
        '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
        # root has no right to its sandbox
        $> == 0 ? '--no-sandbox' : (), 'about:blank'
        or POSIX::_exit(127);
}


sub load {
    my ($self, $url, %opt) = @_;

    my $target = $self->_call(undef, 'Target.createTarget',
                              url => 'about:blank');
    my $session = $self->_call(undef, 'Target.attachToTarget',
                               targetId => $target->{targetId},
                               flatten  => JSON::PP::true)->{sessionId};

    my $page = bless {
        browser  => $self,
        session  => $session,
        target   => $target->{targetId},
        requests => [],
        console  => [],
        errors   => [],
    }, 'Bog::Browser::Page';

    $self->{pages}{$session} = $page;

    $page->call("$_.enable") for qw(Page Network Runtime Log);
    $page->_emulate(%opt);

    my $answer = $page->call('Page.navigate', url => $url);
    die "$url: $answer->{errorText}\n" if defined $answer->{errorText};

    $self->_read_message until $page->{loaded};

    return $page;
}


sub _call {
    my ($self, $session, $method, %params) = @_;

    my $id = ++$self->{serial};

    local $SIG{PIPE} = 'IGNORE';
    print { $self->{write} } $json->encode({
        id     => $id,
        method => $method,
        params => \%params,
        defined $session ? (sessionId => $session) : (),
    }), "\0";

    my $message;
    $message = $self->_read_message until ($message->{id} // 0) == $id;

    die "$method: $message->{error}{message}\n" if $message->{error};

    return $message->{result};
}


sub _read_message {
    my $self = shift;

    my $deadline = now() + timeout(60);
    my $end;

    while (($end = index $self->{in}, "\0") < 0) {
        vec(my $ready = '', fileno $self->{read}, 1) = 1;

        next if select($ready, undef, undef, 1) > 0 && $self->_read;
        die "the browser does not answer\n" if now() > $deadline;
    }

    my $message = $json->decode(substr $self->{in}, 0, $end);
    substr $self->{in}, 0, $end + 1, '';

    my $page = $self->{pages}{$message->{sessionId} // ''};

    $page->_note($message->{method}, $message->{params})
        if $page && $message->{method};

    return $message;
}


sub _read {
    my $self = shift;

    my $n = sysread $self->{read}, $self->{in}, 65536, length $self->{in};

    return if !defined $n && $! == EINTR;
    return $n || die "the browser has ended\n";
}


sub stop {
    my $self = shift;

    my $pid = delete $self->{pid} or return;
    return if $self->{owner} != $$;

    local ($?, $@, $!);
    local $SIG{PIPE} = 'IGNORE';

    # its own end, so that it leaves nothing behind
    eval { $self->_call(undef, 'Browser.close') };

    wait_until { waitpid($pid, POSIX::WNOHANG()) != 0 } 10
        or kill KILL => -$pid;

    waitpid $pid, 0;
    wait_until { !kill 0 => -$pid } 10 or kill KILL => -$pid;
}


sub DESTROY { $_[0]->stop }


package Bog::Browser::Page;

use strict;
use warnings;

use JSON::PP;
use MIME::Base64 'decode_base64';

use Bog::Util 'spew';


sub call {
    my ($self, @call) = @_;

    return $self->{browser}->_call($self->{session}, @call);
}


sub _emulate {
    my ($self, %opt) = @_;

    $self->call('Emulation.setDeviceMetricsOverride',
        width             => 0 + ($opt{width} // 1200),
        height            => 0 + ($opt{height} // 900),
        deviceScaleFactor => 1,
        mobile            => $opt{mobile} ? JSON::PP::true : JSON::PP::false);

    $self->call('Emulation.setEmulatedMedia', features => [{
        name  => 'prefers-color-scheme',
        value => $opt{dark} ? 'dark' : 'light',
    }]);
}


sub _note {
    my ($self, $method, $params) = @_;

    $self->{loaded} = 1 if $method eq 'Page.loadEventFired';

    push @{ $self->{requests} }, $params->{request}{url}
        if $method eq 'Network.requestWillBeSent';

    push @{ $self->{console} }, join ' ', map { $_->{value} // $_->{type} }
        @{ $params->{args} } if $method eq 'Runtime.consoleAPICalled';

    # what the browser itself has to say of the page
    push @{ $self->{console} }, $params->{entry}{text}
        if $method eq 'Log.entryAdded';

    push @{ $self->{errors} }, $params->{exceptionDetails}{text}
        if $method eq 'Runtime.exceptionThrown';
}


sub evaluate {
    my ($self, $expression) = @_;

    my $answer = $self->call('Runtime.evaluate', expression => $expression,
                             returnByValue => JSON::PP::true);

    die "$expression: $answer->{exceptionDetails}{text}\n"
        if $answer->{exceptionDetails};

    return $answer->{result}{value};
}


# A line for each thing, with its role, its name, and what state it is in,
# indented as they contain each other. A text that a name has is not repeated.

sub accessible {
    my $self = shift;

    my @nodes = @{ $self->call('Accessibility.getFullAXTree')->{nodes} };
    my %node = map { $_->{nodeId} => $_ } @nodes;

    return _lines(\%node, $nodes[0]{nodeId}, 0, '');
}


sub _lines {
    my ($nodes, $id, $depth, $said) = @_;

    my $node = $nodes->{$id} or return;
    my $role = $node->{role}{value} // '';
    my $name = $node->{name}{value} // '';

    return if $role eq 'InlineTextBox'
              || $role eq 'StaticText' && index($said, $name) >= 0;

    my %has = map { $_->{name} => $_->{value}{value} }
              @{ $node->{properties} // [] };
    my $line = $name eq '' ? $role : "$role: $name";

    $line .= $has{expanded} ? ', open' : ', closed' if exists $has{expanded};
    $line .= ', live' if $role eq 'heading' && $has{live};

    return '  ' x $depth . $line if $role eq 'image';

    my $shown = !$node->{ignored} && $role !~ /\A(?:generic|none)\z/;

    return ($shown ? '  ' x $depth . $line : (),
            map { _lines($nodes, $_, $depth + $shown, $shown ? $name : $said) }
            @{ $node->{childIds} // [] });
}


# All of it, below the fold too.

sub screenshot {
    my ($self, $path) = @_;

    my $answer = $self->call('Page.captureScreenshot', format => 'png',
                             captureBeyondViewport => JSON::PP::true);

    spew($path, decode_base64($answer->{data}));
}


# A page may load itself again.

sub wait_requests {
    my ($self, $n) = @_;

    $self->{browser}->_read_message until @{ $self->{requests} } >= $n;
}


# Messages that are under way are read before.

sub close {
    my $self = shift;

    $self->evaluate('0');
    $self->{browser}->_call(undef, 'Target.closeTarget',
                            targetId => $self->{target});
}


1;
