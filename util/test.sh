#!/bin/sh
#
# test.sh
#
# Installs what a build needs where it is missing, builds, and runs the unit
# tests and the suites in t that need nothing else. At its end a table says what
# was skipped, and which command brings what it lacks.
#
# test.sh --all
#
# Installs all that the tests can use, and runs all of them. CI runs these.
#
# test.sh SUITE...
#
# The same for the suites named: "wire", or "t/wire.t".
#
# test.sh -r PROGRAM [ARGUMENT...]
#
# The same for one Perl program in the place of suites. The environment:
#
#   NGINX_SRC=DIR           the nginx whose source is in DIR, not Debian's
#   NGINX_FLAGS="..."       what that one is configured with, see Makefile
#   BOG_STATIC=1            the module is part of that one
#   BOG_MODULES="..."       paths of other modules, loaded before this one
#   BOG_DEPS=core           what is installed, a set of util/deps.sh
#   BOG_JOBS=4              so many suites at a time; by default 4, and 1 of
#                           those named
#   BOG_EVENTS="use poll;"  what nginx's events block says
#   BOG_ASAN=1              a module with AddressSanitizer and UBSan
#   BOG_COVERAGE=1          a module that counts what is run, see coverage.sh
#   BOG_VALGRIND=1          nginx under valgrind's memcheck
#   BOG_RANDOM=1            in random order; BOG_SEED repeats one
#   CI=true                 no test is skipped for lack of a tool

set -eu

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source-path=SCRIPTDIR source=progress.sh
. "$root/util/progress.sh"
build=build
reports=

say() {
    printf '%s\n' "$*"
}

die() {
    say "test.sh: $*" >&2
    exit 1
}

# called by alive
# shellcheck disable=SC2317
to_file() {
    file=$1
    shift
    "$@" > "$file" 2>&1
}

quietly() {
    if ! alive to_file build/make.log "$@"; then
        tail -n 40 build/make.log >&2
        die "$* failed"
    fi
}

# cmocka has a total for each group.

passed() {
    awk '/PASSED/ { n += $4 } END { print n + 0 }'
}

# The suites named, in the order named; else all, those first that take longest.

