//! Keys that tokens are checked with: secrets (RFC 7518 §3.2), and public keys as PEM or as JWK
//! (RFC 7517).
//!
//! A key says with which algorithms it may be used; the token only chooses among these (RFC 8725
//! §3.1).

use presenced_jwt::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse, RSAKeyParameters,
};
use presenced_jwt::{Algorithm, AlgorithmFamily, DecodingKey, check_key, lacking};
use serde_json::Value;
use spki::der::asn1::{BitStringRef, UintRef};
use spki::der::pem::PemLabel;
use spki::der::{Any, Decode, Document, Encode, Tag};
use spki::{ObjectIdentifier, SubjectPublicKeyInfo};

use super::secret::{PEM_START, Secret};
use crate::limits::KEYS_MAX;

/// A key, and what it may be used for.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name among the keys of its issuer (RFC 7515 §4.1.4).
    id: Option<String>,
    algorithms: &'static [Algorithm],
    key: DecodingKey,
}

const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];
const HMAC: &[Algorithm] = &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
const P256: &[Algorithm] = &[Algorithm::ES256];
const P384: &[Algorithm] = &[Algorithm::ES384];
const ED25519: &[Algorithm] = &[Algorithm::EdDSA];

impl Key {
    /// For tokens signed with a secret, by those algorithms for which it is long enough: at least as
    /// long as their hash (RFC 7518 §3.2).
    pub fn of_secret(secret: &Secret) -> Key {
        Key::of_bytes(secret.as_bytes())
    }

    /// For tokens signed with bytes that this process has drawn at random.
    pub(crate) fn of_random(bytes: &[u8; 32]) -> Key {
        Key::of_bytes(bytes)
    }

    fn of_bytes(bytes: &[u8]) -> Key {
        let algorithms = match bytes.len() {
            64.. => HMAC,
            48.. => &HMAC[..2],
            _ => &HMAC[..1],
        };
        Key {
            id: None,
            algorithms,
            key: DecodingKey::from_secret(bytes),
        }
    }

    /// Its name among the keys of its issuer.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The secret that it is, if it is one.
    pub fn secret(&self) -> Option<&[u8]> {
        let is_secret = self.key.family() == AlgorithmFamily::Hmac;
        self.key.try_get_as_bytes().ok().filter(|_| is_secret)
    }

    /// Whether tokens of `algorithm` may be checked with it.
    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    pub(super) fn decoding_key(&self) -> &DecodingKey {
        &self.key
    }

    /// A public key that works, as this machine can tell.
    fn checked(
        id: Option<String>,
        algorithms: &'static [Algorithm],
        key: DecodingKey,
    ) -> Result<Key, String> {
        let Some(algorithm) = algorithms.first() else {
            return Err("has an algorithm that its type of key is not for".into());
        };
        if let Some(lacking) = lacking() {
            return Err(format!("is of no use to this CPU, which lacks {lacking}"));
        }
        match check_key(&key, *algorithm) {
            Ok(()) => Ok(Key {
                id,
                algorithms,
                key,
            }),
            Err(_) if algorithm.family() == AlgorithmFamily::Rsa => {
                Err("is no RSA key of 2,048 to 8,192 bits".into())
            }
            Err(_) => Err("is no point on its curve".into()),
        }
    }
}

/// The public keys in a file: PEM, one or several, a JWK, or a JWK set.
///
/// # Errors
///
/// For people: why there are none, or one of them can't be used.
pub fn read_keys(bytes: &[u8]) -> Result<Vec<Key>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "is neither PEM nor JSON")?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.starts_with('{') {
        let value: Value =
            serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))?;
        return match value.get("keys") {
            Some(_) => of_set(&value),
            None => of_jwk(value).map(|key| vec![key]),
        };
    }
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(PEM_START) {
        let block = &rest[start..];
        let end = block.find(PEM_END).map(|end| end + PEM_END.len());
        let end = end.and_then(|end| Some(end + block[end..].find("-----")? + 5));
        let end = end.ok_or("has a PEM block without an end")?;
        keys.push(of_pem(&block[..end])?);
        rest = &block[end..];
    }
    match keys.len() {
        0 => Err("has no public key: expected PEM (BEGIN PUBLIC KEY), a JWK or a JWK set".into()),
        1..=KEYS_MAX => Ok(keys),
        _ => Err(format!("has more than {KEYS_MAX} keys")),
    }
}

/// The keys of a JWK set as an issuer publishes it: those that can't be used are left out, secrets
/// among them, for anyone may read them.
///
/// # Errors
///
/// For people: why there are none.
pub fn read_key_set(bytes: &[u8]) -> Result<Vec<Key>, String> {
    let set: Value =
        serde_json::from_slice(bytes).map_err(|error| format!("is no JSON: {error}"))?;
    of_set(&set)
}

const PEM_END: &str = "-----END ";

fn of_set(set: &Value) -> Result<Vec<Key>, String> {
    let jwks = set.get("keys").and_then(Value::as_array);
    let jwks = jwks.ok_or("is no JWK set: it has no list of keys")?;
    if jwks.len() > KEYS_MAX {
        return Err(format!("has more than {KEYS_MAX} keys"));
    }
    let mut fault = None;
    let keys = jwks.iter().cloned().map(of_jwk);
    let keys: Vec<_> = keys
        .filter_map(|key| key.map_err(|why| fault = Some(why)).ok())
        .collect();
    match (keys.is_empty(), fault) {
        (false, _) => Ok(keys),
        (true, None) => Err("has no key".into()),
        (true, Some(why)) => Err(format!("has no key that can be used: the last {why}")),
    }
}

