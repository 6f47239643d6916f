#!/bin/sh
#
# version.sh
#
# Prints the version. It stands in src/core/ngx_http_bog_core.h alone; where else
# it has to be written, it is compared with that one.

set -eu

cd "$(dirname "$0")/.."

die() {
    printf '%s\n' "version.sh: $*" >&2
    exit 1
}

# compare WHERE VERSION

compare() {
    [ "$2" = "$version" ] || die "$1 is of $2, the module of $version"
}

version=$(sed -n 's/^#define NGX_HTTP_BOG_VERSION  *"\(.*\)"$/\1/p' \
              src/core/ngx_http_bog_core.h)
[ -n "$version" ] || die 'none in src/core/ngx_http_bog_core.h'

compare CHANGES \
    "$(sed -n '/^Changes with nginx-bog/ { s/.*bog \([^ ]*\) .*/\1/p; q; }' \
           CHANGES)"
compare debian/changelog \
    "$(sed -n '1s/.*(\(.*\)-[^-]*).*/\1/p' debian/changelog)"

printf '%s\n' "$version"
