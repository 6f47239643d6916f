#!/bin/sh
#
# demo.sh
#
# Installs what is missing, builds the module and shows it at work: an nginx
# with stand-ins of the bank's token endpoint and of its API in it. The
# stand-ins check what they are sent, and so does the demo: it ends with 0 only
# if everything is as it should be.
#
# With BOG_CLIENT_ID and BOG_CLIENT_SECRET_FILE it asks the real bank for a
# token, and says whether one came; with BOG_ENV=sandbox, the bank's sandbox.

set -eu

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source-path=SCRIPTDIR source=progress.sh
. "$root/util/progress.sh"
path=/auth/realms/bog/protocol/openid-connect/token
wrong=0
nginx=
dir=

say() {
    printf '%s\n' "$*"
}

show() {
    sed 's/^./     &/'
}

die() {
    say "demo.sh: $*" >&2
    exit 1
}

# expect WHAT VALUE WANTED

expect() {
    [ "$2" != "$3" ] || return 0

    say "   NOT AS IT SHOULD BE: $1 is $2, not $3"
    wrong=1
}

end() {
    if [ -n "$nginx" ]; then
        kill "$nginx" 2> /dev/null || :
        wait "$nginx" 2> /dev/null || :
    fi

    [ -z "$dir" ] || rm -rf "$dir"
}

# Nobody listens there now.

free_ports() {
    perl -MSocket -e '
        for (1 .. shift) {
            socket(my $fh, PF_INET, SOCK_STREAM, 0) or die $!;
            bind($fh, sockaddr_in(0, INADDR_LOOPBACK)) or die $!;
            push @open, $fh;
            print +(sockaddr_in(getsockname $fh))[0], "\n";
        }' "$1"
}

random() {
    head -c "$1" /dev/urandom | base64 | tr -d '\n=' | tr '+/' '-_'
}

base64_of() {
    printf '%s' "$1" | base64 | tr -d '\n'
}

# The status; the body is in $dir/body.

get() {
    curl -sS --noproxy '*' -m 20 -o "$dir/body" -w '%{http_code}' "$@" || :
}

# A configuration's frame around the http block on the standard input. The
# files of other users are not ours to write: all paths are in $dir.

