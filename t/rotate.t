# What docs/guide.md and docs/recipes.md have done step by step, while requests go
# on: the secret is changed, a backend with a token of its own is moved, logs are
# rotated.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use Bog::Bank;
use Bog::CA;
use Bog::Client qw(get steady);
use Bog::Nginx;
use Bog::Util qw(slurp wait_until);


sub gateway {
    my ($bank, $locations, %opt) = @_;

    return Bog::Nginx->new(workers => 2, log_level => 'info', %opt,
                           conf => conf($bank, $locations))->start;
}


sub conf {
    my ($bank, $locations) = @_;

    my $api = '127.0.0.1:' . $bank->api_port;
    $locations =~ s/%%API%%/$api/g;

    return <<"END";
        log_format own '\$status \$token_of';

        map \$bog_bearer_token \$of_gateway {
            volatile;
            default  "Bearer \$bog_bearer_token";
            ""       "";
        }

        map \$http_authorization \$authorization {
            volatile;
            default  \$http_authorization;
            ""       \$of_gateway;
        }

        map \$http_authorization \$token_of {
            default  backend;
            ""       gateway;
        }

        server {
            listen 127.0.0.1:%%PORT%%;

            bog_client_id           8282;
            bog_client_secret_file  %%SECRET_main%%;
            bog_token_endpoint      ${\ $bank->url };

            location = /status {
                bog_status json;
            }

            $locations
        }
END
}


my $payments = '
            location /payments/ {
                access_log        %%DIR%%/own.log own;
                proxy_pass        http://%%API%%;
                proxy_set_header  Authorization $authorization;
            }';


sub states { get($_[0]->port, '/status')->{body} =~ /"state": "(\w+)"/g }


# A token may be bound to the certificate it was asked for with.

