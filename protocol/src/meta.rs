//! The flags of meta commands (`protocol.txt`, *Meta Commands*).
//!
//! [`Flag`] is what a client asks with and a server reads, [`ReplyFlag`] what comes back. A request's
//! [`Flags`] are all known and were checked by the parser; a reply's [`ReplyFlags`] are read leniently,
//! since a later memcached may say more: what is not known here is [`ReplyFlag::Other`].

use crate::key::{Opaque, Token};
use crate::limits::LINE_BYTES_MAX;
use crate::number;
pub use crate::reply_flag::{ReplyFlag, ReplyFlags};
use crate::request_error::BadRequestKind;
use crate::scan::Words;

/// A hint for proxies, in the flags `P` and `L` (`protocol.txt`, *Meta Commands*).
pub type Hint<'a> = Token<'a, LINE_BYTES_MAX>;

/// A flag of a meta request. The letter is in each description; the section of `protocol.txt` is
/// that of the command, where no other is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flag<'a> {
    /// `b`: the key is base64; see [`base64`](crate::base64).
    Base64Key,
    /// `c`: say the item's CAS number.
    ReturnCas,
    /// `f`: say the client flags.
    ReturnClientFlags,
    /// `h`: say whether the item had been hit before.
    ReturnHit,
    /// `k`: say the key.
    ReturnKey,
    /// `l`: say how many seconds ago the item was last used.
    ReturnLastAccess,
    /// `s`: say the value's size.
    ReturnSize,
    /// `t`: say how many seconds the item has left.
    ReturnTtl,
    /// `v`: send the value.
    ReturnValue,
    /// `q`: don't answer what is to be expected (a miss of `mg`, the success of the others).
    Quiet,
    /// `u`: don't count this as use.
    NoBump,
    /// `I`: mark as stale instead of removing (`md`); take an older CAS number and mark as stale
    /// (`ms`).
    Invalidate,
    /// `O`: send this back.
    Opaque(Opaque<'a>),
    /// `P`: for proxies (*Meta Commands*).
    ProxyPath(Hint<'a>),
    /// `L`: for proxies (*Meta Commands*).
    ProxyHint(Hint<'a>),
    /// `N`: make the item if there is none, with this expiry time.
    Vivify(i64),
    /// `R`: let one client recache if fewer seconds are left.
    Recache(i64),
    /// `T`: the new expiry time (*Expiration times*).
    Exptime(i64),
    /// `C`: only if this is the item's CAS number.
    CompareCas(u64),
    /// `F`: the client flags to store.
    ClientFlags(u32),
    /// `J`: the number to begin with where `N` makes the item (*Meta Arithmetic*).
    Initial(u64),
    /// `D`: how much to add or subtract (*Meta Arithmetic*).
    Delta(u64),
    /// `M` in `ms`: how to store (*Meta Set*).
    StoreMode(StoreMode),
    /// `M` in `ma`: add or subtract (*Meta Arithmetic*).
    Direction(Direction),
}

/// How `ms` stores (`protocol.txt`, *Meta Set*, token `M`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreMode {
    /// `S`: whatever was there.
    #[default]
    Set,
    /// `E`: only if there is nothing.
    Add,
    /// `A`: after the value that is there.
    Append,
    /// `P`: before the value that is there.
    Prepend,
    /// `R`: only if there is something.
    Replace,
}

/// Which way a number goes (`protocol.txt`, *Increment/Decrement*; *Meta Arithmetic*, token `M`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// `incr`, `I` or `+`: up, past 64 bits to 0.
    #[default]
    Up,
    /// `decr`, `D` or `-`: down, not below 0.
    Down,
}

/// The flags of a meta request, in order: an iterator over its line, which has been checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flags<'a> {
    words: Words<'a>,
    /// Which letters there are: bit 0 is `A`.
    letters: u64,
}

