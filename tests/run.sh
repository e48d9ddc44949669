#!/usr/bin/env bash
# Installs what the tests need and runs all of them. `--long` adds the long ones (soak, hundreds of kills).
#
#   tests/run.sh            everything that belongs in front of every change; within 40 minutes on two cores
#   tests/run.sh --long     the same, then what takes hours
#
# Ends with cargo's own result lines, and with a non-zero status if any test failed.
set -euo pipefail
cd "$(dirname "$0")/.."

long=false
for argument in "$@"; do
  case $argument in
    --long) long=true ;;
    *) echo "tests/run.sh: unknown argument $argument; the only one is --long" >&2; exit 2 ;;
  esac
done

# command (or file) and the Debian package that brings it
need="
protoc                       protobuf-compiler
/usr/include/google/protobuf/empty.proto libprotobuf-dev
cc                           gcc
containerd                   containerd
runc                         runc
/usr/lib/cni/bridge          containernetworking-plugins
nft                          nftables
iptables                     iptables
ip                           iproute2
nsenter                      util-linux
busybox                      busybox-static
etcdctl                      etcd-client
etcd                         etcd-server
curl                         curl
openssl                      openssl
pgrep                        procps
setpriv                      util-linux
"
missing=()
while read -r what package; do
  [ -n "$what" ] || continue
  case $what in
    /usr/lib/cni/bridge) [ -e "$what" ] || [ -e /opt/cni/bin/bridge ] || missing+=("$package") ;;
    /*) [ -e "$what" ] || missing+=("$package") ;;
    *) command -v "$what" >/dev/null 2>&1 || [ -x "/usr/sbin/$what" ] || missing+=("$package") ;;
  esac
done <<<"$need"
if [ ${#missing[@]} -gt 0 ]; then
  if ! command -v apt-get >/dev/null; then
    echo "tests/run.sh: please install: ${missing[*]}" >&2
    exit 1
  fi
  [ "$(id -u)" = 0 ] || { echo "tests/run.sh: run as root, or install: ${missing[*]}" >&2; exit 1; }
  export DEBIAN_FRONTEND=noninteractive
  # Packages that start a service of their own must not: the tests start what they need.
  policy=/usr/sbin/policy-rc.d
  [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; trap 'rm -f "$policy"' EXIT; }
  apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null ||
    { apt-get update >/dev/null && apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null; }
fi
command -v cargo >/dev/null || { echo "tests/run.sh: cargo is missing; install Rust 1.90 or newer" >&2; exit 1; }

started=$SECONDS
status=0
if $long; then export MINIK8S_LONG=1; fi

# The integration tests run this binary.
cargo build --bin minik8s || exit 1
cargo test --workspace --exclude minik8s-tests --no-fail-fast -- --test-threads=4 || status=1
cargo test -p minik8s-tests --test tidy || status=1
# One node per network namespace, and figures that mean something: one at a time.
cargo test -p minik8s-tests --lib --test it -- --test-threads=1 || status=1

echo "tests/run.sh: $([ $status = 0 ] && echo passed || echo FAILED) in $((SECONDS - started)) s"
exit $status
