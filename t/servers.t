# The servers of an upstream {}: which answers send a fetch to the next one.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use Bog::Bank;
use Bog::Client 'get';
use Bog::Nginx;
use Bog::Util qw(slurp wait_until);

my $html = [body => "<html>\n", headers => [['Content-Type', 'text/html']]];


sub bank { Bog::Bank->new(credentials => { 8282 => 's3cret' }) }


sub gateway {
    my ($first, $second, $backup) = @_;

    return Bog::Nginx->new(secret => { main => "s3cret\n" }, conf => <<"END");
        upstream bank {
            server 127.0.0.1:${\ $first->port };
            server 127.0.0.1:${\ $second->port } $backup;
        }

        bog_client_id           8282;
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      http://bank$Bog::Bank::PATH;

        server {
            listen 127.0.0.1:%%PORT%%;
            log_subrequest on;

            location / {
                proxy_pass http://127.0.0.1:${\ $second->api_port };
                proxy_set_header Authorization "Bearer \$bog_bearer_token";
            }
        }
END
}


for my $case (
    map({ ["$_, JSON" => [status => $_, body => '{"error":"busy"}']] }
        429, 500, 501, 502, 503, 504, 529),
    ['503, HTML' => [status => 503, @$html]],
    ['404, HTML' => [status => 404, @$html]],
    ['HTML' => $html],
    ['HTML in chunks' => [@$html, chunked => 1]],
    ['HTML until the end' => [@$html, close_delimited => 1]],
    ['an empty body' => [body => '']],
    ['no HTTP' => [raw => "SSH-2.0\r\n"]],
    ['Content-Encoding' => [headers => [['Content-Encoding', 'gzip']]]],
) {
    my ($what, $answer) = @$case;

    subtest "$what, and a backup" => sub {
        my ($bad, $good) = (bank(), bank());
        $bad->answer(@$answer);

        my $nginx = gateway($bad, $good, 'backup')->start;

        is(get($nginx->port, '/')->{status}, 200, 'served');
        is($bad->count, 1, 'the first server was asked once');
        is($good->count, 1, 'and the backup');
        unlike($nginx->log, qr/token request failed/, 'nothing fails');

        $nginx->ends;
    };
}


for my $case (['401' => 401], ['400' => 400]) {
    my ($what, $status) = @$case;

    subtest "$what with an OAuth error does not go on" => sub {
        my ($bad, $good) = (bank(), bank());
        $bad->answer(status => $status, body => '{"error":"invalid_client"}');

        my $nginx = gateway($bad, $good, 'backup')->start;

        is(get($nginx->port, '/')->{status}, 503, 'no token');
        is($good->count, 0, 'the backup was not asked');
        like($nginx->log, qr/status $status, error "invalid_client"/, 'why');

        $nginx->ends;
    };
}


subtest 'the answer of the last server counts' => sub {
    my ($first, $second) = (bank(), bank());
    $first->answer(status => 500);
    $second->answer(status => 503, headers => [['Retry-After', 60]]);

    my $nginx = gateway($first, $second, 'backup')->start;

    ok($nginx->wait_log(qr/unexpected status 503, next try in [5-9][0-9]\./),
       'its status and its Retry-After');
    is($first->count, 1, 'the first one was asked');

    $nginx->ends;
};


subtest 'all servers say 503, again and again' => sub {
    my ($first, $second) = (bank(), bank());
    $_->answer(status => 503, headers => [['Retry-After', 1]])
        for $first, $second;

    my $nginx = gateway($first, $second, '')->start;

    ok(wait_until(sub { $first->count + $second->count >= 5 }), 'asked');
    unlike($nginx->log, qr/token request failed: could not connect/,
           'and that is what they said, though none is live');

    $nginx->ends;
};


subtest 'a 503, and nobody else is there' => sub {
    my ($first, $second) = (bank(), bank());
    $first->answer(status => 503, headers => [['Retry-After', 60]]);

    my $nginx = gateway($first, $second, 'backup');
    $second->stop;
    $nginx->start;

    ok($nginx->wait_log(qr/unexpected status 503, next try in [5-9][0-9]\./),
       'the answer counts');

    $nginx->ends;
};


# After the first fetch nginx takes the second server for dead, and asks the
# first one only.

subtest 'the reason is what went wrong last' => sub {
    my $first = bank();
    $first->answer(close => 'empty');

    my $at = '127.0.0.1:' . $first->port;
    my $nginx = Bog::Nginx->new(secret => { main => "s3cret\n" },
                                conf => <<"END");
        upstream bank {
            server $at max_fails=0;
            server unix:%%DIR%%/none backup;
        }

        bog_client_id           8282;
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      http://bank$Bog::Bank::PATH;

        server {
            listen 127.0.0.1:%%PORT%%;

            location / {
                proxy_pass http://127.0.0.1:${\ $first->api_port };
                proxy_set_header Authorization "Bearer \$bog_bearer_token";
            }
        }
END
    $nginx->start;

    my $dir = $nginx->dir;
    my @reasons;
    wait_until {
        @reasons = $nginx->log =~ /token request failed: (.*?), next try/g;
        return @reasons >= 2;
    };

    is($reasons[0], "could not connect to unix:$dir/none: connect() to "
       . "unix:$dir/none failed (2: No such file or directory)",
       'the second server was asked nothing');
    is($reasons[1], "no complete answer from $at: "
       . 'upstream prematurely closed connection',
       'not that no server is left');

    $nginx->ends;
};


subtest 'no line for a fetch in the access log' => sub {
    my $bank = bank();

    my $nginx = gateway($bank, $bank, 'backup')->start;

    is(get($nginx->port, '/')->{status}, 200, 'served');
    is($nginx->stop, 0, 'stops');
    is(scalar(() = slurp($nginx->dir . '/access.log') =~ /\n/g), 1,
       'one line, that of the request');
    $nginx->clean_log;
};


done_testing;
