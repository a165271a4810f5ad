#!/usr/bin/env bash
# Runs every check of this repository: format, lints, documents, tests, counts, minimal versions, and the tests on another
# day. Works on Debian with Rust, from any directory. Installs the programs that are missing. CONTRIBUTING.md says what to
# run while working on the code.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never} RUST_BACKTRACE=${RUST_BACKTRACE:-1}

step() { printf '\n== %s (%d min %02d s so far)\n' "$*" $((SECONDS / 60)) $((SECONDS % 60)); }

missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v chromedriver >/dev/null || missing+=(chromium-driver)
command -v redis-server >/dev/null || missing+=(redis-server)
command -v openssl >/dev/null || missing+=(openssl)
command -v valgrind >/dev/null || missing+=(valgrind)
command -v faketime >/dev/null || missing+=(faketime)
command -v python3 >/dev/null || missing+=(python3 python3-venv)
if [ ${#missing[@]} -gt 0 ]; then
    step "install ${missing[*]}"
    sudo=$([ "$(id -u)" = 0 ] || echo sudo)
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq "${missing[@]}" >/dev/null
    # The tests start servers of their own, so that the service of the package is not needed.
    if [[ " ${missing[*]} " == *' redis-server '* ]]; then
        $sudo systemctl disable --now redis-server >/dev/null 2>&1 || $sudo service redis-server stop >/dev/null 2>&1 || true
    fi
fi

step 'format'
rustup component add rustfmt clippy >/dev/null 2>&1 || true
cargo fmt --check

step 'fetch'
cargo fetch --locked
tests/minimal-versions.sh --resolve
INTEROP_PYTHON=$(tests/interop/venv.sh)
export INTEROP_PYTHON
# A build that needs the network after this line is a bug.
export CARGO_NET_OFFLINE=true

step 'each set of features builds alone, without warnings'
for features in '' http tool api swagger-ui redis redis-tls metrics 'http tool'; do
    cargo clippy --locked --quiet --no-default-features --features "$features" -- -D warnings
done

step 'lints'
cargo clippy --locked --quiet --all-targets --no-default-features -- -D warnings
cargo clippy --locked --quiet --all-targets --features full -- -D warnings

step 'documents'
RUSTDOCFLAGS='-D warnings' cargo doc --locked --quiet --no-deps --features full

if cargo deny --version >/dev/null 2>&1; then
    step 'licences and sources of dependencies'
    cargo deny --offline --all-features check bans licenses sources
fi

# nextest prints one summary for all test binaries.
if cargo nextest --version >/dev/null 2>&1; then
    run() { cargo nextest run --locked --no-fail-fast --status-level fail --final-status-level fail "$@"; }
else
    run() { cargo test --locked --quiet --no-fail-fast "$@"; }
fi

step 'counts of instructions, allocations, bytes and round trips'
cargo bench --locked --quiet --features full --bench figures -- --counts

step 'minimal versions'
tests/minimal-versions.sh

step 'tests without features'
run --no-default-features --lib --tests --examples

step 'documentation examples'
cargo test --locked --quiet --doc --no-default-features
cargo test --locked --quiet --doc --features full

step 'Swagger UI in a browser'
cargo test --locked --quiet --features full --test browser

step 'tests that start servers, 400 days from now, in another time zone'
(
    # Cargo itself keeps the real clock: it compares the times of files. The tests and all that they start get the other one.
    # Only the wall clock moves, because timers use the monotonic one. Valkey is the server here, because Debian's Redis does
    # not run under libfaketime; this build of it has no TLS.
    # `faketime` starts each test, because it removes the shared memory that libfaketime makes, also for processes that are
    # killed.
    host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
    day="env FAKETIME_DONT_FAKE_MONOTONIC=1 TZ=Pacific/Chatham RUST_LOG=trace faketime -f +400d"
    export "CARGO_TARGET_${host}_RUNNER=$day"
    export PATH=$PWD/target/interop-venv/server:$PATH
    run --features full --test redis --test outage --test many --test processes --test interop --test examples -- --skip tls::
)

step 'tests with all features'
run --features full --lib --tests --examples
