#!/bin/bash
# run.sh [SUITE…]: the package on real systemd, end to end, on Debian 13 and 12 (or the suites that are named). Root.
# Exit status 77 (skipped, with the reason) where systemd-nspawn cannot boot. What it keeps lies in target/systemd/.
# shellcheck disable=SC2015,SC2016,SC2012,SC2119,SC2120 # conditions in short, and commands that are expanded within
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=(trixie bookworm)

skip() {
    echo "SKIPPED: the tests on real systemd: $*"
    exit 77
}
[ "$(id -u)" = 0 ] || skip "they want root"
command -v apt-get >/dev/null || skip "they want Debian or Ubuntu"
cgroups=$(awk '$3=="cgroup2"{print $2;exit}' /proc/mounts)
[ -n "$cgroups" ] || skip "there is no cgroup2 file system"
mkdir "$cgroups/radsort-try" 2>/dev/null && rmdir "$cgroups/radsort-try" || skip "control groups cannot be made here"
unshare -m mount -t tmpfs none /mnt 2>/dev/null || skip "nothing can be mounted here"

missing=()
for tool in systemd-nspawn:systemd-container mmdebstrap:mmdebstrap zstd:zstd python3:python3 nsenter:util-linux; do
    command -v "${tool%%:*}" >/dev/null || missing+=("${tool##*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "Installing: ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
fi

package=${RADSORT_DEB:-}
if [ -z "$package" ]; then
    packaging/deb.sh "${RADSORT_DEB_PROFILE:-dev}"
    package=$(ls -t target/debian/radsort_*.deb | head -n 1)
fi
# The same program as an older version, to upgrade from.
older=target/systemd/older
rm -rf "$older" && mkdir -p target/systemd
dpkg-deb -R "$package" "$older"
sed -i 's/^Version: .*/Version: 0.0.9-1/' "$older/DEBIAN/control"
# Its commented configuration is another one: nobody is asked about that at the upgrade.
echo '# as it was in 0.0.9' >>"$older/usr/share/radsort/radsort.toml"
dpkg-deb --root-owner-group -Zgzip -z1 -b "$older" "$older.deb" >/dev/null
if [ ! -d target/systemd/phantoms ]; then
    # Some of each category: without any, a classifier is not fitted.
    "$older/usr/bin/radsort" phantom --out target/systemd/phantoms.new --count 52 --imbalance even >/dev/null
    mv target/systemd/phantoms.new target/systemd/phantoms
fi
rm -rf "$older"

for suite in "${suites[@]}"; do
    rootfs=target/systemd/$suite.tar.zst
    if [ ! -s "$rootfs" ]; then
        echo "Building a root file system of $suite"
        "$here/rootfs.sh" "$suite" "$rootfs"
    fi
done
# Side by side: most of their time is waiting.
running=()
for suite in "${suites[@]}"; do
    "$here/suite.sh" "$suite" "target/systemd/$suite.tar.zst" "$older.deb" "$package" &
    running+=($!)
done
failed=0
for process in "${running[@]}"; do
    wait "$process" || failed=1
done
[ "$failed" = 0 ] || exit 1
echo "The package holds on: ${suites[*]}"
