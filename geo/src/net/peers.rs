//! Keeps one connection with every peer, whoever calls.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use crdt::Region;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, Incoming};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::driver::{Ended, Session, Side};
use super::endpoint::{self, HANDSHAKES_MAX, OpenError};
use super::reconnect::{Backoff, resolve};
use super::stats::{Counters, Counts, Quiet, count};
use super::tls::{Identity, TlsError};
use super::{Config, Limits, PeerConfig, Tuning};

/// An attempt to connect, from either side.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// For the last packets to leave.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// The running driver. Dropping it ends all connections without a goodbye.
#[derive(Debug)]
pub struct Net {
    endpoint: Endpoint,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    tuning: Tuning,
    limits: Limits,
    tasks: Mutex<JoinSet<()>>,
}

/// What a [`Net`] counts, peers and strangers together.
#[derive(Clone, Debug)]
pub struct Figures(Arc<Shared>);

impl Figures {
    /// The figures so far.
    pub fn total(&self) -> Counts {
        let peers = self.0.peers.read();
        let peers = peers.unwrap_or_else(PoisonError::into_inner);
        let peers = peers.values().map(|peer| peer.counters.get());
        peers.fold(self.0.strangers.get(), Counts::plus)
    }
}

/// How the connection with a peer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerStats {
    /// What has been counted with it.
    pub counts: Counts,
    /// The connection there is, if any.
    pub path: Option<Path>,
}

/// How a connection fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Where the peer is.
    pub remote: SocketAddr,
    /// Round trip.
    pub rtt: Duration,
    /// Bytes that may be under way.
    pub window_bytes: u64,
    /// Packets sent on this connection.
    pub packets_sent: u64,
    /// Of these, lost.
    pub packets_lost: u64,
    /// Bytes of packets sent.
    pub bytes_sent: u64,
    /// Bytes of packets received.
    pub bytes_received: u64,
}

#[derive(Debug)]
struct Shared {
    own: Region,
    identity: Identity,
    peers: RwLock<BTreeMap<Region, Arc<Link>>>,
    /// Of callers that we do not know.
    strangers: Counters,
    quiet: Mutex<Quiet>,
    handshakes: Semaphore,
}

/// What is known of one peer.
#[derive(Debug)]
struct Link {
    region: Region,
    counters: Counters,
    quiet: Mutex<Quiet>,
    /// Whether the last connection was refused, by us or the peer.
    was_refused: AtomicBool,
    /// The connection there is.
    current: Mutex<Option<Connection>>,
    /// The newest connection that it has made to us, until it is served.
    newest: Mutex<Option<Connection>>,
    /// There is one.
    arrived: Notify,
    /// It has started, and wants to be called.
    knocked: Notify,
}

impl Net {
    /// Listens, and starts to call the peers of higher regions. Must be called within a tokio
    /// runtime; everything then runs there.
    pub fn start(config: Config, peers: Vec<PeerConfig>) -> Result<Self, OpenError> {
        let identity = Identity::new(&config.credentials, config.directory, config.own)?;
        let endpoint = endpoint::open(
            config.listen,
            config.interface.as_deref(),
            &identity,
            config.tuning,
        )?;
        let limits = Limits {
            streams: config.tuning.streams(),
            pause: config.pause,
            compression: config.compression,
            message_bytes_max: config.message_bytes_max,
            frame_bytes_max: config.frame_bytes_max,
        };
        let shared = Arc::new(Shared {
            own: config.own,
            identity,
            peers: RwLock::default(),
            strangers: Counters::default(),
            quiet: Mutex::default(),
            handshakes: Semaphore::new(HANDSHAKES_MAX),
        });
        let (stop, _) = watch::channel(false);
        let net = Self {
            endpoint,
            shared,
            stop,
            tuning: config.tuning,
            limits,
            tasks: Mutex::default(),
        };
        for peer in peers {
            net.link(peer)?;
        }
        let accepting = accept(
            net.endpoint.clone(),
            Arc::clone(&net.shared),
            net.stop.subscribe(),
        );
        lock(&net.tasks).spawn(accepting);
        Ok(net)
    }

