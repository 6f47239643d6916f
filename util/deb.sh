#!/bin/sh
#
# deb.sh
#
# Installs what is missing and builds Debian's package, unsigned, for the nginx
# of this release of Debian: build/libnginx-mod-http-bog_VERSION_ARCH.deb. A
# package of one release does not install in another, its nginx being another.
# Its maintainer is who builds it: DEBFULLNAME and DEBEMAIL, else root here.

set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
deb=$root/build/deb
log=$root/build/deb.log

cd "$root"

version=$(sh util/version.sh)
sh util/deps.sh deb

# a build writes to its folder, and to the one above
rm -rf "$deb"
mkdir -p "$deb/nginx-bog-$version"
tar -cf - --exclude=./build --exclude=./.git . \
    | tar -C "$deb/nginx-bog-$version" -xf -

if [ -n "${DEBEMAIL:-}" ]; then
    sed -i "s/nginx-bog <root@localhost>/${DEBFULLNAME:-nginx-bog} <$DEBEMAIL>/" \
        "$deb/nginx-bog-$version/debian/control" \
        "$deb/nginx-bog-$version/debian/changelog"
fi

if ! (cd "$deb/nginx-bog-$version" && dpkg-buildpackage -b -uc -us -tc) \
    > "$log" 2>&1
then
    tail -n 40 "$log" >&2
    printf '%s\n' "deb.sh: the build failed, see $log" >&2
    exit 1
fi

for file in "$deb"/*.deb "$deb"/*.changes "$deb"/*.buildinfo; do
    mv "$file" build
    printf '%s\n' "build/$(basename "$file")"
done
