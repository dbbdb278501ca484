#!/usr/bin/env bash
# Makes .venv and installs the pinned packages into it.
#
#   bash requirements/install.sh [auto|cpu|gpu|no-vllm]
#
# auto (the default) takes the GPU set where nvidia-smi finds a GPU, else the CPU set. no-vllm leaves vLLM out, for
# machines where it cannot be installed: then set `engine: {kind: transformers}` in your profile.
set -euo pipefail
cd "$(dirname "$0")/.."

variant=${1:-auto}
case $variant in
  auto)
    if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then
      variant=gpu
      echo "setup: the GPU packages, because nvidia-smi finds $(nvidia-smi -L | head -n 1)"
    else
      variant=cpu
      echo "setup: the CPU packages, because nvidia-smi finds no GPU"
    fi ;;
  cpu|gpu|no-vllm) echo "setup: the $variant packages, as asked" ;;
  *) echo "setup: VARIANT=$variant is not one of auto, cpu, gpu, no-vllm" >&2; exit 2 ;;
esac

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "setup: $python is $("$python" --version 2>&1 || echo missing), but Python 3.11 or newer is needed." \
       "Name one: make setup PYTHON=python3.12" >&2
  exit 2
fi
"$python" -m venv .venv || {
  echo "setup: the module venv is missing. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; }

pip() { .venv/bin/python -m pip --disable-pip-version-check --quiet "$@"; }
pinned=(-c requirements/constraints.txt -r requirements/base.txt -r requirements/dev.txt)
if [ "$variant" = gpu ]; then
  pip install "${pinned[@]}" -r requirements/gpu.txt
else
  pip install -r requirements/torch.txt
  if [ "$variant" = cpu ]; then
    pip install "${pinned[@]}" -r requirements/cpu.txt
    pip install --no-deps -r requirements/cpu-vllm.txt
  else
    pip install "${pinned[@]}"
  fi
  build=$(.venv/bin/python -c 'import torch; print(torch.__version__)' 2>/dev/null)
  case $build in
    *+cpu) ;;
    *) echo "setup: torch $build is a CUDA build. It works on this CPU, but takes gigabytes of disk; the PyTorch" \
            "project's own index has CPU builds (see its install page), which pip takes if it is your extra index." ;;
  esac
fi

# Code rewards run model-written programs inside bubblewrap; the report's tests drive a Chromium.
system() { # COMMAND PACKAGE WHAT-FOR
  command -v "$1" >/dev/null && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "setup: installing the system's package $2, for $3"
    { apt-get install -y -qq "$2" || { apt-get update -qq && apt-get install -y -qq "$2"; }; } >/dev/null 2>&1 || true
  fi
  command -v "$1" >/dev/null || echo "setup: $1 is missing, which $3 need: install your system's package '$2'."
}
system bwrap bubblewrap "code rewards and the sandbox's tests"
if [ -n "${WITH_BROWSER:-}" ]; then system chromium chromium "the report's tests"; fi
echo "$variant" > .venv/ready
echo "setup: done"
