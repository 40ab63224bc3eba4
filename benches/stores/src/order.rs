//! An order in which all users come by, as if at random.

#[derive(Clone, Copy)]
pub struct Order {
    users: u64,
    stride: u64,
    offset: u64,
}

impl Order {
    pub fn random(users: u32) -> Order {
        let users = u64::from(users);
        // The multiples of a number that shares no factor with `users` reach all users.
        let stride = loop {
            let stride = fastrand::u64(users / 4..users);
            if gcd(stride, users) == 1 {
                break stride;
            }
        };
        Order {
            users,
            stride,
            offset: fastrand::u64(..users),
        }
    }

    /// The user at a place. After the last user, the first comes again.
    pub fn user(self, place: u64) -> u32 {
        ((place % self.users * self.stride + self.offset) % self.users) as u32
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
