#!/bin/sh
# After files are unpacked: user and folders, then what ran before an upgrade runs again.
set -e
RUNNING=/run/hisir-edge.running
case "$1" in
configure | abort-upgrade | abort-remove | abort-deconfigure) ;;
*) exit 0 ;;
esac
systemd-sysusers hisir-edge.conf
systemd-tmpfiles --create hisir-edge.conf
# compiled once here: the service cannot write there, and would do it at each start
/opt/hisir-edge/bin/python -m compileall -q -j 0 /opt/hisir-edge/lib >/dev/null 2>&1 || true
for unit in hisir-edge@ hisir-edge-gpu@ hisir-edge-connect@ hisir-edge-view; do
    if [ -e "/etc/systemd/system/$unit.service" ]; then
        echo "hisir-edge: /etc/systemd/system/$unit.service comes before this package's unit; remove it if" \
            "install-service wrote it" >&2
    fi
done
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    # room for the frames of a GigE Vision camera; never less than what is set
    wanted=$(sed -n 's/^net.core.rmem_max = //p' /usr/lib/sysctl.d/60-hisir-edge.conf)
    now=$(cat /proc/sys/net/core/rmem_max 2>/dev/null || echo "$wanted")
    if [ "$now" -lt "$wanted" ]; then
        echo "$wanted" >/proc/sys/net/core/rmem_max 2>/dev/null || true
    fi
    if [ -s "$RUNNING" ]; then
        while read -r unit; do
            systemctl start --no-block "$unit" || echo "hisir-edge: $unit was not started: systemctl status $unit" >&2
        done <"$RUNNING"
    fi
fi
rm -f "$RUNNING"
if [ "$1" = configure ] && [ -z "$2" ]; then
    echo "hisir-edge: next: /etc/hisir-edge/LINE.toml (an example: /usr/share/doc/hisir-edge/line.toml)," \
        "bundles in /var/lib/hisir-edge/bundles, systemctl enable --now hisir-edge@LINE"
fi