fn of_jwk(jwk: Value) -> Result<Key, String> {
    if jwk.get("kty").and_then(Value::as_str) == Some("oct") {
        return Err("is a secret, not a public key".into());
    }
    // RFC 7518 §6: the member that only private keys have, of each type.
    if jwk.get("d").is_some() {
        return Err("is a private key: give its public part only".into());
    }
    let jwk: Jwk = serde_json::from_value(jwk).map_err(|error| format!("is no JWK: {error}"))?;
    let common = jwk.common;
    let is_for = |operation| operation == KeyOperations::Verify;
    if common
        .public_key_use
        .is_some_and(|use_| use_ != PublicKeyUse::Signature)
        || common
            .key_operations
            .is_some_and(|operations| !operations.into_iter().any(is_for))
    {
        return Err("is not for signatures".into());
    }
    let (of_type, key) = match &jwk.algorithm {
        AlgorithmParameters::RSA(parameters) => (RSA, rsa(parameters)?),
        AlgorithmParameters::EllipticCurve(parameters) => {
            let algorithms = match parameters.curve {
                EllipticCurve::P256 => P256,
                EllipticCurve::P384 => P384,
                _ => return Err("is on a curve other than P-256 and P-384".into()),
            };
            let key = DecodingKey::from_ec_components(&parameters.x, &parameters.y);
            (
                algorithms,
                key.map_err(|_| "has coordinates that are no base64")?,
            )
        }
        AlgorithmParameters::OctetKeyPair(parameters) => {
            if parameters.curve != EllipticCurve::Ed25519 {
                return Err("is on a curve other than Ed25519".into());
            }
            let key = DecodingKey::from_ed_components(&parameters.x);
            (
                ED25519,
                key.map_err(|_| "has a coordinate that is no base64")?,
            )
        }
        _ => return Err("has an unknown type".into()),
    };
    let algorithms = match common.key_algorithm {
        None => of_type,
        Some(only) => {
            let only = only.to_string().parse().ok();
            let place = of_type
                .iter()
                .position(|algorithm| Some(*algorithm) == only);
            place.map_or(&[][..], |place| &of_type[place..=place])
        }
    };
    Key::checked(common.key_id, algorithms, key)
}

fn rsa(parameters: &RSAKeyParameters) -> Result<DecodingKey, String> {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    let number = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok();
    let (modulus, exponent) = (number(&parameters.n), number(&parameters.e));
    let (modulus, exponent) = modulus
        .zip(exponent)
        .ok_or("has a number that is no base64")?;
    // RSAPublicKey of RFC 8017, appendix A.1.1.
    let der = || {
        let mut numbers = UintRef::new(&modulus)?.to_der()?;
        numbers.extend(UintRef::new(&exponent)?.to_der()?);
        Any::new(Tag::Sequence, numbers)?.to_der()
    };
    let der = der().map_err(|_| "has numbers that are none")?;
    Ok(DecodingKey::from_rsa_der(&der))
}

const ID_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ID_EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ID_P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ID_P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ID_ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

fn of_pem(pem: &str) -> Result<Key, String> {
    let (label, der) = Document::from_pem(pem).map_err(|error| format!("has bad PEM: {error}"))?;
    match label {
        <SubjectPublicKeyInfo<Any, ()> as PemLabel>::PEM_LABEL => {
            of_public_key_info(der.as_bytes())
        }
        "RSA PUBLIC KEY" => Key::checked(None, RSA, DecodingKey::from_rsa_der(der.as_bytes())),
        "CERTIFICATE" => Err("is a certificate: give the public key in it, which \
                              `openssl x509 -pubkey -noout` prints"
            .into()),
        label if label.ends_with("PRIVATE KEY") => {
            Err("is a private key: give its public key, which `openssl pkey -pubout` prints".into())
        }
        label => Err(format!("is of an unknown kind: {label}")),
    }
}

/// SubjectPublicKeyInfo of RFC 5280 §4.1, with keys as RFC 3279 and RFC 8410 have them.
fn of_public_key_info(der: &[u8]) -> Result<Key, String> {
    let info = SubjectPublicKeyInfo::<Any, BitStringRef<'_>>::from_der(der);
    let info = info.map_err(|error| format!("is no public key: {error}"))?;
    let key = info
        .subject_public_key
        .as_bytes()
        .ok_or("is no public key")?;
    let parameter = info.algorithm.parameters;
    let curve = parameter.and_then(|curve| curve.decode_as::<ObjectIdentifier>().ok());
    match (info.algorithm.oid, curve) {
        (ID_RSA, _) => Key::checked(None, RSA, DecodingKey::from_rsa_der(key)),
        (ID_EC, Some(ID_P256)) => Key::checked(None, P256, DecodingKey::from_ec_der(key)),
        (ID_EC, Some(ID_P384)) => Key::checked(None, P384, DecodingKey::from_ec_der(key)),
        (ID_EC, _) => Err("is on a curve other than P-256 and P-384".into()),
        (ID_ED25519, _) => Key::checked(None, ED25519, DecodingKey::from_ed_der(key)),
        (other, _) => Err(format!(
            "is of a type other than RSA, EC and Ed25519: {other}"
        )),
    }
}
