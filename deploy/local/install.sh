#!/usr/bin/env bash
# Installs the missing packages of the named parts:
#   python, broker, database, monitoring, flower, exporter, compiler, load, engine, node, asyncapi,
#   golang, kubernetes, browser.
# A second run changes nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
log=$(mktemp -t orders-install.XXXXXX)

finish() {
    local status=$?
    remove_policy
    if [ $status -eq 0 ]; then rm -f "$log"; fi
    exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

fail() {
    echo "install: $*" >&2
    exit 1
}

# step TEXT COMMAND...: run a command, print one line for it, write its output to the log.
step() {
    local text=$1 start=$SECONDS
    shift
    printf '  %s … ' "$text"
    if "$@" >>"$log" 2>&1 </dev/null; then
        echo "ok $((SECONDS - start))s"
    else
        echo failed
        fail "$text failed: $(grep -v '^[[:space:]]*$' "$log" | tail -n 1); see $log"
    fi
}

# ---- Debian packages

policy=${POLICY_FILE:-/usr/sbin/policy-rc.d}
policy_is_ours=

# Packages start their services during the installation, on the ports that this system uses, unless
# this file of Debian's forbids it. It forbids it only while this script runs, so a file that is left
# behind by a killed run has no effect, and the next run replaces it. A file without that line is the
# machine's own and stays.
add_policy() {
    if [ -e "$policy" ] && ! grep -qsE '^kill -0 [0-9]+ 2>/dev/null && exit 101$' "$policy"; then
        return 0
    fi
    policy_is_ours=yes
    printf '#!/bin/sh\nkill -0 %s 2>/dev/null && exit 101\nexit 0\n' $$ |
        "${as_root[@]}" sh -c 'cat >"$1" && chmod 755 "$1"' sh "$policy"
}

remove_policy() {
    [ -z "$policy_is_ours" ] || "${as_root[@]}" rm -f "$policy"
    policy_is_ours=
}

become_root() {
    as_root=()
    [ "$(id -u)" -ne 0 ] || return 0
    as_root=(sudo -n)
    "${as_root[@]}" true 2>/dev/null ||
        fail "missing Debian packages; run: sudo apt-get install --no-install-recommends $*"
}

apt_get() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y "$@"
}

install_or_update() {
    apt_get install --no-install-recommends "$@" ||
        { apt_get update && apt_get install --no-install-recommends "$@"; }
}

packages() {
    become_root "$@"
    add_policy
    local package
    for package in "$@"; do
        step "installing $package" install_or_update "$package"
    done
    remove_policy
}

# The services of packages that this script installs must not start at the next boot either.
disable_at_boot() {
    [ -d /run/systemd/system ] || return 0
    "${as_root[@]}" systemctl disable --quiet "$@" >>"$log" 2>&1 || true
}

# ---- parts

python() {
    command -v "$python" >/dev/null || packages python3 python3-venv
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "Python >= 3.11 is required, $python is $("$python" -V 2>&1); set PYTHON=/path/to/python3"
    "$python" -c 'import ensurepip' 2>/dev/null || packages python3-venv

    # A virtual environment does not survive a move: its scripts contain the old path.
    if ! grep -qsF "$PWD/.venv/bin/python" .venv/bin/pip || ! is_current .venv; then
        step "creating .venv" "$python" -m venv --clear .venv
    fi
    local stamp=.venv/.installed wanted
    wanted="$(version "$python") $(sha256sum <requirements/dev.txt) $(sha256sum <deploy/local/install.sh)"
    [ "$(cat $stamp 2>/dev/null)" != "$wanted" ] || return 0
    step "installing Python packages" python_packages .venv requirements/dev.txt
    step "installing the order system" link_project
    echo "$wanted" >$stamp
}

# is_current ENVIRONMENT: whether its Python runs and has the wanted version. It neither survives the
# removal of the Python that created it, nor uses another version's packages.
is_current() {
    [ "$(version "$1/bin/python")" = "$(version "$python")" ]
}

# version PROGRAM: print the version of Python whose packages it uses, or nothing if it does not run.
version() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

# python_packages ENVIRONMENT FILE: install the packages that a lock file pins. uv takes an eighth of
# pip's time. It does not read pip's configuration, which may name another index; where uv fails, pip
# does the work. Both compile the packages: with PYTHONDONTWRITEBYTECODE, each process would compile
# them again at its start, for two thirds of its time.
python_packages() {
    local place=$1 file=$2 index
    local pip=(-m pip --no-input --disable-pip-version-check install --require-hashes -r)
    [ -x .venv/bin/uv ] || .venv/bin/python "${pip[@]}" requirements/installer.txt || true
    index=${PIP_INDEX_URL:-$(.venv/bin/python -m pip config get global.index-url 2>/dev/null || true)}
    UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}} UV_INDEX_URL=${UV_INDEX_URL:-$index} \
        .venv/bin/uv pip install --system-certs --link-mode copy --compile-bytecode --require-hashes \
        --python "$place/bin/python" -r "$file" || "$place/bin/python" "${pip[@]}" "$file"
}

# Like `pip install -e .`, but without its build tools, which a lock file cannot pin.
link_project() {
    echo "$PWD" >"$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/order-system.pth"
    cat >.venv/bin/orderctl <<SCRIPT
#!/bin/sh
'''exec' "$PWD/.venv/bin/python" "\$0" "\$@"
' '''
import sys
from console.orderctl import main
sys.exit(main())
SCRIPT
    chmod 755 .venv/bin/orderctl
}

