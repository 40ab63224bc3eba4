//! memcached's protocol between two ends that follow it, and with a few bytes corrupted in between.

use arbitrary::{Result, Unstructured};
use presenced_protocol::key::{KEY_BYTES_MAX, Opaque};
use presenced_protocol::meta::{Direction, Flag, Hint, ReplyFlag, ReplyFlags, StoreMode};
use presenced_protocol::reply::{self, MetaStatus};
use presenced_protocol::request::{Keys, Parser, StoreVerb};
use presenced_protocol::{Key, Limits, Parsed, ReceivedKey, Reply, Request, base64, encode};

use super::parsers::{replies_in, requests_in};

/// Maximum number of requests and of replies of one input, so that a run stays short.
const COUNT_MAX: usize = 16;

/// Takes the bytes as choices of requests and replies. What is encoded is parsed as the same, one
/// after another. The result does not depend on the chosen cuts, even if chosen bytes are
/// corrupted.
pub fn exchange(data: &[u8]) {
    // With too few bytes the exchange is shorter.
    let _ = requests(&mut Unstructured::new(data));
    let _ = replies(&mut Unstructured::new(data));
}

fn requests(input: &mut Unstructured<'_>) -> Result<()> {
    let mut out = Vec::new();
    for _ in 0..input.int_in_range(0..=COUNT_MAX)? {
        let start = out.len();
        let (name, value) = (word(input, 1, KEY_BYTES_MAX)?, input.arbitrary::<&[u8]>()?);
        let key = Key::new(&name).unwrap();
        if input.ratio(1, 3)? {
            request_with_more(input, &mut out, key, value)?;
            continue;
        }
        let request = plain_request(input, key, value)?;
        encode::request(&mut out, &request);
        let parsed = Parser::default().parse(&out[start..]);
        let Parsed::Request {
            request: received,
            consumed,
        } = parsed
        else {
            panic!("not a request: {parsed:?}");
        };
        assert_eq!(received.try_into(), Ok(request));
        assert_eq!(consumed, out.len() - start);
    }
    corrupt(input, &mut out)?;
    let limits = limits(input)?;
    let whole = requests_in([&out[..]].into_iter(), &limits);
    let cut = cut(input, &out)?;
    assert_eq!(requests_in(cut.into_iter(), &limits), whole);
    Ok(())
}

fn plain_request<'a>(
    input: &mut Unstructured<'_>,
    key: Key<'a>,
    value: &'a [u8],
) -> Result<Request<'a>> {
    let noreply = input.arbitrary()?;
    let (number, exptime) = (input.arbitrary()?, input.arbitrary()?);
    let verb = match input.int_in_range(0..=5)? {
        0 => StoreVerb::Set,
        1 => StoreVerb::Add,
        2 => StoreVerb::Replace,
        3 => StoreVerb::Append,
        4 => StoreVerb::Prepend,
        _ => StoreVerb::Cas { unique: number },
    };
    Ok(match input.int_in_range(0..=10)? {
        0..=2 => Request::Store {
            verb,
            key,
            flags: input.arbitrary()?,
            exptime,
            value,
            noreply,
        },
        3 => Request::Arithmetic {
            direction: direction(input)?,
            key,
            delta: number,
            noreply,
        },
        4 => Request::Touch {
            key,
            exptime,
            noreply,
        },
        5 => Request::Delete { key, noreply },
        6 => Request::FlushAll {
            delay: input.arbitrary::<Option<u32>>()?.filter(|&delay| delay > 0),
            noreply,
        },
        7 => Request::Verbosity {
            level: input.arbitrary()?,
            noreply,
        },
        8 => Request::Stats {
            arguments: Keys::from(key),
        },
        9 => {
            let mut buffer = [0; KEY_BYTES_MAX];
            let base64 = base64::decode(key.into(), &mut buffer).is_some() && noreply;
            Request::MetaDebug { key, base64 }
        }
        _ => *input.choose(&[Request::MetaNoop, Request::Version, Request::Quit])?,
    })
}

