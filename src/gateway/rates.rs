//! How many handshakes there may be: of the whole server, of one address, of one user.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::time::Duration;

use super::places::network;
use crate::token_buckets::{Rate, Table, ns};

/// What an operator may set; without a rate there is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of all handshakes.
    pub server: Option<Rate>,
    /// Of those from one address (IPv6: one /64).
    pub address: Option<Rate>,
    /// Of those with a good token for one user.
    pub user: Option<Rate>,
}

/// Which rate is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// That of the whole server.
    Server,
    /// That of an address.
    Address,
    /// That of a user.
    User,
}

/// The buckets. Times are those of a monotonic clock.
#[derive(Debug)]
pub struct Buckets {
    rates: Rates,
    server_full_at_ns: u64,
    addresses: Table,
    users: Table,
    hasher: RandomState,
}

impl Buckets {
    /// All full.
    pub fn new(rates: Rates) -> Buckets {
        Buckets {
            rates,
            server_full_at_ns: 0,
            addresses: Table::default(),
            users: Table::default(),
            hasher: RandomState::new(),
        }
    }

    /// From now on these are the rates; what has been taken stays so.
    pub fn set(&mut self, rates: Rates) {
        self.rates = rates;
    }

    /// A handshake has come, from `address` if that is known; nothing is known of its token.
    ///
    /// # Errors
    ///
    /// The rate that it exceeds. An address that does takes nothing from the whole server's.
    pub fn comes(&mut self, address: Option<IpAddr>, now: Duration) -> Result<(), Exceeded> {
        let now_ns = ns(now);
        if let (Some(rate), Some(address)) = (self.rates.address, address) {
            let key = self.hasher.hash_one(network(address));
            self.addresses
                .take(rate, key, now_ns, 1)
                .map_err(|_| Exceeded::Address)?;
        }
        match self.rates.server {
            None => Ok(()),
            Some(rate) => {
                let taken = rate.take(&mut self.server_full_at_ns, now_ns, 1);
                taken.map_err(|_| Exceeded::Server)
            }
        }
    }

    /// Its token is a good one of `user`.
    ///
    /// # Errors
    ///
    /// It exceeds the user's rate.
    pub fn is_of(&mut self, user: &impl Hash, now: Duration) -> Result<(), Exceeded> {
        let Some(rate) = self.rates.user else {
            return Ok(());
        };
        let key = self.hasher.hash_one(user);
        let taken = self.users.take(rate, key, ns(now), 1);
        taken.map_err(|_| Exceeded::User)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::{RATE_BURST_TIME, RATED_MAX};

    fn address(number: u32) -> Option<IpAddr> {
        Some(IpAddr::V4(number.into()))
    }

    fn buckets(server: Option<u32>, address: Option<u32>, user: Option<u32>) -> Buckets {
        Buckets::new(Rates {
            server: server.map(Rate::per_second),
            address: address.map(Rate::per_second),
            user: user.map(Rate::per_second),
        })
    }

    #[test]
    fn a_burst_then_the_rate_and_each_address_has_its_own() {
        let mut buckets = buckets(None, Some(20), None);
        let start = Duration::from_secs(1000);
        let burst = RATE_BURST_TIME.as_secs() * 20;
        for number in [1, 2] {
            let mut passed = 0;
            while buckets.comes(address(number), start).is_ok() {
                passed += 1;
            }
            assert_eq!(passed, burst);
        }
        let later = (1..=10_000).map(|ms| start + Duration::from_millis(ms));
        let passed = later.filter(|now| buckets.comes(address(1), *now).is_ok());
        assert_eq!(passed.count(), 200, "20 a second for 10 s");
    }

    #[test]
    fn who_exceeds_its_own_rate_takes_nothing_of_the_others() {
        let mut buckets = buckets(Some(10), Some(1), Some(1));
        let now = Duration::from_secs(1);
        let worth = RATE_BURST_TIME.as_secs();
        for _ in 0..worth {
            assert_eq!(buckets.comes(address(1), now), Ok(()));
        }
        for _ in 0..1000 {
            assert_eq!(buckets.comes(address(1), now), Err(Exceeded::Address));
        }
        for other in 0..9 * worth {
            assert_eq!(buckets.comes(address(100 + other as u32), now), Ok(()));
        }
        assert_eq!(buckets.comes(address(2), now), Err(Exceeded::Server));
        assert_eq!(buckets.comes(None, now), Err(Exceeded::Server));
        for _ in 0..worth {
            assert_eq!(buckets.is_of(&"alice", now), Ok(()));
        }
        assert_eq!(buckets.is_of(&"alice", now), Err(Exceeded::User));
        assert_eq!(buckets.is_of(&"bob", now), Ok(()));
    }

    #[test]
    fn customers_with_many_addresses_have_one_bucket() {
        let mut buckets = buckets(None, Some(1), None);
        let passed = (0..100).filter(|number| {
            let address = format!("2001:db8:1:2::{number:x}").parse().unwrap();
            buckets.comes(Some(address), Duration::ZERO).is_ok()
        });
        assert_eq!(passed.count() as u64, RATE_BURST_TIME.as_secs());
    }

    #[test]
    fn tables_are_bounded_and_forget_who_is_quiet() {
        let mut buckets = buckets(None, Some(1), None);
        let mut now = Duration::from_secs(1);
        for number in 0..RATED_MAX as u32 {
            assert_eq!(buckets.comes(address(number), now), Ok(()));
        }
        // There is no room for more, and nobody is refused for that.
        for _ in 0..1000 {
            assert_eq!(buckets.comes(address(u32::MAX), now), Ok(()));
        }
        assert_eq!(buckets.addresses.full_at_ns.len(), RATED_MAX);
        now += 2 * RATE_BURST_TIME;
        let passed = (0..1000).filter(|_| buckets.comes(address(u32::MAX), now).is_ok());
        assert_eq!(passed.count() as u64, RATE_BURST_TIME.as_secs());
        assert_eq!(buckets.addresses.full_at_ns.len(), 1);
    }

    #[test]
    fn a_burst_leaves_no_large_table_behind() {
        let mut buckets = buckets(None, None, Some(50));
        for user in 0..100_000u32 {
            let now = Duration::from_micros(50 * u64::from(user));
            assert_eq!(buckets.is_of(&user, now), Ok(()));
        }
        // Each is full again after 20 ms, in which 400 others come.
        let capacity = buckets.users.full_at_ns.capacity();
        assert!(capacity < 4000, "{capacity}");
    }

    proptest! {
        /// Against the plain form of a token bucket.
        #[test]
        fn as_a_token_bucket(
            per_second in 1..2000u32,
            waits_ms in prop::collection::vec(0..3000u64, 1..300),
        ) {
            let mut buckets = buckets(None, None, Some(per_second));
            let cost_ns = 1_000_000_000 / u64::from(per_second);
            let burst_ns = ns(RATE_BURST_TIME).max(cost_ns);
            let (mut now, mut level_ns) = (Duration::from_secs(5), burst_ns);
            for wait_ms in waits_ms {
                let wait = Duration::from_millis(wait_ms);
                now += wait;
                level_ns = (level_ns + ns(wait)).min(burst_ns);
                let passes = level_ns >= cost_ns;
                prop_assert_eq!(buckets.is_of(&"alice", now).is_ok(), passes);
                if passes {
                    level_ns -= cost_ns;
                }
            }
        }
    }
}
