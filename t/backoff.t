# When the bank is asked again after a failure, who is told of it, and what the
# log says.  Every row is a source of its own in one nginx, whose four workers
# are watched for a minute; the subtests with an nginx of their own run
# meanwhile.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Socket::INET;
use POSIX ();
use Test::More;

use Bog::Answer 'steps';
use Bog::Bank;
use Bog::Child;
use Bog::Client qw(get parallel steady header);
use Bog::Nginx;
use Bog::Server;
use Bog::Util qw(now timeout pass_time wait_until free_port slurp);

my ($minute, $workers) = (60, 4);

my $epoch = time;
my $peer = qr/127\.0\.0\.1:\d+/;
my $no_port = qr/connect\(\) failed \(111: Connection refused\)/;
my $reset = qr/recv\(\) failed \(104: Connection reset by peer\)/;
my $ended = qr/upstream prematurely closed connection/;
my $rejected = 'the credentials were rejected';
my @table;


# A row of the table: what it is; what is answered, in turn, the last one for
# ever; the milliseconds before the next try, without what is added at random,
# for as many of the tries as are known.  Further: reason, what the log says of
# the first failure, a text or a pattern; conf, a directive; load, 1
# where requests ask for it all the time; tries, how many a minute has.

sub row {
    my ($name, $script, $next, %opt) = @_;

    $script = [$script] unless ref $script eq 'ARRAY';

    push @table, { name => $name, script => $script, next => $next, %opt };
}


sub date { POSIX::strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime $_[0]) }

