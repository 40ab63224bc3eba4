//! Tokens, and keys of every kind.
//!
//! The keys are drawn anew in each process, so no input can have a signature in it: each is made here.

use std::sync::LazyLock;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use graviola::signing::ecdsa::{self, P256, P384};
use graviola::signing::eddsa::Ed25519SigningKey;
use graviola::signing::rsa;
use presenced::tokens::auth::contents;
use presenced::tokens::key::{read_key_set, read_keys};
use presenced::tokens::{
    Audience, Auth, Config, Identity, IssuerConfig, Key, Purpose, Rules, Secret,
};
use presenced_jwt::{Algorithm, EncodingKey, sign};
use presenced_presence::UserId;
use presenced_session::clock::unix_ms;
use serde_json::{Value, json};

const BYTES_MAX: usize = 4096;
const LIFETIME_MAX_S: u64 = 86_400;
const LEEWAY_S: u64 = 5;

/// Takes the bytes as a token, as the parts of one that is signed here, and as choices of a token's parts and of what is
/// changed in it then. No token is accepted that was not signed here by a key of its issuer, with an algorithm that the
/// key is for, and none that says what a naive check refuses; a token of choices is accepted if that finds nothing.
pub fn tokens(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        must_be_refused(text);
    }
    let mut input = Unstructured::new(data);
    if let Ok(made) = made(&mut input) {
        compare(&made, true);
        if let Ok(changed) = changed(&mut input, &made.token()) {
            must_be_refused(&changed);
        }
    }
    if let Ok(made) = of_bytes(Unstructured::new(data)) {
        compare(&made, false);
    }
}

/// Issuers of `several`, and who signs with which of their keys.
struct Keys {
    /// Knows each issuer by its name.
    several: Auth,
    /// One issuer without a name, which has the keys of all.
    one: Auth,
    signers: Vec<Signer>,
}

struct Signer {
    private: EncodingKey,
    /// For which its public key, or the secret, is.
    algorithms: &'static [Algorithm],
    /// What names the key among those of its issuer.
    kid: Option<&'static str>,
    /// Whose key it is; `None` for a key of nobody.
    issuer: Option<usize>,
}

const NAMES: [&str; 3] = [
    "https://secret.example",
    "https://keys.example",
    "https://both.example",
];

