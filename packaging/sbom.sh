#!/bin/sh
# Writes what radsort is made of, as a CycloneDX 1.5 bill of materials: packaging/sbom.sh [OUT] (target/radsort.cdx.json).
#
# The same commit gives the same file wherever it is built: time and serial number are the commit's, paths of the machine
# are left out. ONNX Runtime, which is carried beside the program, is added with its pinned digest.
set -eu
cd "$(dirname "$0")/.."
out=${1:-target/radsort.cdx.json}
version=0.5.9
if ! cargo cyclonedx --version >/dev/null 2>&1; then
    echo "Installing cargo-cyclonedx" >&2
    cargo install cargo-cyclonedx --version $version --locked --quiet
fi
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH
cargo cyclonedx --format json --spec-version 1.5 --override-filename .radsort-sbom --quiet
trap 'rm -f .radsort-sbom.json' EXIT
python3 - "$out" "$PWD" packaging/onnxruntime.sh <<'PYTHON'
import datetime, json, os, platform, re, sys, uuid
out, here, pins = sys.argv[1:]
text = open(".radsort-sbom.json").read().replace(f"path+file://{here}#", "").replace("?download_url=file://.", "")
bill = json.loads(text)
when = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
bill["metadata"]["timestamp"] = when.strftime("%Y-%m-%dT%H:%M:%SZ")
pins = open(pins).read()
version = re.search(r"^version=(\S+)", pins, re.M).group(1)
digest = re.search(rf"^{platform.machine()}\) sha256=(\w+)", pins, re.M).group(1)
bill["components"].append({
    "type": "library", "bom-ref": "onnxruntime", "name": "onnxruntime", "version": version, "scope": "required",
    "purl": f"pkg:pypi/onnxruntime@{version}", "licenses": [{"license": {"id": "MIT"}}],
    "hashes": [{"alg": "SHA-256", "content": digest}],
})
bill.pop("serialNumber", None)
bill["serialNumber"] = "urn:uuid:" + str(uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bill, sort_keys=True)))
assert "file://" not in json.dumps(bill), "a path of this machine is in the bill"
json.dump(bill, open(out, "w"), indent=1, sort_keys=True)
print(f"{out}: {len(bill['components'])} components")
PYTHON
