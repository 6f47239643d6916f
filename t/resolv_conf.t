# Without a resolver in the configuration: the name servers of /etc/resolv.conf
# are asked at run time, and the addresses found at start serve where those do
# not answer.  nginx gets an /etc/resolv.conf of its own, in a mount namespace.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use File::Temp ();
use Test::More;

use Bog::Bank;
use Bog::Client 'get';
use Bog::DNS;
use Bog::Nginx;
use Bog::Util 'wait_until';

my $name = 'oauth2.test';
my $server = '127.77.0.53';

plan skip_all => 'only root can have an /etc/resolv.conf of his own'
    if $> != 0;
plan skip_all => 'no mount namespaces here'
    if system 'unshare -m true 2>/dev/null';

my $dir = File::Temp->newdir;

write_file("$dir/resolv.conf", <<"END");
# the port is 53, whatever one says
search test
nameserver $server
options timeout:1 attempts:1
END

write_file("$dir/run", <<"END");
#!/bin/sh
mount --bind $dir/resolv.conf /etc/resolv.conf || exit 1
exec "\$@"
END

chmod 0755, "$dir/run";

$ENV{BOG_WRAPPER} = join ' ', "unshare -m $dir/run",
                              $ENV{BOG_WRAPPER} // ();


sub write_file {
    my ($path, $text) = @_;

    open my $fh, '>', $path or die "$path: $!\n";
    print $fh $text;
    close $fh or die "$path: $!\n";
}


sub bank {
    my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret' }, @_);
    $bank->answer(expires_in => 4);

    return $bank;
}


sub gateway {
    my $bank = shift;

    return Bog::Nginx->new(
        workers => 2, secret => { main => "s3cret\n" }, conf => <<"END");
        bog_client_id           8282;
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      http://$name:${\ $bank->port }$Bog::Bank::PATH;

        server {
            listen 127.0.0.1:%%PORT%%;

            location / {
                proxy_pass http://127.0.0.1:${\ $bank->api_port };
                proxy_set_header Authorization "Bearer \$bog_bearer_token";
            }
        }
END
}


subtest 'the address changes, then the name server falls silent' => sub {
    my $old = bank();
    my $new = bank(address => '127.0.0.2', port => $old->port);

    my $dns = Bog::DNS->new(address => $server, port => 53);
    $dns->answer($name => ['127.0.0.1']);

    my $nginx = gateway($old)->start;

    ok($old->wait_requests(1), 'a token');

    my $asked = $dns->count;
    ok($asked >= 2, 'the name server is asked at start and at run time');

    $dns->answer($name => ['127.0.0.2']);
    ok($new->wait_requests(1), 'the new address is followed');

    $dns->answer($name => 'SILENT');
    my $before = $old->count;
    ok($old->wait_requests($before + 1), 'the address found at start serves');

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
};


subtest 'no name server at start' => sub {
    my $bank = bank();
    my $dns = Bog::DNS->new(address => $server, port => 53);
    $dns->answer($name => 'NXDOMAIN');

    my $nginx = gateway($bank);

    my ($status, $said) = $nginx->test;
    is($status, 0, 'nginx -t');
    like($said, qr/\[warn\] .*host not found in token endpoint "http:[^"]*", it will be .* in /,
         'a warning');

    $nginx->start;
    is(get($nginx->port, '/')->{status}, 503, 'no token');

    $dns->answer($name => ['127.0.0.1']);
    ok($bank->wait_requests(1), 'the token comes when the name does');
    ok(wait_until(sub { get($nginx->port, '/')->{status} == 200 }), 'served');

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
};


done_testing;
