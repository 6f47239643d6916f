# The status page in a real browser: what it says, what it looks like, and that
# it needs nothing else.  Pictures of it go to build/artefacts.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use File::Path 'make_path';
use Test::More;

use Bog::Bank;
use Bog::Browser;
use Bog::Client 'get';
use Bog::Leak;
use Bog::Nginx;
use Bog::Util qw(slurp wait_until);

my $pictures = "$FindBin::Bin/../build/artefacts";

unless (Bog::Browser::binary()) {
    my $reason = 'Chromium is not installed: util/deps.sh test';

    die "$reason\n" if ($ENV{CI} // '') eq 'true';
    plan skip_all => $reason;
}

my $secret = 's3cret-of-all';

# as long as it may be, and nothing in it where a line could end
my $long = 'a' x 254 . '&<';

my %id = (valid => 8282, failing => 8383, rejected => $long);
my %bank = map { $_ => Bog::Bank->new } keys %id;

$bank{valid}->answer(expires_in => 3000);
$bank{failing}->queue({ expires_in => 60 });
$bank{failing}->answer(status => 503, headers => [['Retry-After' => 300]],
                       body => '');
$bank{rejected}->answer(status => 401,
                        body => '{"error":"invalid_<b>client</b>"}');

my $nginx = gateway();
my $browser = Bog::Browser->new;

ok($bank{failing}->wait_requests(2, 60), 'a refresh has failed');
ok($bank{rejected}->wait_requests(1), 'credentials were rejected');
ok(wait_until { status() =~ /cannot|without/ && status() =~ /503/ },
   'and nginx knows');

for my $look (['light', 1200, 0], ['dark', 1200, 1],
              ['phone-light', 390, 0], ['phone-dark', 390, 1]) {
    subtest $look->[0] => \&looks, @$look;
}

subtest 'it stays fresh' => \&stays_fresh;

my $pid = $browser->{pid};
$browser->stop;
ok(!kill(0 => -$pid), 'the browser has ended');

is($nginx->stop, 0, 'nginx stops');
$nginx->clean_log;

done_testing;


sub gateway {
    my $nginx = Bog::Nginx->new(
        workers => 2,
        secret  => { main => "$secret\n" },
        conf    => join("\n", 'server {',
            'listen 127.0.0.1:%%PORT%%;',
            'bog_client_secret_file %%SECRET_main%%;',
            'location = /status { bog_token off; bog_status; }',
            (map { location($_) } sort keys %id), '}'),
    );

    return $nginx->start;
}


sub location {
    my $name = shift;

    return <<"END";
        location /$name {
            bog_client_id       $id{$name};
            bog_token_endpoint  ${\ $bank{$name}->url };
            proxy_pass          http://127.0.0.1:${\ $bank{$name}->api_port };
            proxy_set_header    Authorization "Bearer \$bog_bearer_token";
        }
END
}


sub url { 'http://127.0.0.1:' . $nginx->port . '/status' }

sub status { get($nginx->port, '/status?format=html')->{body} }


# As a browser asks for it, with no word of a format.

sub looks {
    my ($name, $width, $dark) = @_;

    my $page = $browser->load(url(), width => $width, dark => $dark,
                              mobile => $width < 600);

    # it is to hold still while it is looked at
    $page->evaluate('window.stop()');

    says($page);
    keeps_to_itself($page);
    is_legible($page, $dark);
    fits($page, $width);
    is_pictured($page, $name, $width);

    $page->close;
}


sub says {
    my $page = shift;

    is($page->evaluate('document.title'), "\x{2715} 1 of 3 without a token",
       'its title');
    is($page->evaluate('document.querySelector("h1").innerText'),
       "\x{2715} 1 of 3 without a token", 'its headline');

    my @sources = @{ $page->evaluate('[...document.querySelectorAll("section")]'
        . '.map(s => [s.querySelector("h2"), s.querySelector(".state")]'
        . '.map(e => e.innerText))') };

    is(scalar(@sources), 3, 'three sources, the worst first');

    my $span = '\d+ (?:s|min \d+ s)';
    my $next = "(?:next token request in $span|a token request is under way)";

    my @expected = (
        [$long, qr/^\x{2715}\ No\ token:\ the\ credentials\ were\ rejected,
                   \ status\ 401,\ error\ invalid_<b>client<\/b>;\ (?-x:$next)$/x],
        [8383, qr/^! Valid for $span, refreshes fail: unexpected status 503; $next$/],
        [8282, qr/^\x{2713} Valid for $span; $next$/],
    );

    for my $i (0 .. $#expected) {
        my ($id, $state) = @{ $expected[$i] };

        like($sources[$i][0], qr/^\Q$id\E\@127\.0\.0\.1/, 'its name');
        like($sources[$i][1], $state, 'its state');
    }
}


sub keeps_to_itself {
    my $page = shift;

    my %asked = map { $_ => 1 } @{ $page->{requests} };
    delete @asked{url(), 'data:,'};

    is_deeply([keys %asked], [], 'it asks for nothing but itself');
    is_deeply($page->{console}, [], 'no message on the console');
    is_deeply($page->{errors}, [], 'no error in a script');

    my $leak = Bog::Leak->new;
    $leak->secret($secret, values %id);
    $leak->text('a token', $_->{token}) for map { $_->tokens } values %bank;

    my $dom = $page->evaluate('document.documentElement.outerHTML');

    cmp_ok(length $dom, '>', 2000, 'the document');
    is(join(' ', $leak->in_text($dom)), '', 'no secret and no token in it');
}


# Text against what is behind it, as WCAG 2 counts it.

sub is_legible {
    my ($page, $dark) = @_;

    my $luminance = $page->evaluate(<<'END');
        window.luminance = colour => {
            const [r, g, b] = colour.match(/[\d.]+/g).map(v => v / 255)
                .map(v => v <= .04045 ? v / 12.92
                                      : ((v + .055) / 1.055) ** 2.4);
            return .2126 * r + .7152 * g + .0722 * b;
        };
        luminance(getComputedStyle(document.body).backgroundColor)
END

    my $lowest = $page->evaluate(<<'END');
        Math.min(...[...document.querySelectorAll("body *")]
            .filter(e => [...e.childNodes].some(n => n.nodeType == 3
                                                     && n.data.trim()))
            .map(e => {
                const text = luminance(getComputedStyle(e).color);
                let behind = e;
                while (getComputedStyle(behind).backgroundColor
                       == "rgba(0, 0, 0, 0)")
                    behind = behind.parentElement;
                const page = luminance(getComputedStyle(behind)
                                       .backgroundColor);
                return (Math.max(text, page) + .05)
                       / (Math.min(text, page) + .05);
            }))
END

    $dark ? cmp_ok($luminance, '<', 0.1, 'dark')
          : cmp_ok($luminance, '>', 0.7, 'light');

    cmp_ok($lowest, '>=', 4.5, sprintf 'contrast: %.1f at the least', $lowest);
}


sub fits {
    my ($page, $width) = @_;

    is($page->evaluate('innerWidth'), $width, 'as wide as the screen');
    is($page->evaluate('document.documentElement.scrollWidth'), $width,
       'nothing scrolls sideways');
}


sub is_pictured {
    my ($page, $name, $width) = @_;

    make_path($pictures);
    unlink "$pictures/status-$name.png";
    $page->screenshot("$pictures/status-$name.png");

    my ($head, $wide, $high) =
        unpack 'a16NN', slurp("$pictures/status-$name.png");

    is($head, "\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 'a picture');
    is($wide, $width, 'its width');
    cmp_ok($high, '>', 600, 'its height');
}


sub stays_fresh {
    my $page = $browser->load(url());

    my $before = $page->evaluate('document.querySelector("header p").innerText');
    like($before, qr/^As of \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\. /, 'the time');

    $page->wait_requests(1 + @{ $page->{requests} });

    my @documents = grep { $_ eq url() } @{ $page->{requests} };

    is(scalar(@documents), 2, 'it loads itself again');
    is_deeply($page->{console}, [], 'nothing to say about it');
}
