#!/usr/bin/env bash
# Install llama.cpp, built for this processor, in an environment of its own; print that environment's Python.
#
#   bench/peers/llama_cpp.sh FOLDER      FOLDER/bin/python, for: bench/peers/compare.py --llama-cpp FOLDER/bin/python
#
# Needs cmake, a C++ compiler and a package registry. CMAKE_BUILD_PARALLEL_LEVEL=1 builds with one process at a time.
set -euo pipefail
folder=${1:?give a folder for the environment}

"${PYTHON:-python3}" -m venv "$folder"
# Without the image part, which decoding does not use; GGML_NATIVE takes every instruction this processor has.
export CMAKE_ARGS="-DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAVA_BUILD=OFF"
"$folder/bin/python" -m pip install --quiet --no-binary llama-cpp-python llama-cpp-python gguf >&2
echo "$folder/bin/python"