impl<'a> Flag<'a> {
    /// Its letter.
    #[must_use]
    pub fn letter(&self) -> u8 {
        match self {
            Flag::Base64Key => b'b',
            Flag::ReturnCas => b'c',
            Flag::ReturnClientFlags => b'f',
            Flag::ReturnHit => b'h',
            Flag::ReturnKey => b'k',
            Flag::ReturnLastAccess => b'l',
            Flag::ReturnSize => b's',
            Flag::ReturnTtl => b't',
            Flag::ReturnValue => b'v',
            Flag::Quiet => b'q',
            Flag::NoBump => b'u',
            Flag::Invalidate => b'I',
            Flag::Opaque(_) => b'O',
            Flag::ProxyPath(_) => b'P',
            Flag::ProxyHint(_) => b'L',
            Flag::Vivify(_) => b'N',
            Flag::Recache(_) => b'R',
            Flag::Exptime(_) => b'T',
            Flag::CompareCas(_) => b'C',
            Flag::ClientFlags(_) => b'F',
            Flag::Initial(_) => b'J',
            Flag::Delta(_) => b'D',
            Flag::StoreMode(_) | Flag::Direction(_) => b'M',
        }
    }

    /// The flag that `word`, a word of a request line, is; nothing for a mode that no command has.
    fn read(word: &'a [u8]) -> Result<Option<Flag<'a>>, BadRequestKind<'a>> {
        use BadRequestKind::{DeltaValue, FlagToken, InitialValue, InvalidFlag, LineFormat};
        let Some((letter, token)) = word.split_first() else {
            return Err(InvalidFlag);
        };
        let exptime = || number::read(token).ok_or(FlagToken);
        Ok(Some(match letter {
            // memcached looks at nothing but the letter of these.
            b'b' => Flag::Base64Key,
            b'c' => Flag::ReturnCas,
            b'f' => Flag::ReturnClientFlags,
            b'h' => Flag::ReturnHit,
            b'k' => Flag::ReturnKey,
            b'l' => Flag::ReturnLastAccess,
            b's' => Flag::ReturnSize,
            b't' => Flag::ReturnTtl,
            b'v' => Flag::ReturnValue,
            b'q' => Flag::Quiet,
            b'u' => Flag::NoBump,
            b'I' => Flag::Invalidate,
            b'O' => Flag::Opaque(Opaque::new(token).map_err(BadRequestKind::opaque)?),
            b'P' => Flag::ProxyPath(Hint::new(token).map_err(|_| FlagToken)?),
            b'L' => Flag::ProxyHint(Hint::new(token).map_err(|_| FlagToken)?),
            b'N' => Flag::Vivify(exptime()?),
            b'R' => Flag::Recache(exptime()?),
            b'T' => Flag::Exptime(exptime()?),
            b'C' => Flag::CompareCas(number::read_unsigned(token).ok_or(FlagToken)?),
            b'F' => {
                let flags = number::read_unsigned(token).and_then(|flags| flags.try_into().ok());
                Flag::ClientFlags(flags.ok_or(LineFormat)?)
            }
            b'J' => Flag::Initial(number::read_unsigned(token).ok_or(InitialValue)?),
            b'D' => Flag::Delta(number::read_unsigned(token).ok_or(DeltaValue)?),
            b'M' => return Flag::mode(token),
            _ => return Err(InvalidFlag),
        }))
    }

    fn mode(token: &[u8]) -> Result<Option<Flag<'a>>, BadRequestKind<'a>> {
        let &[mode] = token else {
            return Err(BadRequestKind::ModeLength);
        };
        let store = StoreMode::from_letter(mode).map(Flag::StoreMode);
        let direction = || Direction::from_letter(mode).map(Flag::Direction);
        Ok(store.or_else(direction))
    }
}

impl StoreMode {
    /// Its letter, the token of `M`.
    #[must_use]
    pub fn letter(self) -> u8 {
        match self {
            StoreMode::Set => b'S',
            StoreMode::Add => b'E',
            StoreMode::Append => b'A',
            StoreMode::Prepend => b'P',
            StoreMode::Replace => b'R',
        }
    }

