# chaos.pl [SECONDS] [SEED]: see util/chaos.sh.
#
# Everything fails at random under a steady load.  What may be asked of nginx
# meanwhile is judged at the end, by the records of the bank and the clients.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use List::Util qw(max min);

use Bog::Bank;
use Bog::Chaos::Load;
use Bog::Child;
use Bog::Nginx;
use Bog::Util qw(now timeout wait_until slurp);

my $seconds = shift // 300;
my $seed = shift // (int(time) ^ $$);

my @clients = (8282, 8383);
my ($workers, $rate, $wait) = (4, 60, 5);

# what the clock of a busy machine may be wrong by
my $margin = timeout($ENV{BOG_ASAN} ? 1 : 0.5);

# answers with a token
my $brings = qr/^(?:good|newborn|repeated|slow|drip)$/;

my ($bank, $nginx, @events, @hits, @rss, @pending, @masters,
    $version);
my ($passed, $failed, $rejects, $planted) = (0, 0, 0);

$| = 1;
print "Chaos for $seconds s; to repeat it: chaos.sh $seconds $seed\n";
srand $seed;


# The plan, all of it before anything runs: the n-th answer of the bank, and
# what happens when.

sub one_of { $_[rand @_] }


sub answer {
    # one that is ten seconds old is no newborn any more
    my $life = one_of(4 + int rand 7, 4 + int rand 7, 12 + int rand 14);

    my %how = (
        good      => { expires_in => $life },
        # the API takes it before a tenth of its life has passed
        newborn   => { expires_in => $life, mature => $life / 12 },
        repeated  => { expires_in => $life, repeat => 1 },
        slow      => { expires_in => $life, delay => 0.2 + rand 1.5 },
        drip      => { expires_in => $life, drip => 0.001 + rand 0.004 },
        500       => { status => 500, body => '' },
        503       => { status => 503, body => '',
                       headers => [['Retry-After' => 1 + int rand 3]] },
        401       => { status => 401, body => '{"error":"invalid_client"}' },
        reset     => { close => 'reset' },
        empty     => { close => 'empty' },
        truncated => { close => one_of('header', 'body') },
        hang      => { delay => 20 },
        garbage   => { raw => join '', map { chr rand 256 } 1 .. 200 },
        nonsense  => { body => one_of('<html>', '{}', '[', '{"access_token":1}',
                                      '{"access_token":"a b"}') },
    );

    my $kind = one_of(('good') x 6, ('newborn') x 4, ('repeated') x 6,
        qw(slow slow drip drip), 500, 503, 401,
        qw(reset empty truncated hang garbage nonsense));

    return { kind => $kind, life => $life, how => $how{$kind} };
}


sub schedule {
    my @plan;

    for (my $at = 3 + rand 3; $at < $seconds - 8; $at += 1 + rand 5) {
        my $what = one_of(('kill') x 4, ('crash') x 2, ('stop') x 4,
                          ('reload') x 3, 'change', 'upgrade',
                          ('reject') x 8);

        push @plan, { at => $at, what => $what, pick => int rand 1000,
                      pause => $what eq 'upgrade' ? 1 + rand 2
                                                  : 0.5 + rand 7 };
    }

    return @plan;
}


sub conf {
    my $locations = join '', map { <<"END" } @clients;
            location /$_ {
                bog_client_id $_;
                proxy_pass http://127.0.0.1:${\ $bank->api_port };
                proxy_set_header Authorization "Bearer \$bog_bearer_token";
                proxy_set_header X-Worker \$pid;
                add_header X-Worker \$pid always;
                add_header X-Version $version always;
            }
END
    return <<"END";
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      ${\ $bank->url };
        bog_token_param         version $version;
        bog_wait_timeout        ${wait}s;
        bog_read_timeout        3s;

        server { listen 127.0.0.1:%%PORT%%;
            $locations
        }

        server { listen 127.0.0.1:%%PORT_1%% http2;
            $locations
        }
END
}


# HTTP/2 clients, ten requests at a time; what became of each is in a file.

