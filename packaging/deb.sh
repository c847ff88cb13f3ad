#!/bin/sh
# Builds the Debian package into target/debian/. `packaging/deb.sh dev` takes the development profile: slower code, quicker
# to build; for tests of the package only. `packaging/deb.sh release vulkan` builds radsort-vulkan, which can train on a GPU
# and takes radsort's place: the program is much larger, and so is the time to build it.
#
# It runs on Debian 12 and later and Ubuntu 22.04 and later, if it is built on Debian 12 or Ubuntu 22.04: the program needs
# symbols of the C and C++ libraries that it was built with. packaging/portable.sh looks at each, and at the package's
# dependencies; on a newer system there is no package, unless RADSORT_DEB_FOR_HERE=1 asks for one that runs there alone.
set -eu
cd "$(dirname "$0")/.."

profile=${1:-release}
case "$profile" in
release) folder=release ;;
dev) folder=debug ;;
*)
    echo "usage: packaging/deb.sh [release|dev] [vulkan]" >&2
    exit 2
    ;;
esac
# A program with other features is built in a folder of its own: neither replaces the other's.
variant=${2:-}
case "$variant" in
'') built=target ;;
vulkan) built=target/vulkan ;;
*)
    echo "packaging/deb.sh: $variant is no variant of the package; there is: vulkan" >&2
    exit 2
    ;;
esac
packaging/build-tools.sh
packaging/onnxruntime.sh
if ! cargo deb --version >/dev/null 2>&1; then
    echo "Installing cargo-deb"
    # For a test's package it need not be fast either, and is there sooner.
    quick=
    [ "$profile" = release ] || quick=--debug
    cargo install cargo-deb --version 3.8.0 --locked --quiet $quick
fi
missing=
command -v dpkg-shlibdeps >/dev/null || missing=dpkg-dev
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ]; then
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
    else
        echo "Please install: $missing" >&2
        exit 1
    fi
fi

# Never with the failpoints: such a program can be told by its environment to kill itself.
cargo build --profile "$profile" --locked --bin radsort --target-dir "$built" ${variant:+--features "$variant"}
program=$built/$folder/radsort
if ! RADSORT_CRASH_AT=nowhere "$program" --version >/dev/null 2>&1; then
    echo "$program has the failpoints built in: that is not packaged." >&2
    exit 1
fi

tree=target/package
rm -rf "$tree"
mkdir -p "$tree/usr/bin" "$tree/usr/lib/radsort" "$tree/usr/share/radsort/models" "$tree/usr/share/doc/radsort"
cp "$program" "$tree/usr/bin/radsort"
strip --strip-unneeded "$tree/usr/bin/radsort"
cp -r packaging/usr "$tree/"
# What people may have forgotten to make anew is made anew; `make test` complains about it.
"$program" packaging-files --out "$tree" >/dev/null
find "$tree/usr/share/man" -type f -exec gzip -9n {} +
cp .runtime/libonnxruntime.so .runtime/LICENSE.onnxruntime .runtime/ThirdPartyNotices.onnxruntime.txt "$tree/usr/lib/radsort/"
cp -r models/spine-phantom "$tree/usr/share/radsort/models/"
# Catalog, dashboard and alert rules, each where its reader looks.
if [ -f packaging/journal/radsort.catalog ]; then
    install -D -m 644 packaging/journal/radsort.catalog "$tree/usr/lib/systemd/catalog/radsort.catalog"
fi
for folder in grafana prometheus; do
    if [ -d "packaging/$folder" ]; then cp -r "packaging/$folder" "$tree/usr/share/radsort/"; fi
done
cp -r docs/pictures "$tree/usr/share/doc/radsort/"
cp README.md ARCHITECTURE.md CHANGELOG.md CONTRIBUTING.md SECURITY.md LICENSE-MIT LICENSE-APACHE docs/*.md "$tree/usr/share/doc/radsort/"
# All in one folder there: links between them say so.
sed -i 's#](docs/#](#g; s#](\.\./#](#g' "$tree"/usr/share/doc/radsort/*.md
cp packaging/gpu-runtime.sh packaging/gpu-runtime.sha256 "$tree/usr/share/radsort/" 2>/dev/null || true
cargo metadata --locked --format-version 1 | python3 -c '
import json, sys
packages = {(p["name"], p["version"], p["license"] or "see its sources") for p in json.load(sys.stdin)["packages"]}
for name, version, licence in sorted(packages):
    print(f"{name} {version}: {licence}")' >"$tree/usr/share/doc/radsort/dependencies.txt"
# The same for scanners. Without internet and cargo-cyclonedx the package goes without, and says so.
[ "$profile" != release ] || packaging/sbom.sh "$tree/usr/share/doc/radsort/radsort.cdx.json" ||
    echo "WARNING: no bill of materials in this package: cargo-cyclonedx is not there and cannot be installed." >&2

compress=--compress-type=xz
[ "$profile" = release ] || compress=--fast
package=$(cargo deb --no-build --no-strip --no-dbgsym $compress --quiet ${variant:+--variant "$variant"} ${RADSORT_DEB_VERSION:+--deb-version "$RADSORT_DEB_VERSION"})
portable="Debian 12 and Ubuntu 22.04 or later"
if ! packaging/portable.sh "$tree/usr/bin/radsort" "$tree"/usr/lib/radsort/*.so "$package"; then
    if [ "${RADSORT_DEB_FOR_HERE:-}" != 1 ]; then
        rm -f "$package"
        echo "There is no package. RADSORT_DEB_FOR_HERE=1 makes one for systems like this one alone." >&2
        exit 1
    fi
    portable="systems like this one alone"
fi
glibc=$(objdump -T "$tree/usr/bin/radsort" | sed -n 's/.*GLIBC_\([0-9.]*\).*/\1/p' | sort -Vu | tail -n 1)
echo "$package ($(dpkg-deb --field "$package" Depends); symbols up to GLIBC_$glibc; for $portable)"
