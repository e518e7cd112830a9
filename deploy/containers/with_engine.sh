#!/usr/bin/env bash
# with_engine.sh COMMAND...: runs a command with a private Docker Engine, which is removed afterwards.
# Exits with the command's status, or with 75 and a reason if no engine can run here.
set -euo pipefail
here=$(dirname "$0")

none() {
    echo "with_engine: $*" >&2
    exit 75
}

[ "$(id -u)" -eq 0 ] || none "only root can start a Docker Engine"
"$here/../local/install.sh" engine || none "Docker cannot be installed"

# Not under /tmp, which may be in memory: an image has hundreds of megabytes.
home=$(mktemp -d /var/tmp/orders-engine.XXXXXX)
bridge=$(ls -d /sys/class/net/docker0 2>/dev/null || true)
export DOCKER_HOST=unix://$home/socket
# The engine does not change this machine's firewall and routing: published ports use its proxy. Its mounts are in
# a private namespace, and end with it.
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
