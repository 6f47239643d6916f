package Bog::Answer;

# What the bank says, made from a description:
#
#   status, reason, headers => [[name, value], ...]
#   body                the body as it is; else JSON made from
#     token, expires_in, token_type, json => { member => value }
#     jwt => { claim => value }: the token is a JWT; undef takes a member out
#   repeat              1: the last token again, until it ends
#   mature              seconds for which the API says 401 to the token
#   date                offset of the Date header in seconds; undef: no header
#   chunked             1, or a list of raw byte strings, framing included
#   close_delimited     1: nothing tells the length but the end
#   close               'empty' | 'header' | 'body' | 'reset': where it breaks
#   raw                 these bytes and no others, then the end
#   delay               seconds before the first byte
#   drip                seconds before each byte
#   stall               [where, seconds]: a pause in the midst of it, in the
#                       'header' or the 'body'

use strict;
use warnings;

use Exporter 'import';
use JSON::PP;
use MIME::Base64 'encode_base64url';
use POSIX ();

our @EXPORT_OK = qw(steps issued);

my $json = JSON::PP->new->utf8->canonical;
my $serial = 0;

my %reason = (
    200 => 'OK',
    302 => 'Found',
    400 => 'Bad Request',
    401 => 'Unauthorized',
    403 => 'Forbidden',
    404 => 'Not Found',
    405 => 'Method Not Allowed',
    429 => 'Too Many Requests',
    500 => 'Internal Server Error',
    502 => 'Bad Gateway',
    503 => 'Service Unavailable',
);


# The token that an answer hands out and its true lifetime in seconds, or
# nothing where it hands out none.

sub issued {
    my $how = shift;

    return if defined $how->{raw};
    return if ($how->{status} // 200) != 200;
    return if defined $how->{body} && !defined $how->{token};

    my $token = $how->{token} // _token($how->{jwt});

    return ($token, $how->{lifetime} // _lifetime($how->{expires_in}));
}


sub _token {
    my $claims = shift;

    $serial++;

    my $random = join '', map { sprintf '%04x', rand 65536 } 1 .. 4;
    return "tok-$serial-$random" unless $claims;

    return join '.', map { encode_base64url($_) }
        $json->encode({ alg => 'RS256', typ => 'JWT' }),
        $json->encode({ jti => "$serial-$random", %$claims }),
        "signature-$random";
}


# What the number means where the bank itself says something else than seconds.

sub _lifetime {
    my $expires_in = shift // 300;

    return 300 unless $expires_in =~ /^[0-9]+\z/;

    return $expires_in / 1000 - time if $expires_in > 1e12;
    return $expires_in - time if $expires_in > 1e9;
    return $expires_in;
}


sub steps {
    my ($how, $token, $keep) = @_;

    my @steps = $how->{delay} ? ([wait => $how->{delay}]) : ();

    return (@steps, _dripped($how, $how->{raw}), [end => 'close'])
        if defined $how->{raw};

    my $body = $how->{body} // _body($how, $token);
    my @pieces = _pieces($how, $body);

    my $end = $how->{close} || $how->{close_delimited} || !$keep
              ? 'close' : 'keep';
    $end = 'reset' if ($how->{close} // '') eq 'reset';

    my $head = _head($how, $body, $end);
    my $bytes = _break($how->{close}, $head, @pieces);

    return (@steps, _stalled($how, $bytes, $head, @pieces), [end => $end]);
}


sub _stalled {
    my ($how, $bytes, $head, @pieces) = @_;

    return _dripped($how, $bytes) unless $how->{stall};

    my ($where, $seconds) = @{ $how->{stall} };
    my $part = _break($where, $head, @pieces);

    return ([send => $part], [wait => $seconds],
            [send => substr $bytes, length $part]);
}


sub _dripped {
    my ($how, $bytes) = @_;

    return [send => $bytes] unless $how->{drip};

    return map { ([wait => $how->{drip}], [send => $_]) } split //, $bytes;
}


sub _break {
    my ($where, $head, @pieces) = @_;

    my $body = join '', @pieces;

    return $head . $body unless $where;
    return '' if $where eq 'empty';
    return substr $head, 0, length($head) / 2 if $where eq 'header';

    return $head . substr $body, 0, length($body) / 2;
}


sub _body {
    my ($how, $token) = @_;

    my %members = (
        access_token => $token,
        expires_in   => exists $how->{expires_in} ? $how->{expires_in} : 300,
        token_type   => exists $how->{token_type} ? $how->{token_type}
                                                  : 'Bearer',
        %{ $how->{json} // {} },
    );

    delete @members{grep { !defined $members{$_} } keys %members};

    return $json->encode(\%members);
}


sub _pieces {
    my ($how, $body) = @_;

    my $chunked = $how->{chunked} or return $body;
    return @$chunked if ref $chunked;

    my @parts = unpack '(a40)*', $body;

    return ((map { sprintf "%x\r\n%s\r\n", length, $_ } @parts), "0\r\n\r\n");
}


sub _head {
    my ($how, $body, $end) = @_;

    my $status = $how->{status} // 200;
    my $reason = $how->{reason} // $reason{$status} // 'Status';

    my %given = map { lc $_->[0] => 1 } @{ $how->{headers} // [] };

    my @fields = grep { !$given{lc $_->[0]} } (
        ['Date' => _date($how)],
        ['Content-Type' => 'application/json'],
        _framing($how, $body),
        ['Connection' => $end eq 'keep' ? 'keep-alive' : 'close'],
    );

    return join "\r\n", "HTTP/1.1 $status $reason",
        (map { "$_->[0]: $_->[1]" } grep { defined $_->[1] }
            @fields, @{ $how->{headers} // [] }),
        '', '';
}


sub _framing {
    my ($how, $body) = @_;

    return if $how->{close_delimited};
    return ['Transfer-Encoding' => 'chunked'] if $how->{chunked};
    return ['Content-Length' => length $body];
}


sub _date {
    my $how = shift;

    return if exists $how->{date} && !defined $how->{date};

    return POSIX::strftime('%a, %d %b %Y %H:%M:%S GMT',
                           gmtime(time + ($how->{date} // 0)));
}


1;
