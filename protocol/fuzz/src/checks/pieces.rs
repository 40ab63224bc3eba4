//! Where the checks cut their input.

/// Cuts the bytes at points derived from the bytes themselves, mostly into small pieces, now and
/// then into a large one.
pub(super) fn pieces(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut state = data.iter().fold(data.len() as u64, |state, &byte| {
        state.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    let mut rest = data;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        // Knuth's MMIX generator; its high bits are good enough to cut with.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let bytes = match state >> 59 {
            0..2 => 100,
            number => usize::try_from(number / 4).unwrap() + 1,
        };
        let (piece, left) = rest.split_at(bytes.min(rest.len()));
        rest = left;
        Some(piece)
    })
}
