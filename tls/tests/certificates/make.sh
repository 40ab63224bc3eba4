#!/usr/bin/env bash
# Makes the certificates that tests use: good ones of each kind of key and of several names, and one of each that is
# refused. Their keys are public, so they prove nothing to anyone. It needs OpenSSL 3.0.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
rm -f ./*.pem ./*.key
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

ec() { openssl genpkey -algorithm EC -pkeyopt "ec_paramgen_curve:$2" -out "$1.key" 2>/dev/null; }
rsa() { openssl genpkey -algorithm RSA -pkeyopt "rsa_keygen_bits:$2" -out "$1.key" 2>/dev/null; }

# The authorities' database is OpenSSL's: only `openssl ca` takes a first and a last second.
config() { # the extensions of what is signed
    cat >"$work/config" <<CONFIG
[ca]
default_ca = test
[test]
database = $work/index
new_certs_dir = $work
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
x509_extensions = extensions
[any]
commonName = optional
[req]
distinguished_name = name
[name]
[extensions]
$1
CONFIG
    : >"$work/index"
}
sign() { # certificate, key, authority, first second, last second, extensions
    local signer=(-cert "$3.pem")
    if [ "$1" = "$3" ]; then signer=(-selfsign); fi
    config "$6"
    openssl req -new -config "$work/config" -key "$2.key" -subj "/CN=presenced test $1" -out "$work/request"
    openssl ca -batch -notext -config "$work/config" -in "$work/request" -startdate "$4" -enddate "$5" -out "$1.pem" \
        "${signer[@]}" -keyfile "$3.key" 2>/dev/null
}
begin=20200101000000Z
end=21200101000000Z
server() { # certificate, key, names
    sign "$1" "$2" intermediate $begin $end "$(printf '%s\n' "subjectAltName=$3" extendedKeyUsage=serverAuth)"
}
authority='basicConstraints=critical,CA:true
keyUsage=critical,keyCertSign'

# Who signs.
ec root P-256
sign root root root $begin $end "$authority"
ec intermediate P-256
sign intermediate intermediate root $begin 21100101000000Z "$authority"
sign intermediate-expired intermediate root $begin 20210101000000Z "$authority"
sign intermediate-not-yet intermediate root 21000101000000Z $end "$authority"

# One of each kind of key.
ec p256 P-256
ec p384 P-384
openssl genpkey -algorithm ED25519 -out ed25519.key
rsa rsa 2048
for kind in p256 p384 ed25519 rsa; do
    server $kind $kind DNS:same.example,DNS:$kind.example,IP:127.0.0.1
done
# The forms that a key may have.
openssl ec -in p256.key -out p256-sec1.key 2>/dev/null
openssl ecparam -name prime256v1 -out "$work/parameters"
cat "$work/parameters" p256-sec1.key >p256-sec1-parameters.key
openssl ec -in p384.key -out p384-sec1.key 2>/dev/null
openssl rsa -in rsa.key -traditional -out rsa-pkcs1.key 2>/dev/null
# Both in one file.
cat p256.pem p256.key >p256-both.pem

# Names.
server names p256 DNS:Upper.Example,DNS:*.Wild.Example,IP:192.0.2.1,IP:2001:db8::1,email:nobody@example.org
server wildcard p256 DNS:*.wild.example
server wildcard-rsa rsa DNS:*.wild.example
server exact p256 DNS:exact.wild.example
server first p256 DNS:first.example

# Chains.
cat p256.pem intermediate.pem root.pem >chain.pem
cat intermediate.pem p256.pem >wrong-order.pem
cat p256.pem intermediate-expired.pem >chain-expired.pem
cat p256.pem intermediate-not-yet.pem >chain-not-yet.pem

# Certificates that are refused.
sign expired p256 intermediate $begin 20261102120000Z subjectAltName=DNS:expired.example
sign not-yet p256 intermediate 21000101000000Z $end subjectAltName=DNS:not-yet.example
sign no-names p256 intermediate $begin $end extendedKeyUsage=serverAuth
server email-only p256 email:nobody@example.org
sign for-clients p256 intermediate $begin $end "$(printf '%s\n' subjectAltName=DNS:a.example extendedKeyUsage=clientAuth)"
sign any-usage p256 intermediate $begin $end \
    "$(printf '%s\n' subjectAltName=DNS:a.example extendedKeyUsage=anyExtendedKeyUsage)"
sign authority p256 root $begin $end "$(printf '%s\n' "$authority" subjectAltName=DNS:a.example)"
printf '%s\n' '-----BEGIN CERTIFICATE-----' "$(printf 'no certificate' | base64)" '-----END CERTIFICATE-----' >unreadable.pem

# Keys that are refused.
rsa rsa-short 1024
server rsa-short rsa-short DNS:a.example
openssl rsa -in rsa-short.key -traditional -out rsa-short-pkcs1.key 2>/dev/null
ec p521 P-521
server p521 p521 DNS:a.example
openssl pkcs8 -topk8 -in p256.key -passout pass:secret -out encrypted.key
openssl rsa -in rsa.key -traditional -aes128 -passout pass:secret -out encrypted-old.key 2>/dev/null
