//! The line of a meta command.

use super::line::{Command, DataLine, DataOf, Refused, Rest, value_bytes};
use crate::base64;
use crate::key::{KEY_BYTES_MAX, ReceivedKey};
use crate::limits::META_WORDS_MAX;
use crate::meta::{BadFlags, Flags, ModeOf};
use crate::request::{Received, Request};
use crate::request_error::BadRequestKind;
use crate::scan::Words;

/// The meta command on a line; `words` are those after its name.
pub(crate) fn parse<'a>(command: &[u8], words: Words<'a>) -> Result<Command<'a>, Refused<'a>> {
    let request = match command {
        b"mg" => get(words)?,
        b"ms" => return set(words).map(Command::Data),
        b"md" => {
            let (key, flags) = quiet_about_flags(words, ModeOf::None)?;
            Request::MetaDelete { key, flags }
        }
        b"ma" => {
            let (key, flags) = quiet_about_flags(words, ModeOf::Arithmetic)?;
            Request::MetaArithmetic { key, flags }
        }
        b"me" => debug(words)?,
        _ => Request::MetaNoop,
    };
    Ok(Command::Whole(request))
}

fn get(mut words: Words<'_>) -> Result<Received<'_>, Refused<'_>> {
    let line = words;
    let key = key(&mut words)?;
    if line.count() >= META_WORDS_MAX {
        return Err(BadRequestKind::TooManyGetFlags.at(words.rest()));
    }
    let flags = flags(key, words, ModeOf::None).map_err(Refused::from)?;
    Ok(Request::MetaGet { key, flags })
}

/// `<key> <bytes> <flags>*`
fn set(words: Words<'_>) -> Result<DataLine<'_>, Refused<'_>> {
    set_line(words).map_err(|refused| refused.followed_by(after_set(words)))
}

fn set_line(mut words: Words<'_>) -> Result<DataLine<'_>, Refused<'_>> {
    let line = words;
    let key = key(&mut words)?;
    let Some(word) = words.next() else {
        return Err(BadRequestKind::LineFormat.at(words.rest()));
    };
    if line.count() >= META_WORDS_MAX {
        return Err(BadRequestKind::TooManyFlags.at(words.rest()));
    }
    let bytes = value_bytes(word).ok_or(BadRequestKind::LineFormat.at(word))?;
    let flags = flags(key, words, ModeOf::Store).map_err(Refused::from)?;
    Ok(DataLine {
        key,
        bytes,
        // A quiet one is not told that all went well; errors it is always told.
        noreply: false,
        of: DataOf::Meta(flags),
    })
}

/// What follows a refused `ms`: the second word is the length, whatever is wrong with the others. But
/// no flag begins with a digit: a word that does is the length, and a key with a space in it has moved
/// it there.
fn after_set(mut words: Words<'_>) -> Rest {
    let bytes = words.nth(1).and_then(value_bytes);
    let moved = words.any(|flag| flag[0].is_ascii_digit());
    bytes.filter(|_| !moved).map_or(Rest::Unknown, Rest::Value)
}

/// `<key> <flags>*` of commands that don't say what is wrong with their flags.
fn quiet_about_flags(
    mut words: Words<'_>,
    modes: ModeOf,
) -> Result<(ReceivedKey<'_>, Flags<'_>), Refused<'_>> {
    let line = words;
    let key = key(&mut words)?;
    if line.count() >= META_WORDS_MAX {
        return Err(BadRequestKind::TooManyFlags.at(words.rest()));
    }
    let flags = flags(key, words, modes).map_err(|bad| match bad {
        BadFlags::Preparse(_, word) => BadRequestKind::InvalidOrDuplicateFlag.at(word),
        BadFlags::Late(..) => bad.into(),
    })?;
    Ok((key, flags))
}

/// `<key> [b]`
fn debug(mut words: Words<'_>) -> Result<Received<'_>, Refused<'_>> {
    let Some(word) = words.next() else {
        return Err(BadRequestKind::LineFormat.at(words.rest()));
    };
    let key = ReceivedKey::new(word).map_err(|_| BadRequestKind::LineFormat.at(word))?;
    let base64 = words.next() == Some(b"b");
    if base64 && !is_base64(key) {
        return Err(BadRequestKind::LineFormat.at(word));
    }
    Ok(Request::MetaDebug { key, base64 })
}

fn key<'a>(words: &mut Words<'a>) -> Result<ReceivedKey<'a>, Refused<'a>> {
    let Some(word) = words.next() else {
        return Err(BadRequestKind::Unknown.at(words.rest()));
    };
    ReceivedKey::new(word).map_err(|_| BadRequestKind::LineFormat.at(word))
}

fn flags<'a>(
    key: ReceivedKey<'a>,
    words: Words<'a>,
    modes: ModeOf,
) -> Result<Flags<'a>, BadFlags<'a>> {
    Flags::read(words, modes, || is_base64(key))
}

fn is_base64(key: ReceivedKey<'_>) -> bool {
    base64::decode(key, &mut [0; KEY_BYTES_MAX]).is_some()
}

impl<'a> From<BadFlags<'a>> for Refused<'a> {
    fn from(bad: BadFlags<'a>) -> Refused<'a> {
        match bad {
            BadFlags::Preparse(kind, word) | BadFlags::Late(kind, word) => kind.at(word),
        }
    }
}
