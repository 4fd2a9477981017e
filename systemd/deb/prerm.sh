#!/bin/sh
# Before files are replaced or removed: nothing runs on while they change under it; boards in hand are judged first.
set -e
RUNNING=/run/hisir-edge.upgrading
if [ -d /run/systemd/system ]; then
    # lines last: who forwards or shows their verdicts waits for them
    units=$(systemctl list-units --plain --no-legend --state=active,activating,reloading 'hisir-edge@*.service' \
        'hisir-edge-gpu@*.service' 'hisir-edge-connect@*.service' hisir-edge-view.service | cut -d ' ' -f 1)
    if [ "$1" = upgrade ]; then
        echo "$units" >"$RUNNING"
    fi
    for unit in $units; do
        systemctl stop "$unit"
    done
fi
find /opt/hisir-edge -name __pycache__ -prune -exec rm -rf {} +
