# shellcheck shell=sh
#
# What package.sh and walk.sh have in common, who read it: a check, in several
# steps, of each suite of Debian.
#
#   check_suites NAME [SUITE...]    calls check, with $suite and $log
#   step WHAT COMMAND...            one of its steps, and what it shows
#   in_chroot ...                   chroot.sh, which says all to the log

root=$(cd "$(dirname "$0")/.." && pwd)
failed=

say() {
    printf '%s\n' "$*"
}

in_chroot() {
    sh util/chroot.sh "$@" >> "$log" 2>&1
}

step() {
    what=$1
    shift

    if "$@"; then
        say "$suite: $what"
        return
    fi

    tail -n 40 "$log"
    say "$suite: FAILED: $what"
    failed=yes
    return 1
}

check_suites() {
    name=$1
    shift

    cd "$root" || return
    mkdir -p build

    [ $# -gt 0 ] || set -- bookworm trixie

    for suite; do
        log=$root/build/$name.$suite.log
        : > "$log"
        check || :
    done

    [ -z "$failed" ]
}