sub later {
    my ($status, $after, %opt) = @_;

    return { status => $status, body => '', %opt,
             headers => [@{ $opt{headers} // [] },
                         map { ['Retry-After' => $_] } $after] };
}


# --- no answer: from a second to eight; a failure: to a minute; the credentials
# are rejected: from five seconds to five minutes

my @silent = (1000, 2000, 4000, (8000) x 5);
my @doubling = map { 1000 * 2 ** $_ } 0 .. 5;
my @slowly = map { 5000 * 2 ** $_ } 0 .. 3;

my %failing = (load => 1, tries => 6);

row('connection refused', {}, \@silent, load => 1, refused => 1,
    reason => qr/could not connect to $peer: $no_port/);
row('no answer', { hang => 1 }, \@silent, load => 1,
    conf => 'bog_read_timeout 300ms;',
    reason => qr/no answer from $peer in \d+\.\d s to the token request/);
row('connection reset', { close => 'reset' }, \@doubling, %failing,
    reason => qr/no complete answer from $peer: (?:$reset|$ended)/);
row('an empty answer', { close => 'empty' }, \@doubling, %failing,
    reason => qr/no complete answer from $peer: $ended/);
row("status $_", { status => $_, body => 'x' }, \@doubling, %failing,
    reason => "unexpected status $_")
    for 400, 403, 404, 429, 500, 502, 503;
row('HTML', { body => '<html>' }, \@doubling, %failing,
    reason => 'the answer is not a JSON object');
row('no token', { body => '{}' }, \@doubling, %failing,
    reason => 'the answer has no "access_token"');
row('half of a body', { close => 'body' }, \@doubling, %failing,
    reason => qr/no complete answer from $peer: $ended/);

row("status $_->[0], $_->[1]",
    { status => $_->[0], body => qq({"error":"$_->[1]"}) }, \@doubling,
    load => 1, tries => 6,
    reason => qq(refused with status $_->[0], error "$_->[1]"))
    for [200, 'server_error'], [400, 'invalid_scope'], [400, 'invalid_target'],
        [403, 'access_denied'];

row("status $_->[0], $_->[1]",
    { status => $_->[0], body => qq({"error":"$_->[1]"}) }, \@slowly,
    load => 1, tries => 4,
    reason => qq($rejected, status $_->[0], error "$_->[1]"))
    for [200, 'invalid_client'], [400, 'invalid_client'],
        [401, 'invalid_request'], [403, 'unauthorized_client'],
        [500, 'invalid_client'];

# --- the bank says when

my $wish = 'unexpected status ';

row("$_->[0] with Retry-After: $_->[1]", later($_->[0], $_->[1]), $_->[2],
    reason => $wish . $_->[0])
    for [503, 2, [2000, 2000, 2000]], [429, 3, [3000, 3000]],
        [503, '007', [7000]], [429, 40, [40000]],
        [503, 0, [1000, 1000, 1000]],
        map({ ([503, $_, [300000]], [429, $_, [300000]]) }
            300, 301, 86400, 9223372036854775, '9223372036854775807',
            '9' x 40, 'Fri, 31 Dec 9999 23:59:59 GMT'),
        map({ ([503, $_, [1000, 2000, 4000]]) }
            -5, '+7', 1.5, '10 s', '1e3', '0x10', 'soon', '',
            'Fri, 99 Foo 2099 23:59:59 GMT');

row("$_ with Retry-After: 40", later($_, 40), [40000], reason => "$wish$_")
    for 302, 400, 403, 500, 502, 504;

# of the two waits the longer one
row("401 with Retry-After: $_->[0]", later(401, $_->[0]), $_->[1],
    reason => "$rejected, status 401")
    for [40, [40000]], [1, [5000, 10000]];

# by the bank's own clock
row("a date in 20 s, by a clock that is $_->[0] s off",
    later($_->[1], date($epoch + $_->[0] + 20),
          headers => [[Date => date($epoch + $_->[0])]]), [20000],
    reason => $wish . $_->[1])
    for map { ([$_, 503], [$_, 429]) } 0, -600, 600;

row('a date that has passed',
    later(503, date($epoch - 30), headers => [[Date => date($epoch)]]),
    [1000, 1000], reason => "${wish}503");
row('a date in an hour',
    later(503, date($epoch + 3600), headers => [[Date => date($epoch)]]),
    [300000], reason => "${wish}503");

# --- one after another

row('classes in turn', [{ status => 500 }, { status => 401 }, { hang => 1 }],
    [1000, 10000, 4000, 8000, 8000], conf => 'bog_read_timeout 300ms;',
    turns => 1, load => 1);

# what is asked for does not count as a step, the failure does
row('a wish, then none', [later(503, 2), { status => 503, body => '' }],
    [2000, 2000, 4000], reason => "${wish}503");

row('all is forgotten after a success',
    [({ status => 500 }) x 3, { expires_in => 2 }, { status => 500 }],
    [1000, 2000, 4000, 1000, 2000, 4000], again => 3);
row('after a rejection too',
    [{ status => 401 }, { expires_in => 2 }, { status => 401 }],
    [5000, 5000, 10000], again => 1);
row('a wish is forgotten too',
    [later(503, 5), { expires_in => 2 }, { status => 503, body => '' }],
    [5000, 1000, 2000], again => 1);


# --- the endpoint: every row has its own path

my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1024)
    or die "listen: $!\n";
my $port = $listener->sockport;
my $refused = free_port();

my $endpoint = Bog::Child->new(sub {
    my $loop = shift;
    my (%seen, @hanging, $well);

    my $answer = sub {
        my ($connection, $how, $times) = @_;

        return push @hanging, $connection if $how->{hang};

        push @$times, now();
        $connection->play(steps($how, 'tok', $connection->keeps_alive));
    };

    Bog::Server->serve($loop, $listener, name => 'token', on_request => sub {
        my ($connection, $request) = @_;

        my ($n) = $request->{uri} =~ m{^/(\d+)\z} or return;
        my $script = $table[$n]{script};
        my $asked = $seen{$n} //= [];

        my $times = [$request->{time}];
        push @$asked, $times;

        my $i = $#$asked < $#$script ? $#$asked : $#$script;
        $answer->($connection, $well ? {} : $script->[$i], $times);
    });

    return {
        seen => sub { $_[1]->(\%seen) },
        well => sub { $well = 1; $_[1]->(1) },
    };
});

