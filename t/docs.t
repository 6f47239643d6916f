# The documentation: its configurations load, it is complete, and all of it can
# be found.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use File::Basename 'dirname';
use File::Find 'find';
use File::Temp;
use Test::More;

use Bog::CA;
use Bog::Nginx;
use Bog::Util qw(slurp spew);

my $root = "$FindBin::Bin/..";

my @files = docs();
my @pages = ('README.md', grep { /\.md\z/ } @files);
my %text = map { $_ => slurp("$root/$_") } @pages;

my $source = join '', map { slurp($_) } glob "$root/src/{,*/}*.[ch]";

# literals of C, one after the other
my $literals = qr/"(?:[^"\\]|\\.)*"(?:\s*"(?:[^"\\]|\\.)*")*/;


sub docs {
    my @found;

    find({ no_chdir => 1,
           wanted => sub { push @found, s/^\Q$root\E\///r if -f } },
         "$root/docs");

    return sort @found;
}


# Snippets.  "http {" in one: it is all of the configuration.  Else "server {":
# it is what stands in http {}.  Else it is what stands in a server {} that
# has credentials.
#
# The bank is 127.0.0.1, each port is a free one, and nginx's folder is that of
# the test, with all the files in it that a snippet names.

sub snippets {
    my $page = shift;

    my @snippets;

    while ($text{$page} =~ /^( *)```nginx\n(.*?)^\1```$/gms) {
        my ($indent, $snippet) = ($1, $2);
        my $line = 1 + (substr($text{$page}, 0, $-[2]) =~ tr/\n//);

        push @snippets, [$line, $snippet =~ s/^$indent//gmr];
    }

    return @snippets;
}


sub framed {
    my $snippet = shift;

    return ('', $snippet) if $snippet =~ /^\s*server \{/m;

    return ('', <<"END");
        bog_client_id           8282;
        bog_client_secret_file  bog/client_secret;

        server {
            listen 127.0.0.1:8080;
            $snippet

            location = /passed/on {
                proxy_pass http://127.0.0.1;
            }
        }
END
}


sub whole {
    my $snippet = shift;

    # the harness has these itself
    $snippet =~ s/^load_module\s.*;\n//mg;
    $snippet =~ s/^events \{.*?\}\n//ms;

    my ($before, $http, $after) =
        $snippet =~ /\A(.*?)^http \{\n(.*)^\}\n(.*)\z/ms or return;

    return ("$before$after", $http);
}


sub localised {
    my ($snippet) = @_;

    $snippet =~ s/\b(?:[\w-]+\.)*(?:bog|businessonline|ipay)\.ge\b/127.0.0.1/g;
    $snippet =~ s/\blisten\s+\K(?:[\w.]+:)?([0-9]+)/127.0.0.1:%%PORT_$1%%/g;
    $snippet =~ s/(?:\/etc|\/var\/(?:cache|lib|log))\/nginx\//%%DIR%%\//g;
    $snippet =~ s/\/run\/(?:secrets|credentials\/[\w.]+)\//%%DIR%%\/bog\//g;
    $snippet =~ s/\bunix:\/run\/[\w\/-]+/unix:%%DIR%%\/socket/g;
    $snippet =~ s/\/etc\/ssl\/certs\/ca-certificates\.crt/${\ ca()->path }/g;

    return $snippet;
}


sub ca { Bog::CA->shared }


sub files {
    my ($nginx, $conf) = @_;

    my $cert = ca()->cert(name => 'localhost', client => 1);

    for my $path ($conf =~ /\b(?:$nginx->{dir}\/)?(bog\/[\w.\/-]+)/g) {
        $nginx->file($path,
              $path =~ /\.crt\z/ ? slurp($cert->{cert})
            : $path =~ /\.key\z/ ? slurp($cert->{key})
            : "s3cret of $path\n");
        chmod 0600, "$nginx->{dir}/$path";
    }

    # nginx's own, beside its configuration
    $nginx->file($1, '') while $conf =~ /\binclude\s+(\w+_params);/g;
}


sub loads {
    my ($name, $snippet) = @_;

    my ($main, $http) = $snippet =~ /^http \{/m ? whole($snippet)
                                                : framed($snippet);

    my $nginx = Bog::Nginx->new(main => localised($main),
                                conf => localised($http));

    files($nginx, slurp($nginx->dir . '/nginx.conf'));

    my ($status, $output) = $nginx->test;

    SKIP: {
        skip $1, 1 if $output =~ /("\w+" needs nginx \S+ or newer)/;

        # there may be no name server here
        my $bad = join '', grep { !/will be asked for again at run time/ }
            $output =~ /^.*\[(?:warn|error|emerg|alert)\].*\n/mg;

        is("$status $bad", '0 ', $name) or diag($output);
    }
}


# Those of the pages, and those of docs/examples.

sub examples {
    my $manifest = slurp("$root/docs/examples/kubernetes.yaml");
    my ($pod) = $manifest =~ /^  nginx\.conf: \|\n((?:    .*\n|\n)+)/m;

    # the harness has its own
    $pod =~ s/^    //mg;
    $pod =~ s/^ *(?:pid|error_log|\w+_temp_path|access_log +\/dev).*\n//mg;

    return (['docs/examples/kubernetes.yaml', $pod],
            ['docs/examples/*.conf',
             join '', map { slurp($_) } glob "$root/docs/examples/*.conf"],
            map { my $page = $_;
                  map { ["$page:$_->[0]", $_->[1]] } snippets($page) } @pages);
}


subtest 'configurations' => sub {
    local $ENV{RES_OPTIONS} = 'timeout:1 attempts:1';

    loads(@$_) for examples();

    cmp_ok(scalar(examples()), '>', 10, 'there are some');
};


# Examples are pasted into gateways that have other sites: what stands beside a
# "server {}" defines something, and changes nothing of theirs.

my $definitions = qr/\A(?:bog_state_path|include|js_import|limit_(?:conn|req)_zone
                         |log_format|lua_shared_dict|map|proxy_cache_path
                         |server|upstream)\z/x;

# What each block of a configuration says, with what its blocks inherit.

sub blocks {
    my ($text, @outer) = @_;

    my @blocks;
    my %own;

    $text =~ s/^\s*#.*\n//mg;

    while ($text =~ /\G\s*((?:"[^"]*"|'[^']*'|\$\{|[^;{}"'])+)
                     (;|(\{(?:[^{}]|(?3))*\}))/gx)
    {
        my ($words, $end, $block) = ($1, $2, $3);
        my ($name, $value) = $words =~ /\A(\S+)\s*(.*?)\s*\z/s;

        $own{$name} = $value;
        push @blocks, [$name, $block =~ s/\A\{|\}\z//gr] if defined $block;
    }

    my %all = (map { %$_ } @outer, \%own);

    return ({ own => [sort keys %own], all => \%all },
            map { $_->[0] =~ /\A(?:http|server|location|if|limit_except)\z/
                  ? blocks($_->[1], @outer, \%own) : () } @blocks);
}


subtest 'the certificate of the API is verified' => sub {
    my $passes = 0;

    for my $example (examples()) {
        my ($name, $text) = @$example;

        for my $block (map { $_->{all} } blocks($text)) {
            for my $how (qw(proxy grpc)) {
                next if ($block->{"${how}_pass"} // '') !~ /^(?:https|grpcs):/;

                is(join(' ', map { $block->{"${how}_ssl_$_"} // 'not set' }
                             qw(verify verify_depth trusted_certificate)),
                   'on 3 /etc/ssl/certs/ca-certificates.crt', $name);
                $passes++;
            }
        }
    }

    cmp_ok($passes, '>', 10, 'there are some');
};


subtest 'other sites are left alone' => sub {
    for my $example (examples()) {
        my ($name, $text) = @$example;
        my ($top, $http) = blocks($text);

        next if $text !~ /^\s*server \{/m;

        my @beside = $text =~ /^http \{/m ? @{ $http->{own} }
                                          : @{ $top->{own} };

        is(join(' ', grep { !/$definitions/ } @beside), '', $name);
    }
};


# Directives and variables.

my $page = $text{'docs/directives.md'};

my @levels = ([MAIN => 'http'], [SRV => 'server'], [LOC => 'location']);

sub directives {
    my %found;

    while ($source =~ /ngx_string\("(bog_\w+)"\),\s*(NGX_HTTP_[^,]*),/g) {
        my ($name, $type) = ($1, $2);

        $found{$name} = join ', ', map { $_->[1] }
            grep { $type =~ /NGX_HTTP_$_->[0]_CONF/ } @levels;
    }

    return \%found;
}


sub variables {
    my %names = $source =~ /^#define (NGX_HTTP_BOG_\w+)\s+"(bog_\w+)"/mg;
    my ($table) = $source =~ /ngx_http_bog_vars\[\] = \{(.*?)^\};/ms;

    return { map { ('$' . ($names{$_} // $_)) => 1 }
             map { tr/"//dr } $table =~ /ngx_string\(("?\w+"?)\)/g };
}


# The default of a directive, from the merge of locations: a word, or a time in
# milliseconds.  The merge has no default for these three.

my %unusual = (
    bog_bind           => 'off',
    bog_ssl_name       => "the endpoint's host",
    bog_token_endpoint =>
        $source =~ /bog_default_endpoint = ngx_string\(\s*"(.*?)"\)/,
);

sub default_in_code {
    my $name = shift;

    my %field = $source =~ /ngx_string\("(bog_\w+)"\),\s*NGX_HTTP_[^{}]*?
                            offsetof\(ngx_http_bog_loc_conf_t,\s(\w+)\)/gx;
    my %merged = $source =~ /\bngx_conf_merge_(?:\w+_)?value\(conf->(\w+),
                             \s*prev->\w+,\s*(.*?)\);/gsx;
    my %word = reverse
        $source =~ /\{ ngx_string\("([\w.]+)"\), (NGX_\w+) \}/g;

    my $value = $merged{$field{$name} // ''} // '';

    return $unusual{$name} if $unusual{$name};
    return '—' if $value =~ /\A(?:NULL|""|)\z/;
    return $value eq '1' ? 'on' : 'off' if $name eq 'bog_ssl_verify';

    my @words = grep { defined } map { $word{$_} } $value =~ /\b(NGX_\w+)/g;

    return @words ? "@words" : $value =~ tr/"//dr;
}


sub in_milliseconds {
    my %unit = (s => 1000, m => 60 * 1000, h => 60 * 60 * 1000);

    return shift =~ s/\A([0-9]+)([smh])\z/$1 * $unit{$2}/er;
}


# The release that each directive and variable appeared in, from CHANGES.  A name
# that is in no release belongs to the next one.

sub releases {
    my %in;

    my %changes = slurp("$root/CHANGES")
        =~ /^Changes with nginx-bog (\S+) [^\n]*\n(.*?)(?=^Changes|\z)/gms;

    for my $release (keys %changes) {
        my @features = $changes{$release}
            =~ /\*\) Feature: the ([^*]*?) (?:directive|variable)s?\./g;

        $in{$_} = $release for map { /(\$?bog_\w+)/g } @features;
    }

    return (\%in, [keys %changes]);
}


sub appeared {
    my ($name, $version) = @_;

    my ($in, $released) = releases();

    return is($version, $in->{$name}, 'the version') if $in->{$name};

    like($version, qr/\A[0-9.]+\z/, 'the next version')
        && ok(!(grep { $_ eq $version } @$released), 'not a released one');
}


subtest 'directives' => sub {
    my $directives = directives();

    my @names = $page =~ /^### (bog_\w+)$/mg;
    my %head = $page =~ /^### (bog_\w+)\n\n```\n(Syntax: .*?^```\n\n\w+)/gms;

    is_deeply([sort @names], [sort keys %$directives],
              'all of them, and no others');

    for my $name (@names) {
        my ($syntax, $default, $context, $version, $verb) = $head{$name}
            =~ /^Syntax:\ {3}(.*)\nDefault:\ {2}(.*)\nContext:\ {2}(.*)\n
                Appeared:\ (.*)\n```\n\n(.*)\z/sx;

        like($syntax // '', qr/\A$name\b.*;\z/, "$name: its syntax");
        is(in_milliseconds($default =~ s/\A$name\s+(.*);\z/$1/sr),
           default_in_code($name), 'its default');
        is($context, $directives->{$name}, 'its context');
        appeared($name, $version);
        like($verb, qr/\A(?:Adds|Defines|Enables|Limits|Makes|Sets)\z/,
             'its text begins with a verb');
    }
};


subtest 'the table of directives' => sub {
    my ($all) = $page =~ /^The context \*all\* means (.*)\.$/m;

    my @rows = map { [split / \| /] } $page =~ /^\| (\[`bog_.*) \|$/mg;
    my @names = map { $_->[0] =~ /`(\w+)`/ } @rows;

    is_deeply(\@names, [$page =~ /^### (bog_\w+)$/mg],
              'the order of the sections');

    for my $row (@rows) {
        my ($name, $context, $default, $text) = @$row;

        my ($word) = $name =~ /\A\[`(\w+)`\]\(#\1\)\z/;
        my ($section) = $page =~ /^### \Q$word\E\n.*?^Default:  (.*?)$/ms;

        $section =~ s/\A\w+\s+(.*);\z/`$1`/;
        $section = "the bank's" if $word eq 'bog_token_endpoint';

        is($context =~ s/\Aall\z/$all =~ s{ and }{, }r/er,
           directives()->{$word}, "$word: its context");
        is($default, $section, 'its default');
        like($text, qr/\A\w[^|]*\z/, 'a line');
    }
};


subtest 'the table of variables' => sub {
    my @rows = map { [split / \| /] }
               $page =~ /^\| (\[?`\$bog_\w+`.*) \|$/mg;
    my %sections = map { $_ => 1 } $page =~ /^### (\$bog_\w+)$/mg;

    is_deeply([sort map { $_->[0] =~ /(\$\w+)/ } @rows],
              [sort keys %{ variables() }], 'all of them, and no others');

    for my $row (@rows) {
        my ($name, $text) = @$row;
        my ($word) = $name =~ /(\$(\w+))/;

        is($name, $sections{$word} ? "[`$word`](#$2)" : "`$word`",
           "$word: a link to its section");
        appeared($word, $text =~ /\(([0-9.]+)\)\z/ ? $1 : '0.1.0');
    }
};


# The formats of "bog_status", and the members of its JSON.

subtest 'the status' => sub {
    my $json = slurp("$root/src/status/ngx_http_bog_status_json.c");
    my ($section) = $page =~ /^### bog_status\n(.*?)^## /ms;

    my ($formats) = $section =~ /\[(.*?)\];$/m;
    my @members = ($json =~ /\\"(\w+)\\":/g,
                   $json =~ /bog_json_counters\(w, "(\w+)"/g);

    my %known = map { $_ => 1 } @members, split / \| /, $formats;
    my @heads = map { /`(\w+)`/g } $section =~ /^- ((?:`\w+`(?:, )?)+)/mg;

    cmp_ok(scalar(@members), '>', 30, 'there are some');
    is(join(' ', grep { $section !~ /`$_`/ } sort keys %known), '',
       'all of them');
    is(join(' ', grep { !$known{$_} } @heads), '', 'no others');
};


# Metrics: those that the source has a type for.

sub metrics {
    return { $source =~ /"(bog_\w+)"\)?,\s*"(gauge|counter|histogram)"/g };
}


subtest 'metrics' => sub {
    my %table = $text{'docs/guide.md'}
                =~ /^\| `(bog_\w+)` \| (gauge|counter|histogram) \|/mg;

    is_deeply(\%table, metrics(), 'all of them, and no others');
    cmp_ok(scalar(keys %table), '>', 10, 'there are some');
};


# The severity of an alert is a word, or a template that looks at "required".

subtest 'alerts' => sub {
    my $rules = slurp("$root/docs/examples/prometheus-alerts.yml");

    my %rules = $rules =~ /- alert: (\w+)\n.*?severity: (\S+)/gs;
    s/\A[&*]severity\z/critical, or warning/ for values %rules;

    my %table = $text{'docs/guide.md'}
                =~ /^\| `(Bog\w+)` \| ([\w, ]+) \|/mg;

    is_deeply(\%table, \%rules, 'all of them, and no others');
    is(scalar(() = $rules =~ /^ +(?:runbook_url:|annotations: \*)/mg),
       scalar(keys %rules), 'each has a link');
};


# The examples lead to docs/troubleshooting.md at an address that people replace
# with their own, by the command in docs/guide.md.

my @with_links = qw(prometheus-alerts.yml grafana-dashboard.json);

subtest 'links of the examples' => sub {
    my ($command) = $text{'docs/guide.md'}
        =~ /^ {4}(sed -i .*\\\n.*)$/m or die 'no command';
    my ($old, $new) = $command =~ /'s\|([^|]+)\|([^|]+)\|'/;
    my $dir = File::Temp->newdir;
    my %before;

    for my $file (@with_links) {
        $before{$file} = slurp("$root/docs/examples/$file");
        spew("$dir/$file", $before{$file});

        my @links = $before{$file} =~ /(https?:[^\s"]+)/g;

        cmp_ok(scalar(@links), '>=', 8, "$file: there are some");

        for my $link (@links) {
            my ($page, $anchor) = $link =~ /\A\Q$old\E(\w+\.md)#([\w-]+)\z/;

            ok((grep { $_ eq ($anchor // '') } anchors('docs/'
                . ($page // 'troubleshooting.md'))), $link);
        }
    }

    is(system("cd $dir && $command"), 0, 'the command of the page');

    is(slurp("$dir/$_"), $before{$_} =~ s/\Q$old\E/$new/gr, "replaces all in $_")
        for @with_links;
};


subtest 'nothing else by that name' => sub {
    for my $page (@pages) {
        my %known = (%{ directives() }, %{ variables() }, %{ metrics() });

        # this one is about the source, too
        %known = (%known, map { $_ => 1 } $source =~ /\b(bog_\w+)/g)
            if $page eq 'docs/design.md';

        my @unknown = grep { !$known{$_} && !$known{"\$$_"} }
                      $text{$page} =~ /(?<![\w.\/])(\$?bog_\w+)(?![\w.\/*])/g;

        is("@unknown", '', $page);
    }
};


# Messages: all that can get into a log has its line in docs/troubleshooting.md,
# with words of its own for what differs.  A failed fetch has the same words
# before its reason.

sub unquoted {
    my ($literals) = @_;

    my $text = join '', $literals =~ /"((?:[^"\\]|\\.)*)"/g;

    return $text =~ s/\\(.)/$1/gr;
}


sub messages {
    my %found;

    # what a system call is called
    my $text = $source =~ s/\bngx_open_file_n\s+"/"open()/gr
                       =~ s/\bngx_fd_info_n\s+"/"fstat()/gr
                       =~ s/\bngx_read_fd_n\s+"/"read()/gr;

    my $calls = qr/\b(?:ngx_(?:conf_)?log_error\(|ngx_log_debug[0-9]\(
                       |ngx_ssl_error\(|ngx_http_bog_(?:conf_log|log_error)\(
                       |ngx_http_bog_fetch_fail\()/x;

    while ($text =~ /$calls([^;]*?)($literals)/g) {
        $found{unquoted($2)} = 1;
    }

    # what a directive's handler returns, and what a parser does
    while ($text =~ /\breturn\s+($literals);/g) {
        $found{unquoted($1)} = 1;
    }

    # parts of a message
    while ($text =~ /^static\ char\s+\*ngx_http_bog_(?:result|state)_\w+\[\]
                     \ =\ \{(.*?)^\};/gmsx)
    {
        $found{unquoted($_)} = 1 for $1 =~ /$literals/g;
    }

    # each outcome makes a line of its own
    my ($rejected) = grep { /was rejected, %s\z/ } keys %found;
    my ($outcomes) = $text =~ /\w_rejected_outcomes\[\] = \{(.*?)^\};/ms;

    $found{$rejected =~ s/%s\z/unquoted($_)/er} = 1
        for $outcomes =~ /$literals/g;
    delete $found{$rejected};

    # of no use alone: the frames of other messages
    delete @found{'', '%*s in %V:%ui', '%*s'};

    return sort keys %found;
}


sub pattern {
    my ($message) = @_;

    my @parts = split /(%(?:%|0?[0-9]*(?:\.1f|\*s|u?x?[A-Za-z][Di]?)))/, $message;

    return join '', map { /^%%$/ ? '%' : /^%/ ? '[^`]*' : quotemeta } @parts;
}


# A line's end within a paragraph or an item is a blank.

sub paragraphs {
    my $page = shift;

    return map { s/\s+/ /gr } split /\n\s*\n|\n(?=- |#)/, $text{$page};
}


subtest 'messages' => sub {
    my @lines = paragraphs('docs/troubleshooting.md');
    my @patterns = map { '(?:token request failed: )?' . pattern($_) }
                   messages();

    for my $pattern (@patterns) {
        ok((grep { /`$pattern`/ } @lines), $pattern =~ s/\\(\W)/$1/gr);
    }

    # items that begin like this are messages, and still in use
    for my $message (map { /^- `([^`]*)`/ } @lines) {
        ok((grep { $message =~ /\A$_\z/ } @patterns), "still there: $message");
    }
};


# Links.

sub anchors {
    my $page = shift;

    my $text = $text{$page} =~ s/^```.*?^```$//gmsr;

    return map { lc($_) =~ tr/a-z0-9_ -//cdr =~ tr/ /-/r }
           $text =~ /^#+ (.*)$/mg;
}


# What the links and pictures of a page lead to: files of ours, and anchors.

sub links {
    my $page = shift;

    my @links = grep { !/^https?:/ } $text{$page} =~ /\]\(([^)]+)\)/g;

    return map { [$_, target($page, $_)] } @links;
}


sub target {
    my ($page, $link) = @_;

    my ($path, $anchor) = $link =~ /^([^#]*)(?:#(.*))?\z/;

    return ($page, $anchor) if $path eq '';

    my $target = dirname($page) . "/$path";

    $target =~ s/^(?:\.\/)+//;
    1 while $target =~ s/[^\/]+\/\.\.\///;

    return ($target, $anchor);
}


subtest 'links' => sub {
    for my $page (@pages) {
        for my $link (links($page)) {
            my ($name, $target, $anchor) = @$link;

            ok(-f "$root/$target", "$page: $name") or next;
            next unless defined $anchor;

            ok((grep { $_ eq $anchor } anchors($target)), 'its anchor');
        }
    }
};


# Whoever begins at README.md comes to each page and each picture.  What pictures
# are made from is next to them.

subtest 'nothing is out of reach' => sub {
    my @to_read = 'README.md';
    my %reached;

    while (defined(my $page = shift @to_read)) {
        next if $reached{$page}++ || !exists $text{$page};
        push @to_read, map { $_->[1] } links($page);
    }

    for my $file (@files) {
        if ($file =~ /^(.*)\.dot\z/) {
            ok(-f "$root/$1.svg", "$file has its picture");
            next;
        }

        ok($reached{$file}, $file);
    }

    for my $picture (grep { /\.svg\z/ } @files) {
        like(slurp("$root/$picture"), qr/<svg\s.*<\/svg>\s*\z/s,
             "$picture is one");
    }
};


done_testing();
