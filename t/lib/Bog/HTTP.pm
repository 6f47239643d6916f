package Bog::HTTP;

# Just enough of HTTP/1.1 for both ends: heads, and where a body ends.

use strict;
use warnings;

use Exporter 'import';

our @EXPORT_OK = qw(parse_head header decode_body);


# The head at the start of the bytes, or nothing while it is not complete.

sub parse_head {
    my $size = index $_[0], "\r\n\r\n";
    return if $size < 0;

    my ($line, @fields) = split /\r\n/, substr $_[0], 0, $size;

    return {
        line    => $line // '',
        headers => [map { [split /:[ \t]*/, $_, 2] } @fields],
        size    => $size + 4,
    };
}


sub header {
    my ($message, $name) = @_;

    my ($field) = grep { lc $_->[0] eq lc $name } @{ $message->{headers} };

    return $field && $field->[1];
}


# The body and the number of bytes that it took, or nothing while there is
# more to come.  A body that nothing delimits ends with the connection.

sub decode_body {
    my ($head, $bytes, $eof) = @_;

    return _decode_chunked($bytes)
        if (header($head, 'Transfer-Encoding') // '') =~ /\bchunked\b/i;

    my $length = header($head, 'Content-Length');

    if (defined $length) {
        return if length $bytes < $length;
        return (substr($bytes, 0, $length), $length);
    }

    return $eof ? ($bytes, length $bytes) : ();
}


sub _decode_chunked {
    my $bytes = shift;

    my $body = '';

    pos($bytes) = 0;

    while ($bytes =~ /\G([0-9a-f]+)[^\r\n]*\r\n/gci) {
        my $size = hex $1;

        if ($size == 0) {
            return unless $bytes =~ /\G(?:[^\r\n]+\r\n)*\r\n/gc;
            return ($body, pos $bytes);
        }

        my $at = pos $bytes;
        return if length($bytes) < $at + $size + 2;

        $body .= substr $bytes, $at, $size;
        pos($bytes) = $at + $size + 2;
    }

    return;
}


1;
