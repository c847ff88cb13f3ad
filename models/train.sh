#!/bin/sh
# Makes models/spine-phantom/ anew, by what radsort itself brings: a first bundle from nothing (two rounds on phantoms drawn
# alike under every treatment), then `radsort retrain` on 7650 other phantoms, most with the imbalance of Mulford et al. 2024.
# The promise that it carries is made on 4500 fresh phantoms, one image a patient.
# Three hours on two cores, 20 GB of disk under target/model/. What is there already is not made again.
set -eu
cd "$(dirname "$0")/.."
radsort=target/release/radsort
work=$PWD/target/model
mkdir -p "$work/library" "$work/drop" "$work/images"
mkdir -p "$work/state" && chmod 700 "$work/state"

if [ ! -d "$work/first" ]; then
    $radsort train-phantom-bundle --out "$work/round"
    $radsort train-phantom-bundle --from "$work/round" --seed 20262000 --epochs 8 --learning-rate 0.001 --out "$work/first.new"
    mv "$work/first.new" "$work/first"
fi

# draw NAME COUNT IMBALANCE SEED SYNTAX [SIZE]
draw() {
    [ -d "$work/images/$1" ] && return
    $radsort phantom --count "$2" --imbalance "$3" --seed "$4" --syntax "$5" ${6:+--size "$6"} --layout by-category \
        --out "$work/images/$1.new"
    mv "$work/images/$1.new" "$work/images/$1"
}
draw p1 2500 paper 20263100 explicit 500x750
draw p2 2000 paper 20263200 explicit 600x850
draw p3 1500 paper 20263300 explicit 700x950
draw e1 1500 even 20263400 explicit 550x800
draw f1 150 even 20263500 jpeg

# One list; the patients of another seed are other people.
{
    echo sop_instance_uid,category,patient,view
    for set in p1 p2 p3 e1 f1; do
        tail -n +2 "$work/images/$set/labels.csv"
    done
} >"$work/images/labels.csv"

cat >"$work/radsort.toml" <<TOML
[library]
path = "$work/library"
[state]
path = "$work/state"
[[watch]]
name = "drop"
path = "$work/drop"
[model]
bundle = "$work/first"
TOML
$radsort retrain --config "$work/radsort.toml" --labels "$work/images/labels.csv" --complete --mode full --epochs 10 \
    --batch 20 --learning-rate 0.0004 --backbone-rate 1 --device cpu --seed 7 --as-version 1.1.0 --out "$work/bundle"
draw fresh 4500 even 20281129 mixed 1250x1800
rm -rf "$work/certified"
$radsort evaluate --bundle "$work/bundle" --labels "$work/images/fresh/labels.csv" --complete --target 0.02 --unseen \
    --certified "$work/certified" --as-version 1.1.1
rm -rf models/spine-phantom
cp -r "$work/certified" models/spine-phantom