close $listener;


sub location {
    my $n = shift;

    my $endpoint = $table[$n]{refused} ? $refused : $port;

    return "location = /$n { bog_client_id client-$n;"
           . " bog_token_endpoint http://127.0.0.1:$endpoint/$n;"
           . ' ' . ($table[$n]{conf} // '')
           . ' proxy_pass http://unix:%%DIR%%/api; }';
}


my $nginx = Bog::Nginx->new(
    workers => $workers, log_level => 'info',
    secret  => { main => 's3cret' }, conf => join "\n",
        'bog_client_secret_file %%SECRET_main%%;',
        'proxy_set_header Authorization "Bearer $bog_bearer_token";',
        'server { listen 127.0.0.1:%%PORT%%;',
        map({ location($_) } 0 .. $#table), '}',
        'server { listen unix:%%DIR%%/api; return 200 $http_authorization; }');

my $start = now();
$nginx->start;

my @loaded = grep { $table[$_]{load} } 0 .. $#table;

my $load = steady($nginx->port, rate => 20, seconds => $minute - 3,
                  uri => sub { '/' . $loaded[$_[0] % @loaded] });


sub bank { Bog::Bank->new(credentials => { 8282 => 's3cret' }) }


# An nginx with four workers, all of which get connections.

sub gateway {
    my ($bank, %opt) = @_;

    my $pass = "proxy_pass http://127.0.0.1:${\ $bank->api_port };";

    my $nginx = Bog::Nginx->new(
        workers => $workers, status => 1, %opt,
        secret  => { main => "s3cret\n" }, conf => <<"END");
        log_format own '\$pid \$status \$bog_hold_time';

        proxy_set_header Authorization "Bearer \$bog_bearer_token";

        server {
            listen 127.0.0.1:%%PORT%% reuseport;
            access_log %%DIR%%/own.log own;

            bog_client_id           8282;
            bog_client_secret_file  %%SECRET_main%%;
            bog_token_endpoint      ${\ $bank->url };
            bog_read_timeout        120s;

            location / { $pass }
            location /patient { bog_wait_timeout 120s; $pass }
            location /optional { bog_token optional; $pass }
        }
END
    return $nginx->start;
}


sub own_log { split /\n/, slurp($_[0]->dir . '/own.log') }


sub statuses {
    my %count;
    $count{$_->{status} // $_->{error}}++ for @_;

    return join ' ', map { "$_: $count{$_}" } sort keys %count;
}


# What the module itself says of its fetches, of a source or of all: [level,
# text, seconds until the next try].

sub lines {
    my ($nginx, $id) = @_;

    return map { _line($_) }
           grep { !defined $id || /client id: "\Q$id\E"/ }
           split /\n/, $nginx->log;
}


sub _line {
    my ($level, $text) = $_[0] =~ /\[(\w+)\]\ \S+\ (?:\*\d+\ )?
                                   (token\ (?:request|obtained).*)/x or return;

    return [$level, $text, $text =~ /next try in ([0-9.]+)s/];
}


sub levels { join ' ', map { $_->[0] } @_ }


# Retry-After, when the next try is at $at by our clock or up to $late later.

sub retry_after_is_right {
    my ($answer, $at, $late, $name) = @_;

    my $value = header($answer, 'Retry-After') // 'none';
    my ($first, $last) = ($at - now(), $at + $late - now() + $answer->{time});

    ok($value =~ /^\d+\z/ && $value >= $first && $value < $last + 1, $name)
        or diag "$value is not from $first to $last";
}


sub failed {
    my ($nginx, %opt) = @_;

    my ($last, $line);

    wait_until {
        my @lines = lines($nginx);
        $line = $lines[-1];
        @lines >= ($opt{n} // 1);
    };

    return $line->[2];
}


subtest 'a failure is that of all who wait' => sub {
    my $bank = bank();
    $bank->answer(hold => 1);

    my $nginx = gateway($bank);
    my ($answered, $late);

    my @answers = parallel($nginx->port, 200, on_sent => sub {
        ok($bank->wait_requests(1), 'a token request');
        ok($nginx->wait_active(200), 'everybody waits for it');

        $answered = now();
        $bank->release(later(503, 40)->%*, hold => 0);
    });

    $late = now() - $answered;

    is(statuses(@answers), '503: 200', 'all get the answer of the one');
    cmp_ok($late, '<', timeout(2), 'within a moment');

    my %held = map { $_ => 1 } map { (split)[0] } own_log($nginx);
    is(scalar(keys %held), $workers, 'in all workers');

    my $wait = failed($nginx);
    ok($wait >= 40 && $wait <= 50, 'the next try is when the bank says');

    retry_after_is_right($_, $answered + $wait, $late + $answers[0]{time},
                         'Retry-After') for @answers[0, 100, 199];

    my @more = parallel($nginx->port, 40);

    is(statuses(@more), '503: 40', 'too far off for the next ones');
    retry_after_is_right($_, $answered + $wait, $late, 'Retry-After')
        for @more;

    my @optional = parallel($nginx->port, 8, uri => '/optional');
    is(statuses(@optional), '401: 8', 'optional goes on');
    is(join(' ', map { $_->{authorization} } $bank->api_requests),
       join(' ', ('Bearer ') x 8), 'with an empty variable');

    is(join(' ', grep { !/ 0\.000$/ } (own_log($nginx))[200 .. 247]), '',
       'none of them is held');

    parallel($nginx->port, 20, uri => '/patient', close_after => 1,
             on_sent => sub { ok($nginx->wait_active(20),
                                 'who has the time is held') });

    is($bank->count, 1, 'one token request');
    is(levels(lines($nginx)), 'error', 'one line');

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
};


subtest 'the bank is well again' => sub {
    my $bank = bank();
    $bank->answer(status => 500, body => '');

    my $nginx = gateway($bank);

    ok($bank->wait_requests(3), 'three failures');
    my $wait = failed($nginx, n => 3);
    my $well;

    my @answers = parallel($nginx->port, 100, on_sent => sub {
        ok($nginx->wait_active(100), 'held');

        $bank->answer;
        $well = now();
    });

    is(statuses(@answers), '200: 100', 'all are answered');
    is($bank->count, 4, 'by the next try');

    my @requests = $bank->requests;
    cmp_ok($requests[3]{time} - $well, '<=', $wait + timeout(1),
           'within its step');

    my ($token) = map { $_->{token} } $bank->tokens;
    is(scalar(grep { $_->{authorization} eq "Bearer $token" }
              $bank->api_requests), 100, 'with its token');

    is(levels(lines($nginx)), 'error info info notice', 'two lines');
    like((lines($nginx))[3][1], qr/^token obtained again, /, 'the last one');

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
};


# Who reloads may have mended something; who does so again and again has not.

subtest 'a reload ends the wait' => sub {
    my $bank = bank();
    $bank->answer(status => 401, body => '');

    my $nginx = gateway($bank);
    my $wait = failed($nginx);

    $nginx->reload;
    ok($bank->wait_requests(2, $wait / 2), 'a reload');
    is(failed($nginx, n => 2) > 1, 1, 'fails again');
    is(levels(lines($nginx)), 'error info', 'which is no news');

    $bank->answer;
    pass_time(5);
    $nginx->reload;
    ok(wait_until { get($nginx->port, '/')->{status} == 200 }, 'another one');

    is($bank->count, 3, 'token requests');
    is(levels(lines($nginx)), 'error info notice', 'the log');

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
};


subtest 'nobody sees a refresh that fails' => sub {
    my $bank = bank();
    $bank->queue({ expires_in => 24 }, { status => 500, body => '' },
                 { close => 'reset' }, { body => '{' });

    my $nginx = gateway($bank);

    is(get($nginx->port, '/')->{status}, 200, 'a token');

    my $load = steady($nginx->port, rate => 20, seconds => 21);
    my $result = $load->result;

    is_deeply($result->{status}, { 200 => 420 }, 'only 200')
        or diag explain $result->{failures};
    is_deeply($result->{errors}, {}, 'no error');

    is($bank->api_stats->{valid}, 421, 'the API saw good tokens only');
    is($bank->count, 5, 'three failures between two tokens');

    # but for the first of all, which was there before the token
    my ($first, @log) = own_log($nginx);
    is(join(' ', grep { !/ 0\.000$/ } @log), '', 'none was held');

    is(levels(lines($nginx)), 'notice error error info notice',
       'the last two are of one kind');

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
};


# --- the minute is over

my $left = $start + $minute - now();
select undef, undef, undef, $left if $left > 0;

my $seen = $endpoint->call('seen');
my %before = map { $_ => [lines($nginx, "client-$_")] } 0 .. $#table;
my @random;


# Every failure of the table, until the script is at its end.

sub failures {
    my $n = shift;

    return grep { defined $_->[2] } @{ $before{$n} };
}


sub check_waits {
    my $n = shift;

    my $row = $table[$n];
    my @waits = map { $_->[2] * 1000 } failures($n);
    my $wrong = '';

    for my $i (0 .. $#{ $row->{next} }) {
        my $least = $row->{next}[$i];
        my $wait = $waits[$i] // last;

        $wrong .= " $wait for $least"
            if $wait < $least || $wait > int($least * 1.25);

        push @random, ($wait - $least) / $least;
    }

    is($wrong, '', "$row->{name}: the next try");
}


# From an answer to the next request.  Where there was none, from the request:
# how long nginx waited for the answer makes up for our reading it late.

sub check_gaps {
    my $n = shift;

    my $row = $table[$n];
    my @asked = @{ $seen->{$n} // [] };
    my @waits = map { $_->[2] } failures($n);

    return if $row->{again} || $row->{refused};

    my @wrong = grep {
        my $answered = $asked[$_ - 1][1] // $asked[$_ - 1][0];
        my $gap = $asked[$_][0] - $answered;

        # nginx's clock is one of milliseconds
        $gap < $waits[$_ - 1] - 0.002
        || $gap > $waits[$_ - 1] + timeout(2);
    } 1 .. $#asked;

    is("@wrong", '', "$row->{name}: it comes then");
}


sub check_tries {
    my $n = shift;

    my $row = $table[$n];
    my $tries = $row->{tries} or return;

    is(scalar(failures($n)), $tries, "$row->{name}: $tries tries in a minute");
    is(scalar(@{ $seen->{$n} // [] }), $tries, 'requests')
        unless $row->{refused};
}


sub check_lines {
    my $n = shift;

    my $row = $table[$n];
    my @lines = @{ $before{$n} };

    my $reason = ref $row->{reason} ? $row->{reason} : quotemeta $row->{reason};

    like($lines[0][1],
         qr/^token request failed: $reason, next try in [0-9.]+s, /,
         "$row->{name}: the reason");
    like($lines[0][1], qr/, client id: "client-$n", token endpoint: "http:/,
         'and whose');
    is(levels(@lines), join(' ', 'error', ('info') x (@lines - 1)),
       'is news once');
}


# nginx's own lines about a connection are information: ours has their text.

sub check_nginx_lines {
    my ($n, $log) = @_;

    my @own = grep { /\[(?:notice|warn|error|crit|alert)\]/
                     && /client id: "client-$n"/
                     && !/token request failed|token obtained/ } @$log;

    is(join("\n", @own), '', "$table[$n]{name}: no lines of nginx's");
}


subtest 'when it is tried again' => sub {
    for my $n (0 .. $#table) {
        ok(scalar(failures($n)), "$table[$n]{name}: fails");
        check_waits($n);
        check_gaps($n);
        check_tries($n);
    }

    my ($least, $most) = (sort { $a <=> $b } @random)[0, -1];

    cmp_ok($most - $least, '>', 0.05, 'not always at the same time');
    diag sprintf '%d waits, %.4f to %.4f of them at random', scalar(@random),
                 $least, $most if $ENV{BOG_TIMES};
};


subtest 'what the log says' => sub {
    my @log = split /\n/, $nginx->log;

    for my $n (grep { $table[$_]{reason} } 0 .. $#table) {
        check_lines($n);
        check_nginx_lines($n, \@log) if $table[$n]{load};
    }
};


subtest 'classes in turn' => sub {
    my ($n) = grep { $table[$_]{turns} } 0 .. $#table;
    my @lines = @{ $before{$n} };

    is(levels(@lines[0 .. 3]), 'error error error info', 'each is news once');

    my @reasons = map { $_->[1] =~ /failed: (.*), next try/ } @lines[0 .. 3];
    s/$peer in \d+\.\d s/PEER in T s/ for @reasons;
    is_deeply(\@reasons,
              ['unexpected status 500', "$rejected, status 401",
               ('no answer from PEER in T s to the token request') x 2],
              'in turn');
};


subtest 'a success between failures' => sub {
    for my $n (grep { $table[$_]{again} } 0 .. $#table) {
        my @lines = @{ $before{$n} };
        my $i = $table[$n]{again};

        is(levels(@lines[0 .. $i + 2]),
           join(' ', 'error', ('info') x ($i - 1), 'notice error info'),
           $table[$n]{name});
        like($lines[$i][1], qr/^token obtained again, /, 'the success');
    }
};


# --- clients are told when

subtest 'Retry-After' => sub {
    my $checked = 0;

    for my $n (0 .. $#table) {
        my $asked = $seen->{$n} or next;
        my $wait = (failures($n))[-1][2];
        my $answered = $asked->[-1][1] // next;

        # those that a request would wait for
        next if $answered + $wait < now() + 15;

        my $answer = get($nginx->port, "/$n");

        is($answer->{status}, 503, $table[$n]{name});
        retry_after_is_right($answer, $answered + $wait, timeout(1),
                             'Retry-After');
        $checked++;
    }

    cmp_ok($checked, '>=', 14, 'all that are far off');
};


# Says whether the row's bank has asked for a long wait.

sub asked { $table[$_[0]]{next}[0] >= 40000 }


# --- all is well: who waits is answered, and each recovery is one line

subtest 'all is well again' => sub {
    my $bank = Bog::Bank->new(at     => { token => ['127.0.0.1', $refused] },
                              verify => 0);
    $endpoint->call('well');

    $nginx->reload;

    my $wrong = '';

    # a reload does not end a wait that the bank has asked for
    my @well = grep { !asked($_) } 0 .. $#table;

    for my $n (@well) {
        $wrong .= " $table[$n]{name}"
            unless wait_until { get($nginx->port, "/$n")->{status} == 200 };
    }

    is($wrong, '', 'all have a token');

    my $result = $load->result;
    is_deeply($result->{errors}, {}, 'nobody was left without an answer');
    is(join(' ', grep { $_ != 503 && $_ != 200 } keys %{ $result->{status} }),
       '', 'nor got another one');
    cmp_ok($result->{status}{503}, '>', 0, 'some had to be refused');

    for my $n (@well) {
        my @lines = lines($nginx, "client-$n");
        splice @lines, 0, scalar @{ $before{$n} };

        # one may have failed once more before the bank was well
        @lines = grep { $_->[0] ne 'info' } @lines;

        is(levels(@lines), 'notice', "$table[$n]{name}: one line");
        like($lines[0][1], qr/^token obtained again, /, 'that says so');
    }
};


is(scalar($nginx->workers), $workers, 'the workers live');
is($nginx->stop, 0, 'stops');
$nginx->clean_log;

diag sprintf '%d rows in %.1f s', scalar @table, now() - $start
    if $ENV{BOG_TIMES};

done_testing;
