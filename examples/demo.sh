#!/usr/bin/env bash
# The demonstration: a real cluster, the operator, a real extension, an action's result. usage: demo.sh up|down
set -euo pipefail

cd "$(dirname "$0")/.."
CACHE=${OUTRIGGER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/outrigger}
DEMO=$CACHE/demo
IMAGE=${IMAGE:-localhost/outrigger:dev}
CLUSTER=tests/cluster/cluster
GIT_PORT=18091
REDFISH_PORT=18092

# Bold and faint on a terminal, plain elsewhere.
BOLD='' FAINT='' PLAIN=''
[[ ! -t 1 ]] || BOLD=$'\033[1m' FAINT=$'\033[2m' PLAIN=$'\033[0m'

say() { printf '\n%s\n' "$BOLD$*$PLAIN"; }

# Shows a command as one would type it, then runs it.
show() {
  echo "$FAINT\$$PLAIN $*"
  "$@"
}

# Starts a program of tests/servers inside the cluster's network, unless it runs already.
serve() {
  local name=$1 program=$2
  shift 2
  stop "$name"
  setsid nohup "$CLUSTER" exec "$PWD/tests/servers/$program" "$@" >"$DEMO/$name.log" 2>&1 </dev/null &
  echo $! >"$DEMO/$name.pid"
  for _ in $(seq 300); do
    grep -q '^listening on ' "$DEMO/$name.log" && return 0
    kill -0 "$(<"$DEMO/$name.pid")" 2>/dev/null || break
    sleep 0.1
  done
  echo "$program did not start:" >&2
  cat "$DEMO/$name.log" >&2
  return 1
}

# Stops a server by the process id that was noted, if that process is still ours.
stop() {
  local pid
  pid=$(cat "$DEMO/$1.pid" 2>/dev/null) || return 0
  if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q tests/servers; then
    kill -- "-$pid" 2>/dev/null || kill "$pid" 2>/dev/null || true
  fi
  rm -f "$DEMO/$1.pid"
}

# The example as a git repository, as its author would publish it.
publish() {
  local bare=$DEMO/git/redfish.git work=$DEMO/work
  rm -rf "$bare" "$work"
  mkdir -p "$DEMO/git" "$work"
  cp -r examples/redfish/. "$work"
  git init -q --bare -b main "$bare"
  git -C "$work" init -q -b main
  git -C "$work" add -A
  git -C "$work" -c user.name=Demo -c user.email=demo@example.com commit -qm "Redfish extension"
  git -C "$work" push -q "$bare" main
}

# A certificate for the emulated BMC, valid for the cluster's address.
certificate() {
  [[ -s $DEMO/bmc.crt ]] && openssl x509 -in "$DEMO/bmc.crt" -noout -checkip "$1" -checkend 86400 2>/dev/null |
    grep -q 'does match' && return 0
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$DEMO/bmc.key" -out "$DEMO/bmc.crt" \
    -days 30 -subj "/CN=bmc" -addext "subjectAltName=IP:$1" 2>/dev/null
}

