# Reload: the same source keeps its token, another one never sees it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Uncompress::Gunzip 'gunzip';
use Test::More;

use Bog::Bank;
use Bog::Client qw(get parallel steady header);
use Bog::Nginx;
use Bog::Util qw(now pass_time wait_until);


sub bank {
    return Bog::Bank->new(credentials => { 8282 => ['s3cret', 'changed'],
                                           8383 => 's3cret' }, @_);
}


sub conf {
    my ($bank, %opt) = @_;

    my $id = $opt{id} // 8282;
    my $url = $opt{url} // $bank->url;
    my $more = $opt{more} // '';

    return <<"END";
        bog_client_id           $id;
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      $url;
        bog_wait_timeout        60s;
        bog_read_timeout        60s;
        $more

        server {
            listen 127.0.0.1:%%PORT%%;

            location / {
                proxy_pass http://127.0.0.1:${\ $bank->api_port };
                proxy_set_header Authorization "Bearer \$bog_bearer_token";
            }
        }
END
}


sub gateway {
    my ($bank, %opt) = @_;

    my $nginx = Bog::Nginx->new(
        workers => 2, status => 1, %opt,
        secret => { main => "s3cret\n" }, conf => conf($bank));

    return $nginx->start;
}


subtest 'nothing has changed' => sub {
    my $bank = bank();
    my $nginx = gateway($bank);

    my $token = get($nginx->port, '/')->{body};

    # the second reload tells a copy from a copy of a copy
    for (1, 2) {
        $nginx->reload(wait_old => 1);

        my @answers = parallel($nginx->port, 20);
        is(scalar(grep { $_->{body} eq $token } @answers), 20, 'same token');
    }

    is($bank->count, 1, 'one token request');

    $nginx->ends;
};


subtest 'what is not part of the source has changed' => sub {
    my $bank = bank();
    my $nginx = gateway($bank);

    my $token = get($nginx->port, '/')->{body};

    $nginx->conf(conf($bank, more => 'bog_token optional;')
                 =~ s/60s/50s/gr);
    $nginx->reload(wait_old => 1);

    is(get($nginx->port, '/')->{body}, $token, 'same token');
    is($bank->count, 1, 'one token request');

    $nginx->ends;
};


# What makes another source, and how one changes it.

my %other = (
    secret    => sub { $_[0]->secret(main => "changed\n") },
    id        => sub { $_[0]->conf(conf($_[1], id => 8383)) },
    parameter => sub { $_[0]->conf(conf($_[1],
                                        more => 'bog_token_param a b;')) },
    endpoint  => sub { $_[0]->conf(conf($_[1],
                                        url => $_[1]->url('ipv6'))) },
);

for my $what (sort keys %other) {
    subtest "another $what" => sub {
        my $bank = eval { bank(ipv6 => $what eq 'endpoint') }
            or plan skip_all => 'no IPv6';

        my $nginx = gateway($bank);

        my $old = get($nginx->port, '/')->{body};
        like($old, qr/Bearer tok/, 'the old token');

        $bank->answer(hold => 1);
        $other{$what}->($nginx, $bank);
        $nginx->reload;

        my @answers = parallel($nginx->port, 20, on_sent => sub {
            ok($bank->wait_requests(2), 'a token request');
            ok($nginx->wait_active(20), 'everybody waits for it');
            is($bank->release, 1, 'it is answered');
        });

        my ($new) = map { $_->{token} } reverse $bank->requests;

        is(scalar(grep { $_->{body} eq qq({"authorization":"Bearer $new"}) }
                  @answers), 20, 'the new token only');
        is($bank->count, 2, 'two token requests');

        $nginx->ends;
    };
}


