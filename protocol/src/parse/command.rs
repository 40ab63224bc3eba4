//! The line of a request: which command, and its words.

use super::line::{Arguments, Command, Refused, Rest};
use super::{meta_command, storage};
use crate::key::{KEY_BYTES_MAX, ReceivedKey};
use crate::limits::COMMAND_WORDS_MAX;
use crate::meta::Direction;
use crate::number;
use crate::request::{Keys, Received, ReceivedKeys, Request, StoreVerb};
use crate::request_error::BadRequestKind;
use crate::scan::{self, Words};

/// The command on a line, which comes without its end.
pub(crate) fn parse(text: &[u8]) -> Result<Command<'_>, Refused<'_>> {
    let mut words = Words::new(text);
    let Some(command) = words.next() else {
        return Err(BadRequestKind::Unknown.at(text));
    };
    let store = match command {
        b"get" => return get(words, false),
        b"gets" => return get(words, true),
        b"set" => StoreVerb::Set,
        b"add" => StoreVerb::Add,
        b"replace" => StoreVerb::Replace,
        b"append" => StoreVerb::Append,
        b"prepend" => StoreVerb::Prepend,
        // The number is read with the others.
        b"cas" => StoreVerb::Cas { unique: 0 },
        b"mg" | b"ms" | b"md" | b"ma" | b"mn" | b"me" => {
            return meta_command::parse(command, words);
        }
        _ => return Ok(Command::Whole(other(command, words)?)),
    };
    storage::line(store, words).map(Command::Data)
}

fn other<'a>(command: &'a [u8], words: Words<'a>) -> Result<Received<'a>, Refused<'a>> {
    match command {
        b"gat" => get_and_touch(words, false),
        b"gats" => get_and_touch(words, true),
        b"incr" => arithmetic(Direction::Up, words),
        b"decr" => arithmetic(Direction::Down, words),
        b"touch" => touch(words),
        b"delete" => delete(words),
        b"version" => Ok(Request::Version),
        b"verbosity" => verbosity(words),
        b"stats" => stats(words),
        b"flush_all" => flush_all(words),
        b"quit" => Ok(Request::Quit),
        _ => Err(unknown(command, words)),
    }
}

fn get(words: Words<'_>, with_cas: bool) -> Result<Command<'_>, Refused<'_>> {
    let keys = keys(words)?;
    if keys.is_empty() {
        return Err(BadRequestKind::Unknown.at(words.rest()));
    }
    Ok(Command::Whole(Request::Get { keys, with_cas }))
}

fn get_and_touch(mut words: Words<'_>, with_cas: bool) -> Result<Received<'_>, Refused<'_>> {
    let Some(word) = words.next() else {
        return Err(BadRequestKind::Unknown.at(words.rest()));
    };
    let exptime = number::read(word).ok_or(BadRequestKind::Exptime.at(word))?;
    let keys = keys(words)?;
    Ok(Request::GetAndTouch {
        exptime,
        keys,
        with_cas,
    })
}

/// The keys that the rest of the line is, which may be none.
fn keys(words: Words<'_>) -> Result<ReceivedKeys<'_>, Refused<'_>> {
    let text = words.rest();
    if memchr::memchr(0, text).is_some() || !scan::has_spaces_within(text, KEY_BYTES_MAX) {
        let bad = { words }.find(|word| ReceivedKey::new(word).is_err());
        return Err(BadRequestKind::LineFormat.at(bad.unwrap_or(text)));
    }
    Ok(Keys::checked_before(text))
}

fn arithmetic<'a>(direction: Direction, words: Words<'a>) -> Result<Received<'a>, Refused<'a>> {
    let (key, word, noreply) = key_and_number(words)?;
    let delta = number::read_unsigned(word);
    Ok(Request::Arithmetic {
        direction,
        key,
        delta: delta.ok_or(BadRequestKind::Delta.at(word).unless(noreply))?,
        noreply,
    })
}

fn touch<'a>(words: Words<'a>) -> Result<Received<'a>, Refused<'a>> {
    let (key, word, noreply) = key_and_number(words)?;
    let exptime = number::read(word);
    Ok(Request::Touch {
        key,
        exptime: exptime.ok_or(BadRequestKind::Exptime.at(word).unless(noreply))?,
        noreply,
    })
}

