#!/usr/bin/env bash
# pack.sh PROJECT PILLAR: the trees that a master serves, as an archive on standard output, links followed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
ln -s "$2" "$dir/pillar"
ln -s "$1/salt" "$dir/salt"
tar -C "$dir" --dereference --exclude=__pycache__ --owner=0 --group=0 -cz salt pillar
