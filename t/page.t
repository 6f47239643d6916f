# The status page in a real browser: what it says, what it looks like, and that
# it needs nothing but the state.  Pictures of it go to build/artefacts.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA 'sha256_base64';
use File::Path 'make_path';
use Test::More;

use Bog::Bank;
use Bog::Browser;
use Bog::Client qw(get header);
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

# as long as it may be, and HTML, and nothing in it where a line could end
my $long = 'a' x 227 . q(<b>"&\\'</b><script>1</script>);

my %id = (valid => 8282, failing => 8383, rejected => $long);
my %bank = map { $_ => Bog::Bank->new } keys %id;

$bank{valid}->answer(expires_in => 3000);
$bank{failing}->queue({ expires_in => 3000 });
$bank{failing}->answer(status => 503, headers => [['Retry-After' => 300]],
                       body => '');
$bank{rejected}->answer(status => 401,
                        body => '{"error":"invalid_<b>client</b>"}');

my $nginx = gateway();
my $browser = Bog::Browser->new;

# the API has the second token request made, the first token serves on
$bank{failing}->wait_count(answered => 1);
$bank{failing}->api_answer(status => 401, body => '');
is(get($nginx->port, '/failing')->{status}, 401, 'the API says 401');

ok($bank{failing}->wait_requests(2, 60), 'a refresh has failed');
ok($bank{rejected}->wait_requests(1), 'credentials were rejected');
ok(wait_until { get($nginx->port, '/json')->{body} =~ /"http_503"/ },
   'and nginx knows');

subtest 'what it may run' => \&may_run;

for my $look (['light', 1200, 0], ['dark', 1200, 1],
              ['phone-light', 390, 0], ['phone-dark', 390, 1]) {
    subtest $look->[0] => \&looks, @$look;
}

subtest 'it stays fresh' => \&stays_fresh;
subtest 'no sources' => \&no_sources;

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
            'location = /status { bog_token off; bog_status html; }',
            'location = /json { bog_token off; bog_status; }',
            (map { location($_) } sort keys %id), '}'),
    );

    return $nginx->start;
}


sub location {
    my $name = shift;

    my $id = $id{$name} =~ s/(['\\])/\\$1/gr;

    return <<"END";
        location /$name {
            bog_client_id       '$id';
            bog_token_endpoint  ${\ $bank{$name}->url };
            proxy_pass          http://127.0.0.1:${\ $bank{$name}->api_port };
            proxy_set_header    Authorization "Bearer \$bog_bearer_token";
        }
END
}


sub url { 'http://127.0.0.1:' . $nginx->port . '/status' }

# The policy names the script and the style, and lets nothing else run.

sub may_run {
    my $answer = get($nginx->port, '/status');

    my %digest = map { my ($text) = $answer->{body} =~ m{<$_>(.*?)</$_>}s;
                       $_ => 'sha256-' . sha256_base64($text) . '=' }
                 qw(script style);

    is(header($answer, 'Content-Security-Policy'),
       "default-src 'none'; connect-src 'self'; script-src '$digest{script}'; "
       . "style-src '$digest{style}'; img-src data:; frame-ancestors 'none'",
       'the policy');
}


# The page, once it has asked for the state.

sub shown {
    my $page = $browser->load(@_);

    ok(wait_until { $page->evaluate('document.querySelector("h1").innerText') },
       'it shows the state');

    return $page;
}


sub looks {
    my ($name, $width, $dark) = @_;

    my $page = shown(url(), width => $width, dark => $dark,
                     mobile => $width < 600);

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

    is($page->evaluate('document.querySelectorAll("main script, main b").length'),
       0, 'no HTML of a name or of an error');

    my %facts = @{ $page->evaluate('[...document.querySelector("dl").children]'
        . '.flatMap(e => [...e.children].map(e => e.innerText))') };

    my $failures = $facts{'Failures in a row'};
    my $moment = qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n(?:in $span|$span ago)$/;

    like(delete $facts{$_}, $moment, $_)
        for 'Last failure', 'Next token request';

    is_deeply(\%facts, {
        'Its reason'               => 'the credentials were rejected, status '
                                      . '401, error invalid_<b>client</b>',
        'Failures in a row'        => $failures,
        'Token requests'           => "failure $failures",
        'Their failures'           => "rejected $failures",
        'Requests that wait now'   => 0,
        'Requests that waited'     => 'none',
        'Requests without a token' => 'none',
        "The API's answers 401"    => 0,
        'Tokens dropped for them'  => 0,
    }, 'all that is known of the first one');
}


sub keeps_to_itself {
    my $page = shift;

    my %asked = map { $_ => 1 } @{ $page->{requests} };
    delete @asked{url(), url() . '?format=json', 'data:,'};

    is_deeply([keys %asked], [], 'it asks for nothing but the state');
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


# It goes on asking, also where there is no answer.

sub stays_fresh {
    my $page = shown(url());

    my $before = $page->evaluate('document.querySelector("header p").innerText');
    like($before, qr/^As of \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\. /, 'the time');

    ok(wait_until { $page->evaluate('document.querySelector("header p").innerText')
                    ne $before }, 'it goes on');
    is_deeply($page->{console}, [], 'nothing to say about it');

    my $headline = sub {
        $page->evaluate('document.querySelector("h1").innerText')
    };

    my $conf = slurp($nginx->dir . '/nginx.conf');

    $nginx->file('nginx.conf', $conf =~ s/bog_status html;/return 500;/r);
    $nginx->reload;
    ok((wait_until { $headline->()
                     eq "\x{2715} The state cannot be read: status 500" } 90),
       'it says that it cannot ask');

    $nginx->file('nginx.conf', $conf);
    $nginx->reload;
    ok((wait_until { $headline->() eq "\x{2715} 1 of 3 without a token" } 90),
       'and asks again') or diag $headline->();

    $page->close;
}


sub no_sources {
    my $nginx = Bog::Nginx->new(conf => <<'END')->start;
        server { listen 127.0.0.1:%%PORT%%; location / { bog_status html; } }
END
    my $page = shown('http://127.0.0.1:' . $nginx->port . '/');

    is($page->evaluate('document.title'), "\x{2713} No source is configured",
       'its title');

    $page->close;
    is($nginx->stop, 0, 'nginx stops');
}
