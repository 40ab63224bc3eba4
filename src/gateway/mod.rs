//! The way in: listeners, HTTP, the WebSocket handshake, and who may pass.
//!
//! - [`listener`]: accepts, and gives each connection a place or turns it away.
//! - [`places`]: which connections may be there; [`shared_places`]: the same for all workers;
//!   `lobby`: which wait for a place; `turned_away`: which get none.
//! - `connection`: serves HTTP with hyper, hands upgraded connections to the worker; `exchange`:
//!   what its driver and hyper's service share; [`progress`]: its deadlines.
//! - [`rates`]: how many handshakes there may be; [`handshake_rates`]: the same for all workers.
//! - `socket`: a connection that the runtime watches only when it must wait.
//! - [`routes`]: which path does what.
//! - [`handshake`]: who may become a session.
//! - [`socketio`]: who may become a session of Socket.IO; [`client_dialect`]: what the frames of both mean.
//! - [`http_pull`]: pulls as HTTP requests carry them; `query`: their query strings.
//! - `token`: where a client shows its token.
//! - [`first_message`]: what a client sends first that had no token in its handshake; `token_awaited`: waits
//!   for it.
//! - [`origin`]: which web pages may connect.
//! - `cors`: what lets them read the answers.
//! - [`user_names`]: how the log names users.
//! - [`arrival`]: who arrives at a worker; [`caller`]: who is calling; [`proxies`]: which proxies may say so, in a [`proxy_header`]
//!   before a connection's first request (`introduction`), or [`forwarded`] with each.
//! - [`refusal`]: why a request is refused, and what follows.
//! - [`refused_session`]: handshakes that are accepted only to be closed with the reason.
//! - [`request`]: what every request must be.
//! - [`response`]: HTTP answers.
//! - [`live`]: what requests go by that may change while the server runs.
//! - [`health`]: whether the server may be sent clients.
//! - `parting`: the last bytes on a connection that is given up.
//! - [`tls`]: how connections are encrypted, where no proxy does that; `tls_handshake`: how that begins; `sealed`: how it
//!   goes on.
//! - [`metrics`]: what is counted; [`once_a_minute`]: how often refusals are warned of.
//! - [`dev`]: the page and the tokens of dev mode.
//! - `client_files`: the browser client, for any page.
//! - [`look_up`]: the command that shows what memcached holds of a user.

pub mod arrival;
pub mod caller;
pub mod client_dialect;
mod client_files;
mod connection;
mod cors;
pub mod dev;
mod exchange;
pub mod first_message;
pub mod forwarded;
pub mod handshake;
pub mod handshake_rates;
pub mod health;
mod held_poll;
mod held_polls;
mod held_waiter;
pub mod http_pull;
mod introduction;
pub mod listener;
pub mod live;
mod lobby;
pub mod look_up;
pub mod metrics;
pub mod once_a_minute;
pub mod origin;
mod parting;
pub mod pipe;
pub mod places;
mod probe;
pub mod progress;
pub mod proxies;
pub mod proxy_header;
mod query;
pub mod rates;
pub mod refusal;
pub mod refused_session;
pub mod request;
pub mod response;
pub mod routes;
mod sealed;
pub mod shared_places;
mod socket;
pub mod socketio;
pub mod tls;
mod tls_handshake;
pub(crate) mod token;
mod token_awaited;
mod turned_away;
pub mod user_names;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use presenced_session::Seats;
use presenced_session::clock::Clock;
use presenced_tls::certificates::Certificates;
use presenced_tls::rustls;
use thiserror::Error;
use tracing::field::display;

use self::caller::Caller;
pub(crate) use self::connection::ClientSession;
use self::dev::Shown;
use self::handshake_rates::HandshakeRates;
use self::health::{Departure, Health};
use self::live::{Dev, Live};
use self::metrics::GatewayMetrics;
use self::once_a_minute::OnceAMinute;
use self::origin::Origins;
use self::places::Room;
use self::proxies::Proxies;
use self::rates::Rates;
use self::refusal::{Refusal, RequestFault};
use self::refused_session::{RefuseWith, RefusedSessions};
use self::shared_places::HttpPlaces;
use self::socketio::SocketIo;
use self::tls::Tls;
use self::user_names::{LogUsers, UserNames};
use crate::swap::Swap;
use crate::tokens::{self, Auth, Identity, Purpose, Secret};

