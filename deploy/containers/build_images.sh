#!/usr/bin/env bash
# Builds stand-ins for the official images from Debian packages, for machines without a registry:
#   orders-local/rabbitmq:3.10   orders-local/rabbitmq:4.0   orders-local/postgres:17
#   orders-local/prometheus:2    orders-local/mail:1
#   orders-local/python:3.11     (the BASE_IMAGE of deploy/Dockerfile)
# By default all of them, otherwise those that are named: build_images.sh rabbitmq:4.0 postgres:17
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

# debian SUITE: the base image of the others.
debian() {
    local image=orders-local/debian:$1
    exists "$image" && return 0
    echo "building $image"
    debootstrap --variant=minbase --include=ca-certificates "$1" "$work/$1" "$mirror" >"$work/log" ||
        { tail -n 5 "$work/log" >&2; exit 1; }
    rm -rf "$work/$1"/var/cache/apt/archives/*.deb "$work/$1"/var/lib/apt/lists/*
    # No fsync: an image that is incomplete after a crash of the machine is built again.
    echo force-unsafe-io >"$work/$1/etc/dpkg/dpkg.cfg.d/unsafe-io"
    tar -C "$work/$1" --one-file-system -c . | docker import - "$image" >/dev/null
    rm -rf --one-file-system "${work:?}/$1"
}

# image NAME SUITE
image() {
    local name=orders-local/$1
    exists "$name" && return 0
    debian "$2"
    echo "building $name"
    # The host's network and its certificate authorities, for hosts behind a proxy.
    mkdir -p "$work/context"
    cp -- *.Dockerfile docker-entrypoint.sh mailpit /etc/ssl/certs/ca-certificates.crt "$work/context/"
    docker build --quiet --network host --build-arg "BASE_IMAGE=orders-local/debian:$2" \
        --file "$work/context/${1%%:*}.Dockerfile" --tag "$name" "$work/context" >"$work/log" 2>&1 ||
        { tail -n 5 "$work/log" >&2; exit 1; }
}

for name in "${@:-all}"; do
    for known in rabbitmq:3.10=bookworm rabbitmq:4.0=trixie postgres:17=trixie python:3.11=bookworm \
        prometheus:2=bookworm mail:1=bookworm; do
        case $name in
        all | "${known%=*}") image "${known%=*}" "${known#*=}" ;;
        esac
    done
    [ "$name" = all ] || exists "orders-local/$name" ||
        { echo "build_images: unknown image: $name" >&2; exit 64; }
done
docker image ls --filter 'reference=orders-local/*'
