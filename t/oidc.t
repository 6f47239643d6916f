# Against a real OAuth server, npm's oidc-provider, over HTTPS: whether a token
# is good is what the server says of it when the API asks.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use File::Copy 'copy';
use IPC::Open3;
use JSON::PP;
use Test::More;

use Bog::CA;
use Bog::Client qw(get steady header);
use Bog::Nginx;
use Bog::Util qw(free_port timeout wait_until slurp);

my $modules = "$FindBin::Bin/../build/npm";
my $ttl = 3;

# what form-encoding changes
my ($id, $secret) = ('shop', 'a+b/c=d%20 e&f:g');

unless (-d "$modules/node_modules") {
    my $reason = 'oidc-provider is not installed: util/deps.sh npm';

    die "$reason\n" if ($ENV{CI} // '') eq 'true';
    plan skip_all => $reason;
}

my $ca = Bog::CA->shared;
my ($token_port, $api_port) = free_port(2);
my $server = start_server();

my $nginx = Bog::Nginx->new(
    workers => 2,
    secret  => { right => $secret, wrong => 'not that' },
    conf    => <<"END",
    server {
        listen 127.0.0.1:%%PORT%%;

        bog_client_id                $id;
        bog_client_secret_file       %%SECRET_right%%;
        bog_client_auth              basic_urlencoded;
        bog_token_endpoint           https://127.0.0.1:$token_port/token;
        bog_ssl_name                 localhost;
        bog_ssl_trusted_certificate  @{[ $ca->path ]};

        proxy_set_header Authorization "Bearer \$bog_bearer_token";

        location / {
            proxy_pass http://127.0.0.1:$api_port;
        }

        location /raw {
            bog_client_auth  basic;
            proxy_pass       http://127.0.0.1:$api_port;
        }

        location /wrong {
            bog_client_secret_file  %%SECRET_wrong%%;
            proxy_pass              http://127.0.0.1:$api_port;
            add_header              X-Error \$bog_token_error always;
        }
    }
END
);

$nginx->start;

subtest 'a token' => sub {
    my $answer = get($nginx->port, '/');

    is($answer->{status}, 200, 'the API takes it');
    is(decode_json($answer->{body})->{token}{client_id}, $id,
       'the server knows whose it is');
};

subtest 'three lifetimes' => sub {
    my $before = counts();

    my $result = steady($nginx->port, rate => 20, seconds => 3 * $ttl)->result;

    is_deeply($result->{status}, { 200 => $result->{sent} },
              'no request with a token that is not active')
        or diag explain $result->{failures};
    is_deeply($result->{errors}, {}, 'an answer to every request');

    my $granted = counts()->{granted} - $before->{granted};

    # a refresh is due after half of the lifetime, or a little earlier
    cmp_ok($granted, '>=', 3, "tokens: $granted, enough");
    cmp_ok($granted, '<=', 8, 'and not one too many');
};

for my $case (['/wrong', 'a wrong secret'],
              ['/raw', 'a secret that is not form-encoded']) {
    my ($uri, $name) = @$case;

    my $answer = get($nginx->port, $uri);

    is($answer->{status}, 503, $name);
    is(header($answer, 'X-Error'), 'rejected', "$name: rejected")
        if $uri eq '/wrong';
}

ok((grep { /\[error\]/ && /"$id"/ && /invalid_client/ } split /\n/, $nginx->log),
   'the log names the client and what the server said');

$nginx->stop;
$nginx->clean_log;

done_testing;


sub start_server {
    copy("$FindBin::Bin/npm/server.mjs", $modules) or die "copy: $!\n";

    my $cert = $ca->cert(name => 'localhost');
    my $log = "$modules/server.log";

    local %ENV = (
        %ENV,
        CA            => $ca->path,
        CERT          => $cert->{cert},
        KEY           => $cert->{key},
        CLIENT_ID     => $id,
        CLIENT_SECRET => $secret,
        TTL           => $ttl,
    );

    open my $stderr, '>', $log or die "open $log: $!\n";

    # it ends when its input does, and that is when we do
    my $pid = open3(my $stdin, my $stdout, '>&' . fileno $stderr,
                    'node', "$modules/server.mjs", $token_port, $api_port);

    local $SIG{ALRM} = sub { die "no OAuth server in time\n" };
    alarm timeout(60);
    my $line = <$stdout>;
    alarm 0;

    die "no OAuth server:\n" . slurp($log) unless defined $line;

    return { pid => $pid, stdin => $stdin };
}


sub counts {
    return decode_json(get($api_port, '/counts')->{body});
}


END {
    if ($server) {
        my $status = $?;
        close $server->{stdin};
        waitpid $server->{pid}, 0;
        $? = $status;
    }
}
