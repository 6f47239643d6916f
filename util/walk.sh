#!/bin/sh
#
# walk.sh [SUITE...]
#
# Walks docs/guide.md in a clean Debian of each suite (bookworm and trixie), with
# stand-ins for the bank: the first order, from its first command to its last,
# and then the three commands to install the package, as they are written, where
# nginx is absent, is stopped, and runs. Prints what came of it; what was typed
# and said is in build/walk.SUITE.log. Only root can do it. Takes some four
# minutes a suite.

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
            docs/guide.md > /root/commands
        grep -q "^apt-get install" /root/commands
        grep -q "^make" /root/commands
        . /root/commands
        apt-get -q -y --no-install-recommends install \
            libio-socket-ssl-perl openssl perl systemctl'
}

walked() {
    in_chroot -n -k "$suite-walk" "$suite" perl t/walk.pl first-order
}

packed() {
    in_chroot -k "$suite-walk" "$suite" sh -euxc '
        grep -qx "    make deb" docs/guide.md
        make deb
        rm -rf /mnt/*
        cp build/*.deb /mnt'
}

# The machine on which the package is installed: without nginx, where the page's
# own command installs it, or with an nginx that has been there before. apt asks
# before it installs more than it was told to. The test's own tools come after
# the command, lest the page be helped by them; where nginx has been before, so
# have the libraries, as apt has no network later.

# shellcheck disable=SC2016
machine() {
    in_chroot -k "$suite-walk-$1" "$suite" sh -euxc '
        apt-get -q update
        mkdir -p build
        cp /mnt/*.deb build

        if [ "$1" = absent ]; then
            sed -n "s/^    \(apt install .*\)/\1/p" README.md > /root/commands
            [ "$(wc -l < /root/commands)" -eq 1 ]
            yes | sh -eux /root/commands
        else
            apt-get -q -y --no-install-recommends install \
                ca-certificates curl libjansson4 nginx
        fi

        apt-get -q -y --no-install-recommends install \
            libio-socket-ssl-perl openssl perl systemctl' sh "$1"
}

injected() {
    in_chroot -n -k "$suite-walk-$1" "$suite" perl t/walk.pl install "$1"
}

check() {
    rm -rf "$root/build/chroot/$suite-walk"*

    step 'first order: what is installed and built' prepared \
        && step 'first order: paid, and removed' walked \
        && step 'install: the package is built' packed || return

    for nginx in absent stopped running; do
        step "install, nginx $nginx: the machine" machine $nginx \
            && step "install, nginx $nginx: a token injected, after three \
commands" injected $nginx || return
    done
}

check_suites walk "$@"
