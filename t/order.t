# Many sources and few fetches at once: one that a request waits for is next.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use Bog::Bank;
use Bog::Client 'parallel';
use Bog::Nginx;
use Bog::Util 'timeout';


my $sources = 40;

my $bank = Bog::Bank->new(
    credentials => { map { ("client$_" => 's3cret') } 1 .. $sources });
$bank->answer(hold => 1);

my $locations = join "\n", map { <<"END" } 1 .. $sources;
    location /$_/ {
        bog_client_id client$_;
        proxy_pass http://127.0.0.1:${\ $bank->api_port };
        proxy_set_header Authorization "Bearer \$bog_bearer_token";
    }
END

my $nginx = Bog::Nginx->new(secret => { main => "s3cret\n" }, conf => <<"END");
    bog_client_secret_file  %%SECRET_main%%;
    bog_token_endpoint      ${\ $bank->url };

    server {
        listen 127.0.0.1:%%PORT%%;
        $locations
    }
END

$nginx->start;
$bank->wait_count(held => 8);

my @answers = parallel($nginx->port, 2,
    uri     => sub { $_[0] ? '/35/' : '/40/' },
    on_sent => sub {
        # nothing tells from outside that a request is held
        select undef, undef, undef, timeout(0.3);

        $bank->answer(expires_in => 300);
        $bank->release;
    });

is_deeply([map { $_->{status} } @answers], [200, 200], 'both got a token');

my @order = map { $_->{client} } $bank->requests;

# those that begin together may arrive in any order
my %second = map { $_ => 1 } @order[8 .. 15];

ok($second{client35} && $second{client40}, 'theirs were fetched first');

$bank->wait_requests($sources);
is($bank->count, $sources, 'then all others');

$nginx->stop;

done_testing();
