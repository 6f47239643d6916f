#!/bin/sh
#
# model.sh [MODEL...]
#
# Has spin go through all states of the models in t/model (or of those named:
# "store", "lease"), and prints what each search came to. A model has to hold
# in all its variants, searched to the end, with no line that none of them
# reaches; and each of its faults, which are put in one by one, has to be found:
# so it is known that the search can fail.

set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
build=$root/build/model
depth=5000
memory=4096

say() {
    printf '%s\n' "$*"
}

die() {
    say "model.sh: $*" >&2
    exit 1
}

# model, "holds" or "fault", macros

cases() {
    cat << 'END'
store  holds  TURNS=3
store  holds  TURNS=3 AREAS=4
store  holds  TURNS=2 STOPS=1 CYCLES
store  holds  TURNS=3 REUSE
store  fault  TURNS=3 REUSE NO_TAG
store  fault  TURNS=3 BLIND_COMMIT
store  fault  TURNS=3 VALID_FIRST
store  fault  TURNS=4 READ_ONCE
store  fault  TURNS=3 CHANGE_UNSEEN
store  fault  TURNS=4 NO_COUNT
store  fault  TURNS=3 STEAL
store  fault  TURNS=3 NO_RETURN
store  fault  AREAS=2 TURNS=2 STOPS=1 LOCK CYCLES
lease  holds  REQUESTS=2 KILLS=1
lease  holds  REQUESTS=2 STOPS=1
lease  holds  REQUESTS=2 STOPS=1 CYCLES
lease  holds  REQUESTS=3 NO_WATCH
lease  holds  REQUESTS=2 KILLS=1 STOPS=1 POLL
lease  holds  REQUESTS=1 KILLS=1 RELOAD
lease  holds  REQUESTS=1 REFRESHES=1 STOPS=1
lease  holds  REQUESTS=1 REJECTS=1 RELOAD
lease  holds  REQUESTS=1 REJECTS=1 ENDS=1 STOPS=1
lease  holds  REQUESTS=1 REJECTS=1 ENDS=1 HICCUPS=1
lease  holds  REQUESTS=2 REJECTS=2 POLL
lease  holds  REQUESTS=2 REJECTS=1 HICCUPS=1 NO_WATCH
lease  holds  REQUESTS=2 REJECTS=1 HICCUPS=1 POLL CYCLES
lease  holds  REQUESTS=2 REJECTS=1 HICCUPS=1 KILLS=1 POLL
lease  fault  REQUESTS=2 NO_WATCH WAKE_ONE
lease  fault  REQUESTS=2 NO_WATCH WAKE_FIRST
lease  fault  REQUESTS=2 NO_WATCH RELOAD WAKE_NEW
lease  fault  REQUESTS=2 REFRESHES=1 ENDS=1 NO_WATCH SAY_LATE
lease  fault  REQUESTS=2 LOOK_ONCE
lease  fault  REQUESTS=2 STOPS=1 RELEASE_ANY
lease  fault  REQUESTS=2 STOPS=1 PUBLISH_LATE
lease  fault  REQUESTS=2 STOPS=1 PUBLISH_MINE
lease  fault  REQUESTS=2 REJECTS=1 ENDS=1 REJECT_ANY
lease  fault  REQUESTS=1 REJECTS=1 REJECT_WAITS
lease  fault  REQUESTS=1 REJECTS=1 REJECT_DROPS
lease  fault  REQUESTS=1 REJECTS=1 FAIL_KEEPS
lease  fault  REQUESTS=1 REJECTS=1 HICCUPS=1 RELEASE_KEEPS
lease  fault  REQUESTS=2 HICCUPS=1 FAIL_ALL
lease  fault  REQUESTS=2 ACQUIRE_BLIND
lease  fault  REQUESTS=2 KILLS=1 NO_KILL_0
END
}

# check MODEL HOW MACRO...: in a folder of its own, as several run at once.