configure() {
    cat << END
load_module $root/build/ngx_http_bog_module.so;

worker_processes 2;
error_log $dir/error.log notice;
pid $dir/nginx.pid;

events {
}

http {
    access_log off;
    client_body_temp_path $dir/body_temp;
    proxy_temp_path $dir/proxy_temp;
    fastcgi_temp_path $dir/fastcgi_temp;
    uwsgi_temp_path $dir/uwsgi_temp;
    scgi_temp_path $dir/scgi_temp;

END
    cat
    say '}'
}

start() {
    nginx -c "$dir/nginx.conf" -p "$dir/" -g 'daemon off;' \
        2> "$dir/stderr" < /dev/null &
    nginx=$!

    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        if [ "$(get "http://127.0.0.1:$1/up" 2> /dev/null)" = 204 ]; then
            return
        fi

        kill -0 "$nginx" 2> /dev/null || break
        sleep 0.25
    done

    cat "$dir/stderr" >&2
    die 'nginx does not start'
}

# Variables in these are nginx's.
# shellcheck disable=SC2154

stand_ins() {
    secret=$(random 24)
    token=$(random 32)
    basic=$(base64_of "8282:$secret")

    say "$secret" > "$dir/client_secret"

    configure > "$dir/nginx.conf" << END
    log_format bank '\$request_method \$uri\n'
                    'Content-Type: \$content_type\n'
                    'Authorization: \$bank_authorization\n'
                    '\n'
                    '\$request_body\n'
                    '=> \$status';

    # what is secret is not for the screen
    map_hash_bucket_size 256;
    map \$http_authorization \$bank_authorization {
        default        'wrong';
        'Basic $basic' 'Basic (8282 and its secret, in Base64)';
    }

    log_format api  'Authorization: \$http_authorization';

    # the bank's token endpoint

    server {
        listen 127.0.0.1:$bank_port;
        default_type application/json;

        location = $path {
            access_log $dir/bank.log bank;

            if (\$request_method != POST) {
                return 405;
            }

            if (\$http_authorization != 'Basic $basic') {
                return 401 '{"error":"invalid_client"}\n';
            }

            if (\$content_type != application/x-www-form-urlencoded) {
                return 415;
            }

            # "if" comes before the body; behind a proxy, the body is there

            proxy_pass http://unix:$dir/grant.sock:/;
            proxy_pass_request_body off;
            proxy_set_header Content-Length '';
            proxy_set_header X-Body \$request_body;
        }

        location / {
            return 404;
        }
    }

    server {
        listen unix:$dir/grant.sock;
        default_type application/json;

        if (\$http_x_body != grant_type=client_credentials) {
            return 400 '{"error":"unsupported_grant_type"}\n';
        }

        return 200 '{"access_token":"$token","token_type":"Bearer","expires_in":300}\n';
    }

    # the bank's API

    server {
        listen 127.0.0.1:$api_port;
        default_type application/json;
        access_log $dir/api.log api;

        if (\$http_authorization != 'Bearer $token') {
            return 401 '{"message":"Unauthorized"}\n';
        }

        return 200 '{"order":"\$uri","status":"completed"}\n';
    }

    # the gateway

    server {
        listen 127.0.0.1:$port;
        default_type text/plain;

        bog_client_id           8282;
        bog_client_secret_file  $dir/client_secret;
        bog_token_endpoint      http://127.0.0.1:$bank_port$path;

        location /payments/ {
            proxy_pass        http://127.0.0.1:$api_port;
            proxy_set_header  Authorization "Bearer \$bog_bearer_token";
        }

        location = /up {
            return 204;
        }
    }
END
}

with_stand_ins() {
    # shellcheck disable=SC2046
    set -- $(free_ports 3)
    port=$1 bank_port=$2 api_port=$3

    stand_ins
    start "$port"

    api=http://127.0.0.1:$api_port/payments/42
    gateway=http://127.0.0.1:$port/payments/42

    say
    say '   The configuration, with stand-ins for the bank'
    say
    sed -n '/bog_client_id/,/^        }/p' "$dir/nginx.conf" \
        | sed -e "s,$dir/,,; s/^        //" | show
    say
    say '1. The API, asked directly, without a token'
    say
    code=$(get "$api")
    { say "GET $api"; printf '%s ' "$code"; cat "$dir/body"; } | show
    expect 'the status' "$code" 401
    say
    say '2. The gateway, asked in the same way: still without a token'
    say
    : > "$dir/api.log"
    code=$(get "$gateway")
    { say "GET $gateway"; printf '%s ' "$code"; cat "$dir/body"; } | show
    expect 'the status' "$code" 200
    say
    say '   What the API saw'
    say
    show < "$dir/api.log"
    expect 'the header' "$(cat "$dir/api.log")" "Authorization: Bearer $token"
    say
    say '3. The gateway, 100 times more, 20 at a time'
    say
    many > "$dir/codes"
    sort "$dir/codes" | uniq -c | sed 's/^ *//; s/ / times /' | show
    expect 'the number of 200s' "$(grep -c '^200$' "$dir/codes")" 100
    say
    say '4. What the token endpoint saw, in all'
    say
    show < "$dir/bank.log"
    requests=$(grep -c '^=>' "$dir/bank.log" || :)
    expect 'the number of token requests' "$requests" 1
    expect 'the status' "$(sed -n 's/^=> //p' "$dir/bank.log")" 200
    say
    say '5. What it answers to others'
    say
    refusals
    show < "$dir/refusals"
    say
    [ $wrong -eq 0 ] || die 'not everything is as it should be'

    say "All as it should be: 101 answers and $requests token request."
    say 'No client has seen a token or a secret.'
    say
    say 'Where to look next'
    say
    say 'README.md           the configuration for the real bank' | show
    say 'docs/directives.md  all that can be set' | show
    say 'sh util/test.sh     the tests' | show
}

many() {
    i=0

    while [ $i -lt 100 ]; do
        i=$((i + 1))
        say "url = \"$gateway\""
        say 'output = "/dev/null"'
    done > "$dir/urls"

    # -Z shows a progress meter, -s or not
    curl --noproxy '*' -m 20 -Z --parallel-max 20 -w '%{http_code}\n' \
        -K "$dir/urls" 2> "$dir/stderr" || :
}

# Stand-ins that take anything would prove nothing.

refusals() {
    url=http://127.0.0.1:$bank_port$path
    set -- -H "Authorization: Basic $basic"

    refusal 405 'to GET instead of POST' "$@"
    refusal 401 'to another secret' -u 8282:guess \
        -d grant_type=client_credentials
    refusal 415 'to JSON' "$@" -H 'Content-Type: application/json' -d '{}'
    refusal 400 'to another grant' "$@" -d grant_type=password
}

refusal() {
    wanted=$1
    what=$2
    shift 2

    code=$(get "$@" "$url")
    say "$code $what" >> "$dir/refusals"
    expect "the answer $what" "$code" "$wanted"
}

with_the_bank() {
    case ${BOG_ENV:-} in
        '')
            token_host='oauth2.bog.ge'
            api_host='api.bog.ge'
            ;;
        sandbox)
            token_host='oauth2-sandbox.bog.ge'
            api_host='api-sandbox.bog.ge'
            ;;
        *)
            die "BOG_ENV is \"$BOG_ENV\"; it can only be \"sandbox\""
            ;;
    esac

    secret_file=$(cd "$(dirname "$BOG_CLIENT_SECRET_FILE")" && pwd)
    secret_file=$secret_file/$(basename "$BOG_CLIENT_SECRET_FILE")

    port=$(free_ports 1)

    configure > "$dir/nginx.conf" << END
    server {
        listen 127.0.0.1:$port;
        default_type text/plain;

        bog_client_id           $BOG_CLIENT_ID;
        bog_client_secret_file  $secret_file;
        bog_token_endpoint      https://$token_host$path;

        # it waits for the token, as the API's location would

        location = /state {
            bog_token         optional;
            bog_wait_timeout  18s;
            proxy_pass        http://unix:$dir/state.sock;
            proxy_set_header  X-State
                \$bog_token_state,\$bog_token_expires,\$bog_token_error;
        }

        location = /up {
            return 204;
        }
    }

    server {
        listen unix:$dir/state.sock;
        return 200 \$http_x_state\n;
    }
