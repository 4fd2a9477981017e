#!/bin/sh
# Before files are unpacked: an installation that dpkg does not know is not to be mixed with this one.
set -e
if [ "$1" = install ] && [ -e /opt/hisir-edge/pyvenv.cfg ]; then
    echo "hisir-edge: expected no hisir-edge in /opt/hisir-edge that was installed otherwise; got one;" \
        "move it away: mv /opt/hisir-edge /opt/hisir-edge-before" >&2
    exit 1
fi
