# The first order of docs/guide.md, as a reader makes it: all of its commands in
# one shell, what they print, and what the bank sees of it.
#
# Not as the page has it are
#   - apt-get and make, which are left out: the module is the one under test,
#   - the sandbox, which is t/lib's bank, and the system's authorities,
#   - the folders of the system, which are in one of the test's own, with an
#     nginx.conf that includes what Debian's does,
#   - nginx and systemctl, which mean an nginx with that configuration,
#   - what the reader does: pastes the secret, and pays.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Cwd 'abs_path';
use File::Path 'make_path';
use File::Temp;
use Test::More;

use Bog::Bank;
use Bog::CA;
use Bog::FirstOrder;
use Bog::Leak;
use Bog::Nginx;
use Bog::Util qw(free_port slurp spew wait_until);
use Bog::Walk;

my $root = abs_path("$FindBin::Bin/..");
my $module = $ENV{BOG_MODULE} // "$root/build/ngx_http_bog_module.so";
my ($id, $secret) = ($Bog::FirstOrder::ID, $Bog::FirstOrder::SECRET);

my $has_jq = grep { -x "$_/jq" } split /:/, $ENV{PATH};

plan skip_all => 'no module in a file of its own' unless length $module;
plan skip_all => 'no jq'
    unless $has_jq || ($ENV{CI} // '') eq 'true';
plan skip_all => 'only root can do what root does there' if $> != 0;

my $dir = File::Temp->newdir('bog-walk-XXXXXX', TMPDIR => 1);
my ($port, $status_port) = free_port(2);
my $ca = Bog::CA->shared;

my $bank = Bog::Bank->new(
    credentials => { $id => $secret },
    tls         => $ca->cert(name => 'localhost', san => ['DNS:localhost']),
);


# What stands for what, in commands and in what they print.

my @stand_ins = (
    'oauth2-sandbox.bog.ge'              => 'localhost:' . $bank->tls_port,
    'api-sandbox.bog.ge'                 => 'localhost:' . $bank->api_tls_port,
    '127.0.0.1:8080'                     => "127.0.0.1:$port",
    '127.0.0.1:9145'                     => "127.0.0.1:$status_port",
    'build/ngx_http_bog_module.so'       => abs_path($module),
    '/etc/ssl/certs/ca-certificates.crt' => $ca->path,
    '/usr/lib/nginx/'                    => "$dir/",
    '/etc/nginx/'                        => "$dir/etc/nginx/",
);

sub local_to_test {
    my $text = shift;

    my @pairs = @stand_ins;

    while (my ($theirs, $ours) = splice @pairs, 0, 2) {
        $text =~ s/\Q$theirs\E/$ours/g;
    }

    return $text;
}


# Folders, nginx and systemctl.

sub machine {
    make_path(map { "$dir/$_" } qw(bin walk temp
                                   etc/nginx/modules-enabled
                                   etc/nginx/conf.d));

    spew("$dir/etc/nginx/nginx.conf", <<"END");
include $dir/etc/nginx/modules-enabled/*.conf;
user root;
pid $dir/nginx.pid;
error_log $dir/error.log debug;

events {
    worker_connections 64;
    ${\ ($ENV{BOG_EVENTS} // '')}
}

http {
    access_log $dir/access.log;
    client_body_temp_path $dir/temp/body;
    proxy_temp_path $dir/temp/proxy;
    fastcgi_temp_path $dir/temp/fastcgi;
    uwsgi_temp_path $dir/temp/uwsgi;
    scgi_temp_path $dir/temp/scgi;

    include $dir/etc/nginx/conf.d/*.conf;

    server {
        listen unix:$dir/up;
    }
}
END

    my $nginx = "'" . Bog::Nginx::binary() . "' -p '$dir/'"
                . " -c '$dir/etc/nginx/nginx.conf'";

    spew("$dir/bin/nginx", "#!/bin/sh\nexec $nginx \"\$@\"\n", 0755);
    spew("$dir/bin/systemctl", <<"END", 0755);
#!/bin/sh
[ "\$2" = nginx ] || exit 1

case \$1 in
    restart)
        if [ -s '$dir/nginx.pid' ]; then
            kill -QUIT "\$(cat '$dir/nginx.pid')"
            while [ -e '$dir/nginx.pid' ]; do sleep 0.01; done
        fi
        $nginx || exit
        # its first process ends before the file is there
        while [ ! -s '$dir/nginx.pid' ]; do sleep 0.01; done
        exit
        ;;
    reload)
        kill -HUP "\$(cat '$dir/nginx.pid')"
        ;;
    *)
        exit 1
        ;;
esac
END
}


machine();

my $walk = Bog::Walk->new(
    folder => "$dir/walk", read => \&local_to_test,
    env    => { PATH => "$dir/bin:$ENV{PATH}", SSL_CERT_FILE => $ca->path });

my $first = Bog::FirstOrder->new(
    bank => $bank, walk => $walk,
    api  => local_to_test('https://api-sandbox.bog.ge'));

for my $step ($first->steps) {
    $first->step($step);

    is((stat "$dir/etc/nginx/bog/client_secret")[2] & 07777, 0600, 'its mode')
        if Bog::FirstOrder::asks_secret($step);
}

$first->check;

my $leak = Bog::Leak->new;
$leak->secret("$secret\n", $id);
is(join("\n", map { $leak->in_file($_) } "$dir/error.log", "$dir/access.log"),
   '', 'nothing is logged that must not be');

is_deeply([glob("$dir/walk/*"), glob("$dir/etc/nginx/*/*"),
           glob("$dir/modules/*")], [], 'nothing is left behind');

done_testing();


END {
    my $status = $?;

    $walk->end if $walk;

    my ($pid) = $dir ? slurp("$dir/nginx.pid") =~ /^([0-9]+)/ : ();

    if ($pid) {
        kill TERM => $pid;
        wait_until { !-e "$dir/nginx.pid" };
    }

    $? = $status;
}
