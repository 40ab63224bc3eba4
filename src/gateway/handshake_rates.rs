//! The rates of handshakes ([`Buckets`]), shared by all workers.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use presenced_session::clock::Clock;
use tracing::field::display;

use super::once_a_minute::OnceAMinute;
use super::rates::{Buckets, Exceeded, Rates};

/// The rates of handshakes, shared by all workers.
#[derive(Debug)]
pub struct HandshakeRates {
    clock: Clock,
    buckets: Mutex<Buckets>,
    refusals_logged: OnceAMinute,
}

impl HandshakeRates {
    /// Nothing has come yet.
    pub fn new(rates: Rates, clock: Clock) -> HandshakeRates {
        HandshakeRates {
            clock,
            buckets: Mutex::new(Buckets::new(rates)),
            refusals_logged: OnceAMinute::default(),
        }
    }

    /// From now on these are the rates.
    pub fn set(&self, rates: Rates) {
        self.with(|buckets| buckets.set(rates));
    }

    /// A handshake has come, of which nothing is known but perhaps its address.
    ///
    /// # Errors
    ///
    /// The rate that it exceeds.
    pub fn comes(&self, address: Option<IpAddr>) -> Result<(), Exceeded> {
        let taken = self.with(|buckets| buckets.comes(address, self.clock.now()));
        taken.inspect_err(|exceeded| self.log_refusal(*exceeded, address))
    }

    /// Its token is a good one of `user`.
    ///
    /// # Errors
    ///
    /// It exceeds the user's rate.
    pub fn is_of(&self, user: &impl Hash, address: Option<IpAddr>) -> Result<(), Exceeded> {
        let taken = self.with(|buckets| buckets.is_of(user, self.clock.now()));
        taken.inspect_err(|exceeded| self.log_refusal(*exceeded, address))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Buckets) -> T) -> T {
        act(&mut self.buckets.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says now and again that handshakes are refused.
    fn log_refusal(&self, exceeded: Exceeded, address: Option<IpAddr>) {
        if self.refusals_logged.is_due() {
            let address = address.map(display);
            let flag = match exceeded {
                Exceeded::Server => "--max-handshakes-per-second",
                Exceeded::Address => "--max-handshakes-per-second-per-address",
                Exceeded::User => "--max-handshakes-per-second-per-user",
            };
            tracing::warn!(
                address,
                "a handshake is refused by {flag}; this is said once a minute"
            );
        }
    }
}
