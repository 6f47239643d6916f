#!/bin/sh
#
# walk.sh [SUITE...]
#
# Walks docs/getting-started.md, from its first command to its last, and then
# the three commands of the README and docs/install.md, as they are written, in
# a clean Debian of each suite (bookworm and trixie), with stand-ins for the
# bank. Prints what came of it; what was typed and said is in
# build/walk.SUITE.log. Only root can do it. Takes some four minutes a suite.

set -eu

# shellcheck source-path=SCRIPTDIR source=suites.sh
. "$(dirname "$0")/suites.sh"

# The page's own commands that take a network, in the order that they have there.
# What the stand-ins need comes after, lest the page be helped by it; and, where
# there is no init, a systemctl.

# shellcheck disable=SC2016
prepared() {
    in_chroot -k "$suite-walk" "$suite" sh -euxc '
        sed -n "/^\`\`\`sh/,/^\`\`\`/ { /^\(apt-get\|make\) /p }" \
            docs/getting-started.md > /root/commands
        grep -q "^apt-get install" /root/commands
        grep -q "^make" /root/commands
        . /root/commands
        apt-get -q -y --no-install-recommends install \
            libio-socket-ssl-perl openssl perl systemctl'
}

walked() {
    in_chroot -n -k "$suite-walk" "$suite" perl t/walk.pl getting-started
}

packed() {
    in_chroot -k "$suite-walk" "$suite" sh -euxc '
        grep -qx "    make deb" docs/install.md
        make deb
        rm -rf /mnt/*
        cp build/*.deb /mnt'
}

# apt asks before it installs more than it was told to.

# shellcheck disable=SC2016
installed() {
    in_chroot -k "$suite-walk-clean" "$suite" sh -euxc '
        apt-get -q update
        mkdir -p build
        cp /mnt/*.deb build
        sed -n "s/^    \(apt install .*\)/\1/p" README.md > /root/commands
        [ "$(wc -l < /root/commands)" -eq 1 ]
        yes | sh -eux /root/commands
        apt-get -q -y --no-install-recommends install \
            curl libio-socket-ssl-perl openssl perl sysvinit-core'
}

injected() {
    in_chroot -n -k "$suite-walk-clean" "$suite" perl t/walk.pl install
}

check() {
    rm -rf "$root/build/chroot/$suite-walk" \
           "$root/build/chroot/$suite-walk-clean"

    step 'getting-started: what is installed and built' prepared \
        && step 'getting-started: to the paid order, and away' walked \
        && step 'install: the package is built' packed \
        && step 'install: apt install' installed \
        && step 'install: a token injected, after three commands' injected
}

check_suites walk "$@"
