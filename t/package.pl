# package.pl DEB: see util/package.sh.
#
# The life of Debian's package on a machine whose nginx serves: an upgrade, a
# removal, a purge. An earlier version is installed, and nothing of nginx is
# configured. This is for a machine of its own: it changes /etc/nginx.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use File::Path 'make_path';
use Test::More;

use Bog::Bank;
use Bog::Client qw(get steady);
use Bog::Util qw(now wait_until slurp spew);

my $deb = shift // die "usage: package.pl DEB\n";

my $package = 'libnginx-mod-http-bog';
my $module = '/usr/lib/nginx/modules/ngx_http_bog_module.so';
my $example = "/usr/share/doc/$package/examples/bog.conf";
my $conf = '/etc/nginx/conf.d/bog.conf';
my $log = '/var/log/nginx/error.log';
my $secret = 's3cret of the package';
my $port = 8080;

# requests a second, and for how long: the upgrades take less
my ($rate, $seconds) = (200, 40);

# what the last command said
my $output = '';

my $bank = Bog::Bank->new(credentials => { 8282 => $secret });

# of five minutes, a refresh may come in the first of them
$bank->answer(expires_in => 86400);


sub run {
    my (@command) = @_;

    open my $pipe, '-|', @command or die "$command[0]: $!\n";
    $output = do { local $/; <$pipe> } // '';
    close $pipe;

    note "@command\n$output";

    return $? >> 8;
}


sub enabled { join ' ', map { s/.*\///r } glob '/etc/nginx/modules-enabled/*' }

sub version { `dpkg-query -W -f '\${Version}' $package` }


sub master { slurp('/run/nginx.pid') =~ /^([0-9]+)/ ? $1 : 0 }


# Those of a master, less the ones that are leaving.

sub workers {
    my $master = master();

    return grep { slurp("/proc/$_/cmdline") =~ /^nginx: worker process\b/
                  && slurp("/proc/$_/cmdline") !~ /shutting down/ }
           split ' ', slurp("/proc/$master/task/$master/children");
}


# Whether any worker has the module's file as it was before it was replaced.

sub old_module {
    return scalar grep { slurp("/proc/$_/maps") =~ /\Q$module\E \(deleted\)/ }
                  workers();
}


sub wait_others {
    my %old = map { $_ => 1 } @_;

    return wait_until { my @new = workers(); @new && !grep { $old{$_} } @new };
}


# The package's own example, with the bank on this machine.

sub configured {
    make_path('/etc/nginx/bog', { mode => 0700 });
    spew('/etc/nginx/bog/client_secret', "$secret\n", 0600);

    my $text = slurp($example);

    $text =~ s{https://\$api}{http://127.0.0.1:${\ $bank->api_port }};
    $text =~ s{(?=\n    location)}{    bog_token_endpoint ${\ $bank->url };\n};

    spew($conf, "error_log $log info;\n$text");
}


sub payment { get($port, '/payments/42')->{status} // 0 }


# Who has fetched, and when.

sub fetches {
    my @requests = map { sprintf '%.3f, %s', @$_{qw(time peer)} }
                   $bank->requests;
    my @lines = grep { /token|process/ } split /\n/, slurp($log);

    return join "\n", @requests, @lines;
}


sub all_answered {
    my ($result) = @_;

    is_deeply($result->{status}, { 200 => $rate * $seconds }, 'every request')
        or diag explain $result->{failures};
    is_deeply($result->{errors}, {}, 'no connection lost');
    note sprintf '%d requests, the slowest took %.3f s', $result->{sent},
                 $result->{slowest};
}


subtest 'installed' => sub {
    is(enabled(), '50-mod-http-bog.conf', 'the module is enabled');
    is(run('nginx', '-t', '-q'), 0, 'nginx -t');

    configured();
    is(run('nginx', '-t', '-q'), 0, 'nginx -t with its directives');
    is(run(qw(service nginx start)), 0, 'starts');
    is(payment(), 200, 'a token is injected');
};


subtest 'upgraded under load' => sub {
    my $load = steady($port, uri => '/payments/42', rate => $rate,
                      seconds => $seconds);
    my $begun = now();
    my ($master, $before) = (master(), version());
    my @old = workers();

    is(run('dpkg', '-i', $deb), 0, 'the package');
    isnt(version(), $before, 'another version');

    ok(wait_others(@old), 'a reload, by the trigger');
    is(master(), $master, 'of the same master');
    is($bank->count, 1, 'with the same token');
    cmp_ok(old_module(), '>', 0, 'the module in memory is the old one');

    @old = workers();
    is(run(qw(service nginx upgrade)), 0, 'the binary');
    ok(wait_until { master() != $master && wait_others(@old) }, 'new workers');
    ok(wait_until { !-e "/proc/$master" }, 'the old master leaves');
    is(old_module(), 0, 'the module in memory is the new one');

    cmp_ok(now() - $begun, '<', $seconds, 'all of it under load');
    all_answered($load->result);
    is($bank->count, 2, 'one token more') or diag(fetches());
};


subtest 'removed' => sub {
    my @files = grep { -f || -l } split /\n/, `dpkg -L $package`;
    my @old = workers();

    is(run('dpkg', '-r', $package), 0, 'the package');
    is(enabled(), '50-mod-http-bog.conf.removed', 'the module is not enabled');

    like($output, qr/^Reloading nginx configuration: nginx failed!$/m,
         'no reload while there are directives of the module');
    is_deeply([workers()], \@old, 'its workers stay');
    is(payment(), 200, 'and serve');

    unlink $conf or die "unlink $conf: $!\n";
    is(run('nginx', '-t', '-q'), 0, 'nginx -t without them');
    is(run(qw(service nginx reload)), 0, 'reloads');
    ok(wait_others(@old), 'new workers');

    is(run('dpkg', '-P', $package), 0, 'purged');
    is(enabled(), '', 'no link stays');
    cmp_ok(scalar @files, '>', 10, 'there were files');
    is(join(' ', grep { -e || -l } @files), '', 'none is left');

    is(run('nginx', '-t', '-q'), 0, 'nginx -t');
    is(run(qw(service nginx stop)), 0, 'stops');
};


is(join('', grep { /\[(?:crit|alert)\]|exited on signal/ }
             map { "$_\n" } split /\n/, slurp($log)),
   '', 'nothing bad in the log');


done_testing;
