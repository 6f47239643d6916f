# What the access log says of a request's token, which nginx writes when it has
# run the request's cleanups, and that no copy of a token is left behind.  The
# formats of docs/examples say it, whatever a client sends.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA 'sha256_hex';
use IO::Socket::INET;
use JSON::PP ();
use Test::More;

use Bog::Bank;
use Bog::Client qw(get parallel);
use Bog::Nginx;
use Bog::Util qw(now slurp wait_until);

my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret' });

my $nginx = Bog::Nginx->new(secret => { main => 's3cret' }, conf => <<"END");
    log_format bog '\$uri \$status \$bog_token_state \$bog_token_id '
                   '\$bog_hold_time';

    server {
        listen 127.0.0.1:%%PORT%%;

        bog_client_id           8282;
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      ${\ $bank->url };
        access_log              %%DIR%%/bog.log bog;

        proxy_set_header  Authorization "Bearer \$bog_bearer_token";

        location / {
            proxy_pass http://127.0.0.1:${\ $bank->api_port };
        }

        location /redirected {
            error_page 404 = /after;
            return 404;
        }
    }
END


# The copies of tokens that the worker has: a mapping of its own each, left out
# of core dumps.

sub copies {
    my ($pid) = $nginx->workers;
    my ($n, $kb) = (0, 0);

    for (split /\n/, slurp("/proc/$pid/smaps")) {
        $kb = $1 if /^Size: +([0-9]+) kB/;
        $n += $kb if /^VmFlags:.* dd( |$)/ && !/ sh /;
    }

    return $n;
}


sub logged {
    my $n = shift;

    ok(wait_until(sub { (() = slurp($nginx->{dir} . '/bog.log') =~ /\n/g)
                        >= $n }), "$n lines are logged");

    return slurp($nginx->{dir} . '/bog.log');
}


$nginx->start;
ok($bank->wait_requests(1), 'a token request');
ok($nginx->wait_log(qr/token obtained/), 'a token');

is(get($nginx->port, '/quick')->{status}, 200, 'quick');

$bank->api_answer(delay => 0.5);
is(get($nginx->port, '/slow')->{status}, 200, 'slow');

$bank->api_answer();
is(get($nginx->port, '/redirected')->{status}, 200, 'redirected');

my ($token) = map { $_->{token} } $bank->tokens;
my $id = substr sha256_hex($token), 0, 16;

is(logged(3), join('', map { "$_ 200 valid $id 0.000\n" }
                       qw(/quick /slow /after)), 'the log');

is($nginx->stop, 0, 'stops');
$nginx->clean_log;


subtest 'no copy is left behind' => sub {
    plan skip_all => 'no smaps' unless -r '/proc/self/smaps';

    $bank->answer(expires_in => 2);
    $nginx->start;

    my $first = $bank->count;
    my $before;

    # requests in the last third of a token's life end in that of the next one
    $bank->api_answer(delay => 0.7);

    for my $n (1 .. 4) {
        ok($bank->wait_requests($first + $n), "token $n");
        parallel($nginx->port, 20);
        $before //= copies();
    }

    $bank->api_answer();
    is(get($nginx->port, '/')->{status}, 200, 'none is in use any more');

    cmp_ok(copies(), '<=', $before + 24, 'one more at the most');

    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
};


# The formats of docs/examples/log_format.conf.

my @fields = qw(remote_addr request status body_bytes_sent http_user_agent
                upstream_status client_id source token_state token_id
                hold_time token_error token_expires time request_time);

sub formats {
    my $file = slurp("$FindBin::Bin/../docs/examples/log_format.conf");

    my %format = $file =~ /^(log_format\s+(\w+)\s.*?';)$/gms;

    return { reverse %format };
}


# What has no value is an empty string in JSON.

sub of_json { JSON::PP->new->decode($_[0]) }


# The same of a line of text.

sub of_text {
    my $line = shift;

    my $quoted = qr/"([^"]*)"/;
    my %found;

    @found{qw(remote_addr time request status body_bytes_sent http_user_agent
              request_time upstream_status client_id source token_state
              token_id token_expires hold_time token_error)} =
        $line =~ /\A(\S+)\ \[([^]]+)\]\ $quoted\ (\d{3})\ (\d+)\ $quoted
                  \ time=(\S+)\ upstream=$quoted\ client=$quoted
                  \ source=$quoted\ token=(\S+)\ id=(\S+)\ expires=(\S+)
                  \ held=(\S+)\ error=(\S+)\z/x
        or return { line => $line };

    for (values %found) {
        $_ = '' if $_ eq '-';
        s/\\x([0-9A-F]{2})/chr hex $1/ge;
    }

    return \%found;
}


# The values that are the same each time, and what is wrong with the others.

