use std::os::unix::ffi::OsStringExt;

use super::*;
use crate::cli::print_config::print;
use crate::tokens::Audience;

/// Reads settings of all sources; the file is there only where a source names it.
fn read(args: &[&str], environment: &[(&str, &str)], file: &str) -> Result<Asked, Refused> {
    let args = [&["presenced"], args].concat();
    let variables = environment.iter();
    Asked::read(
        args.iter().map(Into::into),
        variables.map(|(name, value)| (name.into(), value.into())),
        |path| match path == Path::new("p.toml") {
            true => Ok(file.to_owned()),
            false => Err("No such file".into()),
        },
    )
}

/// What a file alone makes of a setting: its values, or what is wrong, in one line.
fn in_file(file: &str) -> Result<Settings, String> {
    settings(&["--config=p.toml"], &[], file)
}

fn settings(args: &[&str], environment: &[(&str, &str)], file: &str) -> Result<Settings, String> {
    let asked = read(args, environment, file).map_err(|refused| refused.error);
    let settings = asked.map(|asked| asked.settings);
    let checked = settings.and_then(|settings| settings.clone().check().config.map(|_| settings));
    checked.map_err(|error| {
        assert_eq!(error.exit_code(), 2, "{error}");
        let text = error.to_string();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    })
}

/// The values of a setting, and where they come from.
fn entry(settings: &Settings, name: &str) -> (Vec<String>, Origin) {
    let mut entries = settings.entries.iter();
    let entry = entries.find(|entry| entry.key.name == name).unwrap();
    let values = entry.values.iter().map(|value| value.to_str().unwrap());
    (values.map(str::to_owned).collect(), entry.origin.clone())
}

fn refused(refused: Result<Settings, String>, parts: &[&str]) {
    let error = refused.map(|_| ()).expect_err(parts[0]);
    for part in parts {
        assert!(error.contains(part), "{error:?} should name {part:?}");
    }
}

#[test]
fn a_flag_wins_over_the_environment_that_over_the_file_and_that_over_the_default() {
    let file = "ttl = '61s'\ndrain = '1s'\nlisten = ['127.0.0.1:1']\nserve-health = true\nproxy-protocol = false\n";
    let environment = [
        ("PRESENCED_TTL", "62s"),
        ("PRESENCED_DRAIN", "2s"),
        ("PRESENCED_CONFIG", "p.toml"),
        ("PRESENCED_LISTEN", ""),
    ];
    let set = settings(&["--ttl=63s", "--serve-health=false"], &environment, file).unwrap();
    let at = |line| Origin::File(Arc::new("p.toml".into()), line);
    let of = |variable: &str| Origin::Environment(variable.into());
    for (name, value, origin) in [
        ("ttl", "63s", Origin::Flag),
        ("drain", "2s", of("PRESENCED_DRAIN")),
        ("config", "p.toml", of("PRESENCED_CONFIG")),
        ("listen", "127.0.0.1:1", at(3)),
        ("proxy-protocol", "false", at(5)),
        ("coalesce", "5ms", Origin::Default),
        ("serve-health", "false", Origin::Flag),
    ] {
        assert_eq!(entry(&set, name), (vec![value.into()], origin), "{name}");
    }
    assert_eq!(set.flags.heartbeats.ttl.duration.as_secs(), 63);
    assert_eq!(set.flags.limits.drain.duration.as_secs(), 2);
    assert!(!set.flags.network.serve_health);
    // A repeatable flag replaces all that others say of it.
    let args = ["--config=p.toml", "--listen=127.0.0.1:2,127.0.0.1:3"];
    let set = settings(&args, &[], file).unwrap();
    assert_eq!(set.flags.network.listen.len(), 2);
    assert!(set.flags.network.serve_health);
}

#[test]
fn a_file_has_every_flag_in_the_types_of_toml() {
    let set = in_file(
        "\u{feff}# what we run\r\nlisten = [\n  '127.0.0.1:1', # one\n  \"[::1]:1\",\n]\n\
         max-sessions = 1_0\nworkers = 0x2\nserve-health = true\n\
         store-memory = 67108864\nallow-origin = 'https://a.example,https://b.example'\n",
    );
    let flags = set.unwrap().flags;
    assert_eq!(flags.network.listen.len(), 2);
    assert_eq!(flags.limits.max_sessions, Some(10));
    assert_eq!(flags.network.workers, Some(2));
    assert!(flags.network.serve_health);
    assert_eq!(flags.storage.store_memory.0, 64 << 20);
    assert_eq!(flags.tokens.allow_origin.len(), 2);
    assert!(in_file("").is_ok());
}