    fn from_letter(letter: u8) -> Option<StoreMode> {
        Some(match letter {
            b'S' => StoreMode::Set,
            b'E' => StoreMode::Add,
            b'A' => StoreMode::Append,
            b'P' => StoreMode::Prepend,
            b'R' => StoreMode::Replace,
            _ => return None,
        })
    }
}

impl Direction {
    /// Its letter, the token of `M`.
    #[must_use]
    pub fn letter(self) -> u8 {
        match self {
            Direction::Up => b'I',
            Direction::Down => b'D',
        }
    }

    fn from_letter(letter: u8) -> Option<Direction> {
        Some(match letter {
            b'I' | b'+' => Direction::Up,
            b'D' | b'-' => Direction::Down,
            _ => return None,
        })
    }
}

/// What is wrong with the flags of a request.
pub(crate) enum BadFlags<'a> {
    /// memcached stops here, whatever else there is.
    Preparse(BadRequestKind<'a>, &'a [u8]),
    /// It comes to this only when all else is well: a mode for another command, an opaque token
    /// that is too long.
    Late(BadRequestKind<'a>, &'a [u8]),
}

/// Which command the flags are for, as far as it matters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ModeOf {
    Store,
    Arithmetic,
    /// A mode is taken and means nothing.
    None,
}

impl ModeOf {
    /// What is wrong with a mode: `flag`, if any command has it.
    fn refuses<'a>(self, letter: u8, flag: Option<Flag<'_>>) -> Option<BadRequestKind<'a>> {
        match (self, flag) {
            (ModeOf::Store, Some(Flag::StoreMode(_)))
            | (ModeOf::Arithmetic, Some(Flag::Direction(_)))
            | (ModeOf::None, _) => None,
            (ModeOf::Store, _) => (letter == b'M').then_some(BadRequestKind::StoreMode),
            (ModeOf::Arithmetic, _) => (letter == b'M').then_some(BadRequestKind::ArithmeticMode),
        }
    }
}

impl<'a> Flags<'a> {
    /// Whether a flag with this letter is among them.
    #[must_use]
    pub fn has(&self, letter: u8) -> bool {
        bit(letter).is_some_and(|bit| self.letters & bit != 0)
    }

    /// Looks at each word as memcached does, and in its order: a letter that is not known, or there
    /// twice, ends it; of all else that is wrong the last is told.
    ///
    /// `is_base64` is asked of the key at the flag `b`.
    pub(crate) fn read(
        words: Words<'a>,
        modes: ModeOf,
        is_base64: impl Fn() -> bool,
    ) -> Result<Flags<'a>, BadFlags<'a>> {
        let (mut letters, mut bad, mut late) = (0, None, None);
        for word in words {
            let letter = word[0];
            // memcached keeps account of 127 letters, and takes all beyond as seen.
            if letter >= 0x7f || bit(letter).is_some_and(|bit| letters & bit != 0) {
                return Err(BadFlags::Preparse(BadRequestKind::DuplicateFlag, word));
            }
            letters |= bit(letter).unwrap_or(0);
            match Flag::read(word) {
                Ok(Some(Flag::Base64Key)) if !is_base64() => {
                    bad = Some((BadRequestKind::KeyEncoding, word));
                }
                Ok(flag) => {
                    let refused = modes.refuses(letter, flag);
                    late = refused.map(|kind| (kind, word)).or(late);
                }
                Err(kind @ BadRequestKind::InvalidFlag) => {
                    return Err(BadFlags::Preparse(kind, word));
                }
                // A bad mode is told before it.
                Err(kind @ BadRequestKind::OpaqueTooLong) => late = late.or(Some((kind, word))),
                // memcached has no words for a bad `F`, and leaves what it had.
                Err(BadRequestKind::LineFormat) if bad.is_some() => {}
                Err(kind) => bad = Some((kind, word)),
            }
        }
        match (bad, late) {
            (Some((kind, word)), _) => Err(BadFlags::Preparse(kind, word)),
            (None, Some((kind, word))) => Err(BadFlags::Late(kind, word)),
            (None, None) => Ok(Flags { words, letters }),
        }
    }
}

