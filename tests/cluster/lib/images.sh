# Container images: the cluster's own two, and those that are loaded into it.
# shellcheck shell=bash

containerd_answers() { ctr --address "$CONTAINERD_SOCKET" version; }
cluster_ctr() { ctr --address "$CONTAINERD_SOCKET" --namespace k8s.io "$@"; }

# make_scratch_image IMAGE PROGRAM ARCHIVE: an image that holds one static program and nothing else.
make_scratch_image() {
  local container
  export BUILDAH_ISOLATION=chroot
  container=$(buildah from scratch)
  buildah copy --quiet "$container" "$2" "/${2##*/}" >/dev/null
  buildah config --entrypoint "[\"/${2##*/}\"]" --user 65532:65532 "$container"
  rm -f "$3"
  buildah commit --quiet --rm "$container" "docker-archive:$3.new:$1" >/dev/null
  mv "$3.new" "$3"
}

make_own_images() {
  [[ -e $KUBE_DIR/pause.tar ]] || make_scratch_image "$PAUSE_IMAGE" "$KUBE_DIR/pause" "$KUBE_DIR/pause.tar"
  [[ -e $DNS_DIR/coredns.tar ]] || make_scratch_image "$DNS_IMAGE" "$DNS_DIR/coredns" "$DNS_DIR/coredns.tar"
}

image_is_loaded() { cluster_ctr images ls -q "name==$1" | grep . >/dev/null; }

load_own_images() {
  image_is_loaded "$PAUSE_IMAGE" || cluster_ctr images import "$KUBE_DIR/pause.tar" >/dev/null
  image_is_loaded "$DNS_IMAGE" || cluster_ctr images import "$DNS_DIR/coredns.tar" >/dev/null
}

# The engine that has an image, and the image's id there: "ENGINE ID", or nothing.
find_image() {
  local engine id
  for engine in docker podman buildah; do
    command -v "$engine" >/dev/null || continue
    case $engine in
      buildah) id=$(buildah inspect --type image --format '{{.FromImageID}}' "$1" 2>/dev/null) || continue ;;
      *) id=$("$engine" image inspect --format '{{.Id}}' "$1" 2>/dev/null) || continue ;;
    esac
    echo "$engine $id"
    return
  done
}

# save_image ENGINE IMAGE ARCHIVE
save_image() {
  case $1 in
    buildah) buildah push --quiet "$2" "docker-archive:$3:$2" ;;
    podman) podman save --quiet --format docker-archive --output "$3" "$2" ;;
    docker) docker save --output "$3" "$2" ;;
  esac
}

# load_image IMAGE|ARCHIVE: prints the names under which pods find it; does nothing where it is there already.
load_image() {
  local engine id mark archive=$STATE/loading.tar
  is_alive containerd || die "is not up: run \"cluster up\" first"
  if [[ -f $1 ]]; then
    cluster_ctr images import "$1" | sed -n 's/^unpacking \([^ ]*\).*/\1/p'
    return
  fi
  read -r engine id < <(find_image "$1") || die "load: no image $1 in docker, podman or buildah, and no such file"
  mark=$STATE/loaded/$(sha256sum <<<"$1" | cut -c1-32)
  if [[ $(cat "$mark" 2>/dev/null || true) != "$id" ]] || ! image_is_loaded "$1"; then
    rm -f "$archive"
    save_image "$engine" "$1" "$archive"
    cluster_ctr images import "$archive" >/dev/null
    rm -f "$archive"
    echo "$id" >"$mark"
  fi
  echo "$1"
}