sub http2 {
    my ($port, $file) = @_;

    return Bog::Child->new(sub {
        my $loop = shift;
        my $end = now() + $seconds;
        my ($tick, $reply);

        $tick = sub {
            return $reply && $reply->(1) if now() > $end;

            my $uri = "/" . one_of(@clients);
            my $start = now();
            unlink "$file.new";
            system "h2load -n 10 -c 2 -m 5 -N 20 --log-file=$file.new"
                   . " http://127.0.0.1:$port$uri > /dev/null 2>&1";

            open my $fh, '>>', $file or die "open $file: $!\n";
            print {$fh} "$start ", now(), " $uri ",
                join(' ', map { (split)[1] } split /\n/, slurp("$file.new")),
                "\n";

            $loop->after(0.3, $tick);
        };

        $loop->after(0, $tick);

        return { result => sub { $reply = $_[1];
                                 $reply->(1) if now() > $end } };
    });
}


# What happened, from and to: nothing is judged by the strict rules meanwhile.

sub event {
    my ($what, $from, $to) = @_;

    my $event = { what => $what, from => $from, to => $to // now() };
    push @events, $event;

    return $event;
}


# A worker is first stopped, so that one sees what it had in its hands.

sub hit {
    my ($what, $pid) = @_;

    my $from = now();

    kill STOP => $pid or return;
    wait_until { slurp("/proc/$pid/stat") !~ /\) [RSD]/ } 2;

    push @hits, { event($what, $from)->%*, pid => $pid, ports => ports($pid),
                  event => $events[-1] };

    return $hits[-1];
}


