use std::ffi::OsString;

use clap::CommandFactory;

use super::command_line::CommandLine;
use super::sources::Asked;
use super::*;

/// What a command line asks for, without an environment, and with empty files.
fn asked(args: &[&str]) -> Result<Asked, clap::Error> {
    let args = args.iter().map(Into::into);
    let asked = Asked::read(args, [], |_| Ok(String::new()));
    asked.map_err(|refused| refused.error)
}

fn check(args: &[&str]) -> Result<Config, String> {
    let asked = asked(&[&["presenced"], args].concat());
    let config = asked.and_then(|asked| asked.settings.check().config);
    config.map_err(|error| error.to_string())
}

fn refused(args: &[&str], parts: &[&str]) {
    let error = check(args).expect_err("must be refused");
    for part in parts {
        assert!(
            error.contains(part),
            "{args:?}: {error:?} should name {part:?}"
        );
    }
}

#[test]
fn the_defaults_work_and_promise_what_they_keep() {
    let settings = check(&[]).unwrap();
    assert_eq!(settings.memcached.marker.entry_ttl.as_secs(), 60);
    assert!(settings.gateway.allow_query_token && settings.gateway.secret.is_none());
    let promises = promises(&settings).to_string();
    for part in [
        "(to others within 250ms)",
        "between 9s and 1m 1s",
        "headroom 10s of the TTL of 1m",
    ] {
        assert!(promises.contains(part), "{promises}");
    }
}

#[test]
fn no_user_can_have_a_key_of_the_servers_own() {
    for template in [
        "{userId}",
        "pre{userId}",
        "presenced:{userId}",
        "presenced:m{userId}",
        "{userId}0",
    ] {
        refused(&["--key-template", template], &[template, "presenced:…"]);
    }
    for template in [
        "u{userId}",
        "{userId}:online",
        "presence:{userId}",
        "presenced:{userId}:x",
    ] {
        assert!(check(&["--key-template", template]).is_ok(), "{template}");
    }
}

#[test]
fn times_that_can_not_work_name_the_values_and_the_rule() {
    refused(
        &["--ttl", "59s"],
        &["--ttl 59s", "--ping-interval 25s", "20s", "5s", "60s"],
    );
    assert!(check(&["--ttl", "60s"]).is_ok());
    refused(
        &["--ping-timeout", "25s"],
        &["--ping-timeout 25s", "--ping-interval 25s"],
    );
    refused(&["--ttl", "60500ms"], &["--ttl 60500ms", "whole seconds"]);
    refused(&["--ttl", "31days"], &["--ttl", "'31days'", "to 30days"]);
    refused(
        &["--flush-interval", "0s"],
        &["--flush-interval", "'0s'", "0.1s to 3600s"],
    );
    refused(
        &["--ping-interval", "25"],
        &["--ping-interval", "'25'", "25s or 500ms"],
    );
    refused(&["--coalesce", "1s"], &["--coalesce", "'1s'", "0s to 0.1s"]);
    refused(
        &["--coalesce", "100ms", "--ping-timeout", "150ms"],
        &["--coalesce 100ms", "half", "--ping-timeout 150ms"],
    );
    assert!(check(&["--coalesce", "75ms", "--ping-timeout", "150ms"]).is_ok());
}

#[test]
fn no_ttl_is_a_date_to_memcached_even_while_it_drains() {
    refused(
        &["--ttl", "30days"],
        &["--ttl 30days", "--drain 10s", "30days together"],
    );
    refused(
        &["--ttl", "2591999s", "--drain", "2s"],
        &["--ttl 2591999s", "--drain 2s", "2592000s together"],
    );
    assert!(check(&["--ttl", "30days", "--drain", "0s"]).is_ok());
    assert!(check(&["--ttl", "2591999s", "--drain", "1s"]).is_ok());
}

#[test]
fn a_name_is_resolved_again_before_entries_expire() {
    let slow = ["--resolve-interval", "1m", "--ttl", "60s"];
    for nodes in [["--memcached", "cache:1"], ["--memcached", "dns+cache:1"]] {
        refused(
            &[&nodes[..], &slow].concat(),
            &["--resolve-interval 1m", "less than --ttl 60s"],
        );
        let faster = [&nodes[..], &["--resolve-interval", "59s"]].concat();
        assert!(check(&faster).is_ok());
    }
    // There is nothing to be resolved.
    for nodes in ["10.0.0.1:1,[::1]:1", "unix:/m"] {
        assert!(check(&[&["--memcached", nodes][..], &slow].concat()).is_ok());
    }
    assert!(check(&slow).is_ok());
    refused(&["--resolve-interval", "151s"], &["from 0.1s to 150s"]);
}

