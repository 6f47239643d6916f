# A warm start: the token on disk, and whatever else may be there in its place.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Fcntl ':flock';
use File::Temp;
use IO::Socket::UNIX;
use POSIX 'mkfifo';
use Test::More;
use Time::HiRes 'stat';

use Bog::Bank;
use Bog::Client qw(get parallel);
use Bog::Leak;
use Bog::Nginx;
use Bog::State;
use Bog::Util qw(now timeout wait_until slurp spew);

my $killed = qr/exited on signal 9/;

# what a token of less than 996 bytes takes: 53 before what is sealed, 1024 in
# it, and the tag
my $size = 1093;


sub bank {
    return Bog::Bank->new(credentials => { 8282 => ['s3cret', 'n3wsecret'],
                                           8383 => 's3cret' }, @_);
}


# The token endpoint is a socket that can go away: then the bank is down, and
# its API is not.

sub mortal_bank {
    my $dir = File::Temp->newdir('bog-bank-XXXXXX', TMPDIR => 1);
    my $bank = bank(unix => "$dir/bank");

    return ($bank, sub { unlink "$dir/bank"; undef $dir });
}


sub conf {
    my ($bank, %opt) = @_;

    my $path = $opt{path} // '%%DIR%%/state';
    my $url = $opt{url} // $bank->url;
    my $more = $opt{more} // '';
    my $locations = $opt{locations} // '';

    return <<"END";
        bog_state_path          $path;
        bog_client_id           8282;
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      $url;
        $more

        proxy_set_header Authorization "Bearer \$bog_bearer_token";

        server {
            listen 127.0.0.1:%%PORT%%;

            location / {
                proxy_pass http://127.0.0.1:${\ $bank->api_port };
            }

            location = /state {
                return 200 "\$bog_token_state \$bog_token_expires";
            }

            $locations
        }
END
}


# %opt: what conf and Bog::Nginx take.

