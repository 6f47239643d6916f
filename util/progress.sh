# shellcheck shell=sh
#
# Read by the scripts that take long.
#
#   alive COMMAND...    runs it, and prints a line every 9 seconds meanwhile

alive() {
    (
        seconds=0

        while sleep 9 > /dev/null 2>&1 && kill -0 $$ 2> /dev/null; do
            seconds=$((seconds + 9))
            printf '  ... %d s\n' $seconds
        done
    ) &
    ticker=$!

    alive_status=0
    "$@" || alive_status=$?

    kill $ticker 2> /dev/null || :
    wait $ticker 2> /dev/null || :

    return $alive_status
}
