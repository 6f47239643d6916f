#!/bin/sh
#
# deps.sh NAME...
#
# Installs what is missing on Debian bookworm, trixie or sid, with root's
# rights or by sudo. Asks nothing, and touches nothing where nothing is missing.
# A name is a package, a tool of t/tools, or one of these sets:
#
#   light       what util/test.sh needs by default: a compiler, libraries, Perl.
#               nginx and Perl's modules, where they are not installed, are only
#               unpacked, in build/debian
#   demo        what util/demo.sh needs, in the same way
#   test        all that the tests can use; CI=true fails where some is missing
#   core        what the suites need that are run with each nginx there is
#   build, lint, fuzz, coverage, bench, fleet, diagrams, source, deb, chroot
#
# deps.sh -n TOOL...
#
# Prints those of the tools that are missing, and installs nothing.

set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source-path=SCRIPTDIR source=progress.sh
. "$root/util/progress.sh"

tools=$root/t/tools
debian=$root/build/debian
npm=$root/build/npm
lock=$root/t/npm/package-lock.json
modules='libnginx-mod-http-brotli-filter libnginx-mod-http-brotli-static
         libnginx-mod-http-headers-more-filter libnginx-mod-http-js
         libnginx-mod-http-lua libnginx-mod-http-modsecurity'
log=$root/build/deps.log
policy=/usr/sbin/policy-rc.d
keyring=signed-by=/usr/share/keyrings/debian-archive-keyring.gpg
scratch=
begun=

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
        sudo -n env DEBIAN_FRONTEND=noninteractive "$@"
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

logged() {
    "$@" < /dev/null >> "$log" 2>&1
}

apt() {
    if alive logged as_root apt-get -q -y -o DPkg::Lock::Timeout=300 \
        -o Dpkg::Options::=--force-confdef \
        -o Dpkg::Options::=--force-confold "$@"
    then
        return
    fi

    tail -n 20 "$log"
    say "apt-get failed; all that it said is in $log"
    return 1
}

# Once, and only if there is something to fetch.

prepare() {
    [ -z "$scratch" ] || return 0

    if ! has apt-get; then
        say "This is not Debian; missing here: $*"
        return 1
    fi

    mkdir -p "$root/build"
    : > "$log"
    trap end EXIT
    trap 'exit 1' HUP INT PIPE TERM
    scratch=$(mktemp -d)
}

# Whether apt's lists have a package; a new machine has no lists.

known() {
    prepare "$1" || return
    apt-cache show "$1" > /dev/null 2>&1 || begin "$1"
}

# Once, and only if there is something to install.

begin() {
    [ -z "$begun" ] || return 0
    prepare "$@" || return

    if [ "$(id -u)" -ne 0 ] && ! sudo -n true 2> /dev/null; then
        say "Only root can do this: apt-get install $*"
        return 1
    fi

    begun=yes
    keep_down nginx-common prometheus
    say 'Reading the lists of packages'
    apt update
}

end() {
    if grep -qs 'nginx-bog' $policy; then
        as_root rm -f $policy
    fi

    rm -rf "$scratch"
}

# Installed by Debian, they take their ports at once. We need the binaries only:
# https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt
# What was there before is not ours to keep down.

keep_down() {
    names=
    for package; do
        installed "$package" || names="$names | *${package%-common}*"
    done

    [ -z "$names" ] || forbid "${names# | }"
}

forbid() {
    if [ -e $policy ] && ! grep -qs 'nginx-bog' $policy; then
        return
    fi

    cat > "$scratch/policy" << END
#!/bin/sh
# of nginx-bog's util/deps.sh, for the time of an installation
case "\$*" in $1) exit 101 ;; esac
END
    as_root install -m 755 "$scratch/policy" $policy
}

require() {
    wanted=$(missing "$@")
    [ -n "$wanted" ] || return 0

    install "$wanted" || die "missing:$wanted"
}