impl<'a> Iterator for Flags<'a> {
    type Item = Flag<'a>;

    /// The next flag; a mode that means nothing here is left out.
    fn next(&mut self) -> Option<Flag<'a>> {
        self.words
            .by_ref()
            .find_map(|word| Flag::read(word).ok().flatten())
    }
}

/// The same flags in the same order.
impl PartialEq for Flags<'_> {
    fn eq(&self, other: &Self) -> bool {
        (*self).eq(*other)
    }
}

impl Eq for Flags<'_> {}

/// All letters from `A` to `z` fit.
fn bit(letter: u8) -> Option<u64> {
    let number = letter.checked_sub(b'A').filter(|&number| number < 64)?;
    Some(1 << number)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn read(text: &str, modes: ModeOf) -> Result<Vec<Flag<'_>>, &'static str> {
        match Flags::read(Words::new(text.as_bytes()), modes, || true) {
            Ok(flags) => Ok(flags.collect()),
            Err(BadFlags::Preparse(kind, _) | BadFlags::Late(kind, _)) => Err(kind.message()),
        }
    }

    #[test]
    fn reads_each_flag() {
        let text = "b c f h k l s t v q u I O31 Ppath L N-1 R30 T0 C5 F7 J8 D9 M-";
        let expected = [
            Flag::Base64Key,
            Flag::ReturnCas,
            Flag::ReturnClientFlags,
            Flag::ReturnHit,
            Flag::ReturnKey,
            Flag::ReturnLastAccess,
            Flag::ReturnSize,
            Flag::ReturnTtl,
            Flag::ReturnValue,
            Flag::Quiet,
            Flag::NoBump,
            Flag::Invalidate,
            Flag::Opaque(Opaque::new(b"31").unwrap()),
            Flag::ProxyPath(Hint::new(b"path").unwrap()),
            Flag::ProxyHint(Hint::new(b"").unwrap()),
            Flag::Vivify(-1),
            Flag::Recache(30),
            Flag::Exptime(0),
            Flag::CompareCas(5),
            Flag::ClientFlags(7),
            Flag::Initial(8),
            Flag::Delta(9),
            Flag::Direction(Direction::Down),
        ];
        assert_eq!(read(text, ModeOf::Arithmetic).unwrap(), expected);
        let Ok(flags) = Flags::read(Words::new(text.as_bytes()), ModeOf::Arithmetic, || true)
        else {
            panic!("they are all known");
        };
        for letter in 0..=255 {
            let there = expected.iter().any(|flag| flag.letter() == letter);
            assert_eq!(flags.has(letter), there, "{letter}");
        }
    }

    #[test]
    fn a_mode_must_fit_its_command() {
        for mode in [
            StoreMode::Set,
            StoreMode::Add,
            StoreMode::Append,
            StoreMode::Prepend,
            StoreMode::Replace,
        ] {
            let text = alloc::format!("M{}", char::from(mode.letter()));
            assert_eq!(read(&text, ModeOf::Store).unwrap(), [Flag::StoreMode(mode)]);
            assert!(read(&text, ModeOf::Arithmetic).is_err());
        }
        for (text, direction) in [
            ("MI", Direction::Up),
            ("M+", Direction::Up),
            ("MD", Direction::Down),
        ] {
            assert_eq!(
                read(text, ModeOf::Arithmetic).unwrap(),
                [Flag::Direction(direction)]
            );
            assert!(read(text, ModeOf::Store).is_err());
        }
        assert_eq!(
            read("v M? k", ModeOf::None).unwrap(),
            [Flag::ReturnValue, Flag::ReturnKey]
        );
    }
}
