#!/bin/sh
# Everything that needs a GPU, without a network, within ten minutes:
#     sh gpu-check.sh [--out FOLDER] [--python PYTHON] [--minutes 10] [OPTION OF check.py ...]
# FOLDER (gpu-check in the folder that it is started from) gets gpu-check.json, written again after each step, the traces
# and gpu-check.log. The environment that it makes is removed.
set -u
here=$(cd "$(dirname "$0")" && pwd)
begun=$(date +%s)
out=gpu-check
python=
minutes=10
while [ $# -gt 0 ]; do
    case $1 in
    --out) out=$2; shift 2 ;;
    --python) python=$2; shift 2 ;;
    --minutes) minutes=$2; shift 2 ;;
    *) break ;;
    esac
done
mkdir -p "$out" || exit 2
out=$(cd "$out" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/hisir-gpu-check-XXXXXX") || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
rm -f "$out/gpu-check.json"
{
    sh "$here/install.sh" "$work/venv" --check --without pycuda ${python:+--python "$python"} 2>&1
    [ -x "$work/venv/bin/python" ] || { echo "no environment: the check cannot begin"; exit 2; }
    PATH="/usr/local/cuda/bin:$PATH" XDG_CACHE_HOME="$work/cache" "$work/venv/bin/python" \
        "$here/check/tests/gpu/check.py" --wheelhouse "$here" --prepared "$here/check/prepared" --work "$work/steps" \
        --out "$out" --begun "$begun" --minutes "$minutes" "$@" 2>&1
    echo $? >"$work/code"
} | tee "$out/gpu-check.log"
exit "$(cat "$work/code" 2>/dev/null || echo 2)"