#[test]
fn without_a_key_only_this_machine_is_served() {
    refused(
        &["--listen", "0.0.0.0:8080"],
        &["--listen 0.0.0.0:8080", "--jwt-secret-file"],
    );
    refused(
        &["--store-listen", "0.0.0.0:1"],
        &["--store-listen 0.0.0.0:1", "--memcached"],
    );
    assert!(check(&["--listen", "[::1]:8080"]).is_ok());
    assert!(check(&["--listen", "localhost:1", "--listen", "[::1]:1"]).is_ok());
    refused(&["--listen", ":8080"], &[":8080", "--jwt-secret-file"]);
    refused(
        &["--listen", "127.0.0.1:1,0.0.0.0:1"],
        &["--listen 0.0.0.0:1", "--jwt-secret-file"],
    );
}

#[test]
fn secrets() {
    let with = |secret: Option<&str>| {
        let mut flags = Flags::parse_from(["presenced", "--listen", "0.0.0.0:1"]);
        flags.tokens.issuer.jwt_secret = secret.map(Into::into);
        flags.check().map_err(|error| error.to_string())
    };
    let good = "0123456789abcdef0123456789abcdef";
    let settings = with(Some(good)).unwrap();
    assert_eq!(
        settings.gateway.secret.as_ref().unwrap().as_bytes(),
        good.as_bytes()
    );
    assert!(!settings.gateway.allow_query_token);
    assert!(
        !format!("{settings:?}").contains(good),
        "secrets are never shown"
    );
    assert!(with(Some("short")).unwrap_err().contains("32 bytes"));
    let pem = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkq\n-----END PUBLIC KEY-----";
    assert!(with(Some(pem)).unwrap_err().contains("PEM"));
    refused(
        &["--jwt-secret-file", "/no/such/file"],
        &["--jwt-secret-file /no/such/file"],
    );
}

#[test]
fn a_secret_is_bytes_and_need_not_be_text() {
    use std::os::unix::ffi::OsStringExt;
    let with = |secret: &[u8]| {
        let mut flags = Flags::parse_from(["presenced", "--listen", "0.0.0.0:1"]);
        flags.tokens.issuer.jwt_secret = Some(OsString::from_vec(secret.to_vec()));
        flags.check().map_err(|error| error.to_string())
    };
    let secret: Vec<u8> = (0x80..=0xff).collect();
    let settings = with(&secret).unwrap();
    assert_eq!(settings.gateway.secret.unwrap().as_bytes(), secret);
    // Nor is one that is no good the same as none.
    assert!(with(b"\xff").unwrap_err().contains("32 bytes"));
    assert!(with(b"").unwrap_err().contains("32 bytes"));
}

#[test]
fn everything_else_that_can_not_work() {
    refused(
        &["--key-template", "user"],
        &["--key-template \"user\"", "{userId}"],
    );
    refused(&["--memcached", "a:1,a:1"], &["a:1 is there twice"]);
    refused(
        &["--memcached", "nowhere"],
        &["--memcached", "'nowhere'", "HOST:PORT"],
    );
    refused(
        &["--allow-origin", "*"],
        &["--allow-origin *", "scheme://host"],
    );
    refused(&["--server-id", ""], &["--server-id"]);
    refused(&["--jwt-audience", ""], &["--jwt-audience", "empty"]);
    refused(&["--jwt-issuer", ""], &["--jwt-issuer", "empty"]);
    refused(
        &["--max-sessions", "99999999999"],
        &["--max-sessions 99999999999", "ulimit -n"],
    );
    refused(&["--workers", "0"], &["--workers", "'0'"]);
    // Each needs a shard.
    refused(&["--workers", "65"], &["--workers", "'65'", "64"]);
    refused(&["--no-such-flag"], &["--no-such-flag"]);
    let two = check(&["--memcached", "a:1*2,unix:/run/m.sock"]).unwrap();
    assert_eq!(two.memcached.nodes.nodes.len(), 2);
    refused(
        &["--memcached", "a:1*2,b:1", "--ring", "modulo"],
        &["a:1*2", "modulo"],
    );
    let eject = ["--ring", "modulo", "--on-node-failure", "eject"];
    refused(&eject, &["eject", "--ring modulo"]);
    let both = ["--memcached", "a:1", "--memcached-file", "/no/file"];
    refused(&both, &["give one of them"]);
    refused(&both[2..], &["--memcached-file /no/file"]);
    refused(
        &["--memcached-timeout", "60s"],
        &["--memcached-timeout 60s", "--ttl 60s"],
    );
    refused(
        &["--resolve-interval", "1ms"],
        &["--resolve-interval", "'1ms'", "from 100ms to 150000ms"],
    );
    for flag in ["--memcached-tls-ca", "--memcached-auth-file"] {
        refused(&[flag, "/no/file"], &[flag, "/no/file"]);
        // Not what it should have in it.
        refused(&[flag, "/etc/hostname"], &[flag, "/etc/hostname"]);
    }
}

