#!/usr/bin/env bash
# Install kvpress with PyTorch for the CPU in an environment of its own; print that environment's Python.
#
#   bench/peers/kvpress.sh FOLDER        FOLDER/bin/python, for: bench/peers/compare.py --kvpress FOLDER/bin/python
set -euo pipefail
folder=${1:?give a folder for the environment}

"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet torch --extra-index-url https://download.pytorch.org/whl/cpu >&2
"$folder/bin/python" -m pip install --quiet kvpress >&2
echo "$folder/bin/python"