    /// Takes a peer that was not known at the start, by the name that its certificate shows. One
    /// that is known already stays as it is.
    pub fn add(&self, name: &str, peer: PeerConfig) -> Result<(), TlsError> {
        self.shared.identity.name(peer.region, name);
        self.link(peer)
    }

    fn link(&self, peer: PeerConfig) -> Result<(), TlsError> {
        let client = endpoint::client(&self.shared.identity, self.tuning, peer.region)?;
        let link = Arc::new(Link::new(peer.region));
        {
            let peers = self.shared.peers.write();
            let mut peers = peers.unwrap_or_else(PoisonError::into_inner);
            if peers.contains_key(&peer.region) {
                return Ok(());
            }
            peers.insert(peer.region, Arc::clone(&link));
        }
        let session = Session {
            handler: peer.handler,
            waker: peer.waker,
            limits: self.limits,
        };
        let caller = Caller {
            endpoint: self.endpoint.clone(),
            client,
            address: peer.address,
        };
        let mut tasks = lock(&self.tasks);
        if self.shared.own < peer.region {
            tasks.spawn(call(link, session, caller, self.stop.subscribe()));
        } else {
            tasks.spawn(knock(caller, self.stop.subscribe()));
            tasks.spawn(answer(link, session, self.stop.subscribe()));
        }
        Ok(())
    }

    /// Where it listens: the port, if the configuration left it to the system.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// What is counted, to be read while it runs.
    pub fn figures(&self) -> Figures {
        Figures(Arc::clone(&self.shared))
    }

    /// What was counted about callers that turned out to be no peers.
    pub fn strangers(&self) -> Counts {
        self.shared.strangers.get()
    }

    /// How the connection with `peer` is; `None` if it is none of ours.
    pub fn peer(&self, peer: Region) -> Option<PeerStats> {
        let link = self.shared.peer(peer)?;
        let connection = lock(&link.current).clone();
        let path = connection.map(|connection| {
            let stats = connection.stats();
            Path {
                remote: connection.remote_address(),
                rtt: stats.path.rtt,
                window_bytes: stats.path.cwnd,
                packets_sent: stats.path.sent_packets,
                packets_lost: stats.path.lost_packets,
                bytes_sent: stats.udp_tx.bytes,
                bytes_received: stats.udp_rx.bytes,
            }
        });
        Some(PeerStats {
            counts: link.counters.get(),
            path,
        })
    }

    /// Says goodbye to every peer and returns when that has left, after a second at most.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let mut tasks = self
            .tasks
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        while tasks.join_next().await.is_some() {}
        Ended::Stopped.close_endpoint(&self.endpoint);
        let _ = timeout(GOODBYE_TIMEOUT, self.endpoint.wait_idle()).await;
    }
}

impl Link {
    fn new(region: Region) -> Self {
        Self {
            region,
            counters: Counters::default(),
            quiet: Mutex::default(),
            was_refused: AtomicBool::new(false),
            current: Mutex::default(),
            newest: Mutex::default(),
            arrived: Notify::new(),
            knocked: Notify::new(),
        }
    }

    /// Runs a connection to its end, and counts and logs it.
    async fn run(
        &self,
        session: &Session,
        connection: Connection,
        side: Side,
        interrupted: impl Future<Output = Ended>,
    ) -> Ended {
        let mut interrupted = std::pin::pin!(interrupted);
        let greeted = tokio::select! {
            greeted = session.greet(&connection, side) => greeted,
            ended = &mut interrupted => Err(ended),
        };
        let ended = match greeted {
            Ok(streams) => {
                count(&self.counters.connected);
                let remote = connection.remote_address();
                if self.was_refused.load(Ordering::Relaxed) {
                    tracing::debug!(peer = %self.region, %remote, "linked");
                } else {
                    tracing::info!(peer = %self.region, %remote, "linked");
                }
                *lock(&self.current) = Some(connection.clone());
                let ended = session
                    .converse(&connection, streams, &self.counters, interrupted)
                    .await;
                *lock(&self.current) = None;
                if matches!(ended, Ended::Lost(_)) {
                    count(&self.counters.lost);
                }
                ended
            }
            Err(ended) => {
                ended.close(&connection);
                if matches!(ended, Ended::Lost(_)) {
                    count(&self.counters.failed);
                }
                ended
            }
        };
        self.take_note(&ended);
        ended
    }

