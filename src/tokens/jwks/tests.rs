//! A provider in memory, in virtual time.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use presenced_tasks::{Task, keep_up};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::fetch::{FetchError, get};
use super::network::{DialError, Dialler, Network, Stream};
use super::{Config, Issuer, Location, Source, Url};
use crate::limits::{
    KEYS_ASK_PAUSE, KEYS_BODY_BYTES_MAX, KEYS_FETCH_TIMEOUT, KEYS_REFRESH, KEYS_REFRESH_MAX,
    KEYS_REFRESH_MIN, KEYS_RETRY_MAX, KEYS_WAIT, KEYS_WAITERS_MAX,
};

const ISSUER: &str = "http://localhost:3000";
const KEYS: &str = "http://localhost:3000/keys";

/// What a path is answered.
#[derive(Clone, Debug)]
enum Answer {
    /// These bytes, and the end.
    Raw(Vec<u8>),
    /// Some at once, and then a space a second.
    Slowly(&'static str),
    /// Nothing, and no end.
    Silence,
    /// No connection.
    Refusal,
}

/// What is behind the dialler: answers by path, and when each path was asked for.
#[derive(Clone, Default)]
struct Provider(Arc<Mutex<Behaviour>>);

#[derive(Default)]
struct Behaviour {
    answers: HashMap<String, Answer>,
    requests: Vec<(String, Instant)>,
    heads: Vec<String>,
    is_away: bool,
    delay: Duration,
}

impl Provider {
    fn set(&self, path: &str, answer: Answer) {
        let mut behaviour = self.0.lock().unwrap();
        behaviour.answers.insert(path.to_owned(), answer);
    }

    fn set_keys(&self, keys: &str) {
        self.set("/keys", ok("", &json!({ "keys": keys })));
    }

    fn set_delay(&self, delay: Duration) {
        self.0.lock().unwrap().delay = delay;
    }

    /// Whether the dialler fails.
    fn set_away(&self, is_away: bool) {
        self.0.lock().unwrap().is_away = is_away;
    }

    /// When the path was asked for.
    fn requests(&self, path: &str) -> Vec<Instant> {
        let behaviour = self.0.lock().unwrap();
        let requests = behaviour.requests.iter();
        let of_path = requests.filter(|(asked, _)| asked == path);
        of_path.map(|(_, at)| *at).collect()
    }

    fn network(&self) -> Network {
        let provider = self.clone();
        let dialler = Dialler::new(move |host, port| {
            assert_eq!((host.as_str(), port), ("localhost", 3000));
            let (ours, theirs) = duplex(4096);
            let is_away = provider.0.lock().unwrap().is_away;
            let provider = provider.clone();
            Box::pin(async move {
                if is_away {
                    // Also what dials is a try that is seen.
                    provider.note("away");
                    let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
                    return Err(DialError::Connect(refused));
                }
                tokio::spawn(provider.serve(theirs));
                Ok(Box::new(ours) as Box<dyn Stream>)
            })
        });
        Network { dialler, tls: None }
    }

    fn note(&self, path: &str) {
        let mut behaviour = self.0.lock().unwrap();
        behaviour.requests.push((path.to_owned(), Instant::now()));
    }

