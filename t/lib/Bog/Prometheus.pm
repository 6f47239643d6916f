package Bog::Prometheus;

# A real Prometheus that scrapes one target, in a folder of its own.
#
#   my $prometheus = Bog::Prometheus->new(target => "127.0.0.1:$port");
#   $prometheus->query('bog_token_valid');
#
# And promtool.

use strict;
use warnings;

use File::Temp;
use IPC::Open3;
use JSON::PP;
use POSIX ();

use Bog::Client ();
use Bog::Util qw(free_port slurp spew timeout wait_until);


# The exit code and what it said.

sub promtool {
    my ($input, @arguments) = @_;

    my $file = File::Temp->new;
    print {$file} $input;
    $file->flush;

    open my $stdin, '<', "$file" or die "open $file: $!\n";

    my $pid = open3('<&' . fileno $stdin, my $stdout, undef, 'promtool',
                    @arguments);
    my $output = do { local $/; <$stdout> };
    waitpid $pid, 0;

    return ($? >> 8, $output);
}


sub is_there {
    return 2 == grep { my $name = $_;
                       grep { -x "$_/$name" } split /:/, $ENV{PATH} }
                qw(prometheus promtool);
}


# %opt: target, rules => a file.

sub new {
    my ($class, %opt) = @_;

    my $dir = File::Temp->newdir('bog-prometheus-XXXXXX', TMPDIR => 1);

    my $self = bless {
        owner => $$,
        dir   => $dir,
        port  => scalar free_port(),
    }, $class;

    $self->_configure(%opt);

    $self->{pid} = fork // die "fork: $!\n";
    $self->_become if $self->{pid} == 0;

    wait_until { $self->_answers('/-/ready') }
        or die "no Prometheus:\n" . slurp("$dir/output");

    return $self;
}


sub _configure {
    my ($self, %opt) = @_;

    my $rules = $opt{rules} ? "rule_files: ['$opt{rules}']" : '';

    spew("$self->{dir}/prometheus.yml", <<"END");
global:
  scrape_interval: 500ms
  scrape_timeout: 500ms
  evaluation_interval: 500ms
$rules
scrape_configs:
  - job_name: bog
    metrics_path: /metrics
    static_configs:
      - targets: ['$opt{target}']
END
}


sub _become {
    my $self = shift;

    open STDIN, '<', '/dev/null';
    open STDOUT, '>', "$self->{dir}/output";
    open STDERR, '>&', \*STDOUT;

    exec 'prometheus', "--config.file=$self->{dir}/prometheus.yml",
        "--storage.tsdb.path=$self->{dir}/data",
        "--web.listen-address=127.0.0.1:$self->{port}"
        or POSIX::_exit(127);
}


sub _answers {
    my ($self, $uri) = @_;

    die "no Prometheus:\n" . slurp("$self->{dir}/output")
        if waitpid($self->{pid}, POSIX::WNOHANG()) != 0;

    my $answer = Bog::Client::get($self->{port}, $uri);

    return ($answer->{status} // 0) == 200 && $answer;
}


# The state of each alert: inactive, pending or firing.

sub alerts {
    my $self = shift;

    return map { ($_->{name} => $_->{state}) } $self->rules;
}


sub rules {
    my $self = shift;

    return map { @{ $_->{rules} } } @{ $self->api('rules')->{data}{groups} };
}


# What Prometheus answers: a hash with status, data and error.

sub api {
    my ($self, $uri, %arguments) = @_;

    my $query = join '&', map { "$_=" . _escaped($arguments{$_}) }
                sort keys %arguments;

    my $answer = Bog::Client::get($self->{port}, "/api/v1/$uri?$query");

    return decode_json($answer->{body});
}


sub _escaped { $_[0] =~ s/([^A-Za-z0-9._~-])/sprintf '%%%02X', ord $1/ger }


# The samples of an instant query, as [labels, value].

sub query {
    my ($self, $expression) = @_;

    my $answer = $self->api(query => query => $expression);

    die "$expression: $answer->{error}\n" if $answer->{status} ne 'success';

    my $data = $answer->{data};

    return [{}, 0 + $data->{result}[1]] if $data->{resultType} eq 'scalar';
    return map { [$_->{metric}, 0 + $_->{value}[1]] } @{ $data->{result} };
}


# The same once there are any: a scrape may have failed on a busy machine.

sub wait_samples {
    my ($self, $expression) = @_;

    my @samples;

    wait_until { @samples = $self->query($expression) };

    return @samples;
}


# The value of the only sample, once it is that: scrapes come by themselves.

sub wait_value {
    my ($self, $expression, $value) = @_;

    my @samples;

    wait_until {
        @samples = $self->query($expression);
        @samples == 1 && $samples[0][1] == $value;
    };

    return @samples == 1 ? $samples[0][1] : scalar(@samples) . ' samples';
}


sub stop {
    my $self = shift;

    my $pid = delete $self->{pid} or return;
    return if $self->{owner} != $$;

    local ($?, $@, $!);

    kill TERM => $pid;
    wait_until { waitpid($pid, POSIX::WNOHANG()) != 0 } 10 and return;

    kill KILL => $pid;
    waitpid $pid, 0;
}


sub DESTROY { $_[0]->stop }


1;
