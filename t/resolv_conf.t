# Without a resolver in the configuration the system is asked, as by any other
# program: /etc/hosts, nsswitch.conf and /etc/resolv.conf.  nginx gets those of
# its own, in a mount namespace.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use File::Temp ();
use Test::More;

use Bog::Bank;
use Bog::CA;
use Bog::Client 'get';
use Bog::DNS;
use Bog::Nginx;
use Bog::Util qw(now spew timeout wait_until);

my $name = 'oauth2.test';
my @servers = map { "127.77.0.$_" } 53, 54;

plan skip_all => 'only root can have an /etc/resolv.conf of his own'
    if $> != 0;
plan skip_all => 'no mount namespaces here'
    if system 'unshare -m true 2>/dev/null';

my $dir = File::Temp->newdir;

spew("$dir/hosts", "127.0.0.1 localhost\n127.0.0.2 hosts-only.test\n");
spew("$dir/nsswitch.conf", "hosts: files dns\n");
spew("$dir/run", <<"END", 0755);
#!/bin/sh
touch /etc/nsswitch.conf
for file in resolv.conf hosts nsswitch.conf; do
    mount --bind $dir/\$file /etc/\$file || exit 1
done
exec "\$@"
END

$ENV{BOG_WRAPPER} = join ' ', "unshare -m $dir/run",
                              $ENV{BOG_WRAPPER} // ();


# The file stays the same one, which is mounted elsewhere.

sub resolv_conf {
    my ($text) = @_;

    open my $fh, '>', "$dir/resolv.conf" or die "resolv.conf: $!\n";
    print $fh $text;
    close $fh or die "resolv.conf: $!\n";
}


sub ask { resolv_conf(join '', map { "nameserver $_\n" } @_) }


sub bank {
    my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret' }, @_);
    $bank->answer(expires_in => 4);

    return $bank;
}


