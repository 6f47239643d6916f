# What nobody gets to see: the secret, in whatever form, in no log, page, core
# or file, and the token in no line of ours.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use MIME::Base64 'encode_base64';
use Test::More;

use Bog::Bank;
use Bog::CA;
use Bog::Client qw(get parallel header);
use Bog::Leak;
use Bog::Nginx;
use Bog::Util qw(timeout wait_until slurp);

# long enough for all three forms of Base64, and with what URLs encode
my ($id, $secret) = ('client-8282', 'kq7+Zr/Lw9%Xp2&Td4 Gm6=Vn8');
my $wrong = 'Hy3+Bn/Ks8%Wq5&Jt9 Fd1=Rc4';
my ($spill, $canary) = ('SPILLED-BODY', 'canary-5hT2wQ9x');

my $ca = Bog::CA->shared;


sub bank {
    return Bog::Bank->new(credentials => { $id => $secret },
                          tls => $ca->cert(name => '127.0.0.1'));
}


# %opt: listener, secret, directives, and what Bog::Nginx takes.

sub gateway {
    my ($bank, %opt) = @_;

    my $listener = delete $opt{listener} // 'tls';
    my $directives = delete $opt{directives} // 'bog_wait_timeout 30s;';
    my $wanted = delete $opt{secret} // $secret;

    my $nginx = Bog::Nginx->new(
        status => 1, log_level => 'debug', %opt,
        secret => { main => "$wanted\n" }, conf => <<"END");
        log_format bog '\$uri \$status \$bog_token_state \$bog_token_id '
                       '\$bog_token_error \$bog_token_expires \$bog_hold_time';

        bog_client_id                $id;
        bog_client_secret_file       %%SECRET_main%%;
        bog_token_endpoint           ${\ $bank->url($listener) };
        bog_ssl_trusted_certificate  ${\ $ca->path };
        bog_read_timeout             60s;
        $directives

        server {
            listen 127.0.0.1:%%PORT%%;

            access_log %%DIR%%/bog.log bog;

            location / {
                proxy_pass http://127.0.0.1:${\ $bank->api_port };
                proxy_set_header Authorization "Bearer \$bog_bearer_token";
            }

            location = /state {
                add_header X-Id \$bog_token_id;
                add_header X-Error \$bog_token_error;
                return 200 "\$bog_token_state \$bog_token_expires";
            }
        }
END
    return $nginx;
}


sub secrets {
    my $leak = Bog::Leak->new;

    $leak->secret($_, $id) for $secret, $wrong;

    return $leak;
}


sub clean {
    my ($name, $text) = @_;

    is(join(', ', secrets()->in_text($text)), '', "$name: no secret");
}


