//! Settings of an operator: flags, a settings file, and the addresses, origins and templates in them.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use hyper::header::{HeaderMap, HeaderValue, ORIGIN};
use presenced::cli::print_config::print;
use presenced::cli::promises;
use presenced::cli::sources::key::Kind;
use presenced::cli::sources::{Asked, Refused, Settings};
use presenced::gateway::forwarded::ForwardedHeader;
use presenced::gateway::origin::Origins;
use presenced::server::Config;
use presenced::tokens::{IssuerConfig, Secret};
use presenced_memcached::limits::NODES_MAX;
use presenced_memcached::{NodeAddr, NodeSpec};
use presenced_presence::limits::USER_ID_BYTES_MAX;
use presenced_presence::{Record, UserId};
use presenced_protocol::Key;

/// Maximum number of flags of one command line.
const FLAGS_MAX: usize = 6;

/// Name of the settings file.
const FILE: &str = "f.toml";

/// Takes the bytes as the text of a settings file, and as choices of its keys and values. A file that is refused
/// is named; settings that are accepted keep their promises, and what is printed of them is accepted as a file that
/// says the same.
pub fn settings_file(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        as_file(text);
    }
    if let Ok(text) = file(&mut Unstructured::new(data)) {
        as_file(&text);
    }
}

fn as_file(text: &str) {
    let settings = match read(&["--config", FILE], text) {
        Ok(asked) => asked.settings,
        Err(refused) => return is_named(&refused.error),
    };
    // This test reads no other files.
    let mut entries = settings.all_entries();
    if entries.any(|e| e.key.kind == Kind::Path && e.key.name != "config" && !e.values.is_empty()) {
        return;
    }
    match settings.clone().check().config {
        Ok(config) => is_sound(&config),
        Err(error) => return is_named(&error),
    }
    let printed = print(&settings);
    let again = read(&["--config", FILE], &printed).map(|asked| asked.settings);
    let again = again.unwrap_or_else(|refused| panic!("{}: {printed}", refused.error));
    assert_eq!(values(&settings), values(&again), "{printed}");
}

/// The first line names the file, or settings that are as by default.
fn is_named(error: &clap::Error) {
    let text = error.to_string();
    assert_eq!(error.exit_code(), 2, "{text}");
    assert!(text.contains(FILE) || text.contains("--"), "{text}");
}

/// All settings by their names, and those of tables in their order; a number may be written in several ways.
fn values(settings: &Settings) -> Vec<(String, Vec<String>)> {
    let entries = settings.all_entries().map(|entry| {
        let values = entry.values.iter().map(|value| {
            let value = value.to_str().unwrap();
            match value.parse::<i128>() {
                Ok(number) if entry.key.kind == Kind::Number => number.to_string(),
                _ => value.to_owned(),
            }
        });
        (entry.key.name.clone(), values.collect())
    });
    entries.collect()
}

fn read(args: &[&str], file: &str) -> std::result::Result<Asked, Refused> {
    let args = [&["presenced"], args].concat();
    Asked::read(args.iter().map(Into::into), [], |_| Ok(file.to_owned()))
}

/// Takes the bytes as a text of each kind, as the lines of a command line, and as choices of flags
/// and values. Accepted settings keep their promises, and nothing panics.
pub fn settings(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        as_node(text);
        as_origin(text);
        as_template(text);
        as_flags(text.lines().map(String::from).collect());
    }
    let _ = Secret::new(data);
    if let Ok(flags) = flags(&mut Unstructured::new(data)) {
        as_flags(flags);
    }
}

/// An address survives being printed and parsed, also with its optional prefix and weight.
fn as_node(text: &str) {
    if let Ok(node) = NodeAddr::from_str(text) {
        assert_eq!(NodeAddr::from_str(&node.to_string()), Ok(node));
    }
    if let Ok(spec) = NodeSpec::from_str(text) {
        let before = if spec.each_address { "dns+" } else { "" };
        let whole = format!("{before}{}*{}", spec.addr, spec.weight);
        assert_eq!(NodeSpec::from_str(&whole), Ok(spec));
    }
}

