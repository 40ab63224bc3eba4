//! The record layer of a server's connection after its handshake (RFC 8446 §5, RFC 5246 §6): opens and seals records where
//! they stand, answers key updates, refuses renegotiation, and ends as the RFCs want it. No IO, no clock, no buffer: what is
//! kept of a connection is its keys.
//!
//! It accepts nothing that rustls refuses, but for the contents of a ClientHello, which it refuses unread; the alerts may
//! differ. It also refuses what no client sends, such as a key update that is cut in two records.

use std::fmt;
use std::ops::Range;

use rustls::{AlertDescription, Tls13CipherSuite};

use crate::cipher::{Aead, Cipher, TAG_BYTES};
use crate::direction::{Direction, Record};
use crate::limits::{FRAGMENT_BYTES_MAX, IDLE_RECORDS_MAX, WARNINGS_MAX};
use crate::record::{
    ALERT, DATA, HANDSHAKE, KEY_UPDATE, VERSION, aad_of_tls12, is_client_hello, type_and_length,
};

/// Before each record: its type, a version, and its length.
pub const HEADER_BYTES: usize = 5;

/// Part of the nonce that TLS 1.2 sends with each record of GCM (RFC 5288 §3).
const EXPLICIT_NONCE_BYTES: usize = 8;

// Levels of alerts (RFC 8446 §6).
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// A connection's records. It can't be cloned, as no nonce may be used twice. Its secrets are wiped when it is dropped: leave
/// it in the box that it comes in, or in the place that [`RecordLayer::settle`] puts it in, since what is moved leaves a copy
/// behind.
pub struct RecordLayer {
    pub(crate) read: Direction,
    pub(crate) write: Direction,
    /// `None` with TLS 1.2.
    pub(crate) suite: Option<&'static Tls13CipherSuite>,
    pub(crate) cipher: Cipher,
    /// Records in a row that bore no data.
    idle_records: u8,
    /// Alerts that ended nothing.
    warnings: u8,
    has_refused_renegotiation: bool,
    /// Why nothing is read any more.
    end: Option<End>,
    is_write_closed: bool,
}

// Nothing of it may be in a log.
impl fmt::Debug for RecordLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordLayer")
            .field("cipher", &self.cipher)
            .field("is_tls13", &self.suite.is_some())
            .finish_non_exhaustive()
    }
}

/// What came of bytes from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Opened {
    /// Bytes of data, which now stand at the start.
    pub data: usize,
    /// Bytes that are done with. Those behind them begin a record that has not come whole, and must come again with what
    /// follows.
    pub taken: usize,
    /// How many of them had no data. Each costs this side more than the peer, a key update much more, so they should count
    /// toward a rate.
    pub idle: u32,
    /// Nothing will be read any more.
    pub end: Option<End>,
}

/// Why there is nothing to read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer has closed its side as it should (`close_notify`). With TLS 1.3 this side may still write. With TLS 1.2 it
    /// must close now and write nothing more (RFC 5246 §7.2.1). A TCP stream that ends before this was cut off.
    Closed,
    /// The peer has sent this fatal alert. Nothing more can be written.
    Alert(AlertDescription),
    /// The peer has done what the RFCs forbid, and is told so by this alert. Nothing more can be written.
    Fault(AlertDescription),
}

/// Why something was not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// This side was closed, by itself or by a fault.
    #[error("the connection was closed")]
    Closed,
    /// The key of TLS 1.2 has sealed as many records as it may. The connection is closed: a new one has a new key.
    #[error("the connection's key has sealed as many records as it may")]
    UsedUp,
}

/// What a record without data means.
enum Control {
    Nothing,
    /// The peer has gone on to its next key, and wants this side to do so, too.
    UpdateRequested,
    End(End),
}

impl RecordLayer {
    /// One without keys, in the box in which its secrets are wiped in the end.
    pub(crate) fn empty(
        suite: Option<&'static Tls13CipherSuite>,
        cipher: Cipher,
    ) -> Box<RecordLayer> {
        Box::new(RecordLayer::new(suite, cipher))
    }

    fn new(suite: Option<&'static Tls13CipherSuite>, cipher: Cipher) -> RecordLayer {
        RecordLayer {
            read: Direction::empty(),
            write: Direction::empty(),
            suite,
            cipher,
            idle_records: 0,
            warnings: 0,
            has_refused_renegotiation: false,
            end: None,
            is_write_closed: false,
        }
    }

