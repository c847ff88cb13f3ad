#!/bin/sh
# Makes sure that the tools which build the codecs are there (cmake, nasm, a C and a C++ compiler), and Python with pip and venv.
# Installs what is missing by the package manager where that is allowed; otherwise says once what to install.
set -eu

missing=
command -v cmake >/dev/null || missing="$missing cmake"
command -v nasm >/dev/null || missing="$missing nasm"
command -v cc >/dev/null || missing="$missing gcc"
command -v c++ >/dev/null || missing="$missing g++"
command -v python3 >/dev/null || missing="$missing python3"
if command -v python3 >/dev/null && ! python3 -m pip --version >/dev/null 2>&1; then
    missing="$missing python3-pip"
fi
# Debian's python3 makes no virtual environment without it; `make bench` needs one.
if command -v python3 >/dev/null && ! python3 -c 'import ensurepip' >/dev/null 2>&1; then
    missing="$missing python3-venv"
fi
command -v cargo >/dev/null || {
    echo "Rust is missing: install the toolchain named in Cargo.toml (rust-version) with rustup." >&2
    exit 1
}
[ -n "$missing" ] || exit 0

root=
if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then root="sudo -n"; else root=none; fi
fi
if [ "$root" = none ] || ! command -v apt-get >/dev/null; then
    echo "Please install:$missing   (Debian and Ubuntu: sudo apt-get install$missing)" >&2
    exit 1
fi
echo "Installing:$missing"
$root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
# shellcheck disable=SC2086 # a list of words
$root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