sub gateway {
    my ($bank, %opt) = @_;

    my %conf = map { exists $opt{$_} ? ($_ => delete $opt{$_}) : () }
               qw(path url more locations);

    return Bog::Nginx->new(%opt, conf => conf($bank, %conf),
                           secret => { main => "s3cret\n", other => 'n3wsecret',
                                       %{ $opt{secret} // {} } });
}


sub source {
    my ($bank, %other) = @_;

    return (url => $bank->url, id => 8282, secret => 's3cret', %other);
}


sub folder { $_[0]->dir . '/state' }

sub file_of { folder($_[0]) . '/' . Bog::State::name(@_[1 .. $#_]) }


sub files {
    opendir my $dh, folder($_[0]) or return;
    my @names = sort grep { !/^\.\.?\z/ } readdir $dh;

    return @names;
}


# Waits until the file has the token, and returns what else it says.

sub stored {
    my ($nginx, $token, %source) = @_;

    my $path = file_of($nginx, %source);

    return wait_until {
        my $state = Bog::State::opened(slurp($path), %source);
        $state && $state->{token} eq $token && $state;
    };
}


sub last_token { (map { $_->{token} } $_[0]->tokens)[-1] }


sub lines {
    my ($nginx, $pattern) = @_;

    return grep { /$pattern/ } split /\n/, slurp($nginx->dir . '/error.log');
}


sub written { scalar(lines($_[0], qr/was written to/)) }


sub manager {
    my $nginx = shift;

    return (slurp($nginx->dir . '/notice.log')
            =~ /start cache manager process ([0-9]+)/g)[-1];
}


# Its group has another name elsewhere.

sub nobody { 'nobody ' . getgrgid((getpwnam 'nobody')[3]) }


sub all_have {
    my ($nginx, $token, $name) = @_;

    my %bodies;
    $bodies{$_->{body} // $_->{error}}++ for parallel($nginx->port, 50);

    is_deeply(\%bodies, { qq({"authorization":"Bearer $token"}) => 50 }, $name);
}


# A file as it would be, sealed by others than the module: with it, nginx is
# told what to find.

sub sealed {
    my ($source, %state) = @_;

    my $now = int(1000 * Time::HiRes::time());

    return Bog::State::seal({
        start    => $now - 1000 * ($state{age} // 10),
        lifetime => 1000 * ($state{lifetime} // 300),
        refresh  => $now + 1000 * ($state{refresh} // 200),
        token    => $state{token} // 'sealed-elsewhere',
        map { exists $state{$_} ? ($_ => $state{$_}) : () } qw(plain version),
    }, %$source);
}


sub put {
    my ($nginx, $path, $bytes) = @_;

    mkdir folder($nginx), 0700;
    spew($path, $bytes, 0600);
}


subtest 'what is written' => sub {
    my $bank = bank();
    my $nginx = gateway($bank, workers => 2)->start;

    my $before = int(1000 * Time::HiRes::time());
    is(get($nginx->port, '/')->{status}, 200, 'a token');

    my $token = last_token($bank);
    my $state = stored($nginx, $token, source($bank));
    ok($state, 'is in a file that others can open') or return;

    cmp_ok(abs($before - $state->{start}), '<', 1000 * timeout(5), 'its start');
    is($state->{lifetime}, 300_000, 'its lifetime');

    # of a first one: anywhere in the life but its first tenth, and its last
    # minute
    my $wait = ($state->{refresh} - $state->{start}) / 1000;
    cmp_ok($wait, '>=', 23, 'its refresh, not too soon');
    cmp_ok($wait, '<=', 240, 'nor too late');
    is($state->{rest} =~ tr/\0//c, 0, 'zeros behind the token');

    my $path = file_of($nginx, source($bank));
    my @stat = stat $path;

    is_deeply([files($nginx)], [$path =~ s/.*\///r], 'one file');
    is($stat[7], $size, 'its size');
    is(sprintf('%o', $stat[2]), '100600', 'its mode');
    is(sprintf('%o', (stat folder($nginx))[2]), '40700', 'that of the folder');

    my $leak = Bog::Leak->new;
    $leak->text('the token', $token);
    $leak->text('a part of the token', substr $token, 0, 8);
    $leak->text('the client id', '8282');
    is(join(' ', $leak->in_file($path)), '', 'nothing of it can be read');

    $nginx->ends;
    is($bank->count, 1, 'one token request');
};


# The manager is woken, as those are who wait for a token; it looks around by
# itself once a second only.

subtest 'how soon' => sub {
    plan skip_all => 'only epoll wakes' if $ENV{BOG_EVENTS};

    my $bank = bank();
    $bank->answer(expires_in => 2);

    my $nginx = gateway($bank, log_level => 'info')->start;
    my $path = file_of($nginx, source($bank));
    my $epoch = Time::HiRes::time() - now();
    my $soon = 0;

    for my $n (2 .. 7) {
        ok($bank->wait_requests($n), 'a refresh');
        ok(wait_until { written($nginx) >= $n }, 'is stored');

        my $passed = (stat $path)[9] - $epoch
                     - ($bank->requests)[$n - 1]{answered};
        $soon++ if $passed < timeout(0.2);
    }

    # by chance, one time in 600
    cmp_ok($soon, '>=', 5, 'at once');

    $nginx->ends;
};


subtest 'it belongs to the user of the workers' => sub {
    plan skip_all => 'needs root' if $> != 0;

    my $uid = (getpwnam 'nobody')[2];
    my $bank = bank();
    my $nginx = gateway($bank, user => nobody());

    # its own folder is on the way
    chmod 0711, $nginx->dir;
    $nginx->start;

    is(get($nginx->port, '/')->{status}, 200, 'a token');
    ok(stored($nginx, last_token($bank), source($bank)), 'is stored');

    is((stat file_of($nginx, source($bank)))[4], $uid, 'the file');
    is((stat folder($nginx))[4], $uid, 'the folder');

    $nginx->ends;
};


# The line counts to the end of the token, like $bog_token_expires, and not to
# the last seconds, in which the token is not given out.

subtest 'when a stored token expires' => sub {
    my $bank = bank();
    my %source = source($bank);
    my $nginx = gateway($bank);

    my $before = Time::HiRes::time();
    put($nginx, file_of($nginx, %source), sealed(\%source, lifetime => 3000));
    $nginx->start;

    my $left = $nginx->wait_log(qr/ was read from .* expires in ([0-9]+)s/);
    my $took = Time::HiRes::time() - $before;

    cmp_ok($left, '<=', 2990, 'until it expires');
    cmp_ok($left, '>=', int(2990 - $took - 1), 'to the second');

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
};


subtest 'a start while the bank is down' => sub {
    my ($bank, $dies) = mortal_bank();
    my $nginx = gateway($bank, url => $bank->url('unix'), workers => 4,
                        log_level => 'info')->start;

    is(get($nginx->port, '/')->{status}, 200, 'a token');
    my $token = last_token($bank);

    # at once: what the manager has not written the master does
    is($nginx->stop, 0, 'stops');
    $dies->();

    for (1 .. 3) {
        $nginx->start;
        all_have($nginx, $token, 'the stored token, in every request');
        is($nginx->stop('TERM'), 0, 'stops');
    }

    is($bank->count, 1, 'one token request in all');
    is(scalar(lines($nginx, qr/connect\(\)/)), 0, 'no other one was tried');

    my $path = file_of($nginx, source($bank, url => $bank->url('unix')));
    my @lines = grep { /\[notice\]/ } lines($nginx, 'token of client id "8282"'
        . qq( was read from "$path", it expires in 2[0-9]{2}s\$));
    is(scalar(@lines), 3, 'each start says so');
    is(written($nginx), 1, 'and what was read is not written again');

    $nginx->clean_log;
};


subtest 'an upgrade of the binary while the bank is down' => sub {
    my ($bank, $dies) = mortal_bank();
    my $nginx = gateway($bank, url => $bank->url('unix'), daemon => 1,
                        workers => 2, log_level => 'info')->start;

    is(get($nginx->port, '/')->{status}, 200, 'a token');
    my $token = last_token($bank);

    ok($nginx->wait_log(qr/was written to/), 'is stored');
    $dies->();

    $nginx->upgrade;
    all_have($nginx, $token, 'both binaries have the token');

    $nginx->finish_upgrade;
    all_have($nginx, $token, 'the new one has it');

    $nginx->upgrade;
    $nginx->undo_upgrade('QUIT');
    all_have($nginx, $token, 'and after one that was undone, the old one');

    is($bank->count, 1, 'one token request in all');
    is(scalar(lines($nginx, qr/connect\(\)/)), 0, 'no other one was tried');

    $nginx->stop;
    $nginx->clean_log;
};


subtest 'the refresh comes when it was to come' => sub {
    my $bank = bank();
    my %source = source($bank);
    my $nginx = gateway($bank);

    $bank->issue('sealed-elsewhere', 300);

    my $due = now() + 4;
    put($nginx, file_of($nginx, %source), sealed(\%source, refresh => 4));
    $nginx->start;

    all_have($nginx, 'sealed-elsewhere', 'the stored token');
    like(get($nginx->port, '/state')->{body}, qr/\Avalid 28[0-9]\z/,
         'as long as it lives');
    cmp_ok(now(), '<', $due, 'some time is left');

    ok($bank->wait_requests(1), 'a refresh');
    my ($request) = $bank->requests;
    cmp_ok($request->{time}, '>=', $due - 0.05, 'not before its time');
    cmp_ok($request->{time}, '<=', $due + timeout(2), 'and not long after');

    ok(stored($nginx, last_token($bank), %source), 'the new token is stored');
    is($bank->count, 1, 'one token request');

    $nginx->ends;
};


subtest 'a refresh that was due meanwhile' => sub {
    my $bank = bank();
    my %source = source($bank);
    my $nginx = gateway($bank);

    $bank->answer(hold => 1);
    $bank->issue('sealed-elsewhere', 300);
    put($nginx, file_of($nginx, %source), sealed(\%source, refresh => -1));

    $nginx->start;

    ok($bank->wait_requests(1), 'comes at once');
    all_have($nginx, 'sealed-elsewhere', 'and nobody waits for it');
    is($bank->release, 1, 'it ends');

    $nginx->ends;
};


# Settings that changed meanwhile.

subtest 'bog_refresh_before and bog_max_lifetime of today' => sub {
    my $bank = bank();
    my %source = source($bank);

    for (['bog_refresh_before 295s;', 150], ['bog_max_lifetime 100s;', 50]) {
        my ($more, $latest) = @$_;
        my $nginx = gateway($bank, more => $more);

        my ($n, $due) = ($bank->count + 1, now() + 4);

        # its age is such that what is due at the latest is due in 4 s
        put($nginx, file_of($nginx, %source),
            sealed(\%source, age => $latest - 4, refresh => 100));
        $nginx->start;

        ok($bank->wait_requests($n), "$more: a refresh");
        my $time = ($bank->requests)[-1]{time};
        cmp_ok($time, '>=', $due - 0.05, 'not before its time');
        cmp_ok($time, '<=', $due + timeout(2), 'and not long after');

        $nginx->ends;
    }
};


# --- what is not a state file, or not ours

my $changed = 'state file "%s" is ignored: it was changed, or belongs to other'
              . ' credentials';
my $bad_size = 'state file "%s" is ignored: its size is wrong';
my $foreign = 'state file "%s" is ignored: it is not a state file';
my $senseless = 'state file "%s" is ignored: what is in it makes no sense';


sub flipped {
    my ($bytes, $at, $with) = @_;

    substr($bytes, $at, 1) ^= chr($with // 1);

    return $bytes;
}


sub plain {
    my ($length, $rest, @times) = @_;

    my $now = int(1000 * Time::HiRes::time());

    @times = ($now - 10_000, 300_000, $now + 200_000) unless @times;

    return pack('Q>3 N', @times, $length) . $rest;
}


# name => [what is made of a good file, the message, its level].

my @ignored = (
    ['empty', sub { '' }, $bad_size],
    ['one byte', sub { 'b' }, $bad_size],
    ['a magic', sub { 'bogstate' }, $bad_size],
    ['no tag', sub { substr $_[0], 0, -16 }, $bad_size],
    ['one byte less', sub { substr $_[0], 0, -1 }, $bad_size],
    ['one byte more', sub { "$_[0]\n" }, $bad_size],
    ['twice', sub { "$_[0]$_[0]" }, $bad_size],
    ['1 MB of zeros behind', sub { $_[0] . "\0" x 1048576 }, $bad_size],
    ['a step less', sub { substr($_[0], 0, -1040) . substr $_[0], -16 },
     $bad_size],
    ['a step more', sub { $_[0] . 'x' x 1024 }, $changed],
    ['text', sub { "client_secret\n" }, $foreign],
    ['10 MB', sub { 'x' x 10_485_760 }, $foreign],
    ['zeros', sub { "\0" x $size }, $foreign],
    ['version 0', sub { sealed($_[1], version => 0) },
     'state file "%s" is ignored: it is of another version of this module'],
    ['version 2', sub { sealed($_[1], version => 2) },
     'state file "%s" is ignored: it is of another version of this module'],
    ['version 2, and short', sub { "bogstate\2" },
     'state file "%s" is ignored: it is of another version of this module'],
    ['salt', sub { flipped($_[0], 9) }, $changed],
    ['nonce', sub { flipped($_[0], 41) }, $changed],
    ['token', sub { flipped($_[0], 90, 0x80) }, $changed],
    ['tag', sub { flipped($_[0], $size - 1) }, $changed],
    ['another secret', sub { sealed({ %{ $_[1] }, secret => 'S3cret' }) },
     $changed],
    ['another id', sub { sealed({ %{ $_[1] }, id => 8383 }) }, $changed],
    ['another endpoint', sub { sealed({ %{ $_[1] }, url => "$_[1]{url}/" }) },
     $changed],
    ['another parameter', sub { sealed({ %{ $_[1] }, params => [a => 'b'] }) },
     $changed],
    ['another form of credentials', sub { sealed({ %{ $_[1] }, auth => 1 }) },
     $changed],

    # from here on it is sealed by somebody who has the secret

    ['a line end in the token', sub {
        sealed($_[1], token => "tok\r\nX-Evil: 1") }, $senseless],
    ['a zero byte in the token', sub { sealed($_[1], token => "tok\0en") },
     $senseless],
    ['no token', sub { sealed($_[1], plain => plain(0, '')) }, $senseless],
    ['a token that is too long', sub {
        sealed($_[1], token => 'x' x 16385) }, $senseless],
    ['a token beyond the end', sub {
        sealed($_[1], plain => plain(997, 'x' x 996)) }, $senseless],
    ['a token of 4 GB', sub {
        sealed($_[1], plain => plain(0xffffffff, 'x' x 996)) }, $senseless],
    ['something behind the token', sub {
        sealed($_[1], plain => plain(3, "tok\0\0x")) }, $senseless],
    ['steps that are not needed', sub {
        sealed($_[1], plain => plain(3, 'tok' . "\0" x 1024)) }, $senseless],
    ['a lifetime of 0', sub {
        sealed($_[1], lifetime => 0) }, $senseless],
    ['a lifetime of for ever', sub {
        sealed($_[1], plain => plain(3, 'tok', 1, ~0 >> 1, 1)) }, $senseless],
    ['a negative time', sub {
        sealed($_[1], plain => plain(3, 'tok', ~0, 1000, 1)) }, $senseless],

    ['expired', sub { sealed($_[1], age => 301) },
     'the token in state file "%s" has expired', 'notice'],
    ['in its last seconds', sub { sealed($_[1], age => 295) },
     'the token in state file "%s" has expired', 'notice'],
    ['1970', sub { sealed($_[1], plain => plain(3, 'tok', 1, 1000, 1)) },
     'the token in state file "%s" has expired', 'notice'],
    ['of tomorrow', sub { sealed($_[1], age => -86400) },
     'state file "%s" is ignored: its token is of a time that is still to'
     . ' come'],
);


# One line for it, one fetch, and the next file is good; unless something is
# there that cannot be replaced.

sub is_ignored {
    my ($nginx, $bank, $name, $message, $level) = @_;

    my %source = source($bank);
    my $path = file_of($nginx, %source);
    my $n = $bank->count;

    $nginx->start;
    all_have($nginx, last_token($bank), "$name: another token")
        if get($nginx->port, '/')->{status} == 200;

    is($bank->count, $n + 1, 'of one request');

    if (-d $path) {
        ok($nginx->wait_log(qr/renameat\(\) of state file/), 'it stays');

    } else {
        ok(wait_until { -f $path && !-l $path }, 'a file takes its place');
        ok(stored($nginx, last_token($bank), %source), 'and has the token');
    }

    is_deeply([files($nginx)], [$path =~ s/.*\///r], 'alone');

    my @lines = map { s/.*\[(\w+)\] [0-9]+#[0-9]+: /[$1] /r }
                lines($nginx, qr/state file/);

    is($lines[0], sprintf("[%s] $message", $level // 'warn', $path),
       'one line');
    is(scalar(@lines), -d $path ? 2 : 1, 'no more');

    $nginx->ends;
}


subtest 'files that are ignored' => sub {
    my $bank = bank();
    my %source = source($bank);

    for my $row (@ignored) {
        my ($name, $make, @log) = @$row;

        my $nginx = gateway($bank, log_level => 'notice');

        put($nginx, file_of($nginx, %source),
            $make->(sealed(\%source), \%source));

        is_ignored($nginx, $bank, $name, @log);
    }
};


subtest 'what is no file' => sub {
    my $bank = bank();
    my %source = source($bank);

    my $not_regular = 'state file "%s" is ignored: it is not a regular file';
    my $link = 'state file "%s" is ignored: it is a symbolic link';

    my %made = (
        'a folder'      => [sub { mkdir $_[0] }, $not_regular],
        'a FIFO'        => [sub { mkfifo($_[0], 0600) }, $not_regular],
        'a link'        => [sub { symlink 'target', $_[0] }, $link],
        'a link to it'  => [sub { symlink "$_[1]/target", $_[0] }, $link],
        'a broken link' => [sub { symlink 'nowhere', $_[0] }, $link],
        'a socket'      => [sub { IO::Socket::UNIX->new(Local => $_[0]) },
                            'open() of state file "%s" failed, it is ignored'
                            . ' (6: No such device or address)'],
    );

    for my $name (sort keys %made) {
        my ($make, $message) = @{ $made{$name} };

        my $nginx = gateway($bank, log_level => 'notice');
        my $target = $nginx->dir . '/target';

        $nginx->file('target', sealed(\%source));
        my $before = slurp($target);

        mkdir folder($nginx), 0700;
        $make->(file_of($nginx, %source), $nginx->dir)
            or die "$name: $!\n";

        is_ignored($nginx, $bank, $name, $message);
        is(slurp($target), $before, 'what it points to stays');
    }
};


# As many sources as a file has bytes.  Each file is changed at another place,
# and at last all are read as they were.

subtest 'every byte of a file' => sub {
    my $n = $size;
    my $bank = bank();

    # a refresh must not come before all of it is done
    $bank->answer(expires_in => 3600);

    my $nginx = gateway($bank, workers => 2, log_level => 'info',
        locations => join '', map { "
            location = /$_ {
                bog_token_param n $_;
                proxy_pass http://127.0.0.1:${\ $bank->api_port };
            }" } 1 .. $n);

    $nginx->start;

    ok((wait_until { written($nginx) == $n + 1 } 120), 'all are stored');
    is(scalar(files($nginx)), $n + 1, 'each in a file of its own');
    is($bank->count, $n + 1, 'one token request each');
    is($nginx->stop, 0, 'stops');

    my @sources = map { { source($bank, params => [n => $_]) } } 1 .. $n;
    my @paths = map { file_of($nginx, %$_) } @sources;
    my @bytes = map { slurp($_) } @paths;

    for my $i (0, $n / 2, $n - 1) {
        my $state = Bog::State::opened($bytes[$i], %{ $sources[$i] }) // {};
        like($state->{token}, qr/\Atok-/, "source $i: a token");
    }

    unlink file_of($nginx, source($bank));
    $bank->answer(hold => 1);

    my $start = sub {
        my ($name, $make, $expected) = @_;

        put($nginx, $paths[$_], $make->($bytes[$_], $_)) for 0 .. $n - 1;

        my $mark = $nginx->mark;
        $nginx->start;
        is($nginx->stop('TERM'), 0, "$name: starts, and stops");

        my %count;
        $count{$_}++ for grep { defined }
            substr(slurp($nginx->dir . '/error.log'), $mark)
            =~ /state file "[^"]*" is ignored: ([^\n]*)|(was read from)/g;

        is_deeply(\%count, $expected, 'one line each');
    };

    $start->('one bit', sub { flipped($_[0], $_[1], 1 << $_[1] % 8) },
             { 'it is not a state file' => 8,
               'it is of another version of this module' => 1,
               'it was changed, or belongs to other credentials' => $n - 9 });

    $start->('all bits', sub { flipped($_[0], $_[1], 255) },
             { 'it is not a state file' => 8,
               'it is of another version of this module' => 1,
               'it was changed, or belongs to other credentials' => $n - 9 });

    $start->('the end', sub { substr $_[0], 0, $_[1] },
             { 'its size is wrong' => $n });

    my $before = $bank->count;
    $start->('nothing', sub { $_[0] }, { 'was read from' => $n });

    # the source whose file was removed
    cmp_ok($bank->count - $before, '<=', 1, 'no token requests');

    $nginx->clean_log;
};


# The token may be good all the same, and there may be no other after a restart.

subtest 'the API rejects the token' => sub {
    my ($bank, $dies) = mortal_bank();
    my $nginx = gateway($bank, log_level => 'info')->start;

    is(get($nginx->port, '/')->{status}, 200, 'a token');
    my $token = last_token($bank);
    ok(stored($nginx, $token, source($bank)), 'is stored');

    $bank->answer(hold => 1);
    $bank->revoke($token);
    is(get($nginx->port, '/')->{status}, 401, 'and revoked');
    ok($bank->wait_requests(2), 'another one is asked for');
    ok(stored($nginx, $token, source($bank)), 'the first one stays');

    is($bank->release, 1, 'another token');
    ok(wait_until(sub { stored($nginx, last_token($bank), source($bank)) }),
       'is stored in its place');
    isnt(last_token($bank), $token, 'it is another one');

    $nginx->ends;
};


# --- reloads

subtest 'a reload writes nothing and reads nothing' => sub {
    my $bank = bank();
    my $nginx = gateway($bank, log_level => 'info')->start;

    is(get($nginx->port, '/')->{status}, 200, 'a token');
    my $path = file_of($nginx, source($bank));
    ok(wait_until { -e $path }, 'is stored');

    my @before = (stat $path)[1, 9, 10];

    for (1 .. 3) {
        my $old = manager($nginx);
        $nginx->reload(wait_old => 1);

        # when the next one has looked around, which it does at once
        ok(wait_until { manager($nginx) != $old && !-d "/proc/$old/fd" },
           'another manager');
    }

    my $end = now() + 1.5;
    ok(wait_until { now() > $end }, 'that had its time');

    is_deeply([(stat $path)[1, 9, 10]], \@before, 'the file is the same');
    is(written($nginx), 1, 'one was written');
    is(scalar(lines($nginx, qr/was read from/)), 0, 'none was read');
    is($bank->count, 1, 'one token request');

    $nginx->ends;
};


subtest 'a reload to another folder, and to none' => sub {
    my $bank = bank();
    my $nginx = gateway($bank, log_level => 'info')->start;
    my %source = source($bank);

    is(get($nginx->port, '/')->{status}, 200, 'a token');
    my $token = last_token($bank);
    ok(stored($nginx, $token, %source), 'is stored');

    $nginx->conf(conf($bank, path => '%%DIR%%/elsewhere/'));
    $nginx->reload(wait_old => 1);

    my $path = $nginx->dir . '/elsewhere/' . Bog::State::name(%source);
    ok(wait_until { -e $path }, 'and in the other folder');
    is(Bog::State::opened(slurp($path), %source)->{token}, $token, 'the same');

    $nginx->conf(conf($bank) =~ s/bog_state_path.*//r);
    $nginx->reload(wait_old => 1);
    all_have($nginx, $token, 'without a folder');

    is($bank->count, 1, 'one token request');

    $nginx->ends;
};


subtest 'a reload brings a source that has a file' => sub {
    my $bank = bank();
    my $nginx = gateway($bank, log_level => 'info')->start;
    my %other = source($bank, id => 8383);

    is(get($nginx->port, '/')->{status}, 200, 'a token');

    $bank->issue('sealed-elsewhere', 300);
    put($nginx, file_of($nginx, %other), sealed(\%other));

    $nginx->conf(conf($bank) =~ s/8282/8383/r);
    $nginx->reload(wait_old => 1);
    all_have($nginx, 'sealed-elsewhere', 'its token is that of the file');

    is($bank->count, 1, 'one token request');

    $nginx->ends;
};


subtest 'another secret' => sub {
    my $bank = bank();
    my $nginx = gateway($bank, log_level => 'info')->start;
    my %source = source($bank);

    is(get($nginx->port, '/')->{status}, 200, 'a token');
    ok(stored($nginx, last_token($bank), %source), 'is stored');

    $nginx->secret(main => 'n3wsecret');
    $nginx->reload(wait_old => 1);

    is(get($nginx->port, '/')->{status}, 200, 'another token');
    ok(stored($nginx, last_token($bank), %source, secret => 'n3wsecret'),
       'takes its place');

    is(scalar(files($nginx)), 1, 'in the same file');
    is(scalar(lines($nginx, qr/state file .* is ignored/)), 1, 'one line');
    is($bank->count, 2, 'two token requests');

    $nginx->ends;
};


# --- several sources

subtest 'two that differ in nothing but the secret' => sub {
    my $bank = bank();
    my $nginx = gateway($bank, log_level => 'info', locations => "
            location = /other {
                bog_client_secret_file %%SECRET_other%%;
                proxy_pass http://127.0.0.1:${\ $bank->api_port };
            }")->start;

    my %tokens = map { $_ => get($nginx->port, $_)->{body} } '/', '/other';
    isnt($tokens{'/'}, $tokens{'/other'}, 'two tokens');

    my $name = Bog::State::name(source($bank));
    is($nginx->stop, 0, 'stops');
    is_deeply([files($nginx)], [$name, "$name-2"], 'two files');

    $nginx->start;
    is(get($nginx->port, $_)->{body}, $tokens{$_}, "$_: its own")
        for '/', '/other';

    is($bank->count, 2, 'two token requests in all');

    $nginx->ends;
};


# --- processes

subtest 'the manager is killed' => sub {
    my $bank = bank();
    $bank->queue({ expires_in => 6 });

    my $nginx = gateway($bank, log_level => 'info')->start;

    is(get($nginx->port, '/')->{status}, 200, 'a token');
    ok(stored($nginx, last_token($bank), source($bank)), 'is stored');

    my $old = manager($nginx);
    kill KILL => $old;
    ok(wait_until { manager($nginx) != $old }, 'another one takes its place');

    ok($bank->wait_requests(2), 'a refresh');
    ok(stored($nginx, last_token($bank), source($bank)), 'is stored, too');
    is(written($nginx), 2, 'each once');

    $nginx->ends(except => $killed);
};


# What a manager left behind that was killed while it wrote; and one that
# another process holds up, as two do while a binary is upgraded.

subtest 'the folder of another manager' => sub {
    my $bank = bank();
    my $nginx = gateway($bank, log_level => 'info');
    my $path = file_of($nginx, source($bank));

    put($nginx, "$path.tmp", 'half of a file');
    open my $fh, '<', folder($nginx) or die "open: $!\n";
    flock $fh, LOCK_EX or die "flock: $!\n";

    $nginx->start;
    is(get($nginx->port, '/')->{status}, 200, 'a token');

    my $end = now() + 2.5;
    ok(wait_until { now() > $end }, 'some time');
    is(slurp("$path.tmp"), 'half of a file', 'nothing is touched');
    ok(!-e $path, 'nothing is written');

    flock $fh, LOCK_UN;
    ok(stored($nginx, last_token($bank), source($bank)), 'when it is free, is');
    is_deeply([files($nginx)], [$path =~ s/.*\///r], 'nothing else is there');

    unlike($nginx->log, qr/another process is writing/,
           'that was not long enough to speak of it');

    $nginx->ends;
};


subtest 'the folder of one that hangs' => sub {
    my $bank = bank();
    my $nginx = gateway($bank);
    my $folder = folder($nginx);

    $nginx->test;
    ok(-d $folder || mkdir($folder), 'a folder');

    open my $fh, '<', $folder or die "open: $!\n";
    flock $fh, LOCK_EX or die "flock: $!\n";

    $nginx->start;
    is(get($nginx->port, '/')->{status}, 200, 'a token');
    is($nginx->stop, 0, 'stops');

    is_deeply([files($nginx)], [], 'nothing is written');
    my $line = qr/\[warn\] .*another process is writing to "\Q$folder\E", /;
    is(scalar(() = $nginx->log =~ /$line/g), 1, 'which is said');
};


# The manager is stopped, so that the master has to write at its end.

sub with_work_for_the_master {
    my ($nginx, $bank) = @_;

    is(get($nginx->port, '/')->{status}, 200, 'a token');
    ok(stored($nginx, last_token($bank), source($bank)), 'is stored');

    kill STOP => manager($nginx);

    $bank->revoke(last_token($bank));
    is(get($nginx->port, '/')->{status}, 401, 'and revoked');
    ok((wait_until { get($nginx->port, '/')->{status} == 200 }), 'another');
}


subtest 'a link in the place of the folder' => sub {
    plan skip_all => 'only root writes as somebody else' if $> != 0;

    my $bank = bank();
    my $nginx = gateway($bank, user => nobody());
    chmod 0711, $nginx->dir;
    $nginx->start;

    with_work_for_the_master($nginx, $bank);

    my $other = $nginx->dir . '/other';
    mkdir $other, 0755 or die "mkdir: $!\n";
    rename folder($nginx), folder($nginx) . '.old' or die "rename: $!\n";
    symlink $other, folder($nginx) or die "symlink: $!\n";

    is($nginx->stop('TERM'), 0, 'stops');

    opendir my $dh, $other or die "opendir: $!\n";
    is(join(' ', grep { !/^\.\.?\z/ } readdir $dh), '', 'root writes nothing');
    is(scalar(lines($nginx, qr/owner of the folder of state file/)), 1,
       'and says so');

    $nginx->clean_log(undef, except => qr/of state file|$killed/);
};


subtest 'no master process' => sub {
    my ($bank, $dies) = mortal_bank();
    my $nginx = gateway($bank, url => $bank->url('unix'), master => 0,
                        log_level => 'info')->start;

    is(get($nginx->port, '/')->{status}, 200, 'a token');
    is_deeply([files($nginx)], [], 'is not stored');
    is(scalar(lines($nginx, '\[warn\] .*: without a master process tokens are'
                            . qq( written to "${\ folder($nginx) }" only when)
                            . ' nginx ends$')), 1, 'a line says so');

    is($nginx->stop, 0, 'stops');
    is(scalar(files($nginx)), 1, 'now it is');

    $dies->();
    $nginx->start;
    all_have($nginx, last_token($bank), 'the stored token');
    is($bank->count, 1, 'one token request');

    $nginx->ends;
};


subtest 'nginx -t' => sub {
    my $bank = bank();
    my $nginx = gateway($bank);
    my $path = file_of($nginx, source($bank));

    put($nginx, $path, 'anything');

    my ($status, $output) = $nginx->test;
    is($status, 0, 'is well');
    unlike($output . $nginx->log, qr/state file/, 'reads nothing');
    is(slurp($path), 'anything', 'and writes nothing');
    is($bank->count, 0, 'no token request');
};


subtest 'no sources' => sub {
    my $nginx = Bog::Nginx->new(conf => <<'END')->start;
        bog_state_path %%DIR%%/state;

        server {
            listen 127.0.0.1:%%PORT%%;
            return 200 "here\n";
        }
END
    is(get($nginx->port, '/')->{body}, "here\n", 'nginx serves');
    is_deeply([files($nginx)], [], 'and stores nothing');

    $nginx->ends;
};


# --- trouble with the disk

sub trouble {
    my ($nginx, $bank, $errors, $mend) = @_;

    ok($bank->wait_requests(3), 'refreshes');

    my $failed = '\(\) of state file ".*" failed, the token of client id "8282"'
                 . " is not kept for a restart \\($errors\\)\$";

    is(get($nginx->port, '/')->{status}, 200, 'requests go on');
    ok(wait_until { lines($nginx, qr/\[info\].*$failed/) }, 'each is tried');

    my @levels = map { /\[(error|info)\]/ } lines($nginx, $failed);
    is(scalar(grep { $_ eq 'error' } @levels), 1, 'one line at "error"');
    is($levels[0], 'error', 'the first one');

    $mend->();

    ok($nginx->wait_log(qr/\[notice\].* tokens are kept for a restart again$/),
       'the next token after the trouble');
    is(scalar(lines($nginx, qr/kept for a restart again/)), 1, 'said once');
}


subtest 'the folder cannot be written to' => sub {
    plan skip_all => 'needs root' if $> != 0;

    my $bank = bank();
    $bank->answer(expires_in => 4);
    my $nginx = gateway($bank, user => nobody(), log_level => 'info');

    chmod 0711, $nginx->dir;
    $nginx->start;

    ok($nginx->wait_log(qr/was written to/), 'the first token is stored');
    my $path = file_of($nginx, source($bank));
    my $before = slurp($path);

    chmod 0500, folder($nginx);

    trouble($nginx, $bank, '13: Permission denied', sub {
        is(slurp($path), $before, 'the file before stays');
        is(scalar(files($nginx)), 1, 'nothing else is there');
        chmod 0700, folder($nginx);
    });

    $nginx->ends;
};


subtest 'the folder is gone' => sub {
    my $bank = bank();
    $bank->answer(expires_in => 4);
    my $nginx = gateway($bank, log_level => 'info')->start;

    ok($nginx->wait_log(qr/was written to/), 'the first token is stored');
    rename folder($nginx), $nginx->dir . '/away' or die "rename: $!\n";

    trouble($nginx, $bank, '2: No such file or directory', sub {
        rename $nginx->dir . '/away', folder($nginx) or die "rename: $!\n";
    });

    $nginx->ends;
};


# In a world of its own, where the folder is a small disk.

sub may_mount {
    return $> == 0
           && system('unshare -m mount -t tmpfs none /mnt 2>/dev/null') == 0;
}


for my $what ('full', 'read-only') {
    subtest "the disk is $what" => sub {
        plan skip_all => 'no mount namespaces' unless may_mount();
        plan skip_all => 'a wrapper is there' if $ENV{BOG_WRAPPER};

        my $bank = bank();
        $bank->answer(expires_in => 4);
        my $nginx = gateway($bank, log_level => 'info');
        my $dir = folder($nginx);

        mkdir $dir, 0700;
        $nginx->file('start.sh', <<"END");
exec unshare -m sh -c 'mount -t tmpfs -o size=32k none "$dir" && exec "\$@"' \\
    sh "\$@"
END

        {
            local $ENV{BOG_WRAPPER} = 'sh %%DIR%%/start.sh';
            $nginx->start;
        }

        ok($nginx->wait_log(qr/was written to/), 'the first token is stored');

        # as nginx sees it
        my $inside = "/proc/${\ $nginx->pid }/root$dir";
        my ($name) = glob "$inside/*";
        my $before = slurp($name);
        is(length $before, $size, 'a file');

        my $remount = sub {
            system('nsenter', '-t', $nginx->pid, '-m', '-r', 'mount', '-o',
                   "remount,$_[0]", $dir) == 0 or die "no remount\n";
        };

        if ($what eq 'full') {
            open my $fh, '>', "$inside/fill" or die "open: $!\n";
            1 while syswrite $fh, 'x' x 4096;
        } else {
            $remount->('ro');
        }

        trouble($nginx, $bank, $what eq 'full' ? '28: No space left on device'
                                               : '30: Read-only file system',
                sub {
            is(slurp($name), $before, 'the file before stays');
            is_deeply([glob "$inside/*.tmp"], [], 'nothing is left behind');
            $what eq 'full' ? unlink "$inside/fill" : $remount->('rw');
        });

        isnt(slurp($name), $before, 'another file');

        $nginx->ends;
    };
}


done_testing;
