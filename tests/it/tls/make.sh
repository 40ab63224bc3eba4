#!/usr/bin/env bash
# Makes the certificates that tests use: an authority, a server's for localhost and 127.0.0.1, one of the same key that has
# expired, one that is for another name, and an authority that is nobody's. Their keys are public, so they prove nothing
# to anyone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
key() { openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1"; }
for name in ca other; do
    key "$work/$name.key"
    openssl req -x509 -new -key "$work/$name.key" -days 36500 -subj "/CN=presenced test $name" -out "$name.pem" \
        -addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign
done
key server.key
openssl req -new -key server.key -subj /CN=localhost -out "$work/server.csr"
sign() { # name, days, names
    printf '%s\n' "subjectAltName=$3" 'extendedKeyUsage=serverAuth' >"$work/extensions"
    openssl x509 -req -in "$work/server.csr" -CA ca.pem -CAkey "$work/ca.key" -CAcreateserial -CAserial "$work/serial" \
        -days "$2" -extfile "$work/extensions" -out "$1.pem"
}
sign server 36500 DNS:localhost,IP:127.0.0.1
sign other-name 36500 DNS:other.example
# Until yesterday.
sign expired -1 DNS:localhost,IP:127.0.0.1
