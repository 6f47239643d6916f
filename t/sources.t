# Sources: what is the same is shared, what differs never mixes, and who needs
# no token never waits.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use Bog::Bank;
use Bog::Client qw(get parallel);
use Bog::Nginx;
use Bog::Util 'timeout';

my $pass = 'proxy_set_header Authorization "Bearer $bog_bearer_token";'
           . ' proxy_pass http://127.0.0.1:';


sub location {
    my ($uri, $bank, @directives) = @_;

    return "location $uri { @directives $pass${\ $bank->api_port }; }";
}


sub source {
    my ($bank, $id, $secret) = @_;

    return "bog_client_id $id; bog_client_secret_file %%SECRET_$secret%%;"
           . " bog_token_endpoint ${\ $bank->url };";
}


sub gateway {
    my ($workers, @lines) = @_;

    my $nginx = Bog::Nginx->new(
        workers => $workers,
        status  => 1,
        secret  => { one => "s3cret-1\n", two => "s3cret-2\n" },
        conf    => join("\n", 'server { listen 127.0.0.1:%%PORT%%;', @lines,
                        '}'),
    );

    return $nginx->start;
}


# Every request of the API names the client whose token it carried.

sub owners {
    my $bank = shift;

    my %seen;

    $seen{"$_->{uri} " . ($_->{client} // $_->{state})}++
        for $bank->api_requests;

    return \%seen;
}


subtest 'two clients of one bank' => sub {
    my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret-1',
                                               8383 => 's3cret-2' });
    $bank->answer(hold => 1);

    my $nginx = gateway(2,
        location('/1', $bank, source($bank, 8282, 'one')),
        location('/2', $bank, source($bank, 8383, 'two')));

    my @answers = parallel($nginx->port, 200,
        uri     => sub { $_[0] % 2 ? '/1' : '/2' },
        on_sent => sub {
            ok($bank->wait_requests(2), 'both are asked for');
            ok($nginx->wait_active(200), 'all requests are held');
            is($bank->release, 2, 'both tokens come');
        },
    );

    is(scalar(grep { $_->{status} == 200 } @answers), 200, 'all answered');
    is_deeply(owners($bank), { '/1 8282' => 100, '/2 8383' => 100 },
              'each with its own token');
    is_deeply([sort map { $_->{client} } $bank->requests], [8282, 8383],
              'one token request each');

    $nginx->ends;
};


# Twenty sources at an endpoint that hangs, configured before the one that is
# well.

subtest 'an endpoint that hangs' => sub {
    my $slow = Bog::Bank->new(verify => 0);
    $slow->answer(hold => 1);

    my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret-1' });
    $bank->answer(expires_in => 8);

    my $nginx = gateway(1,
        (map { location("/slow-$_", $slow, source($slow, "slow-$_", 'two')) }
             1 .. 20),
        location('/well', $bank, source($bank, 8282, 'one')));

    is(get($nginx->port, '/well')->{status}, 200, 'the other one has a token');
    ok($slow->wait_count(held => 8), 'eight fetches hang');
    is($slow->count, 8, 'and no more');

    # at half of its life, while they still hang
    ok($bank->wait_requests(2), 'a refresh');
    my @requests = $bank->requests;
    cmp_ok($requests[1]{time} - $requests[0]{time}, '<', 7, 'ahead of its end');
    is($slow->held, 8, 'the eight hang');

    $nginx->ends;
};


subtest 'one client of two banks' => sub {
    my @banks = map { Bog::Bank->new(credentials => { 8282 => 's3cret-1' }) }
                1 .. 2;

    my $nginx = gateway(2, map {
        location("/$_", $banks[$_ - 1], source($banks[$_ - 1], 8282, 'one'))
    } 1 .. 2);

    for my $n (1, 2) {
        is(get($nginx->port, "/$n")->{status}, 200, "bank $n");
        is($banks[$n - 1]->api_stats->{valid}, 1, 'its own token');
        is($banks[$n - 1]->count, 1, 'one token request');
    }

    $nginx->ends;
};


subtest 'one client, other parameters' => sub {
    my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret-1' });
    my $source = source($bank, 8282, 'one');

    my $nginx = gateway(2,
        location('/1', $bank, $source),
        location('/2', $bank, $source, 'bog_token_param scope corp;'));

    my @answers = map { get($nginx->port, $_) } '/1', '/2', '/1', '/2';

    is(scalar(grep { $_->{status} == 200 } @answers), 4, 'all answered');
    is($answers[0]{body}, $answers[2]{body}, 'one token');
    is($answers[1]{body}, $answers[3]{body}, 'another one');
    isnt($answers[0]{body}, $answers[1]{body}, 'are not the same');

    my %scope = map { $_->{token} => $_->{body} =~ /scope/ ? '/2' : '/1' }
                $bank->requests;

    is(scalar(keys %scope), 2, 'two token requests');
    is(scalar(grep { $_->{authorization} =~ /^Bearer (.+)/
                     && $scope{$1} eq $_->{uri} } $bank->api_requests), 4,
       'to each its scope');

    $nginx->ends;
};


subtest 'the same client in many places' => sub {
    my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret-1' });
    my $source = source($bank, 8282, 'one');

    my $nginx = gateway(2,
        location('/1', $bank, $source),
        location('/2', $bank, $source, 'bog_wait_timeout 3s;'),
        '}', 'server { listen 127.0.0.1:%%PORT_1%%;',
        $source, location('/3', $bank));

    my @answers = (get($nginx->port, '/1'), get($nginx->port, '/2'),
                   get($nginx->port(1), '/3'));

    is(scalar(grep { $_->{status} == 200 } @answers), 3, 'all answered');
    is(scalar(grep { $_->{body} eq $answers[0]{body} } @answers), 3,
       'one token');
    is($bank->count, 1, 'one token request');

    $nginx->ends;
};


subtest 'who needs no token does not wait' => sub {
    my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret-1' });
    my $api = 'http://127.0.0.1:' . $bank->api_port;
    $bank->answer(hold => 1);

    my $nginx = gateway(1,
        source($bank, 8282, 'one'), 'root %%DIR%%;',
        location('/pay', $bank),
        'location /off { bog_token off; ', "proxy_pass $api; }",
        'location /return { return 200 "[$bog_bearer_token]"; }',
        "location /deny { deny all; $pass${\ $bank->api_port }; }");

    $nginx->file('file', 'static');

    my @at_once;

    my @held = parallel($nginx->port, 20, uri => '/pay', on_sent => sub {
        ok($bank->wait_requests(1), 'the token endpoint hangs');
        ok($nginx->wait_active(20), '20 requests are held');

        @at_once = map { get($nginx->port, $_) }
                   qw(/off /return /deny/x /file);

        is($nginx->active, 20, 'they still are');
        $bank->release;
    });

    is(join(' ', map { $_->{status} } @at_once), '401 200 403 200',
       'all others are answered');
    is(scalar(grep { $_->{time} < timeout(2) } @at_once), 4, 'at once');
    is($at_once[1]{body}, '[]', 'no token yet');
    is($at_once[3]{body}, 'static', 'a file');
    is(scalar(grep { $_->{status} == 200 } @held), 20, 'then those held');

    is($bank->api_stats->{missing}, 1, 'without a token: only where it is off');
    is($bank->count, 1, 'one token request');

    $nginx->ends;
};


done_testing;