#[test]
fn a_wrong_file_is_refused_with_its_line_the_key_the_value_and_the_rule() {
    for (file, parts) in [
        (
            "\n\ntll = '60s'",
            &["p.toml:3: unknown key 'tll'", "did you mean 'ttl'?"][..],
        ),
        (
            "max_sessions = 1",
            &["p.toml:1: unknown key 'max_sessions'", "'max-sessions'?"],
        ),
        ("TTL = '60s'", &["unknown key 'TTL'", "did you mean 'ttl'?"]),
        ("colour = 'red'", &["p.toml:1: unknown key 'colour' Usage"]),
        ("\"a\\u001b[31m\" = 1", &["unknown key 'a\\u{1b}[31m'"]),
        ("[limits]\nttl = '60s'", &["p.toml:1: unknown key 'limits'"]),
        (
            "config = 'q.toml'",
            &["p.toml:1: a settings file can't name another"],
        ),
        (
            "jwt-secret = 'hush'",
            &["p.toml:1:", "jwt-secret-file", "PRESENCED_JWT_SECRET"],
        ),
        ("jwt_secret = 'hush'", &["p.toml:1:", "jwt-secret-file"]),
        (
            "ttl = 60",
            &["p.toml:1: invalid value '60' for 'ttl': expected a number and a unit"],
        ),
        (
            "ttl = '0s'",
            &["p.toml:1: invalid value '0s' for 'ttl': must be from 1s to 2592000s"],
        ),
        (
            "ttl = true",
            &["p.toml:1: invalid value true for 'ttl': must be a string"],
        ),
        (
            "ttl = ['60s']",
            &[
                "invalid value ['60s'] for 'ttl': must be one string",
                "no array",
            ],
        ),
        (
            "ttl = 1.5",
            &["invalid value 1.5 for 'ttl': must be a string"],
        ),
        ("ttl = 2026-01-01", &["invalid value 2026-01-01 for 'ttl'"]),
        (
            "workers = '2'",
            &["p.toml:1: invalid value '2' for 'workers': must be an integer"],
        ),
        (
            "workers = 65",
            &["p.toml:1: invalid value '65' for 'workers': 65 is not in 1..=64"],
        ),
        (
            "workers = -1",
            &["p.toml:1: invalid value '-1' for 'workers': -1 is not in"],
        ),
        (
            "serve-health = 'yes'",
            &["invalid value 'yes' for 'serve-health': must be true or false"],
        ),
        (
            "ring = 'circle'",
            &["p.toml:1: invalid value 'circle' for 'ring'", "ketama"],
        ),
        (
            "listen = []",
            &["invalid value [] for 'listen': leave the key out"],
        ),
        (
            "listen = ['127.0.0.1:1', 2]",
            &["invalid value '2' for 'listen'"],
        ),
        (
            "listen = ['127.0.0.1:1', {}]",
            &["p.toml:1: invalid value {} for 'listen'"],
        ),
        (
            "key-template = \"a\\u0000{userId}\"",
            &["p.toml:1: invalid value", "NUL"],
        ),
        (
            "ttl = '60s'\nttl = '61s'",
            &["p.toml:2: no TOML: duplicate key"],
        ),
        ("ttl = '60s'\n\nttl 60s", &["p.toml:3: no TOML"]),
        (
            "max-sessions = 99999999999999999999999",
            &["p.toml:1:", "max-sessions"],
        ),
        (
            "\nping-timeout = '25s'",
            &["p.toml:2: ping-timeout 25s must be less than --ping-interval 25s"],
        ),
        (
            "listen = '0.0.0.0:1'",
            &[
                "p.toml:1: listen 0.0.0.0:1 without a key",
                "--jwt-secret-file",
            ],
        ),
        (
            "jwt-secret-file = '/no/file'",
            &["p.toml:1: jwt-secret-file /no/file: No such file"],
        ),
    ] {
        let error = in_file(file).map(|_| ());
        assert!(error.is_err(), "{file}");
        for part in parts {
            assert!(
                error.as_ref().is_err_and(|error| error.contains(part)),
                "{file:?} should name {part:?}: {error:?}"
            );
        }
    }
    assert!(!in_file("jwt-secret = 'hush'").unwrap_err().contains("hush"));
    refused(
        settings(&["--config=q.toml"], &[], ""),
        &["--config q.toml: No such file"],
    );
    let by_variable = settings(&[], &[("PRESENCED_CONFIG", "q.toml")], "");
    refused(by_variable, &["PRESENCED_CONFIG q.toml: No such file"]);
}

