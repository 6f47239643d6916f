#!/bin/sh
#
# bench.sh [-w] [PART...]
#
# Builds, measures what the module costs against a token written in the
# configuration and against other ways, and prints tables. With -w it writes
# them, and plots, to docs/performance. The parts, all if none is named:
#
#   instructions   of a request, as callgrind counts them
#   throughput     requests a second, against the literal
#   latency        at equal load
#   faults         of other requests, while the token endpoint fails
#   start          a cold start: how soon held requests go on, their memory
#   refresh        the worst request in the second of a refresh
#   status         payments, while bog_status is asked for
#   scale          1 to 10,000 sources
#
# The environment is that of test.sh. All parts take some 14 minutes. Times of a
# busy machine are wrong; instructions, and ratios of one run, are right.

set -eu

cd "$(dirname "$0")/.."

sh util/deps.sh bench
export BOG_DEPS=core

exec sh util/test.sh -r t/bench.pl "$@"
