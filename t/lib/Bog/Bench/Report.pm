package Bog::Bench::Report;

# Tables for a terminal and in Markdown, and plots by gnuplot.
#
#   my $report = Bog::Bench::Report->new($folder);
#   $report->section('Name', 'What is measured, in a sentence or two.');
#   $report->table(['way', 'requests a second'], ['nginx-bog', 4711], ...);
#   $report->bars('name', 'instructions a request', [label => number], ...);
#   $report->write($head);   figures.md and the plots, into the folder

use strict;
use warnings;

use File::Temp;
use List::Util 'max';

use Bog::Util qw(slurp spew);


sub new {
    my ($class, $folder) = @_;

    return bless { folder => $folder, sections => [] }, $class;
}


sub section {
    my ($self, $name, $text) = @_;

    print "\n$name\n\n";
    push @{ $self->{sections} }, "## $name\n\n$text\n";
}


sub _add { $_[0]{sections}[-1] .= $_[1] }


sub table {
    my ($self, $head, @rows) = @_;

    my @width = map {
        my $i = $_;
        max(map { length $_->[$i] } $head, @rows);
    } 0 .. $#$head;

    my $format = sub {
        my ($between, @cells) = @_;
        return join $between, map {
            sprintf $_ ? '%*s' : '%-*s', $width[$_], $cells[$_]
        } 0 .. $#cells;
    };

    print $format->('  ', @$_), "\n" for $head, @rows;

    my @lines = map { '| ' . $format->(' | ', @$_) . ' |' } $head, @rows;
    my $rule = '| ' . join(' | ', '-' x $width[0],
                           map { '-' x ($_ - 1) . ':' } @width[1 .. $#width])
               . ' |';

    $self->_add(join "\n", '', $lines[0], $rule, @lines[1 .. $#lines], '');
}


sub bars {
    my ($self, $name, $unit, @bars) = @_;

    my $data = join '', map { qq("$_->[0]" $_->[1]\n) } @bars;

    $self->_plot($name, $data, <<"END");
set ylabel "$unit"
set yrange [0:*]
set style fill solid 0.6
set boxwidth 0.6
set xtics rotate by -20
plot "%%DATA%%" using 2:xtic(1) with boxes lc rgb "#2b6cb0" notitle, \\
     "" using 0:2:2 with labels offset 0,0.7 notitle
END
}


# Lines over the first column, both axes logarithmic.

sub lines {
    my ($self, $name, $label, $unit, $titles, @rows) = @_;

    my $plots = join ", \\\n     ", map {
        qq("%%DATA%%" using 1:${\ ($_ + 2) } with linespoints lw 2 )
        . qq(title "$titles->[$_]")
    } 0 .. $#$titles;

    $self->_plot($name, join('', map { "@$_\n" } @rows), <<"END");
set xlabel "$label"
set ylabel "$unit"
set logscale xy
set key left top
plot $plots
END
}


sub _plot {
    my ($self, $name, $data, $script) = @_;

    push @{ $self->{plots} }, [$name, $data, $script];
    $self->_add("\n![$name]($name.svg)\n");
}


sub write {
    my ($self, $head) = @_;

    my $dir = File::Temp->newdir;
    mkdir $self->{folder};

    for my $plot (@{ $self->{plots} // [] }) {
        my ($name, $data, $script) = @$plot;

        $script =~ s{%%DATA%%}{$dir/$name.dat}g;
        spew("$dir/$name.dat", $data);
        spew("$dir/$name.plot", <<"END" . $script);
set terminal svg size 720,360 font "sans-serif,12" background "#ffffff"
set output "$self->{folder}/$name.svg"
set grid ytics lc rgb "#cccccc"
END
        system('gnuplot', "$dir/$name.plot") == 0 or die "gnuplot: $?\n";
    }

    spew("$self->{folder}/figures.md", join "\n", $head, $self->_sections);
}


# What was not measured this time stays as it was.

sub _sections {
    my $self = shift;

    my ($head, @old) = split /^(?=## )/m, slurp("$self->{folder}/figures.md");
    my %new = map { _name($_) => $_ } @{ $self->{sections} };

    my @all = map { delete $new{_name($_)} // s/\n+\z/\n/r } @old;

    return @all, grep { $new{_name($_)} } @{ $self->{sections} };
}


sub _name { $_[0] =~ /^## (.*)/ ? $1 : '' }


1;
