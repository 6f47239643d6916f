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
    my $new = bank(at => { token => ['127.0.0.2', $old->port] });

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


# The endpoint of production, which nobody has to name: its name is looked up as
# any other.

subtest 'the default endpoint' => sub {
    my $dns = Bog::DNS->new(address => $server, port => 53);
    $dns->answer('oauth2.bog.ge' => 'NXDOMAIN');

    my $nginx = Bog::Nginx->new(
        workers => 2, secret => { main => "s3cret\n" }, conf => <<"END")->start;
        server {
            listen 127.0.0.1:%%PORT%%;

            bog_client_id           8282;
            bog_client_secret_file  %%SECRET_main%%;

            location / {
                proxy_pass http://127.0.0.1:1;
                proxy_set_header Authorization "Bearer \$bog_bearer_token";
            }
        }
END

    ok($nginx->wait_log(qr/oauth2\.bog\.ge could not be resolved \(3: Host/),
       'its name is asked for');
    is(get($nginx->port, '/')->{status}, 503, 'no token');

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
};


# What is no line of a name server is passed over, and none keeps nginx from
# its start. The one that is good is found wherever it is, by nginx itself: when
# it starts, libc finds no address.

my $good = "nameserver $server\n";

my @cases = (
    ['blanks around it' => "\t nameserver \t $server \t\n"],
    ['a comment behind it' => "nameserver $server#one\n"],
    ['another one' => "nameserver $server;one\n"],
    ['no end of the line' => "nameserver $server"],
    ['the end of DOS' => "nameserver $server\r\n"],
    ['empty lines' => "\n\n \n\t\n$good\n\n"],
    ['lines that say nothing' => "nameserver\nnameserver \nnameserver  \t\n"
                                 . "nameserver #\n$good"],
    ['half a word' => "name\nnameserve\nnameserver127.0.0.1\n"
                      . "nameservers 127.0.0.1\n$good"],
    ['comments' => "#nameserver 127.0.0.1\n; nameserver 127.0.0.1\n$good"],
    ['no addresses' => "nameserver one\nnameserver 1.2.3\n"
                       . "nameserver 1.2.3.4.5\nnameserver 127.0.0.1:53\n"
                       . "nameserver [::1]\nnameserver ::g\n$good"],
    ['a scope' => "nameserver fe80::1%lo\n$good"],
    ['a long line' => 'nameserver ' . '1' x 5000 . "\n$good"],
    ['bytes of all kinds' => join('', map { chr } 0 .. 255) . "\n$good"],
);

subtest 'odd lines' => sub {
    my $dns = Bog::DNS->new(address => $server, port => 53);
    $dns->answer($name => 'NXDOMAIN');

    my @running = map {
        my ($what, $text) = @$_;

        write_file("$dir/resolv.conf", $text);

        my $bank = bank();
        [$what, $bank, gateway($bank)->start];
    } @cases;

    $dns->answer($name => ['127.0.0.1']);

    for (@running) {
        my ($what, $bank, $nginx) = @$_;

        ok($bank->wait_requests(1), "$what: found");
        is($nginx->stop, 0, "$what: stops");
        $nginx->clean_log("$what: nothing bad in the log");
    }
};


for my $case (
    ['nothing' => ''],
    ['a line' => "\n"],
    ['no name server' => "search test\noptions timeout:1\n"],
    ['none that is good' => "nameserver one\nnameserver fe80::1%lo\n"],
) {
    my ($what, $text) = @$case;

    subtest "none to ask: $what" => sub {
        write_file("$dir/resolv.conf", $text);

        my $nginx = gateway(bank())->start;

        is(get($nginx->port, '/')->{status}, 503, 'no token');
        ok($nginx->wait_log(qr/token request failed: the name could not be /),
           'and why');

        is($nginx->stop, 0, 'stops');
        $nginx->clean_log;
    };
}


done_testing;
