//! One issuer of tokens: its keys, and what its tokens must be.

use std::sync::Arc;

use presenced_jwt::Algorithm;

use super::jwks::Source;
use super::key::Key;
use crate::limits::ISSUER_NAMES_MAX;

/// What an operator may set of an issuer.
#[derive(Clone, Debug)]
pub struct IssuerConfig {
    /// `iss` of its tokens; without a name, it is not looked at.
    pub name: Option<String>,
    /// Whom its tokens are for.
    pub audience: Audience,
    /// The path of the claim with the user's id: a string or an integer.
    pub user_claim: String,
    /// Its keys, as they are from the start.
    pub keys: Vec<Key>,
    /// Where more of them are fetched.
    pub source: Option<Arc<KeySource>>,
}

/// The names of issuers, each in the place by which sessions know theirs. Sessions outlive settings, so a place is
/// never another's, and a name that is gone and comes again has the place that it had.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(pub(super) Vec<Option<String>>);

impl Places {
    /// The places of the issuers that take the place of those that were `before`, in their order. `None` if there
    /// have been too many names.
    ///
    /// Where there was one issuer and is one, it is the same, whatever it is called now: all sessions are its.
    pub(super) fn of(&mut self, issuers: &[IssuerConfig], before: &[Issuer]) -> Option<Vec<u16>> {
        if let ([only], [before]) = (issuers, before)
            && let Some(name) = self.0.get_mut(usize::from(before.place))
        {
            name.clone_from(&only.name);
            return Some(vec![before.place]);
        }
        let place = |issuer: &IssuerConfig| {
            let same = before.iter().find(|own| own.config.name == issuer.name);
            same.map(|own| own.place).or_else(|| self.of_name(issuer))
        };
        issuers.iter().map(place).collect()
    }

    fn of_name(&mut self, issuer: &IssuerConfig) -> Option<u16> {
        let known = self.0.iter().position(|name| *name == issuer.name);
        let place = known.unwrap_or(self.0.len());
        if known.is_none() && place < ISSUER_NAMES_MAX {
            self.0.push(issuer.name.clone());
        }
        (place < self.0.len()).then_some(place as u16)
    }
}

/// Keys that an identity provider publishes.
pub type KeySource = Source<Vec<Key>>;

impl IssuerConfig {
    /// Whether there are keys, or will be.
    pub fn has_key(&self) -> bool {
        !self.keys.is_empty() || self.source.is_some()
    }
}

/// What `aud` must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// It names this one, alone or among others.
    Named(String),
    /// It is not there: a token for someone else is not for us (RFC 7519 §4.1.3).
    None,
    /// Anything.
    Any,
}

/// An issuer, ready to check tokens.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) config: IssuerConfig,
    /// By which sessions know it ([`Places`]).
    pub(super) place: u16,
}

/// The keys that a token may be signed with.
pub(super) enum Candidates<'a> {
    Keys(Vec<&'a Key>),
    /// There are keys for its algorithm, but none has its `kid`.
    UnknownId,
    /// No key is for its algorithm.
    Algorithm,
}

impl Issuer {
    /// The keys for a token, of its own and those that were `fetched`: those that `id` names or else
    /// those that have no name, and without an `id` all; of these, the ones for its algorithm.
    pub(super) fn candidates<'a>(
        &'a self,
        fetched: Option<&'a Vec<Key>>,
        algorithm: Algorithm,
        id: Option<&str>,
    ) -> Candidates<'a> {
        let keys = self.config.keys.iter().chain(fetched.into_iter().flatten());
        let fit: Vec<_> = keys.filter(|key| key.fits(algorithm)).collect();
        let of_id = |id: Option<&str>| -> Vec<_> {
            fit.iter().copied().filter(|key| key.id() == id).collect()
        };
        let found = match id {
            None => {
                return if fit.is_empty() {
                    Candidates::Algorithm
                } else {
                    Candidates::Keys(fit)
                };
            }
            Some(_) => of_id(id),
        };
        let found = if found.is_empty() { of_id(None) } else { found };
        match (found.is_empty(), fit.is_empty()) {
            (false, _) => Candidates::Keys(found),
            (true, false) => Candidates::UnknownId,
            (true, true) => Candidates::Algorithm,
        }
    }
}
