#!/usr/bin/env bash
# Runs the fuzz targets one after the other, after `cargo +nightly fuzz build --fuzz-dir fuzz`.
#
#     fuzz/run.sh [SECONDS [TARGET...]]      (default: 600 seconds of each)
#
# PAGODA_FUZZ_TARGET is the target folder of the build where it is not fuzz/target. Ends with the number of targets that failed.
set -uo pipefail

cd "$(dirname "$0")"
seconds=${1:-600}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(safetensors gguf configs tokenizers templates constraints requests outputs)
# Files of the targets that read files lie in memory; what never ends is known by its time.
[ -d /dev/shm ] && export TMPDIR=/dev/shm
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=0}
failed=0
for target in "${targets[@]}"; do
    mkdir -p "corpus/$target" "artifacts/$target"
    binary=$(ls -t "${PAGODA_FUZZ_TARGET:-target}"/*/release/"$target" | head -n 1)
    echo "== $target"
    "$binary" "corpus/$target" "seeds/$target" -artifact_prefix="artifacts/$target/" -max_total_time="$seconds" \
        -timeout=30 -rss_limit_mb=2048 -malloc_limit_mb=512 -max_len=65536 -print_final_stats=1 2>"artifacts/$target.log"
    if [ $? -ne 0 ]; then
        failed=$((failed + 1))
        echo "failed: artifacts/$target.log"
    fi
    grep -h "^stat::\|^SUMMARY" "artifacts/$target.log"
    rm -rf "${TMPDIR:-/tmp}"/pagoda-hostile-*
done
exit "$failed"
