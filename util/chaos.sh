#!/bin/sh
#
# chaos.sh [SECONDS] [SEED]
#
# Builds, and runs nginx for so many seconds (300) under load while all fails at
# random: answers of the bank, workers (killed, crashed, stopped), reloads,
# upgrades of the binary, clients that leave. Then it judges what became of each
# request, and prints a table.
#
# The same seed fails in the same order; without one, it is a new one, and
# printed. The environment is that of test.sh, such as BOG_ASAN=1.

set -eu

seconds=${1:-300}
seed=${2:-}

for number in "$seconds" "${seed:-0}"; do
    case $number in
        *[!0-9]* | '')
            printf '%s\n' 'usage: chaos.sh [SECONDS] [SEED]' >&2
            exit 1
            ;;
    esac
done

# shellcheck disable=SC2086
exec sh "$(dirname "$0")/test.sh" -r t/chaos.pl "$seconds" $seed
