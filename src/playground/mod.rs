//! Several regions on one machine: `meridian playground`.
//!
//! Every node is a process of its own; the regions reach each other only through a relay in here,
//! which can delay, lose and cut what passes between any two of them. A control port on loopback
//! says how it stands and changes it. When the playground ends, however that comes about, its nodes
//! end too.
//!
//! All but the relay runs on the main thread: the nodes are tied to the thread that started them.

mod certs;
mod client;
mod control;
mod folder;
mod nodes;
mod plan;
mod relay;

#[cfg(test)]
mod tests;

use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::interval;

pub use self::certs::CertError;
pub use self::client::{Request, RequestError};
use self::folder::Folder;
use self::nodes::Node;
pub use self::nodes::NodeError;
use self::plan::Region;
pub use self::plan::{PlanError, Setup};
use self::relay::{Direction, Relay};

/// The database's name.
const DATABASE: &str = "playground";
/// Where the sockets of regions are: below the range that the kernel gives to others, so that none
/// takes the port of a node that is down.
const GEO_PORTS: std::ops::Range<u16> = 12_000..32_000;
/// Tries to find a free one of them.
const GEO_PORT_TRIES: usize = 1000;
/// Between two looks whether a node has ended by itself.
const WATCH_EVERY: Duration = Duration::from_millis(200);

/// Why a playground does not start.
#[derive(Debug, thiserror::Error)]
pub enum PlaygroundError {
    /// The command line asks for what cannot be.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The control port is taken: another playground has it, perhaps.
    #[error("--control-port {port} (does another playground run?)")]
    Control {
        /// Which.
        port: u16,
        /// What the system says.
        source: io::Error,
    },
    /// The folder cannot be made or written.
    #[error("cannot write the files of the nodes")]
    Files(#[source] io::Error),
    /// There are no certificates.
    #[error(transparent)]
    Cert(#[from] CertError),
    /// A node does not start.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The system refuses sockets, threads or signals.
    #[error("the operating system refuses")]
    System(#[from] io::Error),
}

/// A playground, as its control port sees it.
#[derive(Debug)]
struct Playground {
    regions: Vec<Region>,
    nodes: Vec<Arc<Node>>,
    relay: Relay,
    /// Last, so that it is removed when nothing uses it any more.
    _folder: Folder,
}

/// Runs a playground until SIGINT or SIGTERM, then stops its nodes.
pub fn run(setup: &Setup, control_port: u16) -> Result<(), PlaygroundError> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut stop = Stop::new()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, control_port));
        let control =
            TcpListener::bind(address)
                .await
                .map_err(|source| PlaygroundError::Control {
                    port: control_port,
                    source,
                })?;
        let playground = Arc::new(Playground::new(setup)?);
        let router = control::router(Arc::clone(&playground));
        let control = tokio::spawn(async move { axum::serve(control, router).await });
        let outcome = tokio::select! {
            outcome = playground.play(control_port) => outcome,
            () = stop.wanted() => Ok(()),
        };
        control.abort();
        playground.stop().await;
        outcome
    })
}

impl Playground {
    /// Lays out files and network; nothing runs yet but the relay.
    fn new(setup: &Setup) -> Result<Self, PlaygroundError> {
        let regions = setup.plan()?;
        let shape = setup.shape()?;
        let geo = geo_sockets(regions.len())?;
        let relay = Relay::start(&geo, shape, setup.seed)?;
        let folder = Folder::open(setup.dir.as_deref()).map_err(PlaygroundError::Files)?;
        let authority = certs::Authority::new()?;
        let mut nodes = Vec::new();
        for (index, region) in regions.iter().enumerate() {
            let path = folder
                .of_node(&region.node)
                .map_err(PlaygroundError::Files)?;
            let uri = format!("meridian://{DATABASE}/{}/{}", region.name, region.node);
            authority.write(&path, &uri, &region.node)?;
            let peers: Vec<(&Region, SocketAddr)> = regions
                .iter()
                .enumerate()
                .filter_map(|(other, peer)| Some((peer, relay.entrance(index, other)?)))
                .collect();
            let config = path.join("meridian.toml");
            let text = folder::settings(setup, region, geo[index], &peers);
            fs::write(&config, text).map_err(PlaygroundError::Files)?;
            nodes.push(Arc::new(Node::new(
                region,
                config,
                setup.serve_flags.clone(),
            )));
        }
        Ok(Self {
            regions,
            nodes,
            relay,
            _folder: folder,
        })
    }

    /// Starts the nodes, says so, and tells of those that end by themselves; returns on an error
    /// only.
    async fn play(&self, control_port: u16) -> Result<(), PlaygroundError> {
        let mut starts = JoinSet::new();
        for node in &self.nodes {
            let node = Arc::clone(node);
            starts.spawn(async move { node.start().await.map(|()| node) });
        }
        while let Some(started) = starts.join_next().await {
            let node = started.map_err(io::Error::other)??;
            say(&format!(
                "{} answers on 127.0.0.1:{}",
                node.region, node.client_port
            ));
        }
        let count = self.regions.len();
        let plural = if count == 1 { "" } else { "s" };
        say(&format!(
            "ready: {count} region{plural}, control port {control_port}, Ctrl-C stops"
        ));
        let mut looks = interval(WATCH_EVERY);
        loop {
            looks.tick().await;
            for node in &self.nodes {
                if let Some(status) = node.ended() {
                    say(&format!("{} has ended by itself: {status}", node.id));
                }
            }
        }
    }

    /// Stops all nodes at once; those that do not run are fine.
    async fn stop(&self) {
        let mut stops = JoinSet::new();
        for node in &self.nodes {
            let node = Arc::clone(node);
            stops.spawn(async move { node.stop().await });
        }
        while let Some(stopped) = stops.join_next().await {
            if let Ok(Err(error @ NodeError::Late { .. })) = stopped {
                let _ = writeln!(io::stderr(), "{error}");
            }
        }
    }

    /// The direction between two regions, by their names.
    fn direction(&self, from: &str, to: &str) -> Option<&Direction> {
        let index = |name| self.regions.iter().position(|region| region.name == name);
        self.relay.direction(index(from)?, index(to)?)
    }
}

/// SIGINT and SIGTERM, heeded from the start on.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Returns when either has come.
    async fn wanted(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// An address for each region that nobody has now.
fn geo_sockets(count: usize) -> io::Result<Vec<SocketAddr>> {
    // Held until all are found, so that none is found twice.
    let mut sockets = Vec::new();
    for _ in 0..GEO_PORT_TRIES {
        if sockets.len() == count {
            break;
        }
        sockets.extend(UdpSocket::bind((
            Ipv4Addr::LOCALHOST,
            fastrand::u16(GEO_PORTS),
        )));
    }
    if sockets.len() < count {
        return Err(io::Error::other("no free UDP ports on 127.0.0.1"));
    }
    sockets.iter().map(UdpSocket::local_addr).collect()
}

/// Prints a line at once; a closed stdout is no reason to end.
fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
