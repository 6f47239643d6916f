# The worker that fetches dies, crashes or stands still, wherever its fetch is;
# and nginx ends, reloads or is replaced around a fetch.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Config;
use File::Temp;
use IO::Socket::INET;
use POSIX ();
use Test::More;

use Bog::Bank;
use Bog::CA;
use Bog::Client qw(get header parallel steady);
use Bog::DNS;
use Bog::Nginx;
use Bog::Parallel 'at_once';
use Bog::Util qw(now timeout wait_until slurp);

my $name = 'oauth2.test';

# how many nginxes at a time: most of them wait
my $limit = 16;

# made before the forks: keys take time
my $cert = Bog::CA->shared->cert(name => $name);

my @names = split ' ', $Config{sig_name};
my %number = map { $names[$_] => $_ } 0 .. $#names;


# Where a fetch can be.  The first three are brought about by the name's
# address, the others by the bank's answer.  "silent": a listener whose backlog
# is full, or one that nobody accepts from.

my @stages = qw(resolving connecting handshake sent header body drip);

my %stage = (
    resolving  => { name => 'SILENT' },
    connecting => { name => ['127.0.0.2'], silent => 'full' },
    handshake  => { name => ['127.0.0.2'], silent => 'open', tls => 1 },
    sent       => { answer => { hold => 1 } },
    header     => { answer => { stall => ['header', 9] } },
    body       => { answer => { stall => ['body', 9] } },
    drip       => { answer => { drip => 0.03 } },
);


# The first refresh after a start or a failure comes anywhere in its time but the
# first tenth: it must not come while a busy machine still works at a case.

my %long = (expires_in => 3600);


sub bank {
    my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret' }, @_);
    $bank->answer(%long);

    return $bank;
}


# A bank, its name, and an nginx of three workers.  %opt: first (an answer of
# the bank before the fetch gets stuck), seconds (nginx's timeouts), wait (how
# long requests may), and what Bog::Nginx takes.

sub scene {
    my ($stage, %opt) = @_;

    my $self = { %{ $stage{$stage} }, stage => $stage };
    my $first = delete $opt{first};

    $self->{bank} = bank($self->{tls} ? (tls => $cert) : ());

    $self->{port} = $self->{tls} ? $self->{bank}->tls_port
                                 : $self->{bank}->port;

    $self->{dns} = Bog::DNS->new(ttl => 1);
    $self->{dns}->answer($name => ['127.0.0.1']);

    $self->{bank}->queue(map { { %long, %$_ } } grep { $_ } $first,
                         $self->{answer});

    silence($self) if $self->{silent};
    stick($self) unless $first;

    $self->{nginx} = gateway($self, %opt);

    if ($first) {
        $self->{token} = get($self->{nginx}->port, '/')->{body};
        stick($self);
    }

    # without a first one, the fetch may be under way already
    $self->{before} = $first ? $self->{bank}->count : 0;
    $self->{asked} = $first ? $self->{dns}->count : 0;

    return $self;
}


sub silence {
    my $self = shift;

    my $full = $self->{silent} eq 'full';

    $self->{listener} = IO::Socket::INET->new(
        LocalAddr => '127.0.0.2', LocalPort => $self->{port},
        Listen => $full ? 1 : 100, ReuseAddr => 1)
        // die "listen on 127.0.0.2: $@\n";

    # one more than it says is taken, the next is not
    $self->{fillers} = [map {
        IO::Socket::INET->new(PeerAddr => '127.0.0.2',
                              PeerPort => $self->{port})
    } 1 .. 2] if $full;
}


sub stick {
    my $self = shift;

    $self->{dns}->answer($name => $self->{name}) if $self->{name};
}


sub gateway {
    my ($self, %opt) = @_;

    my $seconds = delete $opt{seconds} // 60;
    my $wait = delete $opt{wait} // 60;
    my $scheme = $self->{tls} ? 'https' : 'http';

    my $nginx = Bog::Nginx->new(
        workers => 3, status => 1, asan => 'handle_segv=0', %opt,
        secret  => { main => "s3cret\n" }, conf => <<"END");
        resolver 127.0.0.1:${\ $self->{dns}->port } ipv6=off;
        resolver_timeout ${seconds}s;

        bog_client_id           8282;
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      $scheme://$name:$self->{port}$Bog::Bank::PATH;
        bog_wait_timeout        ${wait}s;
        bog_connect_timeout     ${seconds}s;
        bog_read_timeout        ${seconds}s;
        bog_ssl_trusted_certificate ${\ Bog::CA->shared->path };

        ${\ server($self->{bank}) }
END
    return $nginx->start;
}