/// Two issuers, each in a table.
const ISSUERS: &str = "ttl = '61s'

[[issuer]] # ours
jwt-issuer = 'http://localhost:1'
jwt-audience = 'presence'

[[issuer]]
user-claim = 'user.id'
jwt-issuer = 'other'
jwt-jwks-url = 'http://localhost:2/keys'
allow-any-audience = true
";

#[test]
fn each_table_is_an_issuer() {
    let set = in_file(ISSUERS).unwrap();
    let config = set.clone().check().config.unwrap();
    assert!(!config.gateway.allow_query_token && config.gateway.secret.is_none());
    assert_eq!(config.drain_delay, crate::limits::DRAIN_DELAY);
    let issuers = &config.gateway.tokens.issuers;
    let of = |name: &str, audience, claim: &str, keys: &str| {
        let source = Some((keys.to_owned(), name.to_owned()));
        (Some(name.to_owned()), audience, claim.to_owned(), source)
    };
    let found = issuers.iter().map(|issuer| {
        let source = issuer.source.as_ref();
        let source = source.map(|source| (source.name(), source.issuer().to_owned()));
        let (name, claim) = (issuer.name.clone(), issuer.user_claim.clone());
        (name, issuer.audience.clone(), claim, source)
    });
    let named = Audience::Named("presence".into());
    assert_eq!(
        found.collect::<Vec<_>>(),
        [
            of("http://localhost:1", named, "sub", "http://localhost:1"),
            of("other", Audience::Any, "user.id", "http://localhost:2/keys"),
        ]
    );
    // That of the flags is one more, and the first, if it has a key.
    let secret = ("PRESENCED_JWT_SECRET", "0123456789abcdef0123456789abcdef");
    let own = [secret, ("PRESENCED_JWT_ISSUER", "ours")];
    let set = settings(&["--config=p.toml"], &own, ISSUERS).unwrap();
    let config = set.check().config.unwrap();
    let issuers = &config.gateway.tokens.issuers;
    assert_eq!(issuers.len(), 3);
    assert_eq!(issuers[0].name.as_deref(), Some("ours"));
    assert!(config.gateway.secret.is_some());
    refused(
        settings(&["--config=p.toml"], &own[..1], ISSUERS),
        &["--jwt-issuer is missing", "PRESENCED_JWT_SECRET"],
    );
    let same = [secret, ("PRESENCED_JWT_ISSUER", "other")];
    refused(
        settings(&["--config=p.toml"], &same, ISSUERS),
        &["p.toml:9: jwt-issuer \"other\": another issuer has that name"],
    );
    // Without one, it is none.
    let args = ["--config=p.toml", "--jwt-issuer=ours", "--user-claim=uid"];
    let checked = settings(&args, &[], ISSUERS).unwrap().check();
    assert_eq!(checked.config.unwrap().gateway.tokens.issuers.len(), 2);
    let notices: Vec<_> = checked.notices.iter().map(Notice::text).collect();
    for flag in ["--jwt-issuer", "--user-claim"] {
        let has_no_effect = |notice: &&str| notice.starts_with(&format!("{flag} has no effect"));
        assert!(notices.iter().any(has_no_effect), "{notices:?}");
    }
}