# Tools that tests can do without.

optional() {
    for tool; do
        there "$tool" || bring "$tool" || [ "${CI:-}" != true ] \
            || die "missing: $tool"
    done
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
# do with it is told on the command line and kept in a folder of our own. Of the
# packages that it depends on, t/directives.t needs only some.

for_test_nginx() {
    perl_modules libhttp-message-perl liblist-moreutils-perl \
                 libtest-base-perl libtest-longstring-perl || return
    prepare libtest-nginx-perl || return

    if apt-cache show libtest-nginx-perl > /dev/null 2>&1; then
        unpack apt-get libtest-nginx-perl
        return
    fi

    # the system's own mirror of Debian; that of security updates has no forky
    # before it is released
    mirrors "deb [$keyring] \$(REPO_URI) forky main" 'Label: Debian'

    alive logged apart update || return
    unpack apart libtest-nginx-perl
}

# unpack apt-get|apart PACKAGE...
#
# Into build/debian: no maintainer's script is run, no service is started, and
# the system does not know of it.

unpack() {
    how=$1
    shift

    say "Fetching $*, to build/debian"
    rm -rf "$scratch/unpack"
    mkdir -p "$scratch/unpack" "$debian"

    (
        cd "$scratch/unpack"
        logged "$how" download "$@" || exit

        for deb in *.deb; do
            dpkg-deb -x "$deb" "$debian" || exit
        done
    ) || {
        tail -n 5 "$log"
        return 1
    }
}

# Modules that are not installed, with what apt would install for them.

perl_modules() {
    wanted=
    for module in $(missing "$@"); do
        [ -d "$debian/usr/share/doc/$module" ] || wanted="$wanted $module"
    done

    [ -n "$wanted" ] || return 0
    known "$1" || return

    # those that are there already have their version in brackets
    # shellcheck disable=SC2086
    wanted=$(apt-get -s --no-install-recommends install $wanted \
             | sed -n 's/^Inst \([^ ]*\) (.*/\1/p')

    # shellcheck disable=SC2086
    unpack apt-get $wanted
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

# apt-get with nothing of the system's but its configuration. As root all
# through, for _apt, apt's user for downloads, cannot enter the folder.

apart() {
    apt-get -q -y \
        -o Dir::Etc::SourceList="$scratch/sources.list" \
        -o Dir::Etc::SourceParts="$scratch/parts" \
        -o Dir::State::Lists="$scratch/lists" \
        -o Dir::Cache="$scratch/cache" \
        -o APT::Default-Release= \
        -o APT::Sandbox::User=root \
        -o Acquire::Languages=none \
        "$@"
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
    alive logged apart update || return
    (
        cd "$scratch"
        logged apart source --only-source --download-only --tar-only "$1=$2"
    ) || return

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

for_npm() {
    if ! has node || ! has npm; then
        install nodejs npm || return
    fi

    prepare npm || return
    say "Installing what t/npm names, by npm $(npm --version)"

    mkdir -p "$npm"
    cp "$root/t/npm/package.json" "$lock" "$npm"

    if ! alive logged npm --prefix "$npm" ci --ignore-scripts --no-audit \
                          --no-fund
    then
        say 'npm failed; it said'
        grep -i 'npm err' "$log" | tail -n 8
        return 1
    fi

    cp "$lock" "$npm/installed"
}

# A compiler, and what nginx and this module are compiled with.

for_compiler() {
    require gcc libc6-dev make libjansson-dev libssl-dev zlib1g-dev
    installed libpcre3-dev || require libpcre2-dev
}

# For Debian's nginx as it is installed, or for one whose source is there.

for_build() {
    for_compiler
    [ -n "${NGINX_SRC:-}" ] || require nginx nginx-dev
}

# The same without what Debian's packages of nginx depend on, and without a
# service.

for_nginx() {
    for_compiler

    if [ -n "${NGINX_SRC:-}" ] || [ -d "$debian/usr/share/nginx/src" ] \
        || [ -z "$(missing nginx nginx-dev)" ]
    then
        return
    fi

    if ! known nginx-dev || ! unpack apt-get nginx nginx-dev; then
        die 'missing: nginx nginx-dev'
    fi
}

for_deb() {
    for_build
    require build-essential debhelper
}

for_chroot() {
    require debootstrap util-linux iproute2
}

for_demo() {
    for_nginx
    require curl ca-certificates perl
}

for_light() {
    for_nginx
    require libcmocka-dev openssl perl procps
    perl_modules libio-socket-ssl-perl || die 'missing: libio-socket-ssl-perl'
    optional libtest-nginx-perl
}

# What the suites need that are run with each nginx there is.

for_core() {
    for_build
    require ca-certificates curl jq libcmocka-dev libio-socket-ssl-perl \
            openssl perl
    optional nghttp2-client
}

for_test() {
    for_core
    # shellcheck disable=SC2046
    optional spin $(awk '/^[a-z]/ && $1 != "root" { print $1 }' "$tools")
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

# Of Debian's nginx; the first two are what this module is compared with, too.
# Their packages switch them on in the machine's nginx, which is not meant here.

for_modules() {
    begin "$modules" || return
    forbid '*nginx* | *prometheus*'

    enabled=$(say /etc/nginx/modules-enabled/*.conf)
    install "$modules" || return

    for link in /etc/nginx/modules-enabled/*.conf; do
        case " $enabled " in
            *" $link "*) ;;
            *) as_root rm "$link" ;;
        esac
    done
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

    source_of jansson "$(source_version libjansson-dev)" jansson \
        || [ "${CI:-}" != true ] || die 'no source of jansson'
}

# Neither now nor at the next start of the machine is it to run.

for_prometheus() {
    install prometheus && logged as_root update-rc.d prometheus disable
}

for_chromium() {
    begin chromium-headless-shell || return

    if apt-cache show chromium-headless-shell > /dev/null 2>&1; then
        install chromium-headless-shell
        return
    fi

    install chromium
}

there() {
    case $1 in
        chromium)
            has chromium-headless-shell || has chromium
            ;;
        libfaketime)
            installed libfaketime
            ;;
        libtest-nginx-perl)
            installed "$1" || [ -d "$debian/usr/share/perl5/Test/Nginx" ]
            ;;
        modules)
            # those of others are for Debian's nginx
            # shellcheck disable=SC2086
            [ -n "${NGINX_SRC:-}" ] || [ -z "$(missing $modules)" ]
            ;;
        nghttp2-client)
            has h2load && has nghttp
            ;;
        npm)
            # a tarball has no such test
            [ ! -f "$lock" ] || cmp -s "$lock" "$npm/installed"
            ;;
        prometheus)
            has prometheus && has promtool
            ;;
        root)
            [ "$(id -u)" -eq 0 ]
            ;;
        *)
            has "$1"
            ;;
    esac
}

bring() {
    case $1 in
        chromium | modules | prometheus)
            "for_$1"
            ;;
        libtest-nginx-perl)
            for_test_nginx
            ;;
        npm)
            for_npm
            ;;
        *)
            install "$1"
            ;;
    esac
}

[ $# -gt 0 ] || die 'usage: deps.sh NAME..., or deps.sh -n TOOL...'

if [ "$1" = -n ]; then
    shift

    for name; do
        there "$name" || say "$name"
    done

    exit
fi

for name; do
    case $name in
        light | demo | test | core | build | lint | fuzz | coverage | bench \
            | fleet | diagrams | source | deb | chroot)
            "for_$name"
            ;;
        *)
            if grep -q "^$name " "$tools"; then
                there "$name" || bring "$name" || die "missing: $name"
            else
                require "$name"
            fi
            ;;
    esac
done
