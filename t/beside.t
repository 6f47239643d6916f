# Other modules of Debian's nginx at work in the same locations: what they do
# comes before the hold or after it, and tokens are as they are without them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA 'sha256_hex';
use Test::More;

use Bog::Bank;
use Bog::Client qw(get parallel header);
use Bog::Nginx;

my $debian = Bog::Nginx::binary() =~ m{^(?:/usr/sbin/)?nginx\z};

# loaded for each nginx then
my %loaded = map { m{([^/]+)\.so\z} ? ($1 => 1) : () }
             split ' ', $ENV{BOG_MODULES} // '';


# The paths of modules, or none of them where one is not to be had.

sub modules {
    my @names = @_;

    return [] unless grep { !$loaded{$_} } @names;

    return $debian ? Bog::Nginx->modules_of_debian(@names) : undef;
}


# A gateway whose token the bank holds.  %opt: http, and what Bog::Nginx takes.

sub cold {
    my ($modules, $locations, %opt) = @_;

    my $bank = Bog::Bank->new(credentials => { 8282 => 's3cret' });
    $bank->answer(hold => 1);

    my $pass = "proxy_pass http://127.0.0.1:${\ $bank->api_port };"
               . ' proxy_set_header Authorization "Bearer $bog_bearer_token";';
    $locations =~ s/%%PASS%%/$pass/g;

    my $http = delete $opt{http} // '';

    my $nginx = Bog::Nginx->new(
        status => 1, modules => $modules, secret => { main => "s3cret\n" },
        %opt, conf => <<"END");
        $http
        bog_client_id           8282;
        bog_client_secret_file  %%SECRET_main%%;
        bog_token_endpoint      ${\ $bank->url };
        bog_wait_timeout        60s;
        bog_read_timeout        60s;

        server {
            listen 127.0.0.1:%%PORT%%;
            location /plain { $pass }
            $locations
        }
END
    $nginx->start;

    return ($bank, $nginx);
}


# All of these are held, and answered when the token is there.

