#!/usr/bin/env bash
# Writes the model in the formats of the installed peers, beside its folder.
#
#     bench/peers/convert.sh [FOLDER]      (default: $PAGODA_PEERS/models/qwen2.5-0.5b)
#
# What is there already is left alone. Nothing is downloaded.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
peers=${PAGODA_PEERS:-${CARGO_TARGET_DIR:-$root/target}/peers}
model=${1:-$peers/models/qwen2.5-0.5b}
model=${model%/}
export HF_HUB_OFFLINE=1

if [ -x "$peers/venv/llamacpp/bin/python" ]; then
    "$peers/venv/llamacpp/bin/python" "$here/convert_gguf.py" "$model" q8_0 q4_0 q4_k_m
fi

# int8 is per channel; int4 is symmetric in groups of 128 with embedding and head in int8, the exporter's own choice.
if [ -x "$peers/venv/export/bin/optimum-cli" ]; then
    for format in fp16 int8 int4; do
        out=$model.openvino-$format
        [ -f "$out/openvino_model.bin" ] && continue
        extra=()
        [ $format = int4 ] && extra=(--ratio 1.0 --group-size 128)
        "$peers/venv/export/bin/optimum-cli" export openvino --model "$model" --task text-generation-with-past \
            --weight-format $format "${extra[@]}" "$out"
    done
fi

if [ -x "$peers/venv/vllm/bin/python" ]; then
    "$peers/venv/vllm/bin/python" "$here/quantize_w8a8.py" "$model"
fi
