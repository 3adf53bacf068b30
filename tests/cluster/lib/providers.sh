# Clusters that others made: the one that KUBECONFIG names, or one from kind or k3d. Same commands, same meaning.
# shellcheck shell=bash

# local, unless the user says otherwise: with a variable of ours, or by bringing a KUBECONFIG that is not ours.
choose_provider() {
  local chosen=${OUTRIGGER_CLUSTER_PROVIDER:-}
  if [[ $chosen =~ ^(local|existing|kind|k3d)$ ]]; then
    echo "$chosen"
  elif [[ -n $chosen ]]; then
    die "OUTRIGGER_CLUSTER_PROVIDER is \"$chosen\": it may be local, existing, kind or k3d"
  elif [[ -n ${KUBECONFIG:-} && $KUBECONFIG != /var/lib/outrigger-clusters/* ]]; then
    echo existing
  else
    echo local
  fi
}

need() { command -v "$1" >/dev/null || die "$1 is not installed, but $2"; }

provider_up() {
  case $PROVIDER in
    existing)
      [[ -n ${KUBECONFIG:-} ]] || die "the provider \"existing\" is the cluster that KUBECONFIG names, which is not set"
      need kubectl "a cluster of your own is used"
      kubectl version >/dev/null || die "the cluster that KUBECONFIG ($KUBECONFIG) names does not answer"
      ;;
    kind)
      need kind "OUTRIGGER_CLUSTER_PROVIDER is kind"
      kind get clusters 2>/dev/null | grep -Fx "$NAME" >/dev/null || kind create cluster --name "$NAME" --wait 120s >&2
      ;;
    k3d)
      need k3d "OUTRIGGER_CLUSTER_PROVIDER is k3d"
      k3d cluster list "$NAME" >/dev/null 2>&1 || k3d cluster create "$NAME" --wait >&2
      k3d cluster start "$NAME" --wait >&2
      ;;
  esac
}

provider_down() {
  case $PROVIDER in
    existing) say "is yours: left as it is" ;;
    kind) kind delete cluster --name "$NAME" >&2 ;;
    k3d) k3d cluster delete "$NAME" >&2 ;;
  esac
}

provider_status() { KUBECONFIG=$(provider_kubeconfig) kubectl get nodes; }

provider_kubeconfig() {
  local file=$CACHE/$PROVIDER-$NAME.kubeconfig
  mkdir -p "$CACHE"
  case $PROVIDER in
    existing)
      echo "$KUBECONFIG"
      return
      ;;
    kind) (umask 077 && kind get kubeconfig --name "$NAME" >"$file") ;;
    k3d) (umask 077 && k3d kubeconfig get "$NAME" >"$file") ;;
  esac
  echo "$file"
}

provider_load() {
  local archive engine reference
  case $PROVIDER in
    kind | k3d)
      archive=$(mktemp -d)/image.tar
      if [[ -f $1 ]]; then cp "$1" "$archive"; else
        read -r engine _ < <(find_image "$1") || die "load: no image $1 in docker, podman or buildah, and no such file"
        save_image "$engine" "$1" "$archive"
      fi
      if [[ $PROVIDER == kind ]]; then kind load image-archive "$archive" --name "$NAME" >&2; else
        k3d image import "$archive" --cluster "$NAME" >&2
      fi
      rm -rf "${archive%/*}"
      echo "$1"
      ;;
    existing)
      [[ -n ${OUTRIGGER_IMAGE_REGISTRY:-} ]] ||
        die "load: set OUTRIGGER_IMAGE_REGISTRY to a registry that your cluster pulls from, such as registry.example.com/team"
      read -r engine _ < <(find_image "$1") || die "load: no image $1 in docker, podman or buildah"
      reference=$OUTRIGGER_IMAGE_REGISTRY/${1##*/}
      "$engine" tag "$1" "$reference" >&2
      "$engine" push "$reference" >&2
      echo "$reference"
      ;;
  esac
}

# Test servers run on this machine then; how pods reach it only the user can know.
provider_address() {
  [[ -n ${OUTRIGGER_HOST_ADDRESS:-} ]] ||
    die "address: set OUTRIGGER_HOST_ADDRESS to an address of this machine that pods of your cluster reach"
  echo "$OUTRIGGER_HOST_ADDRESS"
}
