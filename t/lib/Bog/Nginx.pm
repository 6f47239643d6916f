package Bog::Nginx;

# A real nginx in a folder of its own.
#
#   my $nginx = Bog::Nginx->new(
#       workers => 4,
#       secret  => { main => "s3cret\n" },
#       conf    => <<'END',
#           server {
#               listen 127.0.0.1:%%PORT%%;
#               bog_client_secret_file %%SECRET_main%%;
#               ...
#   END
#   );
#   $nginx->start;
#   get($nginx->port, '/');
#   $nginx->stop;
#
# In the configuration %%PORT%%, %%PORT_1%%, ... are free ports, %%DIR%% the
# folder and %%SECRET_name%% the path of a secret.
#
# The environment: TEST_NGINX_BINARY, BOG_MODULE, BOG_MODULES (paths of others,
# loaded before it), BOG_EVENTS (such as "use poll;"), BOG_LOG_LEVEL,
# BOG_WRAPPER (a command before nginx), BOG_ASAN (the module was built with
# sanitizers), BOG_TIMEOUT_FACTOR, BOG_KEEP (the folder stays).

use strict;
use warnings;

use Cwd 'abs_path';
use File::Basename qw(basename dirname);
use File::Find 'find';
use File::Path 'make_path';
use File::Temp;
use IO::Socket::INET;
use POSIX ();
use Scalar::Util 'weaken';
use Test::More ();

use Bog::Client ();
use Bog::Leak;
use Bog::Util qw(wait_until free_port slurp spew);

my $root = abs_path(dirname(__FILE__) . '/../../..');
my @instances;
my $leaked;


# %opt: conf, main, events (texts of the http block, of the main one, of the
# events one), workers, master => 0, daemon => 1, module => 0, modules =>
# [more of them], secret, files => { name => content }, log_level, status => 1
# for wait_active, connections (of a worker, 4096), file_limit (twice that), env => { name => value }, for
# nginx and its workers, asan => options of AddressSanitizer, user of the workers
# where root runs this, with its group (root).

