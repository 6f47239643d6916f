#!/bin/bash
#
# configure.sh SOURCE_DIR BUILD_DIR
#
# Makes BUILD_DIR/Makefile, nginx's own, whose "modules" builds this module.
# SOURCE_DIR is a source tree of nginx; empty means Debian's nginx-dev. Neither
# is written to. BUILD_DIR/source says where make has to be run. From the
# environment: CC, NGINX_FLAGS (for a source tree), CC_OPT, LD_OPT, and ADD, which
# is --add-module for a module that is part of nginx; BOG_DEBIAN, a folder in
# which Debian's packages were unpacked.
#
# Bash, because nginx-dev keeps the flags of Debian's nginx in a bash array.

set -eu

die() {
    printf '%s\n' "configure.sh: $1" >&2
    exit 1
}

[ $# -eq 2 ] || die 'usage: configure.sh SOURCE_DIR BUILD_DIR'

root=$(cd "$(dirname "$0")/.." && pwd)
source=$1
cc=${CC:-cc}

case $root in
    *[[:space:]\#]*)
        die "nginx cannot be built in a folder with a space or # in its name: $root"
        ;;
esac

command -v "${cc%% *}" > /dev/null \
    || die 'no C compiler; on Debian: apt-get install gcc libc6-dev'

# $CC may be two words, like "ccache gcc"
# shellcheck disable=SC2086
printf '#include <jansson.h>\n#include <openssl/ssl.h>\n' \
    | $cc -fsyntax-only -xc - 2> /dev/null || die "\
jansson or OpenSSL is missing; on Debian: apt-get install libjansson-dev libssl-dev"

mkdir -p "$2"
build=$(cd "$2" && pwd)

if [ -z "$source" ]; then
    tree=${BOG_DEBIAN:-}/usr/share/nginx/src

    [ -f "$tree/conf_flags" ] \
        || die 'no nginx to build for; on Debian: apt-get install nginx-dev'

    # shellcheck source=/dev/null
    . "$tree/conf_flags"

    flags=("${NGX_CONF_FLAGS[@]}")
    configure=./configure

else
    source=$(cd "$source" && pwd) || die "no such folder: $1"

    # upstream's configure writes a Makefile where it is run, so that it is
    # run in a folder of ours that only links to the tree

    tree=$build/tree
    rm -rf "$tree"
    mkdir "$tree"
    ln -s "$source"/* "$tree"
    rm -f "$tree/Makefile" "$tree/objs"

    # a release has configure at its top, a clone in auto

    configure=./configure
    [ -f "$tree/configure" ] || configure=auto/configure
    [ -f "$tree/$configure" ] || die "not a source tree of nginx: $source"

    # shellcheck disable=SC2206
    flags=(${NGINX_FLAGS:-})
fi

rm -f "$build/Makefile"
cd "$tree"

if ! $configure "${flags[@]}" --with-cc="$cc" --builddir="$build" \
    "${ADD:---add-dynamic-module}=$root" > "$build/configure.log" 2>&1
then
    tail -n 20 "$build/configure.log" >&2
    die "nginx's configure failed: $build/configure.log"
fi

# Flags of ours go in after the fact. In configure's hands, -Werror and
# sanitizers make its probes fail, and with other probes the structures have
# other members than those of the nginx that loads the module.

cat >> "$build/Makefile" << END

CFLAGS += ${CC_OPT:-}
LINK += ${LD_OPT:-}
END

printf '%s\n' "$tree" > "$build/source"
