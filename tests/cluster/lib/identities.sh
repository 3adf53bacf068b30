# Keys, certificates and kubeconfigs: every component has the identity that Kubernetes' built-in roles expect.
# shellcheck shell=bash

make_identities() {
  [[ -e $PKI/complete ]] && return
  local all_names
  all_names="DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
  all_names+=",DNS:kubernetes.default.svc.cluster.local,IP:127.0.0.1,IP:$NODE_ADDRESS,IP:$API_SERVICE_ADDRESS"
  make_authority
  certify apiserver /CN=kube-apiserver "$all_names"
  certify kubelet-server "/CN=system:node:$NODE" "DNS:$NODE,IP:$NODE_ADDRESS"
  certify kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client DNS:none
  certify front-proxy /CN=front-proxy DNS:none
  openssl genrsa -out "$PKI/serviceaccounts.key" 2048 2>/dev/null
  openssl rsa -in "$PKI/serviceaccounts.key" -pubout -out "$PKI/serviceaccounts.pub" 2>/dev/null
  identify admin /O=system:masters/CN=admin
  identify kubelet "/O=system:nodes/CN=system:node:$NODE"
  identify controller-manager /CN=system:kube-controller-manager
  identify scheduler /CN=system:kube-scheduler
  identify proxy /CN=system:kube-proxy
  touch "$PKI/complete"
}

make_authority() {
  openssl ecparam -genkey -name prime256v1 -noout -out "$PKI/ca.key"
  openssl req -x509 -new -key "$PKI/ca.key" -out "$PKI/ca.crt" -subj "/CN=outrigger-cluster-$NAME" -days 3650 2>/dev/null
}

# certify FILE SUBJECT ALTERNATIVE-NAMES
certify() {
  openssl ecparam -genkey -name prime256v1 -noout -out "$PKI/$1.key"
  openssl req -new -key "$PKI/$1.key" -subj "$2" 2>/dev/null |
    openssl x509 -req -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -CAcreateserial -out "$PKI/$1.crt" -days 3650 \
      -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$3") 2>/dev/null
}

identify() {
  certify "$1" "$2" DNS:none
  write_kubeconfig "$1" "https://$NODE_ADDRESS:$API_PORT" "$STATE/identity/$1.kubeconfig"
}

# write_kubeconfig IDENTITY SERVER FILE
write_kubeconfig() {
  (umask 077 && cat >"$3.new") <<YAML
apiVersion: v1
kind: Config
clusters:
- name: $NAME
  cluster: {server: "$2", certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")}
users:
- name: $1
  user: {client-certificate-data: $(base64 -w0 "$PKI/$1.crt"), client-key-data: $(base64 -w0 "$PKI/$1.key")}
contexts:
- name: $NAME
  context: {cluster: $NAME, user: $1}
current-context: $NAME
YAML
  mv "$3.new" "$3"
}
