# Names, places and addresses of one cluster. Everything else reads them; nothing else invents a path.
# shellcheck shell=bash disable=SC2034

NAME=${OUTRIGGER_CLUSTER:-outrigger}
[[ $NAME =~ ^[a-z][a-z0-9-]{0,30}$ ]] ||
  { echo "OUTRIGGER_CLUSTER is \"$NAME\": up to 31 lower-case letters, digits and dashes, a letter first" >&2; exit 2; }

CACHE=${OUTRIGGER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/outrigger}
# Not under the cache: containerd and the kubelet put UNIX sockets below it, whose paths may have 107 characters.
STATE=/var/lib/outrigger-clusters/$NAME
LOCK=$CACHE/cluster-$NAME.lock
PIDS=$STATE/run
LOGS=$STATE/log
PKI=$STATE/pki

NETNS=outrigger-$NAME
CGROUP=outrigger-$NAME
# Clusters live in namespaces of their own, so all of them use the same addresses.
BRIDGE=pods0
BRIDGE_MAC=02:00:00:00:00:01
NODE=node
NODE_ADDRESS=10.244.0.1
POD_RANGE=10.244.0.0/24
SERVICE_RANGE=10.96.0.0/24
API_SERVICE_ADDRESS=10.96.0.1
DNS_ADDRESS=10.96.0.10
API_PORT=6443
ETCD_PORT=2379

API_SOCKET=$STATE/api.sock
CONTAINERD_SOCKET=$STATE/containerd/containerd.sock
# One kubeconfig for the host (loopback), one for programs inside the cluster's network namespace (node address).
HOST_KUBECONFIG=$STATE/kubeconfig
INNER_KUBECONFIG=$STATE/identity/admin.kubeconfig

KUBERNETES_VERSION=v1.34.3
HELM_VERSION=v4.3.1
PAUSE_IMAGE=localhost/pause:1
DNS_IMAGE=localhost/coredns:1
VOLUME_COUNT=12

say() { echo "cluster $NAME: $*" >&2; }
die() { say "$*"; exit 1; }
