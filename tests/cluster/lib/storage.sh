# Volumes on the one node: directories that pods share, offered as ReadWriteMany PersistentVolumes.
# shellcheck shell=bash

# A stock of volumes behind the default storage class, so that an ordinary claim binds with nothing to prepare.
# A volume whose claim was deleted is emptied and offered again.
offer_volumes() {
  local number name released
  released=$(inner_kubectl get persistentvolumes -l outrigger.dev/stock \
    -o 'jsonpath={range .items[?(@.status.phase=="Released")]}{.metadata.name} {end}')
  for name in $released; do
    inner_kubectl delete persistentvolume "$name" >/dev/null
    find "$STATE/volumes/$name" -mindepth 1 -delete
  done
  {
    volume_class
    for number in $(seq -w "$VOLUME_COUNT"); do
      make_directory "stock-$number"
      volume_manifest "stock-$number" standard "" ""
    done
  } | inner_kubectl apply -f - >/dev/null
}

# Kubelet does not change the owner of such a directory, so every user may write; the sticky bit stays off, because
# tests look at what the operator and its pods do to each other's files.
make_directory() {
  mkdir -p "$STATE/volumes/$1"
  chmod 0777 "$STATE/volumes/$1"
}

volume_class() {
  cat <<YAML
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: standard, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: Immediate
---
YAML
}

# volume_manifest NAME CLASS NAMESPACE CLAIM
volume_manifest() {
  local claim=""
  [[ -z $4 ]] || claim="claimRef: {namespace: \"$3\", name: \"$4\"}"
  cat <<YAML
apiVersion: v1
kind: PersistentVolume
metadata: {name: "$1", labels: {$([[ -n $4 ]] || echo 'outrigger.dev/stock: "true"')}}
spec:
  capacity: {storage: 10Gi}
  accessModes: [ReadWriteMany, ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: "$2"
  hostPath: {path: "$STATE/volumes/$1", type: Directory}
  $claim
---
YAML
}

# make_volume NAME NAMESPACE CLAIM: a volume for one claim, which asks for storageClassName "". Prints its directory.
make_volume() {
  [[ $1 =~ ^[a-z0-9][a-z0-9-]*$ ]] || die "volume: \"$1\" is no name: lower-case letters, digits and dashes"
  make_directory "$1"
  volume_manifest "$1" "" "$2" "$3" | inner_kubectl apply -f - >/dev/null
  echo "$STATE/volumes/$1"
}