    fn take_note(&self, ended: &Ended) {
        // It will be so again and again until somebody does something about it.
        self.was_refused
            .store(ended.is_refusal(), Ordering::Relaxed);
        match ended {
            Ended::Stopped | Ended::Replaced => return,
            Ended::PeerStopped | Ended::PeerStarted => {
                tracing::info!(peer = %self.region, "{ended}");
                return;
            }
            Ended::Lost(_) => {} // Counted by whoever knows how far it had come.
            Ended::Refused(_) => count(&self.counters.refused),
            Ended::Malformed(_) => count(&self.counters.malformed),
            Ended::Rejected(_) => count(&self.counters.rejected),
        }
        self.warn(ended);
    }

    /// Waits until a connection waits to be served.
    async fn replaced(&self) {
        while lock(&self.newest).is_none() {
            self.arrived.notified().await;
        }
    }

    fn warn(&self, what: &dyn std::fmt::Display) {
        let what = what.to_string();
        if let Some(held_back) = lock(&self.quiet).may_log(&what, Instant::now()) {
            tracing::warn!(peer = %self.region, held_back, "{what}");
        }
    }
}

/// How to call one peer.
struct Caller {
    endpoint: Endpoint,
    client: ClientConfig,
    address: String,
}

impl Caller {
    /// Tries its addresses in turn.
    async fn connect(&self) -> Result<Connection, String> {
        let from = self
            .endpoint
            .local_addr()
            .map_err(|error| error.to_string())?;
        let mut reason = String::new();
        for to in resolve(&self.address, from)
            .await
            .map_err(|error| error.to_string())?
        {
            // The name is for TLS, which wants one; certificates are not held against it.
            let connecting = self
                .endpoint
                .connect_with(self.client.clone(), to, "meridian");
            reason = match connecting {
                Ok(connecting) => match timeout(HANDSHAKE_TIMEOUT, connecting).await {
                    Ok(Ok(connection)) => return Ok(connection),
                    Ok(Err(error)) => format!("{to}: {error}"),
                    Err(_) => format!("{to}: no answer"),
                },
                Err(error) => format!("{to}: {error}"),
            };
        }
        Err(reason)
    }
}

/// Calls a peer again and again.
async fn call(link: Arc<Link>, session: Session, caller: Caller, mut stop: watch::Receiver<bool>) {
    let mut backoff = Backoff::default();
    loop {
        let attempt = tokio::select! {
            () = stopping(&mut stop) => return,
            () = link.knocked.notified() => continue, // The first packets of this call are lost.
            attempt = caller.connect() => attempt,
        };
        let wait = match attempt {
            Ok(connection) => {
                let interrupted = async {
                    tokio::select! {
                        () = stopping(&mut stop) => Ended::Stopped,
                        () = link.knocked.notified() => Ended::PeerStarted,
                    }
                };
                let ended = link
                    .run(&session, connection, Side::Caller, interrupted)
                    .await;
                if ended == Ended::PeerStarted {
                    continue;
                }
                backoff.ended(&ended, fastrand::f64())
            }
            Err(reason) => {
                count(&link.counters.failed);
                link.warn(&format_args!("cannot connect: {reason}"));
                backoff.failed(fastrand::f64())
            }
        };
        tokio::select! {
            () = stopping(&mut stop) => return,
            () = link.knocked.notified() => backoff = Backoff::default(),
            () = sleep(wait) => {}
        }
    }
}

/// Tells a peer that calls us that we have started: it may take a connection with our last life for
/// alive, or have called too early. It ends our call, and calls. Where it does not hear us it is
/// not there, and calls when it is, or finds out by itself.
async fn knock(caller: Caller, mut stop: watch::Receiver<bool>) {
    let heard = async {
        match caller.connect().await {
            Ok(connection) => {
                let _ = timeout(HANDSHAKE_TIMEOUT, connection.closed()).await;
            }
            Err(reason) => tracing::debug!(peer = caller.address, "not heard: {reason}"),
        }
    };
    tokio::select! {
        () = stopping(&mut stop) => {}
        () = heard => {}
    }
}

