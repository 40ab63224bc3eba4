//! Sizes, as flags have them.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use bytesize::ByteSize;

/// Bytes; shown exactly, and as they can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// As many bytes as this machine can address at most.
    pub(super) fn in_memory(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Size, &'static str> {
        let size: ByteSize = text
            .parse()
            .map_err(|_| "expected a number and a unit, such as 64KiB or 1MiB")?;
        Ok(Size(size.as_u64()))
    }
}

/// The parser of a flag that is a size in `bytes`. A number without a unit counts bytes; where that
/// is too few, `unit` is probably what was meant.
pub(super) fn size(
    bytes: RangeInclusive<u64>,
    unit: &'static str,
) -> impl Fn(&str) -> Result<Size, String> + Clone {
    move |text| {
        let size: Size = text.parse()?;
        if bytes.contains(&size.0) {
            return Ok(size);
        }
        let (least, most) = (Size(*bytes.start()), Size(*bytes.end()));
        let mut refusal = format!("must be from {least} to {most}");
        let is_number = text.parse::<u64>().is_ok();
        let meant = format!("{text}{unit}");
        if is_number
            && meant
                .parse()
                .is_ok_and(|Size(meant)| bytes.contains(&meant))
        {
            refusal += &format!("; did you mean {meant}?");
        }
        Err(refusal)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
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
            (1 << 41, "2TiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), shown);
            assert_eq!(shown.parse(), Ok(Size(bytes)));
        }
        assert_eq!("64 KiB".parse(), Ok(Size(64 << 10)));
        assert_eq!("1.5k".parse(), Ok(Size(1500)));
        assert_eq!("4096".parse(), Ok(Size(4096)));
        // A number alone is bytes, as far as it is enough of them.
        let memory = size(4 << 20..=1 << 40, "MiB");
        assert_eq!(memory("64MiB"), Ok(Size(64 << 20)));
        assert_eq!(memory("4194304"), Ok(Size(4 << 20)));
        for (text, meant) in [
            ("64", Some("64MiB")),
            ("4", Some("4MiB")),
            ("4194303", None),
            ("3", None),
            ("0", None),
            ("64KiB", None),
            ("2TiB", None),
        ] {
            let refused = memory(text).unwrap_err();
            assert!(
                refused.starts_with("must be from 4MiB to 1TiB"),
                "{refused}"
            );
            let asked = refused.split_once("did you mean ").map(|(_, meant)| meant);
            assert_eq!(asked, meant.map(|meant| format!("{meant}?")).as_deref());
        }
        assert!("".parse::<Size>().is_err());
        assert!("5Q".parse::<Size>().unwrap_err().contains("64KiB"));
    }
}
