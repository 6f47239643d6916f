# What may become of a token request over TLS.  Every row is a source of its
# own in one nginx, with a server of its own: that fails once, and then, when
# told so, it answers as it should.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use File::Temp;
use IO::Socket::INET;
use IO::Socket::SSL;
use POSIX ();
use Socket qw(IPPROTO_TCP SOL_SOCKET SO_LINGER TCP_NODELAY);
use Test::More;

use Bog::CA;
use Bog::Client 'get';
use Bog::Nginx;
use Bog::Util qw(now timeout wait_until slurp spew);

my $ca = Bog::CA->shared;
my $other = Bog::CA->new(name => 'another CA');
my $address = '127.0.0.1';

my $good = $ca->cert(name => $address);
my $client = $ca->cert(name => 'gateway', client => 1);
my $revoked = $ca->cert(name => $address, days => 20);
my $crl = $ca->crl($revoked);

my $body = '{"access_token":"tok","token_type":"Bearer","expires_in":100}';
my $head = "HTTP/1.1 200 OK\r\n";
my $length = 'Content-Length: ' . length($body) . "\r\n\r\n";

my $dir = File::Temp->newdir('bog-tls-XXXXXX', TMPDIR => 1);
my (@table, @servers);


# --- servers

# %opt: what IO::Socket::SSL takes.  Returns nothing where the handshake fails.

sub tls {
    my ($fh, %opt) = @_;

    # an answer that waits for an acknowledgement is lost in a reset
    setsockopt $fh, IPPROTO_TCP, TCP_NODELAY, 1;

    return IO::Socket::SSL->start_SSL($fh,
        SSL_server      => 1,
        SSL_cert_file   => $good->{cert},
        SSL_key_file    => $good->{key},
        SSL_verify_mode => SSL_VERIFY_NONE,
        %opt,
    );
}


sub request {
    my $fh = shift;

    my $text = '';

    while ($text !~ /\r\n\r\ngrant_type=client_credentials\z/) {
        sysread $fh, $text, 4096, length $text or return;
    }

    return 1;
}


# The answer, and then an end of the kind that $end makes.

sub answering {
    my ($bytes, $end, %opt) = @_;

    return sub {
        my $fh = tls($_[0], %opt) or return;

        request($fh) or return;
        syswrite $fh, $bytes;
        $end->($fh) if $end;
        $fh->close(SSL_fast_shutdown => 1, SSL_no_shutdown => $end ? 1 : 0);
    };
}


sub cut { shutdown $_[0], 1 }

# A reset takes away what the other end has not read yet.  So first all that was
# sent has to come there, which is when it has been acknowledged, and then to be
# read.

sub reset_it {
    my $fh = shift;

    my ($sent, $read) = map { sprintf ':%04X [0-9A-F]{8}:%04X [0-9A-F]{2}', @$_ }
                        [$fh->sockport, $fh->peerport],
                        [$fh->peerport, $fh->sockport];

    wait_until { slurp('/proc/net/tcp') =~ /$sent 0{8}:/ };
    wait_until { slurp('/proc/net/tcp') =~ /$read [0-9A-F]{8}:0{8}/ };

    setsockopt $fh, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
}


# Waits for the client to give up, but not for ever.

sub silent {
    my $fh = shift;

    local $SIG{ALRM} = sub { die "nobody gives up\n" };
    alarm timeout(20);

    while (sysread $fh, my $bytes, 4096) { }
    alarm 0;
}


# A server that knows no TLS: these bytes in answer to a ClientHello.

sub saying {
    my ($bytes, $end) = @_;

    return sub {
        my $fh = shift;

        sysread $fh, my $hello, 4096;
        syswrite $fh, $bytes;
        $end->($fh) if $end;
    };
}


sub alert { pack 'CnnCC', 21, 0x303, 2, 2, $_[0] }


# Nobody is answered well before the test has seen what a failure looks like.

sub server {
    my ($n, $fail) = @_;

    my $listener = IO::Socket::INET->new(LocalAddr => $address, Listen => 64)
        or die "listen: $!\n";

    my $pid = fork // die "fork: $!\n";

    if ($pid) {
        push @servers, $pid;
        return $listener->sockport;
    }

    local $SIG{PIPE} = 'IGNORE';
    my $parent = getppid;
    my $succeed = answering("$head$length$body");

    for (my $count = 0; my $fh = $listener->accept; $count++) {
        select undef, undef, undef, 0.01
            while $count && !-e "$dir/$n" && getppid == $parent;

        eval { $count ? $succeed->($fh) : $fail->($fh) };
        close $fh;
    }

    POSIX::_exit(0);
}


