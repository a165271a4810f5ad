#!/usr/bin/env bash
# Makes the Python environment of the interop tests, if it is missing or what it should have has changed.
# Says on stdout where its Python is.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=$PWD/target/interop-venv
wanted=tests/interop/requirements.txt

if ! cmp --silent "$wanted" "$venv/requirements.txt"; then
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo 'The interop tests need Python 3.11 or later as python3.' >&2
        exit 1
    }
    rm -rf "$venv"
    # Debian has what makes one with pip in a package of its own.
    if ! python3 -m venv "$venv" >/dev/null 2>&1; then
        sudo=$([ "$(id -u)" = 0 ] || echo sudo)
        $sudo apt-get update -qq >&2
        DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq python3-venv >&2
        python3 -m venv --clear "$venv"
    fi
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted" >&2
    # Last, so that one that was left half done is made again.
    cp "$wanted" "$venv/requirements.txt"
fi
echo "$venv/bin/python"
