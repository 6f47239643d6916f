package Bog::Bench::Gateway;

# The ways in which a gateway can come to a token, each with the same
# backend behind it, for comparing what they cost.
#
#   my $site = Bog::Bench::Gateway->new(length => 1300);      of the token
#   for my $way ($site->ways) {
#       my $nginx = $site->start($way, workers => 2);

use strict;
use warnings;

use Bog::Bank;
use Bog::Client;
use Bog::Nginx;
use Bog::Util 'free_port';

# The first one sends no token at all.
my @ways = qw(none literal set module lua njs);

my %name = (
    none    => 'no header',
    literal => 'token in the configuration',
    again   => 'the same again',
    set     => 'token in the configuration, by set',
    module  => 'nginx-bog',
    lua     => 'access_by_lua, shared dictionary',
    njs     => 'njs, shared dictionary',
);


sub name { $name{$_[1]} }


sub new {
    my ($class, %opt) = @_;

    my @letters = ('a' .. 'z', 'A' .. 'Z', 0 .. 9);

    my $self = bless {
        token => join('', map { $letters[$_ * 7 % 62] }
                          1 .. $opt{length} // 1300),
        bank => Bog::Bank->new(credentials => { 8282 => 's3cret' }),
        port => free_port(),
    }, $class;

    $self->{bank}->answer(token => $self->{token}, expires_in => 3600);

    $self->{backend} = Bog::Nginx->new(module => 0, log_level => 'error',
        conf => <<"END");
        access_log off;
        keepalive_requests 1000000000;

        server {
            listen 127.0.0.1:$self->{port} backlog=4096;
            return 200 "ok\n";
        }
END
    $self->{backend}->start;

    return $self;
}


sub bank  { $_[0]{bank} }
sub token { $_[0]{token} }


# Those that the nginx at hand can do.

sub ways {
    my $self = shift;

    return grep { $self->_works($_) } @ways;
}


sub _works {
    my ($self, $way) = @_;

    my $modules = $self->_modules($way) // return 0;
    return 1 if $way !~ /lua|njs/;

    my ($status) = $self->_make($way)->test;

    return $status == 0;
}


my %modules = (
    lua => ['ndk_http_module', 'ngx_http_lua_module'],
    njs => ['ngx_http_js_module'],
);

sub _modules {
    my ($self, $way) = @_;

    return Bog::Nginx->modules_of_debian(@{ $modules{$way} // [] });
}


sub _make {
    my ($self, $way, %opt) = @_;

    my ($http, $location) = $self->_conf($way);
    my $own = $opt{conf} // '';

    return Bog::Nginx->new(
        log_level => 'error',
        secret    => { main => "s3cret\n" },
        module    => $way eq 'module' ? 1 : 0,
        modules   => $self->_modules($way),
        files     => { 'token.js' => <<'END' },
            function token(r) { return ngx.shared.tokens.get('token'); }
            function put(r) {
                ngx.shared.tokens.set('token', r.requestText);
                r.return(204);
            }
            export default { token, put };
END
        %opt,
        conf      => <<"END",
        access_log off;
        keepalive_requests 1000000000;
        keepalive_timeout 600s;

        upstream backend {
            server 127.0.0.1:$self->{port};
            keepalive 64;
            keepalive_requests 1000000000;
        }

        proxy_http_version 1.1;
        $http

        server {
            listen 127.0.0.1:%%PORT%% backlog=4096;

            location / {
                proxy_pass http://backend;
                proxy_set_header Connection "";
                $location
            }

            $own
        }
END
    );
}


sub _conf {
    my ($self, $way) = @_;

    my $header = 'proxy_set_header Authorization "Bearer';

    return ('', '') if $way eq 'none';
    return ('', qq($header $self->{token}";)) if $way =~ /literal|again/;
    return ('', qq(set \$token "$self->{token}"; $header \$token";)) if $way eq 'set';

    return (<<"END", qq($header \$bog_bearer_token";)) if $way eq 'module';
        bog_client_id           8282;
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      ${\ $self->{bank}->url };
END

    return (<<"END", <<"LOCATION") if $way eq 'lua';
        lua_shared_dict tokens 1m;
        init_by_lua_block { ngx.shared.tokens:set("token", "$self->{token}", 3600) }
END
        set \$token "";
        access_by_lua_block {
            ngx.var.token = ngx.shared.tokens:get("token")
        }
        $header \$token";
LOCATION

    return (<<'END', qq($header \$token";)) if $way eq 'njs';
        js_path %%DIR%%;
        js_import token.js;
        js_shared_dict_zone zone=tokens:1m;
        js_set $token token.token;
        server { listen unix:%%DIR%%/put; location / { js_content token.put; } }
END
}


# An nginx that has its token.

sub start {
    my ($self, $way, %opt) = @_;

    my $nginx = $self->_make($way, %opt);

    $nginx->start;

    Bog::Client::get(0, '/', unix => $nginx->dir . '/put', method => 'POST',
                     body => $self->{token}) if $way eq 'njs';

    my $answer = Bog::Client::get($nginx->port, '/', timeout => 60);
    die "$way: $answer->{status}\n" if ($answer->{status} // 0) != 200;

    return $nginx;
}


1;