#[test]
fn a_wrong_table_is_refused_with_its_line_the_key_the_value_and_the_rule() {
    const GOOD: &str = "jwt-issuer = 'http://localhost:1'\n";
    let after = |text: &str| format!("[[issuer]]\n{GOOD}{text}");
    for (file, parts) in [
        (
            "[[issuer]]\n".to_owned(),
            &["p.toml:1: a table [[issuer]] needs jwt-issuer"][..],
        ),
        (
            "\n[[issuer]]\njwt-issuer = 'a'".into(),
            &[
                "p.toml:3: jwt-issuer \"a\" has no key: give jwt-secret-file, jwt-key-file or jwt-jwks-url",
            ],
        ),
        (
            "[[issuer]]\njwt-jwks-url = 'https://a/keys'".into(),
            &["p.toml:2: jwt-jwks-url https://a/keys needs jwt-issuer:"],
        ),
        (
            format!("[[issuer]]\n{GOOD}[[issuer]]\nuser-claim = 'a'\n{GOOD}"),
            &["p.toml:5: jwt-issuer \"http://localhost:1\": another issuer"],
        ),
        (
            after("jwt-isuer = 'x'"),
            &["p.toml:3: unknown key 'jwt-isuer'; did you mean 'jwt-issuer'?"],
        ),
        (
            after("jwt_audience = 'x'"),
            &["p.toml:3: unknown key 'jwt_audience'; did you mean 'jwt-audience'?"],
        ),
        (
            after("ttl = '60s'"),
            &["p.toml:3: 'ttl' is no setting of one issuer: it belongs above the first [[issuer]]"],
        ),
        (after("config = 'x'"), &["p.toml:3: unknown key 'config'"]),
        (
            after("jwt_secret = 'hush'"),
            &["p.toml:3: a secret does not belong", "jwt-secret-file"],
        ),
        (
            after("jwt-audience = 1.5"),
            &["p.toml:3: invalid value 1.5 for 'jwt-audience': must be a string"],
        ),
        (
            after("jwt-audience = ''"),
            &["p.toml:3: jwt-audience can't be empty"],
        ),
        (
            after("jwt-audience = 'a'\nallow-any-audience = true"),
            &["p.toml:3: the argument 'jwt-audience' cannot be used with 'allow-any-audience'"],
        ),
        (
            after("jwt-secret-file = ['/no/file']"),
            &["p.toml:3: jwt-secret-file /no/file: No such file"],
        ),
        (
            after("jwt-jwks-ca = '/no/file'"),
            &["p.toml:3: jwt-jwks-ca /no/file has no effect"],
        ),
        (after("[issuer.keys]"), &["p.toml:3: unknown key 'keys'"]),
        (
            "[issuer]\njwt-issuer = 'a'".into(),
            &["p.toml:1: 'issuer' is for tables, which begin with [[issuer]]"],
        ),
        (
            "issuer = 'a'".into(),
            &["p.toml:1: 'issuer' is for tables", "jwt-issuer"],
        ),
        (
            "issuer = ['a']".into(),
            &["p.toml:1: 'issuer' is for tables"],
        ),
        (
            "[[issuers]]".into(),
            &["p.toml:1: unknown key 'issuers'; did you mean 'issuer'?"],
        ),
        (
            "[[issuer]]\n".repeat(33),
            &["p.toml:1: more than 32 tables [[issuer]]"],
        ),
    ] {
        let error = in_file(&file).map(|_| ()).expect_err(&file);
        for part in parts {
            assert!(
                error.contains(part),
                "{file:?} should name {part:?}: {error}"
            );
        }
        assert!(
            !error.contains("hush") && !error.contains("--jwt"),
            "{error}"
        );
    }
    // What it notes is named alike.
    let notices = in_file(&format!("\n[[issuer]]\n{GOOD}"))
        .unwrap()
        .check()
        .notices;
    let notices: Vec<_> = notices.iter().map(Notice::text).collect();
    assert_eq!(
        notices,
        ["p.toml:2: no jwt-audience: tokens that have an audience (aud) are refused"]
    );
}

#[test]
fn what_is_printed_has_the_tables() {
    let set = in_file(ISSUERS).unwrap();
    let text = print(&set);
    let (_, tables) = text.split_once("\n[[issuer]] # file p.toml:3\n").unwrap();
    let (one, other) = tables.split_once("\n[[issuer]] # file p.toml:7\n").unwrap();
    for (table, line) in [
        (one, "jwt-issuer = \"http://localhost:1\" # file p.toml:4"),
        (one, "user-claim = \"sub\" # default"),
        (
            one,
            "# allow-any-audience = false # default; not beside jwt-audience",
        ),
        (other, "user-claim = \"user.id\" # file p.toml:8"),
        (other, "allow-any-audience = true # file p.toml:11"),
        (other, "# jwt-audience is not set"),
    ] {
        assert!(
            table.lines().any(|found| found == line),
            "{line} in {table}"
        );
    }
    let again = in_file(&text).unwrap();
    assert_eq!(again.tables.len(), 2);
    for (one, other) in set.all_entries().zip(again.all_entries()) {
        if one.key.name != "config" {
            assert_eq!(one.values, other.values, "{}", one.key.name);
        }
    }
}

