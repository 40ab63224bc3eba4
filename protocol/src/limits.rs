//! How much the other side may make a parser hold. Every bound has its reason here.

/// Greatest length of a key in bytes (`protocol.txt`, *Keys*).
pub const KEY_BYTES_MAX: usize = 250;

/// Greatest length of an opaque token in bytes, the `O` before it not counted (`protocol.txt`, *Meta
/// Get*: "up to 32 bytes", of which memcached counts the `O` as one).
pub const OPAQUE_BYTES_MAX: usize = 31;

/// Greatest length of a line, its end included, for all lines but those of `get` and `gets`.
///
/// memcached closes a connection that has sent more than 2,048 bytes without a newline. The longest
/// line that makes sense is a `set` or a `VALUE`: a key of 250 bytes and four numbers.
pub const LINE_BYTES_MAX: usize = 2048;

/// Greatest length of a `get` or `gets` line, its end included.
///
/// memcached has no bound here. This one fits a thousand keys of the greatest length (251,007
/// bytes), which is as much as a multi-get gains from; it is also what one connection can make a
/// server hold before it has said anything useful.
pub const GET_LINE_BYTES_MAX: usize = 256 * 1024;

/// Greatest length of a value: memcached's default item size, 1 MiB (`-I`).
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// The greatest length that memcached takes for a number of bytes at all: it adds two for the line
/// end in an `int`. Beyond this the line is bad; up to this the value is merely too large.
pub(crate) const STORE_BYTES_MAX: usize = i32::MAX as usize - 2;

/// Greatest length of a value that a [`Skimmer`](crate::reply::Skimmer) passes over: the most that
/// memcached's `-I` can be, 1 GiB. What claims to be longer is not memcached's.
pub const ITEM_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// How many words of a line memcached looks at, but for those of a `get`.
pub(crate) const COMMAND_WORDS_MAX: usize = 23;

/// Most words of a line, the command counted: what memcached keeps for flags, less the end.
pub(crate) const META_WORDS_MAX: usize = 19;

/// The bounds a parser enforces.
///
/// A client and a server may use the same: [`Limits::default`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Greatest length of a line but `get` and `gets`, its end included. See [`LINE_BYTES_MAX`].
    pub line_bytes_max: usize,
    /// Greatest length of a `get` or `gets` line, its end included. See [`GET_LINE_BYTES_MAX`].
    /// Only requests have such lines.
    pub get_line_bytes_max: usize,
    /// Greatest length of a value, in a `set` and in a `VALUE`. See [`VALUE_BYTES_MAX`].
    pub value_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            line_bytes_max: LINE_BYTES_MAX,
            get_line_bytes_max: GET_LINE_BYTES_MAX,
            value_bytes_max: VALUE_BYTES_MAX,
        }
    }
}

// A `VALUE` or `set` line with the longest key and the longest numbers fits a line.
const _: () = assert!(LINE_BYTES_MAX > KEY_BYTES_MAX + 4 * 21 + 32);
// A thousand keys of the greatest length fit a `gets` line.
const _: () = assert!(GET_LINE_BYTES_MAX > 1000 * (KEY_BYTES_MAX + 1) + "gets\r\n".len());