# On the second port each worker has a share of its own of the clients.

sub server {
    my ($bank, $more) = @_;

    $more //= '';

    return <<"END";
        server {
            listen 127.0.0.1:%%PORT%%;
            listen 127.0.0.1:%%PORT_1%% reuseport;
            add_header X-Worker \$pid always;

            location / {
                proxy_pass http://127.0.0.1:${\ $bank->api_port };
                proxy_set_header Authorization "Bearer \$bog_bearer_token";
            }
            $more
        }
END
}


# Waits until a fetch is where it is to be, and returns its worker.

sub stuck {
    my $self = shift;

    if ($self->{stage} eq 'resolving') {
        ok($self->{dns}->wait_queries($self->{asked} + 1), 'the name is asked');

        my ($query) = reverse $self->{dns}->queries;
        return $self->{nginx}->worker_of_port($query->[2], 'udp');
    }

    ok($self->{bank}->wait_requests($self->{before} + 1), 'a token request')
        if $self->{answer};

    return wait_until { fetcher($self) };
}


# The worker with a connection to the token endpoint, or to what is in its
# place.

sub fetcher {
    my $self = shift;

    my $remote = sprintf '%02X00007F:%04X', $self->{silent} ? 2 : 1,
                         $self->{port};

    my $sockets = sockets(qr/[0-9A-F]{8}:[0-9A-F]{4} $remote [0-9A-F]{2}/);
    my ($pid) = grep { has_sockets($_, $sockets) } $self->{nginx}->workers;

    return $pid;
}


# Sockets by their addresses and state.  A port alone tells little: others may
# have the same one, to another address.  Line by line, as there may be
# thousands.

sub sockets {
    my $which = shift;

    my @inodes = map { /: $which (?:\S+ +){5}([1-9]\d*) / }
                 split /\n/, slurp('/proc/net/tcp');

    return { map { $_ => 1 } @inodes };
}


