//! `/healthz`, `/readyz`, `/metrics` and `/v1/revocations`, on a listener of their own: they are for
//! operators, and answer while the edge is full or drains.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use presenced_net::Accepting;
use presenced_tasks::{Task, catch};
use tokio::net::TcpListener;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::answers::{TEXT, not_allowed, text};
use super::exposition::Exposition;
use super::prometheus::Metrics;
use crate::gateway::health::Health;
use crate::gateway::places::{Room, Standing};
use crate::gateway::request::has_legal_host;
use crate::gateway::shared_places::{HttpPlaces, Place};
use crate::gateway::user_names::UserNames;
use crate::limits::{ADMIN_CONNECTIONS_MAX, HANDSHAKE_TIMEOUT, HEAD_BYTES_MAX};
use crate::revocation::revoker::Revoker;

/// What the admin listener shows and does.
#[derive(Debug)]
pub struct Admin {
    /// Who may do more than look.
    pub access: Access,
    /// For `/v1/revocations`.
    pub revoker: Revoker,
    /// Names users in the log of what was done.
    pub user_names: UserNames,
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/readyz`.
    pub health: Health,
}

/// Serves `listener` until `stop`.
pub async fn serve(listener: Arc<TcpListener>, admin: Arc<Admin>, stop: CancellationToken) {
    let places = HttpPlaces::new("admin", ROOM);
    let mut connections = JoinSet::new();
    let mut accepting = Accepting::new("admin");
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = connections.join_next() => {}
            (stream, peer) = accepting.next(|| listener.accept()) => {
                let place = enter(&places, peer.ip()).await;
                let admin = admin.clone();
                connections.spawn(catch(Task::Admin, async move {
                    let answer = service_fn(async |request: Request<Incoming>| {
                        let answer = admin.answer(request, peer.ip(), &place).await;
                        place.stands(Standing::Awaited);
                        Ok::<_, Infallible>(answer)
                    });
                    let served = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(HANDSHAKE_TIMEOUT)
                        .max_buf_size(HEAD_BYTES_MAX)
                        .keep_alive(false)
                        .serve_connection(TokioIo::new(stream), answer);
                    tokio::select! {
                        biased;
                        // A scraper that goes away is no matter.
                        _ = served => {}
                        () = place.evicted() => {}
                    }
                }));
            }
        }
    }
}

/// Requests are short, and answers are taken at once: whoever has been waited for longest is too slow,
/// and makes room. Only those who have just come stay: their request may be there by now, and unread.
const ROOM: Room = Room {
    max: ADMIN_CONNECTIONS_MAX,
    per_peer_max: ADMIN_CONNECTIONS_MAX,
    leaving_max: ADMIN_CONNECTIONS_MAX,
    idle_min: STAY_MIN,
    awaited_min: STAY_MIN,
    silent_may_evict: true,
};

/// How long a connection has its place, whoever comes.
const STAY_MIN: Duration = Duration::from_millis(10);

/// Time between two looks whether there is a place.
const PLACE_LOOK: Duration = Duration::from_millis(1);

/// A place for a connection from `address`.
async fn enter(places: &Arc<HttpPlaces>, address: IpAddr) -> Place {
    loop {
        match places.enter(address, Standing::Idle) {
            Ok(place) => return place,
            // All have just come, are being answered, or leave: that takes milliseconds.
            Err(_) => sleep(PLACE_LOOK).await,
        }
    }
}

impl Admin {
    async fn answer(
        &self,
        request: Request<Incoming>,
        from: IpAddr,
        place: &Place,
    ) -> Response<Full<Bytes>> {
        if !has_legal_host(&request) {
            let why = "exactly one Host header is needed: a host and, if need be, a port\n";
            return text(StatusCode::BAD_REQUEST, TEXT, why.into());
        }
        let path = request.uri().path();
        let told = self.health.told(path);
        if told.is_none() && path != METRICS {
            return self.act(request, from, place).await;
        }
        place.stands(Standing::Served);
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return not_allowed("GET, HEAD");
        }
        match told {
            Some((status, told)) => {
                // Only constants get here.
                let status = status.try_into().unwrap_or_default();
                text(status, TEXT, told.into())
            }
            None => self.metrics(Exposition::wanted(request.headers())).await,
        }
    }

    /// What not everybody may ask for who reaches the listener.
    async fn act(
        &self,
        request: Request<Incoming>,
        from: IpAddr,
        place: &Place,
    ) -> Response<Full<Bytes>> {
        if let Err(denied) = self.access.check(request.method(), request.headers(), from) {
            return denied.answer();
        }
        match (request.uri().path(), request.method()) {
            (REVOCATIONS, &Method::POST) => self.revoke(request, from, place).await,
            (REVOCATIONS, _) => not_allowed("POST"),
            _ => text(
                StatusCode::NOT_FOUND,
                TEXT,
                "/healthz /readyz /metrics /v1/revocations\n".into(),
            ),
        }
    }

    async fn metrics(&self, form: Exposition) -> Response<Full<Bytes>> {
        let metrics = self.metrics.clone();
        // On a thread of its own: this one looks after memcached's nodes, too.
        match spawn_blocking(move || metrics.text(form)).await {
            Ok(Ok(metrics)) => text(StatusCode::OK, form.content_type(), metrics),
            _ => {
                let why = "metrics can't be told\n".into();
                text(StatusCode::INTERNAL_SERVER_ERROR, TEXT, why)
            }
        }
    }
}

/// Paths that are not for probes.
const METRICS: &str = "/metrics";
/// See [`METRICS`].
const REVOCATIONS: &str = "/v1/revocations";
