#!/bin/bash
# suite.sh SUITE ROOTFS OLDER.deb PACKAGE.deb: one Debian, booted, from the first installation to the purge.
# shellcheck disable=SC2015,SC2016,SC2012,SC2119,SC2120 # conditions in short, and commands that are expanded within
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
suite=$1 rootfs=$2 older=$3 package=$4
name=radsort-$suite-$$
root=$(mktemp -d "/tmp/$name.XXXX")/root
mkdir "$root"
started=$(date +%s)
nspawn="" init="" frozen=""

step() { printf '%4ss  %s: %s\n' "$(($(date +%s) - started))" "$suite" "$*"; }
in_() { nsenter -t "$init" -m -u -i -n -p -r -w -- /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb LC_ALL=C.UTF-8 SYSTEMD_PAGER= DEBIAN_FRONTEND=noninteractive "$@"; }
fail() {
    echo "FAILED on $suite: $*" >&2
    in_ systemctl status --no-pager -n 0 radsort >&2 || true
    in_ journalctl -b --no-pager -n 60 >&2 || true
    exit 1
}
clean_up() {
    [ -z "$frozen" ] || kill "$frozen" 2>/dev/null || true
    [ -z "$init" ] || in_ systemctl poweroff >/dev/null 2>&1 || true
    for _ in $(seq 100); do [ -n "$nspawn" ] && [ -d "/proc/$nspawn" ] || break; sleep 0.1; done
    if [ -n "$nspawn" ] && [ -d "/proc/$nspawn" ]; then kill -9 "$nspawn"; fi
    umount -l "$root" 2>/dev/null || true
    rm -rf "$(dirname "$root")"
    find "$(awk '$3=="cgroup2"{print $2;exit}' /proc/mounts)/$name" -depth -type d -exec rmdir {} + 2>/dev/null || true
}
trap clean_up EXIT

