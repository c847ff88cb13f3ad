#!/bin/bash
# rootfs.sh SUITE TARBALL: a minimal Debian that boots, packed. It holds what radsort's package depends on, as any installed
# Debian does: the package itself is installed without network. RADSORT_MIRROR names another mirror than the default.
# shellcheck disable=SC2016 # hooks are expanded by mmdebstrap
set -euo pipefail
suite=$1 tarball=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mmdebstrap --variant=minbase --mode=root --quiet \
    --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --include=systemd,systemd-sysv,dbus,libnss-systemd,libstdc++6,procps \
    --customize-hook='systemctl --root="$1" mask systemd-udevd.service systemd-networkd-wait-online.service getty.target console-getty.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer >/dev/null 2>&1 || true' \
    --customize-hook='chroot "$1" passwd -q -d root; echo radsort-test >"$1/etc/hostname"; : >"$1/etc/machine-id"' \
    --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin' \
    "$suite" "$work/rootfs.tar" ${RADSORT_MIRROR:+"$RADSORT_MIRROR"}
mkdir -p "$(dirname "$tarball")"
zstd -q -3 "$work/rootfs.tar" -o "$work/rootfs.tar.zst"
mv "$work/rootfs.tar.zst" "$tarball"
