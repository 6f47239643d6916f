# What is packed: one version everywhere, the manual is complete, and a tarball
# is the same wherever it is made.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Cwd 'abs_path';
use File::Path 'make_path';
use File::Temp 'tempdir';
use Test::More;

use Bog::Util qw(slurp spew);

my $root = abs_path("$FindBin::Bin/..");
my $manual = 'docs/ngx_http_bog_module.7';

my $header = slurp("$root/src/core/ngx_http_bog_core.h");
my $source = join '', map { slurp($_) } glob "$root/src/{,*/}*.[ch]";
my $page = slurp("$root/docs/directives.md");
my $text = slurp("$root/$manual");

my ($version) = $header =~ /^#define NGX_HTTP_BOG_VERSION +"([^"]+)"$/m;

# what has the version in it, and how
my %written = (
    'CHANGES'          => qr/(?<=nginx-bog )\S+/,
    'debian/changelog' => qr/(?<=\()[^-]+/,
);


# The exit code of a command, and all that it says.

sub run {
    my (@command) = @_;

    my $pid = open(my $pipe, '-|') // die "fork: $!\n";

    if (!$pid) {
        open STDERR, '>&', \*STDOUT;
        exec @command or die "$command[0]: $!\n";
    }

    my $output = do { local $/; <$pipe> } // '';
    close $pipe;

    return ($? >> 8, $output);
}


sub has { grep { -x "$_/$_[0]" } split /:/, $ENV{PATH} }


subtest 'the version' => sub {
    is_deeply([run('sh', "$root/util/version.sh")], [0, "$version\n"],
              'is the same everywhere');

    for my $file (sort keys %written) {
        my $dir = tempdir('bog-dist-XXXXXX', TMPDIR => 1, CLEANUP => 1);

        for ('src/core/ngx_http_bog_core.h', 'util/version.sh', keys %written) {
            make_path("$dir/$_" =~ s/\/[^\/]*\z//r);
            spew("$dir/$_", slurp("$root/$_"));
        }

        my $other = slurp("$dir/$file");
        $other =~ s/$written{$file}/9.9.9/ or die "no version in $file\n";
        spew("$dir/$file", $other);

        is_deeply([run('sh', "$dir/util/version.sh")],
                  [1, "version.sh: $file is of 9.9.9, the module of "
                      . "$version\n"], "another one in $file");
    }
};


# "23 Nov 2026" here, "November 23, 2026" there.

subtest 'the date' => sub {
    my ($day, $month, $year) = slurp("$root/CHANGES")
        =~ /^Changes with nginx-bog .* ([0-9]+) ([A-Z][a-z]+) ([0-9]+)$/m;

    like($text, qr/\A\.Dd ${month}[a-z]* $day, $year$/m,
         'the manual is of the day of the version');
    like(slurp("$root/debian/changelog"),
         qr/\A.*?^ -- [^>]*>  \w+, $day $month $year /ms,
         'and the package of Debian');
};


# A directive's line in the manual, as docs/directives.md writes it.

sub syntax {
    my $line = shift;

    $line =~ s/ ?\bNs\b ?/\0/g;
    $line =~ s/\bOo\b/[/g;
    $line =~ s/\bOc\b/]/g;
    $line =~ s/\b(?:Ic|Ar|Cm)\b ?//g;
    $line =~ s/\[ /[/g;
    $line =~ s/ \]/]/g;
    $line =~ s/ ?\0 ?//g;

    return $line =~ s/ ;\z/;/r;
}


subtest 'directives in the manual' => sub {
    my %known = map { $_ => 1 }
                $source =~ /ngx_string\("(bog_\w+)"\),\s*NGX_HTTP_/g;

    my %items = $text =~ /^\.It Ic (bog_\w+) (.*\n(?:(?!\.It|\.El).*\n)*)/mg;

    is_deeply([sort keys %items], [sort keys %known],
              'all of them, and no others');

    for my $name (sort keys %items) {
        my ($syntax, $default) = $page
            =~ /^### $name\n\n```\nSyntax: +(.*)\nDefault: +(.*(?:\n .*)?)\n/m;
        my ($line, $words) = $items{$name} =~ /\A([^\n]*)\n(.*)\z/s;

        is(syntax("$name $line"), $syntax, "$name: its syntax");

        next if $default eq "\x{2014}" || $default eq "\xe2\x80\x94";

        $words =~ s/^\.\w\w //mg;
        my @missing = grep { $words !~ /\Q$_\E/ } grep { $_ ne $name }
                      split ' ', $default =~ tr/;//dr;

        is("@missing", '', 'its default');
    }
};


subtest 'variables in the manual' => sub {
    my %names = $source =~ /^#define (NGX_HTTP_BOG_\w+)\s+"(bog_\w+)"/mg;
    my ($table) = $source =~ /ngx_http_bog_vars\[\] = \{(.*?)^\};/ms;

    my @known = map { '$' . ($names{$_} // $_) } map { tr/"//dr }
                $table =~ /ngx_string\(("?\w+"?)\)/g;

    is_deeply([sort $text =~ /^\.It Va (\$bog_\w+)$/mg], [sort @known],
              'all of them, and no others');
};


subtest 'the form of the manual' => sub {
    unless (has('mandoc')) {
        die "no mandoc\n" if ($ENV{CI} // '') eq 'true';
        plan skip_all => 'no mandoc';
    }

    # whether manuals that it refers to are installed here is not its fault
    my ($status, $output) = run(qw(mandoc -Tlint), "$root/$manual");

    is(join('', grep { !/mandoc\.db|referenced manual not found/ }
                     map { "$_\n" } split /\n/, $output),
       '', 'nothing that mandoc warns of');
};


# Forks of nginx have numbers of their own.

subtest 'versions of nginx' => sub {
    my @files = grep { slurp($_) =~ /\bnginx_version\b/ }
                "$root/config", glob "$root/src/{,*/}*.[ch]";

    is_deeply(\@files, [], 'nothing depends on their number');
};


# From two clones, made in other surroundings.

subtest 'the tarball' => sub {
    my @git = qw(git -c safe.directory=*);

    plan skip_all => 'not a clone'
        if !-e "$root/.git" || (run(@git, '-C', $root, 'rev-parse'))[0];

    my (@tarballs, @files);

    for my $umask (0022, 0077) {
        my $dir = tempdir('bog-dist-XXXXXX', TMPDIR => 1, CLEANUP => 1);

        my $old = umask $umask;
        local $ENV{TZ} = $umask ? 'UTC' : 'Asia/Tbilisi';

        is_deeply([run(@git, qw(clone -q --no-local), $root, "$dir/clone")],
                  [0, ''], 'a clone');
        my ($status, $output) = run('sh', "$dir/clone/util/dist.sh");
        umask $old;

        my ($name) = $output =~ /\A(build\/nginx-bog-[0-9.]+\.tar\.gz)\n\z/
            or return fail("a tarball: $output");

        push @tarballs, slurp("$dir/clone/$name");
        (undef, my $list) = run('tar', '-tzf', "$dir/clone/$name");
        @files = map { s/\A[^\/]*\///r } grep { !/\/\z/ } split /\n/, $list;

        spew("$dir/clone/more", '');
        is_deeply([run('sh', "$dir/clone/util/dist.sh")],
                  [1, "dist.sh: there are changes, commit them first\n"],
                  'not of what nobody else has');
    }

    cmp_ok(length $tarballs[0], '>', 100_000, 'has something in it');
    ok($tarballs[0] eq $tarballs[1], 'the same bytes');

    my (undef, $known) = run(@git, '-C', $root, qw(ls-tree -r --name-only -z),
                             'HEAD');
    is_deeply([sort @files], [sort split /\0/, $known], 'all files');
};


done_testing;