/// Each flag of `command` with its variable and its defaults.
fn variables(command: &clap::Command) -> Vec<(String, String, Vec<OsString>)> {
    let flags = command.get_arguments().filter_map(|arg| {
        let long = arg
            .get_long()
            .filter(|long| !["help", "version"].contains(long))?;
        let variable = arg.get_env().expect(long).to_str().unwrap().to_owned();
        let defaults = arg.get_default_values().iter().map(Into::into).collect();
        Some((long.to_owned(), variable, defaults))
    });
    flags.collect()
}

#[test]
fn every_flag_has_its_variable() {
    let command = CommandLine::command();
    let store = command.find_subcommand("store").unwrap();
    let (edge, store) = (variables(&command), variables(store));
    let named = |prefix: &str, flag: &str| {
        let flag = flag.to_uppercase().replace('-', "_");
        format!("{prefix}_{flag}")
    };
    for (flag, variable, _) in &edge {
        assert_eq!(*variable, named("PRESENCED", flag));
    }
    for (flag, variable, _) in &store {
        match flag.as_str() {
            // PRESENCED_STORE_LISTEN is the embedded store's, which has another default.
            "listen" => assert_eq!(variable, "PRESENCED_STORE_TCP"),
            _ => assert_eq!(*variable, named("PRESENCED_STORE", flag)),
        }
    }
    // Whoever sets a variable for both gets what both say.
    let mut shared = Vec::new();
    for (_, variable, defaults) in &edge {
        for (_, _, others) in store.iter().filter(|(_, other, _)| other == variable) {
            assert_eq!(defaults, others, "{variable}");
            shared.push(variable.as_str());
        }
    }
    assert_eq!(shared, ["PRESENCED_STORE_MEMORY"]);
}

#[test]
fn tokens_have_room_in_the_head_and_whole_seconds() {
    refused(
        &["--max-token", "24KiB"],
        &["--max-token 24KiB", "--max-head 32KiB"],
    );
    assert!(check(&["--max-token", "24KiB", "--max-head", "64KiB"]).is_ok());
    refused(&["--max-token", "1000"], &["--max-token", "'1000'"]);
    refused(
        &["--jwt-leeway", "1500ms"],
        &["--jwt-leeway 1500ms", "whole seconds"],
    );
    refused(&["--jwt-leeway", "1h"], &["--jwt-leeway", "'1h'"]);
    refused(
        &["--allow-any-audience", "--jwt-audience", "x"],
        &["--allow-any-audience", "--jwt-audience"],
    );
}

#[test]
fn proxies_are_believed_only_where_they_are_named() {
    refused(
        &["--proxy-protocol"],
        &["--proxy-protocol needs --trusted-proxy", "10.0.0.0/8"],
    );
    for header in ["x-forwarded-for", "forwarded"] {
        let flag = format!("--forwarded-header {header}");
        refused(
            &["--forwarded-header", header],
            &[&flag, "needs --trusted-proxy"],
        );
    }
    refused(
        &["--forwarded-header", "x-real-ip"],
        &["--forwarded-header", "x-real-ip", "x-forwarded-for"],
    );
    refused(
        &["--trusted-proxy", "10.1.2.3/8"],
        &["--trusted-proxy", "10.1.2.3/8", "10.0.0.0/8"],
    );
    refused(
        &["--trusted-proxy", "10.0.0.0/8,proxy.internal"],
        &["--trusted-proxy", "proxy.internal", "2001:db8::/32"],
    );
    refused(
        &["--trusted-proxy", "0.0.0.0/0"],
        &["--trusted-proxy", "0.0.0.0/0", "everyone"],
    );
    let flags = [
        "--trusted-proxy=10.0.0.0/8,::1",
        "--trusted-proxy=192.0.2.7",
        "--forwarded-header=forwarded",
        "--proxy-protocol",
    ];
    let proxies = check(&flags).unwrap().gateway.proxies;
    let trusted: Vec<_> = proxies.trusted.iter().map(ToString::to_string).collect();
    assert_eq!(trusted, ["10.0.0.0/8", "::1/128", "192.0.2.7/32"]);
    assert!(proxies.use_proxy_protocol);
    assert_eq!(proxies.forwarded_header, ForwardedHeader::Forwarded);
}

