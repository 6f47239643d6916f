#!/bin/sh
#
# matrix.sh [-q] [-w] [-g CLONE] [-f FORK=CLONE] [ROW...]
#
# Builds the module for each nginx that there is, runs the core suites, and
# prints a table. Each row is in a Debian of its own, see chroot.sh. A row is a
# suite of Debian and a kind, and may be named by either: "trixie-static",
# "trixie", "static". The kinds:
#
#   package       Debian's nginx, from its package
#   beside        the same with Lua, njs, headers-more, Brotli and ModSecurity
#                 loaded before the module, and a suite in which they work
#   static        Debian's source of nginx, with debugging, threads and, where
#                 there is, HTTP/3, the module a part of it
#   plain         Debian's source, without debugging, threads and --with-compat
#   static-plain  the same, the module a part of it
#
#   -q            three suites in place of all, and the packages of trixie and
#                 sid only
#   -w            the table is written to docs/versions/figures.md, too
#   -g CLONE      that clone of nginx has the source of releases: the module is
#                 compiled for the last one of each branch, here; "clone" as
#                 a row is for these alone
#   -f FORK=CLONE the same for the newest release of a fork, "freenginx" or
#                 "angie"; without it the row says that it was skipped
#
# What was said meanwhile is in build/matrix. Only root can do it.

set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
logs=$root/build/matrix
page=$root/docs/versions/figures.md

suites='answers captures clients hold log protocols refresh rejected reload
        signals sources start state status variables wire'
quick='log start wire'
rows='bullseye-static bullseye-plain
      bookworm-package bookworm-beside bookworm-static bookworm-plain
      bookworm-static-plain
      trixie-package trixie-beside trixie-static trixie-plain
      trixie-static-plain
      sid-package sid-static sid-plain sid-static-plain'

flags='--with-http_ssl_module --with-http_v2_module
       --with-http_auth_request_module --with-http_stub_status_module
       --with-http_addition_module --with-http_slice_module
       --with-http_sub_module --with-http_realip_module'

write=
clone=
freenginx=
angie=

say() {
    printf '%s\n' "$*"
}

die() {
    say "matrix.sh: $*" >&2
    exit 1
}

usage() {
    die 'usage: matrix.sh [-q] [-w] [-g CLONE] [-f FORK=CLONE] [ROW...]'
}

# Those that are named in whole, by their suite or by their kind.

wanted() {
    for row in $rows; do
        [ $# -gt 0 ] || say "$row"

        for name; do
            case $name in
                "$row" | "${row%%-*}" | "${row#*-}")
                    say "$row"
                    break
                    ;;
            esac
        done
    done
}

in_chroot() {
    sh util/chroot.sh "$@" >> "$log" 2>&1
}

# What follows runs in the chroot, with a network first, and then without.
# shellcheck disable=SC2016
prepare='
    kind=$1
    shift

    [ -e /root/updated ] || apt-get -q update
    touch /root/updated

    if [ -n "${NGINX_SRC:-}" ] && [ ! -d "$NGINX_SRC" ]; then
        cd /root
        rm -rf nginx.new
        mkdir nginx.new

        if apt-get -q source --only-source --download-only --tar-only nginx
        then
            tar -C nginx.new --strip-components=1 --no-same-owner \
                -xf nginx_*.orig.tar.*
            echo "source of" > from
        else
            tar -C nginx.new -xf /mnt/source.tar
            echo "clone, in" > from
        fi

        mv nginx.new "$NGINX_SRC"
        cd bog
    fi

    sh util/deps.sh core nghttp2-client "$@"
    [ "$kind" != beside ] || sh util/deps.sh modules'

# shellcheck disable=SC2016
run='
    kind=$1
    shift

    if [ "$kind" = beside ]; then
        # in this order Lua comes after ndk, which it needs
        BOG_MODULES=$(cat /usr/share/nginx/modules-available/*.conf | sort \
            | sed -n "s,load_module modules/\(.*\);,/usr/lib/nginx/modules/\1,p" \
            | tr "\n" " ")
        export BOG_MODULES
        echo "Other modules: $BOG_MODULES"
    fi

    status=0
    sh util/test.sh "$@" || status=$?

    nginx=nginx
    [ -z "${NGINX_SRC:-}" ] || nginx=build/for-nginx/nginx/nginx
    $nginx -V > /mnt/nginx 2>&1
    gcc -dumpfullversion > /mnt/gcc
    [ ! -e /root/from ] || cp /root/from /mnt

    exit $status'

# The environment of a kind.

environment() {
    # suites wait more than they work
    say BOG_DEPS=core
    say "BOG_JOBS=$(($(nproc) * 2))"

    case $kind in
        package | beside)
            return
            ;;
    esac

    more=
    case $kind in
        static)
            more='--with-compat --with-debug --with-threads'
            [ "$suite" = bullseye ] || [ "$suite" = bookworm ] \
                || more="$more --with-http_v3_module"
            ;;
    esac

    case $kind in
        static*) say BOG_STATIC=1 ;;
    esac

    say NGINX_SRC=/root/nginx
    say "NGINX_FLAGS=$(say "$flags" "$more" | tr -s '\n ' '  ')"
}

packages() {
    case $row in
        # nginx before 1.21.5 knows nothing of PCRE2
        bullseye-*) say libpcre3-dev ;;
        # a client for HTTP/3
        trixie-*)   say ngtcp2-client ;;
    esac
}

# What an nginx was built with, of what makes a difference.

built_with() {
    for option in compat debug threads http_v2 http_v3; do
        grep -qE -e "--with-$option(_module)?( |\$)" "$1" || continue

        case $option in
            http_v*) printf ', HTTP/%s' "${option#http_v}" ;;
            *)       printf ', %s' "$option" ;;
        esac
    done | cut -c 3-
}

version_in() {
    sed -n "s,^nginx version: nginx/\([^ ]*\).*,\1,p" "$1"
}

openssl_in() {
    sed -n 's/^built with \(OpenSSL [^ ]*\).*/\1/p' "$1"
}

