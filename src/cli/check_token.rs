//! `presenced check-token`: why a token would be refused, for an operator who has one.

use std::io::Read;
use std::time::Duration;

use presenced_session::clock::unix_ms;
use serde_json::Value;

use super::SettingsError;
use super::finding::{Finding, State, finding};
use crate::tokens::auth::contents;
use crate::tokens::{
    Audience, Auth, CONNECT_SCOPE, Config, Identity, IssuerConfig, Purpose, READ_ALL_SCOPE,
    READ_SCOPE, TokenError, TokenFault,
};

/// What was found of a token.
#[derive(Clone, Debug)]
pub struct CheckedToken {
    /// In words.
    pub findings: Vec<Finding>,
    /// Whether it is good for anything.
    pub is_accepted: bool,
}

/// The token in `input`, of which no more is read than tells that it has over `bytes_max` bytes.
///
/// # Errors
///
/// There is none.
pub fn read(input: impl Read, bytes_max: usize) -> Result<String, SettingsError> {
    let mut bytes = Vec::new();
    let mut input = input.take(bytes_max as u64 + LINE_END_BYTES + 1);
    if let Err(error) = input.read_to_end(&mut bytes) {
        refuse!("standard input, where the token should be: {error}");
    }
    match String::from_utf8_lossy(&bytes).trim() {
        "" => {
            refuse!("no token on standard input: pipe it in, such as presenced check-token < FILE")
        }
        token => Ok(token.to_owned()),
    }
}

/// The longest end of a line.
const LINE_END_BYTES: u64 = 2;

/// Checks a token as a server with these settings would, but for revocations, which only servers know. Keys of its issuer
/// that would be fetched are fetched once.
///
/// # Errors
///
/// There is no key to check any token with.
pub async fn check(config: &Config, token: &str) -> Result<CheckedToken, SettingsError> {
    if !config.has_key() {
        refuse!(
            "no key: give the flags, the environment or the file of the server; without any key, it draws one that \
             only it knows"
        );
    }
    let auth = Auth::new(config.clone());
    let mut about_keys = Vec::new();
    if let Some(source) = auth
        .issuer_named(token)
        .and_then(|issuer| issuer.source.as_ref())
    {
        about_keys.push(match source.fetch_once().await {
            Ok(()) => finding(
                State::Fine,
                "keys",
                format!("fetched from {}", source.name()),
            ),
            Err(error) => finding(State::Wrong, "keys", error.to_string()),
        });
    }
    if let Some(text) = checked_by(&auth, token) {
        about_keys.push(finding(State::Fine, "signature", text));
    }
    let [head, claims] = contents(token);
    let facts = Facts {
        config,
        issuer: auth.issuer_named(token),
        head: head.as_ref(),
        claims: claims.as_ref(),
    };
    let [session, pull] = [Purpose::Session, Purpose::Pull].map(|purpose| {
        let verified = auth.verify(token, purpose);
        verified.map_err(|error| (error, facts.why(error, purpose)))
    });
    let is_accepted = session.is_ok() || pull.is_ok();
    let mut findings = match (session, pull) {
        (Err((one, why)), Err((other, _))) if one == other && one != TokenError::Scope => {
            vec![finding(State::Wrong, "token", format!("refused: {why}"))]
        }
        (session, pull) => [("session", session), ("pull", pull)]
            .map(|(about, verified)| match verified {
                Ok(identity) => finding(State::Fine, about, accepted(&identity)),
                Err((_, why)) => finding(State::Wrong, about, format!("refused: {why}")),
            })
            .into(),
    };
    findings.extend(about_keys);
    for (about, part) in [("head", &head), ("claims", &claims)] {
        let text = part.as_ref().map_or_else(|| "no JSON".into(), json);
        findings.push(finding(State::Note, about, text));
    }
    Ok(CheckedToken {
        findings,
        is_accepted,
    })
}

fn accepted(identity: &Identity) -> String {
    let (user, time) = (identity.user.as_str(), time(identity.valid_for));
    let service = match identity.reads_all {
        true => ", as a service token",
        false => "",
    };
    format!("accepted: user {user:?}, for {time} more{service}")
}

/// Which key has signed the token.
fn checked_by(auth: &Auth, token: &str) -> Option<String> {
    let checked = auth.checked_by(token)?;
    let which = match checked.place {
        Some(place) => format!("key {} of {}", place + 1, checked.issuer.keys.len()),
        None => "a fetched key".into(),
    };
    let id = checked.key_id.map(|id| format!(" (kid {id:?})"));
    let name = checked.issuer.name.as_ref();
    let issuer = name.map(|name| format!(" of the issuer {name:?}"));
    Some(format!(
        "{:?}, by {which}{}{}",
        checked.algorithm,
        id.unwrap_or_default(),
        issuer.unwrap_or_default()
    ))
}

/// What a refusal may be about. The token's own parts are as it says, whether proved or not.
struct Facts<'a> {
    config: &'a Config,
    issuer: Option<&'a IssuerConfig>,
    head: Option<&'a Value>,
    claims: Option<&'a Value>,
}

