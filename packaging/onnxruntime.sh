#!/bin/sh
# Puts ONNX Runtime's CPU library where radsort finds it: .runtime/libonnxruntime.so in this checkout.
# It comes out of the PyPI wheel, through pip as it is configured here (proxies, mirrors, find-links all count);
# ONNXRUNTIME_WHEEL=FILE takes a wheel that is already there. Version and SHA-256 are pinned below.
set -eu
cd "$(dirname "$0")/.."

version=1.32.0
case "$(uname -m)" in
x86_64) sha256=5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d platform=manylinux_2_28_x86_64 ;;
aarch64) sha256=2303372a85299b6757b0e11e1cbf13e410ddf7e10c37f4b37e99d1c90e7daf7c platform=manylinux_2_28_aarch64 ;;
*)
    echo "ONNX Runtime: no pinned wheel for $(uname -m). Put a libonnxruntime.so (>= 1.22) at .runtime/libonnxruntime.so yourself." >&2
    exit 1
    ;;
esac

stamp=.runtime/onnxruntime-$version-$sha256
if [ -f "$stamp" ] && [ -f .runtime/libonnxruntime.so ]; then
    exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
wheel=${ONNXRUNTIME_WHEEL:-}
if [ -z "$wheel" ]; then
    echo "ONNX Runtime $version: downloading its wheel with pip (about 28 MB)"
    # The library inside is the same for every Python; one Python's wheel is named so that one digest can be pinned.
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --platform "$platform" --implementation cp --python-version 3.11 --abi cp311 \
        --dest "$work" "onnxruntime==$version" || {
        echo "ONNX Runtime: pip could not download onnxruntime==$version. Without internet: copy its cp311 wheel" >&2
        echo "  ($platform, SHA-256 $sha256) here and call: ONNXRUNTIME_WHEEL=FILE make runtime" >&2
        exit 1
    }
    wheel=$(echo "$work"/onnxruntime-*.whl)
fi
found=$(sha256sum "$wheel" | cut -d' ' -f1)
if [ "$found" != "$sha256" ]; then
    echo "ONNX Runtime: $wheel has SHA-256 $found, expected $sha256; it is not used." >&2
    exit 1
fi
python3 -m zipfile -e "$wheel" "$work/unpacked"
mkdir -p .runtime
cp "$work/unpacked/onnxruntime/LICENSE" .runtime/LICENSE.onnxruntime
cp "$work/unpacked/onnxruntime/ThirdPartyNotices.txt" .runtime/ThirdPartyNotices.onnxruntime.txt 2>/dev/null || true
cp "$work/unpacked/onnxruntime/capi/libonnxruntime.so.$version" .runtime/libonnxruntime.so.new
mv .runtime/libonnxruntime.so.new .runtime/libonnxruntime.so
touch "$stamp"
echo "ONNX Runtime $version is at .runtime/libonnxruntime.so"