sub raw { join "\n", map { $_->{raw} // '' } @_ }


# All that processes tell of themselves without a debugger.

sub processes {
    my ($nginx, $name) = @_;

    for my $pid ($nginx->pid, $nginx->workers) {
        clean("$name: $_ of $pid", slurp("/proc/$pid/$_"))
            for qw(cmdline environ comm);
    }
}


# Every line that names the token or what the bank has said, but for those that
# nginx has on headers and variables it sends.

sub no_token_of_ours {
    my ($nginx, $bank) = @_;

    my $leak = Bog::Leak->new;
    $leak->text('a token', $_->{token}) for $bank->tokens;

    my @lines = grep {
        $leak->in_text($_)
        && !/\[debug\].* http (?:script var|proxy header|proxy body|map): ?/
        && !/^"?(?:GET|Authorization: Bearer) /
    } split /\n/, $nginx->log;

    is(join("\n", grep { defined } @lines[0 .. 4]), '',
       'no token in a line of ours');
    ok(index($nginx->log, $spill) < 0, 'no answer of the bank in the log');
}


# The failures, one of each class, and what a client gets to see of them.

my @failures = (
    ['rejected', { status => 401, body =>
        qq({"error":"invalid_client","error_description":"$spill"}) }],
    ['http_400', { status => 400, body => qq({"error":"x","y":"$spill"}) }],
    ['http_500', { status => 500, body => $spill }],
    ['http_429', { status => 429, body => $spill,
                   headers => [['Retry-After' => 1]] }],
    ['http_302', { status => 302, body => $spill,
                   headers => [['Location' => "/$spill"]] }],
    ['malformed', { body => "<html>$spill</html>" }],
    ['malformed', { body => qq({"access_token":"$spill \\r\\n"}) }],
    ['malformed', { close => 'body', body => $spill x 10 }],
    ['malformed', { raw => "$spill\r\n" }],
    ['too_large', { body => $spill x 10000 }],
);

for my $listener ('tls', 'token') {
    subtest "failures, $listener" => sub {
        for my $failure (@failures) {
            my ($error, $answer) = @$failure;

            my $bank = bank();
            $bank->answer(%$answer);
            my $nginx = gateway($bank, listener => $listener,
                                directives => 'bog_wait_timeout 100ms;');

            my ($code, $text) = $nginx->test;
            is($code, 0, 'nginx -t');
            clean('nginx -t', $text);

            $nginx->start;
            ok(wait_until { header(get($nginx->port, '/state'), 'X-Error') },
               'it fails');

            my @answers = (get($nginx->port, '/state'),
                           parallel($nginx->port, 5));

            is(header($answers[0], 'X-Error'), $error, $error);
            is($answers[1]{status}, 503, 'refused');

            my $seen = raw(@answers);
            clean('answers', $seen);
            ok(index($seen, $spill) < 0, 'nor what the bank said');
            processes($nginx, $error);

            $nginx->stop('TERM');
            ok(index($nginx->log, $spill) < 0, 'the log has not either');
            $nginx->clean_log;
        }
    };


    subtest "success, $listener" => sub {
        my $bank = bank();
        $bank->queue({ hold => 1 });
        $bank->answer(expires_in => 4);

        my $nginx = gateway($bank, listener => $listener, workers => 2);

        $nginx->start;
        my ($code, $dump) = $nginx->dump;
        is($code, 0, 'nginx -T');
        like($dump, qr/\Q$id\E/, 'has the id');
        clean('nginx -T', $dump);

        my @answers = parallel($nginx->port, 10, on_sent => sub {
            ok($bank->wait_requests(1), 'a token request');
            ok($nginx->wait_active(10), 'everybody waits for it');
            processes($nginx, 'held');
            is($bank->release(expires_in => 4), 1, 'it is answered');
        });

        is(scalar(grep { $_->{status} == 200 } @answers), 10, 'so are they');

        ok($bank->wait_requests(2), 'a refresh');
        $nginx->reload(wait_old => 1);
        push @answers, get($nginx->port, '/'), get($nginx->port, '/state'),
             get($nginx->port, '/none', method => 'TRACE'),
             get($nginx->port, '/', host => "\x01");

        processes($nginx, 'reloaded');
        clean('answers', raw(@answers));

        my ($state) = grep { header($_, 'X-Id') } @answers;
        ok($state, 'an answer that tells of the token');
        ok(index(raw($state), ($bank->tokens)[0]{token}) < 0, 'by its digest');

        is($nginx->stop, 0, 'stops');

        like(slurp($nginx->dir . '/bog.log'), qr/ valid [0-9a-f]{16} /,
             'the access log has the digest');
        no_token_of_ours($nginx, $bank);
        ok(scalar(grep { index(slurp($nginx->dir . '/bog.log'), $_->{token})
                         >= 0 } $bank->tokens) == 0, 'and no token');
        $nginx->clean_log;
    };
}


subtest 'credentials that are rejected' => sub {
    my $bank = bank();
    my $nginx = gateway($bank, secret => $wrong);

    $nginx->start;
    ok($nginx->wait_log(qr/the credentials were rejected/), 'rejected');
    clean('the page', raw(get($nginx->port, '/')));

    $nginx->secret(main => "$secret\n");
    $nginx->reload(wait_old => 1);
    is(get($nginx->port, '/')->{status}, 200, 'the right ones');

    $nginx->secret(main => "$wrong\n$wrong\n");
    my ($code, $text) = $nginx->test;
    isnt($code, 0, 'a file that is refused');
    like($text, qr/control character at byte/, 'says why');
    clean('nginx -t', $text);

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log(undef, except => qr/one secret on one line/);
};


subtest 'TLS that fails' => sub {
    my $bank = bank();
    my $nginx = gateway($bank, directives => 'bog_ssl_name other.test;');

    $nginx->start;
    ok($nginx->wait_log(qr/token request failed: TLS/), 'the name is wrong');
    clean('the page', raw(get($nginx->port, '/state')));
    is($bank->count, 0, 'the secret was not sent');

    $nginx->stop('TERM');
    $nginx->clean_log;
};


# The only text of the bank that gets anywhere.

my @codes = (
    ['plain', 'invalid_client', 'invalid_client'],
    ['control characters', 'a\u0001b\tc', 'a\x01b\x09c'],
    ['a line end', 'a\r\n2026/01/01 00:00:00 [error] 1#1: forged',
     'a\x0D\x0A2026/01/01 00:00:00 [error] 1#1: forged'],
    ['quotes', 'a\"b\'c\\\\d', 'a\x22b\x27c\x5Cd'],
    ['300 characters', 'e' x 300, 'e' x 64],
    ['300 control characters', '\u001b' x 300, '\x1B' x 16],
    ['an escape at the end', 'e' x 62 . '\n', 'e' x 62],
    ['UTF-8', '\u10d0', '\xE1\x83\x90'],
    ['DEL', 'a\u007fb', 'a\x7Fb'],
    ['a format', '%s%n%d', '%s%n%d'],
    ['no UTF-8', "\xff\xfe", undef],
    ['a NUL', 'a\u0000b', undef],
    ['a number', undef, undef],
);

for my $code (@codes) {
    my ($name, $text, $logged) = @$code;

    subtest "the error code in the log: $name" => sub {
        my $bank = Bog::Bank->new(verify => 0);
        $text = defined $text ? qq("$text") : 17;
        $bank->answer(status => 401, body =>
                      qq({"error":$text,"error_description":"$spill"}));

        my $nginx = gateway($bank, listener => 'token');
        $nginx->start;

        my $line = $nginx->wait_log(qr/token request failed: (.*)/);

        my $expected = 'the credentials were rejected, status 401, '
            . (defined $logged ? qq(error "$logged", next try) : 'next try');

        is(substr($line, 0, length $expected), $expected, 'the line');
        unlike($nginx->log, qr/[^\x20-\x7e\n]/, 'nothing else than text');
        ok(index($nginx->log, $spill) < 0, 'no description');

        $nginx->stop('TERM');
        $nginx->clean_log;
    };
}


# --- cores

# Where the system writes them to a file called "core", in the folder of the
# process.  Elsewhere gcore makes them.

my $pattern = slurp('/proc/sys/kernel/core_pattern');
my $own = $pattern eq "core\n"
          && slurp('/proc/sys/kernel/core_uses_pid') eq "0\n";

sub why_no_cores {
    return 'sanitizers have cores of their own kind' if $ENV{BOG_ASAN};
    return 'a core would be of the wrapper' if $ENV{BOG_WRAPPER};
    return 'the system writes no cores to files, and there is no gcore'
        if !$own && system 'which gcore >/dev/null';
    return;
}


sub needs_cores {
    my $reason = why_no_cores() or return;

    die "$reason\n" if ($ENV{CI} // '') eq 'true' && !$ENV{BOG_ASAN}
                       && !$ENV{BOG_WRAPPER};
    plan skip_all => $reason;
}


sub core {
    my ($nginx, $pid) = @_;

    my $path = $nginx->dir . "/core-of-$pid";

    if ($own) {
        unlink $nginx->dir . '/core';
        kill ABRT => $pid;

        # a zombie, or none at all, has written it
        wait_until { slurp("/proc/$pid/stat") !~ /.*\) [^ZX]/s };
        rename $nginx->dir . '/core', $path;

    } else {
        my $prefix = $nginx->dir . '/core-of';

        system("gcore -o '$prefix' $pid >/dev/null 2>&1") == 0
            or die "no gcore\n";
        kill KILL => $pid;
        rename "$prefix.$pid", $path;
    }

    return $path;
}


# A core goes where its process is, and may be as large as it is.

sub start {
    my $nginx = shift;

    $nginx->file('start.sh', "ulimit -c unlimited\ncd ${\ $nginx->dir }\n"
                             . 'exec "$@"');

    local $ENV{BOG_WRAPPER} = 'sh %%DIR%%/start.sh';

    return $nginx->start;
}


# What a core must not have and, lest the search be blind, what it must.

sub search {
    my ($path, $name, $token, @present) = @_;

    cmp_ok(-s $path // 0, '>', 100_000, "$name: a core");

    my $control = Bog::Leak->new;
    $control->text("\"$_\"", $_) for @present;
    is(join(' ', $control->in_file($path)),
       join(' ', sort map { "\"$_\"" } @present), "$name: the search works");

    my $leak = secrets();

    $leak->parts('the secret', $secret);
    $leak->parts('Base64', substr encode_base64("$id:$secret", ''),
                                  4 * (length($id) / 3 + 1));
    $leak->text('the request\'s body', 'grant_type=client_credentials');
    $leak->text('the request\'s header', 'Authorization: Basic ');
    $leak->parts('the token', $token) if defined $token;

    is(join(', ', $leak->in_file($path)), '', "$name: nothing");

    unlink $path;
}


# answer: how the bank answers; ready: when the state is there; client: with a
# request that is held.

my $long = join '', map { chr(65 + $_ * $_ % 58 % 26) . $_ } 1 .. 300;

my %states = (
    'idle' => {
        answer => { token => $long },
        ready  => sub { $_[1]->wait_log(qr/token obtained/) },
    },
    'in a fetch' => {
        answer => { hold => 1 },
        ready  => sub { $_[0]->wait_requests(1) },
    },
    'with a request held' => {
        answer => { hold => 1 },
        ready  => sub { $_[0]->wait_requests(1) && $_[1]->wait_active(1) },
        client => 1,
    },
    'in half of an answer' => {
        answer => { token => $long, drip => 0.005 },
        ready  => sub { my $nginx = $_[1];
                        wait_until { bytes_read($nginx) > 500 } },
    },
    'after a refresh' => {
        answer => { expires_in => 2 },
        ready  => sub { $_[0]->wait_requests(3)
                        && $_[1]->wait_log(qr/token obtained/) },
    },
);

# The worker reads them one by one, and says so.

sub bytes_read { scalar(() = $_[0]->log =~ /(?:recv|SSL_read): /g) }


subtest 'cores' => sub {
    needs_cores();

    for my $listener ('tls', 'token') {
        of_state($listener, $_) for sort keys %states;
    }
};


sub of_state {
    my ($listener, $name) = @_;

    my $state = $states{$name};
    my $bank = bank();
    $bank->answer(%{ $state->{answer} });

    my $nginx = gateway($bank, listener => $listener, main =>
        'worker_rlimit_core 1g; working_directory %%DIR%%;');

    start($nginx);

    my $take = sub {
        ok($state->{ready}->($bank, $nginx), "$listener, $name");

        my ($worker) = $nginx->workers;
        my $master = $nginx->pid;
        my ($token) = map { $_->{token} } reverse $bank->tokens;

        search(core($nginx, $worker), "$listener, $name, worker", $token, $id,
               $state->{client} ? $canary : ());

        # its worker is another one by now
        my @orphans = grep { $_ != $worker } $nginx->workers;
        search(core($nginx, $master), "$listener, $name, master", $token, $id);
        kill KILL => $worker, @orphans, $nginx->workers;
    };

    $state->{client}
        ? parallel($nginx->port, 1, headers => [['X-Canary' => $canary]],
                   on_sent => $take)
        : $take->();

    $nginx->stop('KILL') if $nginx->pid;
}


# With a token on disk: the process that has written it, and those that have
# read it.

sub manager {
    return (slurp($_[0]->dir . '/notice.log')
            =~ /start cache manager process ([0-9]+)/g)[-1];
}


subtest 'cores with "bog_state_path"' => sub {
    needs_cores();

    my $bank = bank();
    $bank->answer(token => $long);

    my $nginx = gateway($bank,
        main => 'worker_rlimit_core 1g; working_directory %%DIR%%;',
        directives => 'bog_state_path %%DIR%%/state;');

    start($nginx);
    ok($nginx->wait_log(qr/was written to/), 'a token is stored');

    search(core($nginx, manager($nginx)), 'the manager that wrote', $long, $id);
    is($nginx->stop, 0, 'stops');

    start($nginx);
    ok($nginx->wait_log(qr/was read from/), 'and read');
    is($bank->count, 1, 'one token request');

    search(core($nginx, manager($nginx)), 'the manager', $long, $id);
    search(core($nginx, ($nginx->workers)[0]), 'the worker', $long, $id);
    search(core($nginx, $nginx->pid), 'the master that read', $long, $id);

    kill KILL => $nginx->workers, manager($nginx);
    $nginx->clean_log(undef, except => qr/exited on signal/);
};


done_testing;
