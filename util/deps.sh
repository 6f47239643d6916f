#!/bin/sh
#
# deps.sh build|demo|test|core|beside|lint|fuzz|coverage|bench|fleet|diagrams
#         |source|deb|chroot [PACKAGE...]
#
# Installs what is missing on Debian bookworm, trixie or sid, with root's
# rights or by sudo. Asks nothing, and touches nothing where nothing is missing.
#
# What only some of the tests need is optional: without it they are skipped.
# With CI=true nothing is optional.

set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
log=$root/build/deps.log
policy=/usr/sbin/policy-rc.d
keyring=signed-by=/usr/share/keyrings/debian-archive-keyring.gpg
scratch=

say() {
    printf '%s\n' "$*"
}

die() {
    printf '%s\n' "deps.sh: $*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        env DEBIAN_FRONTEND=noninteractive "$@"
    else
        sudo env DEBIAN_FRONTEND=noninteractive "$@"
    fi
}

installed() {
    # dpkg-query's own format, not the shell's
    # shellcheck disable=SC2016
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2> /dev/null)" = installed ]
}

has() {
    command -v "$1" > /dev/null
}

missing() {
    for package; do
        installed "$package" || printf ' %s' "$package"
    done
}

apt() {
    if as_root apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" \
        < /dev/null >> "$log" 2>&1
    then
        return
    fi

    tail -n 20 "$log"
    say "apt-get failed; all that it said is in $log"
    return 1
}

# Once, and only if there is something to install.

begin() {
    [ -z "$scratch" ] || return 0

    if ! has apt-get; then
        say "This is not Debian; missing here: $*"
        return 1
    fi

    if [ "$(id -u)" -ne 0 ] && ! has sudo; then
        say "Only root can do this: apt-get install $*"
        return 1
    fi

    mkdir -p "$root/build"
    : > "$log"
    trap end EXIT
    trap 'exit 1' HUP INT PIPE TERM
    scratch=$(mktemp -d)

    keep_down nginx-common prometheus
    apt update
}

end() {
    if grep -qs 'nginx-bog' $policy; then
        as_root rm -f $policy
    fi

    # apt's folders in it are root's
    as_root rm -rf "$scratch"
}

# Installed by Debian, they take their ports at once. We need the binaries only:
# https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt
# What was there before is not ours to keep down.

