#!/usr/bin/env bash
# Install kvpress, with the PyTorch that flowmm has, in an environment of its own; print that environment's Python.
#
#   bench/peers/kvpress.sh FOLDER        FOLDER/bin/python, for: bench/peers/compare.py --kvpress FOLDER/bin/python
set -euo pipefail
folder=${1:?give a folder for the environment}
torch=$(grep '^torch==' "$(dirname "$0")/../../constraints.txt")

"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet "$torch" kvpress >&2
echo "$folder/bin/python"
