//! Sizes, as flags have them.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;
use std::str::FromStr;

use bytesize::ByteSize;

/// Bytes; shown exactly, and as they can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Size, &'static str> {
        let size: ByteSize = text
            .parse()
            .map_err(|_| "expected a number and a unit, such as 64KiB or 1MiB")?;
        Ok(Size(size.as_u64()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
        let mut fits = units.iter().filter(|(_, bits)| {
            let unit = 1 << bits;
            self.0 >= unit && self.0.is_multiple_of(unit)
        });
        match fits.next() {
            Some((unit, bits)) => write!(f, "{}{unit}", self.0 >> bits),
            None => write!(f, "{}B", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_shown_exactly_and_reads_back() {
        for (bytes, shown) in [
            (0, "0B"),
            (1000, "1000B"),
            (1 << 10, "1KiB"),
            (1536, "1536B"),
            (3 << 19, "1536KiB"),
            (64 << 20, "64MiB"),
            ((16 << 20) + 1, "16777217B"),
            (1 << 30, "1GiB"),
            (1 << 41, "2048GiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), shown);
            assert_eq!(shown.parse(), Ok(Size(bytes)));
        }
        assert_eq!("64 KiB".parse(), Ok(Size(64 << 10)));
        assert_eq!("1.5k".parse(), Ok(Size(1500)));
        assert_eq!("4096".parse(), Ok(Size(4096)));
        assert!("".parse::<Size>().is_err());
        assert!("5Q".parse::<Size>().unwrap_err().contains("64KiB"));
    }
}
