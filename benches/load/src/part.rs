//! How a run is shared out among processes, and among its sessions.

use std::str::FromStr;

/// One of several processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    index: usize,
    of: usize,
}

impl Part {
    /// The only process.
    pub(crate) const WHOLE: Part = Part { index: 0, of: 1 };

    /// Each of `of` processes.
    pub(crate) fn all(of: usize) -> impl Iterator<Item = Part> {
        (0..of).map(move |index| Part { index, of })
    }

    /// This one's share of `count`; the shares of all parts make `count`.
    pub(crate) fn share(self, count: usize) -> usize {
        self.first(count, self.index + 1) - self.first(count, self.index)
    }

    /// What the parts before this one have of `count`.
    pub(crate) fn before(self, count: usize) -> usize {
        self.first(count, self.index)
    }

    fn first(self, count: usize, index: usize) -> usize {
        (count as u128 * index as u128 / self.of as u128) as usize
    }

    /// Its place among the processes, from 0.
    pub(crate) fn index(self) -> usize {
        self.index
    }

    /// As the flag has it.
    pub(crate) fn flag(self) -> String {
        format!("--part={}/{}", self.index, self.of)
    }
}

impl FromStr for Part {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Part, &'static str> {
        let numbers = text.split_once('/').and_then(|(index, of)| {
            let (index, of) = (index.parse().ok()?, of.parse().ok()?);
            (index < of).then_some(Part { index, of })
        });
        numbers.ok_or("expected INDEX/COUNT")
    }
}

/// Whether number `n` is one of those that make up `share` of all, evenly spread.
pub(crate) fn is_of_share(n: usize, share: f64) -> bool {
    ((n + 1) as f64 * share).floor() > (n as f64 * share).floor()
}

/// `count` of `all`, evenly spread; all if there are not as many.
pub(crate) fn spread<T: Copy>(all: &[T], count: usize) -> impl Iterator<Item = T> {
    let count = count.min(all.len());
    (0..count).map(move |n| all[n * all.len() / count])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shares_make_the_whole(count in 0..1_000_000usize, of in 1..50usize) {
            let mut before = 0;
            for part in Part::all(of) {
                prop_assert_eq!(part.before(count), before);
                before += part.share(count);
                let flag = part.flag();
                prop_assert_eq!(flag.strip_prefix("--part=").unwrap().parse(), Ok(part));
            }
            prop_assert_eq!(before, count);
        }

        #[test]
        fn a_share_is_as_many_as_it_says(count in 0..10_000usize, share in 0.0..=1.0) {
            let those = (0..count).filter(|&n| is_of_share(n, share)).count();
            prop_assert!((those as f64 - count as f64 * share).abs() <= 1.0);
        }
    }

    #[test]
    fn even() {
        let all = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
        assert_eq!(spread(&all, 3).collect::<Vec<_>>(), [0, 3, 6]);
        assert_eq!(spread(&all[..2], 3).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(spread(&all[..0], 3).count(), 0);
        let deaf: Vec<_> = (0..10).filter(|&n| is_of_share(n, 0.2)).collect();
        assert_eq!(deaf, [4, 9]);
        assert!((0..10).all(|n| is_of_share(n, 1.0) && !is_of_share(n, 0.0)));
    }

    #[test]
    fn parts_are_read() {
        assert_eq!("0/1".parse(), Ok(Part::WHOLE));
        assert!("2/2".parse::<Part>().is_err());
        assert!("1".parse::<Part>().is_err());
    }
}
