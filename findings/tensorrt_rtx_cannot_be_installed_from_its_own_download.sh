#!/bin/sh
# tensorrt-rtx 1.7.1.116: of its four packages two have no wheel. tensorrt-rtx and tensorrt-rtx-cu13 hold metadata alone
# and are published as sources; bindings and libraries are wheels. So what "pip download tensorrt-rtx" fetches cannot be
# installed on a machine without a network: pip wants to build the two, and setuptools is not among the files.
# Seen: 2 archives and 2 wheels; pip install --no-index ends with "No matching distribution found for setuptools".
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q download -d "$folder/files" tensorrt-rtx==1.7.1.116 2>/dev/null
ls "$folder/files"
[ "$(ls "$folder/files" | grep -c '\.tar\.gz$')" = 2 ] && [ "$(ls "$folder/files" | grep -c '\.whl$')" = 2 ] || {
    echo "the behaviour has changed: other files"; exit 1; }
python3 -m venv "$folder/offline"
if PIP_FIND_LINKS= "$folder/offline/bin/pip" --isolated install --no-index --find-links "$folder/files" \
    tensorrt-rtx==1.7.1.116 >"$folder/said" 2>&1; then
    echo "the behaviour has changed: it was installed"; exit 1
fi
grep -m1 'No matching distribution found for setuptools' "$folder/said"
