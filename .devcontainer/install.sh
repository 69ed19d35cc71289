#!/usr/bin/env bash
# What a new container runs: the package as it is here, and a torch without graphics cards.
set -euo pipefail
python -m pip install --extra-index-url https://download.pytorch.org/whl/cpu -e ".[notebook,test]"
