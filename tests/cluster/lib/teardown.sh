# Takes a cluster away, whole or in whatever state a crash left it.
# shellcheck shell=bash

take_down() {
  [[ -d $STATE || -e /run/netns/$NETNS ]] || return 0
  mkdir -p "$PIDS" "$LOGS"
  # From the top, so that nobody starts again what is being removed. etcd after the API server: without it that takes 40 s to end.
  stop kubelet scheduler controller-manager gateway gateway-inner
  forget_dead
  release_pods
  stop proxy apiserver
  stop etcd containerd
  kill_leftovers
  unmount_leftovers
  remove_cgroups
  remove_network
  rm -rf "$STATE"
}

# Only containerd knows all that belongs to its pods; after a crash it is brought back for this.
release_pods() {
  [[ -e $STATE/containerd/config.toml && -x ${KUBE_DIR:-}/kube ]] && namespace_exists || return 0
  start_inside containerd containerd --config "$STATE/containerd/config.toml"
  (wait_for 30 containerd containerd_answers) || return 0
  kube remove-sandboxes --endpoint "unix://$CONTAINERD_SOCKET" >>"$LOGS/remove-sandboxes.log" 2>&1 || true
}

# What outlived its parent says whose it is: a shim by the socket on its command line, everything else by its namespace.
kill_leftovers() {
  local process
  for process in /proc/[0-9]*; do
    if { tr '\0' ' ' <"$process/cmdline"; } 2>/dev/null | grep -F -e "-address $CONTAINERD_SOCKET " >/dev/null; then
      kill -9 "${process#/proc/}" 2>/dev/null || true
    fi
  done
  if namespace_exists; then
    ip netns pids "$NETNS" | xargs -r kill -9 2>/dev/null || true
  fi
}

cgroup_directories() { find /sys/fs/cgroup -maxdepth 2 -type d -name "$CGROUP" 2>/dev/null || true; }

remove_cgroups() {
  local directory deadline=$((SECONDS + 5))
  for directory in $(cgroup_directories); do
    find "$directory" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -un | xargs -r kill -9 2>/dev/null || true
  done
  while [[ -n $(cgroup_directories) ]] && ((SECONDS < deadline)); do
    for directory in $(cgroup_directories); do
      find "$directory" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
    sleep 0.1
  done
}

unmount_leftovers() {
  local mount
  awk -v under="$STATE/" 'index($2, under) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mount; do
    umount --lazy "$mount" || true
  done
}
