#!/usr/bin/env bash
# Builds everything with the oldest version that Cargo.toml declares for each dependency, and runs tests that need no server.
# `--resolve` only finds and fetches these versions; the build then needs no network. The package is a copy of links in
# target/minimal-versions, so that the committed Cargo.lock does not change.
set -euo pipefail
cd "$(dirname "$0")/.."
copy=target/minimal-versions
manifest=$copy/Cargo.toml

if [ "${1-}" = --resolve ]; then
    mkdir -p "$copy"
    for path in src tests benches examples openapi README.md; do
        ln -sfn "../../$path" "$copy/$path"
    done
    # "1.51" becomes "=1.51.0" for each dependency. Cargo then changes what it must of the committed lock, and nothing else.
    sed -E '/^\[(dev-)?dependencies\]/,/^\[\[/ {
        s/^([a-z_-]+ = (\{ version = )?)"([0-9]+)"/\1"\3.0"/
        s/^([a-z_-]+ = (\{ version = )?)"([0-9]+\.[0-9]+)"/\1"\3.0"/
        s/^([a-z_-]+ = (\{ version = )?)"([0-9]+\.[0-9]+\.[0-9]+)"/\1"=\3"/
    }' Cargo.toml >"$manifest"
    cp Cargo.lock "$copy/Cargo.lock"
    cargo fetch --quiet --manifest-path "$manifest"
    exit
fi

minimal() { cargo test --locked --quiet --manifest-path "$manifest" --target-dir "$copy/target" --features full "$@"; }
minimal --no-run --lib --tests --examples --benches
minimal --lib --test manager --test offload --test bus --test consumers --test tool --test http --test api --test openapi