#[test]
fn what_excludes_each_other_is_refused_wherever_each_comes_from() {
    let nodes = "memcached = ['a:1']\n";
    refused(
        in_file("memcached = ['a:1']\nstore-memory = '64MiB'"),
        &["p.toml:1: the argument 'memcached' cannot be used with 'store-memory'"],
    );
    refused(
        settings(&["--config=p.toml", "--store-memory=64MiB"], &[], nodes),
        &["p.toml:1: the argument 'memcached' cannot be used with '--store-memory <SIZE>'"],
    );
    let variable = [("PRESENCED_STORE_MEMORY", "64MiB")];
    refused(
        settings(&["--config=p.toml"], &variable, nodes),
        &["p.toml:1: the argument 'memcached' cannot be used with 'PRESENCED_STORE_MEMORY'"],
    );
    // Two rules that clap does not know.
    let secret = [("PRESENCED_JWT_SECRET", "0123456789abcdef0123456789abcdef")];
    refused(
        settings(&["--config=p.toml"], &secret, "jwt-secret-file = '/x'"),
        &["p.toml:1: jwt-secret-file and PRESENCED_JWT_SECRET: give one of them"],
    );
    refused(
        settings(&["--config=p.toml", "--memcached-file=/x"], &[], nodes),
        &["p.toml:1: memcached and --memcached-file: give one of them"],
    );
}

#[test]
fn a_wrong_variable_is_named_and_an_empty_one_is_not_set() {
    for (variable, value, parts) in [
        (
            "PRESENCED_TTL",
            "60",
            &["invalid value '60' for 'PRESENCED_TTL': expected a number"][..],
        ),
        (
            "PRESENCED_TTL",
            "59s",
            &["PRESENCED_TTL 59s must be at least --ping-interval 25s"],
        ),
        (
            "PRESENCED_SERVE_HEALTH",
            "yes",
            &[
                "invalid value 'yes' for 'PRESENCED_SERVE_HEALTH'",
                "true, false",
            ],
        ),
        (
            "PRESENCED_LISTEN",
            "127.0.0.1:1,x",
            &["invalid value 'x' for 'PRESENCED_LISTEN'"],
        ),
        (
            "PRESENCED_RING",
            "circle",
            &["'circle' for 'PRESENCED_RING'", "ketama"],
        ),
        (
            "PRESENCED_JWT_SECRET",
            "",
            &["PRESENCED_JWT_SECRET has less than 32 bytes"],
        ),
    ] {
        refused(settings(&[], &[(variable, value)], ""), parts);
    }
    let plain = CommandLine::command();
    let mut all = variables(&plain);
    all.retain(|variable| variable.starts_with("PRESENCED_"));
    assert!(all.len() > 50);
    let empty: Vec<_> = all.iter().map(|name| (name.as_str(), "")).collect();
    let set = settings(&[], &empty, "").unwrap();
    let mut origins = set.entries.iter().map(|entry| &entry.origin);
    assert!(origins.all(|origin| *origin == Origin::Default));
    let bytes = OsString::from_vec(vec![0xff]);
    let wrong = Asked::read(
        ["presenced".into()],
        [("PRESENCED_TTL".into(), bytes)],
        |_| Ok(String::new()),
    );
    let error = wrong.unwrap_err().error.to_string();
    assert!(
        error.contains("PRESENCED_TTL") && error.contains("not UTF-8"),
        "{error}"
    );
}

