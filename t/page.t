# The status page in a real browser: what it says to eyes and to a screen reader,
# what it looks like, and that it needs nothing but the state.  Pictures of it go
# to build/screenshots.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA 'sha256_base64';
use File::Path 'make_path';
use JSON::PP 'encode_json';
use Sys::Hostname;
use Test::More;

use Bog::Bank;
use Bog::Browser;
use Bog::Client qw(get header);
use Bog::Leak;
use Bog::Nginx;
use Bog::Util qw(slurp wait_until);

my $pictures = "$FindBin::Bin/../build/screenshots";

unless (Bog::Browser::binary()) {
    my $reason = 'Chromium is not installed: util/deps.sh chromium';

    die "$reason\n" if ($ENV{CI} // '') eq 'true';
    plan skip_all => $reason;
}

my $secret = 's3cret-of-all';

# as long as it may be, and HTML, and nothing in it where a line could end
my $long = 'a' x 227 . q(<b>"&\\'</b><script>1</script>);

my $span = '\d+ (?:s|min)';
my $time = '(?:\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d UTC';

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

is(get($nginx->port, '/rejected')->{status}, 503, 'a request') for 1 .. 3;

subtest 'what it may run' => \&may_run;
subtest 'three sources' => \&three_sources;
subtest 'as a check' => \&as_a_check;
subtest 'a reader is not disturbed' => \&undisturbed;
subtest 'where to read on' => \&where_to_read_on;
subtest 'looks, three sources' => \&looks, $nginx, 3;

{
    my $one = gateway(names => ['valid']);
    subtest 'looks, one source' => \&looks, $one, 1;
    is($one->stop, 0, 'nginx stops');
}

{
    my $many = gateway(more => 197);
    subtest 'looks, 200 sources' => \&looks, $many, 200;
    subtest 'search' => \&searches, $many;
    is($many->stop, 0, 'nginx stops');
}

subtest 'it stays fresh' => \&stays_fresh;
subtest 'no sources' => \&no_sources;

my $pid = $browser->{pid};
$browser->stop;
ok(!kill(0 => -$pid), 'the browser has ended');

is($nginx->stop, 0, 'nginx stops');
$nginx->clean_log;

done_testing;


# %opt: names of sources, more => so many sources that have a token.

sub gateway {
    my %opt = @_;

    my @names = @{ $opt{names} // [sort keys %id] };

    my $nginx = Bog::Nginx->new(
        workers => 2,
        secret  => { main => "$secret\n" },
        conf    => join("\n", 'server {',
            'listen 127.0.0.1:%%PORT%%;',
            'bog_client_secret_file %%SECRET_main%%;',
            'location = /status { bog_token off; bog_status html; }',
            'location = /json { bog_token off; bog_status; }',
            (map { location($_, $id{$_}, $bank{$_}) } @names),
            (map { location("more-$_/", 9000 + $_, $bank{valid}) }
                 1 .. $opt{more} // 0), '}'),
    );

    return $nginx->start;
}


sub location {
    my ($name, $id, $bank) = @_;

    $id =~ s/(['\\])/\\$1/g;

    return <<"END";
        location /$name {
            bog_client_id       '$id';
            bog_token_endpoint  ${\ $bank->url };
            proxy_pass          http://127.0.0.1:${\ $bank->api_port };
            proxy_set_header    Authorization "Bearer \$bog_bearer_token";
        }
END
}


sub url { 'http://127.0.0.1:' . ($_[0] // $nginx)->port . '/status' }

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
    my ($nginx, $n) = @_;

    # the bank's answers have come, as far as it sends any
    ok(wait_until { get($nginx->port, '/json')->{body}
                    !~ /"fetching": true|"success": 0, "failure": 0/ },
       'all is known');

    for my $width (360, 768, 1280) {
        for my $dark (0, 1) {
            my $page = shown(url($nginx), width => $width, dark => $dark,
                             mobile => $width < 600);

            keeps_to_itself($page, $nginx);
            is_legible($page, $dark);
            fits($page, $width);
            is_pictured($page, "$n-$width-" . ($dark ? 'dark' : 'light'),
                        $width);
            $page->close;
        }
    }
}


sub three_sources {
    my $page = shown(url());

    is($page->evaluate('document.title'), "\x{2715} No token for 1 of 3 "
       . 'sources. Refreshes fail for 1 of 3 sources', 'its title');
    is_deeply(texts($page, 'h1'), ['No token for 1 of 3 sources. '
                                   . 'Refreshes fail for 1 of 3 sources'],
              'its headline');

    my ($host, $time_line) = @{ texts($page, 'header p') };
    is($host, join(', ', hostname(), 'nginx ' . version('nginx'),
                   'nginx-bog ' . version('version')), 'the machine');
    like($time_line, qr/^As of $time, asked every 5 seconds$/, 'the time');
    like(texts($page, 'footer')->[0],
         qr/^Counted since $time, 0 reloads since then$/, 'since when');

    my ($rejected, $failing, $valid) =
        map { '127.0.0.1:' . $bank{$_}->port } qw(rejected failing valid);
    my $next = qr/next try in $span|fetching now/;

    my @parts = @{ texts($page, 'section:not([hidden]) > h2, summary span') };

    is_deeply([@parts[0, 1 .. 4, 6 .. 9, 11, 12 .. 14]],
              ['Trouble', "\x{2715}", $long, $rejected, 'no token',
               '!', 8383, $failing, $parts[9],
               'Working', "\x{2713}", 8282, $valid], 'the sources');
    like($parts[5], qr/^(?:$next)$/, 'the next try');
    like($parts[9], qr/^valid for $span$/, 'the old token');
    like($parts[10], qr/^next try in $span$/, 'the next try');
    like($parts[15], qr/^valid for $span$/, 'the token');
    like($parts[16], qr/^next fetch in $span$/, 'the next fetch');
    is(scalar @parts, 17, 'and no more');

    is_deeply($page->evaluate('[...document.querySelectorAll("details")]'
                              . '.map(d => d.open ? 1 : 0)'), [1, 1, 0],
              'trouble is open');

    knows_all($page);
    is_accessible($page);

    is($page->evaluate('document.querySelectorAll("main script, main b").length'),
       0, 'no HTML of a name or of an error');

    $page->close;
}


# The visible texts of all elements that a selector finds.

sub texts {
    my ($page, $selector) = @_;

    return $page->evaluate("[...document.querySelectorAll('$selector')]"
                           . '.map(e => e.innerText)');
}


sub status {
    my $nginx = shift // $nginx;

    return JSON::PP->new->utf8->decode(get($nginx->port, '/json')->{body});
}


sub version { status()->{$_[0]} }


# All that the page has of the first source.

sub knows_all {
    my $page = shift;

    my @facts = @{ $page->evaluate('[...document.querySelector("dl").children]'
        . '.filter(e => !e.hidden)'
        . '.map(e => [...e.children].map(e => e.innerText))') };

    my %facts = map { @$_ } @facts;
    my $failures = $facts{'Failures in a row'};
    my ($source) = grep { $_->{client_id} eq $long } @{ status()->{sources} };

    like(delete $facts{'Impact'},
         qr/^3 requests got 503 in the last minute$/, 'the impact');
    like(delete $facts{$_}, qr/^$span ago, $time$/, $_)
        for 'Failing since', 'Last failure';
    like(delete $facts{'Next try'}, qr/^(?:in $span, $time|now)$/,
         'the next try');

    is_deeply(\%facts, {
        'Cause'                 => $source->{last_failure}{reason},
        'Look at'               => 'your client id or secret',
        'What to do'            => "see \x{201c}Credentials rejected"
                                   . "\x{201d} in docs/troubleshooting.md",
        'Client id'             => $long,
        'Endpoint'              => $bank{rejected}->url,
        'Failures in a row'     => $failures,
        'Token requests'        => "failure $failures",
        'Failures by cause'     => "rejected $failures",
        'Requests that waited'  => $facts{'Requests that waited'},
        'Requests refused'      => 3,
    }, 'all that is known of it');
}


# What a screen reader is told, with all numbers as N.

sub is_accessible {
    my $page = shift;

    my $tree = join '', map { "$_\n" } $page->accessible;
    my $reasons = join '|', map { quotemeta $_->{reason} } grep { $_ }
                  map { $_->{last_failure} } @{ status()->{sources} };

    for ($tree) {
        s/\Q$long\E/LONG/g;
        s/\Q${\ hostname() }\E/HOST/g;
        s/$reasons/REASON/g;
        s/\b[0-9a-f]{16}\b/ID/g;
        s/\d+/N/g;
        s/N (?:s|min)\b/TIME/g;
        s/(?:N-N-N )?N:N:N UTC/CLOCK/g;
        s/fetching now/next try in TIME/g;
        s/StaticText: now$/StaticText: in TIME, CLOCK/mg;

        # whether a request came while a fetch was under way
        s/^ +term: Requests that waited\n.*\n.*\n//mg;
    }

    is($tree, <<"END", 'what a screen reader is told');
RootWebArea: \x{2715} No token for N of N sources. Refreshes fail for N of N sources
  banner
    paragraph
      StaticText: HOST, nginx N.N.N, nginx-bog N.N.N
    heading: No token for N of N sources. Refreshes fail for N of N sources, live
    paragraph
      StaticText: As of CLOCK, asked every N seconds
  main
    region: Trouble
      heading: Trouble
      list
        listitem
          group
            DisclosureTriangle: critical LONG N.N.N.N:N no token next try in TIME, open
              image: critical
            DescriptionList
              term: Impact
              definition
                StaticText: N requests got N in the last minute
              term: Cause
              definition
                StaticText: REASON
              term: Look at
              definition
                StaticText: your client id or secret
              term: Failing since
              definition
                StaticText: TIME ago, CLOCK
              term: Next try
              definition
                StaticText: in TIME, CLOCK
              term: What to do
              definition
                StaticText: see \x{201c}Credentials rejected\x{201d} in docs/troubleshooting.md
              term: Client id
              definition
                StaticText: LONG
              term: Endpoint
              definition
                StaticText: http://N.N.N.N:N/auth/realms/bog/protocol/openid-connect/token
              term: Last failure
              definition
                StaticText: TIME ago, CLOCK
              term: Failures in a row
              definition
                StaticText: N
              term: Token requests
              definition
                StaticText: failure N
              term: Failures by cause
              definition
                StaticText: rejected N
              term: Requests refused
              definition
                StaticText: N
        listitem
          group
            DisclosureTriangle: warning N N.N.N.N:N valid for TIME next try in TIME, open
              image: warning
            DescriptionList
              term: Impact
              definition
                StaticText: none yet: the old token is valid for TIME
              term: Cause
              definition
                StaticText: REASON
              term: Look at
              definition
                StaticText: the bank, or your configuration
              term: Failing since
              definition
                StaticText: TIME ago, CLOCK
              term: Next try
              definition
                StaticText: in TIME, CLOCK
              term: What to do
              definition
                StaticText: see \x{201c}Unexpected status\x{201d} in docs/troubleshooting.md
              term: Client id
              definition
                StaticText: N
              term: Endpoint
              definition
                StaticText: http://N.N.N.N:N/auth/realms/bog/protocol/openid-connect/token
              term: Token id
              definition
                StaticText: ID
              term: Token expires
              definition
                StaticText: in TIME, CLOCK
              term: Last success
              definition
                StaticText: TIME ago, CLOCK
              term: Last failure
              definition
                StaticText: TIME ago, CLOCK
              term: Failures in a row
              definition
                StaticText: N
              term: Token requests
              definition
                StaticText: success N, failure N
              term: Failures by cause
              definition
                StaticText: http_Nxx N
              term: API answered N
              definition
                StaticText: N
              term: Tokens replaced after N
              definition
                StaticText: N
    region: Working
      heading: Working
      list
        listitem
          group
            DisclosureTriangle: ok N N.N.N.N:N valid for TIME next fetch in TIME, closed
              image: ok
  contentinfo
    StaticText: Counted since CLOCK, N reloads since then
END
}


# Its own status is 503 then, and that of the JSON is not.

sub as_a_check {
    is(get($nginx->port, '/status?check')->{status}, 503, 'no token');

    my $page = shown(url() . '?check');

    is(texts($page, 'h1')->[0], 'No token for 1 of 3 sources. '
                                . 'Refreshes fail for 1 of 3 sources',
       'the page is the same');
    $page->close;
}


# What has the focus and what is open stays so, while the state comes anew.

sub undisturbed {
    my $page = shown(url());

    $page->evaluate(<<'END');
        const all = document.querySelectorAll("details");
        all[0].open = false;
        all[2].open = true;
        all[2].firstChild.focus();
        window.focused = document.activeElement;
        0
END
    my $time = sub { texts($page, 'header p')->[1] };
    my $before = $time->();

    ok(wait_until { $time->() ne $before }, 'the state has come anew');
    is_deeply($page->evaluate('[...document.querySelectorAll("details")]'
                              . '.map(d => d.open ? 1 : 0)'), [0, 1, 1],
              'what is open');

    my $kept = 'document.activeElement === window.focused && '
               . 'window.focused.tagName';
    is($page->evaluate($kept), 'SUMMARY', 'the focus');

    # all sources change their places, and so do the headings
    my $status = status();
    $_->{level} = $_->{level} eq 'ok' ? 'critical' : 'ok'
        for @{ $status->{sources} };

    $page->evaluate('show(' . encode_json($status) . ')');
    is($page->evaluate('window.focused.closest("section").innerText'
                       . '.startsWith("Trouble")'), JSON::PP::true,
       'the source moves');
    is($page->evaluate($kept), 'SUMMARY', 'and takes the focus with it');

    # the section has been hidden so far
    $_->{level} = 'ok' for @{ $status->{sources} };
    $page->evaluate('show(' . encode_json($status) . ')');
    is_deeply(texts($page, 'section:not([hidden]) h2'), ['Working'],
              'all is well');
    is($page->evaluate('document.querySelectorAll("[open]").length'), 0,
       'and nothing is open');
    $_->{level} = 'critical' for @{ $status->{sources} };
    $page->evaluate('show(' . encode_json($status) . ')');
    is($page->evaluate($kept), 'SUMMARY', 'the focus is where it was');

    $page->close;
}


# Each heading that the page names is in the manual; with its address on the
# page there are links.

sub where_to_read_on {
    my $manual = slurp("$FindBin::Bin/../docs/troubleshooting.md");
    my $page = shown(url());

    my @classes = (qw(resolve connect tls timeout rejected malformed too_large),
                   map { "http_$_" } 400, 403, 404, 429, 500);

    my %heading = %{ $page->evaluate('Object.fromEntries(' . encode_json(\@classes)
        . '.map(c => [c, guide({ failing_since: 1,'
        . ' last_failure: { class: c } })[1]]))') };

    is(scalar(keys %heading), @classes, 'a heading for each class');
    ok($manual =~ /^## \Q$_\E$/m, "\"$_\"")
        for sort keys %{{ reverse %heading }};

    is_deeply($page->evaluate('document.links.length'), 0, 'no links');

    # before the script has asked for the state for the first time
    $page->call('Page.addScriptToEvaluateOnNewDocument', source => <<'END');
        document.addEventListener("DOMContentLoaded", () => {
            document.querySelector("meta[name=docs]").content
                = "https://wiki.test/trouble";
        });
END
    $page->call('Page.reload');
    ok(wait_until { $page->evaluate('document.links.length') == 2 },
       'links with it');
    is_deeply($page->evaluate('[...document.links].map(a => a.href)'),
              ['https://wiki.test/trouble#credentials-rejected',
               'https://wiki.test/trouble#unexpected-status'],
              'which lead there');

    $page->close;
}


sub searches {
    my $nginx = shift;

    my $page = shown(url($nginx));
    my $found = sub {
        my $wanted = shift;

        $page->evaluate("{ const input = document.querySelector('input');
                           input.value = '$wanted';
                           input.dispatchEvent(new Event('input')); }");
        return scalar grep { $_ } @{ $page->evaluate(
            '[...document.querySelectorAll("li")].map(e => e.checkVisibility())'
        ) };
    };

    is($found->(''), 200, 'all');
    is($found->('919'), 8, 'some');
    is_deeply(texts($page, 'section:not([hidden]) h2'), ['Working'],
              'and only their heading');
    is($found->('9190@'), 1, 'one');
    is($found->('SCRIPT'), 1, 'in any case');
    is_deeply(texts($page, 'section:not([hidden]) h2'), ['Trouble'],
              'a source in trouble');
    is($found->('nothing'), 0, 'none');

    $page->close;
}


sub keeps_to_itself {
    my ($page, $nginx) = @_;

    my %asked = map { $_ => 1 } @{ $page->{requests} };
    delete @asked{url($nginx), url($nginx) . '?format=json', 'data:,'};

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
    cmp_ok($high, '>', 300, 'its height');
}


# It goes on asking, also where there is no answer.

sub stays_fresh {
    my $page = shown(url());

    my $headline = sub { texts($page, 'h1')->[0] };
    my $before = $headline->();

    my $conf = slurp($nginx->dir . '/nginx.conf');

    $nginx->file('nginx.conf', $conf =~ s/bog_status html;/return 500;/r);
    $nginx->reload;
    ok((wait_until { $headline->()
                     eq 'The state cannot be read: status 500' } 90),
       'it says that it cannot ask');

    $nginx->file('nginx.conf', $conf);
    $nginx->reload;
    ok((wait_until { $headline->() eq $before } 90),
       'and asks again') or diag $headline->();

    $page->close;
}


sub no_sources {
    my $nginx = Bog::Nginx->new(conf => <<'END')->start;
        server { listen 127.0.0.1:%%PORT%%; location / { bog_status html; } }
END
    my $page = shown('http://127.0.0.1:' . $nginx->port . '/');

    is($page->evaluate('document.title'), "! No source is configured",
       'its title');

    $page->close;
    is($nginx->stop, 0, 'nginx stops');
}