#[test]
fn a_value_that_begins_with_a_hyphen_is_a_value_of_its_flag() {
    let command = CommandLine::command();
    let store = command.find_subcommand("store").unwrap();
    let commands = [
        (&["presenced"][..], &command),
        (&["presenced", "store"], store),
    ];
    let mut count = 0;
    for (words, command) in commands {
        let with_value = |arg: &&clap::Arg| arg.get_action().takes_values();
        for long in command
            .get_arguments()
            .filter(with_value)
            .filter_map(clap::Arg::get_long)
        {
            let flag = format!("--{long}");
            for value in ["-5s", "-1", "-x", "-"] {
                let args = [words, &[&flag, value]].concat();
                // A text or a path may be such.
                let Err(refused) = asked(&args) else {
                    continue;
                };
                assert_eq!(refused.exit_code(), 2);
                let refused = refused.to_string();
                let named = format!("invalid value '{value}' for '{flag} <");
                assert!(refused.contains(&named), "{args:?}: {refused}");
                // And the rule: after the name, or as a list of words.
                let rule = refused.split_once(">': ").map(|(_, rule)| rule.len() > 9);
                let words = refused.contains("[possible values: ");
                assert!(words || rule == Some(true), "{args:?}: {refused}");
            }
            // The next flag is none.
            let args = [words, &[&flag, "--log-level", "info"]].concat();
            let missing = asked(&args).unwrap_err();
            let missing = missing.to_string();
            let named = format!("a value is required for '{flag} <");
            assert!(missing.contains(&named), "{args:?}: {missing}");
            count += 1;
        }
    }
    assert!(count > 50, "{count}");
    refused(
        &["--ttl", "-5s"],
        &["--ttl", "'-5s'", "from 1s to 2592000s"],
    );
    refused(&["--workers", "-1"], &["--workers", "'-1'", "1..=64"]);
    refused(&["--listen", "-1"], &["--listen", "'-1'", "127.0.0.1:8080"]);
    refused(&["-5s"], &["'-5'"]);
    let flags = ["--server-id", "-a", "--key-template", "-{userId}"];
    assert!(check(&flags).is_ok());
}

#[test]
fn flags_without_an_effect_beside_others_are_refused() {
    for store in [
        ["--store-memory", "64MiB"],
        ["--store-listen", "127.0.0.1:1"],
    ] {
        for nodes in [["--memcached", "a:1"], ["--memcached-file", "/no/file"]] {
            let both = [store, nodes].concat();
            refused(&both, &[store[0], nodes[0], "cannot be used with"]);
        }
        assert!(check(&store).is_ok());
    }
    let either = [
        "presenced",
        "store",
        "--listen",
        "127.0.0.1:1",
        "--unix",
        "/x",
    ];
    let error = asked(&either).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let error = error.to_string();
    assert!(
        error.contains("--listen") && error.contains("--unix"),
        "{error}"
    );
    let eject_after = ["--eject-after", "7"];
    let needed = "--eject-after 7 needs --on-node-failure eject";
    refused(&eject_after, &[needed]);
    let eject = [&eject_after[..], &["--on-node-failure", "eject"]].concat();
    assert!(check(&eject).is_ok());
}