    /// Moves it into `place`, where it must stay: beside others it takes less memory than in a box. What it leaves behind is
    /// wiped.
    pub fn settle(self: Box<Self>, place: &mut Option<RecordLayer>) {
        let settled = place.insert(RecordLayer::new(self.suite, self.cipher));
        settled.read.succeed(&self.read);
        settled.write.succeed(&self.write);
        settled.idle_records = self.idle_records;
        settled.warnings = self.warnings;
        settled.has_refused_renegotiation = self.has_refused_renegotiation;
        settled.end = self.end;
        settled.is_write_closed = self.is_write_closed;
    }

    /// Reads a byte of each part that it needs to seal a record. When many are about to be used, the processor then waits for
    /// all of them at once.
    #[inline]
    pub fn touch(&self) -> u8 {
        self.write.touch() ^ u8::from(self.is_write_closed)
    }

    /// Whether this is TLS 1.3; else it is TLS 1.2.
    pub fn is_tls13(&self) -> bool {
        self.suite.is_some()
    }

    /// Why nothing is read any more.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// Whether nothing can be sealed any more.
    pub fn is_write_closed(&self) -> bool {
        self.is_write_closed
    }

    /// Opens all whole records in `bytes`, and moves their data to its start. What must be sent because of them is
    /// appended to `out`, sealed: an alert, or the answer to a key update.
    pub fn open(&mut self, bytes: &mut [u8], out: &mut Vec<u8>) -> Opened {
        let (mut taken, mut data, mut idle) = (0, 0, 0);
        let mut end = self.end;
        let (mut aead, mut owes_update) = (None, false);
        while end.is_none() {
            let step = self.whole_record(&bytes[taken..]).and_then(|length| {
                let Some(length) = length else {
                    return Ok(None);
                };
                let at = taken;
                taken += length;
                let (kind, text) = self.open_record(&mut aead, &mut bytes[at..taken])?;
                let text = at + text.start..at + text.end;
                if kind == DATA && !text.is_empty() {
                    self.idle_records = 0;
                    let length = text.len();
                    bytes.copy_within(text, data);
                    data += length;
                    return Ok(Some(Control::Nothing));
                }
                idle += 1;
                self.idle_records += 1;
                if self.idle_records > IDLE_RECORDS_MAX {
                    return Err(AlertDescription::UnexpectedMessage);
                }
                if kind == DATA {
                    return Ok(Some(Control::Nothing));
                }
                self.read_control(&mut aead, kind, &bytes[text], out)
                    .map(Some)
            });
            match step {
                Ok(None) => break,
                Ok(Some(Control::Nothing)) => {}
                Ok(Some(Control::UpdateRequested)) => owes_update = true,
                Ok(Some(Control::End(ended))) => end = Some(ended),
                Err(alert) => end = Some(self.fail(alert, out)),
            }
        }
        if end.is_some() {
            self.end = end;
            // What comes after the end is ignored (RFC 8446 §6.1).
            taken = bytes.len();
        }
        if owes_update {
            // One answer will do for several requests (§4.6.3). A peer that has closed its side still wants it before more
            // data; after a fault this side is closed, and nothing is said.
            self.update_write(out);
        }
        Opened {
            data,
            taken,
            idle,
            end,
        }
    }

    /// Seals `data` in as many records as it needs, and appends them to `out`. They must go out in this order, and whole: if
    /// they can't, the connection must end.
    ///
    /// # Errors
    ///
    /// If the connection was closed, or must be closed now: then `out` ends with the alert that says so. None of `data` is
    /// sealed.
    pub fn seal(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        if self.is_write_closed {
            return Err(SealError::Closed);
        }
        // TLS 1.2 has no next key. Either all of the data is sealed or none: a part with a `close_notify` behind it would look
        // like the whole.
        let records = data.len().div_ceil(FRAGMENT_BYTES_MAX) as u64;
        if self.suite.is_none() && records > self.write.records_left(self.cipher) {
            self.close(out);
            return Err(SealError::UsedUp);
        }
        let mut aead = self.write.aead(self.cipher);
        for text in data.chunks(FRAGMENT_BYTES_MAX) {
            if self.write.records_left(self.cipher) == 0 {
                self.update_write(out);
                if self.is_write_closed {
                    return Err(SealError::Closed);
                }
                aead = self.write.aead(self.cipher);
            }
            self.seal_record(&aead, DATA, text, out);
        }
        Ok(())
    }