/// Adds a request with many keys, or with flags.
fn request_with_more(
    input: &mut Unstructured<'_>,
    out: &mut Vec<u8>,
    key: Key<'_>,
    value: &[u8],
) -> Result<()> {
    let start = out.len();
    let choice = input.int_in_range(0..=5)?;
    if choice < 2 {
        let keys = vec![key; input.int_in_range(1..=9)?];
        let exptime = input.arbitrary()?;
        match choice {
            0 => encode::get(out, keys.iter().copied()),
            _ => encode::gats(out, exptime, keys.iter().copied()),
        };
        let parsed = Parser::default().parse(&out[start..]);
        let Parsed::Request { request, consumed } = parsed else {
            panic!("not a request: {parsed:?}");
        };
        let (Request::Get { keys: read, .. } | Request::GetAndTouch { keys: read, .. }) = request
        else {
            panic!("not for keys: {request:?}");
        };
        let keys = keys.into_iter().map(ReceivedKey::from);
        assert!(read.eq(keys) && consumed == out.len() - start);
        return Ok(());
    }
    let token = word(input, 0, 31)?;
    let flags = flags(input, &token, choice == 3)?;
    let given = flags.iter().copied();
    match choice {
        2 => encode::meta_get(out, key, given),
        3 => encode::meta_set(out, key, value, given),
        4 => encode::meta_delete(out, key, given),
        _ => encode::meta_arithmetic(out, key, given),
    }
    let parsed = Parser::default().parse(&out[start..]);
    let Parsed::Request { request, consumed } = parsed else {
        panic!("not a request: {parsed:?}");
    };
    let (Request::MetaGet { flags: read, .. }
    | Request::MetaSet { flags: read, .. }
    | Request::MetaDelete { flags: read, .. }
    | Request::MetaArithmetic { flags: read, .. }) = request
    else {
        panic!("not a meta command: {request:?}");
    };
    assert!(read.eq(flags) && consumed == out.len() - start);
    Ok(())
}

/// At most 16 flags, no letter twice.
fn flags<'t>(input: &mut Unstructured<'_>, token: &'t [u8], stores: bool) -> Result<Vec<Flag<'t>>> {
    let mut flags: Vec<Flag<'t>> = Vec::new();
    for _ in 0..input.int_in_range(0..=16)? {
        let flag = match input.int_in_range(0..=21)? {
            0 => Flag::ReturnCas,
            1 => Flag::ReturnClientFlags,
            2 => Flag::ReturnHit,
            3 => Flag::ReturnKey,
            4 => Flag::ReturnLastAccess,
            5 => Flag::ReturnSize,
            6 => Flag::ReturnTtl,
            7 => Flag::ReturnValue,
            8 => Flag::Quiet,
            9 => Flag::NoBump,
            10 => Flag::Invalidate,
            11 => Flag::Opaque(Opaque::new(token).unwrap()),
            12 => Flag::ProxyPath(Hint::new(token).unwrap()),
            13 => Flag::ProxyHint(Hint::new(token).unwrap()),
            14 => Flag::Vivify(input.arbitrary()?),
            15 => Flag::Recache(input.arbitrary()?),
            16 => Flag::Exptime(input.arbitrary()?),
            17 => Flag::CompareCas(input.arbitrary()?),
            18 => Flag::ClientFlags(input.arbitrary()?),
            19 => Flag::Initial(input.arbitrary()?),
            20 => Flag::Delta(input.arbitrary()?),
            _ if stores => Flag::StoreMode(*input.choose(&[
                StoreMode::Set,
                StoreMode::Add,
                StoreMode::Append,
                StoreMode::Prepend,
                StoreMode::Replace,
            ])?),
            _ => Flag::Direction(direction(input)?),
        };
        if flags.iter().all(|other| other.letter() != flag.letter()) {
            flags.push(flag);
        }
    }
    Ok(flags)
}

fn replies(input: &mut Unstructured<'_>) -> Result<()> {
    let mut out = Vec::new();
    for _ in 0..input.int_in_range(0..=COUNT_MAX)? {
        let start = out.len();
        let key = word(input, 1, KEY_BYTES_MAX)?;
        let (text, value) = (word(input, 0, 40)?, input.arbitrary::<&[u8]>()?);
        let sent = reply_flags(input, &key, &text)?;
        let mut line = Vec::new();
        encode::meta_reply(&mut line, MetaStatus::Done, sent.iter().copied());
        // Without the status, and the space after it if there is one.
        let line = &line[line.len().min(if sent.is_empty() { 2 } else { 3 })..line.len() - 2];
        let answers = ReplyFlags::from(line);
        assert!(answers.iter().eq(sent));
        let reply = reply(input, &key, &text, value, answers)?;
        encode::reply(&mut out, &reply);
        let parsed = reply::parse(&out[start..], &Limits::default());
        assert_eq!(parsed, Ok(Some((reply, out.len() - start))));
    }
    corrupt(input, &mut out)?;
    let limits = limits(input)?;
    let whole = replies_in([&out[..]].into_iter(), &limits);
    let cut = cut(input, &out)?;
    assert_eq!(replies_in(cut.into_iter(), &limits), whole);
    Ok(())
}