broker() {
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] && return 0
    packages rabbitmq-server
    disable_at_boot rabbitmq-server.service epmd.service epmd.socket
}

database() {
    local newest
    newest=$(newest_postgresql)
    if [ "$newest" -eq 0 ]; then
        packages postgresql
        disable_at_boot postgresql.service
        newest=$(newest_postgresql)
    fi
    [ "$newest" -ge 15 ] || fail "PostgreSQL >= 15 is required, the newest installed is $newest"
}

newest_postgresql() {
    local newest=0 directory version
    for directory in /usr/lib/postgresql/*/bin; do
        [ -x "$directory/initdb" ] || continue
        version=$(basename "$(dirname "$directory")")
        [ "$version" -le "$newest" ] || newest=$version
    done
    echo "$newest"
}

node() {
    local missing=()
    command -v node >/dev/null || missing+=(nodejs)
    command -v npm >/dev/null || missing+=(npm)
    [ ${#missing[@]} -eq 0 ] || packages "${missing[@]}"
}

# For tests, which are skipped without it: Node.js is not installed for the tests alone.
asyncapi() {
    if ! command -v npm >/dev/null; then
        echo "  npm is missing: tests with the AsyncAPI parser are skipped; to install it: deploy/local/install.sh node"
        return 0
    fi
    node_packages asyncapi contracts/validation
}

# node_packages NAME FOLDER: install the packages of the folder's lock file into .venv/NAME.
node_packages() {
    local place=.venv/$1 stamp=.venv/$1/.installed wanted
    wanted=$(sha256sum <"$2/package-lock.json")
    [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || return 0
    mkdir -p "$place"
    cp "$2/package.json" "$2/package-lock.json" "$place/"
    step "installing $1" npm ci --prefix "$place" --ignore-scripts --no-audit --no-fund
    echo "$wanted" >"$stamp"
}

# For tests and pictures of the console in a browser. The tests are skipped without it, as on a system
# whose Chromium is not a package, so a failed installation is not an error.
browser() {
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null && return 0
    (trap remove_policy EXIT && packages chromium) ||
        echo "  Chromium cannot be installed: tests of the console in a browser are skipped"
}

golang() {
    command -v go >/dev/null || packages golang-go
}

# For tests, like asyncapi: kustomize, and the definitions of the Kubernetes operators' kinds. It must
# follow `python`.
kubernetes() {
    if ! command -v go >/dev/null; then
        echo "  go is missing: tests that build the Kubernetes manifests are skipped; to install it: deploy/local/install.sh golang"
        return 0
    fi
    local place=$PWD/.venv/kubernetes stamp=.venv/kubernetes/.installed wanted
    wanted=$(cat deploy/k8s/validation/{go.mod,go.sum,kinds.py} | sha256sum)
    [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || return 0
    step "building kustomize" env -C deploy/k8s/validation \
        go build -o "$place/kustomize" sigs.k8s.io/kustomize/kustomize/v5
    step "fetching the kinds of operators" \
        .venv/bin/python -m deploy.k8s.validation.kinds "$place/kinds"
    echo "$wanted" >"$stamp"
}

monitoring() {
    command -v prometheus >/dev/null && return 0
    packages prometheus
    disable_at_boot prometheus.service
}

# For tests that give a process its own wall clock: they preload a small C library.
compiler() {
    command -v gcc >/dev/null && return 0
    packages gcc libc6-dev
}

# For measurements: a load generator that costs far less than the measured system, and Python packages
# that only measurements need. It must follow `python`.
load() {
    command -v wrk >/dev/null || packages wrk

    local stamp=.venv/.bench wanted
    wanted=$(sha256sum <requirements/bench.txt)
    [ "$(cat $stamp 2>/dev/null)" != "$wanted" ] || return 0
    step "installing Python packages for measurements" \
        python_packages .venv requirements/bench.txt
    echo "$wanted" >$stamp
}

# Docker, Compose, and the tool that builds images without a registry.
engine() {
    local missing=()
    command -v dockerd >/dev/null || missing+=(docker.io)
    command -v docker-compose >/dev/null || missing+=(docker-compose)
    command -v debootstrap >/dev/null || missing+=(debootstrap)
    [ ${#missing[@]} -eq 0 ] || packages "${missing[@]}"
    # In Debian 13 it is a separate package.
    command -v docker >/dev/null || packages docker-cli
    [ ${#missing[@]} -eq 0 ] || disable_at_boot docker.service docker.socket containerd.service
}

# In its own virtual environment, so that no other process can import it.
flower() {
    own_environment flower requirements/flower.txt
}

# In its own virtual environment, because its pinned versions are older.
exporter() {
    if ! "$python" -c 'import sys; sys.exit(sys.version_info >= (3, 13))'; then
        echo "  celery-exporter does not support Python 3.13 and later: its metrics will be missing"
        return 0
    fi
    own_environment exporter requirements/exporter.txt
}

# own_environment NAME FILE: install the packages that a lock file pins into .venv/NAME. It must follow
# `python`.
own_environment() {
    local place=.venv/$1 stamp=.venv/$1/.installed wanted
    wanted="$(version "$python") $(sha256sum <"$2")"
    if is_current "$place" && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then return 0; fi
    step "creating $place" "$python" -m venv --clear "$place"
    step "installing $1" python_packages "$place" "$2"
    echo "$wanted" >"$stamp"
}

for part in "$@"; do
    case $part in
    python | broker | database | monitoring | flower | exporter | compiler) "$part" ;;
    load | engine | node | asyncapi | golang | kubernetes | browser) "$part" ;;
    *) fail "unknown part: $part" ;;
    esac
done
