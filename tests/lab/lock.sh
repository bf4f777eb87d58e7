#!/usr/bin/env bash
# Makes requirements.lock from the ranges in pyproject.toml: one set of pins for every Python from 3.11 on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
tool=build/lock
mkdir -p build
[[ -x $tool/bin/uv ]] || { /usr/bin/python3 -m venv "$tool" && "$tool/bin/pip" install --quiet uv; }
{
    echo "# Made by \`make lock\` (uv pip compile --universal) from pyproject.toml: do not edit."
    echo "# The same versions for Python 3.11 (Debian 12) to 3.13 (Debian 13), on Linux."
    "$tool/bin/uv" pip compile pyproject.toml --extra dev --extra cluster --universal --python-version 3.11 \
        --python /usr/bin/python3 --upgrade --no-header --no-annotate --quiet |
        grep -v "sys_platform == 'win32'"
} >build/requirements.lock
mv build/requirements.lock requirements.lock
echo "requirements.lock: $(grep -c == requirements.lock) packages"