extension() {
  cat <<EOF
apiVersion: outrigger.dev/v1alpha1
kind: OrchestratorExtension
metadata: {name: redfish}
spec:
  source: {url: http://$1:$GIT_PORT/redfish.git, refs: main}
EOF
}

target() {
  cat <<EOF
apiVersion: v1
kind: Secret
metadata: {name: bmc-1, namespace: outrigger-system}
stringData:
  username: admin
  password: demo-password
  ca_bundle: |
$(sed 's/^/    /' "$DEMO/bmc.crt")
---
apiVersion: outrigger.dev/v1alpha1
kind: ExtensionTarget
metadata: {name: server-1}
spec:
  extensionRef: {name: redfish}
  host: {url: "https://$1:$REDFISH_PORT"}
  hostFrom: [{secretRef: {name: bmc-1}}]
  allowedNamespaces: {names: [team-a]}
EOF
}

run() {
  cat <<EOF
apiVersion: outrigger.dev/v1alpha1
kind: ActionRun
metadata: {generateName: $1-, namespace: team-a}
spec:
  extensionRef: {name: redfish}
  action: $2
  targetRef: {name: server-1}
  parameters: {${3:-}}
EOF
}

# Creates a run, waits for its end, and shows what came of it.
act() {
  local name
  say "$4"
  run "$1" "$2" "$3"
  name=$(run "$1" "$2" "$3" | kubectl create -f - -o name)
  show kubectl -n team-a wait --for=condition=Complete --timeout=120s "$name"
  kubectl -n team-a get "$name"
  kubectl -n team-a get "$name" -o jsonpath='{.status.result}' | jq .
}

up() {
  local address
  hack/prerequisites demo
  mkdir -p "$DEMO"
  say "1/6  A Kubernetes cluster (a first build takes about 10 minutes, later ones seconds)"
  make cluster-up
  say "2/6  The image"
  make image
  "$CLUSTER" load "$IMAGE" >/dev/null
  eval "$("$CLUSTER" env)"
  address=$("$CLUSTER" address)

  say "3/6  The operator, by its chart"
  show helm upgrade --install outrigger charts/outrigger --namespace outrigger-system --create-namespace \
    --set "image.repository=${IMAGE%:*},image.tag=${IMAGE##*:}" --set "fetch.allowAddresses={$address/32}" --wait

  say "4/6  A git server with the Redfish example, and an emulated server to act on"
  publish
  certificate "$address"
  serve git git-server --bind "$address" --port "$GIT_PORT" --root "$DEMO/git"
  serve redfish sushy --bind "$address" --port "$REDFISH_PORT" --cert "$DEMO/bmc.crt" --key "$DEMO/bmc.key"
  cat "$DEMO/git.log" "$DEMO/redfish.log"

  say "5/6  The extension, as a resource"
  extension "$address" | tee /dev/stderr | kubectl apply -f -
  show kubectl wait --for=condition=Ready orchestratorextension/redfish --timeout=60s
  show kubectl get orchestratorextension redfish
  kubectl create namespace team-a --dry-run=client -o yaml | kubectl apply -f - >/dev/null
  target "$address" | kubectl apply -f -

  say "6/6  Actions"
  act status status "" "Is the server on?"
  act start start "" "Switch it on."
  act status status "" "And now?"
  act boot SetBootDevice "device: Pxe" "Let it boot from the network next time."

  say "It all stays up. Next:"
  cat <<EOF
  eval "\$($CLUSTER env)"                             # kubectl and helm, for this cluster
  kubectl -n team-a get actionruns
  kubectl describe orchestratorextension redfish
  kubectl explain actionrun.spec
  kubectl -n outrigger-system logs deployment/outrigger
  make clean-demo                                    # undo everything
EOF
}

down() {
  local environment
  if environment=$("$CLUSTER" env 2>/dev/null); then
    eval "$environment"
    kubectl delete namespace team-a --ignore-not-found --timeout=60s || true
    kubectl delete extensiontargets,orchestratorextensions --all --timeout=60s || true
    helm uninstall outrigger --namespace outrigger-system --ignore-not-found --wait || true
    kubectl delete namespace outrigger-system --ignore-not-found --timeout=60s || true
    kubectl delete crd -l app.kubernetes.io/part-of=outrigger --ignore-not-found || true
  fi
  stop git
  stop redfish
  # a cluster of the user's own, given by KUBECONFIG, stays
  [[ -n $OWN_CLUSTER ]] || make cluster-down
  rm -rf "$DEMO"
}

OWN_CLUSTER=${KUBECONFIG:-}
[[ $OWN_CLUSTER != /var/lib/outrigger-clusters/* ]] || OWN_CLUSTER=''
case ${1:-} in
  up) up ;;
  down) down ;;
  *)
    echo "usage: $0 up|down" >&2
    exit 2
    ;;
esac