fn reply<'a>(
    input: &mut Unstructured<'_>,
    key: &'a [u8],
    text: &'a [u8],
    value: &'a [u8],
    flags: ReplyFlags<&'a [u8]>,
) -> Result<Reply<&'a [u8]>> {
    let statuses = [
        MetaStatus::Done,
        MetaStatus::Miss,
        MetaStatus::NotFound,
        MetaStatus::NotStored,
        MetaStatus::Exists,
    ];
    let plain = [
        Reply::Stored,
        Reply::NotStored,
        Reply::Exists,
        Reply::NotFound,
        Reply::Deleted,
        Reply::Touched,
        Reply::Ok,
        Reply::Reset,
        Reply::End,
        Reply::MetaNoop,
    ];
    Ok(match input.int_in_range(0..=12)? {
        0..=2 => *input.choose(&plain)?,
        3 | 4 => Reply::Value {
            key,
            flags: input.arbitrary()?,
            value,
            cas: input.arbitrary()?,
        },
        5 => Reply::Number(input.arbitrary()?),
        6 => Reply::Stat {
            name: key,
            value: text,
        },
        7 => Reply::Version(text),
        8 => Reply::Error(text),
        9 => Reply::ServerError(text),
        10 => Reply::MetaDebug { key, fields: text },
        11 => Reply::Meta {
            status: *input.choose(&statuses)?,
            flags,
        },
        _ => Reply::MetaValue { value, flags },
    })
}

fn reply_flags<'a>(
    input: &mut Unstructured<'_>,
    key: &'a [u8],
    token: &'a [u8],
) -> Result<Vec<ReplyFlag<'a>>> {
    let mut flags = Vec::new();
    for _ in 0..input.int_in_range(0..=8)? {
        flags.push(match input.int_in_range(0..=13)? {
            0 => ReplyFlag::Base64Key,
            1 => ReplyFlag::Cas(input.arbitrary()?),
            2 => ReplyFlag::ClientFlags(input.arbitrary()?),
            3 => ReplyFlag::Hit(input.arbitrary()?),
            4 => ReplyFlag::Key(key),
            5 => ReplyFlag::LastAccess(input.arbitrary()?),
            6 => ReplyFlag::Opaque(token),
            7 => ReplyFlag::Size(input.arbitrary()?),
            8 => ReplyFlag::Ttl(None),
            9 => ReplyFlag::Ttl(Some(input.arbitrary()?)),
            10 => ReplyFlag::Won,
            11 => ReplyFlag::Stale,
            12 => ReplyFlag::AlreadyWon,
            _ => ReplyFlag::Other {
                letter: b'?',
                token,
            },
        });
    }
    Ok(flags)
}

fn direction(input: &mut Unstructured<'_>) -> Result<Direction> {
    Ok(*input.choose(&[Direction::Up, Direction::Down])?)
}

/// Bytes that are legal in a key.
fn word(input: &mut Unstructured<'_>, bytes_min: usize, bytes_max: usize) -> Result<Vec<u8>> {
    let count = input.int_in_range(bytes_min..=bytes_max)?;
    let bytes = input.bytes(count)?.iter();
    let legal = |&byte: &u8| {
        if byte <= b' ' || byte == 0x7f {
            b'k'
        } else {
            byte
        }
    };
    Ok(bytes.map(legal).collect())
}

/// Changes up to three bytes, mostly to ones with a meaning in the protocol.
fn corrupt(input: &mut Unstructured<'_>, out: &mut [u8]) -> Result<()> {
    for _ in 0..input.int_in_range(0..=3)? {
        if out.is_empty() {
            break;
        }
        let at = input.choose_index(out.len())?;
        out[at] = match input.int_in_range(0..=2)? {
            0 => input.arbitrary()?,
            _ => *input.choose(b" \r\n0129-+kMOTq\0")?,
        };
    }
    Ok(())
}

/// The default limits, or small ones.
fn limits(input: &mut Unstructured<'_>) -> Result<Limits> {
    if input.arbitrary()? {
        return Ok(Limits::default());
    }
    Ok(Limits {
        line_bytes_max: input.int_in_range(10..=400)?,
        get_line_bytes_max: input.int_in_range(10..=800)?,
        value_bytes_max: input.int_in_range(0..=64)?,
    })
}

/// Cuts the bytes at chosen points.
fn cut<'o>(input: &mut Unstructured<'_>, out: &'o [u8]) -> Result<Vec<&'o [u8]>> {
    let (mut rest, mut pieces) = (out, Vec::new());
    for _ in 0..input.int_in_range(0..=8)? {
        let (piece, after) = rest.split_at(input.int_in_range(0..=rest.len())?);
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    Ok(pieces)
}