title() {
    say '| nginx | from | gcc, OpenSSL | module | with | tests | result | s |'
    say '| --- | --- | --- | --- | --- | --- | --- | --- |'
}

# What is said of tests: how many, and which suites failed.

tests_in() {
    sed -n 's/^Files=[0-9]*, Tests=\([0-9]*\),.*/\1/p' "$1" | tail -n 1
}

failures_in() {
    sed -n 's/^t\/\([a-z_]*\)\.t  *(Wstat.*/\1/p' "$1" | tr '\n' ' '
}

result() {
    if [ "$1" -eq 0 ]; then
        say green
        return
    fi

    say "**red** $(failures_in "$log")"
}

describe() {
    case $kind in
        package) say "package of $suite | dynamic" ;;
        beside)  say "package of $suite | dynamic, beside five others" ;;
        static*) say "$(cat "$share/from") $suite, built there | static" ;;
        plain)   say "$(cat "$share/from") $suite, built there | dynamic" ;;
    esac
}

test_row() {
    suite=${row%%-*}
    kind=${row#*-}
    log=$logs/$row.log
    begun=$(date +%s)
    share=$root/build/chroot/share

    : > "$log"
    : > "$share/nginx"
    : > "$share/gcc"
    : > "$share/from"

    also=
    [ "$kind" != beside ] || also=beside

    environment > "$logs/environment"
    set --
    while read -r line; do
        set -- "$@" "$line"
    done < "$logs/environment"

    status=0
    # lists of words
    # shellcheck disable=SC2046,SC2086
    in_chroot -k "$suite-matrix" "$suite" env "$@" \
              sh -euc "$prepare" sh "$kind" $(packages) \
        && in_chroot -n -k "$suite-matrix" "$suite" env "$@" \
              sh -euc "$run" sh "$kind" $suites $also \
        || status=$?

    from=$(describe)
    say "| $(version_in "$share/nginx") | ${from% |*} |" \
        "$(cat "$share/gcc"), $(openssl_in "$share/nginx") |" \
        "${from#*| } | $(built_with "$share/nginx") |" \
        "$(tests_in "$log") | $(result $status) | $(($(date +%s) - begun)) |"
}

# The last release of each branch that is stable, and the last of all.

releases() {
    tags=$(git -C "$clone" tag --list 'release-1.*' | sort -V)

    for branch in $(say "$tags" | sed 's/\.[0-9]*$//' | sort -uV); do
        minor=${branch##*.}
        [ "$minor" -ge 18 ] || continue
        [ $((minor % 2)) -eq 0 ] || continue

        say "$tags" | grep "^$branch\." | tail -n 1
    done

    say "$tags" | tail -n 1
}

# $1: a clone; $2: a tag; $3: what the table calls it.

compile_row() {
    source=$logs/$2
    log=$logs/$2.log
    begun=$(date +%s)

    rm -rf "$source"
    mkdir -p "$source"
    git -C "$1" archive "$2" | tar -C "$source" -xf -

    status=0
    make -s BUILD="$source/build" NGINX_SRC="$source" > "$log" 2>&1 \
        || status=$?

    say "| $3 | clone, compiled here | $(gcc -dumpfullversion)," \
        "$(openssl version | cut -d ' ' -f 1,2) | dynamic |" \
        "compat, debug, threads, HTTP/2 | none, it compiles |" \
        "$(result $status) | $(($(date +%s) - begun)) |"
}

# $1: a fork; $2: its clone, or nothing.

fork_row() {
    if [ -z "$2" ]; then
        say "| $1 | | | | | | skipped, there is no clone | |"
        return
    fi

    tag=$(git -C "$2" tag --list '*-1.*' | sort -V | tail -n 1)

    compile_row "$2" "$tag" "$1 ${tag#*-}"
}

# The table of a page is what begins with a bar.

put() {
    awk -v table="$logs/table" '
        !/^\|/ { print; next }
        !done++ { while ((getline line < table) > 0) print line }' \
        "$page" > "$logs/page"
    cp "$logs/page" "$page"
}

while getopts qwg:f: option; do
    case $option in
        q) suites=$quick rows='trixie-package sid-package' ;;
        w) write=yes ;;
        g) clone=$OPTARG ;;
        f)
            case $OPTARG in
                freenginx=?*) freenginx=${OPTARG#*=} ;;
                angie=?*)     angie=${OPTARG#*=} ;;
                *)            usage ;;
            esac
            ;;
        *) usage ;;
    esac
done

shift $((OPTIND - 1))

cd "$root"
mkdir -p "$logs"

rows=$(wanted "$@")
[ -n "$rows$clone$freenginx$angie" ] || die "no such row: $*"

# where Debian's source is not to be had
mkdir -p "$root/build/chroot/share"
if [ -n "$clone" ]; then
    git -C "$clone" archive --output "$root/build/chroot/share/source.tar" \
        "$(releases | tail -n 2 | head -n 1)"
fi

title | tee "$logs/table"

for row in $rows; do
    test_row | tee -a "$logs/table"
done

if [ -n "$clone" ]; then
    for tag in $(releases); do
        compile_row "$clone" "$tag" "${tag#release-}" | tee -a "$logs/table"
    done
fi

fork_row freenginx "$freenginx" | tee -a "$logs/table"
fork_row angie "$angie" | tee -a "$logs/table"

[ -z "$write" ] || put

if grep -qF '**red**' "$logs/table"; then
    say "What was said is in $logs"
    exit 1
fi