/// What an operator may set of the gateway.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect; at least one.
    pub listen: Vec<SocketAddr>,
    /// What clients are shown; `None` if they come without TLS, or by way of a proxy that speaks it.
    pub tls: Option<Arc<Certificates>>,
    /// Whose tokens are accepted, and what they must be; without any key, there is a random one, and
    /// the demo page.
    pub tokens: tokens::Config,
    /// The first of the tokens' secrets: it keys what the log has of users.
    pub secret: Option<Secret>,
    /// Whether `?token=` is looked at.
    pub allow_query_token: bool,
    /// Web pages that may connect.
    pub origins: Origins,
    /// The proxies before the server.
    pub proxies: Proxies,
    /// Longest head of a request.
    pub head_bytes_max: usize,
    /// Whether clients' addresses have `/healthz` and `/readyz`.
    pub serve_health: bool,
    /// How handshakes are refused.
    pub refuse_with: RefuseWith,
    /// What the log has of users.
    pub log_users: LogUsers,
    /// How many HTTP connections, handshakes among them, there may be at once.
    pub capacity: Capacity,
    /// How long an HTTP connection is kept without a request.
    pub keep_alive: Duration,
    /// How many handshakes there may be in a time.
    pub rates: Rates,
    /// Socket.IO; `None` if it is off.
    pub socketio: Option<socketio::Config>,
}

/// How many HTTP connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Places, of all workers together.
    pub room: Room,
    /// Connections of one listener that may wait for a place.
    pub lobby_max: usize,
    /// Connections of one listener that are told that there is no place.
    pub turned_away_max: usize,
    /// Refused handshakes of all workers whose clients are told so by a close frame, at once.
    pub refused_sessions_max: usize,
}

/// What all listeners share.
#[derive(Debug)]
pub struct Gateway {
    /// What may change.
    pub live: Swap<Live>,
    /// If clients speak TLS with this server.
    pub tls: Option<Tls>,
    /// If there was no key at the start.
    pub dev: Option<Dev>,
    /// Before the server stops.
    pub departure: Departure,
    /// For `/healthz` and `/readyz`, where [`Live::serve_health`] says that they are here.
    pub health: Option<Health>,
    /// Sessions that there may be; closed when the server stops.
    pub seats: Arc<Seats>,
    /// How many refused handshakes there may be whose clients are told so by a close frame.
    pub refused_sessions: RefusedSessions,
    /// The proxies before the server.
    pub proxies: Proxies,
    /// Names users for the log.
    pub user_names: UserNames,
    /// The places of HTTP connections, handshakes among them.
    pub places: Arc<HttpPlaces>,
    /// How many there are, and may be beside them.
    pub capacity: Capacity,
    /// How many handshakes there may be in a time.
    pub rates: HandshakeRates,
    /// The same for those of TLS, which come before: counted apart, as a connection may begin with both.
    pub tls_rates: HandshakeRates,
    /// Socket.IO, if it is on.
    pub socketio: Option<Arc<SocketIo>>,
    /// Time.
    pub clock: Clock,
    /// What is counted here.
    pub metrics: Arc<GatewayMetrics>,
    /// When it was last logged that there are as many sessions as there may be.
    pub full_logged: OnceAMinute,
    /// When it was last logged that a trusted proxy's connection has no header.
    pub proxy_header_logged: OnceAMinute,
}

/// Why there is no gateway.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// No random numbers for a key.
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    /// No keys for tickets.
    #[error("TLS can't be spoken: {0}")]
    Tls(#[from] rustls::Error),
}

