#!/bin/sh
#
# lint.sh [FILE...]
#
# What can be said of the code without running it: the order of the floors;
# cppcheck, gcc's analyzer and clang-tidy on all of src (or the files named); and
# for the scripts, shellcheck. All of them are run, whatever those before have
# found; any finding is a failure. .clang-tidy says what clang-tidy does not look
# for, and why.

set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
build=build/lint
jobs=$(nproc)
failed=

say() {
    printf '%s\n' "$*"
}

# check NAME FUNCTION [FILE...]: a figure for each that has found nothing

check() {
    name=$1
    shift

    begun=$(date +%s)

    if "$@" > "$root/$build/$name.log" 2>&1; then
        say "$name: nothing found, in $(($(date +%s) - begun)) s"
    else
        cat "$root/$build/$name.log"
        say "$name: FAILED"
        failed="$failed $name"
    fi
}

# nginx's own Makefile is asked where its headers are. Their paths begin at the
# top of its source, which is where the tools are run.

includes() {
    # make's own variable, not the shell's
    # shellcheck disable=SC2016
    printf 'includes: ; @echo $(ALL_INCS)\n' \
        | make -s -C "$source" -f "$root/$build/nginx/Makefile" -f - includes
}

# Options that all of them take. Where nginx is built for debugging, removal of
# an element from a queue also sets its pointers to NULL. Analyzers then see a
# queue that has a NULL in it, wherever an element is removed twice in a
# function: they do not know that it has been inserted in between.

options() {
    say "-DNGX_DEBUG=0 $(includes)"
}

# Where a variable is declared, and that not all that could be is const, is
# nginx's way. One mmap() may have the descriptor -1, which cppcheck does not
# know.

run_cppcheck() {
    # shellcheck disable=SC2086
    cppcheck -q -j "$jobs" --language=c --std=c11 --platform=unix64 \
        --library=posix --max-configs=1 --error-exitcode=1 \
        --enable=warning,style,performance,portability \
        --suppress='*:src/*' \
        --suppress=variableScope \
        --suppress=constVariable \
        --suppress=constParameter \
        --suppress='invalidFunctionArg:*/bog_memory.c' \
        -D__linux__ -D__GNUC__=12 -D__x86_64__ $options "$@"
}

each() {
    command=$1
    shift

    # shellcheck disable=SC2016
    printf '%s\0' "$@" | xargs -0 -P "$jobs" -n 1 sh -c "$command" sh
}

# The analyzer has to see the code as it stands: optimized, it lacks what the
# compiler has removed, a write to memory that is freed for one.

run_analyzer() {
    each "gcc -fanalyzer -O0 -g -Wall -Wextra -Wno-unused-parameter -Werror \
              $options -c -o /dev/null \"\$1\"" "$@"
}

run_clang_tidy() {
    each "clang-tidy --quiet --config-file='$root/.clang-tidy' \"\$1\" \
              -- -std=gnu11 $options" "$@"
}

# The order of the floors is in config, from the top to the ground: a file may
# include files of its own floor and of those below. NAME.c and NAME.h are one
# node, and there are no circles among nodes.

run_floors() {
    floors=$(sed -n 's/^ngx_bog_floors="\(.*\)"$/\1/p' "$root/config")

    (cd "$root/src" && ls -- *.c */*.[ch] \
        && grep -o '^#include "[^"]*' -- *.c */*.[ch]) \
        | sed 's/:#include "/ /' | awk -v floors="$floors" '
            BEGIN        { n = split(floors, list, " ")
                           for (i = 1; i <= n; i++) rank[list[i]] = i }
                         { split($1, dir, "/"); node = $1; target = $2
                           gsub(/.*\/|\.[ch]$/, "", node)
                           sub(/\.h$/, "", target) }
            NF == 1      { at[node] = rank[dir[1]] + 0; next }
            !(target in at) || node == target { next }
            at[target] < at[node] {
                           print $1 " includes " $2 " of a floor above"
                           bad = 1 }
                         { print node, target > "'$build/arrows'" }
            END          { exit bad }' \
        && tsort $build/arrows > /dev/null
}

run_shellcheck() {
    shellcheck "$root"/util/*.sh "$root"/docs/examples/*.sh "$root/.ci/run"
}

absolute() {
    for file; do
        (cd "$(dirname "$file")" && say "$PWD/$(basename "$file")")
    done
}

# shellcheck disable=SC2046
[ $# -gt 0 ] && set -- $(absolute "$@")

cd "$root"
[ $# -gt 0 ] || set -- "$root"/src/*.c "$root"/src/*/*.c

sh util/deps.sh lint

mkdir -p $build
make -s BUILD=$build $build/nginx/Makefile > $build/make.log 2>&1 || {
    cat $build/make.log
    exit 1
}

check floors run_floors

source=$(cat $build/nginx/source)
options=$(options)
cd "$source"

check cppcheck run_cppcheck "$@"
check analyzer run_analyzer "$@"
check clang-tidy run_clang_tidy "$@"
check shellcheck run_shellcheck

[ -z "$failed" ] || exit 1
