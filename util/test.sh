#!/bin/sh
#
# test.sh [SUITE...]
#
# Installs what is missing, builds, and runs the unit tests and the suites in t
# (or those named: "wire", "t/wire.t").
#
# test.sh -r PROGRAM [ARGUMENT...]
#
# The same for one Perl program in the place of suites. The environment:
#
#   NGINX_SRC=DIR           the nginx whose source is in DIR, not Debian's
#   NGINX_FLAGS="..."       what that one is configured with, see Makefile
#   BOG_STATIC=1            the module is part of that one
#   BOG_MODULES="..."       paths of other modules, loaded before this one
#   BOG_DEPS=core           what is installed: all that the core suites need
#   BOG_JOBS=4              so many suites at a time
#   BOG_EVENTS="use poll;"  what nginx's events block says
#   BOG_ASAN=1              a module with AddressSanitizer and UBSan
#   BOG_COVERAGE=1          a module that counts what is run, see coverage.sh
#   BOG_VALGRIND=1          nginx under valgrind's memcheck
#   BOG_RANDOM=1            in random order; BOG_SEED repeats one
#   CI=true                 no test is skipped for lack of a tool

set -eu

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
root=$(cd "$(dirname "$0")/.." && pwd)
build=build
reports=

say() {
    printf '%s\n' "$*"
}

die() {
    say "test.sh: $*" >&2
    exit 1
}

quietly() {
    if ! "$@" > build/make.log 2>&1; then
        tail -n 40 build/make.log >&2
        die "$* failed"
    fi
}

# cmocka has a total for each group.

passed() {
    awk '/PASSED/ { n += $4 } END { print n + 0 }'
}

# The suites named, in the order named; else all.

suites() {
    if [ $# -eq 0 ]; then
        ls t/*.t
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

cd "$root"

sh util/deps.sh "${BOG_DEPS:-test}" ${BOG_VALGRIND:+valgrind}

# what make wants takes their place
if [ "${1:-}" = -r ]; then
    shift
    program=$*
    suites=
else
    program=
    suites=$(suites "$@")
fi

if [ -n "${BOG_RANDOM:-}" ]; then
    BOG_SEED=${BOG_SEED:-$(date +%s)}
    say "In random order; to repeat it: BOG_SEED=$BOG_SEED"

    suites=$(say "$suites" | shuffled "$BOG_SEED")
    export TEST_NGINX_RANDOMIZE=1
else
    export TEST_NGINX_NO_SHUFFLE=1
fi

mkdir -p build
TEST_NGINX_BINARY=${TEST_NGINX_BINARY:-$(command -v nginx || :)}

quietly make unit
say "Unit tests passed: $(passed < build/make.log)"

if [ -n "${BOG_EVENTS:-}" ] && [ -z "${NGINX_SRC:-}" ] && ! knows_events; then
    sh util/deps.sh source
    NGINX_SRC=$root/build/source
fi

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
    prove -j "${BOG_JOBS:-1}" -I t/lib $suites || status=$?
fi

for report in ${reports:+"$reports".*}; do
    if grep -qsE 'Sanitizer|runtime error|SUMMARY: [1-9]' "$report"; then
        cat "$report"
        status=1
    fi
done

exit $status
