#!/bin/sh
# Makes dist/greeter: puts the version and the greeting into the source.
set -eu
version=$(cat VERSION)
mkdir -p dist
sed -e "s/@VERSION@/$version/" -e "s/@GREETING@/${GREETING:-Hello}/" greeter.sh.in >dist/greeter
chmod +x dist/greeter
cd dist
sha256sum greeter >greeter.sha256
echo "built greeter $version"
