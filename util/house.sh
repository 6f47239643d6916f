#!/bin/sh
#
# house.sh [DIR]
#
# Figures of the code in DIR (src): lines, files, functions and their lengths,
# and the includes that cross from one floor to another. One figure alone says
# little: compare two runs. Needs Universal Ctags. lint.sh checks the order of
# the floors.

set -eu

cd "$(dirname "$0")/../${1:-src}"

command -v ctags > /dev/null || {
    printf '%s\n' 'house.sh: no ctags, apt-get install universal-ctags' >&2
    exit 1
}

row() {
    printf '%-44s %6d\n' "$@"
}

# shellcheck disable=SC2046
set -- $(find . -name '*.[ch]' | sort)

row 'lines of C, with headers' "$(cat "$@" | wc -l)"
row 'files' $#

# Each line that includes a file, less the headers of nginx and of libraries.
row 'includes' "$(cat "$@" | grep -c '^#include "')"

# "NAME LINES" of each function. A name is used where it stands in a line that
# is indented: declarations, definitions and comments of functions are not.

ctags --languages=C --kinds-C=f --fields=ne -f - "$@" \
    | awk -F '\t' '
        NR == FNR {
            sub("line:", "", $4); sub("end:", "", $5)
            lines[$1] = $5 - $4 + 1
            next
        }

        /^[a-z#]|^ ?\*|^\/\*/ { next }

        {
            while (match($0, /(ngx_http_)?bog_[a-z0-9_]+/)) {
                uses[substr($0, RSTART, RLENGTH)]++
                $0 = substr($0, RSTART + RLENGTH)
            }
        }

        END {
            for (name in lines) {
                print lines[name], uses[name] + 0
            }
        }' - "$@" \
    | sort -n | awk '
        {
            length_of[NR] = $1
            small += $1 <= 8
            fragments += $1 <= 7 && $2 == 1
        }

        END {
            row = "%-44s %6d\n"
            printf row, "functions", NR
            printf row, "  the median of their lines", \
                   length_of[int((NR + 1) / 2)]
            printf row, "  the longest", $1
            printf row, "  of eight lines or fewer", small
            printf row, "  of seven or fewer, and used once", fragments
        }'
