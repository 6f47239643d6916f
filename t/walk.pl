# walk.pl first-order
# walk.pl install absent|stopped|running
#
# See util/walk.sh.
#
# A walk of docs/guide.md, to the first order or to the installed package, typed
# as it is written, but for what takes a network, which was typed before. The bank's names lead to
# the stand-ins of t/lib. This is for a machine of its own: it changes
# /etc/resolv.conf, the system's authorities, and what the page changes.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Cwd 'abs_path';
use Test::More;

use Bog::Bank;
use Bog::CA;
use Bog::DNS;
use Bog::FirstOrder;
use Bog::Leak;
use Bog::Util qw(slurp spew);
use Bog::Walk;

my $root = abs_path("$FindBin::Bin/..");
my @logs = ('/var/log/nginx/error.log', '/var/log/nginx/access.log');

my %walk = ('first-order' => \&first_order, install => \&install);
my $walk = $walk{ $ARGV[0] // '' } // die "usage: walk.pl WALK\n";


# The bank by its own names, on its own port.

sub bank {
    my ($token, $api, %credentials) = @_;

    my $ca = Bog::CA->shared;
    my ($token_at, $api_at) = ('127.0.0.2', '127.0.0.3');

    my $bank = Bog::Bank->new(
        credentials => \%credentials,
        tls => $ca->cert(name => $token, san => ["DNS:$token", "DNS:$api"]),
        at  => { tls => [$token_at, 443], api_tls => [$api_at, 443] },
    );

    my $dns = Bog::DNS->new(port => 53);
    $dns->answer($token => [$token_at]);
    $dns->answer($api => [$api_at]);

    spew('/etc/resolv.conf', "nameserver 127.0.0.1\n");
    spew('/usr/local/share/ca-certificates/bank.crt', slurp($ca->path));
    is(system('update-ca-certificates > /dev/null 2>&1'), 0, 'authorities');

    return ($bank, $dns);
}


sub nothing_leaked {
    my ($secret, $id) = @_;

    my $leak = Bog::Leak->new;
    $leak->secret("$secret\n", $id);

    cmp_ok(-s $logs[1], '>', 0, 'requests are logged');
    is(join("\n", map { $leak->in_file($_) } @logs), '',
       'and nothing that must not be');
}


sub first_order {
    my ($bank, $dns) = bank(qw(oauth2-sandbox.bog.ge api-sandbox.bog.ge),
                            $Bog::FirstOrder::ID => $Bog::FirstOrder::SECRET);

    # of what Debian's systemctl for machines without an init says by itself
    my $walk = Bog::Walk->new(folder => $root,
                              env => { PYTHONWARNINGS => 'ignore' });
    my $first = Bog::FirstOrder->new(bank => $bank, walk => $walk,
                                     api => 'https://api-sandbox.bog.ge');

    $first->step($_) for $first->steps;
    $first->check;

    nothing_leaked($Bog::FirstOrder::SECRET, $Bog::FirstOrder::ID);
    $walk->end;
}


# The three commands, and what the page goes on to.  Where nginx runs before, the
# same one has to run afterwards.

sub install {
    my ($before) = @_;
    my ($id, $secret) = (8282, 's3cret of a merchant');
    my ($bank, $dns) = bank(qw(oauth2.bog.ge api.bog.ge), $id => $secret);

    my (undef, $three, $try)
        = Bog::Walk::indented(slurp("$root/docs/guide.md"), 'Install');
    my @readme = Bog::Walk::indented(slurp("$root/README.md"), 'Install');
    my ($reload) = $try->{commands} =~ /\A(.*\n)/;

    is($three->{commands} =~ tr/\n//, 3, 'three commands');

    for my $commands ($three->{commands}, $reload) {
        ok((grep { $_->{commands} eq $commands } @readme),
           'the same as those of the README');
    }

    is(system('systemctl start nginx'), 0, 'nginx runs') if $before eq 'running';
    is(!!master(), $before eq 'running', "nginx is $before");
    my $master = master();

    # of what Debian's systemctl for machines without an init says by itself
    my $walk = Bog::Walk->new(folder => $root,
                              env => { PYTHONWARNINGS => 'ignore' });

    spew("$root/client_secret", "$secret\n", 0600);
    # apt asks before it installs
    $walk->step({ commands => $three->{commands} }, "y\n");

    # the reader's own name server
    my $conf = '/etc/nginx/conf.d/bog.conf';
    my $text = slurp($conf);
    is($text =~ s/127\.0\.0\.53/127.0.0.1/, 1, 'the name server');
    spew($conf, $text);

    my $printed = $walk->step($try);
    my ($token) = map { $_->{token} } $bank->tokens;

    ok(master(), 'nginx runs');
    is(master(), $master, 'the same as before') if $before eq 'running';
    like($printed, qr/^HTTP\/1\.1\ 200\ OK\r$/m, 'the API answers');
    like($printed, qr/"authorization":"Bearer \Q$token\E"/,
         'to a request with the token');

    is_deeply([map { "$_->{method} $_->{uri} $_->{state}" }
               $bank->api_requests], ['GET /payments/ valid'],
              'what the API was asked');
    is_deeply([map { $_->{client} } $bank->requests], [$id],
              'one token request');

    nothing_leaked($secret, $id);
    $walk->end;
    system 'systemctl stop nginx';
}


# The process id of the nginx that runs.

sub master {
    my ($pid) = -e '/run/nginx.pid'
                ? slurp('/run/nginx.pid') =~ /^([0-9]+)/ : ();

    return $pid && kill(0, $pid) ? $pid : undef;
}


$walk->($ARGV[1]);

done_testing;
