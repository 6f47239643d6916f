package Bog::Walk;

# A page that is walked as a reader walks it: its commands in one shell, and
# what the page says that they print.
#
#   my $walk = Bog::Walk->new(folder => '/root', read => sub { $_[0] });
#   $walk->step($_) for Bog::Walk::fenced($page);
#
# A step is { commands, prints }.

use strict;
use warnings;

use File::Temp;
use IO::Handle;
use POSIX ();
use Test::More;

use Bog::Util qw(slurp spew timeout);


# The blocks of a page between fences: commands, each with what it prints.

sub fenced {
    my $page = shift;

    my @steps;

    while ($page =~ /^```(\w+)\n(.*?)^```$/gms) {
        my ($kind, $text) = ($1, $2);

        if ($kind eq 'sh') {
            push @steps, { commands => $text, prints => '' };

        } elsif ($kind eq 'text') {
            $steps[-1]{prints} = $text;
        }
    }

    return @steps;
}


# The blocks that are indented, of one section.

sub indented {
    my ($page, $title) = @_;

    my ($section) = $page =~ /^\#\# \Q$title\E\n(.*?)(?:^\#\# |\z)/ms;

    return map { { commands => s/^    //gmr } }
           ($section // '') =~ /((?:^    .*\n)+)/gm;
}


# %opt: folder, where the shell begins; env, more of its environment; read, a
# function that makes of the page's text what is typed and printed here.

sub new {
    my ($class, %opt) = @_;

    my $self = bless { read => sub { $_[0] }, %opt, meaning => {},
                       dir => File::Temp->newdir('bog-shell-XXXXXX',
                                                 TMPDIR => 1) }, $class;

    pipe my $read, my $commands or die "pipe: $!\n";
    pipe my $answers, my $write or die "pipe: $!\n";
    $commands->autoflush(1);

    $self->{pid} = fork // die "fork: $!\n";

    if ($self->{pid} == 0) {
        close $_ for $commands, $answers;
        setpgrp;
        chdir $self->{folder} or POSIX::_exit(127);
        %ENV = (%ENV, no_proxy => '*', %{ $self->{env} // {} });

        open STDIN, '<&', $read;
        open STDOUT, '>&', $write;
        close $_ for $read, $write;

        exec '/bin/sh' or POSIX::_exit(127);
    }

    close $_ for $read, $write;
    @$self{qw(commands answers)} = ($commands, $answers);

    return $self;
}


# The shell, and whatever it waits for.

sub end {
    my $self = shift;

    kill TERM => -$self->{pid};
}


# Types the commands, with that input for them, and tests how they end and what
# they print, which is returned.

sub step {
    my ($self, $step, $input) = @_;

    my ($status, $printed) = $self->_type($self->{read}($step->{commands}),
                                          $input // '');
    my ($name) = $step->{commands} =~ /\A(.*)/;

    is($status, "0\n", $name) or diag($printed);
    $self->_prints($printed, $step->{prints}) if defined $step->{prints};

    return $printed;
}


sub _type {
    my ($self, $commands, $input) = @_;

    my $dir = $self->{dir};

    spew("$dir/commands", $commands);
    spew("$dir/input", $input);

    # with nginx in the background, an end of file would never come
    print { $self->{commands} }
        "{ . $dir/commands; } < $dir/input > $dir/output 2>&1; echo \$?\n";

    local $SIG{ALRM} = sub { die "no end of: $commands" };
    alarm timeout(60);
    my $status = readline $self->{answers};
    alarm 0;

    return ($status // die("the shell has gone\n"), slurp("$dir/output"));
}


# Words like ORDER_ID stand for what differs, but for the same all along.

sub _prints {
    my ($self, $output, $expected) = @_;

    my $meaning = $self->{meaning};
    my @parts = split /\b([A-Z]+_[A-Z]+)\b/, $self->{read}($expected);
    my (@names, $pattern);

    while (my ($text, $word) = splice @parts, 0, 2) {
        $pattern .= quotemeta $text;
        next unless defined $word;

        push @names, $word unless defined $meaning->{$word};
        $pattern .= $meaning->{$word} ? quotemeta $meaning->{$word}
                                      : '([^"\s]+)';
    }

    $pattern //= '';
    like($output, qr/\A$pattern\z/, 'what it prints');
    @$meaning{@names} = $output =~ /\A$pattern\z/ if @names;
}


# What a word of the page has stood for.

sub meaning { $_[0]{meaning}{$_[1]} }


1;
