# The walk of docs/getting-started.md, as a reader walks it: all of its commands
# in one shell, what they print, and what the bank sees of it.
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
use IO::Handle;
use JSON::PP;
use POSIX ();
use Test::More;

use Bog::Bank;
use Bog::CA;
use Bog::Leak;
use Bog::Nginx;
use Bog::Util qw(free_port slurp spew timeout wait_until);

my $root = abs_path("$FindBin::Bin/..");
my $page = slurp("$root/docs/getting-started.md");
my $module = $ENV{BOG_MODULE} // "$root/build/ngx_http_bog_module.so";

my $id = '10000001';
my $secret = 'a-secret-of-the-sandbox';
my $order = '5f6a1d5e-0d3c-4c43-9f0b-6a1f0f7c2f10';

my $has_jq = grep { -x "$_/jq" } split /:/, $ENV{PATH};

plan skip_all => 'no module in a file of its own' unless length $module;
plan skip_all => 'no jq' 
    unless $has_jq || ($ENV{CI} // '') eq 'true';
plan skip_all => 'only root can do what root does there' if $> != 0;

my $dir = File::Temp->newdir('bog-walk-XXXXXX', TMPDIR => 1);
my $port = free_port();
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


# Blocks of commands, each with what it prints.

sub steps {
    my @steps;

    while ($page =~ /^```(\w+)\n(.*?)^```$/gms) {
        my ($kind, $text) = ($1, $2);

        if ($kind eq 'sh') {
            push @steps, { commands => $text, prints => '' };

        } elsif ($kind eq 'text') {
            $steps[-1]{prints} = $text;
        }
    }

    return @steps;
}


sub without_installation {
    my $commands = shift;

    return $commands =~ s/^(?:apt-get|make) .*\n//gmr;
}


# Words like ORDER_ID stand for what differs, but for the same all along.

my %meaning;

sub prints {
    my ($output, $expected, $name) = @_;

    my @parts = split /\b([A-Z]+_[A-Z]+)\b/, local_to_test($expected);
    my (@names, $pattern);

    while (my ($text, $word) = splice @parts, 0, 2) {
        $pattern .= quotemeta $text;
        next unless defined $word;

        push @names, $word unless defined $meaning{$word};
        $pattern .= $meaning{$word} ? quotemeta $meaning{$word} : '([^"\s]+)';
    }

    $pattern //= '';
    like($output, qr/\A$pattern\z/, $name);
    @meaning{@names} = $output =~ /\A$pattern\z/ if @names;
}


# The shell of the reader.

sub shell {
    make_path(map { "$dir/$_" } qw(bin modules walk temp
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

    pipe my $read, my $commands or die "pipe: $!\n";
    pipe my $answers, my $write or die "pipe: $!\n";
    $commands->autoflush(1);

    my $pid = fork // die "fork: $!\n";

    if ($pid == 0) {
        close $_ for $commands, $answers;
        setpgrp;
        chdir "$dir/walk";
        %ENV = (%ENV, PATH => "$dir/bin:$ENV{PATH}",
                SSL_CERT_FILE => $ca->path, no_proxy => '*');

        open STDIN, '<&', $read;
        open STDOUT, '>&', $write;
        close $_ for $read, $write;

        exec '/bin/sh' or POSIX::_exit(127);
    }

    close $_ for $read, $write;

    return { pid => $pid, commands => $commands, answers => $answers };
}


# Returns the status of the last command, and all that was printed.

sub run {
    my ($shell, $commands, $input) = @_;

    spew("$dir/commands", $commands);
    spew("$dir/input", $input);

    # with nginx in the background, an end of file would never come
    print { $shell->{commands} }
        "{ . $dir/commands; } < $dir/input > $dir/output 2>&1; echo \$?\n";

    local $SIG{ALRM} = sub { die "no end of: $commands" };
    alarm timeout(60);
    my $status = readline $shell->{answers};
    alarm 0;

    return ($status // die("the shell has gone\n"), slurp("$dir/output"));
}


sub json { JSON::PP->new->decode($_[0]) }


# The bank's side of an order, as its documentation has it.

sub created {
    my $api = local_to_test('https://api-sandbox.bog.ge');

    return encode_json({
        id     => $order,
        _links => {
            details  => { href => "$api/payments/v1/receipt/$order" },
            redirect => { href => "https://pay.example/?order_id=$order" },
        },
    });
}


sub paid {
    return encode_json({
        order_id     => $order,
        order_status => { key => 'completed', value => 'paid' },
    });
}


my @steps = steps();
my $shell = shell();

my $bearer;
my $output = '';

for my $n (1 .. @steps) {
    my $step = $steps[$n - 1];
    my $commands = local_to_test(without_installation($step->{commands}));

    next if $commands eq '';

    # what the reader does
    my $input = $commands =~ /\(umask 077; cat >/ ? "$secret\n" : '';
    $bank->api_answer(body => created()) if $commands =~ /ecommerce\/orders/;
    $bank->api_answer(body => paid()) if $commands =~ /receipt\//;

    my ($status, $printed) = run($shell, $commands, $input);

    my ($name) = $step->{commands} =~ /\A(.*)/;
    is($status, "0\n", "step $n: $name") or diag($printed);
    prints($printed, $step->{prints}, 'what it prints');

    $output .= $printed;

    is((stat "$dir/etc/nginx/bog/client_secret")[2] & 07777, 0600, 'its mode')
        if $input ne '';
}


# The page has been walked to its end, and as it says.

my @requests = $bank->requests;
my @api = $bank->api_requests;

is(scalar @requests, 1, 'one token request');
is($requests[0]{client}, $id, 'with id and secret');

is_deeply([map { "$_->{method} $_->{uri} $_->{state}" } @api],
          ['POST /payments/v1/ecommerce/orders valid',
           ("GET /payments/v1/receipt/$order valid") x 2],
          'what the API was asked, each with the token');

is_deeply(json($api[0]{body})->{purchase_units},
          { currency => 'GEL', total_amount => 1,
            basket => [{ quantity => 1, unit_price => 1,
                         product_id => 'test' }] },
          'the order');

like($api[0]{raw}, qr/^Idempotency-Key:\ [0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}
                       -[89ab][0-9a-f]{3}-[0-9a-f]{12}\r$/mxi, 'its key');

is($meaning{ORDER_ID}, $order, 'ORDER_ID');

my ($token) = map { $_->{token} } $bank->tokens;

unlike($output, qr/\Q$token\E|\Q$secret\E/, 'no token and no secret is shown');

my $leak = Bog::Leak->new;
$leak->secret("$secret\n", $id);
is(join("\n", map { $leak->in_file($_) } "$dir/error.log", "$dir/access.log"),
   '', 'nor logged');

is_deeply([glob("$dir/walk/*"), glob("$dir/etc/nginx/*/*"),
           glob("$dir/modules/*")], [], 'nothing is left behind');

done_testing();


END {
    my $status = $?;

    # and whatever it waits for
    kill TERM => -$shell->{pid} if $shell;

    my ($pid) = $dir ? slurp("$dir/nginx.pid") =~ /^([0-9]+)/ : ();

    if ($pid) {
        kill TERM => $pid;
        wait_until { !-e "$dir/nginx.pid" };
    }

    $? = $status;
}
