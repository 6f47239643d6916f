#!/bin/sh
#
# fuzz.sh [SECONDS]
# fuzz.sh merge
#
# Looks for bodies of answers, claims, ids and secrets that the parts without
# nginx cannot take: libFuzzer, with AddressSanitizer and UBSan. First all of
# t/fuzz/corpus is run, then each target of t/fuzz for its share of the SECONDS
# (60). What is found stays in build/fuzz, and is where the next run goes on.
#
# The corpus is one for all targets: what is new to the parser in one of them is
# so in the others. "merge" takes into it what reaches something new, as small
# as it gets, and drops what does not. Files that were given a name stay.
#
# Where deps.sh has fetched its source, jansson is built with the same
# instruments: the fuzzer then sees what its parser does, and knows its way.

set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
out=build/fuzz
corpus=t/fuzz/corpus
jansson=build/jansson/src

say() {
    printf '%s\n' "$*"
}

die() {
    say "fuzz.sh: $*" >&2
    exit 1
}

targets() {
    for target in t/fuzz/*.c; do
        target=$(basename "$target" .c)
        [ "$target" = fuzz ] || say "$target"
    done
}

compile() {
    # shellcheck disable=SC2086
    clang -std=gnu11 -D_GNU_SOURCE -g -O1 -fno-omit-frame-pointer $sanitizers \
        "$@"
}

# Not configured: the system's jansson_config.h serves, and nothing else matters
# to the parser but these.

build_jansson() {
    mkdir -p $out/jansson
    printf '#define %s 1\n' HAVE_STDINT_H HAVE_UNISTD_H \
        > $out/jansson/jansson_private_config.h

    for file in "$jansson"/*.c; do
        compile -fsanitize=fuzzer-no-link -DHAVE_CONFIG_H -I $jansson -I $out/jansson \
            -c -o "$out/jansson/$(basename "$file" .c).o" "$file"
    done

    # of an archive only what is used is taken
    rm -f $out/libjansson.a
    ar rcs $out/libjansson.a $out/jansson/*.o
}

build() {
    sanitizers='-fsanitize=address,undefined,float-cast-overflow
                -fno-sanitize-recover=all'
    parser=-ljansson
    includes=

    mkdir -p $out

    if [ -f $jansson/load.c ]; then
        build_jansson
        parser=$out/libjansson.a
        includes="-I $jansson"
    fi

    for target in $(targets); do
        # shellcheck disable=SC2086
        compile -fsanitize=fuzzer -Wall -Wextra -Werror -Isrc/oauth $includes \
            -o "$out/$target" "t/fuzz/$target.c" t/fuzz/fuzz.c src/oauth/*.c \
            -Wl,--wrap=bog_pool_alloc,--wrap=munmap $parser -lcrypto
    done
}

# libfuzzer TARGET [ARGUMENT...]

libfuzzer() {
    target=$1
    shift

    "$out/$target" -timeout=30 -artifact_prefix="$out/$target-" "$@" \
        > "$out/$target.log" 2>&1
}

failed() {
    tail -n 60 "$out/$1.log"

    # a case of the corpus, or what the fuzzer has written down
    input=$(sed -n -e 's/^Running: //p' \
                   -e 's/.*Test unit written to //p' "$out/$1.log" | tail -n 1)

    say
    say "FAILED: $1. To repeat it, with all that it says:"
    say "    $out/$1 ${input:-}"
    status=1
}

replay() {
    libfuzzer "$1" $corpus/*
}

# The length is that of a large answer. What needs more, the longest token, is
# in the corpus, and has been run.

hunt() {
    mkdir -p "$out/found/$1"

    libfuzzer "$1" -max_total_time="$2" -max_len=4096 -print_final_stats=1 \
        -dict=t/fuzz/answer.dict "$out/found/$1" $corpus
}

figures() {
    awk -v target="$1" -v inputs="$(find $corpus -type f | wc -l)" '
        /Loaded 1 modules/ { edges = $5; sub(/\(/, "", edges) }
        { for (i = 1; i < NF; i++) if ($i == "cov:") cov = $(i + 1) }
        /number_of_executed_units/ { runs = $2 }
        END {
            printf "%-8s %4d inputs replayed, %9d executions, ", \
                   target, inputs, runs
            printf "%d of %d edges\n", cov, edges
        }' "$out/$1.log"
}

run() {
    targets=$(targets)
    share=$(($1 / $(say "$targets" | wc -l)))

    # 0 would be for ever
    [ $share -gt 0 ] || share=1

    for target in $targets; do
        if replay "$target" && hunt "$target" $share; then
            figures "$target"
        else
            failed "$target"
        fi
    done
}

# All that is known is looked at anew, as a change of the code may have made
# some of it pointless. How often a line is run does not count here: a corpus
# that has all of that is five times as large.

merge() {
    rm -rf $out/merged
    mkdir -p $out/merged

    find $corpus -type f ! -name "$hash" -exec cp {} $out/merged \;

    for target in $(targets); do
        mkdir -p "$out/found/$target"

        libfuzzer "$target" -set_cover_merge=1 -use_counters=0 \
            $out/merged $corpus "$out/found/$target" \
            || die "merge: see $out/$target.log"
    done

    rm -rf $corpus
    mv $out/merged $corpus

    say "$(find $corpus -type f | wc -l) inputs"
}

# 40 hex digits, the name that libFuzzer gives
hash=$(printf '[0-9a-f]%.0s' $(seq 40))

cd "$root"

status=0
command=${1:-60}

case $command in
    merge)
        ;;
    *[!0-9]* | '')
        die 'usage: fuzz.sh [SECONDS] | fuzz.sh merge'
        ;;
esac

sh util/deps.sh fuzz
build

if [ "$command" = merge ]; then
    merge
else
    run "$command"
fi

exit $status
