#!/usr/bin/env bash
# Measure answering on a GPU in under 9 minutes, with nothing to fetch: see docs/benchmarks.md, "How fast answers come".
#
#   bench/gpu.sh OUT                      one NVIDIA GPU of 96 GB or more: Qwen2.5-VL-7B's shape, 32k tokens, bf16
#   FLOWMM_GPU_SIZE=small bench/gpu.sh OUT  the same steps on the CPU with a tiny model, to see that they work
#
# Needs Python 3.11 or later with torch, transformers, tokenizers, safetensors, numpy, pillow, typer, rich, pyyaml,
# xxhash, jinja2, fsspec and platformdirs. Where pydantic is missing, put its wheels into bench/wheels before:
#   pip download --only-binary=:all: --python-version 3.12 --platform manylinux2014_x86_64 -d bench/wheels pydantic
# OUT gets graphs.txt, eager.json, graphs.json and speed.md.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:?give a folder for the results}
mkdir -p "$out"
out=$(cd "$out" && pwd)
python=${PYTHON:-python3}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

if ! "$python" -c "import pydantic" 2>/dev/null; then
  libraries=$(mktemp -d)
  "$python" -m pip install --quiet --no-index --no-deps --target "$libraries" bench/wheels/*.whl
  export PYTHONPATH="$PYTHONPATH:$libraries"
fi

if [ "${FLOWMM_GPU_SIZE:-full}" = small ]; then
  subject=(--shape qwen2_5_vl-tiny --device cpu)
  eager=(--context 300 --keep 0.1 --batch 1,4 --repeat 1 --new-tokens 4 --method snapkv)
  graphs=("${eager[@]}")
  limits=(600 600 600)
else
  subject=(--shape qwen2_5_vl_7b --device cuda --dtype bf16)
  eager=(--context 32768 --keep 0.05 --batch 1,64 --repeat 5 --new-tokens 32 --method snapkv)
  graphs=(--context 32768 --keep 0.2,0.1,0.05 --batch 1,8,32,64 --repeat 5 --new-tokens 32 --method snapkv --graphs)
  limits=(20 160 340)
fi

echo "# Speed on a GPU" > "$out/speed.md"
# Each step has its own limit, and one that fails does not take the others along: 520 seconds at most on a GPU.
failed=0
step() {
  local seconds=$1 file=$2
  shift 2
  echo "== $*" >&2
  timeout "$seconds" "$python" "$@" > "$out/$file" || { echo "failed: $*" >&2; failed=1; }
}
step "${limits[0]}" graphs.txt bench/check_graphs.py
step "${limits[1]}" eager.json -m flowmm_cli bench speed "${subject[@]}" "${eager[@]}" --json -q
step "${limits[2]}" graphs.json -m flowmm_cli bench speed "${subject[@]}" "${graphs[@]}" --json -q --markdown "$out/speed.md"
exit "$failed"
