#!/bin/bash
# Runs each fuzz target for FUZZ_SECONDS (600), FUZZ_JOBS (1) at a time, from its seeds and corpus; prints a table.
# TARGETS="header jpeg" runs only these. What crashes lies in fuzz/artifacts/, and the exit status is 1.
set -u
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-600}
work=${FUZZ_WORK:-target/fuzz}
bin=fuzz/target/x86_64-unknown-linux-gnu/release
targets=${TARGETS:-$(sed -n '/^\[\[bin\]\]/{n;s/name = "\(.*\)"/\1/p}' fuzz/Cargo.toml)}
if [ -z "${FUZZ_BUILT:-}" ]; then
	cargo +nightly fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz || exit 2
	(cd fuzz && cargo +nightly fuzz build) || exit 2
	RADSORT_FUZZ_SEEDS="$PWD/$work" cargo test --quiet --locked --no-default-features --features failpoints \
		--test fuzzing write_seeds -- --ignored >/dev/null || exit 2
fi
# Fuzzes one target; its row goes to a file.
one() {
	target=$1
	mkdir -p "$work/$target" "fuzz/corpus/$target" "fuzz/artifacts/$target"
	log=$work/$target.log
	# CharLS is known to compute for ever over some streams (fuzz/jailed/): the jail's CPU limit is the wall, go on.
	known=
	[ "$target" = jpeg_ls ] && known="-fork=1 -ignore_timeouts=1 -timeout=5"
	begun=$SECONDS
	"$bin/$target" -max_total_time="$seconds" -timeout=20 $known -rss_limit_mb=3000 -max_len=20000 -use_value_profile=1 \
		-print_final_stats=1 -artifact_prefix="fuzz/artifacts/$target/" "$work/$target" "fuzz/corpus/$target" >"$log" 2>&1
	code=$?
	took=$((SECONDS - begun))
	executions=$(sed -n 's/^stat::number_of_executed_units: //p' "$log")
	[ -n "$executions" ] || executions=$(sed -n 's/^#\([0-9]*\): .*/\1/p' "$log" | tail -1)
	edges=$(grep -ao 'cov: [0-9]*' "$log" | tail -1 | cut -d' ' -f2)
	result=clean
	# What was passed over does not show in the exit status.
	timeouts=$(grep -ao 'oom/timeout/crash: [0-9/]*' "$log" | tail -1 | cut -d/ -f4)
	if [ -n "$known" ] && { [ $code -eq 70 ] || [ $code -eq 0 ]; } && [ "${timeouts:-0}" -gt 0 ]; then
		result="$timeouts timeouts, as known"
	elif [ $code -ne 0 ]; then
		result="CRASHED, see $log"
	fi
	printf '%-18s %9s %12s %8s %8s %7s  %s\n' "$target" "$took" "${executions:-?}" \
		"$((${executions:-0} / (took > 0 ? took : 1)))" "${edges:-?}" "$(ls "$work/$target" | wc -l)" "$result"
	echo "[\"\`$target\`\", \"$took\", \"${executions:-?}\", \"${edges:-?}\", \"$result\"]" >"$work/$target.row"
}
printf '%-18s %9s %12s %8s %8s %7s  %s\n' target seconds executions a/s edges corpus result
export -f one
export work seconds bin
for target in $targets; do rm -f "$work/$target.row"; done
# shellcheck disable=SC2016
printf '%s\n' $targets | xargs -P "${FUZZ_JOBS:-1}" -I{} bash -c 'one {}'
status=0
rows=
for target in $targets; do
	row=$(cat "$work/$target.row") || row=
	case $row in *CRASHED* | "") status=1 ;; esac
	rows="$rows${rows:+,} $row"
done
# As tests/common/figures.rs does; a run of some targets is none of all.
if [ -n "${RADSORT_FIGURES:-}" ] && [ -z "${TARGETS:-}" ]; then
	mkdir -p "$RADSORT_FIGURES"
	cat >"$RADSORT_FIGURES/fuzz.json" <<JSON
{"date": "$(date +%F)", "commit": "$(git describe --always --dirty)", "build": "release build, address sanitizer",
 "cores": "$(nproc)", "load": "$(cut -d' ' -f3 /proc/loadavg)",
 "columns": ["target", "seconds", "executions", "edges", "result"], "rows": [$rows]}
JSON
fi
exit $status
