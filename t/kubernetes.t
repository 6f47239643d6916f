# The manifest of docs/examples: what Kubernetes takes, and what hangs together in
# it.  Its nginx.conf is loaded by t/docs.t.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use File::Copy 'copy';
use File::Temp;
use JSON::PP;
use Test::More;

use Bog::Util qw(slurp spew);

my $root = "$FindBin::Bin/..";
my $modules = "$root/build/npm";
my $file = "$root/docs/examples/kubernetes.yaml";

unless (-d "$modules/node_modules/kubernetes-models") {
    my $reason = 'the schemas are not installed: util/deps.sh npm';

    die "$reason\n" if ($ENV{CI} // '') eq 'true';
    plan skip_all => $reason;
}

copy("$FindBin::Bin/npm/kubernetes.mjs", $modules) or die "copy: $!\n";


# The documents of a manifest, or what is wrong with it.

sub documents {
    my $path = shift;

    my $output = `node '$modules/kubernetes.mjs' '$path' 2>&1`;

    return $? ? $output =~ /^\w*Error: (.*)$/m : @{ decode_json($output) };
}


sub wrong {
    my ($from, $to) = @_;

    my $bad = File::Temp->new;
    my $text = slurp($file);

    $text =~ s/$from/$to/ or die "no $from\n";
    spew("$bad", $text);

    return join ' ', documents("$bad");
}


my %of = map { ref $_ ? ($_->{kind} => $_) : ($_ => undef) } documents($file);

is(join(' ', sort keys %of), 'ConfigMap Deployment NetworkPolicy Service',
   'the schemas accept all of it');

is(wrong('periodSeconds: 5', 'periodSeconds: often'),
   'data/spec/template/spec/containers/0/readinessProbe/periodSeconds must be'
   . ' integer', 'but not a value of another type');
is(wrong('readOnlyRootFilesystem', 'readOnlyFilesystem'),
   'unknown: Deployment.spec.template.spec.containers.0.securityContext.'
   . 'readOnlyFilesystem', 'nor a member that there is not');

my $conf = $of{ConfigMap}{data}{'nginx.conf'};
my $pod = $of{Deployment}{spec}{template};
my ($container) = @{ $pod->{spec}{containers} };
my %port = map { $_->{name} => $_->{containerPort} } @{ $container->{ports} };

is_deeply([sort { $a <=> $b } values %port],
          [sort { $a <=> $b } $conf =~ /\blisten +([0-9]+);/g],
          'the ports are those of nginx.conf');

for my $probe (qw(readinessProbe livenessProbe)) {
    my $get = $container->{$probe}{httpGet};
    my ($path) = $get->{path} =~ /\A([^?]+)/;

    is($port{$get->{port}}, 9145, "$probe: its port");
    like($conf, qr/location = \Q$path\E \{\n *bog_status;/, 'its path');
}

my %mount = map { $_->{name} => $_->{mountPath} } @{ $container->{volumeMounts} };

is(join(' ', sort keys %mount),
   join(' ', sort map { $_->{name} } @{ $pod->{spec}{volumes} }),
   'each volume is mounted');
is(join(' ', grep { !m{\A(?:$mount{temporary}/|/dev/)} }
             $conf =~ /^[ ]*(?:pid|error_log|access_log|\w+_temp_path)[ ]+
                       (\/[^;\s]+)/gmx), '',
   'nginx writes to no other folder than that for temporary files');
like($conf, qr/bog_client_secret_file +\Q$mount{secret}\E\/client_secret;/,
     'the secret is where nginx reads it');
is_deeply($of{Service}{spec}{selector}, $pod->{metadata}{labels},
          'the service finds the pods');

done_testing;
