//! Decimal numbers, as memcached writes them and as it reads them.

use bytes::BufMut;

/// Appends `number` in decimal.
#[inline]
pub(crate) fn write(out: &mut impl BufMut, number: impl itoa::Integer) {
    out.put_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A number as memcached writes it: digits only, no leading zero, at most `u64::MAX`.
pub(crate) fn written(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || (digits[0] == b'0' && digits.len() > 1) {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// The number that memcached has written at the start of `bytes`, and how many digits it has. `None`
/// also for what is rare: more than 19 digits, and `bytes` that end in a digit.
#[inline]
pub(crate) fn leading(bytes: &[u8]) -> Option<(u64, usize)> {
    let digit = |at: usize| Some(bytes.get(at)?.wrapping_sub(b'0')).filter(|&digit| digit <= 9);
    let mut number = u64::from(digit(0)?);
    let mut count = 1;
    while count < bytes.len() {
        let Some(next) = digit(count) else {
            return Some((number, count));
        };
        if number == 0 || count == 19 {
            return None;
        }
        number = number * 10 + u64::from(next);
        count += 1;
    }
    None
}

/// Such a number after one space, and what follows it.
#[inline]
pub(crate) fn spaced(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes.strip_prefix(b" ")?;
    let (number, count) = leading(digits)?;
    Some((number, &digits[count..]))
}

/// A number as memcached reads it (`strtol`, base 10): a sign, leading zeros, then digits only.
pub(crate) fn read(word: &[u8]) -> Option<i64> {
    str::from_utf8(word).ok()?.parse().ok()
}

/// The same without a sign below zero (`strtoull`).
pub(crate) fn read_unsigned(word: &[u8]) -> Option<u64> {
    let word = str::from_utf8(word).ok()?;
    match word.strip_prefix('-') {
        // `-0` is 0 to it.
        Some(digits) if digits.starts_with('0') => {
            digits.parse().ok().filter(|&number| number == 0)
        }
        Some(_) => None,
        None => word.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn written_numbers_have_one_form() {
        for number in [0, 1, 9, 10, 4_294_967_295, u64::MAX] {
            assert_eq!(written(number.to_string().as_bytes()), Some(number));
        }
        for bad in [
            "",
            "00",
            "01",
            "+1",
            "-1",
            " 1",
            "1 ",
            "1a",
            "18446744073709551616",
            "99999999999999999999999",
        ] {
            assert_eq!(written(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn leading_numbers_end_at_what_is_no_digit() {
        for (bytes, found) in [
            ("0 ", Some((0, 1))),
            ("80\r\n", Some((80, 2))),
            (
                "9999999999999999999 ",
                Some((9_999_999_999_999_999_999, 19)),
            ),
            ("", None),
            (" 1", None),
            ("01 ", None),
            ("12", None),
            ("18446744073709551615 ", None),
        ] {
            assert_eq!(leading(bytes.as_bytes()), found, "{bytes:?}");
        }
    }

    #[test]
    fn read_numbers_may_have_a_sign_and_zeros() {
        for (word, number) in [
            ("0", 0),
            ("-0", 0),
            ("+7", 7),
            ("-1", -1),
            ("010", 10),
            ("2592001", 2_592_001),
        ] {
            assert_eq!(read(word.as_bytes()), Some(number), "{word:?}");
            let unsigned = u64::try_from(number).ok();
            assert_eq!(read_unsigned(word.as_bytes()), unsigned, "{word:?}");
        }
        for number in [i64::MIN, i64::MAX] {
            assert_eq!(read(number.to_string().as_bytes()), Some(number));
        }
        assert_eq!(read_unsigned(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(read_unsigned(b"18446744073709551616"), None);
        for bad in ["", "-", "+", "--1", "-+0", "0x1", "1x", "1\t"] {
            assert_eq!(read(bad.as_bytes()), None, "{bad:?}");
            assert_eq!(read_unsigned(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(read(b"9223372036854775808"), None);
    }
}
