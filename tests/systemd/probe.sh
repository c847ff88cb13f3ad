#!/bin/bash
# What the place that this runs in allows; one line "probe NAME: ANSWER" each.
probe() {
    local name=$1
    shift
    if answer=$("$@" 2>&1); then echo "probe $name: yes ${answer//$'\n'/ }"; else echo "probe $name: no ${answer//$'\n'/ }"; fi
}
write() { echo x >"$1/probe-$$" && rm "$1/probe-$$"; }
connect() { exec 3<>/dev/tcp/127.0.0.1/9; }
others() { for process in /proc/[0-9]*; do [ "$(stat -c %u "$process" 2>/dev/null || echo 0)" = "$(id -u)" ] || echo "$process"; done | grep -c /proc; }
probe write-state write /var/lib/radsort
probe write-library write /srv/radsort/library
probe write-elsewhere write /srv/other
probe write-observed write /srv/observed
probe write-tmp-of-all test -e /tmp/of-all
probe read-home cat /home/alice/letter
probe network connect
probe privileges test "$(/usr/local/bin/setuid-id -u)" = 0
probe processes-of-others others
