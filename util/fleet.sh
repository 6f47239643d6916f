#!/bin/sh
#
# fleet.sh [SEED]
#
# A simulation of 10,000 gateways that ask one endpoint for tokens, each when
# the module's own src/oauth/bog_policy.c says so. Prints the tables, and writes them
# and the plots to docs/scale. First it looks whether the simulation itself is
# right, and fails if not. The same SEED (1) gives the same figures.

set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
out=build/fleet
docs=docs/scale
seed=${1:-1}

say() {
    printf '%s\n' "$*"
}

die() {
    say "fleet.sh: $*" >&2
    exit 1
}

# plot NAME TITLE COMMAND...: a line of gnuplot each

plot() {
    name=$1
    title=$2
    shift 2

    {
        say "set terminal svg size 800,360 font 'sans-serif,12' \
                 background '#ffffff'"
        say "set output '$docs/$name.svg'"
        say "set title '$title'"
        say 'set grid; set key top right; set style data lines'
        printf '%s\n' "$@"
    } > "$out/$name.gp"

    gnuplot "$out/$name.gp"
}

plots() {
    # or a second without requests breaks the line; gnuplot's own $
    # shellcheck disable=SC2016
    log='using 1:($2 > 0 ? $2 : 0.1)'

    plot mixing 'After a start at once: peak of 10 s to mean' \
        "set logscale xy; set xlabel 'hours'; set yrange [0.9:30]" \
        "plot '$out/mixing-300-0' title '300 s, no jitter' lc 'gray', \
              '$out/mixing-300-1' title '300 s' lc 'blue', \
              1.5 title '1.5' lc 'black' dt 2"

    plot restart 'All restart within a second, tokens of 300 s' \
        "set xlabel 'seconds'; set ylabel 'requests/s'; set xrange [-20:1200]" \
        "set logscale y; set yrange [1:20000]" \
        "plot '$out/restart-1' $log notitle lc 'blue'"

    plot outage 'Connections fail from 120 s to 720 s, tokens of 300 s' \
        "set xlabel 'seconds'; set ylabel 'requests/s'" \
        "set yrange [0:1500]" \
        "plot '$out/outage-300-0-0-0' title 'no jitter' lc 'gray', \
              '$out/outage-300-0-0-1' title 'as it is' lc 'blue'"

    plot outage-restart 'All restart at 120 s, connections fail until 720 s' \
        "set xlabel 'seconds'; set ylabel 'requests/s'" \
        "set logscale y; set yrange [1:20000]" \
        "plot '$out/outage-300-0-1-0' $log title 'no jitter' lc 'gray', \
              '$out/outage-300-0-1-1' $log title 'as it is' lc 'blue'"
}

page() {
    cat << END
# Figures of the fleet

Written by

    sh util/fleet.sh $seed

which runs \`t/fleet/fleet.c\` with \`src/oauth/bog_policy.c\` as it is in this tree.
10,000 gateways, each with a token of its own, \`bog_refresh_before 60s\`, a
fetch takes 100 ms. [measurements.md](../measurements.md#many-gateways) explains
them.

- *jitter*: \`none\`, all random numbers are zero; \`as it is\`, the code.
- *x mean*: the largest of all whole windows of that length, to the mean.
- *by chance*: what that is in the middle if each request came at any moment,
  whatever the others do. No jitter gets below it for long.
- *recovery*: from the end of the outage until the last gateway that has failed
  has a new token.
END
    cat "$out/tables"
}

case $seed in
    *[!0-9]* | '')
        die 'usage: fleet.sh [SEED]'
        ;;
esac

cd "$root"

sh util/deps.sh fleet

rm -rf $out
mkdir -p $out $docs

${CC:-cc} -std=gnu11 -O2 -Wall -Wextra -Werror -Isrc/oauth -o $out/fleet \
    t/fleet/fleet.c src/oauth/bog_policy.c -lm

$out/fleet "$seed" $out > $out/tables

cat $out/tables
page > $docs/figures.md
plots
