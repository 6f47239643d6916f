# What a configuration is refused or warned of for: the exact words, with the
# file and the line.  Every row is an "nginx -t".

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use POSIX ();
use Test::More;

use Bog::CA;
use Bog::Nginx;
use Bog::Util 'slurp';

my $url = 'https://127.0.0.1:1/token';
my $use = 'location / { proxy_pass http://127.0.0.1:1;'
          . ' proxy_set_header X-Token $bog_bearer_token; }';
my $source = 'bog_client_id 8282; bog_client_secret_file %%SECRET_main%%;';

my $clear = '[warn] the client secret is sent in clear text to "%s", use'
            . ' "https://" in %%%%CONF%%%%:%d';
my $decoded = '[warn] the client secret has a "%%" or a "+", which some'
              . ' servers decode, see "bog_client_auth" in %%%%CONF%%%%:2';
my $unpaired = '[emerg] "%s" is used without "%s" in %%%%CONF%%%%:%d';
my $differs = '[warn] locations that share the token of client id "8282" differ'
              . ' in "%s", that of the first one is used in %%%%CONF%%%%:%d';
my $endpoint = '[emerg] %s in token endpoint "%s" in %%%%CONF%%%%:1';


sub endpoint_error { sprintf $endpoint, @_ }


sub check {
    my ($name, $text, $messages, %opt) = @_;

    # in a file of its own a row's lines count from 1
    my $nginx = Bog::Nginx->new(
        secret => { main => "s3cret\n", other => "s3cret-2\n",
                    percent => "s3%cret\n", plus => "s3+cret\n",
                    %{ $opt{secret} // {} } },
        conf   => 'include %%DIR%%/row.conf;',
    );

    my $dir = $nginx->dir;

    for ($text, @$messages) {
        s/%%SECRET_(\w+)%%/$dir\/secret\/$1/g;
        s/%%CONF%%/$dir\/row.conf/g;
        s/%%DIR%%/$dir/g;
    }

    $nginx->file('row.conf', "$text\n");
    $opt{before}->($dir) if $opt{before};

    my ($status, $output) = $nginx->test;

    is(messages($output), join("\n", @$messages), $name);

    my $refused = grep { /^\[emerg\]/ } @$messages;
    is($status, $refused ? 1 : 0, "$name: " . ($refused ? 'refused' : 'good'));

    unlike($output . $nginx->log, qr/s3.?cret|czNjcmV0/,
           "$name: the secret is not shown");
}


# Where the default log is stderr, as Debian's is, lines have a date; else they
# have a name and come twice.

sub messages {
    my $output = shift;

    my $default = qr/^\S+ \S+ (\[\w+\]) \d+#\d+: (.*)/;
    my $stderr = qr/^nginx: (\[\w+\]) (.*)/;

    return join "\n",
        map { /$default/ || /$stderr/ ? "$1 $2" : () }
        grep { !/configuration file .* test/ } split /\n/, $output;
}


# "nginx -t" binds, and port 80 is not ours.

my $sockets = 0;

sub server {
    my $listen = 'listen unix:%%DIR%%/' . $sockets++ . ';';

    return join ' ', "server { $listen", @_, '}';
}


subtest 'the secret file' => sub {
    my $file = '%%SECRET_main%%';
    my $conf = server("bog_token_endpoint $url;", $source, $use);

    my $told = sub { "[emerg] $_[0] in %%CONF%%:1" };
    my $named = sub { $told->("client secret \"$file\" $_[0]") };
    my $control = sub { $named->("has a control character at byte $_[0],"
                                 . ' one secret on one line is expected') };

    my $odd = "[warn] client secret \"$file\" begins or ends with a blank, a"
              . ' quote or a byte order mark, which is sent too in %%CONF%%:1';

    # what is in it => what is said
    my @contents = (
        ['a secret', 's3cret'],
        ['a secret on a line', "s3cret\n"],
        ['a line of CRLF', "s3cret\r\n"],
        ['a byte', 'x'],
        ['a blank before it', ' s3cret', $odd],
        ['a blank behind it', "s3cret \n", $odd],
        ['a blank in it', 's3 cret'],
        ['a byte order mark', "\xef\xbb\xbfs3cret\n", $odd],
        ['a no-break space before it', "\xc2\xa0s3cret", $odd],
        ['a no-break space behind it', "s3cret\xc2\xa0", $odd],
        ['quotes', '"s3cret"', $odd],
        ['apostrophes', "'s3cret'", $odd],
        ['a quote at its end', 's3cret"', $odd],
        ['a quote in it', 's3"cret'],
        ['Georgian', "\xe1\x83\x90"],
        ['bytes above 0x80', "\x80\xff"],
        ['4096 bytes', 'x' x 4096],
        ['4096 bytes on a line', 'x' x 4096 . "\n"],
        ['4096 bytes and CRLF', 'x' x 4096 . "\r\n"],
        ['4097 bytes', 'x' x 4097,
         $named->('is longer than 4096 bytes')],
        ['4097 bytes on a line', 'x' x 4097 . "\n",
         $named->('is longer than 4096 bytes')],
        ['4096 bytes and two lines', 'x' x 4096 . "\n\n",
         $named->('is longer than 4096 bytes')],
        ['100,000 bytes', 'x' x 100000,
         $named->('is longer than 4096 bytes')],
        ['nothing', '', $named->('is empty')],
        ['a line end', "\n", $named->('is empty')],
        ['CRLF', "\r\n", $named->('is empty')],
        ['two lines', "s3cret\ns3cret\n", $control->(7)],
        ['an empty line after it', "s3cret\n\n", $control->(7)],
        ['an empty line before it', "\ns3cret", $control->(1)],
        ['CR at the end', "s3cret\r", $control->(7)],
        ['CRCRLF', "s3cret\r\r\n", $control->(7)],
        ['NUL', "s3\0cret", $control->(3)],
        ['NUL at the end', "s3cret\0", $control->(7)],
        ['a tab', "\ts3cret", $control->(1)],
        ['ESC', "s3cre\x1bt", $control->(6)],
        ['DEL', "s3cret\x7f", $control->(7)],
        ['UTF-16', "s\0003\0", $control->(2)],
    );

    check($_->[0], $conf, [$_->[2] // ()], secret => { main => $_->[1] })
        for @contents;

    my @modes = ([0600], [0400], [0640], [0660], [0601], [0604, 1], [0644, 1],
                 [0606, 1], [0602]);

    for my $mode (@modes) {
        check(sprintf('mode %04o', $mode->[0]), $conf,
            [$mode->[1] ? "[warn] client secret \"$file\" can be read by"
                          . ' everyone, its mode should be 0600 in %%CONF%%:1'
                        : ()],
            before => sub { chmod $mode->[0], "$_[0]/secret/main" });
    }

    check('missing', $conf,
          [$told->("open() client secret \"$file\" failed (2: No such file or"
                   . ' directory)')],
          before => sub { unlink "$_[0]/secret/main" });
    check('a folder that is missing', server("bog_token_endpoint $url;",
          'bog_client_id 8282; bog_client_secret_file %%DIR%%/no/secret;',
          $use),
          [$told->('open() client secret "%%DIR%%/no/secret" failed (2: No such'
                   . ' file or directory)')]);
    check('a folder', $conf, [$named->('is not a regular file')],
          before => sub { unlink "$_[0]/secret/main";
                          mkdir "$_[0]/secret/main" });
    check('a FIFO', $conf, [$named->('is not a regular file')],
          before => sub { unlink "$_[0]/secret/main";
                          POSIX::mkfifo("$_[0]/secret/main", 0600) });
    check('a device', $conf =~ s/%%SECRET_main%%/\/dev\/zero/r,
          ['[emerg] client secret "/dev/zero" is not a regular file in'
           . ' %%CONF%%:1']);
    check('a loop of links', $conf,
          [$told->("open() client secret \"$file\" failed (40: Too many levels"
                   . ' of symbolic links)')],
          before => sub { unlink "$_[0]/secret/main";
                          symlink 'main', "$_[0]/secret/main" });
    check('a link', $conf, [],
          before => sub { unlink "$_[0]/secret/main";
                          symlink 'other', "$_[0]/secret/main" });
    check('relative to the folder of the configuration',
          server("bog_token_endpoint $url; bog_client_id 8282;",
                 'bog_client_secret_file secret/main;', $use), []);
    check('no path', server('bog_client_id 8282;',
          'bog_client_secret_file "";', $use),
          ['[emerg] "bog_client_secret_file" directive needs the path of a'
           . ' file in %%CONF%%:1']);

    SKIP: {
        skip 'root can read everything', 3 if $> == 0;

        check('unreadable', $conf,
              [$told->("open() client secret \"$file\" failed (13: Permission"
                       . ' denied)')],
              before => sub { chmod 0, "$_[0]/secret/main" });
    }
};


subtest 'the client id' => sub {
    my $length = '[emerg] "bog_client_id" directive must be of 1 to 256'
                 . ' characters in %%CONF%%:1';
    my $control = '[emerg] "bog_client_id" directive must be UTF-8 without'
                  . ' control characters in %%CONF%%:1';
    my $variable = '[emerg] "bog_client_id" directive does not support'
                   . ' variables, "$" is not allowed in %%CONF%%:1';
    my $visible = '[emerg] client id "%s" is not of visible ASCII characters'
                  . ' other than ":", as "bog_client_auth basic" needs it in'
                  . ' %%%%CONF%%%%:1';

    # what it is, the id, what is said; with 1 under "basic" only
    my @ids = (
        ['one character', '1'],
        ['256 characters', 'x' x 256],
        ['257 characters', 'x' x 257, $length],
        ['3000 characters', 'x' x 3000, $length],
        ['none', '""', $length],
        ['visible ones', q('!"#%&()*+,-./09;<=>?@AZ[]^_`az{|}~')],
        ['a variable', '$host', $variable],
        ['a dollar', 'a$', $variable],
        ['a tab', "\"a\tb\"", $control],
        ['a line end', "\"a\\nb\"", $control],
        ['DEL', "\"a\x7f\"", $control],
        ['half of a character', "\"\xe1\x83\"", $control],
        ['Latin-1', "\"a\xe9b\"", $control],
        map({ [@$_, sprintf($visible, $_->[1] =~ s/"//gr), 1] }
            ['a URL', 'https://gw.example/client'],
            ['a colon only', ':'],
            ['a blank', '"a b"'],
            ['a blank at the end', '"a "'],
            ['Georgian', "\"\xe1\x83\x90\""]),
    );

    for my $auth ('basic', 'basic_urlencoded') {
        check("$auth: $_->[0]",
              server("bog_token_endpoint $url; bog_client_auth $auth;",
                     "bog_client_id $_->[1];",
                     'bog_client_secret_file %%SECRET_main%%;', $use),
              [defined $_->[2] && ($auth eq 'basic' || !$_->[3]) ? $_->[2]
                                                                 : ()])
            for @ids;
    }

    check('of a location that says how',
          server("bog_token_endpoint $url; bog_client_id a:b;",
                 'bog_client_secret_file %%SECRET_main%%; location /a {',
                 'bog_client_auth basic_urlencoded;',
                 'proxy_pass http://127.0.0.1:1; }'), []);
};


subtest 'the endpoint' => sub {
    my $begin = 'the URL must begin with "https://" or "http://"';
    my $character = 'invalid character in the URL';
    my $port = 'invalid port';
    my $host = 'no host';
    my $variable = 'variables are not supported in the URL';

    # a url => '': good; 'clear': good, with a warning; else what is wrong
    my @urls = (
        ['https://127.0.0.1/token', ''],
        ['HTTPS://127.0.0.1/token', ''],
        ['https://127.0.0.1', ''],
        ['https://127.0.0.1/', ''],
        ['https://127.0.0.1?a=b', ''],
        ['https://127.0.0.1/token?a=b&c=%20', ''],
        ['https://127.0.0.1:65535/token', ''],
        ['https://127.0.0.1:1/token', ''],
        ['https://10.1.2.3/token', ''],
        ['https://[::1]/token', ''],
        ['https://[::1]:8443/token', ''],
        ['https://[2001:db8::1]/token', ''],
        ['https://localhost/token', ''],
        ['https://unix:/run/bank.sock:/token', ''],
        ['https://unix:/run/bank.sock', ''],

        ['http://127.0.0.1/token', ''],
        ['http://127.0.0.1:8080/token', ''],
        ['http://127.255.1.2/token', ''],
        ['http://[::1]/token', ''],
        ['http://[::1]:8080/token', ''],
        ['http://localhost/token', ''],
        ['http://localhost:8080/token', ''],
        ['http://LocalHost/token', ''],
        ['http://unix:/run/bank.sock:/token', ''],
        ['http://bank/token', ''],
        ['http://BANK/token', ''],
        ['https://bank/token', ''],

        ['http://10.1.2.3/token', 'clear'],
        ['HTTP://10.1.2.3/token', 'clear'],
        ['http://128.0.0.1/token', 'clear'],
        ['http://126.0.0.1/token', 'clear'],
        ['http://0.0.0.0/token', 'clear'],
        ['http://[2001:db8::1]/token', 'clear'],
        ['http://[::2]/token', 'clear'],

        ['', $begin],
        ['127.0.0.1/token', $begin],
        ['bank.example', $begin],
        ['ftp://127.0.0.1/token', $begin],
        ['https:/127.0.0.1/token', $begin],
        ['https//127.0.0.1/token', $begin],
        ['https://', $begin],
        ['http://', $begin],
        ['://127.0.0.1/', $begin],
        ['unix:/run/bank.sock', $begin],

        ['https:///token', $host],
        ['https://:443/token', $host],
        ['https://?a', $host],
        ['https://127.0.0.1:0/token', $port],
        ['https://127.0.0.1:65536/token', $port],
        ['https://127.0.0.1:x/token', $port],
        ['https://127.0.0.1:-1/token', $port],
        ['https://127.0.0.1:/token', $port],
        ['https://[::1]:65536/token', $port],
        ['https://[::1/token', 'invalid host'],
        ['https://[::g]/token', 'invalid IPv6 address'],
        ['https://unix:', 'no path in the unix domain socket'],

        ['https://$host/token', $variable],
        ['https://127.0.0.1/$uri', $variable],
        ['https://user@127.0.0.1/token', $character],
        ['https://127.0.0.1/a b', $character],
        ['https://127.0.0.1/#part', $character],
        ['https://127.0.0.1/<token>', $character],
        ['https://127.0.0.1/{token}', $character],
        ['https://127.0.0.1/a|b', $character],
        ['https://127.0.0.1/a`b', $character],
        ['https://127.0.0.1/a^b', $character],
        ["https://127.0.0.1/\tx", $character],
        ["https://127.0.0.1/\x01", $character],
        ["https://127.0.0.1/\x7f", $character],
        ["https://127.0.0.1/\xe1\x83\x90", $character],
    );

    for my $row (@urls) {
        my ($of, $result) = @$row;

        check("\"$of\"",
            server("bog_token_endpoint \"$of\";", $source, $use)
            . "\nupstream bank { server 127.0.0.1:1; }",
            [$result eq ''      ? ()
             : $result eq 'clear' ? sprintf($clear, $of, 1)
             : endpoint_error($result, $of)]);
    }

    check('an upstream{} with a port',
          server('bog_token_endpoint http://bank:80/token;', $source, $use)
          . "\nupstream bank { server 127.0.0.1:1; }",
          ['[emerg] upstream "bank" may not have port 80 in %%CONF%%:1']);

    check('an upstream{} that comes before',
          "upstream bank { server 127.0.0.1:1; }\n"
          . server('bog_token_endpoint http://bank/token;', $source, $use),
          []);

    check('clear text, in its own line and once',
          "bog_token_endpoint http://10.1.2.3/token;\n"
          . "bog_token_param scope corp; $source\n"
          . server($use, $use =~ s{/ }{/b }r)
          . "\n" . server("bog_token_param a b; $use"),
          [sprintf $clear, 'http://10.1.2.3/token', 1]);

    check('clear text that nobody uses',
          server('location /off { bog_token off;',
                 'bog_token_endpoint http://10.1.2.3/token; }')
          . "\n" . server("bog_token_endpoint $url; $source $use"), []);

    check('a name that cannot be found',
          server('bog_token_endpoint https://bank.invalid/token;', $source,
                 $use),
          []);
    check('a name that cannot be found, in clear text',
          server('bog_token_endpoint http://bank.invalid/token;', $source,
                 $use),
          [sprintf($clear, 'http://bank.invalid/token', 1)]);
    check('a name, and a resolver',
          server('bog_token_endpoint https://bank.invalid/token;', $source,
                 'resolver 127.0.0.1:1;', $use), []);
};


subtest 'parameters' => sub {
    my $grant = '[emerg] "bog_token_param" directive cannot change'
                . ' "grant_type", it always is "client_credentials" in'
                . ' %%CONF%%:1';
    my $arguments = '[emerg] invalid number of arguments in "bog_token_param"'
                    . ' directive in %%CONF%%:1';

    my @params = (
        ['scope corp'], ['scope ""'], ['"a b" "c d"'], ['Grant_Type x'],
        ['grant_type2 x'], ['grant_typ x'],
        ['a b; bog_token_param a b'],
        ['grant_type password', $grant],
        ['grant_type client_credentials', $grant],
        ['client_secret x', '[emerg] "bog_token_param" directive cannot hold'
                            . ' the secret, use "bog_client_secret_file" in'
                            . ' %%CONF%%:1'],
        ['"" x', '[emerg] "bog_token_param" directive needs a name in'
                 . ' %%CONF%%:1'],
        ['scope', $arguments], ['scope a b', $arguments], ['', $arguments],
    );

    check("\"$_->[0]\"",
          server("bog_token_endpoint $url; $source bog_token_param $_->[0];",
                 $use), [$_->[1] // ()]) for @params;
};


subtest 'what some servers decode' => sub {
    my $conf = sub {
        my ($secret, @more) = @_;
        return "bog_token_endpoint $url; bog_client_id 8282;\n"
               . "bog_client_secret_file %%SECRET_$secret%%;\n"
               . server(@more, $use);
    };

    check('a percent sign', $conf->('percent'), [sprintf $decoded]);
    check('a plus', $conf->('plus'), [sprintf $decoded]);
    check('neither', $conf->('main'), []);
    check("$_ said to be encoded",
          $conf->($_, 'bog_client_auth basic_urlencoded;'), [])
        for qw(percent plus main);
    check('said to be raw', $conf->('plus', 'bog_client_auth basic;'),
          [sprintf $decoded]);
};


subtest 'credentials that miss their other half' => sub {
    my ($id, $file) = ('bog_client_id', 'bog_client_secret_file');
    my ($one, $other) = ("$id 8282;", "$file %%SECRET_main%%;");

    for my $half ([$one, $id, $file], [$other, $file, $id]) {
        my ($text, $name, $missing) = @$half;
        my $rest = $text eq $one ? $other : $one;

        my $error = sub { [sprintf $unpaired, $name, $missing, @_] };
        my $endpoint = "bog_token_endpoint $url;";

        check("$name in http", "$text\n" . server($use), $error->(1));
        check("$name in server", server("\n$text\n", $use), $error->(2));
        check("$name in location",
              server("\nlocation /a {\n$text proxy_pass http://127.0.0.1:1; }"),
              $error->(3));
        check("$name in a location that passes nothing on",
              server("\nlocation /a {\n$text }"), $error->(3));
        check("$name, completed in a location only",
              "$text $endpoint\n"
              . server("location /a { $rest proxy_pass http://127.0.0.1:1; }"),
              []);
        check("$name, completed in one of two locations",
              "$text\n$endpoint\n"
              . server("location /a { $rest proxy_pass http://127.0.0.1:1; }",
                       'location /b { proxy_pass http://127.0.0.1:1; }'),
              $error->(1));
        check("$name, and off where it is not complete",
              "$text\n$endpoint\n"
              . server("location /a { $rest proxy_pass http://127.0.0.1:1; }",
                       'location /b { bog_token off;',
                       'proxy_pass http://127.0.0.1:1; }'), []);
        check("$name in one server, the other half in another",
              server("\n$text $use") . server("\n$rest $use"), $error->(2));
        check("$name, completed by the other of the level above",
              "$rest $endpoint\n" . server($text, $use), []);
    }

    my $none = '[emerg] "$bog_bearer_token" is used, but there is no'
               . ' "bog_client_id" and no "bog_client_secret_file" in ';

    for my $used ($use, 'location / { return 200 $bog_bearer_token; }',
                  'location / { set $a "x$bog_bearer_token"; }',
                  'add_header X-A "${bog_bearer_token}";',
                  'if ($bog_bearer_token) { return 200; }')
    {
        my $nginx = Bog::Nginx->new(conf => server($used));

        my ($status, $output) = $nginx->test;
        my $main = $nginx->dir . '/nginx.conf';
        my $last = () = slurp($main) =~ /\n/g;
        my ($line) = $output =~ /:(\d+)$/m;

        like(messages($output), qr/^\Q$none$main\E:\d+$/m,
             "no credentials: $used");
        is($status, 1, 'refused');
        is($line, $last, 'at the end of http{}');
    }

    check('no token, no credentials', server('location / { return 200; }'),
          []);
    check('other variables without credentials',
          server('location / { return 200 "$bog_token_state$bog_token_error'
                 . '$bog_hold_time$bog_token_id$bog_token_expires"; }'), []);
};


# Without a location that passes requests on there is nothing to fetch for.

subtest 'credentials that nobody uses' => sub {
    my $unused = '[warn] no location passes requests on with client id "8282",'
                 . ' no token is fetched for it in %%CONF%%:1';
    my $return = 'location / { return 200 $bog_bearer_token; }';

    check($_->[0], "$_->[1]", [$_->[2] // ()]) for (
        ['in a server', server("$source $return"), $unused],
        ['in two locations', server("$source $return location /a { }"),
         $unused],
        ['in http, no server', $source],
        ['in the location', server($return =~ s{return}{bog_token_endpoint $url; $source return}r)],
        ['used at another endpoint',
         server("$source $return location /a { bog_token_endpoint $url;"
                . ' proxy_pass http://127.0.0.1:1; }')],
        ['by a state only', server("$source location /a { bog_status; }"),
         $unused],
        ['off', server("$source bog_token off; $return")],
    );
};


subtest 'settings that differ' => sub {
    my $ca = Bog::CA->shared;
    my $path = $ca->path;
    my $cert = $ca->cert(name => 'client.test');

    my @settings = (
        ['bog_refresh_before', '10s', '0'],
        ['bog_max_lifetime', '10s', '10m'],
        ['bog_default_lifetime', '10s', '11s'],
        ['bog_connect_timeout', '10s', '11s'],
        ['bog_send_timeout', '10s', '11s'],
        ['bog_read_timeout', '20s', '11s'],
        ['bog_bind', '127.0.0.1', 'off'],
        ['bog_bind', '127.0.0.1', '127.0.0.2'],
        ['bog_ssl_verify_depth', '2', '3'],
        ['bog_ssl_protocols', 'TLSv1.2', 'TLSv1.3'],
        ['bog_ssl_ciphers', 'HIGH', 'DEFAULT'],
        ['bog_ssl_name', 'a.example', 'b.example'],
        ['bog_ssl_trusted_certificate', $path, $cert->{cert}],
        ['bog_ssl_conf_command', 'Options PrioritizeChaCha',
         'Options ServerPreference'],
    );

    my $two = sub {
        my ($first, $second) = @_;
        my $pass = 'proxy_pass http://127.0.0.1:1;';

        return "bog_token_endpoint $url;\n$source\n"
               . server("\nlocation /a { $first $pass }",
                        "\nlocation /b { $second $pass }");
    };

    for my $row (@settings) {
        my ($name, $a, $b) = @$row;

        check("$name $a, $b", $two->("$name $a;", "$name $b;"),
              [sprintf $differs, $name, 2]);
        check("$name $a, default", $two->("$name $a;", ''),
              [sprintf $differs, $name, 2]);
        check("$name $a, $a", $two->("$name $a;", "$name $a;"), []);
    }

    check('bog_ssl_verify', $two->('bog_ssl_verify off;', ''),
          ['[warn] "bog_ssl_verify off" lets anyone on the way to the token'
           . ' endpoint read the client secret in %%CONF%%:4',
           sprintf $differs, 'bog_ssl_verify', 2]);
    check('two of them', $two->('bog_read_timeout 20s; bog_send_timeout 1s;',
                                ''),
          [map { sprintf $differs, $_, 2 } qw(bog_send_timeout
                                              bog_read_timeout)]);
    check('what a location has for itself',
          $two->('bog_wait_timeout 1s; bog_token optional;',
                 'bog_wait_timeout 2s;'), []);
    check('another source', $two->('bog_read_timeout 20s;',
                                   'bog_token_param a b;'), []);
    check('one is off', $two->('bog_read_timeout 20s; bog_token off;', ''),
          []);
    check('equal times in other words', $two->('bog_read_timeout 20s;',
                                               'bog_read_timeout 20000ms;'),
          []);
    check('the default, said', $two->('bog_read_timeout 10s;', ''), []);

    # nginx makes a full path of the first one
    my $relative = 'bog_token_endpoint https://127.0.0.1:1/token;'
                   . ' bog_ssl_trusted_certificate ' . '../' x 20 . "$path;";
    check('the same relative path',
          $two->($relative, $relative) =~ s/\Abog_token_endpoint.*\n//r, []);
};


subtest 'TLS' => sub {
    my $ca = Bog::CA->shared;
    my $cert = $ca->cert(name => 'client.test');
    my $verify = '[warn] "bog_ssl_verify off" lets anyone on the way to the'
                 . ' token endpoint read the client secret in %%CONF%%:1';
    my $name = '[emerg] "bog_ssl_name" directive must be of visible ASCII'
               . ' characters in %%CONF%%:1';

    my @rows = (
        ['bog_ssl_verify off', $verify],
        ['bog_ssl_verify on'],
        ['bog_ssl_verify maybe', '[emerg] invalid value "maybe" in'
         . ' "bog_ssl_verify" directive, it must be "on" or "off" in'
         . ' %%CONF%%:1'],
        ['bog_ssl_protocols TLSv1.2 TLSv1.3'],
        ['bog_ssl_protocols TLSv1.1',
         '[emerg] invalid value "TLSv1.1" in %%CONF%%:1'],
        ['bog_ssl_protocols SSLv3',
         '[emerg] invalid value "SSLv3" in %%CONF%%:1'],
        ['bog_ssl_name "a b"', $name], ["bog_ssl_name \"a\\r\\nX: y\"", $name],
        ["bog_ssl_name \"\xe1\x83\x90\"", $name],
        ['bog_ssl_name ""', '[emerg] "bog_ssl_name" directive needs a name in'
         . ' %%CONF%%:1'],
        ['bog_ssl_verify_depth x',
         '[emerg] "bog_ssl_verify_depth" directive invalid number in'
         . ' %%CONF%%:1'],
        ["bog_ssl_certificate $cert->{cert}",
         "[emerg] no \"bog_ssl_certificate_key\" is defined for certificate"
         . " \"$cert->{cert}\""],
        ["bog_ssl_certificate_key $cert->{key}",
         "[emerg] no \"bog_ssl_certificate\" is defined for key"
         . " \"$cert->{key}\""],
        ["bog_ssl_certificate $cert->{cert};"
         . " bog_ssl_certificate_key $cert->{key}"],
        ['bog_bind 127.0.0.1'], ['bog_bind off'],
        ['bog_bind $remote_addr',
         '[emerg] "bog_bind" directive does not support variables, there is no'
         . ' client\'s request in %%CONF%%:1'],
        ['bog_bind nowhere',
         '[emerg] invalid address "nowhere" in %%CONF%%:1'],
    );

    check($_->[0], server("bog_token_endpoint $url; $source $_->[0]; $use"),
          [$_->[1] // ()]) for @rows;

    # what OpenSSL says is its own affair
    my @refused = (
        ['bog_ssl_trusted_certificate %%DIR%%/none', 'none'],
        ['bog_ssl_trusted_certificate %%SECRET_main%%', 'secret/main'],
        ['bog_ssl_crl %%DIR%%/none', 'none'],
        ['bog_ssl_ciphers NONE', 'NONE'],
        ['bog_ssl_conf_command Nothing x', 'Nothing'],
        ["bog_ssl_certificate %%DIR%%/none; bog_ssl_certificate_key"
         . " $cert->{key}", 'none'],
    );

    for my $row (@refused) {
        my $nginx = Bog::Nginx->new(secret => { main => 's3cret' },
            conf => server("bog_token_endpoint $url; $source $row->[0]; $use"));

        my ($status, $output) = $nginx->test;

        is($status, 1, "$row->[0]: refused");
        like(messages($output), qr/^\[emerg\] .*\Q$row->[1]\E/m, 'named');
    }
};


subtest 'times' => sub {
    my @times = qw(bog_wait_timeout bog_refresh_before bog_max_lifetime
                   bog_default_lifetime bog_connect_timeout bog_send_timeout
                   bog_read_timeout);
    my %zero = map { $_ => 1 } qw(bog_wait_timeout bog_refresh_before);

    for my $name (@times) {
        my $conf = sub { server("bog_token_endpoint $url; $source $name $_[0];",
                                $use) };

        check("$name 0", $conf->('0'),
              [$zero{$name} ? () : "[emerg] \"$name\" directive must be above"
                                   . ' zero in %%CONF%%:1']);
        check("$name 0ms", $conf->('0ms'),
              [$zero{$name} ? () : "[emerg] \"$name\" directive must be above"
                                   . ' zero in %%CONF%%:1']);
        check("$name $_", $conf->($_), []) for qw(1ms 10 1h30m 1d);
        check("$name $_", $conf->($_),
              ["[emerg] \"$name\" directive must be at most one day in"
               . ' %%CONF%%:1']) for qw(86400001ms 106751991167d);
        check("$name $_", $conf->($_),
              ["[emerg] \"$name\" directive invalid value in %%CONF%%:1"])
            for qw(x -1 1.5s 10x), '""';
    }
};


subtest 'values' => sub {
    my @rows = (
        ['bog_token never', '[emerg] invalid value "never" in %%CONF%%:1'],
        ['bog_token on', '[emerg] invalid value "on" in %%CONF%%:1'],
        ['bog_client_auth post', '[emerg] invalid value "post" in %%CONF%%:1'],
        ['location /s { bog_status yaml; }', '[emerg] "bog_status" directive'
         . ' must be "json", "prometheus", "text" or "html" in %%CONF%%:1'],
        ['location /s { bog_status; bog_status json; }',
         '[emerg] "bog_status" directive is duplicate in %%CONF%%:1'],
        ['location /s { bog_status json html; }', '[emerg] invalid number of'
         . ' arguments in "bog_status" directive in %%CONF%%:1'],
        ['location /s { proxy_pass http://127.0.0.1:1; bog_status; }',
         '[emerg] "bog_status" directive needs a location without another'
         . ' content handler in %%CONF%%:1'],
        ['location /s { bog_status; proxy_pass http://127.0.0.1:1; }'
         . ' bog_token required',
         '[emerg] "bog_status" is not the only content handler of location'
         . ' "/s"'],
        ['bog_status', '[emerg] "bog_status" directive is not allowed here in'
         . ' %%CONF%%:1'],
        ['bog_client_secret x',
         '[emerg] unknown directive "bog_client_secret" in %%CONF%%:1'],
    );

    check($_->[0], server("bog_token_endpoint $url; $source $_->[0]; $use"),
          [$_->[1]]) for @rows;
};


subtest 'duplicates, arguments, contexts' => sub {
    my %value = (
        bog_client_id => 'x', bog_client_secret_file => '%%SECRET_main%%',
        bog_token_endpoint => $url, bog_client_auth => 'basic',
        bog_token => 'required', bog_bind => 'off', bog_ssl_verify => 'on',
        bog_ssl_ciphers => 'HIGH', bog_ssl_name => 'a.test',
        bog_ssl_verify_depth => 1, bog_ssl_trusted_certificate => '/a',
        bog_ssl_crl => '/a', bog_ssl_certificate => '/a',
        bog_ssl_certificate_key => '/a',
        map({ ("bog_$_" => '1s') }
            qw(wait_timeout refresh_before max_lifetime default_lifetime
               connect_timeout send_timeout read_timeout)),
    );

    for my $name (sort keys %value) {
        my $line = "$name $value{$name};";

        check("$name twice", server("$line\n$line"),
              ["[emerg] \"$name\" directive is duplicate in %%CONF%%:2"]);
        check("$name, $_->[0] arguments", server("$name$_->[1];"),
              ['[emerg] invalid number of arguments in'
               . " \"$name\" directive in %%CONF%%:1"])
            for ['no', ''], ['two', ' a b'];
        check("$name in an if", server("location / { if (\$uri) { $line } }"),
              ["[emerg] \"$name\" directive is not allowed here in"
               . ' %%CONF%%:1']);
    }

    check('"bog_ssl_protocols TLSv1.2" twice',
          server('bog_ssl_protocols TLSv1.2 TLSv1.2;'),
          ['[warn] duplicate value "TLSv1.2" in %%CONF%%:1']);
};


subtest 'the folder of stored tokens' => sub {
    my $path = 'bog_state_path';
    my $folder = "[emerg] \"$path\" directive needs the path of a folder in"
                 . ' %%CONF%%:1';
    my $used = '[emerg] the same path name "%%DIR%%/s" used in'
               . ' %%DIR%%/row.conf:1 and in %%CONF%%:2';

    check('a folder', "$path %%DIR%%/s;", []);
    check('one with slashes behind', "$path %%DIR%%/s//;", []);
    check('one of the prefix', "$path s;", []);
    check('with sources, before them',
          "$path %%DIR%%/s;" . server("bog_token_endpoint $url; $source $use"),
          []);
    check('behind them',
          server("bog_token_endpoint $url; $source $use") . "$path %%DIR%%/s;",
          []);

    check('none', "$path \"\";", [$folder]);
    check('the root', "$path /;", [$folder]);
    check('more than the root', "$path ///;", [$folder]);
    check('no argument', "$path;", ['[emerg] invalid number of arguments in'
                                    . " \"$path\" directive in %%CONF%%:1"]);
    check('two arguments', "$path a b;",
          ["[emerg] invalid number of arguments in \"$path\" directive in"
           . ' %%CONF%%:1']);
    check('twice', "$path a;\n$path b;",
          ["[emerg] \"$path\" directive is duplicate in %%CONF%%:2"]);
    check('the same twice', "$path a;\n$path a;",
          ["[emerg] \"$path\" directive is duplicate in %%CONF%%:2"]);
    check('in a server', server("$path a;"),
          ["[emerg] \"$path\" directive is not allowed here in %%CONF%%:1"]);
    check('in a location', server("location / { $path a; }"),
          ["[emerg] \"$path\" directive is not allowed here in %%CONF%%:1"]);

    check('that of another path',
          "$path %%DIR%%/s;\nproxy_cache_path %%DIR%%/s keys_zone=a:1m;",
          [$used]);
    check('behind a file', "$path %%SECRET_main%%/s;",
          ['[emerg] mkdir() "%%SECRET_main%%/s" failed (20: Not a directory)']);
};


done_testing;
