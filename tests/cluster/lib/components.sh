# Kubernetes' components: the configuration and command line of each, in the order in which they start.
# shellcheck shell=bash

kube() { "$KUBE_DIR/kube" "$@"; }
# From inside, so that it does not matter whether the way in from the host is there yet.
inner_kubectl() { inside "$KUBE_DIR/kube" kubectl --kubeconfig "$INNER_KUBECONFIG" "$@"; }

start_etcd() {
  local client=http://127.0.0.1:$ETCD_PORT peer=http://127.0.0.1:$((ETCD_PORT + 1))
  # Without fsync: a cluster for tests need not survive a power cut.
  start_inside etcd "$KUBE_DIR/kube" etcd --name "$NODE" --data-dir "$STATE/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls "$client" --advertise-client-urls "$client" \
    --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "$NODE=$peer"
}

start_apiserver() {
  start_inside apiserver "$KUBE_DIR/kube" kube-apiserver \
    --etcd-servers="http://127.0.0.1:$ETCD_PORT" \
    --bind-address="$NODE_ADDRESS" --advertise-address="$NODE_ADDRESS" --secure-port="$API_PORT" \
    --service-cluster-ip-range="$SERVICE_RANGE" --allow-privileged \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" --client-ca-file="$PKI/ca.crt" \
    --kubelet-client-certificate="$PKI/kubelet-client.crt" --kubelet-client-key="$PKI/kubelet-client.key" \
    --kubelet-certificate-authority="$PKI/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file="$PKI/serviceaccounts.pub" \
    --service-account-signing-key-file="$PKI/serviceaccounts.key" \
    --requestheader-client-ca-file="$PKI/ca.crt" --requestheader-allowed-names=front-proxy \
    --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
    --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --proxy-client-cert-file="$PKI/front-proxy.crt" --proxy-client-key-file="$PKI/front-proxy.key"
}

start_containerd() {
  cat >"$STATE/containerd/config.toml" <<TOML
version = 2
root = "$STATE/containerd/root"
state = "$STATE/containerd/state"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt"]
[grpc]
  address = "$CONTAINERD_SOCKET"
[ttrpc]
  address = "$CONTAINERD_SOCKET.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$PAUSE_IMAGE"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$STATE/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "$STATE/registries"
TOML
  start_inside containerd containerd --config "$STATE/containerd/config.toml"
}

start_controller_manager() {
  # The claim binder's default period of 15 s is most of the time in which a first pod with a volume starts.
  start_inside controller-manager "$KUBE_DIR/kube" kube-controller-manager \
    --kubeconfig="$STATE/identity/controller-manager.kubeconfig" --use-service-account-credentials \
    --leader-elect=false --bind-address=127.0.0.1 --secure-port=0 \
    --root-ca-file="$PKI/ca.crt" --service-account-private-key-file="$PKI/serviceaccounts.key" \
    --cluster-signing-cert-file="$PKI/ca.crt" --cluster-signing-key-file="$PKI/ca.key" \
    --pvclaimbinder-sync-period=1s --kube-api-qps=200 --kube-api-burst=400
}

start_scheduler() {
  start_inside scheduler "$KUBE_DIR/kube" kube-scheduler \
    --kubeconfig="$STATE/identity/scheduler.kubeconfig" \
    --leader-elect=false --bind-address=127.0.0.1 --secure-port=0 --kube-api-qps=200 --kube-api-burst=400
}

make_cgroups() {
  local hierarchy
  if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
    mkdir -p "/sys/fs/cgroup/$CGROUP"
    return
  fi
  for hierarchy in /sys/fs/cgroup/*/; do
    # Version 1, and in mixed mode next to it an empty "unified".
    [[ ! -e $hierarchy/cgroup.procs || $hierarchy == */unified/ ]] || mkdir -p "$hierarchy$CGROUP"
  done
}

