# The cluster's own network namespace and the one way into it from the host: a UNIX socket, which crosses namespaces.
# shellcheck shell=bash

# Not `ip netns exec`: that mounts a fresh /sys and hides the cgroups.
inside() { nsenter --net="/run/netns/$NETNS" "$@"; }

# After a reboot the file may be there without the namespace.
namespace_exists() { [[ -e /run/netns/$NETNS ]] && inside true 2>/dev/null; }

make_network() {
  if ! namespace_exists; then
    rm -f "/run/netns/$NETNS"
    ip netns add "$NETNS"
  fi
  inside ip link set lo up
  # The node's address is the bridge's, which exists before any pod: pods, API server and kubelet share it.
  inside ip link show "$BRIDGE" >/dev/null 2>&1 || inside ip link add "$BRIDGE" type bridge
  # A bridge without an address of its own takes the lowest of its ports' and changes it as pods come and go. A pod that
  # learnt the old one in the second before went on sending to it, as long as what it had from Services confirmed it.
  inside ip link set "$BRIDGE" address "$BRIDGE_MAC"
  inside ip address replace "$NODE_ADDRESS/24" dev "$BRIDGE"
  inside ip link set "$BRIDGE" up
  # There is no default route; the API server calls webhooks at Service addresses, so those need one.
  inside ip route replace "$SERVICE_RANGE" dev "$BRIDGE"
  # shellcheck disable=SC2016  # /proc/sys/net is that of the process which opens it
  inside bash -c 'echo 1 >/proc/sys/net/ipv4/ip_forward
    file=/proc/sys/net/bridge/bridge-nf-call-iptables; [[ ! -e $file ]] || echo 1 >$file'
  write_cni_configuration
}

write_cni_configuration() {
  cat >"$STATE/cni/10-bridge.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "pods", "plugins": [{
  "type": "bridge", "bridge": "$BRIDGE", "isGateway": true, "ipMasq": false, "hairpinMode": true,
  "ipam": {"type": "host-local", "dataDir": "$STATE/cni-addresses",
           "ranges": [[{"subnet": "$POD_RANGE"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
JSON
}

port_is_free() { ! ss -Hltn "sport = :$1" | grep . >/dev/null; }

# The loopback port stays the same while it can: kubeconfigs that were handed out stay valid over a repair.
choose_port() {
  local port
  if is_alive gateway && [[ -s $STATE/port ]]; then return; fi
  if [[ -s $STATE/port ]] && port_is_free "$(<"$STATE/port")"; then return; fi
  for port in $(seq 16443 16999); do
    port_is_free "$port" && break
  done
  echo "$port" >"$STATE/port"
}

start_gateway() {
  choose_port
  start_inside gateway-inner socat "UNIX-LISTEN:$API_SOCKET,fork,mode=600,unlink-early" "TCP:$NODE_ADDRESS:$API_PORT"
  start gateway socat "TCP-LISTEN:$(<"$STATE/port"),bind=127.0.0.1,fork,reuseaddr" "UNIX-CONNECT:$API_SOCKET"
}

remove_network() {
  [[ ! -e /run/netns/$NETNS ]] || ip netns del "$NETNS" 2>/dev/null || rm -f "/run/netns/$NETNS"
}
