//! Query strings (application/x-www-form-urlencoded).

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The parameters and their values, as they are written.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// The values of a parameter; `None` for one that is not UTF-8.
pub(super) fn values<'a>(query: &'a str, name: &str) -> impl Iterator<Item = Option<Cow<'a, str>>> {
    pairs(query)
        .filter(move |(key, _)| *key == name)
        .map(|(_, value)| decode(value))
}

/// A value as it was meant; `None` if that is not UTF-8.
pub(super) fn decode(value: &str) -> Option<Cow<'_, str>> {
    if !value.contains('+') {
        return percent_decode_str(value).decode_utf8().ok();
    }
    let spaced = value.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().ok()?;
    Some(Cow::Owned(decoded.into_owned()))
}