sub ports {
    my $pid = shift;

    my %inode = map { $_ => 1 } map { (readlink // '') =~ /^socket:\[(\d+)\]/ }
                glob "/proc/$pid/fd/*";
    my %port;

    for (split /\n/, slurp('/proc/net/tcp')) {
        my ($local, $remote, $inode)
            = /: \S{8}:(\S{4}) \S{8}:(\S{4}) (?:\S+ +){6}([1-9]\d*) / or next;
        $port{hex $_} = 1 for $inode{$inode} ? ($local, $remote) : ();
    }

    return \%port;
}


sub kill_worker {
    my ($pid, $signal) = @_;

    my $hit = hit($signal, $pid) or return;

    kill $signal => $pid;
    kill CONT => $pid;

    $hit->{dies} = 1;
    $hit->{event}{to} = now() + 0.5;
}


sub stop_worker {
    my ($pid, $pause) = @_;

    return if grep { $_->{pid} == $pid } @pending;

    my $hit = hit('stop', $pid) or return;

    $hit->{event}{to} = now() + $pause + 3600;
    push @pending, { at => now() + $pause, pid => $pid, hit => $hit };
}


sub go_on {
    my $all = shift;

    for (grep { $all || $_->{at} <= now() } @pending) {
        kill CONT => $_->{pid};
        $_->{done} = 1;
        $_->{hit}{to} = $_->{hit}{event}{to} = now() + 1;
    }

    @pending = grep { !$_->{done} } @pending;
}


sub reload {
    my $changed = shift;

    my $from = now();

    if ($changed) {
        $version++;
        $nginx->conf(conf());
    }

    $nginx->signal('HUP');
    event($changed ? 'change' : 'reload', $from, now() + 1);
}


# One that is stopped would keep both masters waiting.

sub upgrade {
    my $pause = shift;

    go_on(1);
    my $from = now();

    $nginx->upgrade;
    pause($pause);
    $nginx->finish_upgrade;

    event('upgrade', $from, now() + 1);
    push @masters, [now(), $nginx->pid];
}


sub pause {
    my $until = now() + $_[0];

    while (now() < $until) {
        select undef, undef, undef, 0.05;
        go_on();
        sample();
    }
}


# The memory of workers, once a second.

my $sampled = 0;

sub sample {
    return if now() < $sampled + 1;
    $sampled = now();

    for my $pid ($nginx->workers) {
        my ($kb) = slurp("/proc/$pid/status") =~ /^VmRSS:\s+(\d+)/m or next;
        push @rss, [$pid, now(), $kb];
    }
}


sub strike {
    my $plan = shift;

    my @pids = sort { $a <=> $b } $nginx->workers;
    @pids = grep { my $pid = $_; !grep { $_->{pid} == $pid } @pending } @pids;
    my $pid = $pids[$plan->{pick} % @pids] if @pids;

    my %do = (
        kill    => sub { kill_worker($pid, 'KILL') if $pid },
        crash   => sub { kill_worker($pid, 'SEGV') if $pid },
        stop    => sub { stop_worker($pid, $plan->{pause}) if $pid },
        reload  => sub { reload(0) },
        change  => sub { reload(1) },
        upgrade => sub { upgrade($plan->{pause}) },
        reject  => sub { $bank->reject($clients[$plan->{pick} % @clients],
                                       $plan->{pause}) and $rejects++ },
    );

    $do{$plan->{what}}->();
}


# The judgement.

my $SERVED = 'with a valid token: answered 200';
my $LOST = 'refused, though a token came while it could wait';
my $EARLY = 'none before it was due';
my $FORCED = 'forced by the API: one in five seconds';
my $WITHHELD = 'with a token that a fetch was to replace';
my $NEWBORN = 'with a newborn token, and the one before was good';
my $TWICE = 'payments that came twice';

sub check {
    my ($ok, $what, $figure) = @_;

    # of a fault that was planted only this is asked
    return $planted->{$what} = !$ok if $planted;

    $ok ? $passed++ : $failed++;
    printf "%-6s %-58s %s\n", $ok ? 'ok' : 'NOT OK', $what, $figure;
}


sub during {
    my ($from, $to, $what) = @_;

    return grep { $_->{from} <= $to && $_->{to} >= $from
                  && (!$what || $_->{what} =~ $what) } @events;
}


# By the log: each worker's master.

sub masters {
    return { map { /([0-9]+)#\S+ start worker process ([0-9]+)/ ? ($2, $1) : () }
             split /\n/, slurp($nginx->dir . '/notice.log') };
}


# The tokens, and from when to when the workers of a master surely had them:
# since the API saw one from them; or since it was answered, if nothing happened
# to anybody then, and it came at once: one that drips may be given up.

sub tokens {
    my ($answers, $master, @api) = @_;

    my @requests = $bank->requests;
    my %token;

    for my $i (0 .. $#requests) {
        my ($request, $plan) = ($requests[$i], $answers->[$i]);
        my ($v) = $request->{body} =~ /version=(\d+)/;

        @$request{qw(plan key)} = ($plan, "$request->{client} $v");

        next if $plan->{kind} !~ $brings;

        my $life = $plan->{life};
        my $delay = $plan->{how}{delay} // 0;

        # the same token ends when it would have, or sooner if so told
        if (defined $request->{repeated}) {
            my $token = $token{$request->{token}} or next;

            $token->{until} = min($token->{until},
                                  $request->{time} + $request->{repeated}
                                  - $token->{guard} - $margin)
                if $request->{repeated};
            next;
        }

        $token{$request->{token}} = {
            name  => $request->{token},
            key   => $request->{key},
            asked => $request->{time},
            guard => min(5, $life / 10),
            from  => {},
            came  => $request->{answered} + $delay + $margin,
            quiet => $plan->{kind} ne 'drip'
                     && !during($request->{time} - $margin,
                                $request->{answered} + $delay + $margin),
            until => $request->{time} + $life - min(5, $life / 10) - $margin,
        };
    }

    $_->{ends} = $_->{until} for values %token;

    # the one that came last is in use, though it may live shorter
    my %next;

    for (reverse @requests) {
        my $token = $token{ $_->{token} // '' } or next;
        my $next = $next{ $token->{key} };

        $token->{until} = min($token->{until}, $next->{until}) if $next;
        $next{ $token->{key} } = $token;
    }

    for (@api) {
        my ($name) = ($_->{authorization} // '') =~ /^Bearer (\S+)/ or next;
        my $token = $token{$name} or next;
        my ($pid) = $_->{raw} =~ /^X-Worker: (\d+)/mi;

        $token->{from}{$master->{$pid} // 0} //= $_->{time};
    }

    for (grep { $_->{quiet} } values %token) {
        $_->{from}{any} = $_->{came};
    }

    return (\@requests, [values %token]);
}


# By the API: when it said 401 to which token, though it had not expired.

sub refusals {
    my %refused;

    push @{ $refused{ bearer($_) } }, $_->{time}
        for grep { $_->{state} =~ /^(?:newborn|rejected)$/ } @_;

    return \%refused;
}


sub bearer { ($_[0]{authorization} // '') =~ /^Bearer (\S+)/ ? $1 : '' }


# Whether a token came, with nobody disturbed, in time for who waits since then;
# a word on the credentials ends all waits.

sub came_in_time {
    my ($tokens, $requests, $key, $r) = @_;

    my $limit = $r->{start} + $wait - $margin;

    for my $token (@$tokens) {
        next if $token->{key} ne $key || !$token->{quiet}
                || $token->{came} < $r->{start} || $token->{came} > $limit
                || during($r->{start} - $margin, $token->{came} + $margin);

        return 1 if !grep { $_->{key} eq $key && $_->{plan}{kind} eq '401'
                            && $_->{answered} >= $r->{start} - $margin
                            && $_->{answered} <= $r->{end} + $margin }
                     @$requests;
    }

    return;
}


# Whether there was one for a request of this uri, version and worker.

sub had_token {
    my ($tokens, $key, $at, $master) = @_;

    for my $token (@$tokens) {
        next if $token->{key} ne $key || $at > $token->{until};

        my $from = $token->{from}{$master // 0}
                   // (during($token->{came} - 30, $at, qr/upgrade/)
                       ? undef : $token->{from}{any});

        return 1 if defined $from && $from <= $at;
    }

    return;
}


sub judge_clients {
    my ($tokens, $requests, $master, $refusals, @records) = @_;

    my (%count, @bad, @lost, $hung, $slowest);
    my $refused = 0;

    $refused += @$_ for values %$refusals;

    for my $r (@records) {
        my $what = $r->{error} // $r->{status};
        my $hit = grep { $_->{ports}{$r->{port}} && $_->{from} <= $r->{end}
                         && $_->{event}{to} >= $r->{start} } @hits;
        my $took = $r->{end} - $r->{start};

        $count{$what}++;
        $count{had}++, $count{served}++ if $what eq '200';

        if ($what ne 'left' && !$hit) {
            $slowest = $took if $took > ($slowest // 0);
            $hung++ if $what eq 'timeout' || $took > $wait + 2 + 2 * $margin;
        }

        next if $what eq '200' || $what eq 'left' || $r->{late};
        $count{excused}++, next if $hit;

        # what the API says goes to the client
        next if $what eq '401' && $refused-- > 0;

        my $key = substr($r->{uri}, 1) . ' ' . ($r->{version} // $version);
        my $judged = $what ne '503'
                     || had_token($tokens, $key, $r->{start},
                                  $master->{$r->{worker} // 0});

        $judged ? push @bad, $r : $count{none}++;

        push @lost, $r if $what eq '503'
                          && came_in_time($tokens, $requests, $key, $r);
    }

    return check(!@bad, $SERVED), check(!@lost, $LOST) if $planted;

    printf "\n%d requests of HTTP/1.1: %s\n", scalar @records,
           join ', ', map { "$_: $count{$_}" } sort grep { !/^had|^served/ }
           keys %count;

    print '   ', join(' ', map { "$_=$bad[0]{$_}" } sort keys %{ $bad[0] }),
          "\n" if @bad;

    print '   ', join(' ', map { "$_=$lost[0]{$_}" } sort keys %{ $lost[0] }),
          "\n" if @lost;

    check(!@bad, $SERVED, sprintf '%d of %d', $count{had},
                                  $count{had} + @bad);
    check(!@lost, $LOST, scalar @lost);
    check($count{had} > 0.3 * @records, 'such are the most of them',
          sprintf '%.0f %%', 100 * $count{had} / (@records || 1));
    check(!$hung, 'none waits for ever', sprintf 'slowest: %.1f s', $slowest);
}


# A whole batch is judged, and only if nothing happened meanwhile, and the API
# rejected nothing.

sub judge_http2 {
    my ($tokens, $refusals, $file) = @_;

    my @refused = map { @$_ } values %$refusals;
    my ($requests, $judged, $bad) = (0, 0, 0);

    for (split /\n/, slurp($file)) {
        my ($start, $end, $uri, @status) = split;
        my $v = 1 + grep { $_->{what} eq 'change' && $_->{to} < $start }
                    @events;
        my ($master) = map { $_->[1] } grep { $_->[0] < $start }
                       reverse @masters;

        $requests += @status;
        next if during($start - $margin, $end + $margin)
                || grep({ $_ >= $start && $_ <= $end } @refused)
                || !had_token($tokens, substr($uri, 1) . " $v", $start,
                              $master);

        $judged += 10;
        $bad += 10 - grep { $_ eq '200' } @status;
    }

    print "\n$requests requests of HTTP/2\n";
    check(!$bad, 'with a valid token: answered 200',
          ($judged - $bad) . " of $judged");
}


# Two token requests of a source: when the second may come at the earliest.

sub earliest {
    my ($request, $failures) = @_;

    my $plan = $request->{plan};
    my $end = $request->{answered} + ($plan->{how}{delay} // 0);

    # the same token is asked for after its end
    return $request->{time} + $request->{repeated} + 1
        if defined $request->{repeated};

    return $request->{time} + 0.45 * $plan->{life}
        if $plan->{kind} =~ $brings;

    # nobody waits for these to be answered
    return $request->{time} + 3 if $plan->{kind} eq 'hang';

    my $times = 2 ** ($failures - 1);

    return $end + min(300, 5 * $times) if $plan->{kind} eq '401';
    return $end + $plan->{how}{headers}[0][1] if $plan->{kind} eq '503';
    return $end + min(8, $times)
        if $plan->{kind} =~ /^(?:reset|empty|truncated)$/;
    return $end + min(60, $times);
}


# What happened shortly before and after, for who has to find the reason.

sub around {
    my $at = shift;

    return join ', ', map { sprintf '%s %.1f to %.1f', $_->{what},
                            $_->{from} - $at, $_->{to} - $at }
                      during($at - 5, $at + 5);
}


sub judge_token_requests {
    my ($refusals, @requests) = @_;

    my (%last, %failures, %token, %forced, @early, @often, $excused);

    for my $r (sort { $a->{time} <=> $b->{time} } @requests) {
        my $key = $r->{key};
        my $last = $last{$key};

        # a new binary has its own memory, and who dies or stops tells nobody
        $failures{$key} = 0
            if $last && during($last->{time} - $margin, $r->{time},
                               qr/^(?!reload)/);

        if ($last && $r->{time} < earliest($last, $failures{$key}) - $margin) {
            if (during($last->{time} - $margin, $r->{time})) {
                $excused++;

            } elsif (grep { $_ > $last->{time} - $margin && $_ < $r->{time} }
                     map { @{ $refusals->{$_} // [] } } @{ $token{$key} // [] })
            {
                push @often, [$forced{$key}, $r]
                    if $forced{$key}
                       && $r->{time} < $forced{$key}{time} + 5 - $margin
                       && !during($forced{$key}{time} - $margin, $r->{time});

                # which token it is to replace
                $r->{forced} = $token{$key}[-1];
                $forced{$key} = $r;

            } else {
                push @early, [$last, $r];
            }
        }

        push @{ $token{$key} }, $r->{token} if defined $r->{token};

        $r->{plan}{kind} =~ $brings
            ? ($failures{$key} = 0) : $failures{$key}++;
        $last{$key} = $r;
    }

    return check(!@early, $EARLY), check(!@often, $FORCED) if $planted;

    $excused //= 0;

    printf "\n%d token requests\n", scalar @requests;

    printf "   %s, then after %.2f s %s, source %s; %s\n",
           $_->[0]{plan}{kind}, $_->[1]{time} - $_->[0]{time},
           $_->[1]{plan}{kind}, $_->[0]{key}, around($_->[0]{time})
        for @early, @often;

    check(!@early, $EARLY, scalar(@early) . ' too early');
    check(!@often, $FORCED, scalar(grep { $_->{forced} } @requests)
                            . ' forced, ' . @often . ' too early');
    check($excused <= 2 * @clients * @events,
          'nor more than what happened asks for',
          "$excused by " . @events . ' events');
}


# A token that the API has rejected stays away until the fetch has ended.

sub judge_rejected {
    my ($requests, @api) = @_;

    my ($fetches, $bad) = (0, 0);

    for my $r (grep { $_->{forced} } @$requests) {
        my $from = $r->{time} + $margin;
        my $to = $r->{plan}{kind} eq 'hang'
                 ? $r->{time} + 3 - $margin
                 : $r->{answered} + ($r->{plan}{how}{delay} // 0);

        next if $from >= $to || during($from - 2 * $margin, $to);

        $fetches++;
        $bad += grep { $_->{time} > $from && $_->{time} < $to
                       && bearer($_) eq $r->{forced} } @api;
    }

    check(!$bad, $WITHHELD, "$bad, in $fetches fetches that took a while");
}


# As long as the one before is good, nobody gets one that the API may refuse for
# its age.

sub judge_newborn {
    my ($tokens, $master, $refusals, @api) = @_;

    my %token = map { $_->{name} => $_ } @$tokens;
    my ($bad, $first) = (0, 0);

    for my $r (grep { $_->{state} eq 'newborn' } @api) {
        my $new = $token{ bearer($r) } or next;

        # rejected shortly before, that one was to be replaced at once
        my $since = $new->{asked} - 5 - $margin;

        my $before = grep {
            $_->{key} eq $new->{key} && $_->{asked} < $new->{asked}
            && $_->{quiet} && $_->{ends} > $r->{time}
            && !grep({ $_ > $since && $_ < $r->{time} }
                     @{ $refusals->{ $_->{name} } // [] })
            && !during($_->{asked} - $margin, $r->{time}, qr/upgrade/)
        } @$tokens;

        $before ? $bad++ : $first++;
    }

    check(!$bad, $NEWBORN, "$bad, and $first with no other one");
}


sub judge_payments {
    my %times;

    $times{$_}++ for map { $_->{raw} =~ /^X-Payment: (\d+)/mi } @_;

    check(!(grep { $_ > 1 } values %times), $TWICE,
          (grep { $_ > 1 } values %times) . ' of ' . keys %times);
}


sub judge_api {
    my @api = @_;

    my ($foreign, %state) = (0);

    for my $r (@api) {
        my ($pid) = $r->{raw} =~ /^X-Worker: (\d+)/mi;
        my $state = $r->{state};

        # it had the token in its hands when it was stopped
        $state = 'late' if $state eq 'expired'
            && grep { $_->{pid} == $pid && $_->{what} eq 'stop'
                      && $r->{time} <= $_->{event}{to}
                      && $r->{time} >= $_->{from} } @hits;

        $state{$state}++;
        $foreign++ if $state eq 'valid' && "/$r->{client}" ne $r->{uri};
    }

    printf "\n%d requests that reached the API\n", scalar @api;
    check(!$state{$_}, "with a token that is $_", $state{$_} // 0)
        for qw(expired unknown missing);
    check(!$foreign, 'with the token of another client', $foreign);
    print "       (held by a worker that was stopped, and late: $state{late})\n"
        if $state{late};
}


sub judge_processes {
    my %dies = map { $_->{pid} => 1 } grep { $_->{dies} } @hits;

    my @lines = grep {
        !(/exited on signal/ && / process ([0-9]+) / && $dies{$1})
    } $nginx->log_errors;

    print "\n", join("\n", @lines), "\n" if @lines;
    check(!@lines, 'no exit, alert or report but those asked for',
          scalar(keys %dies) . ' asked for');

    my %of;
    push @{ $of{$_->[0]} }, $_ for @rss;

    my @oldest = sort { @{ $of{$b} } <=> @{ $of{$a} } } keys %of;
    my $worst = 0;

    for my $pid (grep { defined } @oldest[0 .. 3]) {
        my @kb = map { $_->[2] } @{ $of{$pid} };

        # the first seconds are those of caches
        my ($start, $end) = (max(@kb[0 .. min(4, $#kb)]), $kb[-1]);
        $worst = max($worst, $end - $start);

        printf "       worker %d lived %d s: %d kB, at last %d kB\n", $pid,
               $of{$pid}[-1][1] - $of{$pid}[0][1], $start, $end;
    }

    # a sanitizer keeps what was freed
    check($worst < ($ENV{BOG_ASAN} ? 65536 : 4096), 'memory is flat',
          "$worst kB more");
}


# Small records made by hand, without a fault and with one of each kind: the
# judgement has to find that one, and no other.

sub judge_judges {
    my %how = (good => {}, slow => { delay => 3 });

    my $token = sub {
        my ($name, $at) = @_;

        return { name => $name, key => '1 1', asked => $at, came => $at,
                 quiet => 1, from => { any => $at }, until => $at + 10,
                 ends => $at + 10 };
    };
    my $request = sub {
        my ($at, $kind, %more) = @_;

        return { key => '1 1', time => $at, answered => $at, %more,
                 plan => { kind => $kind, life => 10,
                           how => $how{$kind} // {} } };
    };
    my $api = sub {
        my ($at, $state, $name) = @_;

        return { time => $at, state => $state, raw => "X-Payment: $at\r\n",
                 authorization => "Bearer $name" };
    };
    my $client = sub {
        return { uri => '/1', version => 1, port => 0, status => $_[0],
                 start => $_[1], end => $_[2] };
    };

    my $clients = sub {
        judge_clients([map { $token->($_, $_) } 20, 40],
                      [$request->(16.5, $_[0]), $request->(20, 'good')], {}, {},
                      $client->(200, 25, 25), @_[1 .. $#_]);
    };
    my $fetches = sub {
        my ($second, $third, $time) = @_;

        my @requests = ($request->(10, 'good', token => 'a'),
                        $request->($second, 'slow', token => 'b'),
                        $request->($third, 'good', token => 'c'));

        judge_token_requests({ a => [11], b => [14] }, @requests);
        judge_rejected(\@requests, $api->($time, 'rejected', 'a'));
    };
    my $newborn = sub {
        judge_newborn([$token->('a', 10), $token->('b', 15)], {}, {},
                      $api->($_[0], $_[1], 'b'));
    };

    my @rows = (
        [undef, sub { $clients->('reset', $client->(503, 10, 12)) }],
        [$SERVED, sub { $clients->('reset', $client->(503, 25, 25)) }],
        [undef, sub { $clients->('401', $client->(503, 16, 17)) }],
        [$LOST, sub { $clients->('reset', $client->(503, 17, 18)) }],
        [undef, sub { $fetches->(11.1, 16.5, 14.5) }],
        [$WITHHELD, sub { $fetches->(11.1, 16.5, 13) }],
        [$FORCED, sub { $fetches->(11.1, 14.2, 14.5) }],
        [$EARLY, sub { $fetches->(10.5, 16.5, 14.5) }],
        [undef, sub { $newborn->(18, 'valid') }],
        [$NEWBORN, sub { $newborn->(15, 'newborn') }],
        [undef, sub { judge_payments(map { $api->($_, 'valid', 'a') } 1, 2) }],
        [$TWICE, sub { judge_payments(map { $api->($_, 'valid', 'a') } 1, 1) }],
    );

    my @wrong;

    for (0 .. $#rows) {
        my ($fault, $judge) = @{ $rows[$_] };

        $planted = {};
        $judge->();

        my @found = grep { $planted->{$_} } keys %$planted;
        push @wrong, $_ if "@found" ne ($fault // '');
    }

    undef $planted;

    print "\n";
    check(!@wrong, 'a fault that is planted in the records is found',
          @wrong ? "not in rows @wrong" : @rows . ' records');
}


my @answers = map { answer() } 1 .. 10 * $seconds + 100;
my @plan = schedule();

$version = 1;
$bank = Bog::Bank->new(credentials => { map { $_ => 's3cret' } @clients });
$bank->queue(map { $_->{how} } @answers);

$nginx = Bog::Nginx->new(
    workers => $workers, daemon => 1, log_level => 'info',
    asan    => 'handle_segv=0:quarantine_size_mb=16',
    secret  => { main => "s3cret\n" }, conf => conf());
$nginx->start;

my $start = now();
push @masters, [$start, $nginx->pid];

my $load = Bog::Chaos::Load->new(port => $nginx->port, rate => $rate,
    seconds => $seconds, seed => $seed, limit => timeout(60));
my $file = $nginx->dir . '/http2';
my $http2 = `sh -c 'command -v h2load'` && http2($nginx->port(1), $file);

for (@plan) {
    pause(max(0, $start + $_->{at} - now()));
    strike($_);
}

pause(max(0, $start + $seconds - now()));
go_on(1);

my @records = $load->result;
$http2->call('result') if $http2;

my %times;
$times{$_->{what}}++ for @events;
print join(', ', map({ "$_: $times{$_}" } sort keys %times),
           "rejects: $rejects"), "\n";

my $master = masters();
my @api = $bank->api_requests;
my ($requests, $tokens) = tokens(\@answers, $master, @api);

$nginx->stop;

my $refusals = refusals(@api);

judge_clients($tokens, $requests, $master, $refusals, @records);
judge_http2($tokens, $refusals, $file) if $http2;
judge_token_requests($refusals, @$requests);
judge_api(@api);
judge_newborn($tokens, $master, $refusals, @api);
judge_rejected($requests, @api);
judge_payments(@api);
judge_processes();
judge_judges();

print "\nto repeat it: chaos.sh $seconds $seed\n" if $failed;
print "\n$passed passed, $failed failed\n";

exit !!$failed;
