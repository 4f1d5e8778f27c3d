#!/bin/sh
# Plants each known fault and shows which test kills it; see tools/mutants.py.
cd "$(dirname "$0")/.." || exit 1
tools/setup.sh test || exit 1
exec python3 tools/mutants.py "$@"
