package Bog::CA;

# A throw-away certificate authority, made by the openssl command.
#
#   my $ca = Bog::CA->shared;
#   my $cert = $ca->cert(name => 'localhost', san => ['DNS:localhost']);
#   $ca->path; $cert->{cert}; $cert->{key}; $ca->crl($cert);

use strict;
use warnings;

use File::Temp;
use POSIX ();

use Bog::Util qw(slurp spew);

my $shared;


# One for the whole process: keys take time.

sub shared { $shared //= $_[0]->new }


sub new {
    my ($class, %opt) = @_;

    my $dir = File::Temp->newdir('bog-ca-XXXXXX', TMPDIR => 1);
    my $self = bless { dir => $dir, certs => {} }, $class;

    spew("$dir/index.txt", '');
    spew("$dir/openssl.cnf", _configuration("$dir"));

    $self->_openssl(qw(req -x509 -newkey ec -pkeyopt
                       ec_paramgen_curve:prime256v1 -nodes -days 30),
        -subj   => '/CN=' . ($opt{name} // 'nginx-bog test CA'),
        -config => "$dir/openssl.cnf", -extensions => 'authority',
        -keyout => "$dir/ca.key", -out => "$dir/ca.crt");

    return $self;
}


sub _configuration {
    my $dir = shift;

    return <<"END";
[ca]
default_ca = test

[test]
dir = $dir
database = $dir/index.txt
new_certs_dir = $dir
certificate = $dir/ca.crt
private_key = $dir/ca.key
rand_serial = yes
default_md = sha256
default_crl_days = 30
policy = any
unique_subject = no

[any]
commonName = supplied

[req]
distinguished_name = subject

[subject]

[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
END
}


sub path { "$_[0]{dir}/ca.crt" }


# %opt: name; san (by default that of the name); days that it is valid, less
# than nothing for one that has expired; from, days until it begins to be so;
# client => 1.

sub cert {
    my ($self, %opt) = @_;

    my $san = join ',', @{ $opt{san} // [_san($opt{name})] };
    my $days = $opt{days} // 30;
    my $usage = $opt{client} ? 'clientAuth' : 'serverAuth';
    my $from = $opt{from} // 0;

    return $self->{certs}{"$opt{name} $san $days $usage $from"}
        //= $self->_issue($opt{name}, $san, $days, $usage, $from);
}


sub _san {
    my $name = shift;

    return $name =~ /^[0-9.]+\z|:/ ? "IP:$name" : "DNS:$name";
}


sub _issue {
    my ($self, $name, $san, $days, $usage, $from) = @_;

    my $base = "$self->{dir}/" . keys %{ $self->{certs} };

    spew("$base.ext", "subjectAltName = $san\nextendedKeyUsage = $usage\n"
                      . "basicConstraints = CA:FALSE\n");

    $self->_openssl(qw(req -new -newkey ec -pkeyopt
                       ec_paramgen_curve:prime256v1 -nodes),
        -subj   => "/CN=$name",
        -config => "$self->{dir}/openssl.cnf",
        -keyout => "$base.key", -out => "$base.csr");

    my $now = time;
    my $end = $now + $days * 86400;
    my $start = $from ? $now + $from * 86400
                      : ($end < $now ? $end : $now) - 86400;

    $self->_openssl(qw(ca -batch -notext),
        -config    => "$self->{dir}/openssl.cnf",
        -startdate => _date($start), -enddate => _date($end),
        -extfile   => "$base.ext",
        -in        => "$base.csr", -out => "$base.crt");

    return { name => $name, cert => "$base.crt", key => "$base.key" };
}


sub _date { POSIX::strftime('%Y%m%d%H%M%SZ', gmtime shift) }


# A list of the certificates revoked, and its path.

sub crl {
    my ($self, @revoked) = @_;

    my @config = (-config => "$self->{dir}/openssl.cnf");

    $self->_openssl('ca', @config, -revoke => $_->{cert}) for @revoked;

    my $path = "$self->{dir}/" . ++$self->{crls} . '.crl';
    $self->_openssl(qw(ca -gencrl), @config, -out => $path);

    return $path;
}


sub _openssl {
    my ($self, @command) = @_;

    my $output = "$self->{dir}/output";
    my $pid = fork // die "fork: $!\n";

    if ($pid == 0) {
        open STDIN, '<', '/dev/null';
        open STDOUT, '>', $output;
        open STDERR, '>&', \*STDOUT;
        exec 'openssl', @command or POSIX::_exit(127);
    }

    waitpid $pid, 0;

    die "openssl @command: " . slurp($output) . "\n" if $?;
}


1;