impl Facts<'_> {
    /// Why the token is refused, with what it has and what is needed.
    fn why(&self, error: TokenError, purpose: Purpose) -> String {
        match self.detail(error, purpose) {
            Some(detail) => format!("{error}; {detail}"),
            None => error.to_string(),
        }
    }

    fn detail(&self, error: TokenError, purpose: Purpose) -> Option<String> {
        use TokenFault::{
            Algorithm, Audience, Issuer, LifetimeTooLong, NotYetValid, TooLong, Typ, UnknownKey,
            UserClaim,
        };
        let rules = &self.config.rules;
        Some(match error {
            TokenError::Expired => {
                let over = self.time_since("exp")?;
                format!("that was {} ago", time(over))
            }
            TokenError::Scope => {
                let needed = match purpose {
                    Purpose::Session => CONNECT_SCOPE.to_owned(),
                    Purpose::Pull => format!("{READ_SCOPE} or {READ_ALL_SCOPE}"),
                };
                format!("it needs {needed}, and {}", self.has(&["scope", "scp"]))
            }
            TokenError::Invalid(fault) => match fault {
                TooLong => format!("it has more than {} bytes", rules.bytes_max),
                Algorithm => member(self.head, "alg"),
                UnknownKey => member(self.head, "kid"),
                Typ => member(self.head, "typ"),
                Issuer => format!("{}, and {}", self.has(&["iss"]), self.issuers()),
                Audience => format!("{}, and {}", self.has(&["aud"]), self.audience()?),
                NotYetValid => {
                    let left = self.time_until("nbf")?;
                    format!("that is in {}", time(left))
                }
                LifetimeTooLong => {
                    let (left, most) = (self.time_until("exp")?, rules.lifetime_max);
                    format!("it is {} ahead, and may be {}", time(left), time(most))
                }
                UserClaim => format!("the claim is {:?}", self.issuer?.user_claim),
                _ => return None,
            },
            TokenError::UserId(_) | TokenError::NoKeys => return None,
        })
    }

    /// What the token has of these claims.
    fn has(&self, names: &[&str]) -> String {
        let has = names.iter().filter_map(|name| {
            let value = self.claims?.get(name)?;
            Some(format!("its {name} is {}", json(value)))
        });
        let has: Vec<_> = has.collect();
        match has.is_empty() {
            true => format!("it has no {}", names.join(" or ")),
            false => has.join(", "),
        }
    }

    fn issuers(&self) -> String {
        let names = self.config.issuers.iter();
        let names = names.filter_map(|issuer| issuer.name.as_ref());
        let names: Vec<_> = names.map(|name| format!("{name:?}")).collect();
        match names.as_slice() {
            [only] => format!("the issuer is {only}"),
            all => format!("the issuers are {}", all.join(", ")),
        }
    }

    fn audience(&self) -> Option<String> {
        Some(match &self.issuer?.audience {
            Audience::Named(name) => format!("{name:?} is needed"),
            Audience::None | Audience::Any => {
                "without --jwt-audience or --allow-any-audience there must be none".into()
            }
        })
    }

    fn time_since(&self, claim: &str) -> Option<Duration> {
        Duration::try_from_secs_f64(now_s() - self.number(claim)?).ok()
    }

    fn time_until(&self, claim: &str) -> Option<Duration> {
        Duration::try_from_secs_f64(self.number(claim)? - now_s()).ok()
    }

    fn number(&self, claim: &str) -> Option<f64> {
        self.claims?.get(claim)?.as_f64()
    }
}

fn now_s() -> f64 {
    unix_ms() as f64 / 1000.0
}

/// In whole seconds.
fn time(duration: Duration) -> String {
    let seconds = Duration::from_secs(duration.as_secs());
    humantime::format_duration(seconds).to_string()
}

fn member(part: Option<&Value>, name: &str) -> String {
    match part.and_then(|part| part.get(name)) {
        Some(value) => format!("its {name} is {}", json(value)),
        None => format!("it has no {name}"),
    }
}

/// As JSON, where no character does anything to a terminal: JSON itself escapes only some that may.
fn json(value: &Value) -> String {
    let mut text = String::new();
    for char in value.to_string().chars() {
        match char.is_control() {
            true => text += &format!("\\u{:04x}", u32::from(char)),
            false => text.push(char),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_token_is_read_and_no_more_than_it_may_have() {
        let read = |text: &str| read(text.as_bytes(), 10).map_err(|error| error.to_string());
        assert_eq!(read(" a.b.c\r\n"), Ok("a.b.c".into()));
        assert_eq!(read("0123456789\r\n"), Ok("0123456789".into()));
        assert_eq!(read(&"x".repeat(1000)).map(|token| token.len()), Ok(13));
        for nothing in ["", "\n", " \t"] {
            assert!(
                read(nothing).unwrap_err().contains("no token"),
                "{nothing:?}"
            );
        }
    }

    #[test]
    fn json_does_nothing_to_a_terminal() {
        let value = Value::from("a\u{1b}[31m\u{9b}31m\u{7f}é");
        assert_eq!(json(&value), r#""a\u001b[31m\u009b31m\u007fé""#);
    }
}
