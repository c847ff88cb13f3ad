#!/bin/bash
# boot.sh ROOTFS NAME: boots a root file system under systemd-nspawn, without network, and prints the nspawn process, the
# process 1 in it, and how the system is (running, degraded). The log is NAME.log beside the root file system.
set -euo pipefail
rootfs=$1 name=$2 log=$1/../$2.log
cgroups=$(awk '$3=="cgroup2"{print $2;exit}' /proc/mounts)
: >"$log"
(
    # A subtree of its own, so that several can run and nothing is left in the root group.
    mkdir -p "$cgroups/$name"
    echo "$BASHPID" >"$cgroups/$name/cgroup.procs"
    export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
    # bpf: without it DevicePolicy and IPAddressDeny are silently ignored.
    exec systemd-nspawn --quiet -D "$rootfs" --boot --register=no --keep-unit --machine="$name" \
        --private-network --console=pipe --system-call-filter=bpf </dev/null >>"$log" 2>&1
) >/dev/null &
nspawn=$!
for _ in $(seq 400); do
    init=$(awk '{print $1}' "/proc/$nspawn/task/$nspawn/children" 2>/dev/null || true)
    [ -n "$init" ] && [ "$(cat "/proc/$init/comm" 2>/dev/null)" = systemd ] && break
    sleep 0.05
done
[ -n "$init" ] || {
    echo "nspawn did not start:" >&2
    cat "$log" >&2
    exit 1
}
state=
for _ in $(seq 400); do
    state=$(nsenter -t "$init" -m -u -i -n -p -r -w -- systemctl is-system-running 2>/dev/null || true)
    case $state in running | degraded) break ;; esac
    sleep 0.05
done
echo "$nspawn $init $state"