END

    start "$port"

    say
    say "Asking $token_host for a token for client $BOG_CLIENT_ID"

    get "http://127.0.0.1:$port/state" > /dev/null
    IFS=, read -r state expires error < "$dir/body" || :

    if [ "$state" = valid ] || [ "$state" = refreshing ]; then
        say
        say "A token came. It expires in $expires seconds."
        say "With these lines, nginx sends it to $api_host:"
        say
        show << END
bog_client_id           $BOG_CLIENT_ID;
bog_client_secret_file  $secret_file;
bog_token_endpoint      https://$token_host$path;

location /payments/ {
    proxy_pass             https://$api_host;
    proxy_ssl_server_name  on;
    proxy_set_header       Authorization "Bearer \$bog_bearer_token";
}
END
        return
    fi

    say
    grep '\[\(error\|crit\|emerg\)\]' "$dir/error.log" | tail -n 3 | show
    die "no token: ${error:-no answer in time}"
}

sh "$root/util/deps.sh" demo

if [ ! -x /usr/sbin/nginx ] || [ ! -d /usr/share/nginx/src ]; then
    export BOG_DEBIAN="$root/build/debian"
    PATH=$BOG_DEBIAN/usr/sbin:$PATH
fi

trap end EXIT
trap 'exit 1' HUP INT PIPE TERM

# the workers of root's nginx are another user, who goes through it
umask 077
dir=$(mktemp -d)
chmod 711 "$dir"

compile() {
    make -j "$(nproc)" -C "$root" > "$dir/make.log" 2>&1
}

say 'Compiling the module'

if ! alive compile; then
    tail -n 20 "$dir/make.log" >&2
    die 'the module cannot be built'
fi

say "nginx-bog, in $(nginx -v 2>&1 | sed 's/.*: //')"

if [ -n "${BOG_CLIENT_ID:-}" ] && [ -n "${BOG_CLIENT_SECRET_FILE:-}" ]; then
    with_the_bank
else
    with_stand_ins
fi
