#!/bin/sh
# Tells whether the cache was there, and fills it if not.
set -eu
if [ -f .cache/filled-by ]; then
	echo "cache: hit, filled by job $(cat .cache/filled-by)"
else
	echo "cache: miss"
	mkdir -p .cache
	echo "$CI_JOB_ID" >.cache/filled-by
fi
