//! [`Keys`]: the keys that one request asks for.

use core::fmt;
use core::marker::PhantomData;

use crate::key::{Checked, Key, ReceivedKey, WordError};
use crate::scan;

/// Bytes of the line looked at together.
const BLOCK: usize = 64;

/// The keys of a `get`: an iterator over the line, every key of which has been checked.
///
/// Those that a client sends are [`Key`]s, those that a server receives
/// [`ReceivedKey`](crate::ReceivedKey)s.
#[derive(Clone, Copy)]
pub struct Keys<'a, K = Key<'a>> {
    words: Spaced<'a>,
    kind: PhantomData<K>,
}

/// The keys that a received request asks for.
pub type ReceivedKeys<'a> = Keys<'a, ReceivedKey<'a>>;

impl<'a, K> Keys<'a, K> {
    /// Whether there is no more key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        { self.words }.next().is_none()
    }

    /// For text, each word of which has been tried as such a key.
    pub(crate) fn checked_before(text: &'a [u8]) -> Keys<'a, K> {
        Keys {
            words: Spaced::new(text),
            kind: PhantomData,
        }
    }
}

impl<K> Default for Keys<'_, K> {
    /// None.
    fn default() -> Self {
        Keys::checked_before(b"")
    }
}

impl<'a> From<Key<'a>> for Keys<'a> {
    /// One key.
    fn from(key: Key<'a>) -> Keys<'a> {
        Keys::checked_before(key.as_bytes())
    }
}

impl<'a> TryFrom<ReceivedKeys<'a>> for Keys<'a> {
    type Error = WordError;

    /// The same keys, if all of them may be sent.
    fn try_from(keys: ReceivedKeys<'a>) -> Result<Keys<'a>, WordError> {
        { keys }.try_for_each(|key| Key::try_from(key).map(drop))?;
        Ok(Keys {
            words: keys.words,
            kind: PhantomData,
        })
    }
}

impl<'a, K: Checked<'a>> Iterator for Keys<'a, K> {
    type Item = K;

    #[inline]
    fn next(&mut self) -> Option<K> {
        self.words.next().map(K::checked_before)
    }
}

impl<'a, K> fmt::Debug for Keys<'a, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown =
            |word: &'a [u8]| fmt::from_fn(move |f| write!(f, "Key(\"{}\")", word.escape_ascii()));
        f.debug_list().entries(self.words.map(shown)).finish()
    }
}

/// The same keys in the same order.
impl<K> PartialEq for Keys<'_, K> {
    fn eq(&self, other: &Self) -> bool {
        self.words.eq(other.words)
    }
}

impl<K> Eq for Keys<'_, K> {}

/// The words of a line: what stands between spaces.
///
/// It finds the spaces of 64 bytes at once, so that where a word begins need not wait for where the
/// one before it was found to end.
#[derive(Clone, Copy)]
struct Spaced<'a> {
    /// Words and spaces.
    text: &'a [u8],
    /// Where the next word begins, or spaces before it.
    at: usize,
    /// Which block `spaces` is of.
    block: usize,
    /// The spaces that come yet, the block's first byte being bit 0.
    spaces: u64,
}

impl<'a> Spaced<'a> {
    fn new(text: &'a [u8]) -> Spaced<'a> {
        Spaced {
            text,
            at: 0,
            block: 0,
            spaces: scan::spaces(text),
        }
    }
}

impl<'a> Iterator for Spaced<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let end = if self.spaces != 0 {
                self.block + self.spaces.trailing_zeros() as usize
            } else if let Some(rest @ [_, ..]) = self.text.get(self.block + BLOCK..) {
                self.block += BLOCK;
                self.spaces = scan::spaces(rest);
                continue;
            } else {
                self.text.len()
            };
            // Without its lowest bit, if it has one.
            self.spaces &= self.spaces.wrapping_sub(1);
            let word = self.text.get(self.at..end)?;
            self.at = end + 1;
            if !word.is_empty() {
                return Some(word);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_stand_between_spaces(words in prop::collection::vec(0_usize..90, 0..20)) {
            let text: Vec<u8> = words.iter().flat_map(|&bytes| [&[b'k'; 90][..bytes], b" "].concat()).collect();
            for text in [&text[..], text.strip_suffix(b" ").unwrap_or(&text)] {
                let keys = Keys::<Key<'_>>::checked_before(text);
                let plain: Vec<_> = words.iter().copied().filter(|&bytes| bytes > 0).collect();
                prop_assert_eq!(keys.is_empty(), plain.is_empty());
                prop_assert_eq!(keys.map(|key| key.as_bytes().len()).collect::<Vec<_>>(), plain);
            }
        }
    }
}