suites() {
    if [ $# -eq 0 ]; then
        say t/refresh.t t/backoff.t t/state.t t/*.t | tr ' ' '\n' \
            | awk '!seen[$0]++'
        return
    fi

    for suite; do
        suite=t/$(basename "$suite" .t).t
        [ -f "$suite" ] || die "no such suite: $suite"
        say "$suite"
    done
}

shuffled() {
    awk -v seed="$1" 'BEGIN { srand(seed) } { print rand() "\t" $0 }' \
        | sort | cut -f 2
}

# "TOOL SUITE" for each suite that lacks a tool, in build/lacking. In the light
# run those suites are left out; a "(SUITE)" skips some of its tests.

lacking() {
    # a line for each tool and suite
    awk '/^[a-z]/ { for (i = 2; i <= NF; i++) print $1, $i }' t/tools \
        > build/needs
    # shellcheck disable=SC2046
    sh util/deps.sh -n $(cut -d ' ' -f 1 build/needs | sort -u) \
        > build/missing

    say "$suites" | sed 's,^t/\(.*\)\.t$,\1,' > build/chosen
    awk 'FILENAME == ARGV[1] { missing[$1]; next }
         FILENAME == ARGV[2] { chosen[$1]; chosen["(" $1 ")"]; next }
         $1 in missing && $2 in chosen' \
        build/missing build/chosen build/needs > build/lacking

    [ -n "$light" ] || return 0

    suites=$(say "$suites" | awk '
        FILENAME != "-" { left_out["t/" $2 ".t"]; next }
        !($1 in left_out)' build/lacking -)
}

table() {
    [ -s build/lacking ] || return 0

    say
    printf '%-46s %-19s %s\n' 'Skipped (or in part)' 'for lack of' \
           'which this brings'
    awk '
        { suites[$1] = suites[$1] (suites[$1] ? " " : "") $2 }
        END {
            for (tool in suites)
                printf "%-46s %-19s %s\n", suites[tool], tool, \
                    tool == "root" ? "sudo sh util/test.sh" \
                                   : "sh util/deps.sh " tool
        }' build/lacking | sort
    say
    say 'sh util/test.sh --all installs all of these, and runs all tests.'
}

# Two, for Test::Nginx wants a pair; below those that the kernel gives to
# clients.

free_ports() {
    perl -MSocket -e '
        for (1 .. 100) {
            my $port = 20000 + int rand 10000;

            my $free = grep {
                socket(my $fh, PF_INET, SOCK_STREAM, 0) or die $!;
                bind($fh, sockaddr_in($_, INADDR_LOOPBACK));
            } $port, $port + 1;

            next if $free < 2;

            print $port;
            exit;
        }
        die "no free ports\n"'
}

# Debian's nginx has no other event method than epoll.

knows_events() {
    say "events { $BOG_EVENTS } pid $root/build/events.pid;" > build/events.conf
    "$TEST_NGINX_BINARY" -t -q -c "$root/build/events.conf" 2> /dev/null
}

# nginx is not instrumented; what its module needs has to be there before
# everything else. Test::Nginx knows a binary only, not what is around
# it, and for the other suites nginx is started by t/lib.

with_asan() {
    reports=$root/$build/report

    # no leaks: nginx leaves much of its memory to its exit
    cat > "$build/nginx.sh" << END
#!/bin/sh
LD_PRELOAD='$(gcc -print-file-name=libasan.so):$(gcc -print-file-name=libubsan.so)'\${LD_PRELOAD:+:\$LD_PRELOAD}
ASAN_OPTIONS=\${ASAN_OPTIONS:-detect_leaks=0:log_path=$reports}
UBSAN_OPTIONS=\${UBSAN_OPTIONS:-print_stacktrace=1:log_path=$reports}
export LD_PRELOAD ASAN_OPTIONS UBSAN_OPTIONS
exec '$TEST_NGINX_BINARY' "\$@"
END
    chmod +x "$build/nginx.sh"
    TEST_NGINX_BINARY=$root/$build/nginx.sh
}

with_valgrind() {
    reports=$root/build/valgrind

    memcheck="valgrind --leak-check=no --trace-children=yes \
--suppressions=$root/t/valgrind.supp"
    BOG_WRAPPER="$memcheck --log-file=%%DIR%%/valgrind.%p"
    BOG_TIMEOUT_FACTOR=${BOG_TIMEOUT_FACTOR:-10}
    TEST_NGINX_USE_VALGRIND="${memcheck#valgrind } --log-file=$reports.%p"
    TEST_NGINX_TIMEOUT=30
    export BOG_WRAPPER BOG_TIMEOUT_FACTOR TEST_NGINX_USE_VALGRIND \
           TEST_NGINX_TIMEOUT
}

# What util/deps.sh has unpacked, where the packages are not installed.

use_unpacked() {
    debian=$root/build/debian
    for dir in "$debian"/usr/share/perl5 "$debian"/usr/lib/*/perl5/5.*; do
        PERL5LIB=$dir${PERL5LIB:+:$PERL5LIB}
    done
    export PERL5LIB

    if [ ! -x /usr/sbin/nginx ] || [ ! -d /usr/share/nginx/src ]; then
        PATH=$debian/usr/sbin:$PATH
        export BOG_DEBIAN="$debian"
    fi
}

cd "$root"
mkdir -p build

program=
suites=
light=

case ${1:-} in
    '')
        deps='light'
        light=yes
        ;;
    --all)
        deps='test'
        shift
        ;;
    -r)
        deps='test'
        shift
        program=$*
        ;;
    *)
        deps='test'
        BOG_JOBS=${BOG_JOBS:-1}
        ;;
esac

sh util/deps.sh "${BOG_DEPS:-$deps}" ${BOG_VALGRIND:+valgrind}
use_unpacked