check() {
    model=$1
    how=$2
    shift 2

    dir="$build/$model $*"
    search=
    options=-DSAFETY
    flags=

    for macro; do
        flags="$flags -D$macro"
    done

    # all states that come again, as none of them is progress
    case " $* " in
        *" CYCLES "*)
            search=-l
            options='-DNP -DNOFAIR'
            ;;
    esac

    rm -rf "$dir"
    mkdir -p "$dir"
    cd "$dir"

    # shellcheck disable=SC2086
    if spin -a $flags "$root/t/model/$model.pml" > pan.log 2>&1 \
        && ${CC:-cc} -O2 -w $options -DMEMLIM=$memory -o pan pan.c > pan.log 2>&1
    then
        ./pan -m$depth $search > pan.log 2>&1 || :
        [ "$how" != holds ] || reached
    fi

    judge "$model" "$how" "$*" > result
    cat result
    rm -f pan pan.[bchmpt]
}

# All lines of this variant, and those that its search has reached, in all
# places where an inline is used.

reached() {
    ./pan -d | sed -n 's/.* \([^ ]*\.pml:[0-9]*\) .*/\1/p' \
        | sed 's/.*\///' | sort -u > lines

    sed -n 's/^\t\(.*\.pml:[0-9]*\), state .*/\1/p' pan.log \
        | sed 's/.*\///' | sort -u | comm -23 lines - > reached
}

judge() {
    awk -v model="$1" -v how="$2" -v macros="$3" '
        /errors: / {
            depth = $6 + 0
            errors = $NF
        }
        / states, stored/ { states = $1 }
        /elapsed time/ { seconds = $(NF - 1) }
        /^pan:1: / { what = $0 }

        # memory or depth that did not suffice
        /Search not completed|max search depth too small|out of memory/ {
            cut = 1
        }

        END {
            verdict = "wrong"

            if (how == "holds" && errors == "0" && !cut) {
                verdict = "ok"
            }

            # of the model itself, not of the search
            if (how == "fault" && errors > 0 \
                && what ~ /assertion violated|invalid end|non-progress/)
            {
                verdict = "ok"
            }

            sub(/^pan:1: /, "", what)
            sub(/ \(at depth.*/, "", what)

            printf "%-5s %-5s %-6s %-44s %9d %6d %7.1f %6s%s\n", verdict,
                   model, how, macros, states, depth, seconds,
                   errors == "" ? "?" : errors,
                   how == "holds" && cut ? " not completed" : ""

            if (verdict == "wrong" && what != "") {
                print "wrong     " what
            }
        }' pan.log
}

# Lines that are in some variant and that none has reached.

unreached() {
    find "$build" -name lines -exec cat {} + | sort -u > "$build/lines"
    find "$build" -name reached -exec cat {} + | sort -u \
        | comm -23 "$build/lines" -
}

# Each of JOBS takes every JOBSth case.

run() {
    n=0

    while read -r model how macros; do
        n=$((n + 1))
        [ $((n % jobs)) -eq "$1" ] || continue

        # shellcheck disable=SC2086
        (check "$model" "$how" $macros)
    done < "$build/cases"
}

command -v spin > /dev/null \
    || die 'spin is missing: sh util/deps.sh spin'
command -v "${CC:-cc}" > /dev/null || die "${CC:-cc} is missing"

[ $# -gt 0 ] || set -- store lease

rm -rf "$build"
mkdir -p "$build"

for model; do
    [ -f "$root/t/model/$model.pml" ] || die "no such model: $model"
    cases | grep "^$model " || die "no cases of $model"
done > "$build/cases"

jobs=$(nproc)
total=$(wc -l < "$build/cases")

printf '%-5s %-5s %-6s %-44s %9s %6s %7s %6s\n' \
       '' model must macros states depth seconds errors

job=0
while [ "$job" -lt "$jobs" ]; do
    run "$job" &
    job=$((job + 1))
done
wait

status=0
ok=$(find "$build" -name result -exec grep -h '^ok ' {} + | wc -l)
left=$(unreached)

if [ -n "$left" ]; then
    say 'Not reached in any variant:' "$left"
    status=1
fi

[ "$ok" -eq "$total" ] || status=1

say "$ok passed, $((total - ok)) failed"
exit $status
