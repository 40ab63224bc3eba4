//! [`Keys`]: the keys that one request asks for.

use core::fmt;

use crate::{key::Key, scan};

/// Bytes of the line looked at together.
const BLOCK: usize = 64;

/// The keys of a `get`: an iterator over the line, every key of which has been checked.
///
/// It finds the spaces of 64 bytes at once, so that where a key begins need not wait for where the
/// one before it was found to end.
#[derive(Clone, Copy, Default)]
pub struct Keys<'a> {
    /// Keys and spaces.
    text: &'a [u8],
    /// Where the next key begins, or spaces before it.
    at: usize,
    /// Which block `spaces` is of.
    block: usize,
    /// The spaces that come yet, the block's first byte being bit 0.
    spaces: u64,
}

impl<'a> Keys<'a> {
    /// Whether there is no more key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        { *self }.next().is_none()
    }

    /// For text, each word of which has been tried as a key.
    pub(crate) fn checked_before(text: &'a [u8]) -> Keys<'a> {
        let (at, block) = (0, 0);
        let spaces = scan::spaces(text);
        Keys {
            text,
            at,
            block,
            spaces,
        }
    }
}

impl<'a> From<Key<'a>> for Keys<'a> {
    /// One key.
    fn from(key: Key<'a>) -> Keys<'a> {
        Keys::checked_before(key.as_bytes())
    }
}

impl<'a> Iterator for Keys<'a> {
    type Item = Key<'a>;

    #[inline]
    fn next(&mut self) -> Option<Key<'a>> {
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
            let key = self.text.get(self.at..end)?;
            self.at = end + 1;
            if !key.is_empty() {
                return Some(Key::checked_before(key));
            }
        }
    }
}

impl fmt::Debug for Keys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

/// The same keys in the same order.
impl PartialEq for Keys<'_> {
    fn eq(&self, other: &Self) -> bool {
        (*self).eq(*other)
    }
}

impl Eq for Keys<'_> {}

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
                let keys: Vec<_> = Keys::checked_before(text).map(|key| key.as_bytes().len()).collect();
                let plain: Vec<_> = words.iter().copied().filter(|&bytes| bytes > 0).collect();
                prop_assert_eq!(Keys::checked_before(text).is_empty(), plain.is_empty());
                prop_assert_eq!(keys, plain);
            }
        }
    }
}