END { kill KILL => @servers if @servers }


# --- rows

# The error's class, or nothing for a token at once.  %opt: conf.

sub row {
    my ($name, $server, $result, %opt) = @_;

    push @table, { name => $name, server => $server, result => $result,
                   %opt };
}


sub with_cert {
    my $cert = shift;

    return answering("$head$length$body", undef,
                     SSL_cert_file => $cert->{cert},
                     SSL_key_file => $cert->{key}, @_);
}


my $self_signed = { cert => $other->path,
                    key  => $other->path =~ s/crt\z/key/r };

# --- certificates

row('a good one', with_cert($good), '');
row('of another name', with_cert($ca->cert(name => 'other.test')), 'tls');
row('of another address', with_cert($ca->cert(name => '127.0.0.2')), 'tls');
# nginx takes an address for a name

row('of an address as a name',
    with_cert($ca->cert(name => 'gateway', san => ["DNS:$address"])), '');
row('of an address that is not a name',
    with_cert($ca->cert(name => 'gateway', san => ["IP:$address"])), 'tls');
row('expired', with_cert($ca->cert(name => $address, days => -1)), 'tls');
row('not yet valid', with_cert($ca->cert(name => $address, from => 1)), 'tls');
row('of another CA', with_cert($other->cert(name => $address)), 'tls');
row('signed by itself', with_cert($self_signed), 'tls');
row('made for clients', with_cert($client), 'tls');
row('revoked', with_cert($revoked), 'tls', conf => "bog_ssl_crl $crl;");
row('revoked, and nobody knows', with_cert($revoked), '');
row('not revoked', with_cert($good), '', conf => "bog_ssl_crl $crl;");
row('a list of another CA', with_cert($good), 'tls',
    conf => 'bog_ssl_crl ' . $other->crl . ';', stays => 1);
row('not to be verified', with_cert($self_signed), '',
    conf => 'bog_ssl_verify off;');
row('that of the name wanted', with_cert($ca->cert(name => 'other.test')), '',
    conf => 'bog_ssl_name other.test;');

# --- protocols

my %old = (SSL_cipher_list => 'DEFAULT:@SECLEVEL=0');

row("of $_->[0]", with_cert($good, SSL_version => $_->[0], %old), $_->[1])
    for ['TLSv1_3', ''], ['TLSv1_2', ''], ['TLSv1_1', 'tls'],
        ['TLSv1', 'tls'];
row('1.2, where 1.3 is demanded', with_cert($good, SSL_version => 'TLSv1_2'),
    'tls', conf => 'bog_ssl_protocols TLSv1.3;');
row('1.3, where 1.2 is demanded', with_cert($good, SSL_version => 'TLSv1_3'),
    'tls', conf => 'bog_ssl_protocols TLSv1.2;');
row('no cipher in common', with_cert($good, SSL_version => 'TLSv1_2',
    SSL_cipher_list => 'ECDHE-ECDSA-AES128-GCM-SHA256'), 'tls',
    conf => 'bog_ssl_ciphers ECDHE-ECDSA-AES256-GCM-SHA384;');

# --- client certificates

my %demand = (SSL_ca_file => $ca->path, SSL_verify_mode =>
              SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT);

for my $version (qw(TLSv1_2 TLSv1_3)) {
    my @demand = (SSL_version => $version, %demand);

    row("a client certificate is demanded, $version",
        with_cert($good, @demand), 'tls');
    row("a client certificate is given, $version", with_cert($good, @demand),
        '', conf => "bog_ssl_certificate $client->{cert};"
                    . " bog_ssl_certificate_key $client->{key};");
}

# --- the handshake

# sooner or later than what nginx sends first
row('closed at once', sub {}, '(?:tls|connect)');
row('closed after the first message', saying(''), 'tls');
row('closed in the middle', saying(pack 'CnnC', 22, 0x303, 100, 2), 'tls');
row('reset after the first message', saying('', \&reset_it), 'tls');
row("alert $_->[0]", saying(alert($_->[0])), 'tls')
    for [40], [42], [70], [80], [112];
row('HTTP without TLS', saying("HTTP/1.1 400 Bad Request\r\n\r\n"), 'tls');
row('the answer without TLS', saying("$head$length$body"), 'tls');
row('an SSH server', saying("SSH-2.0-OpenSSH_9.2\r\n"), 'tls');
row('zeros', saying("\0" x 1000), 'tls');
row('silence', \&silent, 'timeout', conf => 'bog_connect_timeout 1s;');
row('silence after the first message', saying('', \&silent), 'timeout',
    conf => 'bog_connect_timeout 1s;');

