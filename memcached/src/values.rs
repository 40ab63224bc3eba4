//! The answer to one `get`: the values of those keys that memcached has, in the order of the keys,
//! then `END`.
//!
//! Each value is shown where it was read, and one too long to be ours not at all. So what memcached
//! has takes no memory here.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use presenced_protocol::reply::{Skimmed, Skimmer};
use presenced_protocol::{Key, Limits, Reply};

use super::misfit::Misfit;
use crate::limits::VALUE_BYTES_MAX;

/// An iterator over the values of one `get`'s reply.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    keys: &'a [Key<'a>],
    /// Those before it have their answer: a value or none.
    next: usize,
    skimmer: Skimmer,
}

/// How far an answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes are done with. The rest is to be given again, with more behind it.
    Part(usize),
    /// It has ended, with so many bytes. What is behind them belongs to the next answer.
    Whole(usize),
}

impl<'a> Values<'a> {
    /// Of a `get` for `keys` that has just been sent.
    pub fn new(keys: &'a [Key<'a>]) -> Values<'a> {
        let limits = Limits {
            value_bytes_max: VALUE_BYTES_MAX,
            ..Limits::default()
        };
        Values {
            keys,
            next: 0,
            skimmer: Skimmer::new(limits),
        }
    }

    /// Reads the last answer that there is to be: [`Values::read_one`], but there may be nothing behind it.
    ///
    /// # Errors
    ///
    /// The same, and if the answer ends before the input.
    pub fn read(
        &mut self,
        input: &[u8],
        found: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<Progress, Misfit> {
        match self.read_one(input, found)? {
            Progress::Whole(taken) if taken < input.len() => Err(too_much(&input[taken..])),
            progress => Ok(progress),
        }
    }

    /// Reads the start of `input`. `found` is told which of the keys has a value, and the value if
    /// it has at most [`VALUE_BYTES_MAX`]. An error means: close the connection, and believe none
    /// of the values.
    ///
    /// # Errors
    ///
    /// If the input is no answer to this question.
    pub fn read_one(
        &mut self,
        input: &[u8],
        mut found: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<Progress, Misfit> {
        let mut taken = 0;
        loop {
            let rest = &input[taken..];
            let misfit = |why| Misfit::new(why, rest);
            let skimmed = self.skimmer.parse(rest);
            let (skimmed, length) = skimmed.map_err(|_| misfit("not a memcached reply"))?;
            taken += length;
            match skimmed {
                None => return Ok(Progress::Part(taken)),
                Some(Skimmed::Whole(Reply::End)) => return Ok(Progress::Whole(taken)),
                Some(Skimmed::Whole(Reply::Value { key, value, .. })) => {
                    found(
                        self.place_of(key).ok_or_else(|| misfit(NOT_ASKED))?,
                        Some(value),
                    );
                }
                Some(Skimmed::Large {
                    head: Reply::Value { key, .. },
                    ..
                }) => found(self.place_of(key).ok_or_else(|| misfit(NOT_ASKED))?, None),
                Some(_) => return Err(misfit("not an answer to a get")),
            }
        }
    }

    /// `None` if it was not asked for. Keys without a value are left out of the answer.
    fn place_of(&mut self, key: &[u8]) -> Option<usize> {
        let rest = &self.keys[self.next..];
        let missing = rest.iter().position(|asked| asked.as_bytes() == key);
        let index = self.next + missing?;
        self.next = index + 1;
        Some(index)
    }
}

/// For `more` than the answer.
pub(super) fn too_much(more: &[u8]) -> Misfit {
    Misfit::new("more than the answer to a get", more)
}

const NOT_ASKED: &str = "a key not asked for";

#[cfg(test)]
mod tests {
    use presenced_protocol::encode;
    use proptest::prelude::*;

    use super::*;

    /// The index of each key found, and of the values that were shown themselves.
    type Found = Vec<(usize, Option<Vec<u8>>)>;

    /// What comes of an answer in pieces, and whether it is whole.
    fn read<'a>(
        names: &[&str],
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(Found, bool), Misfit> {
        let keys: Vec<_> = names
            .iter()
            .flat_map(|name| Key::new(name.as_bytes()))
            .collect();
        let mut values = Values::new(&keys);
        let (mut found, mut waiting) = (Vec::new(), Vec::new());
        let mut progress = Progress::Part(0);
        for piece in pieces {
            waiting.extend_from_slice(piece);
            progress = values.read(&waiting, |index, value| {
                found.push((index, value.map(Into::into)));
            })?;
            if let Progress::Part(taken) = progress {
                waiting.drain(..taken);
                // What is no reply yet is a line or a value of ours.
                assert!(waiting.len() < 2048 + VALUE_BYTES_MAX + 2);
            }
        }
        Ok((found, matches!(progress, Progress::Whole(_))))
    }

    fn read_whole(names: &[&str], input: &[u8]) -> Result<(Found, bool), Misfit> {
        read(names, [input].into_iter())
    }

    #[test]
    fn each_value_is_its_keys() {
        let input = b"VALUE b 0 0\r\n\r\nVALUE d 7 7\r\n\r\nEND\r\n\r\nEND\r\n";
        let found = vec![(1, Some(b"".to_vec())), (3, Some(b"\r\nEND\r\n".to_vec()))];
        assert_eq!(
            read_whole(&["a", "b", "c", "d", "e"], input),
            Ok((found, true))
        );
        assert_eq!(read_whole(&["a"], b"END\r\n"), Ok((Vec::new(), true)));
        assert_eq!(read_whole(&["a"], b"EN"), Ok((Vec::new(), false)));
    }

    #[test]
    fn what_is_too_long_to_be_ours_is_found_and_not_shown() {
        for bytes in [0, VALUE_BYTES_MAX, VALUE_BYTES_MAX + 1, 1 << 21] {
            let value = vec![b'x'; bytes];
            let mut input = Vec::new();
            encode::value(&mut input, b"a", 0, &value, None);
            encode::value(&mut input, b"b", 0, b"1", None);
            encode::reply(&mut input, &Reply::End);
            let shown = (bytes <= VALUE_BYTES_MAX).then_some(value);
            let found = vec![(0, shown), (1, Some(b"1".to_vec()))];
            let whole = Ok((found, true));
            assert_eq!(read_whole(&["a", "b"], &input), whole, "{bytes}");
            assert_eq!(read(&["a", "b"], input.chunks(1000)), whole, "{bytes}");
        }
    }

    #[test]
    fn what_answers_no_get_is_an_error() {
        for input in [
            // Not asked for, in another order, twice.
            "VALUE x 0 1\r\n1\r\n",
            "VALUE b 0 1\r\n1\r\nVALUE a 0 1\r\n1\r\n",
            "VALUE a 0 1\r\n1\r\nVALUE a 0 1\r\n1\r\n",
            "VALUE x 0 5000\r\n",
            // More than memcached can have.
            "VALUE a 0 2147483648\r\n",
            // More than one answer.
            "END\r\nEND\r\n",
            "END\r\n\r\n",
            "END\r\nV",
            "STORED\r\n",
            "VA 1\r\n1\r\n",
            "VA 5000\r\n",
            "SERVER_ERROR out of memory writing get response\r\n",
            "ERROR\r\n",
            "hello\r\n",
        ] {
            assert!(
                read_whole(&["a", "b"], input.as_bytes()).is_err(),
                "{input}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_cuts_give_the_same(
            values in prop::collection::vec(prop::option::of((0..2_usize, 0..40_usize)), 1..8),
            content in prop::sample::select(vec!["x", "\r\nEND\r\n", "VALUE a 0 1\r\n"]),
            mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let names: Vec<_> = (0..values.len()).map(|number| format!("k{number}")).collect();
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let (mut input, mut expected) = (Vec::new(), Vec::new());
            for (index, value) in values.iter().enumerate() {
                // Few bytes, or as few around the limit.
                let Some((limits, bytes)) = value else { continue };
                let bytes = limits * (VALUE_BYTES_MAX - 20) + bytes;
                let value: Vec<u8> = content.bytes().cycle().take(bytes).collect();
                encode::value(&mut input, names[index].as_bytes(), 0, &value, None);
                expected.push((index, (bytes <= VALUE_BYTES_MAX).then_some(value)));
            }
            encode::reply(&mut input, &Reply::End);
            let whole = Ok((expected, true));
            prop_assert_eq!(&read_whole(&names, &input), &whole);
            prop_assert_eq!(&read(&names, input.chunks(1)), &whole);
            cuts.sort_by_key(|cut| cut.index(input.len()));
            let mut pieces = Vec::new();
            let mut rest = &input[..];
            for cut in cuts {
                let at = cut.index(input.len()) - (input.len() - rest.len());
                let (piece, left) = rest.split_at(at);
                pieces.push(piece);
                rest = left;
            }
            pieces.push(rest);
            prop_assert_eq!(&read(&names, pieces.into_iter()), &whole);
        }
    }
}
