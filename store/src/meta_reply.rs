//! What a meta request asks to be told, and what it is told.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use presenced_protocol::key::KEY_BYTES_MAX;
use presenced_protocol::meta::{Flag, Flags, ReplyFlag};
use presenced_protocol::{ReceivedKey, base64};

use crate::limits::ANSWERS_MAX;

/// A key as it is shown: as it is, or in base64.
pub(super) fn shown<'a>(
    key: &'a [u8],
    base64: bool,
    buffer: &'a mut [u8; KEY_BYTES_MAX],
) -> &'a [u8] {
    if !base64 {
        return key;
    }
    base64::encode(key, buffer).map_or(key, |encoded| encoded.as_bytes())
}

/// Room for a key in its two forms.
pub(super) struct Buffers {
    decoded: [u8; KEY_BYTES_MAX],
    encoded: [u8; KEY_BYTES_MAX],
}

impl Default for Buffers {
    fn default() -> Buffers {
        Buffers {
            decoded: [0; KEY_BYTES_MAX],
            encoded: [0; KEY_BYTES_MAX],
        }
    }
}

/// A meta request's key and flags.
pub(super) struct MetaRequest<'a> {
    pub(super) key: &'a [u8],
    /// The same in base64, if it may have to be told.
    encoded: &'a [u8],
    pub(super) flags: Flags<'a>,
    /// It was sent in base64.
    pub(super) base64: bool,
}

impl<'a> MetaRequest<'a> {
    pub(super) fn new(
        key: ReceivedKey<'a>,
        flags: Flags<'a>,
        buffers: &'a mut Buffers,
    ) -> MetaRequest<'a> {
        let base64 = flags.has(b'b');
        let decoded = base64.then(|| base64::decode(key, &mut buffers.decoded));
        let key = decoded.flatten().unwrap_or(key.as_bytes());
        MetaRequest {
            key,
            encoded: shown(key, flags.has(b'k'), &mut buffers.encoded),
            flags,
            base64,
        }
    }

    /// What comes back whatever was found.
    pub(super) fn echo(&self, base64: bool) -> ReplyFlags<'a> {
        let mut answers = ReplyFlags::new();
        self.flags.for_each(|flag| answers.echo(flag, self, base64));
        answers
    }
}

/// What a meta reply tells.
pub(super) struct ReplyFlags<'a> {
    answers: [ReplyFlag<'a>; ANSWERS_MAX],
    count: usize,
}

impl<'a> ReplyFlags<'a> {
    pub(super) fn new() -> ReplyFlags<'a> {
        ReplyFlags {
            answers: [ReplyFlag::Won; ANSWERS_MAX],
            count: 0,
        }
    }

    pub(super) fn push(&mut self, answer: ReplyFlag<'a>) {
        if let Some(place) = self.answers.get_mut(self.count) {
            *place = answer;
            self.count += 1;
        }
    }

    /// Tells what came with the request itself, if `flag` is for that.
    pub(super) fn echo(&mut self, flag: Flag<'a>, asked: &MetaRequest<'a>, base64: bool) {
        match flag {
            Flag::Opaque(token) => self.push(ReplyFlag::Opaque(token.as_bytes())),
            Flag::ReturnKey if base64 => {
                self.push(ReplyFlag::Key(asked.encoded));
                self.push(ReplyFlag::Base64Key);
            }
            Flag::ReturnKey => self.push(ReplyFlag::Key(asked.key)),
            _ => {}
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = ReplyFlag<'a>> {
        self.answers[..self.count].iter().copied()
    }
}
