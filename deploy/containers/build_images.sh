#!/usr/bin/env bash
# Builds stand-ins for the official images from Debian packages, where no registry can be reached:
#   orders-local/rabbitmq:3.10   orders-local/rabbitmq:4.0   orders-local/postgres:17
#   orders-local/prometheus:2    orders-local/mail:1
#   orders-local/python:3.11     (the BASE_IMAGE of deploy/Dockerfile)
# Needs root, debootstrap and a running Docker Engine. A second run builds only what is missing.
set -euo pipefail
cd "$(dirname "$0")"
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

[ "$(id -u)" -eq 0 ] || { echo "build_images: must run as root, for debootstrap" >&2; exit 1; }
for program in docker debootstrap; do
    command -v $program >/dev/null || { echo "build_images: $program is missing" >&2; exit 1; }
done

work=$(mktemp -d -t orders-images.XXXXXX)
trap 'rm -rf --one-file-system "$work"' EXIT

exists() { docker image inspect "$1" >/dev/null 2>&1; }

# debian SUITE: the bare system that the others are built on.
debian() {
    local image=orders-local/debian:$1
    exists "$image" && return 0
    echo "building $image"
    debootstrap --variant=minbase --include=ca-certificates "$1" "$work/$1" "$mirror" >"$work/log" ||
        { tail -n 5 "$work/log" >&2; exit 1; }
    rm -rf "$work/$1"/var/cache/apt/archives/*.deb "$work/$1"/var/lib/apt/lists/*
    tar -C "$work/$1" --one-file-system -c . | docker import - "$image" >/dev/null
    rm -rf --one-file-system "${work:?}/$1"
}

# image NAME SUITE DOCKERFILE
image() {
    local name=orders-local/$1
    exists "$name" && return 0
    debian "$2"
    echo "building $name"
    # The host's network and its certificate authorities: a proxy may stand in between.
    mkdir -p "$work/context"
    cp -- *.Dockerfile docker-entrypoint.sh mailpit /etc/ssl/certs/ca-certificates.crt "$work/context/"
    docker build --quiet --network host --build-arg "BASE_IMAGE=orders-local/debian:$2" \
        --file "$work/context/$3" --tag "$name" "$work/context" >/dev/null
}

image rabbitmq:3.10 bookworm rabbitmq.Dockerfile
image rabbitmq:4.0 trixie rabbitmq.Dockerfile
image postgres:17 trixie postgres.Dockerfile
image python:3.11 bookworm python.Dockerfile
image prometheus:2 bookworm prometheus.Dockerfile
image mail:1 bookworm mail.Dockerfile
docker image ls --filter 'reference=orders-local/*'