/// An accepted origin is one that a browser may send, and is allowed.
fn as_origin(text: &str) {
    let Ok(origins) = Origins::new(&[text.into()]) else {
        return;
    };
    let mut headers = HeaderMap::new();
    headers.insert(ORIGIN, HeaderValue::from_str(text).unwrap());
    assert!(origins.allow(&headers));
    headers.insert(ORIGIN, HeaderValue::from_str(&format!("{text}x")).unwrap());
    assert!(!origins.allow(&headers));
}

/// An accepted template makes a legal key for every user, and no two users share one.
fn as_template(text: &str) {
    let Ok(record) = Record::new(text, text, 0, 0) else {
        return;
    };
    let keys = ["a", "b", &"u".repeat(USER_ID_BYTES_MAX)].map(|user| {
        let mut key = Vec::new();
        record.key(&mut key, &UserId::new(user).unwrap());
        assert!(Key::new(&key).is_ok());
        key
    });
    assert_ne!(keys[0], keys[1]);
}

fn as_flags(mut flags: Vec<String>) {
    // This test reads no files.
    flags.retain(|flag| !flag.starts_with("--jwt-secret-file"));
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let Ok(asked) = read(&flags, "") else {
        return;
    };
    match asked.settings.check().config {
        Ok(config) => is_sound(&config),
        Err(error) => assert!(error.to_string().contains("--")),
    }
}

fn is_sound(settings: &Config) {
    let s = Duration::from_secs;
    let marker = &settings.memcached.marker;
    let ttl = marker.entry_ttl;
    let round = settings.session.ping_interval + settings.session.ping_timeout;
    assert!(ttl + settings.drain <= s(30 * 86_400));
    assert!(ttl > round + 2 * marker.flush_interval);
    assert!(settings.session.ping_timeout < settings.session.ping_interval);
    assert!(
        settings.sessions_max > 0
            && settings.gateway.capacity.room.per_peer_max > 0
            && settings.workers > 0
    );
    let proxies = &settings.gateway.proxies;
    let is_believed =
        proxies.use_proxy_protocol || proxies.forwarded_header != ForwardedHeader::None;
    assert!(!is_believed || !proxies.trusted.is_empty());
    assert!(promises(settings).to_string().lines().count() == 3);
    let mut listen = settings.gateway.listen.iter();
    let tokens = &settings.gateway.tokens;
    assert!(tokens.has_key() || listen.all(|listen| listen.ip().is_loopback()));
    // What a token names is one issuer's, or there is only one.
    let names: BTreeSet<_> = tokens.issuers.iter().map(|issuer| &issuer.name).collect();
    let are_several = tokens.issuers.len() > 1;
    assert!(names.len() == tokens.issuers.len() && !(are_several && names.contains(&None)));
    assert!(!are_several || tokens.issuers.iter().all(IssuerConfig::has_key));
    assert!(settings.memcached.nodes.nodes.len() <= NODES_MAX);
}

/// Flags that take a duration.
const DURATIONS: [&str; 8] = [
    "ttl",
    "flush-interval",
    "ping-interval",
    "ping-timeout",
    "coalesce",
    "jwt-max-lifetime",
    "drain",
    "http-keep-alive",
];

/// Flags that take a size.
const SIZES: [&str; 3] = ["store-memory", "max-message", "max-outbox"];

/// Flags that take a number.
const NUMBERS: [&str; 10] = [
    "workers",
    "value-flags",
    "max-sessions",
    "max-sessions-per-user",
    "max-messages-per-second",
    "max-http-connections",
    "max-http-connections-per-address",
    "max-handshakes-per-second",
    "max-handshakes-per-second-per-address",
    "max-handshakes-per-second-per-user",
];

/// Flags that take a text of some other form.
const TEXTS: [&str; 10] = [
    "listen",
    "store-listen",
    "admin",
    "server-id",
    "key-template",
    "user-claim",
    "jwt-issuer",
    "log-format",
    "trusted-proxy",
    "forwarded-header",
];

const ORIGINS: [&str; 4] = [
    "https://app.example",
    "http://[::1]:3000",
    "https://*.a",
    "null",
];

fn flags(input: &mut Unstructured<'_>) -> Result<Vec<String>> {
    let mut flags = Vec::new();
    for _ in 0..input.int_in_range(0..=FLAGS_MAX)? {
        let (flag, value) = flag(input)?;
        flags.push(format!("--{flag}={value}"));
    }
    if input.ratio(1, 4)? {
        flags.push(format!("--allow-origin={}", input.choose(&ORIGINS)?));
    }
    Ok(flags)
}

