package Bog::Bench::Scale;

# Many sources in one configuration: what starting costs, memory, the cost of a
# request, the first fetch of all, and the work while nothing happens.

use strict;
use warnings;

use Exporter 'import';
use Time::HiRes 'sleep';

use Bog::Bank;
use Bog::Bench::Instructions 'instructions';
use Bog::Bench::Process qw(memory cpu switches);
use Bog::Nginx;
use Bog::Util 'now';

our @EXPORT_OK = qw(sources request_with);

my $workers = 4;


# For so many of them: seconds of nginx -t, of a start, of the first fetches,
# of a reload; CPU seconds of a fetch, in all workers; bytes of a source in a
# worker; wake-ups and CPU seconds a second of all workers at rest.

sub sources {
    my $n = shift;

    my $bank = _bank();
    my $nginx = _gateway($n, $bank, 1, workers => $workers);
    my %found;

    $found{test} = _time(sub { die "nginx -t\n" if ($nginx->test)[0] });

    my $empty = _gateway(0, $bank, 1, workers => $workers);
    $empty->start;
    my $bare = memory($empty);
    $empty->stop('TERM');

    my $begin = now();

    $found{start} = _time(sub { $nginx->start });
    $bank->wait_requests($n, 300) or die "not all are fetched\n";
    $found{fetched} = now() - $begin;
    $found{fetch} = cpu($nginx) / $n;

    $found{bytes} = (memory($nginx) - $bare) / $n / $workers;
    @found{qw(switches cpu)} = _rest($nginx);

    $found{reload} = _time(sub { $nginx->reload(wait_old => 1) });
    $found{requests} = $bank->count;

    $nginx->stop('TERM');

    return \%found;
}


# What a request to the last of so many costs more than with a literal.

sub request_with {
    my $n = shift;

    my $bank = _bank();

    my ($ours, $literal) = map {
        my $module = $_;
        (instructions(sub { _served($n, $bank, $module, @_) }, "/$n/", 500))[0];
    } 1, 0;

    return ($ours, $ours - $literal);
}


sub _bank {
    my $bank = Bog::Bank->new(verify => 0);
    $bank->answer(token => 'x' x 1300, expires_in => 3600);

    return $bank;
}


sub _time {
    my $code = shift;

    my $begin = now();
    $code->();

    return now() - $begin;
}


sub _gateway {
    my ($n, $bank, $module, %opt) = @_;

    my $literal = 'x' x 1300;

    my $locations = join '', map { $module ? <<"END" : <<"LITERAL" } 1 .. $n;
        location /$_/ {
            bog_client_id client$_;
            proxy_pass http://127.0.0.1:${\ $bank->api_port };
            proxy_set_header Authorization "Bearer \$bog_bearer_token";
        }
END
        location /$_/ {
            proxy_pass http://127.0.0.1:${\ $bank->api_port };
            proxy_set_header Authorization "Bearer $literal";
        }
LITERAL

    my $source = $module && $n ? <<"END" : '';
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      ${\ $bank->url };
END

    return Bog::Nginx->new(log_level => 'error', module => $module,
        secret => { main => "s3cret\n" }, %opt, conf => <<"END");
        access_log off;
        keepalive_requests 1000000;
        keepalive_timeout 600s;
        $source

        server {
            listen 127.0.0.1:%%PORT%%;
            location / { return 204; }
            $locations
        }
END
}


# Started, and all has been fetched.

sub _served {
    my ($n, $bank, $module, @opt) = @_;

    my $before = $bank->count;
    my $nginx = _gateway($n, $bank, $module, @opt);

    $nginx->start;
    $bank->wait_requests($before + $n, 600) if $module;

    return $nginx;
}


# How often the workers have gone to sleep, and CPU seconds, a second.

sub _rest {
    my $nginx = shift;

    my $seconds = 5;
    my @before = (switches($nginx), cpu($nginx));

    sleep $seconds;

    my @after = (switches($nginx), cpu($nginx));

    return map { ($after[$_] - $before[$_]) / $seconds } 0, 1;
}


1;
