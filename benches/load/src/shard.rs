//! How a run is divided among processes and sessions.

use std::str::FromStr;

/// The share of a run that one of several processes has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    index: usize,
    count: usize,
}

impl Shard {
    /// The whole run, in one process.
    pub(crate) const WHOLE: Shard = Shard { index: 0, count: 1 };

    /// The shards of `count` processes.
    pub(crate) fn all(count: usize) -> impl Iterator<Item = Shard> {
        (0..count).map(move |index| Shard { index, count })
    }

    /// This shard's share of `total`; the shares of all shards add up to `total`.
    pub(crate) fn share(self, total: usize) -> usize {
        self.start(total, self.index + 1) - self.start(total, self.index)
    }

    /// The sum of the shares of all earlier shards.
    pub(crate) fn offset(self, total: usize) -> usize {
        self.start(total, self.index)
    }

    fn start(self, total: usize, index: usize) -> usize {
        (total as u128 * index as u128 / self.count as u128) as usize
    }

    /// Index of the process, from 0.
    pub(crate) fn index(self) -> usize {
        self.index
    }

    /// The command-line flag of this shard.
    pub(crate) fn flag(self) -> String {
        format!("--shard={}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Shard, &'static str> {
        let shard = text.split_once('/').and_then(|(index, count)| {
            let (index, count) = (index.parse().ok()?, count.parse().ok()?);
            (index < count).then_some(Shard { index, count })
        });
        shard.ok_or("expected INDEX/COUNT")
    }
}

/// Whether item `n` is selected if a `share` of all items is, evenly spread.
pub(crate) fn is_selected(n: usize, share: f64) -> bool {
    ((n + 1) as f64 * share).floor() > (n as f64 * share).floor()
}

/// `count` items of `all`, evenly spread, or all of them if there are fewer.
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
        fn shares_add_up_to_the_total(count in 0..1_000_000usize, shards in 1..50usize) {
            let mut before = 0;
            for shard in Shard::all(shards) {
                prop_assert_eq!(shard.offset(count), before);
                before += shard.share(count);
                let flag = shard.flag();
                prop_assert_eq!(flag.strip_prefix("--shard=").unwrap().parse(), Ok(shard));
            }
            prop_assert_eq!(before, count);
        }

        #[test]
        fn the_selection_has_the_size_of_the_share(count in 0..10_000usize, share in 0.0..=1.0) {
            let selected = (0..count).filter(|&n| is_selected(n, share)).count();
            prop_assert!((selected as f64 - count as f64 * share).abs() <= 1.0);
        }
    }

    #[test]
    fn selections_are_evenly_spread() {
        let all = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
        assert_eq!(spread(&all, 3).collect::<Vec<_>>(), [0, 3, 6]);
        assert_eq!(spread(&all[..2], 3).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(spread(&all[..0], 3).count(), 0);
        let unresponsive: Vec<_> = (0..10).filter(|&n| is_selected(n, 0.2)).collect();
        assert_eq!(unresponsive, [4, 9]);
        assert!((0..10).all(|n| is_selected(n, 1.0) && !is_selected(n, 0.0)));
    }

    #[test]
    fn shards_are_parsed() {
        assert_eq!("0/1".parse(), Ok(Shard::WHOLE));
        assert!("2/2".parse::<Shard>().is_err());
        assert!("1".parse::<Shard>().is_err());
    }
}