keep_down() {
    [ ! -e $policy ] || return 0

    names=
    for package; do
        installed "$package" || names="$names | *${package%-common}*"
    done

    [ -n "$names" ] || return 0

    cat > "$scratch/policy" << END
#!/bin/sh
# of nginx-bog's util/deps.sh, for the time of an installation
case "\$*" in ${names# | }) exit 101 ;; esac
END
    as_root install -m 755 "$scratch/policy" $policy
}

require() {
    wanted=$(missing "$@")
    [ -n "$wanted" ] || return 0

    install "$wanted" || die "missing:$wanted"
}

# optional WHAT COMMAND [ARGUMENT...]

optional() {
    what=$1
    shift

    if "$@"; then
        return
    fi

    say "Not tested, for lack of packages: $what"
    [ "${CI:-}" != true ]
}

install() {
    # one by one, or a list in a word
    # shellcheck disable=SC2048,SC2086
    set -- $*

    begin "$*" || return
    say "Installing $*"
    apt install --no-install-recommends "$@"
}

# Test::Nginx is in forky and later only, but it is Perl: forky's package serves
# the older releases as well. To their apt forky stays unknown: all that has to
# do with it is told on the command line and kept in a folder of our own.

test_nginx() {
    if installed libtest-nginx-perl; then
        return
    fi

    begin libtest-nginx-perl || return

    if apt-cache show libtest-nginx-perl > /dev/null 2>&1; then
        install libtest-nginx-perl
        return
    fi

    say 'Installing libtest-nginx-perl, from forky'

    # the system's own mirror of Debian; that of security updates has no forky
    # before it is released
    mirrors "deb [$keyring] \$(REPO_URI) forky main" 'Label: Debian'

    apart update && apart download libtest-nginx-perl || return
    apt install --no-install-recommends "$scratch"/libtest-nginx-perl_*.deb
}

# Sources for apart, by the system's own: mirrors FORMAT [FILTER...]

mirrors() {
    mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial" \
             "$scratch/parts"

    format=$1
    shift

    apt-get indextargets --format "$format" \
            'Created-By: Packages' 'Component: main' 'Origin: Debian' "$@" \
        | sort -u > "$scratch/sources.list"
}

# apt with nothing of the system's but its configuration. As root all through,
# for _apt, apt's user for downloads, cannot enter the folder.

apart() {
    (
        cd "$scratch"
        apt -o Dir::Etc::SourceList="$scratch/sources.list" \
            -o Dir::Etc::SourceParts="$scratch/parts" \
            -o Dir::State::Lists="$scratch/lists" \
            -o Dir::Cache="$scratch/cache" \
            -o APT::Default-Release= \
            -o APT::Sandbox::User=root \
            -o Acquire::Languages=none \
            "$@"
    )
}

# source_of SOURCE VERSION FOLDER
#
# A source package, as its authors published it, in a folder of build.

source_of() {
    folder=$root/build/$3

    if [ "$(cat "$folder/version" 2> /dev/null)" = "$2" ]; then
        return
    fi

    begin "the source of $1 $2" || return
    say "Fetching the source of $1 $2"

    mirrors "deb-src [$keyring] \$(REPO_URI) \$(RELEASE) main"
    apart update || return
    apart source --only-source --download-only --tar-only "$1=$2" || return

    rm -rf "$folder"
    mkdir -p "$folder"
    tar -C "$folder" --strip-components=1 --no-same-owner \
        -xf "$scratch/$1"_*.orig.tar.* || return
    say "$2" > "$folder/version"
}

# source_version PACKAGE: of what is installed

source_version() {
    # dpkg-query's own format, not the shell's
    # shellcheck disable=SC2016
    dpkg-query -W -f '${source:Version}' "$1"
}

for_source() {
    for_build
    source_of nginx "$(source_version nginx)" source \
        || die 'no source of nginx'
}

# An OAuth server to test against. Node may well come from elsewhere.

node_modules() {
    modules=$root/build/oidc
    lock=$root/t/oidc/package-lock.json

    if [ ! -f "$lock" ] || cmp -s "$lock" "$modules/installed"; then
        return
    fi

    if ! has node || ! has npm; then
        install nodejs npm || return
    fi

    say 'Installing oidc-provider, by npm'

    mkdir -p "$modules"
    cp "$root/t/oidc/package.json" "$lock" "$modules"
    (
        cd "$modules"
        npm ci --ignore-scripts --no-audit --no-fund < /dev/null >> "$log" 2>&1
    ) || return
    cp "$lock" "$modules/installed"
}

# For Debian's nginx, or for one of which there is the source.

for_build() {
    if [ -n "${NGINX_SRC:-}" ]; then
        require gcc libc6-dev make libjansson-dev libssl-dev zlib1g-dev
        installed libpcre3-dev || require libpcre2-dev
        return
    fi

    require gcc libc6-dev make nginx nginx-dev libjansson-dev libssl-dev
}

for_deb() {
    for_build
    require build-essential debhelper
}

for_chroot() {
    require debootstrap util-linux iproute2
}

for_demo() {
    for_build
    require curl ca-certificates
}

# What the suites need that are run with each nginx there is.

for_core() {
    for_demo
    require perl openssl libcmocka-dev libio-socket-ssl-perl jq
    optional 'HTTP/2 clients, with h2load' for_http2
}

for_test() {
    for_core
    optional 'the models, with spin' for_models
    optional 'the tables, with Test::Nginx' test_nginx
    optional 'a real OAuth server, with node and npm' node_modules
    optional 'steps of the clock, with libfaketime' for_clock
    optional 'workers stopped at a line, with gdb' for_debugger
    optional 'a corporate proxy, with socat' for_proxy
    optional 'metrics and alerts, with Prometheus' for_metrics
    optional 'the page, with Chromium' for_page
    optional 'the form of the manual, with mandoc' for_manual
    optional 'modules of others, beside this one' for_beside
}

for_lint() {
    for_build
    require cppcheck clang-tidy shellcheck
}

for_coverage() {
    for_test
    require lcov
}

for_bench() {
    for_test
    require valgrind wrk nghttp2-client gnuplot-nox
}

# Of Debian's nginx. The first two are what the module is compared with, too.

for_beside() {
    [ -z "${NGINX_SRC:-}" ] || return 0

    wanted=$(missing libnginx-mod-http-lua libnginx-mod-http-js \
                     libnginx-mod-http-headers-more-filter \
                     libnginx-mod-http-brotli-filter \
                     libnginx-mod-http-brotli-static \
                     libnginx-mod-http-modsecurity)

    [ -z "$wanted" ] || install "$wanted"
}

for_diagrams() {
    require graphviz
}

for_fleet() {
    require gcc libc6-dev gnuplot-nox
}

# Without its source, jansson is fuzzed as it is in Debian, unseen.

for_fuzz() {
    require clang libclang-rt-dev libc6-dev libjansson-dev libssl-dev
    optional "the inside of jansson, with its source" \
        source_of jansson "$(source_version libjansson-dev)" jansson
}

for_http2() {
    if has h2load; then
        return
    fi

    install nghttp2-client
}

for_models() {
    if has spin; then
        return
    fi

    install spin
}

for_debugger() {
    if has gdb; then
        return
    fi

    install gdb
}

# Neither now nor at the next start of the machine is it to run.

for_metrics() {
    if has prometheus && has promtool; then
        return
    fi

    install prometheus && as_root update-rc.d prometheus disable >> "$log" 2>&1
}

for_page() {
    if has chromium-headless-shell || has chromium; then
        return
    fi

    begin chromium-headless-shell || return

    if apt-cache show chromium-headless-shell > /dev/null 2>&1; then
        install chromium-headless-shell
        return
    fi

    install chromium
}

for_manual() {
    if has mandoc; then
        return
    fi

    install mandoc
}

for_proxy() {
    if has socat; then
        return
    fi

    install socat
}

for_clock() {
    if installed libfaketime; then
        return
    fi

    install libfaketime
}

case ${1:-} in
    build | demo | test | core | beside | lint | fuzz | coverage | bench \
        | fleet | diagrams | source | deb | chroot)
        ;;
    *)
        die 'usage: deps.sh build|demo|test|core|beside|lint|fuzz|coverage|bench
               |fleet|diagrams|source|deb|chroot [PACKAGE...]'
        ;;
esac

"for_$1"
shift
require "$@"