sub new {
    my ($class, %opt) = @_;

    my $self = bless {
        opt     => \%opt,
        owner   => $$,
        workers => $opt{workers} // 1,
        ports   => {},
        secrets => {},
        ids     => {},
        clean   => {},
        dir     => File::Temp->newdir('bog-nginx-XXXXXX', TMPDIR => 1,
                                      CLEANUP => !$ENV{BOG_KEEP}),
    }, $class;

    make_path(map { "$self->{dir}/$_" } qw(secret temp logs));

    $self->secret($_, $opt{secret}{$_}) for keys %{ $opt{secret} // {} };
    $self->file($_, $opt{files}{$_}) for keys %{ $opt{files} // {} };
    $self->conf($opt{conf});

    push @instances, $self;
    weaken $instances[-1];

    # END blocks do not run after a signal
    $SIG{$_} //= sub { exit 1 } for qw(INT TERM);

    return $self;
}


sub dir { "$_[0]{dir}" }


sub secret {
    my ($self, $name, $content) = @_;

    $self->{secrets}{$content} = 1;

    spew("$self->{dir}/secret/$name", $content, 0600);
}


sub file {
    my ($self, $name, $content) = @_;

    make_path(dirname("$self->{dir}/$name"));
    spew("$self->{dir}/$name", $content);
}


# A new http block, in effect from the next start or reload on.

sub conf {
    my ($self, $text) = @_;

    my $opt = $self->{opt};

    my $conf = join "\n", $self->_main, $opt->{main} // '',
        'events {', "    worker_connections ${\ $self->_connections };",
        map({ defined ? "    $_" : () } $ENV{BOG_EVENTS}, $opt->{events}),
        '}', 'http {', $self->_http, $text, '}', '';

    $conf =~ s/%%PORT(?:_([0-9]+))?%%/$self->port($1)/ge;
    $conf =~ s/%%DIR%%/$self->{dir}/g;
    $conf =~ s/%%SECRET_(\w+)%%/$self->{dir}\/secret\/$1/g;

    $self->{ids}{$1} = 1 while $conf =~ /\bbog_client_id\s+["']?([^\s"';]+)/g;

    $self->file('nginx.conf', $conf);
}


sub _main {
    my $self = shift;

    my $opt = $self->{opt};
    my $level = $opt->{log_level} // $ENV{BOG_LOG_LEVEL} // 'debug';
    my $module = $ENV{BOG_MODULE} // "$root/build/ngx_http_bog_module.so";

    # freenginx leaves out lines where there are over 1,000 a second
    my $rate = $self->_version =~ /freenginx/ && $self->since(1, 27, 2)
               ? ' rate=0' : '';

    my @modules = (split(' ', $ENV{BOG_MODULES} // ''),
                   @{ $opt->{modules} // [] });

    # BOG_MODULE= is for a binary that has the module in it
    push @modules, abs_path($module) // $module
        if length $module && ($opt->{module} // 1);

    return (
        (map { "load_module $_;" } @modules),
        # nginx keeps nothing of its environment, neither for its workers nor
        # for the binary it upgrades to
        map({ "env $_;" } sort keys %{ $self->_environment }),
        # root's temporary folders are root's alone
        $> == 0 ? "user ${\ ($opt->{user} // 'root') };" : (),
        'daemon ' . ($opt->{daemon} ? 'on;' : 'off;'),
        'master_process ' . ($opt->{master} // 1 ? 'on;' : 'off;'),
        "worker_processes $self->{workers};",
        $self->_file_limit,
        'pid %%DIR%%/nginx.pid;',
        "error_log %%DIR%%/error.log $level$rate;",
        # the same at its own level: life and death of processes, in short
        "error_log %%DIR%%/notice.log notice$rate;",
    );
}


sub _connections { $_[0]{opt}{connections} // 4096 }


sub _file_limit {
    my $self = shift;

    # valgrind refuses, and nginx takes that for an alert
    return if $ENV{BOG_WRAPPER};

    my $files = $self->{opt}{file_limit} // 2 * $self->_connections;
    chomp(my $limit = `sh -c 'ulimit -Hn'`);

    return $limit eq 'unlimited' || $limit >= $files
           ? "worker_rlimit_nofile $files;" : ();
}


sub _http {
    my $self = shift;

    my @paths = grep { $_ eq 'proxy' || !$self->_built("without-http_$_") }
                qw(proxy fastcgi uwsgi scgi);

    # with credentials for all of http {} this server too would hold requests
    my $off = $self->{opt}{module} // 1 ? 'bog_token off;' : '';

    return (
        'access_log %%DIR%%/access.log;',
        'client_body_temp_path %%DIR%%/temp/body;',
        map({ "${_}_temp_path %%DIR%%/temp/$_;" } @paths),
        $self->{opt}{status} && $self->has('http_stub_status_module')
            ? 'server { listen unix:%%DIR%%/status; location / { '
              . "access_log off; stub_status; $off } }"
            : (),
    );
}


sub binary {
    return $ENV{TEST_NGINX_BINARY} if $ENV{TEST_NGINX_BINARY};

    my ($found) = grep { -x } '/usr/sbin/nginx',
                              map { "$_/nginx" } split /:/, $ENV{PATH};

    return $found // die "no nginx\n";
}


# Whether nginx is of that version or newer: since(1, 21, 1).  The forks with
# numbers of their own began after nginx 1.23.

sub since {
    my ($class, @since) = @_;

    my @is = $class->_version =~ m{(?:nginx|openresty)/(\d+)\.(\d+)\.(\d+)}
        or return 1;

    return sprintf('%03d' x 3, @is) ge sprintf('%03d' x 3, @since);
}


my $version;

sub _version { $version //= `"${\ binary() }" -V 2>&1` }


# The paths of modules of Debian's nginx, undef where one is not there.

sub modules_of_debian {
    my ($class, @names) = @_;

    my @paths = map { "/usr/lib/nginx/modules/$_.so" } @names;

    return (grep { !-e } @paths) ? undef : \@paths;
}


# Whether a configure option, such as http_stub_status_module, is there.

sub has { $_[0]->_built("with-$_[1]") }

sub _built {
    my ($self, $option) = @_;

    return $self->_version =~ /--$option/;
}


sub port {
    my ($self, $n) = @_;

    my $ports = $self->{ports};

    until (defined $ports->{$n // 0}) {
        my $port = free_port();

        # one that nobody listens on yet may be given again
        $ports->{$n // 0} = $port unless grep { $_ == $port } values %$ports;
    }

    return $ports->{$n // 0};
}


sub start {
    my $self = shift;

    unlink map { "$self->{dir}/$_" } qw(nginx.pid status);
    $self->{mark} = -s "$self->{dir}/notice.log" // 0;

    my $pid = $self->_spawn("$self->{dir}/stderr");

    if ($self->{opt}{daemon}) {
        waitpid $pid, 0;
        $self->_die('nginx does not start') if $?;
        $pid = wait_until { $self->_pid_file };
    }

    $self->{pid} = $pid;

    wait_until { !$self->_alive || $self->_is_up };

    $self->_die('nginx does not start') unless $self->_alive;
    $self->_die('nginx does not listen') unless $self->_is_up;

    return $self;
}


sub _spawn {
    my ($self, $output, @arguments) = @_;

    my @command = ($self->_wrapper, binary(), '-p', "$self->{dir}/",
                   '-c', "$self->{dir}/nginx.conf", @arguments);

    my $pid = fork // die "fork: $!\n";
    return $pid if $pid;

    open STDIN, '<', '/dev/null';
    open STDOUT, '>>', $output;
    open STDERR, '>&', \*STDOUT;

    %ENV = (%ENV, %{ $self->_environment });
    $SIG{$_} = 'DEFAULT' for qw(INT TERM PIPE);

    exec @command or POSIX::_exit(127);
}


sub _wrapper {
    my $self = shift;

    my @words = split ' ', $ENV{BOG_WRAPPER} // '';
    s/%%DIR%%/$self->{dir}/g for @words;

    return @words;
}


sub _environment {
    my $self = shift;

    my %sanitizers = $self->_sanitizers;
    my %env = (%sanitizers, %{ $self->{opt}{env} // {} });

    my @preload = grep { defined } map { $_->{LD_PRELOAD} }
                  \%sanitizers, $self->{opt}{env} // {};

    $env{LD_PRELOAD} = join ':', @preload if @preload;

    return \%env;
}


# The library has to come before all others: nginx itself knows nothing of it.

my @libraries;

sub _sanitizers {
    my $self = shift;

    return unless $ENV{BOG_ASAN};

    @libraries = map { chomp(my $path = `gcc -print-file-name=$_`); $path }
                 qw(libasan.so libubsan.so) unless @libraries;

    my $log = "log_path=$self->{dir}/sanitizer";
    my @more = grep { defined } $self->{opt}{asan};

    return (
        LD_PRELOAD    => join(':', @libraries),
        ASAN_OPTIONS  => join(':', 'detect_leaks=0', $log, @more),
        UBSAN_OPTIONS => "print_stacktrace=1:$log",
    );
}


sub _is_up {
    my $self = shift;

    return unless $self->{opt}{daemon} || $self->_pid_file;
    return if $self->{opt}{master} // 1 and $self->workers < $self->{workers};

    # a configuration need not listen on it at all
    my $port = $self->{ports}{0} or return 1;

    return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port);
}


sub _pid_file {
    my ($self, $suffix) = @_;

    my ($pid) = slurp("$self->{dir}/nginx.pid" . ($suffix // ''))
                =~ /^([0-9]+)/;
    return $pid;
}


sub pid { $_[0]{pid} }


sub _alive {
    my $self = shift;

    my $pid = $self->{pid} or return;
    return 1 if _exists($pid);

    unless ($self->{opt}{daemon}) {
        waitpid $pid, 0;
        $self->{status} = $?;
    }

    delete $self->{pid};
    return;
}


# A zombie is gone, whether or not anybody looks after it.

sub _exists {
    my $pid = shift;

    my ($state) = slurp("/proc/$pid/stat") =~ /.*\) (\S)/s;

    return defined $state && $state !~ /[ZX]/;
}


# The status of nginx, as in $?; nothing where it went to the background.

sub stop {
    my ($self, $signal, $seconds) = @_;

    $self->_alive or return $self->{status};

    $self->signal($signal // 'QUIT');

    unless (wait_until { !$self->_alive } $seconds // 30) {
        my $pid = $self->{pid};
        kill KILL => $self->workers, $pid;
        wait_until { !$self->_alive };
        die "nginx $pid does not stop\n";
    }

    return $self->{status};
}


sub signal {
    my ($self, $signal) = @_;

    my $pid = $self->{pid} or die "nginx does not run\n";
    kill $signal => $pid or die "kill -$signal $pid: $!\n";
}


# Returns when the new workers run and no old one accepts connections; with
# wait_old => 1, when the old ones are gone.

sub reload {
    my ($self, %opt) = @_;

    my @old = $self->workers;
    my $mark = -s "$self->{dir}/notice.log";

    $self->signal('HUP');

    my $news = sub { substr slurp("$self->{dir}/notice.log"), $mark };

    my $done = wait_until {
        my $text = $news->();

        die "nginx does not reload: $text" if $text =~ /\[emerg\]/;

        my @new = $text =~ /start worker process [0-9]+/g;
        @new >= $self->{workers} && !grep { !_is_leaving($_, $text) } @old;
    };

    die 'nginx does not reload: ' . $news->() unless $done;

    return unless $opt{wait_old};

    wait_until { !grep { _exists($_) } @old }
        or die "old workers do not leave\n";
}


sub _is_leaving {
    my ($pid, $text) = @_;

    return !_exists($pid) || $text =~ /\s$pid#\S+ gracefully shutting down/;
}


# Another binary (here, the same one) takes over the sockets.  The old master
# and its workers stay until finish_upgrade.  Needs daemon => 1: an nginx whose
# parent is the one that started it ignores the signal.

sub upgrade {
    my $self = shift;

    my $old = $self->{pid};

    $self->{mark} = -s "$self->{dir}/notice.log";
    $self->signal('USR2');

    wait_until {
        my $pid = $self->_pid_file;
        $pid && $pid != $old && ($self->_pid_file('.oldbin') // 0) == $old;
    } or $self->_die('no new binary');

    $self->{old_pid} = $old;
    $self->{pid} = $self->_pid_file;

    wait_until { $self->workers >= $self->{workers} }
        or $self->_die('no new workers');
}


sub finish_upgrade {
    my $self = shift;

    my $old = delete $self->{old_pid} or die "no upgrade\n";

    kill QUIT => $old;
    wait_until { !_exists($old) } or $self->_die('the old binary stays');
}


# The old binary takes over again; the signal is for the new one's master.

sub undo_upgrade {
    my ($self, $signal) = @_;

    my $new = $self->{pid};
    my $old = delete $self->{old_pid} or die "no upgrade\n";

    # the new master is a child of the old one
    kill WINCH => $old;
    wait_until { slurp("/proc/$old/task/$old/children") =~ /^$new ?\z/ }
        or $self->_die('old workers stay');

    $self->{pid} = $old;

    kill HUP => $old;
    wait_until { $self->workers >= $self->{workers} }
        or $self->_die('no old workers');

    kill $signal => $new;
    wait_until { !_exists($new) && ($self->_pid_file // 0) == $old }
        or $self->_die('the new binary stays');
}


# The worker processes that accept connections, by the log: under a wrapper
# processes have no titles.

sub workers {
    my $self = shift;

    my @masters = grep { defined } @$self{qw(pid old_pid)};
    return @masters unless $self->{opt}{master} // 1;

    my $text = substr slurp("$self->{dir}/notice.log"), $self->{mark} // 0;
    my %parents = map { $_ => 1 } @masters;

    my @pids = map { $_->[1] } grep { $parents{$_->[0]} }
        _pairs($text =~ /([0-9]+)#\S+ start worker process ([0-9]+)/g);

    return grep { !_is_leaving($_, $text) } @pids;
}


sub _pairs { map { [@_[2 * $_, 2 * $_ + 1]] } 0 .. @_ / 2 - 1 }


# Returns the worker that the master put in its place.

sub kill_worker {
    my ($self, $pid, $signal) = @_;

    my %old = map { $_ => 1 } $self->workers;

    kill $signal // 'KILL', $pid or die "kill $pid: $!\n";

    my @new;

    wait_until { @new = grep { !$old{$_} } $self->workers }
        or $self->_die("nobody took the place of $pid");

    return $new[0];
}


# The worker that a local TCP port, or one of the protocol named, belongs to.

sub worker_of_port {
    my ($self, $port, $protocol) = @_;

    return $self->_worker_of(sprintf('%04X [0-9A-F]{8}:[0-9A-F]{4}', $port),
                             $protocol // 'tcp');
}


# The worker that has accepted a client's connection.

sub worker_of_client {
    my ($self, $client) = @_;

    return $self->_worker_of(sprintf('%04X [0-9A-F]{8}:%04X', $self->port,
                                     $client->sockport), 'tcp');
}


# Several sockets may have that port, with others at their other ends, and a
# list that changes while it is read may lack one.

sub _worker_of {
    my ($self, $ends, $protocol) = @_;

    return wait_until {
        my %sockets = map { ("socket:[$_]" => 1) } slurp("/proc/net/$protocol")
            =~ /^ *\d+: [0-9A-F]{8}:$ends (?:\S+ +){6}([1-9]\d*) /mg;

        for my $pid ($self->workers) {
            return $pid if grep { $sockets{readlink($_) // ''} }
                           glob "/proc/$pid/fd/*";
        }

        return;
    } 20;
}


# Waits until so many requests are being worked on, held ones included.  Where
# nginx was built without its own counters nobody knows.

sub wait_active {
    my ($self, $n, $seconds) = @_;

    return 1 unless -e "$self->{dir}/status";

    return wait_until { $self->active == $n } $seconds;
}


sub active {
    my ($writing) = $_[0]->stub_status =~ /Writing: ([0-9]+)/;

    # one of them is this very question
    return ($writing // 0) - 1;
}


sub stub_status {
    my $self = shift;

    return Bog::Client::get(undef, '/', unix => "$self->{dir}/status")->{body}
           // '';
}


# nginx -t and nginx -T: the exit code and what they print.

sub test { $_[0]->_run('-t') }
sub dump { $_[0]->_run('-T') }


sub _run {
    my ($self, @arguments) = @_;

    my $output = "$self->{dir}/output";
    unlink $output;

    waitpid $self->_spawn($output, @arguments), 0;

    return ($? >> 8, slurp($output));
}


sub log { $_[0]->_log_of('error.log') }


sub _log_of {
    my ($self, $name) = @_;

    return slurp("$self->{dir}/$name") . slurp("$self->{dir}/stderr");
}


sub access_log { slurp("$_[0]{dir}/access.log") }


# A place in the log from which wait_log can look.

sub mark { -s "$_[0]{dir}/error.log" // 0 }


# Returns what the expression captured, or the line.

sub wait_log {
    my ($self, $pattern, $seconds, $mark) = @_;

    open my $fh, '<:raw', "$self->{dir}/error.log" or return;
    seek $fh, $mark // 0, 0;

    my $line = '';

    return wait_until {
        while (defined(my $part = <$fh>)) {
            $line .= $part;
            next if $line !~ /\n\z/;

            return $1 // $line if $line =~ $pattern;
            $line = '';
        }

        seek $fh, 0, 1;
        return;
    } $seconds;
}


# What no test may leave in a log.

my $bad_line = qr/\[(?:alert|emerg|crit)\]|exited on signal/;

my $bad_report = qr/ERROR:\ \w+Sanitizer
                    | runtime\ error:
                    | ERROR\ SUMMARY:\ [1-9]
                    | ^==\d+==\ .*(?:Invalid|uninitialised)/x;

sub log_errors {
    my $self = shift;

    my $reports = join '', map { slurp($_) } "$self->{dir}/stderr",
                  glob("$self->{dir}/sanitizer* $self->{dir}/valgrind*");

    return ((grep { /$bad_line/ } split /\n/, $self->_log_of('notice.log')),
            (grep { /$bad_report/ } split /\n/, $reports));
}


# Secrets in any file of the folder but those that the test has put there.

sub leaks {
    my $self = shift;

    my $leak = Bog::Leak->new;

    # to look for each id would take long where there are hundreds, and only
    # short secrets need it
    my @ids = keys %{ $self->{ids} };
    @ids = () if @ids > 20;

    $leak->secret($_, @ids) for keys %{ $self->{secrets} };

    return map { my $path = $_; map { "$path has $_" } $leak->in_file($path) }
           grep { $self->_has_grown($_) } $self->_files;
}


sub _files {
    my $self = shift;

    my ($own, @files) = "$self->{dir}/secret";

    find({ no_chdir => 1, wanted => sub {
        return $File::Find::prune = 1 if $_ eq $own;
        push @files, $_ if -f;
    } }, "$self->{dir}");

    return sort @files;
}


# What was found clean need not be read again.

sub _has_grown {
    my ($self, $path) = @_;

    my $state = join ' ', map { $_ // '' } (stat $path)[1, 7, 9], keys
                %{ $self->{secrets} };

    return if ($self->{clean}{$path} // '') eq $state;

    $self->{clean}{$path} = $state;
    return 1;
}


# %opt: except => qr/what this test itself did/.

sub clean_log {
    my ($self, $name, %opt) = @_;

    my @lines = ($self->log_errors, $self->leaks);
    @lines = grep { !/$opt{except}/ } @lines if $opt{except};

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    Test::More::is(join("\n", @lines), '', $name // 'nothing bad in the log');
}


# The last two tests of nearly all gateways.

sub ends {
    my ($self, %opt) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    Test::More::is($self->stop, 0, 'stops');
    $self->clean_log(undef, %opt);
}


sub _die {
    my ($self, $what) = @_;

    my @lines = split /\n/, $self->_log_of('notice.log');
    splice @lines, 0, @lines - 20 if @lines > 20;

    die join "\n", "$what:", @lines, '';
}


sub _abandon {
    my $self = shift;

    return if $self->{owner} != $$;

    local ($?, $@, $!);

    kill KILL => delete $self->{old_pid} if $self->{old_pid};
    eval { $self->stop('TERM', 5); 1 } or warn $@;

    # too late for a test to fail, but not for its process
    my @leaks = defined $self->{dir} && -d $self->{dir} ? $self->leaks : ()
        or return;

    print STDERR map { "A secret got out: $_\n" } @leaks;
    $leaked = 1;
}


sub DESTROY { $_[0]->_abandon }

END {
    $_->_abandon for grep { defined } @instances;
    $? ||= 1 if $leaked;
}


1;
