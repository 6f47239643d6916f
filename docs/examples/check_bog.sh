#!/bin/sh
#
# A check for Nagios, Icinga and the like: prints the state of all sources, and
# exits with 0 (OK), 1 (WARNING), 2 (CRITICAL) or 3 (unknown).

text=$(curl -sf -m 10 'http://127.0.0.1:9145/status?format=text') || exit 3

printf '%s\n' "$text"

case $text in
    OK*)        exit 0 ;;
    WARNING*)   exit 1 ;;
    CRITICAL*)  exit 2 ;;
esac

exit 3
