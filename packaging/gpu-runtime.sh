#!/bin/sh
# gpu-runtime.sh DIR-OF-WHEELS OUT: puts ONNX Runtime with CUDA and the NVIDIA libraries that it needs into one folder, which is
# then copied to the site as /usr/local/lib/radsort-gpu. Each wheel must be one that gpu-runtime.sha256 names (or the file
# that GPU_RUNTIME_SHA256 names), with its digest. See docs/offline-gpu.md.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
wheels=${1:-} out=${2:-}
out=${out%/}
list=${GPU_RUNTIME_SHA256:-$here/gpu-runtime.sha256}
if [ ! -d "$wheels" ] || [ -z "$out" ]; then
    echo "usage: gpu-runtime.sh DIR-OF-WHEELS OUT   (make gpu-runtime WHEELS=DIR OUT=DIR)" >&2
    exit 2
fi
if [ -e "$out" ]; then
    echo "$out is there already: name a folder that is not." >&2
    exit 1
fi
# All of them first: half a runtime is none.
grep -v '^#' "$list" | while read -r digest name; do
    if [ ! -f "$wheels/$name" ]; then
        echo "$wheels/$name is missing (docs/offline-gpu.md says how to get it)." >&2
        exit 1
    fi
    found=$(sha256sum "$wheels/$name" | cut -d' ' -f1)
    if [ "$found" != "$digest" ]; then
        echo "$wheels/$name has SHA-256 $found, expected $digest; nothing was made." >&2
        exit 1
    fi
done
part=$out.part
rm -rf "$part"
mkdir -p "$part/licences"
trap 'rm -rf "$part"' EXIT
grep -v '^#' "$list" | while read -r _ name; do
    mkdir "$part/wheel"
    python3 -m zipfile -e "$wheels/$name" "$part/wheel"
    find "$part/wheel" -name '*.so*' -path '*capi*' ! -name '*pybind*' -exec mv {} "$part/" \;
    find "$part/wheel" -name '*.so*' -path '*/lib/*' -exec mv {} "$part/" \;
    find "$part/wheel" -type f \( -iname 'licen[cs]e*' -o -iname 'ThirdPartyNotices*' \) | while read -r file; do
        cp "$file" "$part/licences/${name%%-*}-$(basename "$file")"
    done
    rm -rf "$part/wheel"
done
library=$(find "$part" -maxdepth 1 -name 'libonnxruntime.so.*' | head -n 1)
if [ -z "$library" ]; then
    echo "There is no libonnxruntime.so in these wheels." >&2
    exit 1
fi
[ -e "$part/libonnxruntime.so" ] || ln -s "$(basename "$library")" "$part/libonnxruntime.so"
# Complete? Each library that one of them asks for is in the folder, belongs to any system, or to NVIDIA's driver. (TensorRT's
# own, which radsort does not use, does not count.)
if command -v readelf >/dev/null; then
    for file in "$part"/*.so*; do
        case "$file" in *tensorrt*) continue ;; esac
        readelf -d "$file" 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'
    done | sort -u | while read -r needed; do
        case "$needed" in
        libc.so.6 | libm.so.6 | libdl.so.2 | libpthread.so.0 | librt.so.1 | ld-linux-* | libgcc_s.so.1 | libstdc++.so.6 | libz.so.1) ;;
        libcuda.so.1) ;;
        *)
            [ -e "$part/$needed" ] || {
                echo "$needed is missing: a wheel that brings it has to be added to $list." >&2
                exit 1
            }
            ;;
        esac
    done
fi
# shellcheck disable=SC2094 # it is not among what is read
(cd "$part" && find . -type f ! -name SHA256SUMS -exec sha256sum {} + | sort -k 2 >SHA256SUMS)
mv "$part" "$out"
trap - EXIT
echo "$out is ready: copy it to the site as /usr/local/lib/radsort-gpu (there: sha256sum -c SHA256SUMS)"
