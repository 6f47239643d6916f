#!/bin/sh
#
# package.sh [SUITE...]
#
# Builds Debian's package in a Debian of each suite (bookworm and trixie), has
# lintian look at it, and installs it in a clean one: nginx -t, a token
# injected, an upgrade under load, removal, purge. Prints a log of all that;
# what dpkg and the others said is in build/package.SUITE.log. Only root can do
# it. Takes some three minutes a suite.

set -eu

# shellcheck source-path=SCRIPTDIR source=suites.sh
. "$(dirname "$0")/suites.sh"

share=$root/build/chroot/share

# An earlier version is the same one by another number.

build() {
    in_chroot -k "$suite-build" "$suite" sh -euc '
        apt-get -q update
        apt-get -q -y --no-install-recommends install lintian

        # lintian knows that root@localhost is reached from nowhere
        DEBEMAIL=packages@example.org make -s deb
        rm -rf /mnt/* build/earlier
        cp build/*.deb /mnt

        dpkg-deb -R build/libnginx-mod-http-bog_*.deb build/earlier
        sed -i "s/^Version: .*/Version: 0~earlier/" build/earlier/DEBIAN/control
        dpkg-deb --root-owner-group -b build/earlier /mnt/earlier.deb'
}

# As a user, for lintian does not like root.

lint() {
    in_chroot -k "$suite-build" "$suite" sh -euc '
        chmod 755 /root
        setpriv --reuid nobody --regid nogroup --clear-groups \
            lintian --fail-on error,warning build/*.changes'
}

# Without an init, Debian's packages do not touch services.

installed() {
    in_chroot -k "$suite-clean" "$suite" sh -euc '
        apt-get -q update
        apt-get -q -y --no-install-recommends install \
            autopkgtest dpkg-dev perl sysvinit-core
        apt-get -q -y --no-install-recommends install /mnt/earlier.deb
        nginx -t'
}

injected() {
    in_chroot -n -k "$suite-clean" "$suite" autopkgtest -B . -- null
}

lived() {
    in_chroot -n -k "$suite-clean" "$suite" sh -euc '
        perl t/package.pl /mnt/libnginx-mod-http-bog_*.deb'
}

check() {
    rm -rf "$root/build/chroot/$suite-clean"

    step 'built' build \
        && { step 'nothing that lintian warns of' lint || :; } \
        && step 'installed in a clean system, nginx -t' installed \
        && step 'autopkgtest: a token injected' injected \
        && step 'upgraded under load, removed, purged' lived \
        || return

    cp "$share"/libnginx-mod-http-bog_*.deb "$root/build"
    sed -n 's/^.*# \([0-9]* requests, .*\)/'"$suite"': \1/p' "$log"
}

check_suites package "$@"
