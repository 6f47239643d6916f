#!/bin/sh
#
# chroot.sh [-k NAME] [-n] SUITE COMMAND [ARGUMENT...]
#
# Runs a command as root in a Debian of that suite, bookworm for one, with
# nothing in it but what every Debian has, and a copy of this folder in
# /root/bog, where the command begins. /mnt is build/chroot/share.
#
#   -k NAME   the Debian is kept in build/chroot/NAME, as the command left it,
#             and the next command with that name finds it so
#   -n        no network but a loopback interface of its own
#
# Its processes and mounts are in namespaces of their own: with the command all
# of them end. Only root can do it. The first time takes half a minute.

set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
chroots=$root/build/chroot
name=
alone=

die() {
    printf '%s\n' "chroot.sh: $*" >&2
    exit 1
}

usage() {
    die 'usage: chroot.sh [-k NAME] [-n] SUITE COMMAND [ARGUMENT...]'
}

# The system's own mirror of Debian, or of its security updates.

mirror() {
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' \
            'Component: main' 'Origin: Debian' "Label: $1" \
        | head -n 1
}

# What the system needs to get at it, so does the chroot.

settings() {
    apt-config dump | grep -E '^Acquire::(https?::|Check-|Retries)' || :
}

sources() {
    printf 'deb %s %s main\ndeb-src %s %s main\n' "$1" "$suite" "$1" "$suite"

    security=$(mirror Debian-Security)

    case $suite in
        # those that have none yet, and one whose archive is half gone
        sid | forky | bullseye)
            ;;
        *)
            [ -z "$security" ] || printf 'deb %s %s-security main
deb-src %s %s-security main\n' "$security" "$suite" "$security" "$suite"
            ;;
    esac
}

bootstrap() {
    sh "$root/util/deps.sh" chroot

    uri=$(mirror Debian)
    [ -n "$uri" ] || die 'apt knows no mirror of Debian'

    rm -rf "$1.new"
    mkdir -p "$chroots"

    debootstrap --variant=minbase "$suite" "$1.new" "$uri" > "$1.log" 2>&1 || {
        tail -n 20 "$1.log" >&2
        die "no $suite: $1.log"
    }

    sources "$uri" > "$1.new/etc/apt/sources.list"
    settings > "$1.new/etc/apt/apt.conf.d/99system"
    mv "$1.new" "$1"
}

# All but what was built here, and what was fetched to build with.

copy() {
    mkdir -p "$tree/root/bog"
    find "$tree/root/bog" -mindepth 1 -maxdepth 1 ! -name build \
         -exec rm -rf {} +
    tar -C "$root" -cf - --exclude=./build --exclude=./.git . \
        | tar -C "$tree/root/bog" --no-same-owner -xf -

    # the names of the system's own network are those of the chroot's
    cp /etc/hosts /etc/resolv.conf "$tree/etc"
    mkdir -p "$tree/mnt" "$chroots/share"
}

# called by the trap
# shellcheck disable=SC2317
end() {
    [ -n "$name" ] || rm -rf "$tree"
}

while getopts k:n option; do
    case $option in
        k) name=$OPTARG ;;
        n) alone=yes ;;
        *) usage ;;
    esac
done

shift $((OPTIND - 1))
[ $# -ge 2 ] || usage
[ "$(id -u)" -eq 0 ] || die 'only root can do this'

suite=$1
shift

base=$chroots/$suite
[ -d "$base" ] || bootstrap "$base"

tree=$chroots/${name:-$suite.$$}
[ "$tree" != "$base" ] || die "$suite is the name of what all begin with"

trap end EXIT
trap 'exit 1' HUP INT PIPE TERM

[ -d "$tree" ] || cp -a "$base" "$tree"
copy

# variables of these lines are those of their own shell
# shellcheck disable=SC2016
inside='
    tree=$1 share=$2
    shift 2

    mount --bind "$share" "$tree/mnt"
    mount --rbind /dev "$tree/dev"
    mount -t proc proc "$tree/proc"
    [ -z "$alone" ] || ip link set lo up

    exec chroot "$tree" env -i HOME=/root TERM=dumb CI="$CI" \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        DEBIAN_FRONTEND=noninteractive \
        sh -c "cd /root/bog && exec \"\$@\"" sh "$@"'

export CI="${CI:-}" alone

status=0
unshare --mount --pid ${alone:+--net} --fork --kill-child \
    --propagation private sh -euc "$inside" sh \
    "$tree" "$chroots/share" "$@" || status=$?

exit $status
