# What the token endpoint may answer, and what becomes of it.  Every row is a
# source of its own in one nginx, all are asked for at the start.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA 'sha256_hex';
use IO::Socket::INET;
use List::Util 'max';
use MIME::Base64 'encode_base64url';
use POSIX ();
use Test::More;

use Bog::Child;
use Bog::Client 'get';
use Bog::Nginx;
use Bog::Server;
use Bog::Util qw(now timeout wait_until);

my ($default, $max) = (250, 3600);
my ($token, $secret) = ('tok-~._+/=', 's3cret-never-seen');

# in every body that brings no token: no log may have it
my $mark = 'SPILL';

# times in rows count from here, however long it takes to build them
my ($epoch, $start) = (time, now());
my @table;


sub date { POSIX::strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime $_[0]) }


# A whole answer: status, fields, body.  Unless told, it has a Date.

sub http {
    my ($status, $fields, $body, %opt) = @_;

    my @fields = @$fields;

    push @fields, 'Date: ' . date($epoch)
        unless grep { /^Date:/ } @fields or $opt{dateless};
    push @fields, 'Content-Length: ' . length $body
        unless grep { /^(?:Content-Length|Transfer-Encoding):/ } @fields
               or $opt{close};

    return join "\r\n", ($opt{version} // 'HTTP/1.1') . " $status",
                @fields, '', $body;
}


sub ok_body {
    my $members = shift // '"expires_in":100';

    return qq({"access_token":"$token","token_type":"Bearer"}) unless $members;
    return qq({"access_token":"$token","token_type":"Bearer",$members});
}


sub whole { http('200 OK', [], ok_body(@_)) }
sub body { http('200 OK', [], $_[0]) }
sub with { my ($body, @fields) = @_; http('200 OK', \@fields, $body) }

sub chunks {
    http('200 OK', ['Transfer-Encoding: chunked'], join('', @_));
}

sub chunk { sprintf "%x\r\n%s\r\n", length $_[0], $_[0] }

sub jwt {
    my ($payload) = @_;

    return join '.', encode_base64url('{"alg":"none"}'),
                     encode_base64url($payload), 'c2ln';
}


# A row of the table: what it is; what is sent, bytes or a script for the
# server; what comes of it: the class of the error, or the token's lifetime.
# Further: token; log, a text that the log must have; conf, a directive.

sub row {
    my ($name, $sent, $result, %opt) = @_;

    $sent = [[send => $sent]] unless ref $sent;
    push @$sent, [end => 'close'] if $sent->[-1][0] ne 'end';

    push @table, { name => $name, sent => $sent, result => $result, %opt };
}


# --- status

row("status $_", http("$_ Whatever", [], ok_body()),
    $_ == 201 ? 100 : $_ == 401 ? 'rejected' : "http_$_")
    for 201 .. 599;

row("status $_ without a body",
    "HTTP/1.1 $_ None\r\nConnection: close\r\n\r\n", "http_$_") for 204, 304;

row("status 304 with the length of another body",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", 'http_304');

row('a redirect is not followed',
    http('302 Found', ['Location: /follow'], $mark), 'http_302');
row('a permanent one neither',
    http('308 Permanent Redirect', ['Location: /follow'], $mark), 'http_308');

row('a status without a reason', "HTTP/1.1 200\r\nContent-Length: "
    . length(ok_body()) . "\r\n\r\n" . ok_body(), 100);

row("a refusal with \"$_->[0]\"",
    http("$_->[1] Refused", ['Content-Type: application/json'],
         qq({"error":"$_->[0]","error_description":"$mark"})),
    $_->[2], log => $_->[3])
    for ['invalid_client', 401, 'rejected', 'error "invalid_client"'],
        ['unauthorized_client', 400, 'rejected',
         'error "unauthorized_client"'],
        ['invalid_client', 503, 'rejected',
         'failed: the credentials were rejected, status 503, '
         . 'error "invalid_client"'],
        ['invalid_target', 400, 'http_400',
         'failed: refused with status 400, error "invalid_target"'],
        ['a\\nb \\"\\u10d0', 403, 'http_403',
         'error "a\x0Ab \x22\xE1\x83\x90"'],
        ['e' x 65, 400, 'http_400', 'error "' . 'e' x 64 . '"'],
        ['temporarily_unavailable', 503, 'http_503',
         'status 503, error "temporarily_unavailable"'];

row('a refusal in HTML', http('401 Unauthorized', [], "<html>$mark</html>"),
    'rejected');
row('a firewall in HTML', http('403 Forbidden', [], "<html>$mark</html>"),
    'http_403');
row("a 200 with the error $_->[0]", body(qq({"error":"$_->[0]"})), $_->[1],
    log => qq(status 200, error "$_->[0]"))
    for ['invalid_client', 'rejected'], ['server_error', 'http_200'];
row('a refusal that ends early',
    http('401 Unauthorized', ['Content-Length: 500'], $mark), 'malformed');
row('too many requests', http('429 Slow Down', ['Retry-After: 2'], ''),
    'http_429');

# --- the status line and the header

row('nothing', '', 'malformed');
row('no HTTP', "SSH-2.0-OpenSSH_9.2\r\n", 'malformed');
row('no HTTP but the JSON', ok_body(), 'malformed');
row('half of a status line', 'HTTP/1.', 'malformed');
row('a status of two digits', "HTTP/1.1 20 OK\r\n\r\n", 'malformed');
row('a status of letters', "HTTP/1.1 abc OK\r\n\r\n", 'malformed');
row('HTTP/1.0', http('200 OK', [], ok_body(), version => 'HTTP/1.0'), 100);
row('HTTP/1.0 until the end',
    http('200 OK', [], ok_body(), version => 'HTTP/1.0', close => 1), 100);

row('100 before the answer', "HTTP/1.1 100 Continue\r\n\r\n" . whole(), 100);
row('103 with fields before the answer',
    "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n"
    . "Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" . whole(),
    100);
row('several of them, in pieces',
    [map { ([send => $_], [wait => 0.02]) }
         "HTTP/1.1 100 Continue\r\n", "\r\nHTTP/1.1 103 Ea",
         "rly Hints\r\n\r", "\n" . substr(whole(), 0, 20), substr(whole(), 20)],
    100);
row("status $_", "HTTP/1.1 $_ What\r\n\r\n" . whole(), 'malformed')
    for '000', '099';
row('HTTP/2 only', "\0\0\6\4\0\0\0\0\0\0\3\0\0\0\x64", 'malformed',
    log => 'token request failed: the server speaks HTTP/2 only');
row('status 101', "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", 'http_101');
row('100 and no more', "HTTP/1.1 100 Continue\r\n\r\n", 'malformed');
row('100 and a refusal', "HTTP/1.1 100 Continue\r\n\r\n"
    . http('401 Unauthorized', [], ''), 'rejected');

row('bare line feeds', "HTTP/1.1 200 OK\nContent-Length: "
    . length(ok_body()) . "\n\n" . ok_body(), 100);
row('a header that ends early', substr(whole(), 0, 40), 'malformed');
row('NUL in a field', with(ok_body(), "X: a\0b"), 'malformed');
# nginx before 1.21.1 leaves out a line with a blank in its name
row('a line without a colon', with(ok_body(), 'no colon here'),
    Bog::Nginx->since(1, 21, 1) ? 'malformed' : 100);
row('a header of 15 kB', with(ok_body(), map { "X-$_: " . 'x' x 1000 } 1 .. 15),
    100);
row("a header of $_ kB", with(ok_body(), 'X: ' . 'x' x ($_ * 1024)),
    'too_large') for 17, 64, 200;
row("a header of $_ kB in many lines",
    with(ok_body(), map { "X-$_: " . 'x' x 1000 } 1 .. $_), 'too_large')
    for 17, 64;
row('a status line of 17 kB', http('200 ' . 'x' x 17408, [], ok_body()),
    'too_large');
row('a byte a second', [map { ([send => $_], [wait => 1]) }
                        split //, whole()], 'timeout', conf =>
    'bog_connect_timeout 1s; bog_send_timeout 1s; bog_read_timeout 2s;');
row('a byte a second, which is too slow',
    [map { ([send => $_], [wait => 1]) } split //, whole()], 'timeout',
    conf => 'bog_read_timeout 500ms;');
row('bytes that keep coming, 100 and no more',
    [map { ([send => "HTTP/1.1 100 Continue\r\n\r\n"], [wait => 0.5]) }
         1 .. 20], 'timeout', conf =>
    'bog_connect_timeout 1s; bog_send_timeout 1s; bog_read_timeout 1s;');
row('byte by byte', [map { ([send => $_], [wait => 0.0005]) }
                     split //, whole()], 100);

# --- where the body ends

row('an empty body', body(''), 'malformed');
row('a Content-Length', whole(), 100);
row('a body in two pieces',
    [[send => substr whole(), 0, -30], [wait => 0.05],
     [send => substr whole(), -30]], 100);
row('one byte less than its length', substr(whole(), 0, -1), 'malformed');
row('a length that is greater, the JSON whole',
    with(ok_body(), 'Content-Length: ' . (length(ok_body()) + 1)),
    'malformed');
row('bytes after its length', whole() . $mark, 100);
row('bytes after its length, later',
    [[send => whole()], [wait => 0.05], [send => $mark]], 100);
row('the length in the middle of the JSON',
    with(ok_body(), 'Content-Length: 20'), 'malformed');
row("a length of \"$_\"", with(ok_body(), "Content-Length: $_"), 'malformed')
    for 'x', '-1', '+70', '0x50', '70, 70', '1e2', '', '9' x 30;
row('length 0', with('', 'Content-Length: 0'), 'malformed');
row('two equal lengths',
    with(ok_body(), ('Content-Length: ' . length ok_body()) x 2), 'malformed');
row('two lengths', with(ok_body(), 'Content-Length: ' . length(ok_body()),
                        'Content-Length: 5'), 'malformed');
row('a length and chunks',
    with(chunk(ok_body()) . "0\r\n\r\n", 'Content-Length: 300',
         'Transfer-Encoding: chunked'), 'malformed');
row('chunks and a length',
    with(chunk(ok_body()) . "0\r\n\r\n", 'Transfer-Encoding: chunked',
         'Content-Length: 300'), 'malformed');

row('until the end', http('200 OK', [], ok_body(), close => 1), 100);
row('until the end, which is early',
    http('200 OK', [], substr(ok_body(), 0, -1), close => 1), 'malformed');
row('a reset at once', [[end => 'reset']], 'malformed');
row('a reset in the header',
    [[send => substr whole(), 0, 30], [wait => 0.05], [end => 'reset']],
    'malformed');
row('a reset in the body',
    [[send => substr whole(), 0, -9], [wait => 0.05], [end => 'reset']],
    'malformed');
row('a reset where only the end tells the length',
    [[send => http('200 OK', [], ok_body(), close => 1)], [wait => 0.05],
     [end => 'reset']], 'malformed');
row('the connection stays open', [[send => whole()], [end => 'keep']], 100);
row('silence', [[end => 'keep']], 'timeout', conf => 'bog_read_timeout 1s;');
row('silence in the body', [[send => substr whole(), 0, -9], [end => 'keep']],
    'timeout', conf => 'bog_read_timeout 1s;');
row('silence where only the end tells the length',
    [[send => http('200 OK', [], ok_body(), close => 1)], [end => 'keep']],
    'timeout', conf => 'bog_read_timeout 1s;');

# --- chunks

my $last = "0\r\n\r\n";

row('one chunk', chunks(chunk(ok_body()), $last), 100);
row('chunks of a byte', chunks(map({ chunk($_) } split //, ok_body()), $last),
    100);
row('chunks in pieces',
    [map { ([send => $_], [wait => 0.005]) }
         unpack '(a13)*', chunks(map({ chunk($_) } unpack '(a9)*', ok_body()),
                                 $last)], 100);
row('a chunk with an extension', chunks(sprintf("%X;a=b;c=\"d\"\r\n%s\r\n",
    length ok_body(), ok_body()), $last), 100);
row('a size with zeros', chunks(sprintf("%08x\r\n%s\r\n", length ok_body(),
    ok_body()), $last), 100);
row('trailers', chunks(chunk(ok_body()), "0\r\nX: y\r\nDate: now\r\n\r\n"),
    100);
row('bytes after the last chunk', chunks(chunk(ok_body()), $last, $mark), 100);
row('"Chunked"', with(chunk(ok_body()) . $last, 'Transfer-Encoding: Chunked'),
    100);
row('chunks, then the connection stays open',
    [[send => chunks(chunk(ok_body()), $last)], [end => 'keep']], 100);
row('no last chunk', chunks(chunk(ok_body())), 'malformed');
row('half of the last chunk', chunks(chunk(ok_body()), "0\r\n"), 'malformed');
row('half of a chunk', chunks(substr chunk(ok_body()), 0, 40), 'malformed');
row('no chunks at all', chunks(), 'malformed');
row('the last chunk only', chunks($last), 'malformed');
row('a size that is none', chunks("xyz\r\n", ok_body(), "\r\n$last"),
    'malformed');
row('a negative size', chunks("-5\r\n", ok_body(), "\r\n$last"), 'malformed');
row('a size of 16 digits', chunks('f' x 16, "\r\n", ok_body()), 'malformed');
row('a size of 17 digits', chunks('f' x 17, "\r\n", ok_body()), 'malformed');
row('a size of 7fffffffffffffff', chunks('7' . 'f' x 15, "\r\n", ok_body()),
    'malformed');
row('no line end after a chunk',
    chunks(sprintf("%x\r\n%s", length ok_body(), ok_body()), $last),
    'malformed');
row('a chunk longer than its size', chunks("5\r\n", ok_body(), "\r\n$last"),
    'malformed');
row("Transfer-Encoding: $_", with(ok_body(), "Transfer-Encoding: $_"),
    'malformed')
    for 'gzip', 'gzip, chunked', 'identity', 'chunked, chunked', '';
row('two Transfer-Encodings', with(chunk(ok_body()) . $last,
    ('Transfer-Encoding: chunked') x 2), 'malformed');

# --- how long

my $full = 65536;
my $padded = ok_body() . ' ' x ($full - length ok_body());

row('64 kB', body($padded), 100);
row('64 kB in chunks',
    chunks(map({ chunk($_) } unpack '(a4000)*', $padded), $last), 100);
row('64 kB until the end', http('200 OK', [], $padded, close => 1), 100);
row('64 kB and a byte', body("$padded "), 'too_large');
row('64 kB and a byte in chunks',
    chunks(map({ chunk($_) } unpack '(a4000)*', "$padded "), $last),
    'too_large');
row('64 kB and a byte in one chunk', chunks(chunk("$padded "), $last),
    'too_large');
row('64 kB and a byte until the end',
    http('200 OK', [], "$padded ", close => 1), 'too_large');
row('a length of 1 TB', with(ok_body(), 'Content-Length: 1099511627776'),
    'too_large');
row('1 MB until the end', http('200 OK', [], ' ' x 2 ** 20, close => 1),
    'too_large');
row('1 MB in chunks', chunks(chunk('x' x 2 ** 20)), 'too_large');
row('an error page of 1 MB', http('500 Oops', [], $mark x 200000), 'too_large');

row("Content-Encoding: $_", with(ok_body(), "Content-Encoding: $_"),
    'malformed') for 'gzip', 'br', 'deflate', 'unknown', 'gzip, identity';
row("Content-Encoding: $_", with(ok_body(), "Content-Encoding: $_"), 100)
    for 'identity', 'Identity';
row('a refusal with Content-Encoding',
    http('401 Unauthorized', ['Content-Encoding: gzip'], "\x1f\x8b$mark"),
    'malformed');

# --- JSON

row('white space around', body(" \t\r\n" . ok_body() . "\n\n"), 100);
row('unknown members', whole('"expires_in":100,"scope":"a b","refresh_token":'
    . '"r","not-before-policy":0,"x":{"y":[null,true,{"z":-1.5e3}]}'), 100);
row('a nested access_token', body('{"x":{"access_token":"a"}}'), 'malformed');
row('escapes in a name', body('{"access_tok\u0065n":"tok","expires_in":100,'
    . '"token_type":"Bea\u0072er"}'), 100, token => 'tok');
row('escapes in the token', body('{"access_token":"t\u006f\/k",'
    . '"expires_in":100}'), 100, token => 'to/k');
row($_->[0], body($_->[1]), 'malformed')
    for ['HTML', "<html><body>$mark</body></html>"],
        ['text', $mark],
        ['a form', 'access_token=tok&token_type=Bearer'],
        ['white space', "  \n"],
        ['an empty object', '{}'],
        ['an array', '[' . ok_body() . ']'],
        ['a string', '"tok"'],
        ['a number', '1'],
        ['null', 'null'],
        ['a byte order mark', "\xef\xbb\xbf" . ok_body()],
        ['UTF-16', pack 'n*', 0xfeff, unpack 'C*', ok_body()],
        ['two values', ok_body() . ok_body()],
        ['two values in lines', ok_body() . "\n" . ok_body()],
        ['more after the object', ok_body() . $mark],
        ['a NUL after the object', ok_body() . "\0"],
        ['a NUL in a string', ok_body("\"x\":\"a\0b\"")],
        ['a NUL between', "{\0" . substr ok_body(), 1],
        ['an escaped NUL in a string', ok_body('"x":"a\u0000b"')],
        ['a line end in a string', ok_body("\"x\":\"a\nb\"")],
        ['no end', substr ok_body(), 0, -1],
        ['a comma at the end', ok_body('"x":1,')],
        ['single quotes', "{'access_token':'tok'}"],
        ['names without quotes', '{access_token:"tok"}'],
        ['a comment', '/* */' . ok_body()],
        ['NaN', ok_body('"x":NaN')],
        ['Infinity', ok_body('"x":Infinity')],
        ['a leading zero', ok_body('"x":01')],
        ['a hexadecimal number', ok_body('"x":0x10')],
        ['a plus', ok_body('"x":+1')],
        ['True', ok_body('"x":True')],
        ['an unknown escape', ok_body('"x":"\\x41"')],
        ['half of a surrogate pair', ok_body('"x":"\\ud800"')],
        ['no UTF-8', ok_body("\"x\":\"\xff\"")],
        ['overlong UTF-8', ok_body("\"x\":\"\xc0\x80\"")],
        ['a member twice', ok_body('"access_token":"two"')],
        ['a member twice, by an escape', ok_body('"access_toke\u006e":"two"')],
        ['an unknown member twice', ok_body('"x":1,"x":1')],
        ['30,000 levels', ok_body('"x":' . '[' x 30000 . ']' x 30000)],
        ['30,000 open levels', '{"x":' x 10000];
row('6,000 members', ok_body_of(6000), 100);
row('many small values', body('{"expires_in":100,"x":[' . '{},' x 21000
    . "{}],\"access_token\":\"$token\"}"), 100);

sub ok_body_of {
    my $n = shift;

    return body('{' . join(',', map { "\"$_\":1" } 1 .. $n)
                . ",\"access_token\":\"$token\",\"expires_in\":100}");
}

# --- the token

row("a token of $_->[0]", body(qq({"access_token":$_->[1],"expires_in":100})),
    'malformed')
    for ['no bytes', '""'], ['null', 'null'], ['a number', '5'],
        ['true', 'true'], ['an array', '["tok"]'], ['an object', '{}'],
        ['an equals sign', '"="'], ['an equals sign inside', '"a=b"'],
        ['a space', '" "'], ['two words', '"a b"'],
        ['a space at the end', '"tok "'],
        ['CR', '"a\r"'], ['LF', '"a\nb"'],
        ['a header to inject', '"a\r\nX-Evil: 1"'],
        ['NUL', '"a\u0000b"'], ['DEL', '"a\u007f"'], ['a tab', '"a\t"'],
        ['Georgian', "\"\xe1\x83\x90\""], ['a quote', '"a\"b"'],
        ['a comma', '"a,b"'], ['a percent sign', '"a%20b"'],
        ['a backslash', '"a\\\\b"'], ['a dollar', '"$host"'];
row("a token of $_ bytes", body('{"access_token":"' . 'x' x $_ . '"}'),
    'too_large', log => 'the token is too large') for 16385, 17000, 60000;
row("the token $_", body(qq({"access_token":"$_","expires_in":100})), 100,
    token => $_) for 'x', 'a==', '-._~+/', '0' x 200;
row('a token of 16,384 bytes',
    body('{"access_token":"' . 'x' x 16384 . '","expires_in":100}'), 100,
    token => 'x' x 16384);
row('no token', body('{"token_type":"Bearer","expires_in":100}'), 'malformed');
row('a token by another name', body('{"Access_Token":"a","id_token":"b"}'),
    'malformed');

# --- its type

row("token_type $_", body(qq({"access_token":"$token","token_type":$_,)
    . '"expires_in":100}'), 100)
    for '"Bearer"', '"bearer"', '"BEARER"', '"bEaReR"';
row("token_type $_", body(qq({"access_token":"$token","token_type":$_,)
    . '"expires_in":100}'), 'malformed')
    for '"MAC"', '""', '"Bearer "', '" Bearer"', '"Bearer\u0000"', '"DPoP"',
        '"Bear"', '"Bearers"', 'null', '1', 'true', '["Bearer"]', '{}';
row('no token_type', body(qq({"access_token":"$token","expires_in":100})), 100,
    log => 'the answer has no "token_type"');

# --- its lifetime

row("expires_in $_->[0]", whole("\"expires_in\":$_->[0]"), $_->[1])
    for ['100', 100], ['"100"', 100], ['"0100"', 100], ['100.9', 100],
        ['1e2', 100], ['3600', 3600], ['3601', $max], ['86400', $max],
        ['999999999', $max], ['1000000000', $max],
        ['"999999999"', $max],
        # as if absent
        (map { [$_, $default] }
             '0', '-0', '0.0', '-1', '-100', '"0"', '"-100"', '"+100"', '""',
             '" 100"', '"100 "', '"100s"', '"1e2"', '"1.5"', '"x"', '"0x64"',
             'null', 'true', 'false', '[]', '[100]', '{}', '{"x":100}',
             '-1e300'),
        # the past, in seconds and in milliseconds; the latter is the sample
        # of the bank
        ['1000000001', $default], ['1634719923', $default],
        ['1634719923245', $default], ['"1634719923245"', $default],
        # the future
        [$epoch + 100, 100], [($epoch + 100) * 1000, 100],
        ['"' . ($epoch + 100) . '"', 100],
        ['"' . ($epoch + 100) * 1000 . '"', 100],
        [($epoch + 100) * 1000 + 0.5, 100],
        [1e12, $max], ['4000000000', $max], ['4000000000000', $max],
        ['1e15', $max], ['1e300', $max], ['9' x 100, $max],
        ['"' . '9' x 400 . '"', $max], ['9223372036854775808', $max];
row('no expires_in', whole(''), $default);

# times count against the answer's own clock

row("a clock $_->[0], and $_->[1]",
    with(ok_body("\"expires_in\":$_->[2]"), 'Date: ' . date($epoch + $_->[3])),
    $_->[4])
    for ['behind', 'seconds', 100, -1800, 100],
        ['ahead', 'seconds', 100, 1800, 100],
        ['behind', 'epoch seconds', $epoch - 1800 + 100, -1800, 100],
        ['ahead', 'epoch seconds', $epoch + 1800 + 100, 1800, 100],
        ['behind', 'epoch milliseconds', ($epoch - 1700) * 1000, -1800, 100],
        ['of years ago', 'epoch seconds', 1634720023, 1634719923 - $epoch, 100],
        ['of years ago', 'the sample', 1634719923245, 1634719863 - $epoch, 60];

row("Date: $_", with(ok_body("\"expires_in\":${\ ($epoch + 100)}"),
    "Date: $_"), 100)
    for '', 'today', 'Thu, 99 Foo 2020 00:00:00 GMT', '0', 'x' x 1000;
row('no Date', http('200 OK', [], ok_body("\"expires_in\":${\ ($epoch + 100)}"),
    dateless => 1), 100);

my $old = $epoch - 5000;

row("a JWT with $_->[0]", http('200 OK', [@{ $_->[3] // [] }],
    join('', qq({"access_token":"${\ jwt($_->[1]) }"),
         map({ ",$_" } $_->[2] // ()), '}'), dateless => $_->[5]),
    $_->[4], token => jwt($_->[1]))
    for ['exp', "{\"exp\":${\ ($epoch + 100)}}", undef, undef, 100],
        ['a fraction', "{\"exp\":${\ ($epoch + 100)}.9}", undef, undef, 100],
        ['a later exp', "{\"exp\":${\ ($epoch + 500)}}", '"expires_in":100',
         undef, 100],
        ['an earlier exp', "{\"exp\":${\ ($epoch + 100)}}", '"expires_in":500',
         undef, 100],
        ['an earlier exp, expires_in absolute', "{\"exp\":${\ ($epoch + 100)}}",
         "\"expires_in\":${\ (($epoch + 500) * 1000)}", undef, 100],
        ['exp and a sample of the past', "{\"exp\":${\ ($epoch + 100)}}",
         '"expires_in":1634719923245', undef, 100],
        ['exp far off', "{\"exp\":99999999999}", undef, undef, $max],
        ['exp beyond all', "{\"exp\":1e300}", undef, undef, $max],
        ['exp now', "{\"exp\":$epoch}", undef, undef, 'malformed'],
        ['exp in the past', "{\"exp\":$old}", '"expires_in":100', undef,
         'malformed'],
        ['exp 0', '{"exp":0}', '"expires_in":100', undef, 'malformed'],
        ['a negative exp', '{"exp":-1e300}', undef, undef, 'malformed'],
        ['exp past ours, not its Date', "{\"exp\":${\ ($old + 100)}}", undef,
         ['Date: ' . date($old)], 100],
        ['exp past its Date, not ours', "{\"exp\":${\ ($epoch + 100)}}", undef,
         ['Date: ' . date($epoch + 200)], 100],
        ['exp past its Date, iat now',
         "{\"iat\":$epoch,\"exp\":${\ ($epoch + 100)}}", '"expires_in":100',
         ['Date: ' . date($epoch + 310)], 100],
        ['exp near its Date, iat now',
         "{\"iat\":$epoch,\"exp\":${\ ($epoch + 100)}}", '"expires_in":100',
         ['Date: ' . date($epoch + 90)], 100],
        ['exp past its Date and ours',
         "{\"iat\":${\ ($epoch - 200)},\"exp\":${\ ($epoch - 100)}}",
         '"expires_in":100', ['Date: ' . date($epoch + 310)], 'malformed'],
        ['iat for a clock', "{\"iat\":$old,\"exp\":${\ ($old + 100)}}", undef,
         undef, 100, 1],
        ['iat, and an absolute expires_in', "{\"iat\":$old}",
         "\"expires_in\":${\ ($old + 100)}", undef, 100, 1],
        ['iat, and a Date', "{\"iat\":$old,\"exp\":${\ ($epoch + 100)}}",
         undef, undef, 100],
        ['iat of text', "{\"iat\":\"x\",\"exp\":${\ ($epoch + 100)}}", undef,
         undef, 100, 1],
        ['exp of text', '{"exp":"100"}', undef, undef, $default],
        ['exp null', '{"exp":null}', undef, undef, $default],
        ['no exp', '{}', undef, undef, $default],
        ['no object', '[1]', undef, undef, $default],
        ['no JSON', 'exp', undef, undef, $default],
        ['exp twice', '{"exp":1,"exp":1}', undef, undef, $default],
        ['bytes', "\xff\0\x80", undef, undef, $default],
        ['nothing in it', '', undef, undef, $default],
        ['15,000 bytes of levels', '[' x 11000, undef, undef, $default];

row("$_ is no JWT", body(qq({"access_token":"$_"})), $default, token => $_)
    for 'a.b', 'a.b.c', '...', '..', 'a..c', 'a.b.c.d', 'a.b.c.d.e',
        'a.' . encode_base64url("{\"exp\":1}") . '.c.d';


# --- the endpoint: every row has its own path

my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1024)
    or die "listen: $!\n";
my $port = $listener->sockport;

my $endpoint = Bog::Child->new(sub {
    my $loop = shift;
    my (%count, @connections, $recovered);

    Bog::Server->serve($loop, $listener, name => 'token', on_request => sub {
        my ($connection, $request) = @_;

        $count{$request->{uri}}++;

        my ($n) = $request->{uri} =~ m{^/(\d+)\z} or return;

        # one that is kept open has nothing else to hold it
        push @connections, $connection;

        $connection->play($recovered ? ([send => whole()], [end => 'close'])
                                     : @{ $table[$n]{sent} });
    });

    return {
        counts  => sub { $_[1]->(\%count) },
        recover => sub { $_[1]->($recovered = 1) },
    };
});

close $listener;


sub location {
    my $n = shift;

    return "location = /$n { bog_client_id client-$n;"
           . " bog_token_endpoint http://127.0.0.1:$port/$n;"
           . ' ' . ($table[$n]{conf} // '')
           . ' return 200 "$bog_token_state $bog_token_error'
           . ' $bog_token_expires $bog_token_id $bog_bearer_token"; }';
}


my $nginx = Bog::Nginx->new(secret => { main => $secret },
    conf => join "\n",
        'bog_client_secret_file %%SECRET_main%%;',
        "bog_max_lifetime ${max}s; bog_default_lifetime ${default}s;",
        'bog_read_timeout 30s;',
        'server { listen 127.0.0.1:%%PORT%%;',
        map({ location($_) } 0 .. $#table), '}');

$nginx->start;
my ($worker) = $nginx->workers;


sub probe {
    my $n = shift;

    my ($state, $error, $expires, $id, $got) =
        split / /, get($nginx->port, "/$n")->{body} // '', 5;

    return if $state eq 'missing' && $error eq '';

    return { state => $state, error => $error, expires => $expires, id => $id,
             token => $got, at => now() };
}


sub check {
    my $n = shift;

    my $row = $table[$n];
    my $name = $row->{name};

    my $seen = wait_until { probe($n) } 60
        or return fail("$name: no answer was seen");

    return is("$seen->{state} $seen->{error}$seen->{token}",
              "missing $row->{result}", $name)
        if $row->{result} !~ /^\d+\z/;

    my $expected = $row->{token} // $token;

    my $text = join ' ', @$seen{qw(state error id token)};

    # by either clock: the machine may set its wall clock meanwhile
    my $elapsed = max($seen->{at} - $start, time - $epoch);

    is($text, join(' ', 'valid', '', substr(sha256_hex($expected), 0, 16),
                   $expected), $name);
    ok($seen->{expires} <= $row->{result}
       && $seen->{expires} >= $row->{result} - $elapsed - 2,
       "$name: lifetime") or diag "$seen->{expires} of $row->{result}";
}


check($_) for 0 .. $#table;

# after a failure of any kind a good answer is believed

$endpoint->call('recover');

for my $n (grep { $table[$_]{result} !~ /^\d+\z/ } 0 .. $#table) {
    is(wait_until(sub {
        my $seen = probe($n) // {};
        ($seen->{state} // '') eq 'valid' && "$seen->{error}$seen->{token}";
    }, 120), $token, "$table[$n]{name}: recovers");
}

my $counts = $endpoint->call('counts');

is(join(' ', grep { $table[$_]{result} =~ /^\d+\z/ && $counts->{"/$_"} != 1 }
        0 .. $#table), '', 'one request for each token');
is($counts->{'/follow'}, undef, 'no redirect was followed');

is(join(' ', $nginx->workers), $worker, 'the worker lives');
is($nginx->stop, 0, 'stops');
$nginx->clean_log;

my $log = $nginx->log;

for my $n (grep { defined $table[$_]{log} } 0 .. $#table) {
    like($log, qr/\Q$table[$n]{log}\E[^\n]* client id: "client-$n"/,
         "$table[$n]{name}: the log");
}

# by hand: a failure should not print megabytes
ok(index($log, $mark) < 0, 'no body in the log')
    or diag substr $log, index($log, $mark) - 200, 300;
ok(index($log, $secret) < 0, 'no secret in the log');
ok(index($log, 'too big subrequest response') < 0, 'nor of a long token');

diag sprintf '%d rows in %.1f s', scalar @table, now() - $start
    if $ENV{BOG_TIMES};

done_testing;
