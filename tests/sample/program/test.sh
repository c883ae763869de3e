#!/bin/sh
# Tests the greeter named by the first argument; fails if any test does.
program=${1:?usage: test.sh PROGRAM}
number=0
failures=0

# check NAME WANT [ARGUMENT]: the program prints WANT when given ARGUMENT.
check() {
	name=$1
	want=$2
	shift 2
	number=$((number + 1))
	got=$("$program" "$@" 2>&1)
	if [ "$got" = "$want" ]; then
		echo "ok $number - $name"
	else
		echo "not ok $number - $name: want '$want', got '$got'"
		failures=$((failures + 1))
	fi
}

check "greets the world" "${GREETING:-Hello}, world!"
check "greets by name" "${GREETING:-Hello}, Ada!" Ada
check "tells its version" "greeter $(cat VERSION)" --version
echo "$((number - failures)) of $number tests passed"
[ "$failures" -eq 0 ]
