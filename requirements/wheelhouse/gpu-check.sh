#!/bin/sh
# Everything that needs a GPU, without a network, within nine minutes:
#     sh gpu-check.sh [--out FOLDER] [--python PYTHON] [--minutes 9] [OPTION OF check.py ...]
# FOLDER (gpu-check in the folder that it is started from) gets gpu-check.json, written again after each step, the traces,
# gpu-check.log (what is on the screen) and steps.log (all that the steps said). The environment that it makes is removed.
set -u
here=$(cd "$(dirname "$0")" && pwd)
begun=$(date +%s)
out=gpu-check
python=
minutes=9
while [ $# -gt 0 ]; do
    case $1 in
    --out | --python | --minutes)
        [ $# -gt 1 ] || { echo "expected a value for $1; got none" >&2; exit 2; }
        case $1 in --out) out=$2 ;; --python) python=$2 ;; --minutes) minutes=$2 ;; esac
        shift 2
        ;;
    *) break ;;
    esac
done
mkdir -p "$out" && out=$(cd "$out" && pwd) && [ -w "$out" ] ||
    { echo "expected a folder to write to; got $out; give another --out" >&2; exit 2; }
work=$(mktemp -d "${TMPDIR:-/tmp}/hisir-gpu-check-XXXXXX") || exit 2
check=
trap 'rm -rf "$work"' EXIT
trap '[ -z "$check" ] || { kill "$check" 2>/dev/null; wait "$check"; }; exit 143' INT TERM HUP

mkfifo "$work/said"
tee "$out/gpu-check.log" <"$work/said" &
tee=$!
exec 3>"$work/said"
sh "$here/install.sh" "$work/venv" --check --without pycuda ${python:+--python "$python"} >&3 2>&1
if ! "$work/venv/bin/python" -I -c 'import hisir_edge' 2>/dev/null; then
    echo '{"machine": {}, "failed": "hisir-edge was not installed; see gpu-check.log"}' >"$out/gpu-check.json"
    echo "expected hisir-edge to be installed from $here; got what is above" >&3
    code=2
else
    PATH="/usr/local/cuda/bin:$PATH" XDG_CACHE_HOME="$work/cache" "$work/venv/bin/python" \
        "$here/check/tests/gpu/check.py" --wheelhouse "$here" --prepared "$here/check/prepared" --work "$work/steps" \
        --out "$out" --begun "$begun" --minutes "$minutes" "$@" >&3 2>&1 &
    check=$!
    wait "$check"
    code=$?
    check=
fi
exec 3>&-
wait "$tee"
exit "$code"
