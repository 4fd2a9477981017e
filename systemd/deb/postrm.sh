#!/bin/sh
# After files are removed. Journal, archive and bundles stay, also when it is purged: they are the plant's records.
set -e
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi
if [ "$1" = remove ] || [ "$1" = purge ]; then
    rm -f /run/hisir-edge.running
fi
if [ "$1" = purge ]; then
    # what systemctl enable has made
    rm -f /etc/systemd/system/*.wants/hisir-edge*.service
    rm -rf /var/cache/hisir-edge
    rmdir /etc/hisir-edge 2>/dev/null || true
    if [ -d /var/lib/hisir-edge ]; then
        echo "hisir-edge: journals, boards and bundles stay in /var/lib/hisir-edge, owned by the user hisir-edge"
    fi
fi
