#!/usr/bin/env bash
# From two cameras on a holder to a network trained on what they saw: the whole way, on a simulated rig.
# With phones of your own, `rig capture` or `rig import` takes the place of `rig simulate`; the rest stays.
# usage: examples/rig.sh FOLDER [SCENES] [STEPS]
set -euo pipefail
out=${1:?a folder for the results}
scenes=${2:-24} steps=${3:-160}
held_out=$((scenes / 4 > 0 ? scenes / 4 : 1))
board=(--board charuco --squares 9 6 --square-mm 25)
lens=(--profile generic-phone --focus 0.8 --pixel-pitch-um 8.8)

# what a rig would be worth, before it is built
dualpix rig plan --profile generic-phone --pixel-pitch-um 8.8 --width 640 -o "$out/plan.png"

# boards to calibrate with, scenes to learn from, and others to be judged by; the rig is the same
dualpix rig simulate -o "$out/train" "${board[@]}" --seed 7 --boards 30 --scenes "$scenes"
dualpix rig simulate -o "$out/test" "${board[@]}" --seed 7 --boards 0 --scenes "$held_out" --first-scene "$scenes"

dualpix rig calibrate "$out/train/boards" -o "$out/rig.json" "${board[@]}"
dualpix rig rectify "$out/train/scenes" --rig "$out/rig.json" -o "$out/rectified"
dualpix rig label "$out/train/scenes" --rig "$out/rig.json" -o "$out/data" "${lens[@]}"
dualpix rig label "$out/test/scenes" --rig "$out/rig.json" -o "$out/held-out" "${lens[@]}"

dualpix train -o "$out/tuned" --network dplive --init dplive --data "$out/data" --validate "$out/held-out" \
    --crop 160 224 --steps "$steps" --batch-size 4 --learning-rate 3e-4 --workers 0
dualpix evaluate "$out/held-out" --data labelled --working-size 640 --pictures "$out/pictures" \
    --model dplive --model "$out/tuned"