#[test]
fn what_is_printed_is_what_is_read() {
    let file = "memcached = ['a:1', 'b:1*2']\nkey-template = 'a\"\\{userId}é'\nvalue-flags = 2\nproxy-protocol = false";
    let args = ["--config=p.toml", "--serve-health", "--max-sessions=+10"];
    let variables = [("PRESENCED_ALLOW_ORIGIN", "https://a.example,null")];
    let set = settings(&args, &variables, file).unwrap();
    let text = print(&set);
    for line in [
        "memcached = [\"a:1\", \"b:1*2\"] # file p.toml:1",
        "key-template = \"a\\\"\\\\{userId}é\" # file p.toml:2",
        "serve-health = true # flag",
        "max-sessions = 10 # flag",
        "allow-origin = [\"https://a.example\", \"null\"] # environment PRESENCED_ALLOW_ORIGIN",
        "ttl = \"60s\" # default",
        "# workers is not set: number of cores",
        "# store-memory = \"64MiB\" # default; not beside memcached",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    let again = in_file(&text).unwrap();
    for (one, other) in set.entries.iter().zip(&again.entries) {
        let name = &one.key.name;
        if !["config", "max-sessions"].contains(&name.as_str()) {
            assert_eq!(one.values, other.values, "{name}");
        }
    }
    let secret = "0123456789abcdef0123456789abcdef";
    let text = print(&settings(&[], &[("PRESENCED_JWT_SECRET", secret)], "").unwrap());
    assert!(
        text.contains("jwt-secret: not shown") && !text.contains(secret),
        "{text}"
    );
}

#[test]
fn a_word_too_many_is_called_so() {
    for (args, parts) in [
        (
            &["foo"][..],
            &[
                "unexpected word 'foo'",
                "check, capacity, print-config, token, check-token, store",
            ][..],
        ),
        (
            &["chek"],
            &["unexpected word 'chek'", "did you mean check?"],
        ),
        (
            &["ttl", "60s"],
            &["unexpected word 'ttl'", "did you mean --ttl?"],
        ),
        (&["--listen=:1", ":2"], &["unexpected word ':2'"]),
        (&["store", "foo"], &["unexpected word 'foo'"]),
        (
            &["--ttl=60s", "check"],
            &["flags of 'check' stand behind it"],
        ),
        (&["--tll=60s"], &["'--tll'", "--ttl"]),
    ] {
        refused(settings(args, &[], ""), parts);
    }
}

#[test]
fn each_command_takes_what_the_server_takes() {
    let file = "ttl = '61s'";
    for (command, is_it) in [
        (
            "check",
            (|what| matches!(what, What::Check)) as fn(&What) -> bool,
        ),
        ("capacity", |what| matches!(what, What::Capacity(_))),
        ("print-config", |what| matches!(what, What::PrintConfig)),
        ("check-token", |what| matches!(what, What::CheckToken)),
        ("token", |what| matches!(what, What::Token(_))),
    ] {
        let mut args = vec![command, "--config=p.toml", "--log-format=json"];
        args.extend((command == "token").then_some("--user=a"));
        let asked = read(&args, &[("PRESENCED_DRAIN", "3s")], file).unwrap();
        assert!(is_it(&asked.what));
        let flags = &asked.settings.flags;
        assert_eq!(flags.heartbeats.ttl.duration.as_secs(), 61);
        assert_eq!(flags.limits.drain.duration.as_secs(), 3);
        assert_eq!(flags.logs.log_format, LogFormat::Json);
    }
    let asked = read(
        &["store", "--log-level=off"],
        &[("PRESENCED_LOG_FORMAT", "json")],
        "",
    )
    .unwrap();
    assert!(matches!(asked.what, What::Store(_)));
    assert_eq!(asked.settings.flags.logs.log_format, LogFormat::Json);
}

#[test]
fn the_form_of_the_log_is_known_beside_wrong_settings() {
    for (args, variable, file, expected) in [
        ("--x", None, "", LogFormat::Text),
        ("--x", Some("json"), "", LogFormat::Json),
        ("--x", Some("yaml"), "", LogFormat::Text),
        ("--x --log-format json", None, "", LogFormat::Json),
        (
            "store --x=1 --log-format=json --",
            None,
            "",
            LogFormat::Json,
        ),
        ("--x --log-format=text", Some("json"), "", LogFormat::Text),
        ("--log-formats=json --log-format", None, "", LogFormat::Text),
        ("--log-format --log-format=json", None, "", LogFormat::Text),
        (
            "--config=p.toml",
            None,
            "log-format='json'\nttl='1'",
            LogFormat::Json,
        ),
        (
            "--config=p.toml",
            Some("text"),
            "log-format='json'\nttl='1'",
            LogFormat::Text,
        ),
    ] {
        let args: Vec<_> = args.split_whitespace().collect();
        let variable = variable.map(|variable| ("PRESENCED_LOG_FORMAT", variable));
        let variables: Vec<_> = variable.into_iter().collect();
        let refused = read(&args, &variables, file).unwrap_err();
        assert_eq!(
            refused.log_format, expected,
            "{args:?} {variables:?} {file}"
        );
    }
}
