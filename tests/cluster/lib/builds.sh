# Programs built from Go modules, kept in the cache under a hash of what they were built from.
# shellcheck shell=bash

# Hash of a module's own files and of the compiler: go.sum pins everything else.
module_hash() {
  {
    go version
    echo "$KUBERNETES_VERSION"
    cd "$1" && find . -type f \( -name '*.go' -o -name go.mod -o -name go.sum \) -print0 | sort -z | xargs -0 sha256sum
  } | sha256sum | cut -c1-16
}

progress() {
  [[ -e $1 ]] || return 0
  echo "$(grep -c '^go: downloading' "$1") modules fetched, $(grep -vc '^go: ' "$1") packages compiled"
}

# watch_build WHAT LOG COMMAND...: a line every 15 s, with or without a terminal; on failure the end of the log.
watch_build() {
  local what=$1 log=$2 pid began=$SECONDS reported=$SECONDS
  shift 2
  "$@" >"$log" 2>&1 &
  pid=$!
  # The shell starts such processes deaf to Ctrl-C.
  # shellcheck disable=SC2064
  trap "kill $pid 2>/dev/null" EXIT
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2
    if ((SECONDS - reported >= 15)); then
      reported=$SECONDS
      say "building $what: $((SECONDS - began)) s, $(progress "$log")"
    fi
  done
  trap - EXIT
  if ! wait "$pid"; then
    tail -n 20 "$log" >&2
    die "building $what failed; the whole log is $log"
  fi
  say "built $what in $((SECONDS - began)) s"
}

# build_once WHAT DIRECTORY: one build of a kind at a time; a second one waits, shows the first's progress, and finds its result.
build_once() {
  local what=$1 target=$2 began=$SECONDS
  mkdir -p "$target"
  [[ ! -e $target/complete ]] || return 0
  (
    exec 8>"$CACHE/$what.lock"
    until flock -w 15 8; do
      say "another process builds $what; waiting for $((SECONDS - began)) s, $(progress "$target/build.log")"
    done
    [[ -e $target/complete ]] || "build_$what" "$target" 8>&-
    touch "$target/complete"
    prune "$what"
  )
}

# compile DIRECTORY ARGUMENTS...: becomes the compiler, so that stopping this process stops it.
compile() {
  cd "$1" || return
  shift
  exec env CGO_ENABLED=0 go build -v -buildvcs=false -trimpath "$@"
}

# Old results go once there are three; a running cluster does not mind, its programs are open.
prune() {
  find "$CACHE" -maxdepth 1 -type d -name "$1-*" -printf '%T@ %p\n' | sort -rn | tail -n +4 | cut -d' ' -f2- |
    xargs -r rm -rf
}

build_kube() {
  local target=$1 version=k8s.io/component-base/version
  say "building Kubernetes $KUBERNETES_VERSION (6 to 8 minutes on two cores the first time)"
  watch_build kube "$target/build.log" compile "$HERE/kube" -o "$target/" -ldflags \
    "-s -w -X $version.gitVersion=$KUBERNETES_VERSION -X $version.gitMajor=1 -X $version.gitMinor=34" . ./pause
}

build_dns() {
  local target=$1
  say "building CoreDNS (about 1.5 minutes the first time)"
  watch_build dns "$target/build.log" compile "$HERE/dns" -o "$target/coredns" -ldflags "-s -w" .
}

install_helm() {
  exec env GOBIN="$1" CGO_ENABLED=0 go install -v -buildvcs=false -trimpath -ldflags "-s -w" "helm.sh/helm/v4/cmd/helm@$HELM_VERSION"
}

build_helm() {
  local target=$1
  say "building helm $HELM_VERSION (about 3.5 minutes the first time)"
  watch_build helm "$target/build.log" install_helm "$target"
}

# build [kube|dns|helm]...: builds these, or all; sets KUBE_DIR and DNS_DIR; links the client tools into the cache's bin.
build() {
  local what
  command -v go >/dev/null || die "go is not installed: 1.26 or newer is needed (https://go.dev/dl/)"
  KUBE_DIR=$CACHE/kube-$(module_hash "$HERE/kube")
  DNS_DIR=$CACHE/dns-$(module_hash "$HERE/dns")
  HELM_DIR=$CACHE/helm-$HELM_VERSION
  mkdir -p "$CACHE/bin"
  (($#)) || set -- kube dns helm
  for what; do
    case $what in
      kube)
        build_once kube "$KUBE_DIR"
        ln -sfn "$KUBE_DIR/kube" "$CACHE/bin/kubectl"
        ;;
      dns) build_once dns "$DNS_DIR" ;;
      helm)
        build_once helm "$HELM_DIR"
        ln -sfn "$HELM_DIR/helm" "$CACHE/bin/helm"
        ;;
      *) die "build: \"$what\" is none of kube, dns, helm" ;;
    esac
  done
}
