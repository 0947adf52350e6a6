# Sourced by the other scripts: finds the toolchain and the tools, installs what is missing.
# Guarantees afterwards: `cargo` runs with the compiler that rust-toolchain.toml names.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
NEXTEST_VERSION=0.9.143
DENY_VERSION=0.20.2

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "error: $1"
    [ $# -lt 2 ] || say "hint: $2"
    exit 2
}

# A C compiler for the cryptographic library, git for `xtask tidy`.
need_packages() {
    local missing=()
    command -v cc >/dev/null || missing+=(gcc libc6-dev)
    command -v git >/dev/null || missing+=(git)
    [ "${#missing[@]}" -gt 0 ] || return 0
    say "installing ${missing[*]}"
    if [ "$(id -u)" -eq 0 ]; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
    else
        fail "these packages are missing: ${missing[*]}" "sudo apt-get install ${missing[*]}"
    fi
}

# Where the named toolchain can't be had but another installed one is the same compiler, that one
# is used; where it can be had, rustup installs it.
need_toolchain() {
    command -v cargo >/dev/null || fail "cargo is missing" "install Rust with rustup"
    local wanted name
    wanted=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$ROOT/rust-toolchain.toml")
    if (cd "$ROOT" && rustc --version 2>/dev/null | grep -qF "rustc $wanted "); then
        return 0
    fi
    command -v rustup >/dev/null || fail "expected rustc $wanted, found $(rustc --version)" "install Rust $wanted with rustup"
    for name in $(rustup toolchain list | sed 's/ .*//'); do
        if RUSTUP_TOOLCHAIN=$name rustc --version 2>/dev/null | grep -qF "rustc $wanted "; then
            export RUSTUP_TOOLCHAIN=$name
            say "using toolchain $name, which is $wanted"
            return 0
        fi
    done
    rustup toolchain install "$wanted" --profile minimal --component rustfmt --component clippy
}

# need_tool NAME VERSION: a cargo subcommand, built once.
need_tool() {
    cargo "$1" --version >/dev/null 2>&1 && return 0
    say "installing cargo-$1 $2"
    (cd "$HOME" && cargo install --quiet --locked "cargo-$1" --version "$2")
}
