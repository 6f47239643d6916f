package Bog::Leak;

# Where a secret has got to: what to look for, and looking for it.
#
#   my $leak = Bog::Leak->new;
#   $leak->secret('s3cret', '8282');       with ids that it may stand with
#   $leak->text('token', $token);          as it is
#   my @found = $leak->in_file($path);     what of it there is, in words

use strict;
use warnings;

use MIME::Base64 'encode_base64';
use List::Util 'max';

# fewer characters than these are found by chance
my $least = 6;

my $block = 1 << 20;


sub new { return bless { needles => {} }, $_[0] }


sub text {
    my ($self, $name, $bytes) = @_;

    $self->{needles}{$bytes} //= $name if length $bytes;
}


# All that can stand for a secret: itself and its forms, and the Base64 of
# each, behind an id of any length.

sub secret {
    my ($self, $secret, @ids) = @_;

    $secret =~ s/\r?\n\z//;

    for my $form (_forms($secret)) {
        $self->text('the secret', $form) if length $form >= $least;

        for my $base64 (_any_base64($form),
                        map { encode_base64("$_:$form", '') } @ids)
        {
            $self->text('Base64 of the secret', $_) for _forms($base64);
        }
    }
}


# What a register of the processor may have of something longer.

sub parts {
    my ($self, $name, $bytes) = @_;

    my $size = 12;

    $self->text("a part of $name", substr $bytes, $_, $size)
        for 0 .. length($bytes) - $size;
}


# As it is, percent-encoded, form-encoded, in JSON.

sub _forms {
    my $text = shift;

    my $percent = $text =~ s/([^A-Za-z0-9._~-])/sprintf '%%%02X', ord $1/ger;

    my %forms = map { $_ => 1 } $text, $percent, _lower($percent),
                                $percent =~ s/%20/+/gr, $text =~ s/"/\\"/gr;
    return sort keys %forms;
}


sub _lower { $_[0] =~ s/(%[0-9A-F]{2})/lc $1/ger }


# Base64 takes three bytes at a time: what comes before decides which of three
# texts stands for the same bytes.  Of each, what these bytes alone decide.

sub _any_base64 {
    my $bytes = shift;

    return if length $bytes < $least;

    return map { _base64_behind($_, $bytes) } 0 .. 2;
}


sub _base64_behind {
    my ($n, $bytes) = @_;

    my $first = int((8 * $n + 5) / 6);
    my $last = int(8 * ($n + length $bytes) / 6);

    return substr encode_base64("\0" x $n . $bytes, ''), $first,
                  $last - $first;
}


# In blocks that overlap: a log at debug is large.

sub in_file {
    my ($self, $path) = @_;

    my $needles = $self->{needles};
    my $overlap = max(1, map { length } keys %$needles) - 1;

    open my $fh, '<:raw', $path or return;

    my ($text, %found) = ('');

    while (sysread $fh, $text, $block, length $text) {
        for my $needle (grep { !$found{$_} } keys %$needles) {
            $found{$needle} = 1 if index($text, $needle) >= 0;
        }

        $text = $overlap ? substr($text, -$overlap) : ''
            if length $text > $overlap;
    }

    my %names = map { $needles->{$_} => 1 } keys %found;
    return sort keys %names;
}


sub in_text {
    my ($self, $text) = @_;

    my $needles = $self->{needles};
    my %names = map { $needles->{$_} => 1 }
                grep { index($text, $_) >= 0 } keys %$needles;

    return sort keys %names;
}


1;
