//! Frames made from a script, so that a fuzzer gets past the header.

use presenced_session::limits::{FRAGMENTS_MAX, MESSAGE_BYTES_MAX};

/// Bytes after which a script ends, enough for a message over its limit.
const SENT_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 16 * 1024;

/// Opcodes by the low bits of an instruction. Those that are frequent in practice are frequent
/// here.
const OPCODES: [u8; 16] = [0, 0, 0, 1, 1, 1, 1, 2, 8, 9, 9, 10, 10, 10, 0, 3];

/// Characters of one to four bytes. It has 16 bytes, so that long pieces end with a whole
/// character.
const TEXT: &str = "aß€😀aß€";

/// Runs a script. Its instructions have two bytes, a kind and an amount, and some have a payload.
/// The low four bits of the kind are the opcode, the fifth is `fin` (which control frames always
/// have), and the rest says what is made:
///
/// - 0 to 3: a frame with the payload that follows;
/// - 4: a frame with some bytes (from 240 on: units of 8 KiB) of a text that continues in the next
///   such frame, so that characters are cut;
/// - 5: an illegal frame, in a way that the second byte chooses;
/// - 6: repetitions of the last frame, from 240 on about as many as a message may have fragments;
/// - 7: raw bytes.
pub fn sent_by(mut script: &[u8]) -> Vec<u8> {
    let mut sent = Vec::new();
    let mut last = Vec::new();
    let mut text_bytes = 0;
    while sent.len() < SENT_BYTES_MAX
        && let [what, amount, after @ ..] = script
    {
        script = after;
        let (what, amount) = (*what, *amount);
        let opcode = OPCODES[usize::from(what & 0x0f)];
        let fin = opcode >= 8 || what & 0x10 != 0;
        let first = opcode | u8::from(fin) << 7;
        let mut frame = Vec::new();
        match what >> 5 {
            0..4 => put_frame(&mut frame, first, following(&mut script, amount)),
            4 => {
                let bytes = match amount {
                    0..240 => amount.into(),
                    _ => usize::from(amount - 239) * 8192,
                };
                let text = TEXT.repeat(bytes / TEXT.len() + 2);
                let from = text_bytes % TEXT.len();
                put_frame(&mut frame, first, &text.as_bytes()[from..from + bytes]);
                text_bytes += bytes;
            }
            5 => put_illegal(
                &mut frame,
                first,
                amount,
                following(&mut script, amount >> 3),
            ),
            6 => {
                let again = match amount {
                    0..240 => usize::from(amount / 32),
                    _ => FRAGMENTS_MAX - 248 + usize::from(amount),
                };
                let room = (SENT_BYTES_MAX - sent.len()) / last.len().max(1);
                sent.extend(last.repeat(again.min(room)));
                continue;
            }
            _ => frame.extend_from_slice(following(&mut script, amount & 0x0f)),
        }
        sent.extend_from_slice(&frame);
        last = frame;
    }
    sent
}

/// Takes up to a number of bytes off the script.
fn following<'a>(script: &mut &'a [u8], bytes: u8) -> &'a [u8] {
    let (taken, rest) = script.split_at(script.len().min(usize::from(bytes)));
    *script = rest;
    taken
}

/// Appends a legal frame.
pub fn put_frame(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    let length = payload.len();
    out.push(first);
    match length {
        0..126 => out.push(0x80 | length as u8),
        126..65536 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    put_masked(out, payload);
}

/// Masks or unmasks, which is the same operation (§5.3).
pub fn xored(payload: &[u8], mask: &[u8]) -> Vec<u8> {
    let mask = mask.repeat(payload.len().div_ceil(4));
    payload.iter().zip(mask).map(|(a, b)| a ^ b).collect()
}

fn put_masked(out: &mut Vec<u8>, payload: &[u8]) {
    let mask = [0x37, 0xfa, payload.len() as u8, 0x3d];
    out.extend_from_slice(&mask);
    out.extend(xored(payload, &mask));
}

/// Appends a frame that is illegal in one of eight ways; `payload` has at most 31 bytes.
fn put_illegal(out: &mut Vec<u8>, first: u8, way: u8, payload: &[u8]) {
    let length = payload.len() as u8;
    match way & 7 {
        0 => {
            out.extend_from_slice(&[first, length]);
            out.extend_from_slice(payload);
            return;
        }
        1 => out.extend_from_slice(&[first | 0x10, 0x80 | length]),
        2 => out.extend_from_slice(&[first | 0x20, 0x80 | length]),
        3 => out.extend_from_slice(&[first | 0x40, 0x80 | length]),
        4 => out.extend_from_slice(&[first, 0x80 | 126, 0, length]),
        5 => out.extend_from_slice(&[first, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0, length]),
        6 => out.extend_from_slice(&[first, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, length]),
        // Without `fin`: illegal for control frames only.
        _ => out.extend_from_slice(&[first & 0x7f, 0x80 | length]),
    }
    put_masked(out, payload);
}
