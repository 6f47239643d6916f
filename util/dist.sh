#!/bin/sh
#
# dist.sh
#
# Packs what is committed into build/nginx-bog-VERSION.tar.gz, the same bytes
# for the same commit wherever and whenever that is done.

set -eu

cd "$(dirname "$0")/.."

die() {
    printf '%s\n' "dist.sh: $*" >&2
    exit 1
}

[ -e .git ] || die 'not a clone: this is what was packed'
[ -z "$(git status --porcelain)" ] || die 'there are changes, commit them first'

name=nginx-bog-$(sh util/version.sh)
mkdir -p build

# the settings of a user, and the time of gzip, have no say
git -c tar.umask=0022 -c core.autocrlf=false \
    archive --format=tar --prefix="$name/" HEAD > "build/$name.tar"
gzip -9nf "build/$name.tar"

printf '%s\n' "build/$name.tar.gz"