subtest 'a client certificate is replaced' => sub {
    my $ca = Bog::CA->shared;
    my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret' });

    my @certs = map { $ca->cert(name => $_, client => 1) } qw(first second);
    my $put = sub {
        my ($nginx, $cert) = @_;
        $nginx->file("client.$_", slurp($cert->{$_})) for qw(cert key);
    };

    my $nginx = Bog::Nginx->new(secret => { main => "s3cret\n" },
                                conf => conf($bank, "$payments
            bog_ssl_certificate      %%DIR%%/client.cert;
            bog_ssl_certificate_key  %%DIR%%/client.key;"));

    $put->($nginx, $certs[0]);
    $nginx->start;
    is(get($nginx->port, '/payments/')->{status}, 200, 'the first one');

    $nginx->reload(wait_old => 1);
    is(get($nginx->port, '/payments/')->{status}, 200, 'it is the same');
    is($bank->count, 1, 'as before: one token request');

    $put->($nginx, $certs[1]);
    $bank->revoke($_->{token}) for $bank->tokens;
    $nginx->reload(wait_old => 1);

    my @answers = map { get($nginx->port, '/payments/')->{status} } 1 .. 34;
    is(scalar(grep { $_ == 401 } @answers), 0,
       'no request has the token of the first one');
    is($bank->count, 2, 'another token is asked for');

    $nginx->stop;
    $nginx->clean_log;
};


subtest 'a secret is changed' => sub {
    my $bank = Bog::Bank->new(credentials => { 8282 => ['old-s3cret',
                                                        'new-s3cret'] });
    my $nginx = gateway($bank, $payments,
                        secret => { main => "old-s3cret\n" });

    my $load = steady($nginx->port, rate => 100, seconds => 8,
                      uri => '/payments/');

    ok(wait_until { join(' ', states($nginx)) eq 'valid' }, 'the old secret');

    # beside it, and a location that nobody may use
    $nginx->secret(new => "new-s3cret\n");
    $nginx->conf(conf($bank, "$payments
            location = /new-secret {
                deny                    all;
                bog_client_secret_file  %%SECRET_new%%;
                proxy_pass              http://%%API%%;
            }"));
    $nginx->reload;

    ok(wait_until { join(' ', sort(states($nginx))) eq 'valid valid' },
       'a token for both');
    is($bank->count, 2, 'two token requests');
    is(get($nginx->port, '/new-secret')->{status}, 403, 'it is not to be used');

    # it takes over
    my $new = ($bank->tokens)[-1]{token};
    my $before = $bank->counts->{api};

    rename $nginx->dir . '/secret/new', $nginx->dir . '/secret/main'
        or die "rename: $!\n";
    $nginx->conf(conf($bank, $payments));
    $nginx->reload(wait_old => 1);

    is(join(' ', states($nginx)), 'valid', 'one source is left');
    is($bank->count, 2, 'no token request for it');

    my $sent = $bank->counts->{api};
    ok($bank->wait_count(api => $sent + 20), 'requests go on');

    my @last = ($bank->api_requests)[$sent .. $sent + 19];
    is(scalar(grep { $_->{authorization} eq "Bearer $new" } @last), 20,
       'with the token of the new secret');

    my $result = $load->result;

    is_deeply($result->{status}, { 200 => 800 }, 'no request was lost')
        or diag explain $result->{failures};
    is_deeply($result->{errors}, {}, 'nor a connection');
    is($bank->api_stats->{valid}, 800, 'each had a good token');
    is($nginx->log =~ /\[info\].*no token for/ ? 1 : 0, 0, 'none waited in vain');

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
};


subtest 'a new secret that is wrong' => sub {
    my $bank = Bog::Bank->new(credentials => { 8282 => 'old-s3cret' });
    my $nginx = gateway($bank, "$payments
            location = /new-secret {
                deny                    all;
                bog_client_secret_file  %%SECRET_new%%;
                proxy_pass              http://%%API%%;
            }", secret => { main => "old-s3cret\n", new => "wrong-s3cret\n" });

    ok($nginx->wait_log(qr/the credentials were rejected/), 'it is rejected');
    ok(wait_until { join(' ', sort(states($nginx))) eq 'missing valid' },
       'the old one works');
    is(get($nginx->port, '/payments/')->{status}, 200, 'and so do requests');

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
};


subtest 'a backend with a token of its own' => sub {
    my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret-1' });
    $bank->answer(hold => 1);

    my $nginx = gateway($bank, $payments =~ s/\{/{
                bog_token         optional;
                bog_wait_timeout  1s;/r, secret => { main => "s3cret-1\n" });

    $bank->issue('backend-token', 300);

    my @own = (headers => [['Authorization' => 'Bearer backend-token']]);
    my $ask = sub { get($nginx->port, '/payments/', @_)->{status} };

    ok($bank->wait_requests(1), 'nginx has no token yet');
    is($ask->(@own), 200, 'the backend has');
    is($bank->release, 1, 'now both have one');
    ok(wait_until { join(' ', states($nginx)) eq 'valid' }, 'nginx knows');

    is($ask->(@own), 200, 'its own token');
    is($ask->(), 200, "nginx's token");

    is_deeply([map { $_->{authorization} } $bank->api_requests],
              ['Bearer backend-token', 'Bearer backend-token',
               'Bearer ' . ($bank->tokens)[-1]{token}],
              'each has the one that it should');

    # the backend forgets to refresh its own
    ok($bank->revoke('backend-token'), 'its token ends');
    is($ask->(@own), 401, 'the API says so');
    is($ask->(), 200, 'to it alone');
    is($bank->count, 1, 'no token of nginx was dropped for it');

    my @lines = qw(200-backend 200-backend 200-gateway 401-backend 200-gateway);
    my $log = join '', map { tr/-/ /r . "\n" } @lines;

    ok(wait_until { slurp($nginx->dir . '/own.log') eq $log },
       'the log tells whose token it was');

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
};


subtest 'logs are rotated' => sub {
    my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret-1' });
    my $nginx = gateway($bank, $payments, secret => { main => "s3cret-1\n" });
    my $log = $nginx->dir . '/own.log';

    is(get($nginx->port, '/payments/')->{status}, 200, 'a request');
    ok(wait_until { slurp($log) eq "200 gateway\n" }, 'in the log');

    # as logrotate does it
    rename $log, "$log.1" or die "rename: $!\n";
    $nginx->signal('USR1');

    ok(wait_until { -e $log }, 'a new log');
    ok(wait_until { get($nginx->port, '/payments/')->{status} == 200
                    && slurp($log) =~ /^200 gateway\n/ }, 'requests are in it');
    is($bank->count, 1, 'the token is the same');

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
};


done_testing;
