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

# Code rewards run model-written programs inside bubblewrap.
if ! command -v bwrap >/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    { apt-get install -y -qq bubblewrap || { apt-get update -qq && apt-get install -y -qq bubblewrap; }; } >/dev/null 2>&1 || true
  fi
  command -v bwrap >/dev/null || echo "setup: bubblewrap is missing. Code rewards and the tests of the sandbox need it:" \
                                      "install your system's package 'bubblewrap'."
fi
echo "$variant" > .venv/ready
echo "setup: done"
