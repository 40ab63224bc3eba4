//! A test of all bytes of a text.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

/// Whether all bytes pass a test. Sixteen or eight are tested at once, of which a compiler makes a few
/// instructions, and the last ones perhaps twice: most ids are short, and would be tested byte by
/// byte.
#[inline]
pub fn all_bytes(bytes: &[u8], test: impl Fn(u8) -> bool + Copy) -> bool {
    by_chunks::<16>(bytes, test)
        .or_else(|| by_chunks::<8>(bytes, test))
        .unwrap_or_else(|| bytes.iter().all(|&byte| test(byte)))
}

/// `None` if there are fewer bytes than a chunk has.
#[inline]
fn by_chunks<const BYTES: usize>(bytes: &[u8], test: impl Fn(u8) -> bool) -> Option<bool> {
    let last = bytes.last_chunk::<BYTES>()?;
    // Without an early end.
    let passes = |chunk: &[u8; BYTES]| chunk.iter().fold(true, |all, &byte| all & test(byte));
    let (chunks, _) = bytes.as_chunks::<BYTES>();
    Some(chunks.iter().all(passes) && passes(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_tested() {
        for length in 0..70 {
            let mut bytes = vec![b'a'; length];
            assert!(all_bytes(&bytes, |byte| byte == b'a'));
            for place in 0..length {
                bytes[place] = b'b';
                assert!(
                    !all_bytes(&bytes, |byte| byte == b'a'),
                    "{place} of {length}"
                );
                bytes[place] = b'a';
            }
        }
    }
}
