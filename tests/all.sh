#!/usr/bin/env bash
# Everything that must hold: format, lints, docs, and every test with every set of features that matters.
# Installs what it needs and is missing; see the README.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never} RUST_BACKTRACE=${RUST_BACKTRACE:-1}

step() { printf '\n== %s\n' "$*"; }

missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v chromedriver >/dev/null || missing+=(chromium-driver)
command -v redis-server >/dev/null || missing+=(redis-server)
command -v openssl >/dev/null || missing+=(openssl)
command -v valgrind >/dev/null || missing+=(valgrind)
if [ ${#missing[@]} -gt 0 ]; then
    step "install ${missing[*]}"
    sudo=$([ "$(id -u)" = 0 ] || echo sudo)
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq "${missing[@]}" >/dev/null
    # The tests start servers of their own: one that the package starts and keeps would be in nobody's interest.
    if [[ " ${missing[*]} " == *' redis-server '* ]]; then
        $sudo systemctl disable --now redis-server >/dev/null 2>&1 || $sudo service redis-server stop >/dev/null 2>&1 || true
    fi
fi

step 'format'
rustup component add rustfmt clippy >/dev/null 2>&1 || true
cargo fmt --check

step 'fetch'
cargo fetch --locked
INTEROP_PYTHON=$(tests/interop/venv.sh)
export INTEROP_PYTHON
# From here on everything is there: a build that wants the network is a bug.
export CARGO_NET_OFFLINE=true

step 'each set of features builds alone, without warnings'
for features in '' http tool api swagger-ui redis redis-tls metrics 'http tool'; do
    cargo clippy --locked --quiet --no-default-features --features "$features" -- -D warnings
done

step 'lints'
cargo clippy --locked --quiet --all-targets --no-default-features -- -D warnings
cargo clippy --locked --quiet --all-targets --features full -- -D warnings

step 'docs'
RUSTDOCFLAGS='-D warnings' cargo doc --locked --quiet --no-deps --features full

if cargo deny --version >/dev/null 2>&1; then
    step 'licences and sources of dependencies'
    cargo deny --offline --all-features check bans licenses sources
fi

step 'documentation examples'
cargo test --locked --quiet --doc --no-default-features
cargo test --locked --quiet --doc --features full

# The runner with one summary, where it is there.
if cargo nextest --version >/dev/null 2>&1; then
    run() { cargo nextest run --locked --no-fail-fast --status-level fail --final-status-level fail "$@"; }
else
    run() { cargo test --locked --quiet --no-fail-fast --lib --tests --examples "$@"; }
fi

step 'Swagger UI in a browser'
cargo test --locked --quiet --features full --test browser

step 'figures'
# Counts only: they are the same on a busy machine.
cargo bench --locked --quiet --features full --bench figures -- --counts

step 'tests without features'
run --no-default-features

step 'tests with all features'
run --features full