    /// Goes on to the next key for writing, and tells the peer, who need not do the same. Only TLS 1.3 can: with TLS 1.2
    /// nothing happens. It happens by itself when a key has sealed as many records as it may.
    pub fn update_write(&mut self, out: &mut Vec<u8>) {
        let Some(suite) = self.suite.filter(|_| !self.is_write_closed) else {
            return;
        };
        let aead = self.write.aead(self.cipher);
        self.seal_record(&aead, HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 0], out);
        if self.write.update(suite, self.cipher).is_none() {
            self.is_write_closed = true;
        }
    }

    /// Closes this side (`close_notify`, RFC 8446 §6.1). The peer may still send, and may be heard.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        self.seal_alert(WARNING, AlertDescription::CloseNotify, out);
        self.is_write_closed = true;
    }

    /// The length of the record at the start of `bytes`, if it has come whole. One that is forbidden is refused as soon as
    /// that can be seen.
    fn whole_record(&self, bytes: &[u8]) -> Result<Option<usize>, AlertDescription> {
        let may_come = |kind: u8| match self.suite {
            // RFC 8446 §5.2.
            Some(_) => kind == DATA,
            None => matches!(kind, ALERT | HANDSHAKE | DATA),
        };
        if bytes.first().is_some_and(|kind| !may_come(*kind)) {
            return Err(AlertDescription::UnexpectedMessage);
        }
        if bytes.get(1).is_some_and(|major| *major != VERSION[0]) {
            return Err(AlertDescription::ProtocolVersion);
        }
        let Some(&[_, _, _, high, low]) = bytes.first_chunk() else {
            return Ok(None);
        };
        // RFC 8446 §5.2, RFC 5246 §6.2.3.
        let overhead_max = if self.is_tls13() { 256 } else { 2048 };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > FRAGMENT_BYTES_MAX + overhead_max {
            return Err(AlertDescription::RecordOverflow);
        }
        let whole = HEADER_BYTES + length;
        Ok((bytes.len() >= whole).then_some(whole))
    }

    /// Opens a record where it stands; returns its type, and where its text is.
    fn open_record(
        &mut self,
        aead: &mut Option<Aead>,
        record: &mut [u8],
    ) -> Result<(u8, Range<usize>), AlertDescription> {
        let (header, body) = record.split_at_mut(HEADER_BYTES);
        let explicit_bytes = self.explicit_nonce_bytes();
        let Some(text_bytes) = body.len().checked_sub(explicit_bytes + TAG_BYTES) else {
            return Err(AlertDescription::BadRecordMac);
        };
        let (explicit, body) = body.split_at_mut(explicit_bytes);
        let (text, tag) = body.split_at_mut(text_bytes);
        let Record { number, mut nonce } = self.read.next_record();
        if let Ok(explicit) = <[u8; EXPLICIT_NONCE_BYTES]>::try_from(&*explicit) {
            nonce = self.read.salted(explicit);
        }
        let aead = aead.get_or_insert_with(|| self.read.aead(self.cipher));
        let is_good = match self.suite {
            Some(_) => aead.open(nonce, header, text, tag),
            None => aead.open(nonce, &aad_of_tls12(number, header, text_bytes), text, tag),
        };
        if !is_good {
            return Err(AlertDescription::BadRecordMac);
        }
        let (kind, text_bytes) = match self.suite {
            Some(_) => type_and_length(text)?,
            None if text_bytes > FRAGMENT_BYTES_MAX => {
                return Err(AlertDescription::RecordOverflow);
            }
            None => (header[0], text_bytes),
        };
        let start = HEADER_BYTES + explicit_bytes;
        Ok((kind, start..start + text_bytes))
    }

    /// What a record of another type than data means.
    fn read_control(
        &mut self,
        aead: &mut Option<Aead>,
        kind: u8,
        text: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Control, AlertDescription> {
        match (kind, self.suite) {
            (ALERT, _) => self.read_alert(text),
            // Nothing may come behind it in its record, as that would have another key (RFC 8446 §5.1).
            (HANDSHAKE, Some(suite)) => match *text {
                [KEY_UPDATE, 0, 0, 1, asks @ 0..=1] => {
                    let updated = self.read.update(suite, self.cipher);
                    updated.ok_or(AlertDescription::InternalError)?;
                    *aead = None;
                    Ok(if asks == 1 {
                        Control::UpdateRequested
                    } else {
                        Control::Nothing
                    })
                }
                [KEY_UPDATE, 0, 0, 1, _] => Err(AlertDescription::IllegalParameter),
                _ => Err(AlertDescription::UnexpectedMessage),
            },
            // A client that wants to renegotiate may go on without (RFC 5246 §7.2.2). It is told so once: each answer takes
            // a record of the key.
            (HANDSHAKE, None) if is_client_hello(text) && !self.has_refused_renegotiation => {
                self.has_refused_renegotiation = true;
                self.seal_alert(WARNING, AlertDescription::NoRenegotiation, out);
                Ok(Control::Nothing)
            }
            _ => Err(AlertDescription::UnexpectedMessage),
        }
    }

    fn read_alert(&mut self, text: &[u8]) -> Result<Control, AlertDescription> {
        let &[level, alert] = text else {
            return Err(AlertDescription::DecodeError);
        };
        if !matches!(level, WARNING | FATAL) {
            return Err(AlertDescription::IllegalParameter);
        }
        match AlertDescription::from(alert) {
            AlertDescription::CloseNotify => Ok(Control::End(End::Closed)),
            // The one warning that TLS 1.3 has (RFC 8446 §6.1): a `close_notify` is to follow.
            AlertDescription::UserCanceled if level == WARNING => self.note_warning(),
            _ if level == WARNING && !self.is_tls13() => self.note_warning(),
            alert => {
                self.is_write_closed = true;
                Ok(Control::End(End::Alert(alert)))
            }
        }
    }

    fn note_warning(&mut self) -> Result<Control, AlertDescription> {
        if self.warnings == WARNINGS_MAX {
            return Err(AlertDescription::UnexpectedMessage);
        }
        self.warnings += 1;
        Ok(Control::Nothing)
    }

    /// Ends the connection for a fault of the peer's.
    fn fail(&mut self, alert: AlertDescription, out: &mut Vec<u8>) -> End {
        self.seal_alert(FATAL, alert, out);
        self.is_write_closed = true;
        End::Fault(alert)
    }

    fn seal_alert(&mut self, level: u8, alert: AlertDescription, out: &mut Vec<u8>) {
        if !self.is_write_closed {
            let aead = self.write.aead(self.cipher);
            self.seal_record(&aead, ALERT, &[level, alert.into()], out);
        }
    }

    /// Appends one record.
    pub(crate) fn seal_record(&mut self, aead: &Aead, kind: u8, text: &[u8], out: &mut Vec<u8>) {
        // Counted before it is used: whatever happens next, this nonce is gone.
        let Record { number, nonce } = self.write.next_record();
        let start = out.len();
        let explicit = &nonce[nonce.len() - self.explicit_nonce_bytes()..];
        let inner_type = self.is_tls13().then_some(kind);
        let body_bytes = explicit.len() + text.len() + inner_type.iter().len() + TAG_BYTES;
        out.reserve(HEADER_BYTES + body_bytes);
        // At most `FRAGMENT_BYTES_MAX` and the overhead, which is less than 2^16.
        let [high, low] = (body_bytes as u16).to_be_bytes();
        out.extend([
            if self.is_tls13() { DATA } else { kind },
            VERSION[0],
            VERSION[1],
            high,
            low,
        ]);
        out.extend_from_slice(explicit);
        out.extend_from_slice(text);
        out.extend(inner_type);
        let (header, body) = out[start..].split_at_mut(HEADER_BYTES);
        let text_place = &mut body[explicit.len()..];
        let tag = match self.suite {
            Some(_) => aead.seal(nonce, header, text_place),
            None => aead.seal(nonce, &aad_of_tls12(number, header, text.len()), text_place),
        };
        out.extend_from_slice(&tag);
    }

    /// TLS 1.2 sends a part of GCM's nonces.
    fn explicit_nonce_bytes(&self) -> usize {
        match self.suite {
            None if self.cipher.is_gcm() => EXPLICIT_NONCE_BYTES,
            _ => 0,
        }
    }
}
