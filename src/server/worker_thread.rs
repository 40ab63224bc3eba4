//! What runs on each core: one worker's sessions, and the tasks that serve them.

use std::net::TcpListener;
use std::sync::Arc;
use std::{io, thread};

use presenced_presence::flush::{Flusher, Presence};
use presenced_presence::metrics::FlushMetrics;
use presenced_session::Seats;
use presenced_session::clock::Clock;
use presenced_session::limits::WORKER_QUEUE;
use presenced_session::metrics::WorkerMetrics;
use presenced_session::worker::{Worker, WorkerCommand, WorkerConfig};
use presenced_tasks::limits::RESTART_PAUSE_MAX;
use presenced_tasks::{Task, keep_up};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::embedded::Part;
use super::presence_service::PresenceService;
use super::{Config, ServerError};
use crate::gateway::ClientSession;
use crate::gateway::health::Health;
use crate::gateway::{Gateway, listener};
use crate::limits::EVENT_INTERVAL;
use crate::pull::Puller;
use crate::pull::Pulls;
use crate::revocation::sessions::RevokedSessions;

/// What all workers have in common.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) presence: Arc<Presence>,
    pub(super) gateway: Arc<Gateway>,
    pub(super) health: Health,
    /// By worker.
    pub(super) workers: Vec<Arc<WorkerMetrics>>,
    pub(super) flush: Arc<FlushMetrics>,
    pub(super) pull: Arc<Pulls>,
    pub(super) seats: Arc<Seats>,
    pub(super) clock: Clock,
    pub(super) revoked: Arc<RevokedSessions>,
    pub(super) stop: CancellationToken,
}

/// How the server speaks to a worker.
#[derive(Debug)]
pub(super) struct WorkerHandle {
    pub(super) commands: mpsc::Sender<WorkerCommand>,
    pub(super) flusher: Flusher,
}

/// Each sends when its worker has ended.
pub(super) type Ended = Vec<oneshot::Receiver<io::Result<()>>>;

/// What workers are told, and where each hears it.
pub(super) type Orders = (
    Vec<mpsc::Sender<WorkerCommand>>,
    Vec<mpsc::Receiver<WorkerCommand>>,
);

/// For so many workers.
pub(super) fn orders(workers: usize) -> Orders {
    (0..workers).map(|_| mpsc::channel(WORKER_QUEUE)).unzip()
}

/// Starts the workers' threads and waits until each has started.
pub(super) async fn start_workers(
    config: &Config,
    shared: &Shared,
    listeners: Vec<(Vec<TcpListener>, Option<Part>)>,
    (peers, commands): Orders,
) -> Result<(Vec<WorkerHandle>, Ended), ServerError> {
    let (mut workers, mut ends) = (Vec::new(), Vec::new());
    for (number, ((listeners, store), commands)) in listeners.into_iter().zip(commands).enumerate()
    {
        let (started, flusher) = oneshot::channel();
        let (ending, ended) = oneshot::channel();
        let thread = WorkerThread {
            number,
            workers: config.workers,
            session: config.session,
            refill_rate: config.presence.refill_rate,
            peers: peers.clone(),
            shared: shared.clone(),
            listeners,
            commands,
            started,
            ended: ending,
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .event_interval(EVENT_INTERVAL)
            .build()?;
        thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || thread.run(&runtime, store))?;
        workers.push(WorkerHandle {
            commands: peers[number].clone(),
            flusher: flusher.await.map_err(|_| ServerError::Worker)?,
        });
        ends.push(ended);
    }
    Ok((workers, ends))
}

/// What a worker's thread is given.
struct WorkerThread {
    number: usize,
    /// How many there are.
    workers: usize,
    session: presenced_session::Config,
    /// Of all workers together.
    refill_rate: u32,
    peers: Vec<mpsc::Sender<WorkerCommand>>,
    shared: Shared,
    listeners: Vec<TcpListener>,
    commands: mpsc::Receiver<WorkerCommand>,
    started: oneshot::Sender<Flusher>,
    ended: oneshot::Sender<io::Result<()>>,
}

