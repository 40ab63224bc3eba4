//! Pulls made from choices, so that a fuzzer gets past the grammar of JSON and of queries.

use arbitrary::{Result, Unstructured};
use presenced::limits::PULL_USERS_MAX;
use presenced_presence::limits::USER_ID_BYTES_MAX;

/// A JSON text, mostly an object in which each relevant member occurs up to a few times.
pub fn json(input: &mut Unstructured<'_>) -> Result<String> {
    let mut out = String::new();
    space(input, &mut out)?;
    out.push('{');
    for number in 0..input.int_in_range(0..=4)? {
        if number > 0 {
            out.push(',');
        }
        let names = [
            "\"pull\"",
            "\"users\"",
            "\"\\u0070ull\"",
            "\"use\\u0072s\"",
            "\"x\"",
            "\"token\"",
            "\"\"",
        ];
        out.push_str(input.choose(&names)?);
        space(input, &mut out)?;
        out.push(':');
        match input.int_in_range(0..=4)? {
            0 => out.push_str(&input.arbitrary::<u64>()?.to_string()),
            1..=3 => users(input, &mut out)?,
            _ => other(input, &mut out, 3)?,
        }
        space(input, &mut out)?;
    }
    out.push('}');
    space(input, &mut out)?;
    corrupt(input, out)
}

/// The query of an HTTP request.
pub fn query(input: &mut Unstructured<'_>) -> Result<String> {
    let mut out = String::new();
    for number in 0..input.int_in_range(0..=6)? {
        if number > 0 {
            out.push('&');
        }
        let keys = [
            "user", "user=", "user=", "user=", "users=", "%75ser=", "=", "",
        ];
        let key = input.choose(&keys)?;
        let times = many(input)?;
        let name = name(input)?;
        let encoded = percent_encoded(input, &name)?;
        for _ in 0..times {
            out.push_str(key);
            out.push_str(&encoded);
            out.push('&');
        }
    }
    corrupt(input, out)
}

/// Percent-encodes either only the necessary bytes, or most of them.
fn percent_encoded(input: &mut Unstructured<'_>, name: &str) -> Result<String> {
    let mut out = String::new();
    let plainly = input.ratio(2, 3)?;
    for byte in name.bytes() {
        match byte {
            b' ' if plainly => out.push('+'),
            b'&' | b'%' | b'+' => out.push_str(&format!("%{byte:02x}")),
            _ if plainly && byte.is_ascii_graphic() => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(out)
}

fn users(input: &mut Unstructured<'_>, out: &mut String) -> Result<()> {
    out.push('[');
    let mut first = true;
    for _ in 0..input.int_in_range(0..=5)? {
        let (times, name) = (many(input)?, name(input)?);
        for number in 0..times {
            if !std::mem::take(&mut first) {
                out.push(',');
            }
            space(input, out)?;
            let numbered = match number {
                0 => name.clone(),
                _ => format!("{name}{number}"),
            };
            // Encoded by serde_json, or with every character escaped.
            match input.ratio(1, 8)? {
                false => out.push_str(&serde_json::Value::from(numbered).to_string()),
                true => {
                    let units = numbered.encode_utf16();
                    let escaped: String = units.map(|unit| format!("\\u{unit:04x}")).collect();
                    out.push_str(&format!("\"{escaped}\""));
                }
            }
        }
    }
    out.push(']');
    Ok(())
}

/// Mostly one, now and then about as many users as a pull may name.
fn many(input: &mut Unstructured<'_>) -> Result<usize> {
    Ok(match input.int_in_range(0..=30)? {
        30 => input.int_in_range(PULL_USERS_MAX - 3..=PULL_USERS_MAX + 2)?,
        _ => 1,
    })
}

/// A user id, or something similar.
fn name(input: &mut Unstructured<'_>) -> Result<String> {
    Ok(match input.int_in_range(0..=7)? {
        0..=3 => input.int_in_range(0..=99_u8)?.to_string(),
        4 => "u".repeat(input.int_in_range(USER_ID_BYTES_MAX - 2..=USER_ID_BYTES_MAX + 1)?),
        5 => (*input.choose(&[
            "", " ", "a b", "a\r\nb", "\u{7f}", "\u{a0}", "\u{2028}", "\0",
        ])?)
        .into(),
        6 => (*input.choose(&[
            "zo\u{eb}",
            "\u{20ac}",
            "\u{1f600}",
            "\"",
            "\\",
            "a:b",
            "{userId}",
        ])?)
        .into(),
        _ => input.arbitrary::<&str>()?.chars().take(20).collect(),
    })
}

/// Any other JSON value.
fn other(input: &mut Unstructured<'_>, out: &mut String, depth: usize) -> Result<()> {
    let plain = [
        "null",
        "true",
        "-0",
        "7.0",
        "1e999",
        "18446744073709551615",
        "18446744073709551616",
        "\"7\"",
    ];
    match input.int_in_range(0..=5)? {
        0 if depth > 0 => {
            out.push('[');
            other(input, out, depth - 1)?;
            out.push(']');
        }
        1 if depth > 0 => {
            out.push_str("{\"users\":");
            other(input, out, depth - 1)?;
            out.push('}');
        }
        _ => out.push_str(input.choose(&plain)?),
    }
    Ok(())
}

fn space(input: &mut Unstructured<'_>, out: &mut String) -> Result<()> {
    if input.ratio(1, 6)? {
        out.push_str(input.choose(&[" ", "\n", "\t", "\r\n"])?);
    }
    Ok(())
}

/// Now and then changes a character, or appends one.
fn corrupt(input: &mut Unstructured<'_>, out: String) -> Result<String> {
    if !input.ratio(1, 5)? {
        return Ok(out);
    }
    let mut characters: Vec<char> = out.chars().collect();
    let at = input.int_in_range(0..=characters.len())?;
    let replacement = input.choose(&[
        '"', '{', '}', ']', ',', '&', '=', '%', '\\', '0', '\u{feff}',
    ])?;
    match characters.get_mut(at) {
        Some(character) => *character = *replacement,
        None => characters.push(*replacement),
    }
    Ok(characters.into_iter().collect())
}
