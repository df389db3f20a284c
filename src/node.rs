//! A node: builds every part, starts them, and stops them in order.

use std::sync::Arc;

use crdt::{Epoch, Origin, Seed};

use crate::clock;
use crate::config::Config;
use crate::proxy::{BindError, Listener, Server, Settings, Thread};
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

/// Runs a node until it is told to stop by a signal or by `SHUTDOWN`.
pub fn run(config: &Config) -> Result<(), StartError> {
    raise_file_limit();
    let listener = Listener::bind(config.clients.listen)?;
    let server = Arc::new(Server::new(shards(config), settings(config)));
    let threads = (0..config.threads).map(|number| Thread::start(Arc::clone(&server), number));
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

fn shards(config: &Config) -> Shards {
    let seed = Seed::from_text(config.database.as_bytes());
    let epoch = Epoch(clock::now_ms());
    let build = |number| {
        let (first, slots) = Shards::slots_of(number, config.shards);
        let origin = Origin::new(config.region.id, epoch);
        let identity = Identity {
            number,
            first,
            slots,
            origin,
            alone: config.peers.is_empty(),
        };
        Shard::new(identity, seed, fastrand::u64(..))
    };
    Shards::new(seed, (0..config.shards).map(build).collect())
}

fn settings(config: &Config) -> Settings {
    let password = config.clients.requirepass.as_ref();
    Settings {
        password: password.map(|password| password.expose().as_bytes().to_vec()),
        clients_max: config.clients.connections_max,
        policy: config.policy,
        active_active: config.active_active,
        port: config.clients.listen.port(),
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