sub held {
    my ($bank, $nginx, $uris, %opt) = @_;

    ok($bank->wait_requests(1), 'the token is asked for');

    my @answers = parallel($nginx->port, scalar @$uris, %opt,
        uri     => sub { $uris->[$_[0]] },
        on_sent => sub {
            ok($nginx->wait_active(scalar @$uris), 'all are held');
            is($bank->counts->{api}, 0, 'none has reached the API');
            $bank->release;
            $bank->answer;
        });

    is_deeply([map { $_->{status} // $_->{error} } @answers],
              [(200) x @$uris], "@$uris");

    return @answers;
}


# The bank ends the token: the API's 401 is seen in that location.

sub replaced {
    my ($bank, $nginx, $uri, %opt) = @_;

    my ($token) = map { $_->{token} } $bank->tokens;
    ok($bank->revoke($token), 'the bank ends the token');

    my @statuses = map { get($nginx->port, $uri, %opt)->{status} } 1, 2;
    is("@statuses", '401 200', 'it is replaced');

    is($bank->count, 2, 'two token requests');
    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
}


sub token { ($_[0]->tokens)[0]{token} }

sub id { substr sha256_hex(token($_[0])), 0, 16 }


# What the API was sent, a line for each.

sub reached {
    my ($bank, $header) = @_;

    return [sort map {
        my ($value) = $_->{raw} =~ /^\Q$header\E: (.*?)\r$/mi;
        join ' ', $_->{uri}, $_->{state}, $value // '-';
    } $bank->api_requests];
}


subtest 'Lua' => sub {
    my $modules = modules('ndk_http_module', 'ngx_http_lua_module')
        or plan skip_all => 'no such module';

    my ($bank, $nginx) = cold($modules, <<'END');
        location /access {
            access_by_lua_block {
                ngx.req.set_header("X-State", ngx.var.bog_token_state)
            }
            header_filter_by_lua_block {
                ngx.header["X-Token-Id"] = ngx.var.bog_token_id
            }
            body_filter_by_lua_block { ngx.arg[1] = ngx.arg[1]:lower() }
            %%PASS%%
        }
        location /capture {
            content_by_lua_block {
                local answer = ngx.location.capture("/plain?of=lua")
                ngx.status = answer.status
                ngx.print(answer.body)
            }
        }
        location /variable {
            content_by_lua_block { ngx.print(ngx.var.bog_bearer_token) }
        }
        location /sleep {
            access_by_lua_block { ngx.sleep(0.01) }
            %%PASS%%
        }
        location /denied {
            access_by_lua_block { ngx.exit(403) }
            %%PASS%%
        }
END
    is(get($nginx->port, '/denied')->{status}, 403,
       'who is denied is not held');

    my @answers = held($bank, $nginx, [qw(/access /capture /variable /sleep)]);
    my ($token, $id) = (token($bank), id($bank));

    is_deeply(reached($bank, 'X-State'),
              ['/access valid missing', '/plain?of=lua valid -',
               '/sleep valid -'],
              'the access phase is before the hold, the header after it');
    is(header($answers[0], 'X-Token-Id'), $id, 'a header of the answer');
    is($answers[0]{body}, qq({"authorization":"bearer $token"}), 'its body');
    is($answers[1]{body}, qq({"authorization":"Bearer $token"}),
       'a subrequest has the token');
    is($answers[2]{body}, $token, 'and so has a handler');

    replaced($bank, $nginx, '/access');
};


# A phase of the new location waits: our handler has not seen the request again
# when the token comes.

subtest 'Lua in the post_action of a client that has left' => sub {
    my $modules = modules('ndk_http_module', 'ngx_http_lua_module')
        or plan skip_all => 'no such module';

    my ($bank, $nginx) = cold($modules, <<'END');
        location /held { post_action /audit; %%PASS%% }
        location /audit {
            bog_token off;
            access_by_lua_block { ngx.sleep(1) }
            %%PASS%%
        }
        location /status { bog_status prometheus; }
END
    parallel($nginx->port, 1, uri => '/held', close_after => 1,
             on_sent => sub { ok($nginx->wait_active(1), 'held') });

    ok($nginx->wait_log(qr/post action/), 'its client leaves');
    is($bank->release, 1, 'the token comes');
    is(get($nginx->port, '/plain')->{status}, 200, 'for others');
    is($bank->counts->{api}, 1, 'the other location still sleeps');

    ok($bank->wait_count(api => 2), 'then it sends the request');
    ok($nginx->wait_active(0), 'all is done');
    is_deeply(reached($bank, 'Host'),
              [map { "$_ 127.0.0.1:${\ $bank->api_port }" }
                   '/audit missing', '/plain valid'], 'once');

    my %holds = get($nginx->port, '/status')->{body}
                =~ /^bog_holds_total\{.*result="(\w+)"\} (\d+)/mg;
    is("$holds{aborted} $holds{token}", '1 0', 'the hold has ended by then');

    is($bank->count, 1, 'one token request');
    is($nginx->stop, 0, 'stops');
    $nginx->clean_log;
};


subtest 'njs' => sub {
    my $modules = modules('ngx_http_js_module')
        or plan skip_all => 'no such module';

    my ($bank, $nginx) = cold($modules, <<'END',
        location /filter {
            js_header_filter test.filter;
            %%PASS%%
        }
        location /subrequest { js_content test.subrequest; }
        location /variable { js_content test.variable; }
END
        http  => 'js_path %%DIR%%; js_import test.js;',
        files => { 'test.js' => <<'END' });
export default {
    filter: r => { r.headersOut['X-Token-Id'] = r.variables.bog_token_id; },
    subrequest: r => r.subrequest('/plain', { args: 'of=njs' },
                                  a => r.return(a.status, a.responseText)),
    variable: r => r.return(200, r.variables.bog_bearer_token)
};
END
    my @answers = held($bank, $nginx, [qw(/filter /subrequest /variable)]);
    my ($token, $id) = (token($bank), id($bank));

    is_deeply(reached($bank, 'X-State'),
              ['/filter valid -', '/plain?of=njs valid -'], 'the API');
    is(header($answers[0], 'X-Token-Id'), $id, 'a header of the answer');
    is($answers[1]{body}, qq({"authorization":"Bearer $token"}),
       'a subrequest has the token');
    is($answers[2]{body}, $token, 'and so has a handler');

    replaced($bank, $nginx, '/filter');
};


subtest 'headers-more' => sub {
    my $modules = modules('ngx_http_headers_more_filter_module')
        or plan skip_all => 'no such module';

    my ($bank, $nginx) = cold($modules, <<'END');
        location /more {
            more_set_input_headers "X-State: $bog_token_state";
            more_clear_input_headers Authorization;
            more_set_headers "X-Token-Id: $bog_token_id";
            more_clear_headers Server;
            %%PASS%%
        }
END
    my ($answer) = held($bank, $nginx, ['/more'],
                        headers => [['Authorization' => 'Bearer mine']]);

    is_deeply(reached($bank, 'X-State'), ['/more valid missing'], 'the API');
    is(header($answer, 'X-Token-Id'), id($bank), 'a header of the answer');
    is(header($answer, 'Server'), undef, 'and one that is not there');

    replaced($bank, $nginx, '/more');
};


subtest 'Brotli' => sub {
    my $modules = modules('ngx_http_brotli_filter_module')
        or plan skip_all => 'no such module';

    my ($bank, $nginx) = cold($modules, <<'END');
        location /brotli {
            brotli on;
            brotli_types *;
            brotli_min_length 1;
            %%PASS%%
        }
END
    my @accept = (headers => [['Accept-Encoding' => 'br']]);
    my ($answer) = held($bank, $nginx, ['/brotli'], @accept);

    is_deeply(reached($bank, 'X-State'), ['/brotli valid -'], 'the API');
    is(header($answer, 'Content-Encoding'), 'br', 'compressed');
    cmp_ok(length $answer->{body}, '>', 0, 'there is a body');

    replaced($bank, $nginx, '/brotli', @accept);
};


subtest 'ModSecurity' => sub {
    my $modules = modules('ngx_http_modsecurity_module')
        or plan skip_all => 'no such module';

    my ($bank, $nginx) = cold($modules, <<'END');
        location /waf {
            modsecurity on;
            modsecurity_rules '
                SecRuleEngine On
                SecRequestBodyAccess On
                SecRule ARGS:order "@streq bad" "id:1,phase:2,deny,status:403"
            ';
            %%PASS%%
        }
END
    my $order = sub {
        return (method => 'POST', body => "order=$_[0]",
                headers => [['Content-Type' =>
                             'application/x-www-form-urlencoded']]);
    };

    is(get($nginx->port, '/waf', $order->('bad'))->{status}, 403,
       'who is denied for the body is not held');

    held($bank, $nginx, ['/waf'], $order->('good'));

    is_deeply(reached($bank, 'Content-Length'), ['/waf valid 10'], 'the API');
    is(($bank->api_requests)[0]{body}, 'order=good', 'has the body');

    replaced($bank, $nginx, '/waf', $order->('good'));
};


done_testing;