sub dns { Bog::DNS->new(address => $_[0] // $servers[0], port => 53) }


sub gateway {
    my ($bank, $url, $directives) = @_;

    $url //= "http://$name:${\ $bank->port }$Bog::Bank::PATH";
    $directives //= '';

    return Bog::Nginx->new(
        workers => 2, secret => { main => "s3cret\n" }, conf => <<"END");
        bog_client_id           8282;
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      $url;
        $directives

        server {
            listen 127.0.0.1:%%PORT%%;

            location / {
                proxy_pass http://127.0.0.1:${\ $bank->api_port };
                proxy_set_header Authorization "Bearer \$bog_bearer_token";
            }
        }
END
}


ask($servers[0]);

subtest 'the address changes, then the name server falls silent' => sub {
    my $old = bank();
    my $new = bank(at => { token => ['127.0.0.2', $old->port] });

    my $dns = dns();
    $dns->answer($name => ['127.0.0.1']);

    my $nginx = gateway($old);

    is(($nginx->test)[0], 0, 'nginx -t');
    is($dns->count, 0, 'asks nothing');

    $nginx->start;
    ok($old->wait_requests(1), 'a token');

    $dns->answer($name => ['127.0.0.2']);
    ok($new->wait_requests(1), 'the new address is followed');

    $dns->answer($name => 'SILENT');
    my ($before, $asked) = ($new->count, $dns->count);

    ok($new->wait_requests($before + 3), 'the last address serves');
    cmp_ok($dns->count, '>', $asked, 'the name server is still asked');
    unlike($nginx->log, qr/token request failed/, 'nothing fails');

    $nginx->ends;
};


for my $trouble (qw(SERVFAIL REFUSED SILENT)) {
    subtest "the question for IPv6: $trouble" => sub {
        my $old = bank();
        my $new = bank(at => { token => ['127.0.0.2', $old->port] });

        my $dns = dns();
        $dns->answer($name => { A => ['127.0.0.1'], AAAA => $trouble });

        my $nginx = gateway($old)->start;
        ok($old->wait_requests(1, 4), 'a token, at once');

        $dns->answer($name => { A => ['127.0.0.2'], AAAA => $trouble });
        ok($new->wait_requests(1, 8), 'the new address is followed');
        unlike($nginx->log, qr/token request failed/, 'nothing fails');

        $nginx->ends;
    };
}


subtest 'no name at start' => sub {
    my $bank = bank();
    my $dns = dns();
    $dns->answer($name => 'NXDOMAIN');

    my $nginx = gateway($bank);

    my ($status, $said) = $nginx->test;
    is($status, 0, 'nginx -t');
    unlike($said, qr/host not found/, 'without a warning');

    $nginx->start;
    ok($nginx->wait_log(qr/$name could not be resolved \(-2: Name or service /),
       'why there is no token');

    $dns->answer($name => ['127.0.0.1']);
    ok($bank->wait_requests(1), 'the token comes when the name does');
    ok(wait_until(sub { get($nginx->port, '/')->{status} == 200 }), 'served');

    $nginx->ends;
};


subtest 'resolv.conf is written later' => sub {
    my $bank = bank();
    my $dns = dns();
    $dns->answer($name => ['127.0.0.1']);

    resolv_conf('');

    my $nginx = gateway($bank)->start;
    ok($nginx->wait_log(qr/$name could not be resolved/), 'no token');
    is($dns->count, 0, 'nobody to ask');

    ask($servers[0]);
    ok($bank->wait_requests(1, 15), 'the token comes without a reload');

    $nginx->ends;
};


subtest 'a short name' => sub {
    my $bank = bank();
    my $dns = dns();
    $dns->answer($name => ['127.0.0.1']);

    resolv_conf("search test\nnameserver $servers[0]\n");

    my $nginx = gateway($bank, "http://oauth2:${\ $bank->port }/")->start;
    ok($bank->wait_requests(1), '"search" completes it');

    $nginx->ends;
};


ask($servers[0]);

for my $resolver ('', 'resolver 127.0.0.1:1;') {
    subtest "localhost, with \"$resolver\"" => sub {
        my $bank = bank();

        my $nginx = gateway($bank, "http://localhost:${\ $bank->port }/",
                            $resolver)->start;
        ok($bank->wait_requests(1), 'found in /etc/hosts');

        $nginx->ends;
    };
}


subtest 'a name that is in /etc/hosts only' => sub {
    my $api = bank();
    my $bank = bank(at => { token => ['127.0.0.2', $api->port] });
    my $dns = dns();

    my $nginx = gateway($bank, "http://hosts-only.test:${\ $api->port }/")
                ->start;
    ok($bank->wait_requests(1), 'found');
    is($dns->count, 0, 'the name server is not asked');

    $nginx->ends;
};


subtest 'a dot at the end of the name' => sub {
    my $ca = Bog::CA->shared;
    my $bank = bank(tls => $ca->cert(name => $name));
    my $dns = dns();
    $dns->answer($name => ['127.0.0.1']);

    my $nginx = gateway($bank,
        "https://$name.:${\ $bank->tls_port }$Bog::Bank::PATH",
        "bog_ssl_trusted_certificate ${\ $ca->path };")->start;

    ok($bank->wait_requests(1), 'the certificate is that of the name');
    like(($bank->requests)[0]{raw}, qr/^Host: $name:[0-9]+\r$/m,
         'Host without it');

    $nginx->ends;
};


subtest 'name servers that do not answer' => sub {
    my @dns = map { dns($_) } @servers;
    $_->answer($name => 'SILENT') for @dns;

    ask(@servers);

    my $bank = bank();
    my $nginx = gateway($bank, undef, join '', map {
        "server { listen 127.0.0.1:%%PORT_$_%%; bog_token_endpoint "
        . "http://$name:${\ $bank->port }/$_; location / { proxy_pass "
        . "http://127.0.0.1:${\ $bank->api_port }; } }" } 1 .. 3);

    my $began = now();
    is(($nginx->test)[0], 0, 'nginx -t');
    cmp_ok(now() - $began, '<', timeout(2), 'at once');

    $began = now();
    $nginx->start;
    cmp_ok(now() - $began, '<', timeout(2), 'nginx starts at once');

    ok($dns[0]->wait_queries(2), 'then it asks');

    $began = now();
    $nginx->reload;
    cmp_ok(now() - $began, '<', timeout(2), 'a reload takes no time');

    $began = now();
    is($nginx->stop, 0, 'stops');
    cmp_ok(now() - $began, '<', timeout(2), 'at once');
    $nginx->clean_log;
};


subtest 'one of two name servers does not answer' => sub {
    my @dns = map { dns($_) } @servers;
    $dns[0]->answer($name => 'SILENT');
    $dns[1]->answer($name => ['127.0.0.1']);

    ask(@servers);

    my $bank = bank();
    my $nginx = gateway($bank)->start;

    ok($bank->wait_requests(3), 'tokens');
    unlike($nginx->log, qr/token request failed/, 'nothing fails');

    $nginx->ends;
};


done_testing;