start_kubelet() {
  make_cgroups
  # Nothing outside answers names in here, and the host's search domains are no business of the pods.
  echo "options ndots:5" >"$STATE/resolv.conf"
  cat >"$STATE/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $PKI/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $PKI/kubelet-server.crt
tlsPrivateKeyFile: $PKI/kubelet-server.key
address: $NODE_ADDRESS
readOnlyPort: 0
healthzPort: 0
clusterDomain: cluster.local
clusterDNS: [$DNS_ADDRESS]
resolvConf: $STATE/resolv.conf
containerRuntimeEndpoint: unix://$CONTAINERD_SOCKET
cgroupDriver: cgroupfs
cgroupRoot: /$CGROUP
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
podLogsDir: $STATE/pod-logs
podPidsLimit: 2048
maxPods: 200
evictionHard: {memory.available: 100Mi, nodefs.available: "1%", imagefs.available: "1%", nodefs.inodesFree: "1%"}
imageGCHighThresholdPercent: 100
imageMinimumGCAge: 1000h
kubeAPIQPS: 200
kubeAPIBurst: 400
YAML
  start_inside kubelet "$KUBE_DIR/kube" kubelet --config="$STATE/kubelet.yaml" \
    --kubeconfig="$STATE/identity/kubelet.kubeconfig" --root-dir="$STATE/kubelet" --cert-dir="$STATE/kubelet/pki" \
    --hostname-override="$NODE" --node-ip="$NODE_ADDRESS"
}

start_proxy() {
  local masquerade=false
  # It watches its configuration and exits when that is written again, even with the same content.
  is_alive proxy && return
  # Without the bridge filter, replies between pods of one bridge would bypass the address translation.
  [[ -e /proc/sys/net/bridge/bridge-nf-call-iptables ]] || masquerade=true
  cat >"$STATE/proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
nftables: {masqueradeAll: $masquerade}
clientConnection: {kubeconfig: $STATE/identity/proxy.kubeconfig}
clusterCIDR: $POD_RANGE
hostnameOverride: $NODE
bindAddress: $NODE_ADDRESS
healthzBindAddress: ""
metricsBindAddress: "$NODE_ADDRESS:10249"
nodePortAddresses: ["$NODE_ADDRESS/32"]
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
oomScoreAdj: 0
YAML
  start_inside proxy "$KUBE_DIR/kube" kube-proxy --config="$STATE/proxy.yaml"
}

node_is_ready() {
  [[ $(inner_kubectl get node "$NODE" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}') == True ]]
}

# All that others see of a node that is lost: kubelet says nothing more, and what ran in these pods is gone.
lose_node() {
  local uid
  signal STOP kubelet
  for uid; do
    find /sys/fs/cgroup -path "*/$CGROUP/*$uid*" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -un |
      xargs -r kill -9 2>/dev/null || true
  done
}

find_node() {
  signal CONT kubelet
  wait_for 120 "ready node" node_is_ready
}

start_components() {
  start_etcd
  start_apiserver
  start_containerd
  wait_for 30 containerd containerd_answers
  load_own_images
  wait_for 90 "API server" inner_kubectl get --raw /readyz
  start_controller_manager
  start_scheduler
  start_kubelet
  start_proxy
  wait_for 90 "ready node" node_is_ready
  wait_for 30 "default service account" inner_kubectl get serviceaccount default
}

start_dns() {
  local wanted have
  wanted=$(sha256sum <"$HERE/dns/deploy.yaml")
  have=$(cat "$STATE/dns-applied" 2>/dev/null || true)
  if [[ $wanted != "$have" ]]; then
    sed "s/@DNS_ADDRESS@/$DNS_ADDRESS/; s#@DNS_IMAGE@#$DNS_IMAGE#" "$HERE/dns/deploy.yaml" | inner_kubectl apply -f - >/dev/null
    echo "$wanted" >"$STATE/dns-applied"
  fi
  wait_for 60 "name server" dns_is_ready
}

dns_is_ready() { [[ $(inner_kubectl -n kube-system get deployment coredns -o 'jsonpath={.status.readyReplicas}') == 1 ]]; }
