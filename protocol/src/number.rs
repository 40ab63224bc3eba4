//! Decimal numbers, as memcached writes them and as it reads them.

/// Appends `number` in decimal.
pub(crate) fn write(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
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

/// A number as memcached reads it (`strtol`, base 10): a sign, leading zeros, then digits only.
pub(crate) fn read(word: &[u8]) -> Option<i64> {
    str::from_utf8(word).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
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
        }
        for number in [i64::MIN, i64::MAX] {
            assert_eq!(read(number.to_string().as_bytes()), Some(number));
        }
        for bad in [
            "",
            "-",
            "+",
            "--1",
            "0x1",
            "1x",
            "1\t",
            "9223372036854775808",
        ] {
            assert_eq!(read(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