subtest 'another secret under load' => sub {
    my $bank = bank();
    my $nginx = gateway($bank);

    is(get($nginx->port, '/')->{status}, 200, 'the old token');
    my ($old) = map { $_->{token} } $bank->tokens;

    my $load = steady($nginx->port, rate => 100, seconds => 4);
    ok($bank->wait_count(api => 100), 'load');

    $nginx->secret(main => "changed\n");
    $nginx->reload(wait_old => 1);

    my $before = $bank->counts->{api};
    my $result = $load->result;

    is_deeply($result->{status}, { 200 => 400 }, 'only 200')
        or diag explain $result->{failures};

    my @after = ($bank->api_requests)[$before .. $bank->counts->{api} - 1];
    cmp_ok(scalar @after, '>=', 50, 'requests after the reload');
    is(scalar(grep { $_->{authorization} eq "Bearer $old" } @after), 0,
       'none of them with the old token');
    is($bank->count, 2, 'two token requests');

    $nginx->ends;
};


subtest 'the old worker finishes what it holds' => sub {
    my $bank = bank();
    $bank->answer(hold => 1);

    my $nginx = gateway($bank);
    my @old = $nginx->workers;

    my @answers = parallel($nginx->port, 20, on_sent => sub {
        ok($bank->wait_requests(1), 'a token request');
        ok($nginx->wait_active(20), 'everybody waits for it');

        $nginx->reload;
        is($nginx->active, 20, 'they still do');

        $bank->answer;
        cmp_ok($bank->release, '>=', 1, 'it is answered');
    });

    is(scalar(grep { ($_->{status} // 0) == 200 } @answers), 20,
       'all are answered');
    ok(wait_until { !grep { -d "/proc/$_/fd" } @old }, 'old workers leave');

    is(get($nginx->port, '/')->{status}, 200, 'the new ones serve');
    cmp_ok($bank->count, '<=', 2, 'one token request, or one more');

    $nginx->ends;
};


subtest 'a reload that fails' => sub {
    my $bank = bank();
    my $nginx = gateway($bank);

    my $token = get($nginx->port, '/')->{body};

    unlink $nginx->dir . '/secret/main';
    ok(!eval { $nginx->reload; 1 }, 'the secret is missing');
    like($@, qr{secret/main}, 'the log names the file');

    is(get($nginx->port, '/')->{body}, $token, 'the token is still there');
    is($bank->count, 1, 'one token request');

    $nginx->ends(except => qr{\[emerg\].*secret/main});
};


# A worker that takes the place of another has what the master has at that time,
# of a configuration that failed as well: filters of all modules, and ours.

my %failing = (
    'in the module' => sub {
        conf($_[0], more => 'bog_ssl_trusted_certificate /nonexistent;')
            =~ s{http://(?=\S+/token)}{https://}r
    },
    'after it, without a source' => sub {
        'log_format bad $nothing;'
            . conf($_[0]) =~ s/bog_\w+\s[^;]*;|proxy_set_header.*//gr
    },
);

for my $where (sort keys %failing) {
    subtest "a reload that fails $where, then a worker" => sub {
        my $bank = bank();
        my $nginx = gateway($bank, files => { 'html/a' => 'a' x 100 });

        my $static = 'location /a { root %%DIR%%/html; gzip on;
                                    gzip_types *; gzip_min_length 1; }';
        $nginx->conf(conf($bank) =~ s/(?=location)/$static/r);
        $nginx->reload(wait_old => 1);

        my $token = get($nginx->port, '/')->{body};

        # the second one finds what the first one has left
        for (1, 2) {
            $nginx->conf($failing{$where}->($bank));
            ok(!eval { $nginx->reload; 1 }, 'it fails');
        }

        $nginx->kill_worker($_) for $nginx->workers;

        my $answer = get($nginx->port, '/a');
        is($answer->{body}, 'a' x 100, 'a file');

        my @same = ['If-None-Match', header($answer, 'ETag')];
        is(get($nginx->port, '/a', headers => \@same)->{status}, 304,
           'that has not changed');

        my @gzip = ['Accept-Encoding', 'gzip'];
        my $zipped = get($nginx->port, '/a', headers => \@gzip)->{body};
        gunzip(\$zipped, \my $text);
        is($text, 'a' x 100, 'compressed');

        ok($bank->revoke(($bank->tokens)[-1]{token}), 'the bank ends a token');
        is(get($nginx->port, '/')->{status}, 401, 'the API rejects it');

        $answer = get($nginx->port, '/');
        is($answer->{status}, 200, 'that is seen');
        isnt($answer->{body}, $token, 'another one');

        $nginx->ends(except => qr{nothing"|/nonexistent|on signal 9});
    };
}


subtest 'a source that goes and comes back' => sub {
    my $bank = bank();
    my $nginx = gateway($bank);

    is(get($nginx->port, '/')->{status}, 200, 'a token');

    $nginx->conf(conf($bank) =~ s/bog_\w+\s[^;]*;|proxy_set_header.*//gr);
    $nginx->reload(wait_old => 1);
    is(get($nginx->port, '/')->{status}, 401, 'no module');

    $nginx->conf(conf($bank));
    $nginx->reload(wait_old => 1);
    is(get($nginx->port, '/')->{status}, 200, 'a token again');
    is($bank->count, 2, 'a new one');

    $nginx->ends;
};


# Who reloads has often mended something: he does not wait for the backoff.

subtest 'after a rejection' => sub {
    my $bank = bank();
    $bank->answer(status => 401, body => '{"error":"invalid_client"}');

    my $nginx = gateway($bank);

    ok($nginx->wait_log(qr/credentials were rejected, status 401/), 'said');
    is($bank->count, 1, 'one token request, the next is seconds away');

    $bank->answer();
    $nginx->reload;

    is(get($nginx->port, '/')->{status}, 200, 'a token');
    is($bank->count, 2, 'by one more request');
    ok($nginx->wait_log(qr/token obtained again/), 'that is said too');

    $nginx->ends;
};


# Who reloads again and again has not mended anything, and the bank's own wish
# outlives a reload.

subtest 'reloads that follow each other' => sub {
    my $wish = [['Retry-After' => 300]];

    my @cases = (401, '429 with Retry-After', '401 with Retry-After');

    my @running = map {
        my $bank = bank();
        $bank->answer(status => (split)[0], body => '',
                      headers => /with/ ? $wish : []);

        my $nginx = gateway($bank);
        ok($nginx->wait_log(qr/token request failed/), "$_: fails");

        [$_, $bank, $nginx];
    } @cases;

    my $start = now();

    for (1 .. 20) {
        pass_time(1);
        $_->[2]->reload for @running;
    }

    for (@running) {
        my ($name, $bank, $nginx) = @$_;

        my @times = map { $_->{time} } $bank->requests;
        my $most = $name =~ /with/ ? 1 : 2 + (now() - $start) / 5;
        cmp_ok(scalar @times, '<=', $most, "$name: token requests");

        # the first reload is followed at once
        my ($gap) = sort { $a <=> $b }
                    map { $times[$_] - $times[$_ - 1] } 2 .. $#times;
        cmp_ok($gap // 5, '>=', 4.5, 'five seconds apart');

        $nginx->ends;
    }
};


subtest 'the API rejects the token of a request in an old worker' => sub {
    my $bank = bank();
    my $nginx = gateway($bank);

    $bank->wait_count(answered => 1);
    $bank->api_answer(status => 401, body => '{}', delay => 1.5);

    my ($answer) = parallel($nginx->port, 1,
        uri     => sub { '/' },
        on_sent => sub {
            ok($bank->wait_count(api => 1), 'a request is under way');
            $nginx->reload;
        });

    is($answer->{status}, 401, 'its answer comes after the reload');
    ok($bank->wait_count(answered => 2, 5),
       'another token comes, with no request that asks for it');

    $nginx->ends;
};


done_testing;