sub values_of {
    my ($line, $lifetime, $took) = @_;

    my ($left, $time, $seconds) = @$line{qw(token_expires time request_time)};
    my @wrong;

    push @wrong, "token_expires $left"
        if $line->{token_id} eq '' ? $left ne ''
         : $left > $lifetime || $left < int($lifetime - $took - 1);

    push @wrong, "time $time"
        if $time !~ m{\A(?:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d
                       |\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d\ [+-]\d{4})\z}x;

    push @wrong, "request_time $seconds"
        if $seconds !~ /\A\d+(?:\.\d+)?\z/ || $seconds > $took + 1;

    return [(map { $_ // 'none' } @$line{@fields[0 .. 11]}), @wrong,
            grep { !exists $line->{$_} } @fields];
}


subtest 'the formats of docs/examples' => sub {
    my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret' });
    $bank->answer(expires_in => 3000);

    my $formats = formats();
    is_deeply([sort keys %$formats], ['bank', 'bank_json'], 'there are two');

    my $start = now();
    my $nginx = Bog::Nginx->new(secret => { main => 's3cret' },
                                conf => <<"END")->start;
        ${\ join "\n", values %$formats }

        server {
            listen      127.0.0.1:%%PORT%%;
            access_log  %%DIR%%/bank.log bank;
            access_log  %%DIR%%/bank.json bank_json;

            bog_client_id           8282;
            bog_client_secret_file  %%SECRET_main%%;
            bog_token_endpoint      ${\ $bank->url };

            proxy_set_header  Authorization "Bearer \$bog_bearer_token";

            location / {
                proxy_pass http://127.0.0.1:${\ $bank->api_port };
            }

            location = /off {
                bog_token off;
                return 204;
            }

            location = /rejected {
                bog_client_id     8283;
                bog_wait_timeout  0;
                proxy_pass http://127.0.0.1:${\ $bank->api_port };
            }
        }
END
    ok($nginx->wait_log(qr/token obtained/), 'a token');
    ok($nginx->wait_log(qr/the credentials were rejected/), 'and none');

    my $uri = qq{/a"b\\c'd{\$e},"status":"999"};
    my $agent = qq{"\\",x="y'\t\x01\x7f\xc3\xa9\xff\\x22 "};
    my $asks = sub {
        my ($uri, $agent) = @_;
        my $answer = get($nginx->port, $uri,
                         headers => [['User-Agent' => $agent]]);
        return ($answer->{status}, length $answer->{body});
    };

    my @pay = $asks->('/pay', 'shop/1');
    my @off = $asks->('/off', 'shop/1');
    my @rejected = $asks->('/rejected', 'shop/1');
    my @hostile = $asks->($uri, $agent);

    is("$pay[0] $off[0] $rejected[0] $hostile[0]", '200 204 503 200',
       'four requests');

    my $fh = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                   PeerPort => $nginx->port) // die "$@\n";
    print {$fh} qq{"\x02\xff\\\r\n\r\n};
    like(scalar <$fh>, qr/ 400 Bad Request\r\n\z/, 'and what is none');

    my ($token) = map { $_->{token} } $bank->tokens;
    my $id = substr sha256_hex($token), 0, 16;
    my $at = '127.0.0.1:' . $bank->port;
    my $took = now() - $start;

    my @seen = (
        ['127.0.0.1', 'GET /pay HTTP/1.1', @pay, 'shop/1', 200,
         8282, "8282\@$at", 'valid', $id, '0.000', ''],
        ['127.0.0.1', 'GET /off HTTP/1.1', @off, 'shop/1', '',
         '', '', 'off', '', '0.000', ''],
        ['127.0.0.1', 'GET /rejected HTTP/1.1', @rejected, 'shop/1', '',
         8283, "8283\@$at", 'missing', '', '0.000', 'rejected'],
        ['127.0.0.1', "GET $uri HTTP/1.1", @hostile, $agent =~ s/\s+\z//r, 200,
         8282, "8282\@$at", 'valid', $id, '0.000', ''],
    );

    for my $case ([bank => 'log', \&of_text],
                  [bank_json => 'json', \&of_json])
    {
        my ($name, $ending, $parse) = @$case;

        my $log = wait_until {
            my $text = slurp("$nginx->{dir}/bank.$ending");
            return $text =~ tr/\n// == 5 && $text;
        };

        my @lines = map { $parse->($_) } split /\n/, $log;

        # a number in JSON has lost its zeroes
        $_->{hold_time} = sprintf '%.3f', $_->{hold_time} for @lines;

        my $bad = pop @lines;

        is_deeply([map { values_of($_, 3000, $took) } @lines], \@seen, $name)
            or diag $log;
        is_deeply([@$bad{qw(status upstream_status client_id token_state
                            hold_time)}],
                  [400, '', 8282, 'valid', '0.000'], 'and what is none');
    }

    $nginx->ends;
};


done_testing;
