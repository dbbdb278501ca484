#!/usr/bin/env bash
# Makes .venv and installs the pinned packages into it.
#
#   bash requirements/install.sh [auto|cpu|gpu|no-vllm] [EXTRA …]
#
# auto (the default) takes the GPU set where nvidia-smi finds a GPU, else the CPU set. no-vllm leaves vLLM out, for
# machines where it cannot be installed: then set `engine: {kind: transformers}` in your profile. An extra is the name
# of a file beside this one, such as `puzzles`. What is done already is not done again.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "setup: $python is $("$python" --version 2>&1 || echo missing), but Python 3.11 or newer is needed." \
       "Name one: make setup PYTHON=python3.12" >&2
  exit 2
fi
exec "$python" requirements/install.py "$@"