# until_ SECONDS COMMAND…: waits until it succeeds.
until_() {
    local end=$(($(date +%s) + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$end" ] || return 1
        sleep 0.2
    done
}
property() { in_ systemctl show "${2:-radsort}" -p "$1" --value; }
# ask PYTHON [CONFIG]: an expression about `radsort status --json`, as s.
ask() {
    in_ radsort status --json ${2:+--config "$2"} | python3 -c "import sys, json; s = json.load(sys.stdin); r = $1; print(r); sys.exit(0 if r else 1)"
}
records() { in_ radsort query --count; }
has_records() { [ "$(records)" -ge "$1" ]; }
restarted() { [ "$(property NRestarts)" -gt "$1" ] && [ "$(property SubState)" = running ]; }
# The multiset of what was dropped, wherever it lies now.
digests() { in_ bash -c 'find /srv/radsort /srv/share -type f ! -name ".*" ! -name "*.json" ! -name "*.csv" -exec sha256sum {} + | cut -d" " -f1 | sort'; }
# drop FROM TO COUNT DIRECTORY: phantoms FROM… TO of the set, by another user, as a scanner would.
drop() {
    in_ bash -c "cd /opt/phantoms && ls | grep -v csv | sed -n '$1,$2p' | while read f; do install -o scanner -g radsort -m 640 \$f $3/.\$f.part && mv $3/.\$f.part $3/\$f; done"
}
pid() { in_ systemctl show "${1:-radsort}" -p MainPID --value; }
# The same process as this machine numbers it.
outside() { for status in /proc/[0-9]*/status; do awk -v ns="$1" '/^NSpid:/ && NF > 2 && $NF == ns {f=1} /^NSpid:/ {n=$2} END {if (f) print n}' "$status" 2>/dev/null; done | while read -r p; do [ "$(readlink "/proc/$p/ns/pid")" = "$(readlink "/proc/$init/ns/pid")" ] && echo "$p"; done | head -n 1; }
freeze() {
    rm -f "$root/../frozen"
    "$here/freeze.py" "$(outside "$(pid)")" "$1" >"$root/../frozen" &
    frozen=$!
    until_ 10 grep -q frozen "$root/../frozen" || fail "the thread $1 could not be stopped"
}
thaw() {
    kill "$frozen" 2>/dev/null || true
    wait "$frozen" 2>/dev/null || true
    frozen=""
}

mount -t tmpfs -o size=2G,mode=755 tmpfs "$root"
tar --zstd -xpf "$rootfs" -C "$root" --numeric-owner
touch "$root/../frozen"
cp "$older" "$root/opt/older.deb"
cp "$package" "$root/opt/radsort.deb"
cp -r "$here/../../target/systemd/phantoms" "$root/opt/phantoms"
install -m 755 "$here/probe.sh" "$root/usr/local/bin/probe"
install -m 4755 "$root/usr/bin/id" "$root/usr/local/bin/setuid-id"
read -r nspawn init state < <("$here/boot.sh" "$root" "$name")
[ "$state" = running ] || fail "the system is $state"
in_ ip link set lo up 2>/dev/null || true
step "booted: $(in_ systemctl --version | head -n 1)"

# -- install
in_ apt-get install -y /opt/older.deb >"$root/../apt" 2>&1 || { cat "$root/../apt"; fail "apt install"; }
grep -q 'not started yet' "$root/../apt" || fail "the installation does not say what is next"
in_ systemctl is-enabled radsort >/dev/null && fail "it is enabled before it is configured"
said=$(in_ systemd-analyze verify --man=no radsort.service radsort@x.service radsort-retrain@radsort.service radsort-retrain@radsort.timer 2>&1) || true
[ -z "$said" ] || fail "systemd-analyze verify: $said"
for unit in radsort radsort-retrain@radsort; do
    in_ systemd-analyze security --threshold=5 --no-pager $unit.service >/dev/null || fail "the exposure of $unit is more than 0.5"
done
in_ install -D -m 644 /usr/share/radsort/systemd/gpu.conf /etc/systemd/system/radsort.service.d/20-gpu.conf
in_ systemctl daemon-reload
said=$(in_ systemd-analyze verify --man=no radsort.service 2>&1) || true
[ -z "$said" ] || fail "with the GPU drop-in: $said"
in_ systemd-analyze security --threshold=10 --no-pager radsort.service >/dev/null || fail "the exposure with a GPU is more than 1.0"
in_ rm -r /etc/systemd/system/radsort.service.d
step "installed without network; verify is silent; exposure is within its bounds"

# -- configure
in_ bash -c '
    useradd -m scanner; useradd -m alice; chmod 777 /home/alice; echo "dear" >/home/alice/letter; chmod 644 /home/alice/letter
    mkdir -m 777 /srv/other; mkdir -m 755 -p /srv/observed /srv/share /srv/behind; touch /tmp/of-all
    chown scanner:radsort /srv/behind; chmod 2770 /srv/behind
    mount --bind /srv/behind /srv/share
    cat >/etc/radsort/radsort.toml <<TOML
# A comment of the site.
[[watch]]
path = "/srv/radsort/incoming"
settle = "1s"
[[watch]]
path = "/srv/share"
settle = "1s"
[[watch]]
path = "/srv/observed"
action = "observe"
[library]
path = "/srv/radsort/library"
[state]
path = "/var/lib/radsort"
[runtime]
threads = 1
[control]
socket = "/run/radsort/control.sock"
TOML
    chmod -R a+rX /opt/phantoms
    mkdir -p /etc/systemd/system/radsort.service.d
    printf "[Service]\nRestartSec=500ms\nWatchdogSec=6s\nExecStartPre=-/usr/local/bin/probe\nExecStartPre=-/usr/bin/radsort check --config /etc/radsort/radsort.toml\n" >/etc/systemd/system/radsort.service.d/90-test.conf
'
before=$(in_ radsort setup --dry-run; in_ ls -A /srv/radsort 2>/dev/null) || true
in_ test -e /srv/radsort && fail "a dry run made something: $before"
in_ radsort setup >"$root/../setup" || { cat "$root/../setup"; fail "radsort setup"; }
in_ radsort setup >"$root/../setup" || fail "the second radsort setup"
grep -q '^done' "$root/../setup" && { cat "$root/../setup"; fail "the second setup did something"; }
in_ systemctl enable --now radsort 2>/dev/null || fail "it does not start"
[ "$(property Type) $(property SubState)" = "notify running" ] || fail "type and state"
step "configured and started"

# -- the sandbox, each probe with its control outside
in_ journalctl -b -u radsort -o cat --no-pager >"$root/../journal"
in_ systemd-run -q --wait --pipe -p User=radsort /usr/local/bin/probe >"$root/../control" 2>&1 || fail "the control does not run"
probe() {
    grep -q "^probe $1: $2" "$root/../$3" || { grep '^probe' "$root/../journal" "$root/../control"; fail "sandbox: $1 is not \"$2\" ($3)"; }
}
for it in write-state write-library; do probe $it yes journal; done
for it in write-elsewhere write-tmp-of-all read-home privileges processes-of-others; do
    probe $it no journal
    probe $it yes control
done
probe write-observed no journal
in_ chmod 777 /srv/observed
in_ systemd-run -q --wait --pipe -p User=radsort /usr/local/bin/probe >"$root/../control" 2>&1
probe write-observed yes control
probe network 'no .*Address family not supported' journal
probe network 'no .*Connection refused' control
grep -q ' jail  *seccomp' "$root/../journal" || { grep -i jail "$root/../journal"; fail "the decoders' jail does not work in the sandbox"; }
[ "$(grep CapEff "/proc/$(outside "$(pid)")/status" | cut -f 2)" = 0000000010000000 ] || fail "it has other capabilities than CAP_LEASE"
step "sandbox: writes, homes, network, privileges, processes; the jail is closed inside it"

# -- the main job
drop 1 12 /srv/radsort/incoming
drop 13 16 /srv/share
in_ bash -c 'cd /opt/phantoms && cp $(ls | grep -v csv | sed -n 17,18p) /srv/observed/'
until_ 90 has_records 18 || fail "only $(records) of 18 files are on record"
[ "$(in_ bash -c 'ls /srv/observed | wc -l')" = 2 ] || fail "observed files were touched"
[ "$(in_ bash -c 'ls /srv/radsort/incoming /srv/share | grep -c dcm' || true)" = 0 ] || fail "files are left in the drop directories"
in_ journalctl -b -u radsort -o json --no-pager | python3 -c '
import sys, json
lines = [json.loads(line) for line in sys.stdin]
ours = [line for line in lines if "RADSORT_SOP_INSTANCE_UID" in line]
assert len(ours) == 18, f"{len(ours)} lines of files"
for line in ours:
    assert line["_TRANSPORT"] == "journal", line
    for field in ("MESSAGE_ID", "RADSORT_EVENT", "RADSORT_WATCH", "RADSORT_MODEL", "RADSORT_CATEGORY", "RADSORT_CONFIDENCE", "RADSORT_DURATION_MS"):
        assert field in line or "RADSORT_REASON" in line and field == "RADSORT_CATEGORY", (field, line)
    assert not line["RADSORT_SOP_INSTANCE_UID"].startswith(("1.", "2.")), "an identifier as it is"
    assert line["RADSORT_EVENT"] != "review" or line["RADSORT_REASON"], line
    assert (line["RADSORT_EVENT"] == "observed") == (line["RADSORT_WATCH"] == "observed"), line
' || fail "the journal"
in_ journalctl -b -u radsort -x --no-pager RADSORT_EVENT=filed | grep -c 'Subject: ' >/dev/null || fail "the journal's catalog does not explain"
[ "$(in_ journalctl -b -o cat --no-pager RADSORT_WATCH=share | wc -l)" -ge 4 ] || fail "journalctl RADSORT_WATCH=share selects nothing"
ask 's["totals"]["observed"] == 2 and sum(s["totals"].values()) == 18' >/dev/null || fail "observed files are not counted apart"
tr '\0' '\n' <"/proc/$(outside "$(pid)")/environ" | grep -qx ORT_DISABLE_TELEMETRY=1 || fail "ONNX Runtime might call home"
in_ systemctl status --no-pager radsort | grep -q 'Status: ".*drop director' || fail "systemctl status has no status line"
modes=$(in_ bash -c 'find /srv/radsort/library -mindepth 1 -type d -printf "%m %g\n" | sort -u')
[ "$modes" = "2750 radsort" ] || fail "directories in the library: $modes"
modes=$(in_ bash -c 'find /srv/radsort/library -name "*.dcm" -printf "%m %u %g\n" | sort -u')
[ "$modes" = "640 radsort radsort" ] || fail "files in the library: $modes"
step "18 files on record, structured journal, live status, modes"

# -- reload, bad and good
in_ cp /etc/radsort/radsort.toml /etc/radsort/good
in_ bash -c 'printf "[libary]\npath = \"/x\"\n" >>/etc/radsort/radsort.toml'
in_ systemctl reload radsort 2>/dev/null && fail "a bad configuration was reloaded"
[ "$(property ActiveState)" = active ] || fail "a bad reload stopped it"
ask '"libary" in s["reload_error"]["message"]' >/dev/null || fail "status does not say why the reload failed"
in_ bash -c 'sed "s/settle = \"1s\"/settle = \"900ms\"/" /etc/radsort/good >/etc/radsort/radsort.toml'
in_ systemctl reload radsort || fail "a good configuration was not reloaded"
ask 's["reload_error"] is None' >/dev/null || fail "the error of the reload before stays"
step "reloads: a bad one is refused and told, a good one taken"

# -- metrics: node_exporter's directory is used as soon as it is there, and a port is one shipped drop-in away
prom=/var/lib/prometheus/node-exporter
in_ install -d -o radsort $prom
in_ radsort setup >/dev/null || fail "setup beside the running service: && systemctl restart would not be reached"
in_ cp /etc/radsort/radsort.toml /opt/without-port.toml
in_ bash -c 'printf "[metrics]\ninterval = \"1s\"\nlisten = \"127.0.0.1:9464\"\n" >>/etc/radsort/radsort.toml'
in_ install -D -m 644 /usr/share/radsort/systemd/metrics-port.conf /etc/systemd/system/radsort.service.d/30-metrics-port.conf
in_ systemctl daemon-reload
in_ systemctl restart radsort || fail "it does not start with a port for metrics"
until_ 30 in_ grep '^radsort_build_info{site="radsort",' $prom/radsort.prom || fail "node_exporter gets no figures"
scraped() { in_ bash -c 'exec 3<>/dev/tcp/127.0.0.1/9464 && printf "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" >&3 && grep ^radsort_build_info <&3'; }
until_ 30 scraped || fail "nothing answers at the port for metrics"
in_ systemctl stop radsort
in_ test -e $prom/radsort.prom && fail "figures of a service that was stopped are left"
in_ cp /opt/without-port.toml /etc/radsort/radsort.toml
in_ rm /etc/systemd/system/radsort.service.d/30-metrics-port.conf
in_ systemctl daemon-reload
in_ systemctl start radsort || fail "it does not start without the port"
step "metrics: a file for node_exporter in the sandbox, a port by the shipped drop-in"

# -- another model
in_ bash -c 'cp -r /usr/share/radsort/models/spine-phantom /opt/other && sed -i "s/^version = .*/version = \"9.9.9\"/" /opt/other/bundle.toml'
in_ radsort models import /opt/other >/dev/null || fail "models import"
in_ radsort models promote 9.9.9 >/dev/null || fail "models promote"
ask '"9.9.9" in s["model"]["name"]' >/dev/null || fail "the promoted model is not in use"
step "a new model was taken up"

# -- SIGKILL in the middle
before=$( (digests; in_ bash -c 'cd /opt/phantoms && sha256sum $(ls | grep -v csv | sed -n 19,40p) | cut -d" " -f1') | sort)
restarts=$(property NRestarts)
drop 19 40 /srv/radsort/incoming
until_ 60 has_records 20 || fail "nothing is filed any more"
in_ systemctl kill -s KILL radsort
until_ 30 restarted "$restarts" || fail "it was not started again after SIGKILL"
until_ 90 has_records 40 || fail "after SIGKILL: $(records) of 40 on record"
until_ 30 ask 'all(w["waiting"] == 0 for w in s["watches"])' || fail "files wait for ever after SIGKILL"
[ "$(digests)" = "$before" ] || fail "after SIGKILL the files are not the same"
in_ radsort verify --digests >/dev/null || fail "after SIGKILL, verify"
step "SIGKILL: started again, nothing lost, ledger and folders agree"

# -- the watchdog
for thread in filer model; do
    restarts=$(property NRestarts)
    freeze $thread
    until_ 40 restarted "$restarts" || fail "a $thread thread that hangs is not noticed"
    thaw
    in_ journalctl -b -u radsort -o cat --no-pager | grep -c "the $thread thread has not answered" >/dev/null || fail "nothing was said about the $thread thread"
done
in_ journalctl -b -u radsort -o cat --no-pager | grep -c 'Watchdog timeout' >/dev/null || fail "it was not the watchdog"
restarts=$(property NRestarts)
freeze look:incoming
sleep 15 # more than twice the watchdog's limit
[ "$(property NRestarts)" = "$restarts" ] || fail "a share that hangs is no reason to restart"
thaw
step "watchdog: restarts for filer and model, not for a share"

# -- a share that goes and comes back
# Lazily: the service has the directory open.
in_ umount -l /srv/share
drop 41 42 /srv/radsort/incoming
until_ 60 has_records 42 || fail "a share that is away holds up the others"
in_ mount --bind /srv/behind /srv/share
drop 43 44 /srv/share
until_ 90 has_records 44 || fail "a share that came back is not taken up"
in_ umount -l /srv/share
in_ systemctl restart radsort || fail "it does not start while a share is away"
in_ mount --bind /srv/behind /srv/share
drop 45 46 /srv/share
until_ 90 has_records 46 || fail "a share that came after the start is not taken up"
step "a share was unmounted, mounted again, and mounted after the start"

# -- fitting by the unit: shipped disabled, in a sandbox of its own, from what people have said
[ "$(in_ systemctl is-enabled radsort-retrain@radsort.timer 2>/dev/null || true)" = disabled ] || fail "the timer is not shipped disabled"
in_ systemctl start radsort-retrain@radsort 2>/dev/null && fail "fitting from nothing has succeeded"
[ "$(property ExecMainStatus radsort-retrain@radsort)" = 1 ] || fail "fitting from nothing ends with $(property ExecMainStatus radsort-retrain@radsort)"
in_ journalctl -b -u radsort-retrain@radsort -o cat --no-pager | grep -c '^radsort: .*Say of some files' >/dev/null || fail "the journal does not say why nothing was fitted"
in_ bash -c 'radsort query --fate filed --json --limit 100 | grep -o "\"sop_instance_uid\":\"[0-9.]*\"" | cut -d\" -f4 | xargs radsort confirm >/dev/null' || fail "files cannot be confirmed"
in_ bash -c '
    mkdir -p /etc/systemd/system/radsort-retrain@radsort.service.d
    printf "[Service]\nExecStartPre=-/usr/local/bin/probe\nExecStart=\nExecStart=/usr/bin/radsort retrain --few-patients --classifier frontal --config /etc/radsort/radsort.toml\n" >/etc/systemd/system/radsort-retrain@radsort.service.d/90-test.conf
    systemctl daemon-reload'
before=$(in_ radsort models list --json | wc -l)
in_ systemctl start radsort-retrain@radsort || { in_ journalctl -b -u radsort-retrain@radsort --no-pager -n 30; fail "fitting fails"; }
[ "$(property Result radsort-retrain@radsort)" = success ] || fail "fitting ends with $(property Result radsort-retrain@radsort)"
in_ journalctl -b -u radsort-retrain@radsort -o cat --no-pager >"$root/../journal"
probe write-state yes journal
for it in write-library write-elsewhere read-home privileges processes-of-others; do probe $it no journal; done
probe network 'no .*Address family not supported' journal
[ "$(in_ radsort models list --json | wc -l)" = $((before + 1)) ] || { in_ radsort models list; fail "the new bundle is not beside the others"; }
ask '"9.9.9" in s["model"]["name"]' >/dev/null || fail "fitting has put its bundle to use"
[ "$(property SubState)" = running ] || fail "fitting has disturbed the service"
in_ rm -r /etc/systemd/system/radsort-retrain@radsort.service.d
in_ systemctl daemon-reload
step "radsort-retrain@: says why it cannot, fits in its sandbox, promotes nothing"

# -- a second site, whose library's disk is full
in_ bash -c '
    mkdir -p /srv/small; mount -t tmpfs -o size=12k,mode=755 tmpfs /srv/small
    sed "s#/srv/radsort/library#/srv/small/library#; s#/srv/radsort/incoming#/srv/second#; s#/var/lib/radsort#/var/lib/radsort-second#; s#/run/radsort/#/run/radsort-second/#; /srv.share/,+1d; /srv.observed/,+1d; /^\[\[watch\]\]\$/d" /etc/radsort/good >/etc/radsort/second.toml
    sed -i "1i [[watch]]" /etc/radsort/second.toml
    radsort setup --config /etc/radsort/second.toml >/dev/null'
in_ systemctl enable --now radsort@second 2>/dev/null || fail "the second site does not start: $(in_ cat /etc/radsort/second.toml; in_ journalctl -u radsort@second --no-pager -n 20)"
drop 47 52 /srv/second
until_ 60 ask 's["watches"][0]["state"] == "held"' /etc/radsort/second.toml || fail "a full disk is not told"
[ "$(in_ bash -c 'ls /srv/second | wc -l')" -ge 1 ] || fail "files went nowhere"
in_ mount -o remount,size=200M /srv/small
until_ 90 bash -c "[ \"\$(nsenter -t $init -m -u -i -n -p -r -w -- radsort query --count --config /etc/radsort/second.toml)\" = 6 ]" || fail "after the disk had room: $(in_ radsort query --count --config /etc/radsort/second.toml) of 6"
in_ radsort verify --digests --config /etc/radsort/second.toml >/dev/null || fail "verify of the second site"
[ "$(property ActiveState)" = active ] || fail "the first site suffers"
# Its library's mount is away when it starts: it waits, says so, and files when it comes.
in_ bash -c 'systemctl stop radsort@second; mkdir /srv/aside; mount --bind /srv/small /srv/aside; umount /srv/small'
in_ systemctl start radsort@second || fail "it does not start while its library is away"
drop 1 1 /srv/second
until_ 60 ask 's["watches"][0]["state"] == "held"' /etc/radsort/second.toml || fail "a library that is away is not told"
in_ mount --bind /srv/aside /srv/small
until_ 90 bash -c "[ \"\$(nsenter -t $init -m -u -i -n -p -r -w -- radsort query --count --config /etc/radsort/second.toml)\" = 7 ]" || fail "its library came, and nothing was filed: $(in_ radsort status --config /etc/radsort/second.toml)"
in_ systemctl disable --now radsort@second 2>/dev/null
step "a second site, a full disk and a library that comes late: held, then filed"

# -- mail without Prometheus, by the words of docs/monitoring.md
python3 - "$here/../../docs/monitoring.md" "$root" <<'PYTHON'
import re, sys
text, root = open(sys.argv[1]).read(), sys.argv[2]
for block in re.findall(r"```(?:sh|ini)\n(.*?)```", text, re.S):
    named = re.search(r"^# (/(?:etc/systemd/system|usr/local/sbin)/\S+?):?(?: |$)", block, re.M)
    if named:
        with open(root + named[1], "w") as file:
            # So that the test need not wait for a minute.
            file.write(block.replace("sleep 60", "sleep 3"))
PYTHON
in_ bash -c 'chmod 755 /usr/local/sbin/tell-the-operators
printf "#!/bin/sh\ntest -e /run/relay || exit 75\ncat >>/run/mails/all\n" >/usr/sbin/sendmail; chmod 755 /usr/sbin/sendmail
install -d -o radsort /run/mails
mkdir -p /etc/radsort/conf.d
printf "[alert]\ncommand = [\"/usr/local/sbin/tell-the-operators\"]\n" >/etc/radsort/conf.d/mail.toml
systemctl daemon-reload && systemctl enable --now radsort-mail.path radsort-runs.timer 2>/dev/null
systemctl reload radsort' || fail "the mail recipe cannot be set up"
in_ bash -c 'echo nonsense >/etc/radsort/conf.d/bad.toml; ! systemctl reload radsort 2>/dev/null; rm /etc/radsort/conf.d/bad.toml' || fail "nonsense was taken"
until_ 20 in_ bash -c 'ls /var/lib/radsort/alerts/*' || fail "no message was left"
# Longer than systemd's start limit (five in ten seconds) takes to be hit.
sleep 15
in_ systemctl is-failed radsort-mail.path radsort-mail.service >/dev/null && fail "a relay that is away ended the mails"
in_ touch /run/relay
until_ 20 in_ grep -q 'Subject: radsort: config-refused' /run/mails/all || fail "the mail did not come once the relay was there"
in_ systemctl stop radsort
in_ systemctl start radsort-runs.service || fail "the service that looks whether it runs failed"
until_ 20 in_ grep -q 'Subject: radsort does not run' /run/mails/all || fail "nobody was told that it does not run"
in_ bash -c 'rm /etc/radsort/conf.d/mail.toml; systemctl disable --now radsort-mail.path radsort-runs.timer 2>/dev/null; systemctl start radsort' || fail "it does not start again"
step "mail: a relay that is away is waited for, and a service that does not run is told"

# -- upgrade, downgrade
config=$(in_ cat /etc/radsort/radsort.toml)
for way in upgrade:radsort downgrade:older; do
    process=$(pid)
    in_ dpkg -i "/opt/${way#*:}.deb" </dev/null >"$root/../dpkg" 2>&1 || { cat "$root/../dpkg"; fail "$way"; }
    [ "$(property SubState)" = running ] && [ "$(pid)" != "$process" ] || fail "the ${way%:*} did not restart it"
    [ "$(in_ cat /etc/radsort/radsort.toml)" = "$config" ] || fail "the ${way%:*} changed the configuration"
    [ "$(records)" = 46 ] || fail "after the ${way%:*} $(records) of 46 are on record"
    in_ systemctl is-enabled radsort >/dev/null || fail "the ${way%:*} disabled it"
done
in_ dpkg -i /opt/radsort.deb >/dev/null 2>&1 || fail "the second upgrade"
in_ radsort verify --digests >/dev/null || fail "verify after upgrades"
# A ledger of a later program is refused once, without restarts.
in_ systemctl stop radsort
in_ cp -a /var/lib/radsort/ledger /opt/ledger
in_ bash -c 'f=$(ls /var/lib/radsort/ledger/*.jsonl | tail -n 1); sed -i "s/{\"v\":1,/{\"v\":2,/" $f'
in_ systemctl start radsort 2>/dev/null && fail "a ledger of a later program was opened"
sleep 2
[ "$(property ActiveState) $(property ExecMainStatus)" = "failed 78" ] || fail "it tries again and again: $(property ActiveState) $(property ExecMainStatus)"
in_ bash -c 'cp -a /opt/ledger/. /var/lib/radsort/ledger/; systemctl reset-failed radsort; systemctl start radsort' || fail "it does not start with the ledger restored"
step "upgrade, downgrade, a ledger of a later program"

# -- remove, purge
before=$(digests)
# Instances of templates are enabled as well: nothing of them stays.
in_ systemctl enable radsort@second radsort-retrain@radsort.timer 2>/dev/null || fail "instances cannot be enabled"
in_ apt-get remove -y radsort >/dev/null 2>&1 || fail "apt remove"
in_ systemctl is-active radsort >/dev/null && fail "it runs after its removal"
[ "$(digests)" = "$before" ] || fail "the removal touched files"
in_ apt-get purge -y radsort >"$root/../purge" 2>&1 || { cat "$root/../purge"; fail "apt purge"; }
for words in 'kept /var/lib/radsort ' '/srv/radsort' '/srv/share'; do
    grep -q "$words" "$root/../purge" || { cat "$root/../purge"; fail "the purge does not say: $words"; }
done
[ "$(digests)" = "$before" ] || fail "the purge touched files"
in_ bash -c 'ls /var/lib/radsort/ledger/*.jsonl /var/lib/radsort/key*' >/dev/null || fail "the purge took the ledger or the key"
in_ test -e /etc/radsort/radsort.toml && fail "the purge left the configuration"
in_ test -e /etc/systemd/system/radsort.service.d/10-setup.conf && fail "the purge left the drop-in"
links=$(in_ find /etc/systemd/system -name 'radsort*' -type l)
[ -z "$links" ] || fail "the purge left units enabled that are gone: $links"
step "removed and purged: people's files, ledger and key stay, and it says where"

# -- installed again beside the old ledger, by the README's own words
in_ apt-get install -y /opt/radsort.deb >"$root/../apt" 2>&1 || { cat "$root/../apt"; fail "the second installation"; }
sed -n '/^## Five minutes/,/^## /p' "$here/../../README.md" | sed -n '/^```sh$/,/^```$/p' | grep -v '^```' >"$root/opt/five-minutes"
[ "$(wc -l <"$root/opt/five-minutes")" -gt 5 ] || fail "the README has no commands"
in_ bash -e /opt/five-minutes >"$root/../five-minutes" 2>&1 || { cat "$root/../five-minutes"; fail "the README's commands"; }
until_ 60 has_records 66 || fail "by the README $(records) are on record, and there were 46 before"
[ "$(in_ bash -c 'ls /srv/radsort/incoming | wc -l')" = 0 ] || fail "by the README files are left in the drop directory"
in_ radsort verify --digests >/dev/null || fail "verify at the end"
step "installed again, with the old ledger: the README's five minutes"
