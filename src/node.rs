//! A node: builds every part, starts them, and stops them in order.

use std::net::SocketAddr;
use std::sync::Arc;

use crdt::{Epoch, Origin, Region, Seed};

use crate::clock;
use crate::proxy::{BindError, Listener, Policy, Server, Settings, Thread};
use crate::shard::{Identity, Shard};
use crate::shards::Shards;

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The client port is taken, or not ours.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system refuses threads or sockets.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
}

/// What a node needs to know to start.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The database's id: regions of one database have the same.
    pub database: String,
    /// This region.
    pub region: Region,
    /// Where clients connect.
    pub clients: SocketAddr,
    /// How many shards: a power of two.
    pub shards: u16,
    /// Where the keys of one command may be.
    pub policy: Policy,
    /// Whether the stricter rules of several regions hold.
    pub active_active: bool,
    /// Whether the database has no other region.
    pub alone: bool,
    /// The password of clients, if they need one.
    pub password: Option<Vec<u8>>,
    /// How many clients may be connected.
    pub clients_max: usize,
    /// How many threads serve clients.
    pub threads: usize,
}

/// Runs a node until it is told to stop by a signal or by `SHUTDOWN`.
pub fn run(plan: &Plan) -> Result<(), StartError> {
    raise_file_limit();
    let listener = Listener::bind(plan.clients)?;
    let server = Arc::new(Server::new(shards(plan), settings(plan)));
    let threads = (0..plan.threads).map(|number| Thread::start(Arc::clone(&server), number));
    let threads = threads.collect::<Result<Vec<_>, _>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            ended = listener.run(Arc::clone(&server), threads) => ended?,
            _ = term.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
            () = server.stop.notified() => {}
        }
        tracing::info!("stopped");
        Ok(())
    })
}

fn shards(plan: &Plan) -> Shards {
    let seed = Seed::from_text(plan.database.as_bytes());
    let epoch = Epoch(clock::now_ms());
    let build = |number| {
        let (first, slots) = Shards::slots_of(number, plan.shards);
        let origin = Origin::new(plan.region, epoch);
        let identity = Identity {
            number,
            first,
            slots,
            origin,
            alone: plan.alone,
        };
        Shard::new(identity, seed, fastrand::u64(..))
    };
    Shards::new(seed, (0..plan.shards).map(build).collect())
}

fn settings(plan: &Plan) -> Settings {
    Settings {
        password: plan.password.clone(),
        clients_max: plan.clients_max,
        policy: plan.policy,
        active_active: plan.active_active,
        port: plan.clients.port(),
        free: std::collections::BTreeMap::new(),
    }
}

/// As many connections as the system lets us have.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
