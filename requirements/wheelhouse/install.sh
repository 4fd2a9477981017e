#!/bin/sh
# Install hisir-edge from this folder, without a network:
#     sh install.sh /opt/hisir-edge [--python PYTHON] [--system-site-packages | --no-system-site-packages] [--without pycuda]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
want=$(sed -n 's/^ "python": "\(.*\)",$/\1/p' "$here/manifest.json" 2>/dev/null) || want=
[ -n "$want" ] || { echo "expected manifest.json in $here; got none; copy the whole folder again" >&2; exit 2; }
version='import sys; print("%d.%d" % sys.version_info[:2])'
python=
previous=
for argument in "$@"; do
    [ "$previous" = --python ] && python=$argument
    previous=$argument
done
if [ -z "$python" ]; then
    for python in python3 "python$want" none; do
        [ "$("$python" -c "$version" 2>/dev/null)" = "$want" ] && break
    done
fi
got=$("$python" -c "$version" 2>/dev/null) || got="no such program"
if [ "$got" != "$want" ]; then
    echo "expected Python $want, for which this folder was made; got $got ($python); install python$want and its" \
        "python$want-venv, or make the folder with PY=$("python3" -c "$version" 2>/dev/null || echo 3.x)" >&2
    exit 2
fi
exec "$python" "$here/install.py" "$@"