impl WorkerThread {
    fn run(self, runtime: &Runtime, store: Option<Part>) {
        // Other workers may write to it for longer than this one has sessions.
        let store = store.map(|part| runtime.spawn(part.serve(self.shared.stop.clone())));
        runtime.block_on(self.work());
        store.map(|serving| runtime.block_on(serving));
    }

    async fn work(self) {
        let shared = &self.shared;
        let presence = &shared.presence;
        // None of these ends by itself, nor by a panic; one that does takes the worker with it,
        // loudly.
        let mut tasks = JoinSet::new();
        let flusher = Flusher::start(presence, self.number, self.workers, &mut tasks);
        let puller = Puller::start(presence, &shared.pull, &mut tasks);
        let service = PresenceService::new(presence.clone(), flusher.clone(), puller.clone())
            .behind(&shared.gateway)
            .speaking_socketio(&shared.gateway, self.session, self.number as u16)
            .heeding(shared.health.revocations.clone(), shared.revoked.clone());
        let worker = match Worker::with_relays(service, self.config()) {
            Ok(worker) => worker,
            Err(error) => {
                let _ = self.ended.send(Err(error));
                return;
            }
        };
        let (sessions, incoming) = mpsc::channel(WORKER_QUEUE);
        let stop = shared.stop.clone();
        listen(self.listeners, shared, &puller, &sessions, &mut tasks);
        // The listeners have clones: with the last of them it is known here that no session comes.
        drop((puller, sessions));
        tasks.spawn(flusher.clone().run());
        let refill_rate = self.refill_rate / self.workers as u32;
        tasks.spawn(flusher.clone().refill(refill_rate.max(1)));
        // Nobody waits for it when the start of another worker failed.
        let _ = self.started.send(flusher);
        let ran = tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            ran = worker.run(incoming, self.commands) => ran,
            task = tasks.join_next() => {
                tracing::error!(?task, "a task of the worker ended");
                Err(io::Error::other("a task of the worker ended"))
            }
        };
        let is_drained = ran.is_ok();
        // Nobody waits for it when the server was dropped.
        let _ = self.ended.send(ran);
        if is_drained {
            // Until then its shards are flushed: users of them may have sessions on other workers.
            stop.cancelled().await;
        }
    }

    fn config(&self) -> WorkerConfig {
        WorkerConfig {
            // At most 64 workers.
            number: self.number as u16,
            peers: self.peers.clone(),
            clock: self.shared.clock,
            metrics: self.shared.workers[self.number].clone(),
            seats: self.shared.seats.clone(),
            config: self.session,
            ..WorkerConfig::alone()
        }
    }
}

/// Takes connections on each of a worker's listeners; sessions go to `sessions`.
fn listen(
    listeners: Vec<TcpListener>,
    shared: &Shared,
    puller: &Puller,
    sessions: &mpsc::Sender<ClientSession>,
    tasks: &mut JoinSet<()>,
) {
    for listener in listeners {
        let listener = Arc::new(listener);
        let (gateway, stop) = (shared.gateway.clone(), shared.stop.clone());
        let (puller, sessions) = (puller.clone(), sessions.clone());
        tasks.spawn(keep_up(Task::Listener, move || {
            let (puller, sessions) = (puller.clone(), sessions.clone());
            serve(
                listener.clone(),
                gateway.clone(),
                puller,
                sessions,
                stop.clone(),
            )
        }));
    }
}

/// Serves clients until `stop`, again after a pause where the system has no descriptor for it.
async fn serve(
    listener: Arc<TcpListener>,
    gateway: Arc<Gateway>,
    puller: Puller,
    sessions: mpsc::Sender<ClientSession>,
    stop: CancellationToken,
) {
    let serve = async |listener| {
        let (gateway, puller) = (gateway.clone(), puller.clone());
        listener::serve(listener, gateway, puller, sessions.clone(), stop.clone()).await
    };
    loop {
        let served = match listener.try_clone() {
            Ok(listener) => serve(listener).await,
            Err(error) => Err(error),
        };
        let Err(error) = served else { return };
        tracing::error!(%error, "cannot listen; trying again");
        sleep(RESTART_PAUSE_MAX).await;
    }
}
