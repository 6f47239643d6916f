package Bog::State;

# The file of "bog_state_path", written and read by other means than the
# module's: AES from the program "openssl", the rest of GCM and HKDF by hand.
#
#   my %source = (url => ..., id => 8282, secret => 's3cret');
#   my $name = Bog::State::name(%source);
#   my $bytes = Bog::State::seal({ start => ..., lifetime => ...,
#                                  refresh => ..., token => ... }, %source);
#   my $state = Bog::State::opened($bytes, %source);      nothing: no such file
#
# A source may also have auth => 1 (basic_urlencoded) and params => [name,
# value, ...]; what is sealed may be plain => bytes as a whole; and version.

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256 sha256);
use File::Temp;

use Bog::Util qw(slurp spew);

my $info = 'nginx-bog state 1';
my $step = 1024;


sub _digest {
    my %source = @_;

    my @parts = ($source{url}, $source{id}, $source{secret},
                 $source{auth} ? 1 : 0, @{ $source{params} // [] });

    return sha256(join '', map { pack('Q>', length) . $_ } @parts);
}


sub name {
    my %source = @_;

    return unpack 'H32', _digest(%source, secret => '');
}


# RFC 5869: one block is all that a key of 32 bytes takes.

sub _key {
    my ($secret, $salt) = @_;

    my $prk = hmac_sha256($secret, $salt);

    return hmac_sha256("$info\x01", $prk);
}


sub _ctr {
    my ($key, $iv, $text) = @_;

    my $dir = File::Temp->newdir;
    spew("$dir/in", $text);

    system('openssl', 'enc', '-aes-256-ctr', '-K', unpack('H*', $key),
           '-iv', unpack('H*', $iv), '-in', "$dir/in", '-out', "$dir/out") == 0
        or die "openssl enc failed\n";

    return slurp("$dir/out");
}


# SP 800-38D, algorithm 1: bits are counted from the left.  Four words of 32
# bits, the first one first.

sub _product {
    my ($x, $y) = @_;

    my @z = (0, 0, 0, 0);
    my @v = @$y;

    for my $word (@$x) {
        for my $bit (reverse 0 .. 31) {
            @z = map { $z[$_] ^ $v[$_] } 0 .. 3 if $word >> $bit & 1;

            my $odd = $v[3] & 1;

            @v = ($v[0] >> 1, map { $v[$_ - 1] << 31 & 0xffffffff
                                    | $v[$_] >> 1 } 1 .. 3);
            $v[0] ^= 0xe1000000 if $odd;
        }
    }

    return \@z;
}


sub _padded { $_[0] . "\0" x (-length($_[0]) % 16) }


sub _ghash {
    my ($h, $additional, $sealed) = @_;

    my @h = unpack 'N4', $h;
    my $text = _padded($additional) . _padded($sealed)
               . pack('Q>2', 8 * length $additional, 8 * length $sealed);

    my $y = [0, 0, 0, 0];

    for my $block (unpack '(a16)*', $text) {
        my @x = unpack 'N4', $block;
        $y = _product([map { $y->[$_] ^ $x[$_] } 0 .. 3], \@h);
    }

    return pack 'N4', @$y;
}


# The counter's first value is for the tag, the next ones are for the text.

sub _gcm {
    my ($key, $nonce, $text) = @_;

    my $out = _ctr($key, "$nonce\0\0\0\1", "\0" x 16 . $text);

    return (substr($out, 0, 16), substr($out, 16));
}


sub _tag {
    my ($key, $mask, $additional, $sealed) = @_;

    return $mask ^ _ghash(_ctr($key, "\0" x 16, "\0" x 16), $additional,
                          $sealed);
}


sub seal {
    my ($state, %source) = @_;

    my $plain = $state->{plain} // pack('Q>3 N/a*',
                                        @$state{qw(start lifetime refresh)},
                                        $state->{token});
    $plain .= "\0" x (-length($plain) % $step);

    my ($salt, $nonce) = map { pack 'C*', map { int rand 256 } 1 .. $_ }
                         32, 12;
    my $head = 'bogstate' . chr($state->{version} // 1) . $salt . $nonce;
    my $key = _key($source{secret}, $salt);

    my ($mask, $sealed) = _gcm($key, $nonce, $plain);

    return $head . $sealed
           . _tag($key, $mask, $head . _digest(%source), $sealed);
}


sub opened {
    my ($bytes, %source) = @_;

    my ($magic, $version, $salt, $nonce) = unpack 'a8 C a32 a12', $bytes;
    return unless length $bytes > 69 && $magic eq 'bogstate' && $version == 1;

    my $head = substr $bytes, 0, 53;
    my $sealed = substr $bytes, 53, -16;
    my $key = _key($source{secret}, $salt);

    my ($mask, $plain) = _gcm($key, $nonce, $sealed);

    return if substr($bytes, -16)
              ne _tag($key, $mask, $head . _digest(%source), $sealed);

    my %state;
    @state{qw(start lifetime refresh token)} = unpack 'Q>3 N/a*', $plain;
    $state{rest} = substr $plain, 28 + length $state{token};

    return \%state;
}


1;