    async fn serve(self, stream: DuplexStream) {
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        self.note(&path);
        let (answer, delay) = {
            let mut behaviour = self.0.lock().unwrap();
            behaviour.heads.push(head);
            (behaviour.answers.get(&path).cloned(), behaviour.delay)
        };
        sleep(delay).await;
        match answer {
            Some(Answer::Raw(bytes)) => drop(stream.write_all(&bytes).await),
            Some(Answer::Slowly(start)) => {
                let _ = stream.write_all(start.as_bytes()).await;
                while stream.write_all(b" ").await.is_ok() {
                    sleep(Duration::from_secs(1)).await;
                }
            }
            Some(Answer::Silence) => std::future::pending().await,
            Some(Answer::Refusal) | None => {}
        }
    }
}

fn ok(headers: &str, body: &Value) -> Answer {
    raw(&format!("200 OK\r\n{headers}"), &body.to_string())
}

fn raw(status_and_headers: &str, body: &str) -> Answer {
    let head = status_and_headers.trim_end();
    let length = body.len();
    Answer::Raw(format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\n\r\n{body}").into())
}

fn parse(bytes: &[u8]) -> Result<String, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let keys = value["keys"].as_str().ok_or("has no keys")?;
    assert_ne!(keys, "fault", "a fault");
    Ok(keys.to_owned())
}

fn source(provider: &Provider, location: Location) -> Arc<Source<String>> {
    let config = Config {
        issuer: ISSUER.into(),
        location,
        network: provider.network(),
        ask_pause: KEYS_ASK_PAUSE,
    };
    Arc::new(Source::new(config, parse))
}

/// Of the provider's keys, with its task.
fn followed(provider: &Provider) -> (Arc<Source<String>>, Following) {
    let source = source(provider, Location::Keys(Url::new(KEYS).unwrap()));
    let following = follow(&source);
    (source, following)
}

/// A task that ends with the test.
struct Following(JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn follow(source: &Arc<Source<String>>) -> Following {
    let source = source.clone();
    Following(tokio::spawn(keep_up(Task::Keys, move || {
        let source = source.clone();
        async move { source.follow(Rng::with_seed(1)).await }
    })))
}

fn fetches(source: &Source<String>, outcome: &str) -> u64 {
    let mut fetches = source.fetches();
    fetches.find(|(label, _)| *label == outcome).unwrap().1
}

fn keys(source: &Source<String>) -> Option<String> {
    source.keys().map(|keys| keys.to_string())
}

async fn fetch_error(answer: Answer) -> FetchError {
    let provider = Provider::default();
    provider.set("/keys", answer);
    let url = Url::new(KEYS).unwrap();
    get(&provider.network(), &url).await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_with_a_plain_request_for_the_host_and_kept() {
    let provider = Provider::default();
    provider.set_keys("a");
    let (source, _following) = followed(&provider);
    assert_eq!(
        (keys(&source), source.is_ready(), source.age()),
        (None, false, None)
    );
    sleep(Duration::from_secs(1)).await;
    assert_eq!(keys(&source), Some("a".into()));
    assert!(source.is_ready());
    assert_eq!((source.name(), source.issuer()), (KEYS.into(), ISSUER));
    assert_eq!((fetches(&source, "ok"), fetches(&source, "http")), (1, 0));
    let head = provider.0.lock().unwrap().heads[0].clone();
    assert!(head.starts_with("GET /keys HTTP/1.1\r\n"), "{head}");
    for line in [
        "host: localhost:3000",
        "connection: close",
        "accept-encoding: identity",
    ] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{head}");
    }
}

#[tokio::test(start_paused = true)]
async fn they_are_fetched_again_as_the_provider_says_within_bounds() {
    for (header, most) in [
        ("", KEYS_REFRESH),
        ("cache-control: max-age=5", KEYS_REFRESH_MIN),
        (
            "cache-control: public, max-age=1200",
            Duration::from_secs(1200),
        ),
        ("cache-control: max-age=90000", KEYS_REFRESH_MAX),
    ] {
        let provider = Provider::default();
        provider.set("/keys", ok(header, &json!({"keys": "a"})));
        let (source, _following) = followed(&provider);
        sleep(most.mul_f64(0.85)).await;
        provider.set_keys("b");
        assert_eq!(provider.requests("/keys").len(), 1, "{header}");
        assert_eq!(keys(&source), Some("a".into()), "{header}");
        sleep(most.mul_f64(0.15)).await;
        assert_eq!(provider.requests("/keys").len(), 2, "{header}");
        assert_eq!(keys(&source), Some("b".into()), "{header}");
        assert!(source.age() < Some(most.mul_f64(0.15)), "{header}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_keys_stay_while_the_provider_is_away_and_it_is_asked_ever_more_rarely() {
    let provider = Provider::default();
    provider.set_keys("a");
    let (source, _following) = followed(&provider);
    sleep(Duration::from_secs(1)).await;
    provider.set_away(true);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(keys(&source), Some("a".into()));
    assert_eq!(source.age().unwrap().as_secs(), 3601);
    let tries = provider.requests("away");
    assert_eq!(fetches(&source, "connect"), tries.len() as u64);
    let pauses: Vec<_> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses[0] <= Duration::from_secs(1), "{pauses:?}");
    let longest = pauses.iter().max().unwrap();
    assert!(
        *longest <= KEYS_RETRY_MAX && *longest > KEYS_RETRY_MAX / 2,
        "{pauses:?}"
    );
    provider.set_away(false);
    provider.set_keys("b");
    sleep(KEYS_RETRY_MAX).await;
    assert_eq!(keys(&source), Some("b".into()));
    assert!(source.age().unwrap() <= KEYS_RETRY_MAX);
}

#[tokio::test(start_paused = true)]
async fn keys_that_can_not_be_read_are_no_keys_and_those_before_stay() {
    let provider = Provider::default();
    provider.set_keys("a");
    let (source, _following) = followed(&provider);
    sleep(Duration::from_secs(1)).await;
    provider.set("/keys", ok("", &json!({"nothing": 1})));
    sleep(KEYS_REFRESH).await;
    assert!(fetches(&source, "content") > 0);
    assert_eq!(keys(&source), Some("a".into()));
}

#[tokio::test(start_paused = true)]
async fn a_token_with_an_unknown_key_has_keys_fetched_once_a_minute() {
    let provider = Provider::default();
    provider.set_keys("a");
    let (source, _following) = followed(&provider);
    sleep(Duration::from_secs(1)).await;
    let seen = source.keys().unwrap();
    provider.set_keys("b");
    let before = Instant::now();
    assert_eq!(
        source.newer(&seen).await,
        None,
        "they were fetched a second ago"
    );
    assert_eq!(before.elapsed(), Duration::ZERO);
    sleep(KEYS_ASK_PAUSE).await;
    // All who come while a fetch is under way wait for it.
    provider.set_delay(Duration::from_secs(1));
    let before = Instant::now();
    let asking = (0..KEYS_WAITERS_MAX)
        .map(|_| async { source.newer(&seen).await.map(|keys| keys.to_string()) });
    let answers = futures_util::future::join_all(asking).await;
    assert!(answers.iter().all(|keys| keys.as_deref() == Some("b")));
    assert_eq!(before.elapsed(), Duration::from_secs(1));
    assert_eq!(provider.requests("/keys").len(), 2);
    // Newer ones are there already.
    assert_eq!(source.newer(&seen).await.unwrap().as_str(), "b");
    let seen = source.keys().unwrap();
    assert_eq!(source.newer(&seen).await, None);
    sleep(KEYS_ASK_PAUSE / 2).await;
    assert_eq!(source.newer(&seen).await, None);
    assert_eq!(provider.requests("/keys").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_keys_waits_two_seconds_at_most_and_not_all_may() {
    let provider = Provider::default();
    provider.set_keys("a");
    let (source, _following) = followed(&provider);
    sleep(KEYS_ASK_PAUSE * 2).await;
    let seen = source.keys().unwrap();
    provider.set("/keys", Answer::Silence);
    let before = Instant::now();
    let asking = (0..KEYS_WAITERS_MAX + 1).map(|_| async {
        let keys = source.newer(&seen).await;
        (keys, before.elapsed())
    });
    let answers = futures_util::future::join_all(asking).await;
    assert!(answers.iter().all(|(keys, _)| keys.is_none()));
    let (waited, not): (Vec<_>, Vec<_>) = answers.iter().partition(|(_, time)| *time == KEYS_WAIT);
    assert_eq!((waited.len(), not.len()), (KEYS_WAITERS_MAX, 1));
    assert_eq!(not[0].1, Duration::ZERO);
    assert_eq!(provider.requests("/keys").len(), 2);
    // A fetch that fails is not waited for any longer.
    sleep(KEYS_FETCH_TIMEOUT + KEYS_ASK_PAUSE).await;
    provider.set("/keys", raw("500 No", ""));
    let before = Instant::now();
    assert_eq!(source.newer(&seen).await, None);
    assert!(before.elapsed() < KEYS_WAIT);
    // Where nobody fetches, nobody waits for ever.
    drop(_following);
    sleep(KEYS_ASK_PAUSE).await;
    let asked = timeout(KEYS_WAIT * 2, source.newer(&seen)).await;
    assert_eq!(asked, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn a_fault_in_the_task_does_not_end_it() {
    let provider = Provider::default();
    provider.set_keys("a");
    let (source, _following) = followed(&provider);
    sleep(Duration::from_secs(1)).await;
    let before = presenced_tasks::panics(Task::Keys);
    provider.set_keys("fault");
    sleep(KEYS_REFRESH).await;
    assert!(presenced_tasks::panics(Task::Keys) > before);
    assert_eq!(keys(&source), Some("a".into()));
    provider.set_keys("b");
    sleep(KEYS_RETRY_MAX).await;
    assert_eq!(keys(&source), Some("b".into()));
    let seen = source.keys().unwrap();
    assert_eq!(timeout(Duration::ZERO, source.newer(&seen)).await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn an_issuer_is_asked_where_its_keys_are_each_time() {
    const DOCUMENT: &str = "/.well-known/openid-configuration";
    let provider = Provider::default();
    provider.set_keys("a");
    provider.set(
        DOCUMENT,
        ok("", &json!({"issuer": ISSUER, "jwks_uri": KEYS})),
    );
    let source = source(&provider, Location::Issuer(Issuer::new(ISSUER).unwrap()));
    let _following = follow(&source);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(keys(&source), Some("a".into()));
    assert_eq!(source.name(), ISSUER);
    provider.set("/new", ok("", &json!({"keys": "b"})));
    let moved = json!({"issuer": ISSUER, "jwks_uri": "http://localhost:3000/new"});
    provider.set(DOCUMENT, ok("", &moved));
    sleep(KEYS_REFRESH).await;
    assert_eq!(keys(&source), Some("b".into()));
    let other = json!({"issuer": "http://localhost:3000/", "jwks_uri": KEYS});
    provider.set(DOCUMENT, ok("", &other));
    sleep(KEYS_REFRESH).await;
    assert_eq!(keys(&source), Some("b".into()));
    assert!(fetches(&source, "content") > 0);
}

#[tokio::test(start_paused = true)]
async fn each_fault_of_an_answer_is_said_in_plain_words() {
    let long = "a".repeat(KEYS_BODY_BYTES_MAX + 1);
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
        long.len()
    );
    let many = format!("200 OK\r\n{}", "x: y\r\n".repeat(1000));
    let big = format!("200 OK\r\nx: {long}");
    for (answer, label, words) in [
        (Answer::Refusal, "http", "no whole answer: "),
        (
            Answer::Raw("SSH-2.0-OpenSSH\r\n".into()),
            "http",
            "no whole answer: ",
        ),
        (
            Answer::Raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".into()),
            "http",
            "no whole answer: ",
        ),
        (raw(&many, "{}"), "http", "no whole answer: "),
        (raw(&big, "{}"), "http", "no whole answer: "),
        (
            raw("404 Not Found", "{}"),
            "status",
            "answers 404 Not Found",
        ),
        (
            raw("503 No", "{}"),
            "status",
            "answers 503 Service Unavailable",
        ),
        (
            raw("204 No Content", ""),
            "status",
            "answers 204 No Content",
        ),
        (
            raw("302 Found\r\nlocation: https://id.example/new", ""),
            "redirect",
            "answers 302 Found, a redirect, which is not followed (it leads to https://id.example/new)",
        ),
        (
            raw("308 Moved", ""),
            "redirect",
            "answers 308 Permanent Redirect, a redirect, which is not followed",
        ),
        (
            raw("200 OK", &long),
            "too_large",
            "its answer has more than 1048576 bytes",
        ),
        (
            Answer::Raw(chunked.into()),
            "too_large",
            "its answer has more than 1048576 bytes",
        ),
    ] {
        let error = fetch_error(answer).await;
        assert_eq!(error.fault.label(), label, "{error}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("{KEYS}: {words}")), "{text}");
        assert!(text.len() < 300, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_json_is_said_to_be_what_it_is() {
    let provider = Provider::default();
    let url = Url::new(KEYS).unwrap();
    for (answer, words) in [
        (
            raw("200 OK\r\ncontent-type: text/html", "<html>"),
            "its answer is not JSON but text/html",
        ),
        (raw("200 OK", "<html>"), "its answer is not JSON"),
        (raw("200 OK", ""), "its answer is not JSON"),
        (raw("200 OK", "{}{}"), "its answer is not JSON"),
        (raw("200 OK", "{}"), "has no keys"),
    ] {
        provider.set("/keys", answer);
        let fetched = get(&provider.network(), &url).await.unwrap();
        assert_eq!(fetched.parsed(parse).unwrap_err().to_string(), words);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_has_ten_seconds_however_it_comes() {
    for answer in [
        Answer::Silence,
        Answer::Slowly("HTTP/1.1 200 OK\r\nx:"),
        Answer::Slowly("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"),
    ] {
        let before = Instant::now();
        let error = fetch_error(answer).await;
        assert_eq!(
            error.to_string(),
            format!("{KEYS}: no whole answer within 10 s")
        );
        assert_eq!(before.elapsed(), KEYS_FETCH_TIMEOUT);
    }
    // So has a name server.
    let dialler = Dialler::new(|_, _| Box::pin(std::future::pending()));
    let network = Network { dialler, tls: None };
    let url = Url::new(KEYS).unwrap();
    let error = get(&network, &url).await.unwrap_err();
    assert_eq!(error.fault.label(), "timeout");
}
