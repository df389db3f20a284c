//! The driver of links over QUIC: sockets, certificates, connections, and nothing else.
//!
//! A [`Net`] keeps one connection with every peer: the node of the region with the lower number
//! calls, the other answers. When that one starts it knocks at its callers, so that they call at
//! once, rather than when they next try or find the connection with its last life dead. A net hands
//! the bytes that come to the peer's [`Handler`] and asks it for what to send; what the bytes mean
//! it does not know. A peer is who its certificate says it is.
//!
//! Promises: messages arrive whole and in order, frames whole and in order within their lane, and a
//! handler is never called for a connection after [`Handler::disconnected`]. A dead peer is noticed
//! within 3 s, and a peer that is back is called again within as many. What a peer can do wrong
//! closes its connection, is counted, and logged once a second at most; nobody else is disturbed.

mod driver;
mod endpoint;
mod pause;
mod peers;
mod reconnect;
mod sender;
mod split;
mod squeeze;
mod stats;
mod tls;
mod waker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crdt::Region;

use crate::proto::MESSAGE_BYTES_MAX;

pub use driver::Ended;
pub use endpoint::{Congestion, OpenError, Tuning};
pub use peers::{Figures, Net, Path, PeerStats};
pub use squeeze::Compression;
pub use stats::Counts;
pub use tls::{CertificateProblem, Credentials, Directory, Peer, TlsError, Verified};
pub use waker::Waker;

/// The node's side of the link with one peer. Calls come from the runtime's threads and must not
/// wait for anything but short locks; they may come at the same time.
pub trait Handler: Send + Sync + 'static {
    /// There is a new connection.
    fn connected(&self, now: Instant);

    /// It has ended. Nothing of it comes any more.
    fn disconnected(&self, now: Instant, why: &Ended);

    /// A message has come. An error closes the connection.
    fn control(&self, now: Instant, message: &[u8]) -> Result<(), Reject>;

    /// A frame has come, its length in front. An error closes the connection.
    fn frame(&self, now: Instant, frame: Bytes) -> Result<Accept, Reject>;

    /// The time of [`Self::next_timeout`] has come. An error closes the connection.
    fn timeout(&self, now: Instant) -> Result<(), Reject>;

    /// When [`Self::timeout`] is to be called. Asked again after every wake.
    fn next_timeout(&self) -> Option<Instant>;

    /// The next thing to send, if any. Asked until there is none, and again after every
    /// [`Waker::wake`] and whenever something has come.
    fn poll(&self, now: Instant) -> Option<Transmit>;

    /// Whether the peer's build reads frames that were compressed on their way.
    fn takes_compressed(&self) -> bool {
        false
    }
}

/// Something to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// A message for the control stream.
    Control(Vec<u8>),
    /// A frame, its length in front.
    Frame {
        /// Its lane: up to [`Tuning::lanes`], that number included.
        lane: u16,
        /// The frame's bytes.
        bytes: Bytes,
    },
}

/// What became of a frame that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// It is dealt with.
    Taken,
    /// Not now: nothing more is read from its lane, and the same bytes come again a little later.
    Later,
}

/// Why a handler cannot go on with a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Reject {
    /// What is wrong, for the log and for the peer.
    pub reason: String,
    /// The two sides are set up for different things: there is no hurry to try again.
    pub needs_operator: bool,
}

/// A region to be linked with.
#[derive(Clone)]
pub struct PeerConfig {
    /// Which region.
    pub region: Region,
    /// Where it is, `host:port`; looked up again for every call. If it calls us, only to knock.
    pub address: String,
    /// Our side of the link.
    pub handler: Arc<dyn Handler>,
    /// What wakes the task that sends to it.
    pub waker: Waker,
}

impl std::fmt::Debug for PeerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerConfig")
            .field("region", &self.region)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// What a node is in the net of regions.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our region.
    pub own: Region,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The network interface to send and listen by; as routed if none is named.
    pub interface: Option<String>,
    /// Certificates.
    pub credentials: Credentials,
    /// The database and its regions.
    pub directory: Directory,
    /// How connections are tuned.
    pub tuning: Tuning,
    /// Least time between two batches of frames to a peer while its log is busy. After a quiet time
    /// nothing waits.
    pub pause: Duration,
    /// Whether frames are compressed on their way.
    pub compression: Compression,
    /// Longest control message.
    pub message_bytes_max: usize,
    /// Longest frame. Memory is taken only as its bytes arrive.
    pub frame_bytes_max: usize,
}

impl Config {
    /// The usual settings.
    pub fn new(
        own: Region,
        listen: SocketAddr,
        credentials: Credentials,
        directory: Directory,
    ) -> Self {
        Self {
            own,
            listen,
            interface: None,
            credentials,
            directory,
            tuning: Tuning::default(),
            pause: Duration::from_micros(250),
            compression: Compression::default(),
            message_bytes_max: MESSAGE_BYTES_MAX,
            frame_bytes_max: 1 << 30,
        }
    }
}

/// What a connection keeps to.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Streams of frames that we open.
    streams: u16,
    pause: Duration,
    compression: Compression,
    message_bytes_max: usize,
    frame_bytes_max: usize,
}

/// The one place where the driver reads a clock. The runtime's, so that its timers and the
/// handler's agree.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
