#!/bin/sh
# Installs minik8s and starts it.
#
#   ./install.sh                      from a clone: builds if need be, installs, starts, waits for the node
#   curl -sfL URL/install.sh | sh -   anywhere else: downloads a release instead of building
#
# Running it again upgrades in place, with the variables of the last time it succeeded where none are given.
# Pods go on running. `minik8s uninstall` takes everything back.
#
# Variables:
#   MINIK8S_URL, MINIK8S_TOKEN       join the cluster of that server instead of starting one; the token is
#                                    not kept once it has joined
#   MINIK8S_*                        any flag of theirs, as `minik8s server --help` names it
#   INSTALL_MINIK8S_EXEC             further flags for `minik8s server` or `minik8s agent`
#   INSTALL_MINIK8S_BASE_URL         where releases are: minik8s-linux-ARCH and minik8s-linux-ARCH.sha256
#   INSTALL_MINIK8S_BIN_DIR          where the program goes [/usr/local/bin]
#   INSTALL_MINIK8S_SKIP_START=true  install only
#   INSTALL_MINIK8S_RUSTUP_URL       where rustup's installer is, for building without a Rust
#                                    [https://sh.rustup.rs]
set -eu
HOME=${HOME:-/root}

etc=/etc/minik8s
note=$etc/installed-files
environment=$etc/minik8s.env
log=/var/log/minik8s.log
# Both are looked at again once it is known what was given the last time.
bin_dir=${INSTALL_MINIK8S_BIN_DIR:-/usr/local/bin}
flags=${INSTALL_MINIK8S_EXEC:-}

# Processor time that building takes from nothing, in minutes (docs/BENCHMARKS.md).
build_minutes=17

