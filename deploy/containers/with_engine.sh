#!/usr/bin/env bash
# with_engine.sh COMMAND...: runs a command with a Docker Engine of its own, of which nothing stays.
# Ends with the command's status; with 75 and a reason when there can be no engine here.
set -euo pipefail
here=$(dirname "$0")

none() {
    echo "with_engine: $*" >&2
    exit 75
}

[ "$(id -u)" -eq 0 ] || none "only root can start a Docker Engine"
"$here/../local/install.sh" engine || none "Docker cannot be installed"

# Not under /tmp, which may be in memory: images have hundreds of megabytes.
home=$(mktemp -d /var/tmp/orders-engine.XXXXXX)
bridge=$(ls -d /sys/class/net/docker0 2>/dev/null || true)
export DOCKER_HOST=unix://$home/socket
# It changes nothing of this machine's firewall and routing: published ports go through its proxy. What it mounts
# goes with it, as nobody else sees it.
setpriv --pdeathsig TERM unshare --mount dockerd --host "$DOCKER_HOST" --pidfile "$home/pid" \
    --data-root "$home/data" --exec-root "$home/exec" --iptables=false --ip6tables=false --ip-forward=false \
    >"$home/log" 2>&1 </dev/null &
engine=$!

end() {
    kill $engine 2>/dev/null && wait $engine || true
    rm -rf --one-file-system "$home" || echo "left behind: $home" >&2
    [ -n "$bridge" ] || ip link delete docker0 2>/dev/null || true
}
trap end EXIT
trap 'exit 130' INT TERM

for _ in {1..60}; do
    kill -0 $engine 2>/dev/null || none "dockerd ended: $(tail -n 1 "$home/log")"
    ! docker info >/dev/null 2>&1 || break
    sleep 1
done
docker info >/dev/null 2>&1 || none "dockerd does not answer: $(tail -n 1 "$home/log")"

"$@"