sub has_sockets {
    my ($pid, $sockets) = @_;

    return scalar grep { (readlink // '') =~ /^socket:\[(\d+)\]/
                         && $sockets->{$1} } glob "/proc/$pid/fd/*";
}


# How many of so many clients, all on the second port, a worker holds.

sub clients_of {
    my ($nginx, $pid, $n) = @_;

    my $local = sprintf '0100007F:%04X', $nginx->port(1);
    my %held;

    wait_until {
        my $sockets = sockets(qr/$local [0-9A-F]{8}:[0-9A-F]{4} 01/);
        my $sum = 0;

        $sum += $held{$_} = has_sockets($_, $sockets) for $nginx->workers;
        $sum == $n;
    } or fail("$n clients");

    return $held{$pid};
}


# The next fetch gets through; what of the one that is stuck comes too late is
# there when its worker looks.

sub unstick {
    my $self = shift;

    $self->{dns}->answer($name => ['127.0.0.1']);
}


sub too_late {
    my $self = shift;

    $self->{bank}->release;
    $self->{bank}->wait_count(answered => $self->{bank}->count);

    close delete $self->{listener} if $self->{listener};
}


# What each of these workers answers: { body => times }.

sub bodies_of {
    my ($nginx, @pids) = @_;

    my (%worker, %body);

    wait_until {
        for (parallel($nginx->port, 12)) {
            $worker{header($_, 'X-Worker') // ''}++ if $_->{status};
            $body{$_->{body} // $_->{error}}++;
        }
        !grep { !$worker{$_} } @pids;
    } or fail('every worker answers');

    return \%body;
}


sub newest {
    my $bank = shift;

    my ($last) = sort { $b->{issued} <=> $a->{issued} } $bank->tokens;

    return qq({"authorization":"Bearer $last->{token}"});
}


sub ends {
    my ($nginx, @signals) = @_;

    is($nginx->stop('TERM'), 0, 'stops');

    my @lines = $nginx->log_errors;

    for my $signal (@signals) {
        my ($i) = grep { $lines[$_] =~ /exited on signal $signal\b/ }
                  0 .. $#lines;

        defined $i ? splice @lines, $i, 1 : fail("died of signal $signal");
    }

    is(join("\n", @lines), '', 'nothing else in the log');
}


# What a fault does to a worker at once, and later, when the others have a
# token.

my @faults = (
    ['is killed',                 ['KILL'], []],
    ['crashes, SEGV',             ['SEGV'], []],
    ['crashes, ABRT',             ['ABRT'], []],
    ['is stopped and goes on',    ['STOP'], ['CONT']],
    ['is stopped and is killed',  ['STOP'], ['KILL']],
);


# Until a worker stands still, it may be the one that is woken for a client.

sub strike {
    my ($pid, $signals) = @_;

    for my $signal (@$signals) {
        kill $signal => $pid or die "kill $signal $pid: $!\n";

        next if $signal ne 'STOP';
        wait_until { slurp("/proc/$pid/stat") =~ /\) T/ }
            or die "$pid does not stop\n";
    }
}


sub no_token_yet {
    my ($stage, $first, $later) = @_;

    my $self = scene($stage);
    my ($bank, $nginx) = @$self{qw(bank nginx)};
    my ($pid, $held, @others);

    my @answers = parallel($nginx->port(1), 60, on_sent => sub {
        $pid = stuck($self) or die "no worker fetches\n";
        ok($nginx->wait_active(60), 'everybody waits for it');

        unstick($self);
        $held = clients_of($nginx, $pid, 60);

        strike($pid, $first);
        my $start = now();

        # these can be held by the other workers only
        @others = parallel($nginx->port, 20);
        my $took = now() - $start;

        my $lease = $first->[0] eq 'STOP' ? 5 : 0;
        cmp_ok($took, '<', $lease + timeout(4), 'others fetch in time');

        too_late($self);
        strike($pid, $later);
    });

    is(scalar(grep { ($_->{status} // 0) == 200 } @others), 20,
       'who comes after is served');

    my %count;
    $count{$_->{status} // $_->{error}}++ for @answers;

    my @died = deadly(@$first, @$later);
    my $lost = @died ? $held : 0;

    cmp_ok($held, '<', 60, 'some are held elsewhere');
    is_deeply(\%count, { 200 => 60 - $lost, $lost ? (closed => $lost) : () },
              'all are served but those of a worker that died');

    served_by_all($self, $others[0]{body}, @died);
}


sub deadly { grep { $_ ne 'STOP' && $_ ne 'CONT' } @_ }


# The token is the one that came first: a late one is an older one.

sub served_by_all {
    my ($self, $token, @died) = @_;

    my ($bank, $nginx) = @$self{qw(bank nginx)};

    ok(wait_until { !fetcher($self) }, 'the late fetch ends') unless @died;

    # who learns the address when the others have a token still asks for one
    my $late = $self->{stage} eq 'resolving' && !@died;
    $token = newest($bank)
        if $late && $bank->wait_count(answered => $self->{before} + 2, 10);

    # a token got by a refresh is given out after three seconds
    ok(wait_until {
        my @bodies = keys %{ bodies_of($nginx, wait_workers($nginx, 3)) };
        "@bodies" eq $token;
    }, 'one token, of all workers');

    # the one that broke, where it came to that, and the other one
    my $requests = $bank->count - $self->{before};
    $late ? cmp_ok($requests, '<=', 2, 'token requests')
          : is($requests, $self->{answer} ? 2 : 1, 'token requests');
    is($bank->api_stats->{$_}, 0, "$_ tokens") for qw(expired unknown missing);

    ends($nginx, map { $number{$_} } @died);
}


sub wait_workers {
    my ($nginx, $n) = @_;

    my @pids;
    wait_until { (@pids = grep { kill 0, $_ } $nginx->workers) == $n };

    return @pids;
}


# The same with a token that is still good.

sub still_a_token {
    my ($stage, $first, $later) = @_;

    my $stops = $first->[0] eq 'STOP';
    my $self = scene($stage, first => { expires_in => $stops ? 18 : 8 });
    my ($bank, $nginx) = @$self{qw(bank nginx)};

    my $pid = stuck($self) or die "no worker fetches\n";
    unstick($self);
    strike($pid, $first);

    my (%body, $slowest, $new);

    ok(wait_until {
        my $answer = get($nginx->port, '/');
        my $body = $answer->{body} // $answer->{error};

        $body{$body}++;
        $slowest = $answer->{time} if $answer->{time} > ($slowest // 0);

        $new = $body if $body ne $self->{token};
        $new;
    }, 'a new token');

    cmp_ok($slowest, '<', timeout(2), 'everybody is served at once');
    like($new, qr/Bearer tok/, 'by the old token, then by a new one');

    too_late($self);
    strike($pid, $later);
    wait_until { !kill 0, $pid } if deadly(@$later);

    is($bank->api_stats->{missing}, 0, 'never without one');

    served_by_all($self, $new, deadly(@$first, @$later));
}


my @cases;

for my $fault (@faults) {
    my ($what, $first, $later) = @$fault;

    for my $stage (@stages) {
        push @cases, "$stage: the worker $what" =>
            sub { no_token_yet($stage, $first, $later) };

        push @cases, "$stage: the worker $what, with a token" =>
            sub { still_a_token($stage, $first, $later) }
            if $what =~ /is killed$|goes on/ && $first->[0] ne 'SEGV';
    }
}


# Inside of a change of what the workers share.  A debugger stops or kills the
# worker there, with the token written but not yet valid.

sub debugged {
    my ($pid, $output, @commands) = @_;

    my $gdb = fork // die "fork: $!\n";
    return $gdb if $gdb;

    open STDIN, '<', '/dev/null';
    open STDOUT, '>', $output;
    open STDERR, '>&', \*STDOUT;

    # a preloaded sanitizer is not for gdb itself
    delete $ENV{LD_PRELOAD};

    exec 'gdb', '-nx', '-batch', '-p', $pid, map { ('-ex', $_) }
         'set pagination off', 'set confirm off', @commands
        or POSIX::_exit(127);
}


sub no_debugger {
    my $output = File::Temp->new;

    my $child = fork // die "fork: $!\n";
    POSIX::pause(), POSIX::_exit(0) if !$child;

    waitpid debugged($child, "$output", 'detach'), 0;
    my $found = slurp("$output") =~ /^\[Inferior .* detached\]/m;

    kill KILL => $child;
    waitpid $child, 0;

    return $found ? undef : 'gdb cannot attach to a process: '
                            . substr slurp("$output"), -200;
}


sub in_a_change {
    my ($first, $later) = @_;

    # on a busy machine gdb needs its time, and the token must last as long
    my $self = scene('sent', first => { expires_in => 40 });
    my ($bank, $nginx) = @$self{qw(bank nginx)};

    my $pid = stuck($self) or die "no worker fetches\n";
    my $output = $nginx->dir . '/gdb';

    my $gdb = debugged($pid, $output,
        'break ngx_http_bog_publish_token', 'continue',
        'break ngx_http_bog_store_commit', 'continue',
        "shell kill -$first->[0] $pid",
        $first->[0] eq 'STOP' ? 'detach' : 'continue');

    ok(wait_until { slurp($output) =~ /^Breakpoint 1 at/m
                    && slurp("/proc/$pid/stat") =~ /\) [SR]/ },
       'the worker runs under a debugger');

    $bank->release(%long);
    waitpid $gdb, 0;

    like(slurp($output), qr/^Breakpoint 2, /m, 'and is about to publish')
        or diag(slurp($output));

    my @others = grep { $_ != $pid } wait_workers($nginx, 3);
    my $start = now();
    my $bodies = bodies_of($nginx, @others);

    cmp_ok(now() - $start, '<', timeout(3), 'others serve at once');
    is(scalar(grep { !/Bearer tok/ } keys %$bodies), 0, 'with a token');

    # the refresh is still due
    ok(wait_until { get($nginx->port, '/')->{body} ne $self->{token} },
       'a new token comes');

    strike($pid, $later);
    wait_until { !kill 0, $pid } if deadly(@$later);

    served_by_all($self, newest($bank), deadly(@$first, @$later));
}


# A request finds that another worker fetches; before it begins to wait for
# that, the fetch has failed.

sub fails_before_the_wait {
    my $self = scene('sent');
    my ($bank, $nginx) = @$self{qw(bank nginx)};

    my $pid = stuck($self) or die "no worker fetches\n";
    my ($fh, $other) = connection_of_another($nginx, $pid);
    my ($output, $go) = map { $nginx->dir . "/$_" } qw(gdb go);

    my $gdb = debugged($other, $output,
        'break ngx_http_bog_source_fetch', 'continue', 'finish',
        'echo Finished\n',
        "shell until [ -e $go ]; do sleep 0.05; done", 'detach');

    ok(wait_until { slurp($output) =~ /^Breakpoint 1 at/m
                    && slurp("/proc/$other/stat") =~ /\) [SR]/ },
       'a worker runs under a debugger');

    request($fh, '/');
    ok(wait_until { slurp($output) =~ /^Finished/m }, 'it has a request');

    $bank->release(status => 503, body => '',
                   headers => [['Retry-After' => 300]]);
    ok($nginx->wait_log(qr/token request failed/), 'the fetch fails');

    my $start = now();
    open my $file, '>', $go or die "$go: $!\n";
    close $file;

    like(scalar <$fh>, qr{^HTTP/1.1 503 }, 'the request is refused');
    cmp_ok(now() - $start, '<', timeout(5), 'at once');

    waitpid $gdb, 0;
    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
}


sub connection_of_another {
    my ($nginx, $pid) = @_;

    my $local = sprintf '0100007F:%04X', $nginx->port(1);

    for (1 .. 50) {
        my $fh = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                       PeerPort => $nginx->port(1)) or last;
        my $which = sprintf '%s 0100007F:%04X 01', $local, $fh->sockport;

        my $owner = wait_until {
            my $sockets = sockets($which);
            (grep { has_sockets($_, $sockets) } $nginx->workers)[0];
        };

        return ($fh, $owner) if $owner && $owner != $pid;
    }

    die "no connection of another worker\n";
}


sub changes {
    my $reason = no_debugger();

    if ($reason && ($ENV{CI} // '') ne 'true') {
        SKIP: { skip $reason, 1 }
        return;
    }

    is($reason, undef, 'gdb attaches');

    return (
        'killed while it publishes' =>
            sub { in_a_change(['KILL'], []) },
        'stopped while it publishes, goes on' =>
            sub { in_a_change(['STOP'], ['CONT']) },
        'stopped while it publishes, is killed' =>
            sub { in_a_change(['STOP'], ['KILL']) },
        'the fetch fails before a request waits for it' =>
            sub { fails_before_the_wait() },
    );
}


# The end of nginx, wherever a fetch is, with requests held.  With QUIT the fetch
# fails by its timeouts, and another one is tried while they may wait.

sub ends_in_a_fetch {
    my ($stage, $signal, %opt) = @_;

    my $graceful = $signal eq 'QUIT' && !%opt;
    my $self = scene($stage, seconds => $graceful ? 4 : 60,
                     wait => $graceful ? 12 : 60, %opt);
    my ($bank, $nginx) = @$self{qw(bank nginx)};
    my $start;

    my @answers = parallel($nginx->port, 12, on_sent => sub {
        ok(stuck($self), 'a worker fetches');
        ok($nginx->wait_active(12), 'everybody waits for it');

        $start = now();
        is($nginx->stop($signal), 0, 'status');
    });

    my $most = $graceful ? 20 : $opt{main} ? 1 : 0;
    cmp_ok(now() - $start, '<', $most + timeout(5), 'in time');

    my $what = !$graceful ? 'closed' : $self->{answer} ? 200 : 503;
    my %count;
    $count{$_->{status} // $_->{error}}++ for @answers;

    is_deeply(\%count, { $what => 12 }, 'what becomes of those held');
    is($bank->count, !$self->{answer} ? 0 : $graceful ? 2 : 1,
       'token requests');

    $nginx->clean_log;
}


sub endings {
    my @cases;

    for my $stage (@stages) {
        push @cases,
            "$stage: QUIT" => sub { ends_in_a_fetch($stage, 'QUIT') },
            "$stage: TERM" => sub { ends_in_a_fetch($stage, 'TERM') },
            "$stage: worker_shutdown_timeout" => sub {
                ends_in_a_fetch($stage, 'QUIT',
                                main => 'worker_shutdown_timeout 1s;');
            };
    }

    return @cases;
}


# A bank with several clients, and an nginx with a location for each.

my %clients = map { $_ => "s3cret-$_" } qw(same gone changed new);


sub sources {
    my ($bank, @clients) = @_;

    my $locations = join '', map { <<"END" } @clients;
            location /$_ {
                bog_client_id           $_;
                bog_client_secret_file  %%SECRET_$_%%;
                bog_token_endpoint      ${\ $bank->url };
                bog_wait_timeout        60s;
                bog_read_timeout        60s;
                proxy_pass http://127.0.0.1:${\ $bank->api_port };
                proxy_set_header Authorization "Bearer \$bog_bearer_token";
            }
END
    return <<"END";
        server {
            listen 127.0.0.1:%%PORT%%;
            $locations
        }
END
}


sub several {
    my ($bank, @clients) = @_;

    return Bog::Nginx->new(
        workers => 2, status => 1,
        secret  => { map { $_ => "$clients{$_}\n" } keys %clients },
        conf    => sources($bank, @clients))->start;
}


# To each its own, and how often each has asked.

sub owners_are_right {
    my ($bank, %requests) = @_;

    my %asked;
    $asked{$_->{client}}++ for $bank->requests;

    is_deeply(\%asked, \%requests, 'token requests');
    is(scalar(grep { "/$_->{client}" ne $_->{uri} } $bank->api_requests), 0,
       'to each client its own token');
}


sub reload_while_all_fetch {
    my $bank = Bog::Bank->new(credentials => {
        %clients, changed => [$clients{changed}, 'another'] });
    $bank->answer(%long, hold => 1);

    my @before = qw(same gone changed);
    my @after = qw(same new changed);

    my $nginx = several($bank, @before);
    my @new;

    my @old = parallel($nginx->port, 30,
        uri     => sub { '/' . $before[$_[0] % 3] },
        on_sent => sub {
            ok($bank->wait_requests(3), 'all sources fetch');
            ok($nginx->wait_active(30), 'everybody waits');

            $nginx->secret(changed => "another\n");
            $nginx->conf(sources($bank, @after));
            $nginx->reload;

            @new = parallel($nginx->port, 30,
                uri     => sub { '/' . $after[$_[0] % 3] },
                on_sent => sub {
                    ok($bank->wait_requests(5), 'so do the new ones');
                    ok($nginx->wait_active(60), 'everybody waits');
                    is($bank->release, 5, 'the tokens come');
                });
        });

    is(scalar(grep { ($_->{status} // 0) == 200 } @old), 30,
       'who was held by old workers is served');
    is(scalar(grep { ($_->{status} // 0) == 200 } @new), 30,
       'so is who came later');

    owners_are_right($bank, same => 1, gone => 1, changed => 2, new => 1);
    ends($nginx);
}


sub refused_while_all_fetch {
    my $bank = Bog::Bank->new(credentials => \%clients);
    $bank->answer(%long, hold => 1);

    my $nginx = several($bank, 'same');
    my @pids = $nginx->workers;

    my @answers = parallel($nginx->port, 30, uri => '/same', on_sent => sub {
        ok($bank->wait_requests(1), 'a fetch');
        ok($nginx->wait_active(30), 'everybody waits');

        $nginx->conf(sources($bank, 'same') . 'bog_client_id;');
        ok(!eval { $nginx->reload; 1 }, 'the configuration is refused');
        like($@, qr/invalid number of arguments in "bog_client_id"/, 'why');

        is_deeply([$nginx->workers], \@pids, 'the same workers');
        is($bank->release, 1, 'the token comes');
    });

    is(scalar(grep { ($_->{status} // 0) == 200 } @answers), 30, 'all served');
    owners_are_right($bank, same => 1);

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log(undef, except => qr/\[emerg\].*in "bog_client_id"/);
}


sub twenty_reloads {
    my $bank = Bog::Bank->new(credentials => \%clients);
    my $nginx = several($bank, 'same');

    my $load = steady($nginx->port, rate => 50, seconds => 8, uri => '/same');
    ok($bank->wait_count(api => 20), 'load');

    $nginx->reload for 1 .. 20;

    is_deeply($load->result->{status}, { 200 => 400 }, 'only 200')
        or diag explain $load->result;

    owners_are_right($bank, same => 1);
    ends($nginx);
}


# The old binary's token is still there when it takes over again.

sub upgrade_undone {
    my $signal = shift;

    my $bank = bank();
    my $nginx = simple($bank, workers => 2, daemon => 1);

    my $token = get($nginx->port, '/')->{body};

    $nginx->upgrade;
    ok($bank->wait_requests(2), 'the new binary has a token of its own');

    $nginx->undo_upgrade($signal);
    ok($bank->wait_count(answered => 2), 'both are answered');

    is_deeply([keys %{ bodies_of($nginx, $nginx->workers) }], [$token],
              'the old token, of all workers');
    is($bank->count, 2, 'token requests');

    $nginx->stop;
    $nginx->clean_log;
}


sub simple {
    my ($bank, %opt) = @_;

    my $server = server($bank, 'location /off { return 200 off; }');

    return Bog::Nginx->new(
        status => 1, %opt, secret => { main => "s3cret\n" },
        conf   => <<"END")->start;
        bog_client_id           8282;
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      ${\ $bank->url };
        bog_wait_timeout        60s;
        bog_read_timeout        60s;
        $server
END
}


sub cold_start {
    my $workers = shift;

    my $bank = bank();
    $bank->answer(%long, hold => 1);

    my $nginx = simple($bank, workers => $workers);

    my @answers = parallel($nginx->port, 200, on_sent => sub {
        ok($bank->wait_requests(1), 'a token request');
        ok($nginx->wait_active(200), 'everybody waits for it');
        is($bank->release, 1, 'the token comes');
    });

    is(scalar(grep { ($_->{status} // 0) == 200 } @answers), 200, 'all served');
    is($bank->count, 1, 'one token request');

    ends($nginx);
}


# Clients whose connections have served before.

sub request { print {$_[0]} "GET $_[1] HTTP/1.1\r\nHost: localhost\r\n\r\n" }


sub kept_connections {
    my $bank = bank();
    $bank->queue({ %long, hold => 1 });

    my $nginx = simple($bank, workers => 1);

    my @clients = map {
        IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                              PeerPort => $nginx->port) // die "connect: $!\n"
    } 1 .. 20;

    for my $client (@clients) {
        request($client, '/off');
        my $line;
        $line = <$client> until ($line // '') =~ /^\r\n/;
        read $client, my $body, 3;
    }

    request($_, '/') for @clients;

    ok($bank->wait_requests(1), 'a token request');
    ok($nginx->wait_active(20), 'everybody waits for it');

    $nginx->kill_worker(($nginx->workers)[0]);

    is(scalar(grep { defined readline $_ } @clients), 0, 'all are closed');
    is(scalar(grep { $_->{status} == 200 } parallel($nginx->port, 20)), 20,
       'who comes again is served');
    is($bank->count, 2, 'token requests');

    ends($nginx, 9);
}


sub all_at_once {
    my $bank = bank();
    $bank->queue({ %long, hold => 1 });

    my $nginx = simple($bank, workers => 4);
    ok($bank->wait_requests(1), 'a token request');

    for my $requests (2, 2) {
        my @pids = wait_workers($nginx, 4);
        kill KILL => @pids;
        ok(wait_until { !grep { kill 0, $_ } @pids }, 'all are dead');

        is(scalar(grep { ($_->{status} // 0) == 200 }
                  parallel($nginx->port, 40)), 40, 'their successors serve');
        is($bank->count, $requests, 'token requests');
    }

    ends($nginx, (9) x 8);
}


# Nobody puts new workers in the place of these, or looks after them.

sub without_their_master {
    my $bank = bank();
    $bank->queue({ expires_in => 6 }, { %long, hold => 1 });

    my $nginx = simple($bank, workers => 3);
    my @pids = $nginx->workers;

    my $token = get($nginx->port, '/')->{body};

    kill KILL => $nginx->pid;
    waitpid $nginx->pid, 0;

    is_deeply([keys %{ bodies_of($nginx, @pids) }], [$token], 'all serve on');

    ok($bank->wait_requests(2), 'the token is refreshed');
    my $self = { port => $bank->port, nginx => $nginx };
    my $pid = wait_until { fetcher($self) };

    kill KILL => $pid;
    @pids = grep { $_ != $pid } @pids;

    ok(wait_until { (get($nginx->port, '/')->{body} // $token) ne $token },
       'the fetch of one that dies is done by another one');
    is_deeply([keys %{ bodies_of($nginx, @pids) }], [newest($bank)],
              'all serve on');
    is($bank->count, 3, 'token requests');

    kill TERM => @pids;
    ok(wait_until { !grep { slurp("/proc/$_/stat") =~ /\) [^Z]/ } @pids },
       'they end');
    $nginx->clean_log;
}


# A zone is as large at the start as it will ever be.

sub fifty_sources {
    my $padding = 'x' x 16300;
    my @clients = map { "client_$_" } 1 .. 50;

    my $bank = Bog::Bank->new(credentials => { map { $_ => 's3cret' }
                                               @clients });
    $bank->queue(map { { token => "$_-$padding", expires_in => 8 } }
                 1 .. 200);

    my $nginx = Bog::Nginx->new(
        workers => 2, secret => { map { $_ => "s3cret\n" } @clients },
        conf    => sources($bank, @clients))->start;

    for my $round (1, 2) {
        my @answers = parallel($nginx->port, 50,
                               uri => sub { "/$clients[$_[0]]" });

        is(scalar(grep { ($_->{status} // 0) == 200 } @answers), 50, 'served');
        is(scalar(grep { "/$_->{client}" ne $_->{uri} } $bank->api_requests),
           0, 'to each client its own token');

        ok($bank->wait_requests(50 * ($round + 1)), 'refreshed');
    }

    is($nginx->stop('TERM'), 0, 'stops');
    unlike($nginx->log, qr/no memory/, 'no memory was asked for');
    $nginx->clean_log;
}


# The worker that is the first to refresh can open no connection any more. What
# fails here need not fail in another worker.

sub without_descriptors {
    my $bank = bank();
    $bank->answer(expires_in => 6);

    my $nginx = Bog::Nginx->new(workers => 2, secret => { main => "s3cret\n" },
        conf => <<"END");
        bog_client_id           8282;
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      ${\ $bank->url };

        server {
            listen 127.0.0.1:%%PORT%%;
            location / { proxy_pass http://127.0.0.1:1; }
            location = /state { return 200 \$bog_token_state; }
        }
END
    $nginx->start;
    ok($bank->wait_requests(1), 'a token request');

    my ($first) = sort { $a <=> $b } $nginx->workers;
    system 'prlimit', "--pid=$first", '--nofile=3:';

    ok($bank->wait_requests(4, 30), 'the other worker refreshes it');
    like($nginx->log, qr/ $first#\S+ \S+ socket\(\) failed/,
         'the first one could not');

    is($nginx->stop('TERM'), 0, 'stops');
    $nginx->clean_log('the log', except => qr/socket\(\) failed/);
}


at_once($limit,
    @cases, changes(), endings(),
    'a reload while all fetch'         => \&reload_while_all_fetch,
    'a refused one while all fetch'    => \&refused_while_all_fetch,
    'twenty reloads under load'        => \&twenty_reloads,
    map({ my $signal = $_;
          ("an upgrade undone, $signal" => sub { upgrade_undone($signal) }) }
        qw(QUIT TERM)),
    map({ my $n = $_;
          ("a cold start, $n workers" => sub { cold_start($n) }) }
        1, 2, 4, 8, 16),
    'kept connections of a worker that dies' => \&kept_connections,
    'all workers die at once'          => \&all_at_once,
    'workers without their master'     => \&without_their_master,
    'fifty sources with large tokens'  => \&fifty_sources,
    'a worker without descriptors'     => \&without_descriptors,
);


done_testing;