say() { echo "minik8s: $*"; }
die() { echo "install.sh: $*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# Variables of the last time count where none are given now.
load_environment() {
  [ -r "$environment" ] || return 0
  while IFS= read -r line; do
    name=${line%%=*}
    if eval "[ -z \"\${$name+set}\" ]"; then eval "export $line"; fi
  done <"$environment"
}

# For the service, and for the next time. Quoted as both shells and systemd read it.
write_environment() {
  mkdir -p "$etc"
  [ ! -e "$environment" ] || [ -e "$environment.before" ] || cp -p "$environment" "$environment.before"
  fresh=$environment.new
  (
    umask 077
    ours='MINIK8S_[A-Z_]*\|INSTALL_MINIK8S_EXEC\|INSTALL_MINIK8S_BIN_DIR'
    for name in $(env | sed -n "s/^\($ours\)=.*/\1/p"); do
      eval "value=\$$name"
      printf '%s="%s"\n' "$name" "$(printf %s "$value" | sed 's/[\\"$`]/\\&/g')"
    done >"$fresh"
  )
  mv "$fresh" "$environment"
  remember "$environment"
}

# Nothing of a run that failed counts for the next one.
forget_environment() {
  if [ -e "$environment.before" ]; then
    mv "$environment.before" "$environment"
  else
    rm -f "$environment"
  fi
}

# An agent takes its token out of the environment's file once it has joined. In the service's own file it
# would stay.
take_token() {
  rest=
  previous=
  for word in $flags; do
    case $previous in
      --token | -t) MINIK8S_TOKEN=$word; previous=; continue ;;
    esac
    previous=
    case $word in
      --token=*) MINIK8S_TOKEN=${word#*=} ;;
      --token | -t) previous=$word ;;
      *) rest="$rest $word" ;;
    esac
  done
  rest=${rest# }
  [ "$rest" != "$flags" ] || return 0
  flags=$rest
  export MINIK8S_TOKEN INSTALL_MINIK8S_EXEC="$flags"
}

# A setting, as the program finds it: a flag, else the variable, else the configuration file, else $2.
# $3: the flag's letter.
setting() {
  previous=
  for word in $flags; do
    case $word in "--$1="*) echo "${word#*=}"; return ;; esac
    case $previous in "--$1" | "-${3:--}") echo "$word"; return ;; esac
    previous=$word
  done
  variable=MINIK8S_$(echo "$1" | tr a-z- A-Z_)
  eval "value=\${$variable:-}"
  if [ -z "$value" ] && [ "$1" != config ] && [ -r "$config" ]; then
    value=$(sed -n "s/^$1: *//p" "$config" | tr -d "\"'" | head -n 1)
  fi
  echo "${value:-$2}"
}

# Whether this machine is to run a node.
runs_node() {
  [ "$command" = server ] || return 0
  case " $flags " in *" --disable-agent "*) return 1 ;; esac
  [ "$(setting disable-agent false)" != true ]
}

# A file that uninstalling is to remove; or a directory (with a slash at the end), if it is empty then.
remember() {
  mkdir -p "$etc"
  [ -e "$note" ] || echo "# data-dir $data_dir" >"$note"
  grep -qxF "$1" "$note" || echo "$1" >>"$note"
}

check() {
  [ "$(uname -s)" = Linux ] || die "this is not Linux"
  [ "$(id -u)" = 0 ] || die "run as root (sudo ./install.sh)"
  case $(uname -m) in
    x86_64) arch=amd64 ;;
    aarch64) arch=arm64 ;;
    *) die "there is no release for $(uname -m); build from a clone" ;;
  esac
  load_environment
  bin_dir=${INSTALL_MINIK8S_BIN_DIR:-$bin_dir}
  flags=${INSTALL_MINIK8S_EXEC:-$flags}
  command=server
  if [ -n "${MINIK8S_URL:-}" ]; then
    command=agent
    take_token
  fi
  config=$(setting config "$etc/config.yaml")
  data_dir=$(setting data-dir /var/lib/minik8s d)
  if [ "$command" = agent ] && [ ! -e "$data_dir/agent/kubelet-client.crt" ]; then
    [ -n "$(setting token "" t)" ] ||
      die "MINIK8S_URL is set but MINIK8S_TOKEN is not; have one made on the server" \
        "('minik8s token create'), or copy its DATA/server/agent-token"
  fi
  node_name=$(setting node-name "$(uname -n | tr A-Z a-z)")
  here=
  case $0 in
    */install.sh | install.sh)
      folder=$(cd "$(dirname "$0")" && pwd)
      if [ -f "$folder/Cargo.toml" ] && [ -d "$folder/embedded-store" ]; then here=$folder; fi
      ;;
  esac
}

# Distribution packages. Lists of packages may be old, or not there at all.
apt_install() {
  export DEBIAN_FRONTEND=noninteractive
  say "installing $*"
  apt-get install -y --no-install-recommends "$@" >/dev/null 2>&1 || {
    apt-get update >/dev/null
    apt-get install -y --no-install-recommends "$@" >/dev/null
  } || die "apt-get could not install: $*"
}

# What the machine lacks. $1: extra packages (for building).
install_packages() {
  missing=
  need() { [ "$1" = yes ] || missing="$missing $2"; }
  found() { if has "$1" || [ -x "/usr/sbin/$1" ]; then echo yes; else echo no; fi; }
  exists() { for file in "$@"; do [ -e "$file" ] && { echo yes; return; }; done; echo no; }
  if runs_node; then
    need "$(found containerd)" containerd
    need "$(found runc)" runc
    need "$(exists /usr/lib/cni/bridge /opt/cni/bin/bridge /usr/libexec/cni/bridge)" \
      containernetworking-plugins
    need "$(found nft)" nftables
    need "$(found iptables)" iptables
    need "$(found ip)" iproute2
  fi
  if [ "$1" = build ]; then
    need "$(found cc)" gcc
    need "$(found make)" make
    need "$(exists /usr/include/stdlib.h)" libc6-dev
    need "$(found protoc)" protobuf-compiler
    need "$(exists /usr/include/google/protobuf/empty.proto)" libprotobuf-dev
  fi
  [ -n "$missing" ] || return 0
  has apt-get || die "please install:$missing (or what your distribution calls them), then run this again"
  # shellcheck disable=SC2086
  apt_install $missing
  # The package starts a containerd for everybody, which nobody has asked for: minik8s runs one of its own.
  case " $missing " in *" containerd "*)
    if [ -d /run/systemd/system ]; then
      systemctl disable --now containerd.service >/dev/null 2>&1 || true
    fi ;;
  esac
}

# $1: address; $2: file
fetch() {
  if has curl; then curl -sfL -o "$2" "$1"; else wget -q -O "$2" "$1"; fi
}
need_fetch() {
  has curl || has wget || {
    has apt-get || die "please install curl, then run this again"
    apt_install curl ca-certificates
  }
}

# cargo of this user, of the one who called sudo, of rustup, or one in the clone.
find_cargo() {
  rust=$here/target/rust
  for cargo in cargo "$HOME/.cargo/bin/cargo" "/home/${SUDO_USER:-nobody}/.cargo/bin/cargo" \
    /usr/local/cargo/bin/cargo; do
    if has "$cargo"; then
      minor=$("$cargo" --version 2>/dev/null | sed -n 's/^cargo 1\.\([0-9]*\).*/\1/p')
      if [ "${minor:-0}" -ge 90 ]; then return 0; fi
    fi
  done
  if has rustup; then
    say "installing a recent Rust with rustup"
    cargo="rustup run stable cargo"
    rustup toolchain install stable --profile minimal >/dev/null && return 0
  fi
  # Everything of it stays below target/, and goes with the clone.
  export CARGO_HOME="$rust/cargo" RUSTUP_HOME="$rust/rustup"
  cargo=$CARGO_HOME/bin/cargo
  [ -x "$cargo" ] && return 0
  need_fetch
  say "fetching a recent Rust with rustup, into $rust"
  mkdir -p "$rust"
  fetch "${INSTALL_MINIK8S_RUSTUP_URL:-https://sh.rustup.rs}" "$rust/rustup.sh" || return 1
  RUSTUP_INIT_SKIP_PATH_CHECK=yes sh "$rust/rustup.sh" -y -q --no-modify-path --profile minimal \
    >/dev/null || return 1
  [ -x "$cargo" ]
}

build() {
  binary=$here/target/release/minik8s
  stale=
  if [ -x "$binary" ]; then
    stale=$(find "$here/src" "$here/embedded-store" "$here/manifests" "$here/Cargo.toml" "$here/Cargo.lock" \
      -newer "$binary" -type f | head -n 1)
    [ -n "$stale" ] || { install_packages run; return 0; }
  fi
  if ! find_cargo; then
    if [ -x "$binary" ]; then
      say "no Rust to build the newer sources with; installing the binary that is there"
      install_packages run
      return 0
    fi
    die "building needs Rust 1.90 or newer, and rustup cannot be fetched:" \
      "install Rust (https://rustup.rs), then run this again"
  fi
  install_packages build
  if [ -d "$here/target/release/deps" ]; then
    say "building what has changed; cargo tells how far it is"
  else
    minutes=$(((build_minutes + $(nproc) - 1) / $(nproc)))
    say "building from nothing: about $minutes minutes on the $(nproc) processors of this machine;" \
      "cargo tells how far it is"
  fi
  (cd "$here" && $cargo build --release --bin minik8s) || die "the build failed; see the messages above"
}

download() {
  [ -n "${INSTALL_MINIK8S_BASE_URL:-}" ] ||
    die "set INSTALL_MINIK8S_BASE_URL to where releases are, or run this from a clone"
  need_fetch
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  name=minik8s-linux-$arch
  say "downloading $name"
  release=$INSTALL_MINIK8S_BASE_URL/$name
  fetch "$release" "$work/minik8s" || die "cannot download $release"
  fetch "$release.sha256" "$work/sum" || die "cannot download $release.sha256"
  wanted=$(cut -d' ' -f1 "$work/sum")
  found=$(sha256sum "$work/minik8s" | cut -d' ' -f1)
  [ "$wanted" = "$found" ] ||
    die "the download's sha256 is $found but should be $wanted; nothing is installed"
  binary=$work/minik8s
  install_packages run
}

install_program() {
  mkdir -p "$bin_dir"
  old=
  [ ! -x "$bin_dir/minik8s" ] || old=$("$bin_dir/minik8s" version 2>/dev/null) || old=
  cp "$binary" "$bin_dir/.minik8s.new"
  chmod 755 "$bin_dir/.minik8s.new"
  mv "$bin_dir/.minik8s.new" "$bin_dir/minik8s"
  remember "$bin_dir/minik8s"
  if ! has kubectl; then
    ln -sf minik8s "$bin_dir/kubectl"
    remember "$bin_dir/kubectl"
    say "kubectl is the bundled one"
  fi
}

systemd_unit() {
  cat <<UNIT
[Unit]
Description=minik8s, a Kubernetes cluster in one executable
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
EnvironmentFile=-$environment
ExecStart=$bin_dir/minik8s $command $(echo "$flags" | sed 's/%/%%/g; s/\$/$$/g')
# Pods and their containerd belong to the node, not to this process: they stay when it is restarted.
KillMode=process
Delegate=yes
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
# A process of a pod that the kernel kills for its memory is the kubelet's business.
OOMPolicy=continue
TimeoutStartSec=0
Restart=always
RestartSec=5s

[Install]
WantedBy=multi-user.target
UNIT
}

openrc_script() {
  cat <<SCRIPT
#!/sbin/openrc-run
description="minik8s, a Kubernetes cluster in one executable"
supervisor=supervise-daemon
command="$bin_dir/minik8s"
command_args="$command $flags"
output_log="$log"
error_log="$log"
respawn_delay=5
respawn_max=0
rc_ulimit="-n 1048576"
[ -f "$environment" ] && set -a && . "$environment" && set +a
depend() {
    need net
    use dns
    after firewall
}
SCRIPT
}

# Makes the service, and starts or restarts it. What keeps it from becoming ready ends this at once.
start() {
  if [ -d /run/systemd/system ] && has systemctl; then
    systemd_unit >/etc/systemd/system/minik8s.service
    remember /etc/systemd/system/minik8s.service
    systemctl daemon-reload
    systemctl enable minik8s.service >/dev/null 2>&1
  elif has rc-service && [ -d /run/openrc ]; then
    openrc_script >/etc/init.d/minik8s
    chmod 755 /etc/init.d/minik8s
    remember /etc/init.d/minik8s
    remember "$log"
    rc-update add minik8s default >/dev/null
  else
    say "there is neither systemd nor openrc: running in the background, until the next reboot"
    remember "$log"
  fi
  why=$("$bin_dir/minik8s" restart --data-dir "$data_dir" 2>&1 >/dev/null) ||
    failed "${why#minik8s restart: }"
}

# A node that has not joined is not to go on trying with values that the next run will not have.
failed() {
  if [ "$command" = server ] && "$bin_dir/minik8s" status --data-dir "$data_dir" >/dev/null 2>&1; then
    # It runs, and what it lacks may come.
    rm -f "$environment.before"
    die "$1"
  fi
  if [ -z "$had_run" ]; then
    "$bin_dir/minik8s" stop --data-dir "$data_dir" >/dev/null 2>&1 || true
    if [ -e /etc/systemd/system/minik8s.service ] && has systemctl; then
      systemctl disable minik8s.service >/dev/null 2>&1 || true
    fi
  fi
  forget_environment
  die "$1"
}

# Links the kubeconfig to where every kubectl looks for it: the server renews it there.
link_kubeconfig() {
  own=$HOME/.kube/config
  secrets='/client-certificate-data:/d; /client-key-data:/d'
  if [ -f "$own" ] && [ ! -L "$own" ] && grep -qxF "$own" "$note" &&
    [ "$(sed "$secrets" "$own")" = "$(sed "$secrets" "$kubeconfig")" ]; then
    # A copy of an earlier version of this script.
    rm "$own"
  fi
  if [ ! -e "$own" ]; then
    [ -d "$HOME/.kube" ] || remember "$HOME/.kube/"
    mkdir -p "$HOME/.kube"
    ln -sf "$kubeconfig" "$own"
    remember "$own"
    say "$own leads to $kubeconfig, which the server keeps current"
  elif ! [ "$own" -ef "$kubeconfig" ]; then
    say "$own is there and is not this cluster's; kubectl reads it first. For this cluster:"
    echo "  export KUBECONFIG=$kubeconfig"
  fi
}

tell() {
  new=$("$bin_dir/minik8s" version)
  case $old in
    '') ;;
    "$new") say "the version is the same as before: $new" ;;
    *) say "upgraded $old to $new" ;;
  esac
  if [ "$command" = agent ]; then
    # The agent removes it too; this is for one that was started by something else.
    unset MINIK8S_TOKEN
    write_environment
    rm -f "$environment.before"
    say "this machine is a Ready node of $MINIK8S_URL"
    return 0
  fi
  rm -f "$environment.before"
  default=$etc/minik8s.yaml
  [ "$data_dir" = /var/lib/minik8s ] || default=$data_dir/server/kubeconfig.yaml
  kubeconfig=$(setting write-kubeconfig "$default")
  say "the cluster is ready"
  link_kubeconfig
  [ -z "$had_run" ] || return 0
  place=
  [ "$data_dir" = /var/lib/minik8s ] || place=" --data-dir $data_dir"
  cat <<TEXT

  kubectl get nodes
  kubectl create deployment web --image=IMAGE --replicas=3
  kubectl get pods -o wide

An image of this machine: docker save IMAGE | minik8s image import -$place
Join another machine: minik8s token create$place prints the line to run there, good for a day
How it is: minik8s status$place
Remove everything: minik8s uninstall$place
TEXT
  [ -n "$had_seal_key" ] || cat <<TEXT

Keep this key elsewhere, snapshots are restored with it. It is shown once, and lies in
$data_dir/server/seal-key:
  $(head -n 1 "$data_dir/server/seal-key")
TEXT
}

# What stands at the head of this file; there is none when it comes through a pipe.
usage() {
  case $0 in
    *install.sh) sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0" ;;
    *) echo "install.sh installs minik8s; save it to a file and run 'sh install.sh --help' to read more" ;;
  esac
}

main() {
  case ${1-} in
    '') ;;
    -h | --help | help) usage; return 0 ;;
    *)
      echo "install.sh: unknown argument $1; flags for minik8s go into INSTALL_MINIK8S_EXEC," \
        "and --help tells more" >&2
      exit 2
      ;;
  esac
  check
  if [ -n "$here" ]; then build; else download; fi
  had_run=
  if [ -e "$data_dir/server/tls" ] || [ -e "$data_dir/agent/kubelet-client.crt" ]; then
    [ ! -e "$environment" ] || had_run=yes
  fi
  install_program
  rm -f "$environment.before"
  write_environment
  [ "${INSTALL_MINIK8S_SKIP_START:-false}" = true ] && { say "installed; not started"; return 0; }
  had_seal_key=
  [ ! -e "$data_dir/server/seal-key" ] || had_seal_key=yes
  start
  tell
}

# At the very end, so that a download that was cut off does nothing.
main "$@"