#[test]
fn keys_are_fetched_only_from_where_that_is_safe() {
    let issuer = ["--jwt-issuer", "https://id.example"];
    let with = |args: &[&'static str]| [&issuer, args].concat();
    refused(
        &["--jwt-jwks-url", "https://id.example/keys"],
        &["--jwt-jwks-url https://id.example/keys", "--jwt-issuer"],
    );
    for (url, why) in [
        ("http://id.example/keys", "must begin with https://"),
        ("https://me:secret@id.example/keys", "no password"),
        ("https://id.example/keys#a", "no #"),
        ("id.example", "must begin with https://"),
        ("", "is no URL"),
    ] {
        refused(
            &with(&["--jwt-jwks-url", url]),
            &["--jwt-jwks-url", url, why],
        );
    }
    refused(
        &["--jwt-issuer", "http://id.example"],
        &[
            "--jwt-issuer",
            "http://id.example",
            "must begin with https://",
        ],
    );
    refused(
        &["--jwt-issuer", "https://id.example?a"],
        &["--jwt-issuer", "must have no ?"],
    );
    refused(
        &["--jwt-jwks-ca", "/dev/null"],
        &["--jwt-jwks-ca /dev/null", "no effect"],
    );
    refused(
        &with(&["--jwt-jwks-ca", "/dev/null"]),
        &["--jwt-jwks-ca /dev/null", "no certificate"],
    );
    let local = [
        "--jwt-jwks-url",
        "http://localhost:1/k",
        "--jwt-jwks-ca",
        "/dev/null",
    ];
    refused(
        &with(&local),
        &["--jwt-jwks-ca", "http://localhost:1/k has no TLS"],
    );
}

#[test]
fn an_issuer_that_is_a_url_is_where_keys_are_discovered_if_there_are_no_others() {
    let keys = |args: &[&str]| {
        let mut issuers = check(args).unwrap().gateway.tokens.issuers;
        let source = issuers.remove(0).source;
        source.map(|source| source.name())
    };
    assert_eq!(keys(&["--jwt-issuer", "my-issuer"]), None);
    let local = ["--jwt-issuer", "http://localhost:3000"];
    assert_eq!(keys(&local).as_deref(), Some("http://localhost:3000"));
    let with_secret = |args: &[&str]| {
        let args = [&["presenced"], args].concat();
        let mut flags = asked(&args).unwrap().settings.flags;
        flags.tokens.issuer.jwt_secret = Some("s".repeat(32).into());
        let mut issuers = flags.check().unwrap().gateway.tokens.issuers;
        issuers.remove(0).source.map(|source| source.name())
    };
    assert_eq!(with_secret(&local), None);
    let url = ["--jwt-jwks-url", "http://127.0.0.1:3000/keys"];
    let both = with_secret(&[local, url].concat());
    assert_eq!(both.as_deref(), Some(url[1]));
    // There is a key, or will be.
    let public = [&["--listen", "0.0.0.0:0"], &local[..]].concat();
    let config = check(&public).unwrap();
    assert!(!config.gateway.allow_query_token);
    assert_eq!(config.drain_delay, crate::limits::DRAIN_DELAY);
}

#[test]
fn what_this_cpu_can_not_do_is_refused_by_the_setting_that_asks_for_it() {
    let checked = |args: &[&str], lacking| {
        let asked = asked(&[&["presenced"], args].concat()).unwrap();
        let checked = asked.settings.flags.check_cpu(lacking);
        checked.map_err(|error| error.0)
    };
    let of_provider = [
        "--jwt-issuer=https://id.example",
        "--jwt-jwks-url=https://id.example/keys",
    ];
    for (args, named) in [
        (&["--jwt-key-file=/k.pem"][..], "--jwt-key-file /k.pem: "),
        (&of_provider, "--jwt-jwks-url https://id.example/keys: "),
        (
            &of_provider[..1],
            "--jwt-issuer \"https://id.example\" without a key",
        ),
        (
            &["--memcached=a:11211", "--memcached-tls-ca=/ca.pem"],
            "--memcached-tls-ca /ca.pem: ",
        ),
    ] {
        let refused = checked(args, Some("ADX, AVX2")).unwrap_err();
        assert!(refused.starts_with(named), "{refused}");
        assert!(refused.contains("it lacks ADX, AVX2"), "{refused}");
        assert_eq!(checked(args, None), Ok(()));
    }
    // Secrets, and memcached without TLS, work on any.
    let plain = [
        "--jwt-secret-file=/s",
        "--jwt-issuer=https://id.example",
        "--memcached=a:11211",
    ];
    for args in [&[][..], &plain] {
        assert_eq!(checked(args, Some("ADX")), Ok(()));
    }
}

#[test]
fn a_table_whose_keys_this_cpu_can_not_use_is_named_by_its_place() {
    let text = "[[issuer]]\njwt-issuer = 'a'\njwt-secret-file = '/s'\n\n\
                [[issuer]]\njwt-issuer = 'b'\njwt-key-file = '/k.pem'\n";
    let args = ["presenced", "--config=/c.toml"].map(OsString::from);
    let asked = Asked::read(args, [], |_| Ok(text.to_owned()));
    let asked = asked.map_err(|refused| refused.error.to_string()).unwrap();
    let refused = asked.settings.flags.check_cpu(Some("ADX")).unwrap_err().0;
    for part in ["/c.toml", "jwt-key-file", "/k.pem", "lacks ADX"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    assert!(!refused.contains("jwt-secret-file /s"), "{refused}");
}