# --- the answer

for my $version (qw(TLSv1_2 TLSv1_3)) {
    my @version = (SSL_version => $version);
    my $row = sub {
        my ($name, $bytes, $end, $result, @opt) = @_;
        row("$name, $version", answering($bytes, $end, @version), $result,
            @opt);
    };

    $row->('a length', "$head$length$body", undef, '');
    $row->('a length, cut off', "$head$length$body", \&cut, '');
    $row->('a length, and less than it', $head . $length . substr($body, 0, -1),
           undef, 'malformed');
    $row->('a length, cut off before', $head . $length . substr($body, 0, -1),
           \&cut, 'malformed');
    $row->('until the end', "$head\r\n$body", undef, '');
    $row->('until the end, without close_notify', "$head\r\n$body", \&cut, '');
    $row->('until the end, which is a reset', "$head\r\n$body", \&reset_it, '');
    $row->('until the end, which is early', "$head\r\n" . substr($body, 0, -1),
           \&cut, 'malformed');
    $row->('cut off in the header', $head, \&cut, 'malformed');
    $row->('nothing', '', undef, 'malformed');
    $row->('nothing, cut off', '', \&cut, 'malformed');
    $row->('chunks without the last one, cut off',
           "${head}Transfer-Encoding: chunked\r\n\r\n"
           . sprintf("%x\r\n%s\r\n", length $body, $body), \&cut, 'malformed');
    $row->('garbage in mid-answer', $head . $length . substr($body, 0, 20),
           sub { syswrite_plain($_[0], 'x' x 100) }, 'malformed');
    $row->('silence', '', \&silent, 'timeout', conf => 'bog_read_timeout 1s;');
    $row->('silence in mid-answer', $head . $length . substr($body, 0, 20),
           \&silent, 'timeout', conf => 'bog_read_timeout 1s;');
}


# Below TLS, as somebody on the way would.

sub syswrite_plain {
    my ($fh, $bytes) = @_;

    open my $plain, '>&', fileno $fh or return;
    syswrite $plain, $bytes;
    silent($fh);
}


# --- the gateway

sub location {
    my $n = shift;

    my $row = $table[$n];
    my $port = server($n, $row->{server});
    my $conf = $row->{conf} // '';

    $conf .= ' bog_connect_timeout 60s;' if $conf !~ /connect_timeout/;
    $conf .= ' bog_read_timeout 60s;' if $conf !~ /read_timeout/;

    return "location = /$n { bog_client_id client-$n;"
           . " bog_token_endpoint https://$address:$port/; $conf"
           . ' return 200 "$bog_token_state $bog_token_error'
           . '/$bog_token_expires"; }';
}


my $start = now();
my $nginx = Bog::Nginx->new(secret => { main => 's3cret-never-seen' },
    conf => join "\n",
        'bog_client_secret_file %%SECRET_main%%;',
        "bog_ssl_trusted_certificate ${\ $ca->path };",
        'server { listen 127.0.0.1:%%PORT%%;',
        map({ location($_) } 0 .. $#table), '}');

$nginx->start;
my ($worker) = $nginx->workers;


sub probe {
    my ($n, $wanted) = @_;

    my ($state) = get($nginx->port, "/$n")->{body} =~ m{^(.*)/};
    return $state if !$wanted && $state ne 'missing ';
    return $state if $wanted && $state eq $wanted;
    return;
}


for my $n (0 .. $#table) {
    my $row = $table[$n];

    my $expected = $row->{result} ? "missing $row->{result}" : 'valid ';

    like(wait_until { probe($n) }, qr/^$expected\z/, $row->{name});
    spew("$dir/$n", '');
}

for my $n (grep { $table[$_]{result} && !$table[$_]{stays} } 0 .. $#table) {
    ok(wait_until { probe($n, 'valid ') }, "$table[$n]{name}: recovers");
}


is(join(' ', $nginx->workers), $worker, 'the worker lives');
is($nginx->stop, 0, 'stops');

# nginx takes some alerts of the other side more seriously than others, and so it
# does garbage with the OpenSSL 3.5 of trixie
$nginx->clean_log(undef,
                  except => qr/SSL alert number 11[26]|record layer failure/);

diag sprintf '%d rows in %.1f s', scalar @table, now() - $start
    if $ENV{BOG_TIMES};

done_testing;
