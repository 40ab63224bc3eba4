//! Users of other servers, of whom pulls ask for some.

use clap::ValueEnum;

/// How users are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// Each is as likely as any other
    Uniform,
    /// User n is chosen with a likelihood of 1/(n+1): Zipf's law with the exponent 1.0
    Zipf,
}

/// Users with the numbers from 0 to their count, of whom each pull asks for some.
#[derive(Debug)]
pub(crate) struct Population {
    choice: Choice,
    /// By the number of each user, the pull that asked for them last.
    asked_in: Vec<u32>,
    pull: u32,
}

impl Population {
    pub(crate) fn new(count: usize, choice: Choice) -> Population {
        Population {
            choice,
            asked_in: vec![0; count],
            pull: 0,
        }
    }

    /// Chooses `count` different users, at most all. One who comes up again is drawn anew.
    pub(crate) fn choose(&mut self, count: usize, mut chosen: impl FnMut(u32)) {
        let population = self.asked_in.len();
        self.pull = self.pull.wrapping_add(1);
        for _ in 0..count.min(population) {
            let user = loop {
                let user = match self.choice {
                    Choice::Uniform => fastrand::usize(..population),
                    Choice::Zipf => zipf(population),
                };
                if self.asked_in[user] != self.pull {
                    break user;
                }
            };
            self.asked_in[user] = self.pull;
            chosen(user as u32);
        }
    }
}

/// A number below `count`, n with a likelihood proportional to 1/(n+1).
///
/// By rejection-inversion (W. Hörmann and G. Derflinger, 1996): a point is drawn under the curve of 1/x, from
/// 1/2 below the first rank to 1/2 above the last. As the curve is convex, each rank's unit has a little more
/// than 1/rank; a point in what is too much is drawn anew. The first rank's unit begins where it has 1.
fn zipf(count: usize) -> usize {
    let (low, high) = (1.5_f64.ln() - 1.0, (count as f64 + 0.5).ln());
    loop {
        let integral = low + fastrand::f64() * (high - low);
        let rank = integral.exp().round().clamp(1.0, count as f64);
        if integral >= (rank + 0.5).ln() - 1.0 / rank {
            return rank as usize - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: usize = 300_000;

    /// How often each user was chosen by pulls of one user.
    fn histogram(count: usize, choice: Choice) -> Vec<usize> {
        let mut population = Population::new(count, choice);
        let mut histogram = vec![0; count];
        (0..DRAWS).for_each(|_| population.choose(1, |user| histogram[user as usize] += 1));
        histogram
    }

    /// Within six standard deviations, so that it fails once in a hundred million runs.
    fn assert_near(found: usize, likelihood: f64) {
        let expected = DRAWS as f64 * likelihood;
        let deviation = (expected * (1.0 - likelihood)).sqrt();
        let off = (found as f64 - expected).abs();
        assert!(off <= 6.0 * deviation, "{found} instead of {expected}");
    }

    #[test]
    fn each_user_comes_up_as_often_as_the_choice_says() {
        let ranks: Vec<_> = (1..=50).map(f64::from).collect();
        let harmonic: f64 = ranks.iter().map(|rank| 1.0 / rank).sum();
        for (found, rank) in histogram(50, Choice::Zipf).into_iter().zip(ranks) {
            assert_near(found, 1.0 / rank / harmonic);
        }
        for found in histogram(50, Choice::Uniform) {
            assert_near(found, 1.0 / 50.0);
        }
    }

    #[test]
    fn all_are_chosen_if_all_are_wanted() {
        for choice in [Choice::Uniform, Choice::Zipf] {
            let mut population = Population::new(40, choice);
            for count in [40, 1, 1000] {
                let mut chosen = Vec::new();
                population.choose(count, |user| chosen.push(user));
                chosen.sort_unstable();
                chosen.dedup();
                assert_eq!(chosen.len(), count.min(40));
            }
        }
    }
}
