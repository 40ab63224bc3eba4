"""Keys and tokens made by PyJWT and cryptography, as JSON: for each algorithm its public key as PEM and JWK, and a token
of the claims, or several of a list of claims.

Usage: pyjwt.py CLAIMS_JSON
"""
import json
import secrets
import sys

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

claims = json.loads(sys.argv[1])
all_claims = claims if isinstance(claims, list) else [claims]
rsa_key = rsa.generate_private_key(65537, 2048)
ed_key = ed25519.Ed25519PrivateKey.generate()
p256, p384 = (ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1()))
keys = {
    **{f"{family}{size}": rsa_key for family in ("RS", "PS") for size in (256, 384, 512)},
    "ES256": p256,
    "ES384": p384,
    "EdDSA": ed_key,
    # Those that are not for us.
    "RS256 of 1,024 bits": rsa.generate_private_key(65537, 1024),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "ES256K": ec.generate_private_key(ec.SECP256K1()),
    "EdDSA of Ed448": ed448.Ed448PrivateKey.generate(),
}


def pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


made = []
for name, key in keys.items():
    algorithm = name.split(" ")[0]
    public = key.public_key()
    jwk = jwt.get_algorithm_by_name(algorithm).to_jwk(public, as_dict=True)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    tokens = [jwt.encode(claims, key, algorithm=algorithm, headers={"kid": name}) for claims in all_claims]
    made.append({"name": name, "pem": pem(key), "jwk": jwk, "private": private, "token": tokens[0], "tokens": tokens})
    if name == "RS256":
        made[-1]["pkcs1"] = public.public_bytes(Encoding.PEM, PublicFormat.PKCS1).decode()
for algorithm, size in (("HS256", 32), ("HS384", 48), ("HS512", 64)):
    secret = secrets.token_hex(size // 2)
    made.append({"name": algorithm, "secret": secret, "token": jwt.encode(all_claims[0], secret, algorithm=algorithm)})
json.dump(made, sys.stdout)