/// A file of a few keys, mostly with values that they may have.
fn file(input: &mut Unstructured<'_>) -> Result<String> {
    let mut text = String::new();
    for _ in 0..input.int_in_range(0..=FLAGS_MAX)? {
        let (key, value) = flag(input)?;
        let quoted = value.replace(['\\', '"', '\n', '\r'], "");
        let value = match input.int_in_range(0..=7)? {
            0 => value,
            1 => format!("[\"{quoted}\"]"),
            2 => "true".into(),
            _ if NUMBERS.contains(&key) => value,
            _ => format!("\"{quoted}\""),
        };
        let blank = input.choose(&["\n", " # x\n", "\r\n", "\n\n", ""])?;
        text += &format!("{key} = {value}{blank}");
    }
    for _ in 0..input.int_in_range(0..=3)? {
        text += &table(input)?;
    }
    Ok(text)
}

/// An issuer, mostly one that works.
fn table(input: &mut Unstructured<'_>) -> Result<String> {
    let mut text = String::from("\n[[issuer]]\n");
    let names = [
        "http://localhost:1",
        "http://localhost:2",
        "a",
        "",
        "https://b?",
    ];
    text += &format!("jwt-issuer = \"{}\"\n", input.choose(&names)?);
    let lines = [
        "jwt-jwks-url = \"http://localhost:1/keys\"\n",
        "jwt-jwks-url = \"ftp://localhost\"\n",
        "jwt-audience = \"a\"\n",
        "allow-any-audience = true\n",
        "user-claim = \"user.id\"\n",
        "user-claim = \"\"\n",
        "ttl = \"60s\"\n",
        "jwt-secret = \"a\"\n",
        "[issuer.keys]\n",
    ];
    for _ in 0..input.int_in_range(0..=3)? {
        text += input.choose(&lines)?;
    }
    Ok(text)
}

fn flag(input: &mut Unstructured<'_>) -> Result<(&'static str, String)> {
    Ok(match input.int_in_range(0..=5)? {
        0 | 1 => (*input.choose(&DURATIONS)?, duration(input)?),
        2 => {
            let unit = input.choose(&["", "B", "KiB", "kb", "MiB", "GiB", "EiB", "x"])?;
            let flag = *input.choose(&SIZES)?;
            (flag, format!("{}{unit}", input.arbitrary::<u16>()?))
        }
        3 => (*input.choose(&NUMBERS)?, number(input)?),
        4 => {
            let nodes = input.int_in_range(0..=3)?;
            let nodes: Result<Vec<String>> = (0..nodes).map(|_| node(input)).collect();
            ("memcached", nodes?.join(","))
        }
        _ => (*input.choose(&TEXTS)?, text(input)?),
    })
}

fn duration(input: &mut Unstructured<'_>) -> Result<String> {
    let unit = input.choose(&["s", "ms", "m", "h", "days", "ns", "years", ""])?;
    let count = match input.ratio(7, 8)? {
        true => input.int_in_range(0..=100_u64)?,
        false => input.arbitrary()?,
    };
    Ok(format!("{count}{unit}"))
}

fn number(input: &mut Unstructured<'_>) -> Result<String> {
    Ok(match input.ratio(3, 4)? {
        true => input.arbitrary::<u8>()?.to_string(),
        false => input.arbitrary::<i64>()?.to_string(),
    })
}

fn node(input: &mut Unstructured<'_>) -> Result<String> {
    let hosts = ["10.0.0.1", "a", "[::1]", "unix", "[[x]]", "::1", "", "a b"];
    let host = input.choose(&hosts)?;
    Ok(format!(
        "{host}:{}",
        input.choose(&["11211", "1", "0", "65536", "/run/m", "+80"])?
    ))
}

fn text(input: &mut Unstructured<'_>) -> Result<String> {
    let texts = [
        "127.0.0.1:0",
        "0.0.0.0:80",
        "[::1]:80",
        "a{userId}b",
        "{userId}",
        "{userId}{userId}",
        "json",
        "",
    ];
    Ok(match input.ratio(3, 4)? {
        true => (*input.choose(&texts)?).into(),
        false => input.arbitrary::<&str>()?.chars().take(60).collect(),
    })
}