const HMAC: &[Algorithm] = &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];
const ED: &[Algorithm] = &[Algorithm::EdDSA];

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let mut space = [0; 4096];
    let [long, short] = [[7; 64].as_slice(), &[8; 32]];
    let rsa = rsa::SigningKey::generate(rsa::KeySize::Rsa2048).unwrap();
    let rsa_public = pem(rsa.public_key().to_spki_der(&mut space).unwrap());
    let rsa_private = EncodingKey::from_rsa_der(rsa.to_pkcs8_der(&mut space).unwrap());
    let p256 = ecdsa::SigningKey::<P256>::generate().unwrap();
    let p384 = ecdsa::SigningKey::<P384>::generate().unwrap();
    let [ed, other_ed, strange_ed] = [(); 3].map(|()| Ed25519SigningKey::generate().unwrap());
    let set = json!({"keys": [
        ec_jwk("p256", "P-256", &p256.private_key.public_key_uncompressed()),
        ec_jwk("p384", "P-384", &p384.private_key.public_key_uncompressed()),
        {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": base64url(&ed.public_key().as_bytes())},
    ]});
    let mut public = read_keys(rsa_public.as_bytes()).unwrap();
    public.extend(read_key_set(set.to_string().as_bytes()).unwrap());
    let other_public = pem(other_ed.public_key().to_spki_der(&mut space).unwrap());
    let mut both = read_keys(other_public.as_bytes()).unwrap();
    both.push(secret(short));
    let mut signers = Vec::new();
    let mut add = |private, algorithms, kid, issuer| {
        signers.push(Signer {
            private,
            algorithms,
            kid,
            issuer,
        });
    };
    add(EncodingKey::from_secret(long), HMAC, None, Some(0));
    add(rsa_private, RSA, None, Some(1));
    let private = EncodingKey::from_ec_der(p256.to_pkcs8_der(&mut space).unwrap());
    add(private, &[Algorithm::ES256], Some("p256"), Some(1));
    let private = EncodingKey::from_ec_der(p384.to_pkcs8_der(&mut space).unwrap());
    add(private, &[Algorithm::ES384], Some("p384"), Some(1));
    let mut of_ed =
        |ed: &Ed25519SigningKey| EncodingKey::from_ed_der(ed.to_pkcs8_der(&mut space).unwrap());
    add(of_ed(&ed), ED, Some("ed"), Some(1));
    add(of_ed(&other_ed), ED, None, Some(2));
    add(EncodingKey::from_secret(short), &HMAC[..1], None, Some(2));
    // Keys of nobody: a stranger's, and public ones that are taken for secrets (RFC 8725 §2.1).
    add(of_ed(&strange_ed), ED, None, None);
    add(EncodingKey::from_secret(&[9; 64]), HMAC, None, None);
    for public in [rsa_public.as_bytes(), &ed.public_key().as_bytes()] {
        add(EncodingKey::from_secret(public), HMAC, None, None);
    }
    let keys = [vec![secret(long)], public, both];
    let all = keys.concat();
    let [a, b, c] = keys;
    let named = Audience::Named("presence".into());
    Keys {
        several: auth(vec![
            issuer(Some(NAMES[0]), Audience::None, "sub", a),
            issuer(Some(NAMES[1]), named, "user.id", b),
            issuer(Some(NAMES[2]), Audience::Any, "sub", c),
        ]),
        one: auth(vec![issuer(None, Audience::Any, "sub", all)]),
        signers,
    }
});

fn auth(issuers: Vec<IssuerConfig>) -> Auth {
    Auth::new(Config {
        issuers,
        rules: Rules {
            bytes_max: BYTES_MAX,
            lifetime_max: Duration::from_secs(LIFETIME_MAX_S),
            leeway: Duration::from_secs(LEEWAY_S),
            require_scope: false,
        },
    })
}

fn issuer(
    name: Option<&str>,
    audience: Audience,
    user_claim: &str,
    keys: Vec<Key>,
) -> IssuerConfig {
    IssuerConfig {
        name: name.map(String::from),
        audience,
        user_claim: user_claim.into(),
        keys,
        source: None,
    }
}

fn secret(bytes: &[u8]) -> Key {
    Key::of_secret(&Secret::new(bytes).unwrap())
}

fn pem(spki: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(spki);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let lines: Vec<_> = lines.collect();
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        lines.join("\n")
    )
}

/// Of a point that is not compressed.
fn ec_jwk(kid: &str, curve: &str, point: &[u8]) -> Value {
    let (x, y) = point[1..].split_at(point.len() / 2);
    json!({"kty": "EC", "crv": curve, "kid": kid, "x": base64url(x), "y": base64url(y)})
}