/// `<key> <number> [noreply]`, the number yet to be read.
fn key_and_number<'a>(words: Words<'a>) -> Result<(ReceivedKey<'a>, &'a [u8], bool), Refused<'a>> {
    let line = words.rest();
    let words = Arguments::new(words);
    let (&[key, number] | &[key, number, _]) = words.as_slice() else {
        return Err(BadRequestKind::Unknown.at(line));
    };
    let noreply = words.noreply();
    let bad = BadRequestKind::LineFormat.at(key).unless(noreply);
    Ok((ReceivedKey::new(key).map_err(|_| bad)?, number, noreply))
}

fn delete<'a>(words: Words<'a>) -> Result<Received<'a>, Refused<'a>> {
    let line = words.rest();
    let words = Arguments::new(words);
    // A `0` is what is left of a hold time that memcached had long ago.
    let (key, known) = match *words.as_slice() {
        [key] => (key, true),
        [key, word] => (key, matches!(word, b"0" | b"noreply")),
        [key, hold, word] => (key, hold == b"0" && word == b"noreply"),
        _ => return Err(BadRequestKind::Unknown.at(line)),
    };
    // In `delete noreply` that is the key.
    let noreply = words.as_slice().len() > 1 && words.noreply();
    if !known {
        return Err(BadRequestKind::DeleteUsage.at(line).unless(noreply));
    }
    let bad = BadRequestKind::LineFormat.at(key).unless(noreply);
    let key = ReceivedKey::new(key).map_err(|_| bad)?;
    Ok(Request::Delete { key, noreply })
}

fn verbosity<'a>(words: Words<'a>) -> Result<Received<'a>, Refused<'a>> {
    let line = words.rest();
    let words = Arguments::new(words);
    let (&[word] | &[word, _]) = words.as_slice() else {
        return Err(BadRequestKind::Unknown.at(line));
    };
    let noreply = words.noreply();
    let level = number::read_unsigned(word).and_then(|level| u32::try_from(level).ok());
    Ok(Request::Verbosity {
        level: level.ok_or(BadRequestKind::LineFormat.at(word).unless(noreply))?,
        noreply,
    })
}

fn stats<'a>(words: Words<'a>) -> Result<Received<'a>, Refused<'a>> {
    let bad = { words }.find(|word| ReceivedKey::new(word).is_err());
    match bad {
        // To memcached it is statistics that it does not have.
        Some(word) => Err(BadRequestKind::Unknown.at(word)),
        None => Ok(Request::Stats {
            arguments: Keys::checked_before(words.rest()),
        }),
    }
}

fn flush_all<'a>(words: Words<'a>) -> Result<Received<'a>, Refused<'a>> {
    let line = words.rest();
    let words = Arguments::new(words);
    let noreply = words.noreply();
    let delay = match *words.as_slice() {
        [] => None,
        [_] if noreply => None,
        [delay] | [delay, _] => Some(delay),
        _ => return Err(BadRequestKind::Unknown.at(line)),
    };
    let Some(word) = delay else {
        return Ok(Request::FlushAll {
            delay: None,
            noreply,
        });
    };
    let seconds = number::read(word).ok_or(BadRequestKind::Exptime.at(word).unless(noreply))?;
    let delay = (seconds > 0).then(|| u32::try_from(seconds).unwrap_or(u32::MAX));
    Ok(Request::FlushAll { delay, noreply })
}

/// memcached looks whether it is HTTP only where the first letter is of no command that it knows
/// first, and the command has more than one.
fn unknown<'a>(command: &'a [u8], words: Words<'a>) -> Refused<'a> {
    let last = words.take(COMMAND_WORDS_MAX - 1).last().unwrap_or(command);
    let skipped = matches!(
        command,
        [_] | [b'g' | b's' | b'a' | b'c' | b'i' | b'd' | b't', ..]
    ) || matches!(command, [b'm', _]);
    let http = !skipped && last.starts_with(b"HTTP/");
    let (kind, rest) = if http {
        (BadRequestKind::Http, Rest::Unknown)
    } else {
        (BadRequestKind::Unknown, Rest::Request)
    };
    kind.at(command).unless(http).followed_by(rest)
}
