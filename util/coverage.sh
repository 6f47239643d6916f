#!/bin/sh
#
# coverage.sh [SUITE...]
#
# Runs the unit tests and the suites (all, or those named) with code that counts
# its lines, and prints how many of each file in src were run. What was not is
# in build/coverage/missed. Fails below 90 %. The environment is test.sh's.
#
# A process writes its counts when it exits, and all add to the same files. One
# that is killed writes nothing: what only it ran counts as not run.

set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
out=build/coverage
least=90

say() {
    printf '%s\n' "$*"
}

die() {
    say "coverage.sh: $*" >&2
    exit 1
}

# "FILE LINE COUNT" of all objects, a file being part of several. nginx's own
# headers have paths below src too, and other names.

counts() {
    awk -F '[:,]' -v src="^$root/src/" '
        $1 == "SF" { file = (sub(src, "", $2) && $2 ~ /bog_/) ? $2 : "" }
        $1 == "DA" && file != "" { run[file " " $2] += $3 }
        END { for (line in run) print line, run[line] }' $out/lines \
        | sort -k 1,1 -k 2,2n
}

# The lines with their text, for a person to read.

missed() {
    awk '
        $3 > 0     { next }
        file != $1 { close("src/" file); file = $1; at = 0 }
                   {
                       while (at < $2) {
                           getline text < ("src/" file)
                           at++
                       }
                       printf "%s:%d: %s\n", file, $2, text
                   }'
}

table() {
    awk -v least=$least '
        function row(name, run, all) {
            printf "%-36s %5d of %5d  %5.1f %%\n", name, run, all, \
                   100 * run / all
        }
        { all[$1]++; lines++ }
        $3 > 0 { run[$1]++; total++ }
        !seen[$1]++ { files[++n] = $1 }
        END {
            for (i = 1; i <= n; i++) row(files[i], run[files[i]], all[files[i]])
            row("total", total, lines)
            exit total * 100 < lines * least
        }'
}

cd "$root"

sh util/deps.sh coverage

# counts of other code, or of another run
mkdir -p $out
find $out -name '*.gcda' -delete

make -s unit BUILD=$out \
    UNIT_CFLAGS='-std=gnu11 -g -O0 --coverage -Wall -Wextra -Werror -Isrc/oauth' \
    > $out/unit.log 2>&1 || {
    tail -n 40 $out/unit.log
    die 'the unit tests failed'
}

# those that fail still have run what they have run
status=0
[ $# -gt 0 ] || set -- --all
BOG_COVERAGE=1 sh util/test.sh "$@" || status=$?

lcov -q --capture --directory $out --base-directory "$root" --no-external \
    --output-file $out/lines > $out/lcov.log 2>&1 || {
    cat $out/lcov.log
    die 'lcov failed'
}

counts > $out/counts
[ -s $out/counts ] || die 'nothing was counted'

missed < $out/counts > $out/missed

say
table < $out/counts || {
    say "FAILED: less than $least % of the lines were run"
    status=1
}
say "The $(wc -l < $out/missed) lines that were not: $out/missed"

exit $status
