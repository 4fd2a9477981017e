#!/bin/sh
# Install hisir-edge from this folder, without a network:
#     sh install.sh /opt/hisir-edge [--python PYTHON] [--system-site-packages | --no-system-site-packages] [--without pycuda]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
want=$(sed -n 's/^ "python": "\(.*\)",$/\1/p' "$here/manifest.json" 2>/dev/null) || want=
[ -n "$want" ] || { echo "expected manifest.json in $here; got none; copy the whole folder again" >&2; exit 2; }
[ -f "$here/install.py" ] || { echo "expected install.py in $here; got none; copy the whole folder again" >&2; exit 2; }
version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo "no such program"; }
python=
previous=
for argument in "$@"; do
    case $argument in --python=*) python=${argument#--python=} ;; esac
    [ "$previous" = --python ] && python=$argument
    previous=$argument
done
if [ -z "$python" ]; then
    python=python3
    [ "$(version python3)" = "$want" ] || [ "$(version "python$want")" != "$want" ] || python=python$want
fi
got=$(version "$python")
if [ "$got" != "$want" ]; then
    echo "expected Python $want, for which this folder was made; got $got ($python); install python$want and" \
        "python$want-venv, or make the folder for the Python that is here (PY)" >&2
    exit 2
fi
exec "$python" -I "$here/install.py" "$@"