/// Serves the connections that a peer makes, one at a time: a new one ends the one before.
async fn answer(link: Arc<Link>, session: Session, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = stopping(&mut stop) => return,
            () = link.replaced() => {}
        }
        let Some(connection) = lock(&link.newest).take() else {
            continue;
        };
        let interrupted = async {
            tokio::select! {
                () = stopping(&mut stop) => Ended::Stopped,
                () = link.replaced() => Ended::Replaced,
            }
        };
        link.run(&session, connection, Side::Called, interrupted)
            .await;
    }
}

/// Shakes hands with whoever calls, and hands connections of peers on.
async fn accept(endpoint: Endpoint, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            () = stopping(&mut stop) => return,
            Some(_) = handshakes.join_next() => {}
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { return };
                if let Some(incoming) = shared.admit(incoming) {
                    handshakes.spawn(shake_hands(incoming, Arc::clone(&shared)));
                }
            }
        }
    }
}

impl Shared {
    /// When many are shaking hands, callers must first prove their address; when too many are,
    /// they are turned away.
    fn admit(&self, incoming: Incoming) -> Option<Incoming> {
        let free = self.handshakes.available_permits();
        if free == 0 {
            count(&self.strangers.turned_away);
            incoming.refuse();
            return None;
        }
        if free < HANDSHAKES_MAX / 2 && incoming.may_retry() {
            // Fails only for those that may not retry.
            let _ = incoming.retry();
            return None;
        }
        Some(incoming)
    }

    fn warn(&self, remote: SocketAddr, what: &dyn std::fmt::Display) {
        let line = what.to_string();
        if let Some(held_back) = lock(&self.quiet).may_log(&line, Instant::now()) {
            tracing::warn!(%remote, held_back, "{what}");
        }
    }

    fn peer(&self, region: Region) -> Option<Arc<Link>> {
        let peers = self.peers.read();
        let peers = peers.unwrap_or_else(PoisonError::into_inner);
        peers.get(&region).map(Arc::clone)
    }

    /// The link that a new connection belongs to.
    fn link_of(&self, connection: &Connection) -> Result<Arc<Link>, String> {
        let peer = self
            .identity
            .peer(connection)
            .map_err(|problem| problem.to_string())?;
        let region = peer.get().region;
        let link = self.peer(region);
        link.ok_or_else(|| format!("region {region} is no peer of region {}", self.own))
    }
}

async fn shake_hands(incoming: Incoming, shared: Arc<Shared>) {
    let Ok(_permit) = shared.handshakes.try_acquire() else {
        count(&shared.strangers.turned_away);
        incoming.refuse();
        return;
    };
    let remote = incoming.remote_address();
    let connected = async { incoming.accept()?.await };
    let connection = match timeout(HANDSHAKE_TIMEOUT, connected).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            let is_refusal = matches!(
                error,
                ConnectionError::TransportError(_) | ConnectionError::ConnectionClosed(_)
            );
            let counters = &shared.strangers;
            count(if is_refusal {
                &counters.refused
            } else {
                &counters.failed
            });
            shared.warn(remote, &format_args!("handshake failed: {error}"));
            return;
        }
        Err(_) => {
            count(&shared.strangers.failed);
            shared.warn(remote, &"no handshake within 3 s");
            return;
        }
    };
    match shared.link_of(&connection) {
        Ok(link) if shared.own < link.region => {
            // Whoever means to stay is told who is to call.
            let (own, peer) = (shared.own, link.region);
            let reason = format!("region {own} calls region {peer}, not the other way");
            Ended::Refused(reason).close(&connection);
            link.knocked.notify_one();
        }
        Ok(link) => {
            if let Some(older) = lock(&link.newest).replace(connection) {
                Ended::Replaced.close(&older);
            }
            link.arrived.notify_one();
        }
        Err(reason) => {
            count(&shared.strangers.refused);
            shared.warn(remote, &reason);
            Ended::Refused(reason).close(&connection);
        }
    }
}

/// Waits until the driver is to stop; also if it has been dropped.
async fn stopping(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stops| *stops).await;
}

/// A lock whose holder panicked guards nothing that a panic can leave half done here.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