# what make wants takes the place of the arguments
if [ -z "$program" ]; then
    suites=$(suites "$@")
    lacking
fi

if [ -n "${BOG_RANDOM:-}" ]; then
    BOG_SEED=${BOG_SEED:-$(date +%s)}
    say "In random order; to repeat it: BOG_SEED=$BOG_SEED"

    suites=$(say "$suites" | shuffled "$BOG_SEED")
    export TEST_NGINX_RANDOMIZE=1
else
    export TEST_NGINX_NO_SHUFFLE=1
fi

TEST_NGINX_BINARY=${TEST_NGINX_BINARY:-$(command -v nginx || :)}

say 'Compiling and running the unit tests'
quietly make unit
say "Unit tests passed: $(passed < build/make.log)"

if [ -n "${BOG_EVENTS:-}" ] && [ -z "${NGINX_SRC:-}" ] && ! knows_events; then
    sh util/deps.sh source
    NGINX_SRC=$root/build/source
fi

say 'Compiling the module'
set -- NGINX_SRC="${NGINX_SRC:-}" \
    ${NGINX_FLAGS:+"NGINX_FLAGS=$NGINX_FLAGS"} \
    ${BOG_STATIC:+ADD=--add-module}

if [ -n "${NGINX_SRC:-}" ]; then
    build=build/for-$(basename "$NGINX_SRC")
    quietly make -j "$(nproc)" nginx BUILD="$build" "$@"
    TEST_NGINX_BINARY=$root/$build/nginx/nginx
fi

# of the module only: nginx itself is not UBSan's friend
if [ -n "${BOG_ASAN:-}" ]; then
    build=$build/asan
    flags='-fsanitize=address,undefined -fno-sanitize-recover=undefined'
    set -- "$@" LD_OPT="$flags" CC_OPT="-O1 -fno-omit-frame-pointer $flags"
fi

if [ -n "${BOG_COVERAGE:-}" ]; then
    build=$build/coverage
    set -- "$@" LD_OPT=--coverage CC_OPT='-O0 --coverage'
fi

[ -n "${BOG_STATIC:-}" ] || quietly make -j "$(nproc)" BUILD="$build" "$@"

[ -z "${BOG_ASAN:-}" ] || with_asan
[ -z "${BOG_VALGRIND:-}" ] || with_valgrind
[ -z "$reports" ] || rm -f "$reports".*

# in the harness, none is for a binary that has it
BOG_MODULE=$root/$build/ngx_http_bog_module.so
[ -z "${BOG_STATIC:-}" ] || BOG_MODULE=

TEST_NGINX_LOAD_MODULES="${BOG_MODULES:+$BOG_MODULES }$BOG_MODULE"
TEST_NGINX_SERVROOT=$root/build/servroot
TEST_NGINX_PORT=$(free_ports)
export BOG_MODULE TEST_NGINX_BINARY TEST_NGINX_LOAD_MODULES \
       TEST_NGINX_SERVROOT TEST_NGINX_PORT

# the same for Test::Nginx, which takes the method's name
case ${BOG_EVENTS:-} in
    use\ *)
        TEST_NGINX_EVENT_TYPE=${BOG_EVENTS#use }
        TEST_NGINX_EVENT_TYPE=${TEST_NGINX_EVENT_TYPE%;}
        export TEST_NGINX_EVENT_TYPE
        ;;
esac

# root's nginx gives its workers to a user who may not get at our folders
[ "$(id -u)" -ne 0 ] || export TEST_NGINX_WORKER_USER='root root'

status=0
# shellcheck disable=SC2086
if [ -n "$program" ]; then
    perl -I t/lib $program || status=$?
else
    alive prove -j "${BOG_JOBS:-4}" -I t/lib $suites || status=$?
fi

for report in ${reports:+"$reports".*}; do
    if grep -qsE 'Sanitizer|runtime error|SUMMARY: [1-9]' "$report"; then
        cat "$report"
        status=1
    fi
done

[ -n "$program" ] || table

exit $status