impl Gateway {
    /// As `config` says. Without a key, tokens are signed with a random secret, which the demo page
    /// has; `shown` is what the page shows of the edge. `health` is for those
    /// who ask here, if they may.
    ///
    /// # Errors
    ///
    /// The system has no random numbers, or TLS can't be spoken.
    pub fn new(
        config: &Config,
        seats: &Arc<Seats>,
        clock: Clock,
        shown: Option<Shown>,
        health: &Health,
    ) -> Result<Gateway, GatewayError> {
        let mut random = [0; 32];
        getrandom::fill(&mut random)?;
        let secret = config.secret.as_ref().map_or(&random[..], Secret::as_bytes);
        let dev = (!config.tokens.has_key()).then_some(Dev {
            secret: random,
            shown: shown.map(Arc::new),
        });
        Ok(Gateway {
            live: Swap::new(Live::new(config, dev.as_ref(), health.revocations.clone())),
            tls: config.tls.clone().map(Tls::new).transpose()?,
            departure: health.departure.clone(),
            health: Some(health.clone()),
            seats: seats.clone(),
            refused_sessions: RefusedSessions::new(config.capacity.refused_sessions_max),
            user_names: UserNames::new(config.log_users, secret),
            dev,
            places: HttpPlaces::new("gateway", config.capacity.room),
            capacity: config.capacity,
            proxies: config.proxies.clone(),
            rates: HandshakeRates::new(config.rates, clock),
            tls_rates: HandshakeRates::new(config.rates, clock),
            socketio: config
                .socketio
                .clone()
                .map(|config| SocketIo::new(config).map(Arc::new))
                .transpose()?,
            clock,
            metrics: Arc::default(),
            full_logged: OnceAMinute::default(),
            proxy_header_logged: OnceAMinute::default(),
        })
    }

    /// Whom a token names, if it is good for `purpose` by `auth`, that of [`Gateway::live`]. It may take two seconds, in which newer keys
    /// are awaited.
    ///
    /// # Errors
    ///
    /// Why the token is refused. It is logged at debug, with the user if the signature is good;
    /// nothing of the token itself is.
    pub async fn identify(
        &self,
        auth: &Auth,
        token: &str,
        purpose: Purpose,
        caller: Option<Caller>,
    ) -> Result<Identity, Refusal> {
        let verified = auth.verify_with_newer_keys(token, purpose).await;
        verified.map_err(Refusal::from).inspect_err(|refusal| {
            if tracing::enabled!(tracing::Level::DEBUG) {
                let user = auth.signed_user(token);
                let user = user.as_ref().map(|user| self.user_names.name(user));
                log_refusal(*refusal, caller, user.as_deref());
            }
        })
    }

    /// Counts a refusal, and logs it at debug, unless [`Gateway::identify`] has. What an operator
    /// must act on is a warning now and again.
    pub fn refused(&self, refusal: Refusal, caller: Option<Caller>) {
        self.metrics.refused(refusal);
        if !refusal.is_of_token() {
            log_refusal(refusal, caller, None);
        }
        if refusal == Refusal::Full && self.full_logged.is_due() {
            let (sessions, max) = (self.seats.taken(), self.seats.max());
            tracing::warn!(
                sessions,
                max,
                "sessions are refused: --max-sessions is reached"
            );
        }
        if refusal == Refusal::BadRequest(RequestFault::ProxyHeader)
            && self.proxy_header_logged.is_due()
        {
            let address = caller.map(|caller| display(caller.0));
            tracing::warn!(
                address,
                "connections of a trusted proxy are refused: with --proxy-protocol each begins with a header"
            );
        }
    }

    /// When a token that is `valid_for` so long from now on is over, by the wall clock as
    /// [`Clock::wall`] shows it: it says so itself in Unix time.
    pub fn expires_at(&self, valid_for: Duration) -> Duration {
        let valid_for_ms = u64::try_from(valid_for.as_millis()).unwrap_or(u64::MAX);
        self.clock
            .wall_at(self.clock.unix_ms().saturating_add(valid_for_ms))
    }

    /// Whether the server stops: no new sessions.
    pub fn is_draining(&self) -> bool {
        self.seats.is_closed()
    }
}

/// One line for each refusal. The log escapes what the user's id may have.
fn log_refusal(refusal: Refusal, caller: Option<Caller>, user: Option<&str>) {
    let (facts, address) = (refusal.facts(), caller.map(|caller| display(caller.0)));
    let (code, reason) = (facts.code, facts.reason);
    tracing::debug!(code, reason, user, address, "refused");
}