fn base64url(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn must_be_refused(token: &str) {
    for auth in [&KEYS.several, &KEYS.one] {
        for purpose in [Purpose::Session, Purpose::Pull] {
            assert!(auth.verify(token, purpose).is_err(), "{token}");
        }
        assert_eq!(auth.signed_user(token), None, "{token}");
        assert!(auth.checked_by(token).is_none(), "{token}");
    }
    // What it says may be looked at all the same.
    let _ = (contents(token), KEYS.several.issuer_named(token));
}

/// A token that is signed here.
struct Made {
    head: Vec<u8>,
    claims: Vec<u8>,
    signer: &'static Signer,
    algorithm: Algorithm,
    /// Whether a name is there twice.
    has_twice: bool,
}

impl Made {
    fn token(&self) -> String {
        let message = format!("{}.{}", base64url(&self.head), base64url(&self.claims));
        let signature = sign(message.as_bytes(), &self.signer.private, self.algorithm);
        format!("{message}.{}", signature.unwrap())
    }
}

/// Whether each of the checks, and for whom, is what a naive one finds. `is_exact` if the latter may also be asked
/// whether a token is good.
fn compare(made: &Made, is_exact: bool) {
    let token = made.token();
    for (auth, is_one) in [(&KEYS.several, false), (&KEYS.one, true)] {
        let expected = expected(made, is_one).filter(|_| token.len() <= BYTES_MAX);
        let found = auth.verify(&token, Purpose::Session);
        match (found, &expected) {
            (Ok(identity), Some(expected)) => check_identity(&identity, expected),
            (Ok(identity), None) => panic!("{identity:?} for {token}"),
            (Err(error), Some(_)) => assert!(!is_exact, "{error:?} for {token}"),
            (Err(_), None) => {}
        }
        if let Some(by) = auth.checked_by(&token) {
            assert_eq!(by.algorithm, made.algorithm, "{token}");
            assert!(made.signer.issuer.is_some(), "{token}");
        }
    }
}

/// What an identity must have.
struct Expected {
    user: String,
    issuer: usize,
    reads_all: bool,
}

fn check_identity(identity: &Identity, expected: &Expected) {
    assert_eq!(identity.user.as_str(), expected.user);
    assert_eq!(usize::from(identity.grant.issuer), expected.issuer);
    assert_eq!(identity.reads_all, expected.reads_all);
    assert!(identity.grant.reads);
    let left_s_max = LIFETIME_MAX_S + 2 * LEEWAY_S;
    assert!(identity.valid_for <= Duration::from_secs(left_s_max));
}

/// The user whom the token names, if it is good, checked step by step. Times that are close may be either.
fn expected(made: &Made, is_one: bool) -> Option<Expected> {
    let parse = |json: &[u8]| serde_json::from_slice::<Value>(json).ok();
    let (head, claims) = (parse(&made.head)?, parse(&made.claims)?);
    let (head, claims) = (head.as_object()?, claims.as_object()?);
    let own = made.signer.issuer?;
    let kid = match head.get("kid") {
        None | Some(Value::Null) => None,
        Some(kid) => Some(kid.as_str()?),
    };
    // A key with that name and for that algorithm comes before those without a name.
    let mut others = KEYS.signers.iter().filter(|other| {
        let is_near = other.issuer.is_some() && (is_one || other.issuer == Some(own));
        is_near && other.algorithms.contains(&made.algorithm)
    });
    let is_named = kid.is_some() && others.any(|other| other.kid == kid);
    let is_chosen = match made.signer.kid {
        None => !is_named,
        Some(name) => kid.is_none_or(|kid| kid == name),
    };
    let is_typ_good = head.get("typ").is_none_or(|typ| {
        let typ = typ.as_str().unwrap_or_default().to_lowercase();
        ["jwt", "at+jwt", "application/jwt", "application/at+jwt"].contains(&typ.as_str())
    });
    let names = ["crit", "b64"];
    let is_head_good = head.get("alg") == Some(&json!(format!("{:?}", made.algorithm)))
        && made.signer.algorithms.contains(&made.algorithm)
        && is_chosen
        && is_typ_good
        && !names.iter().any(|name| head.contains_key(*name));
    let now_s = unix_ms() as f64 / 1000.0;
    let exp = claims.get("exp")?.as_f64()?;
    let is_time = |name, latest: f64| match claims.get(name) {
        None => true,
        Some(time) => time.as_f64().is_some_and(|time| time <= latest),
    };
    let far_s = LIFETIME_MAX_S as f64 + 30.0;
    let are_times_good = exp > now_s - 30.0
        && exp < now_s + far_s
        && is_time("nbf", now_s + 30.0)
        && is_time("iat", f64::INFINITY);
    let issuer = match is_one {
        true => 0,
        false => NAMES
            .iter()
            .position(|name| claims.get("iss") == Some(&json!(name)))?,
    };
    let aud = claims.get("aud");
    let is_aud_good = match issuer {
        _ if is_one => true,
        0 => aud.is_none(),
        1 => aud.is_some_and(|aud| match aud {
            Value::Array(all) => all.contains(&json!("presence")),
            one => *one == json!("presence"),
        }),
        _ => true,
    };
    let user = match issuer {
        1 if !is_one => {
            let inner = || claims.get("user")?.as_object()?.get("id");
            claims.get("user.id").or_else(inner)?
        }
        _ => claims.get("sub")?,
    };
    let user = match user {
        Value::String(user) => user.clone(),
        Value::Number(user) if !user.is_f64() => user.to_string(),
        _ => return None,
    };
    let is_sub_good = !matches!(claims.get("sub"), Some(Value::Array(_) | Value::Object(_)));
    let is_user = user.len() <= 200 && UserId::new(&user).is_ok();
    let word = "presence:read-all";
    let has_word = |list: &Value| match list {
        Value::Array(words) => words.contains(&json!(word)),
        list => list
            .as_str()
            .is_some_and(|list| list.split(' ').any(|one| one == word)),
    };
    let mut lists = ["scope", "scp"].iter().filter_map(|name| claims.get(*name));
    let is_good = is_head_good
        && are_times_good
        && is_aud_good
        && is_sub_good
        && is_user
        && !made.has_twice
        && (is_one || issuer == own);
    is_good.then(|| Expected {
        user,
        issuer,
        reads_all: lists.any(has_word),
    })
}

/// The signer, and the algorithm that it signs with.
fn signer(input: &mut Unstructured<'_>) -> Result<(&'static Signer, Algorithm)> {
    let signer = input.choose(&KEYS.signers)?;
    // A short secret may be used where a longer one is asked for.
    let is_short = signer.algorithms == &HMAC[..1] && input.ratio(1, 4)?;
    let algorithms = if is_short { HMAC } else { signer.algorithms };
    Ok((signer, *input.choose(algorithms)?))
}

/// A token whose head and claims are bytes of the input.
fn of_bytes(mut input: Unstructured<'_>) -> Result<Made> {
    let (signer, algorithm) = signer(&mut input)?;
    let head = match input.arbitrary()? {
        true => format!(r#"{{"alg":"{algorithm:?}"}}"#).into_bytes(),
        false => input.arbitrary::<&[u8]>()?.to_vec(),
    };
    Ok(Made {
        head,
        claims: input.take_rest().to_vec(),
        signer,
        algorithm,
        has_twice: false,
    })
}

/// A token with few faults.
fn made(input: &mut Unstructured<'_>) -> Result<Made> {
    let (signer, algorithm) = signer(input)?;
    let mut head = members(
        input,
        &[
            ("typ", &[r#""JWT""#, r#""at+jwt""#, r#""Application/JWT""#]),
            ("kid", &["null", r#""ed""#, r#""p256""#, r#""x""#, r#""""#]),
            ("cty", &[r#""JWT""#, "null"]),
            ("x", &["1", r#"{"y":[]}"#]),
        ],
        &[
            ("typ", "null"),
            ("typ", r#""dpop+jwt""#),
            ("crit", "null"),
            ("crit", r#"["exp"]"#),
            ("b64", "true"),
        ],
    )?;
    let own = format!("\"{algorithm:?}\"");
    let others = ["\"none\"", "\"HS256\"", "\"RS256\"", "\"EdDSA\"", "null"];
    let named = match input.ratio(1, 8)? {
        true => *input.choose(&others)?,
        false => &own,
    };
    head.push(("alg", named.to_owned()));
    let now_s = unix_ms() / 1000;
    let soon = (now_s + 600).to_string();
    let fraction = format!("{soon}.5");
    let far = (now_s + LIFETIME_MAX_S + 1000).to_string();
    let place = signer.issuer.unwrap_or_default();
    let mut claims = members(
        input,
        &[
            ("nbf", &["0", "1.5"]),
            ("iat", &["0", "1e9", "-1"]),
            ("jti", &["1", r#""a""#, "null"]),
            ("scope", &[r#""presence:read presence:read-all""#, "[]"]),
            ("z", &[r#"{"a":{"a":1}}"#, r#""\ud83d\ude00""#]),
        ],
        &[
            ("nbf", &far),
            ("nbf", "null"),
            ("iat", r#""1""#),
            ("exp", "1"),
            ("exp", &far),
            ("exp", "-1"),
            ("exp", "\"9999999999\""),
            ("iss", "[\"https://keys.example\"]"),
            ("iss", "\"https://both.example\""),
            ("aud", "[]"),
            ("aud", "\"other\""),
            ("sub", "\"a b\""),
            ("sub", "1.5"),
            ("sub", "[\"alice\"]"),
            ("user", "{\"id\":\"\"}"),
        ],
    )?;
    let mut add = |name, value: String| {
        if !claims.iter().any(|(other, _)| *other == name) {
            claims.push((name, value));
        }
    };
    let exp = *input.choose(&[&soon, &fraction])?;
    add("exp", exp.clone());
    add("iss", json!(NAMES[place]).to_string());
    if place == 1 {
        let auds = [r#""presence""#, r#"["x","presence"]"#];
        add("aud", (*input.choose(&auds)?).into());
    }
    let users = [r#""alice""#, "42", r#""zo\u00eb""#];
    add("sub", (*input.choose(&users)?).into());
    add("user", r#"{"id":"bob"}"#.into());
    let has_twice = input.ratio(1, 16)?;
    if has_twice {
        let part = if input.arbitrary()? {
            &mut head
        } else {
            &mut claims
        };
        let again = input.choose(part)?.clone();
        part.push(again);
    }
    Ok(Made {
        head: object(&head),
        claims: object(&claims),
        signer,
        algorithm,
        has_twice,
    })
}

type Members = Vec<(&'static str, String)>;

/// Some of those that are good, and seldom one of those that may be bad.
fn members(
    input: &mut Unstructured<'_>,
    good: &[(&'static str, &[&str])],
    bad: &[(&'static str, &str)],
) -> Result<Members> {
    let mut members = Members::new();
    for (name, values) in good {
        if input.arbitrary()? {
            members.push((*name, (*input.choose(values)?).to_owned()));
        }
    }
    if input.ratio(1, 4)? {
        let (name, value) = *input.choose(bad)?;
        members.retain(|(other, _)| *other != name);
        members.push((name, value.to_owned()));
    }
    Ok(members)
}

fn object(members: &[(&str, String)]) -> Vec<u8> {
    let members = members
        .iter()
        .map(|(name, value)| format!("\"{name}\":{value}"));
    let members: Vec<_> = members.collect();
    format!("{{{}}}", members.join(",")).into_bytes()
}

/// Another token, which nobody has signed.
fn changed(input: &mut Unstructured<'_>, token: &str) -> Result<String> {
    let mut changed: Vec<char> = token.chars().collect();
    let place = input.choose_index(changed.len())?;
    let new = || ['A', 'B', 'a', '0', '-', '_', '.', '=', ' ', '\u{e9}'];
    match input.int_in_range(0..=5)? {
        0 => changed[place] = *input.choose(&new())?,
        1 => drop(changed.remove(place)),
        2 => changed.insert(place, *input.choose(&new())?),
        3 => changed.truncate(place),
        4 => {
            let (head, rest) = token.split_once('.').unwrap_or_default();
            let other = *input.choose(&[r#"{"alg":"none"}"#, r#"{"alg":"HS256"}"#])?;
            changed = match BASE64_URL_SAFE_NO_PAD.encode(other) == head {
                true => Vec::new(),
                false => format!("{}.{rest}", base64url(other.as_bytes()))
                    .chars()
                    .collect(),
            };
        }
        _ => {
            let (message, _) = token.rsplit_once('.').unwrap_or_default();
            let other = input.choose(&["", "AA", "e30"])?;
            changed = format!("{message}.{other}").chars().collect();
        }
    }
    let changed = String::from_iter(changed);
    Ok(if changed == token {
        String::new()
    } else {
        changed
    })
}
