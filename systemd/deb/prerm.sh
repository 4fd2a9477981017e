#!/bin/sh
# Before files are replaced or removed: nothing runs on while they change under it; boards in hand are judged first.
set -e
RUNNING=/run/hisir-edge.running
if [ -d /run/systemd/system ]; then
    # what is started again after an upgrade, or where a removal is broken off
    systemctl list-units --plain --no-legend --state=active,activating,reloading 'hisir-edge@*.service' \
        'hisir-edge-gpu@*.service' 'hisir-edge-connect@*.service' hisir-edge-view.service | cut -d ' ' -f 1 >"$RUNNING"
    while read -r unit; do
        systemctl stop "$unit" || echo "hisir-edge: $unit was not stopped: systemctl status $unit" >&2
    done <"$RUNNING"
fi
if [ -d /opt/hisir-edge ]; then
    find /opt/hisir-edge -name __pycache__ -prune -exec rm -rf {} +
fi
