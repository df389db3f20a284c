//! A node: builds every part, starts them, and stops them in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crdt::{Epoch, Origin, Region, Seed};
use geo::net::{self, Credentials, Directory, Net, PeerConfig, Tuning};

use crate::admin::{Admin, AdminError};
use crate::aside::{self, AsideError};
use crate::clock::{self, Moment};
use crate::config::{self, Config, Geo, Peer};
use crate::datadir::DataDir;
use crate::durability::Syncing;
use crate::limits;
use crate::links::Links;
use crate::membership::{Membership, MembershipError};
use crate::oplog::Budget;
use crate::oplog::record::Owner;
use crate::proxy::{BindError, Listener, Regions as _, Server, Settings, Thread};
use crate::shard::{Identity, Peers, Round, Shard};
use crate::shards::Shards;
use crate::snapshot;
use crate::store::{Store, StoreError};

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The client port is taken, or not ours.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The admin port cannot be opened.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A certificate or key is missing or wrong.
    #[error(transparent)]
    Tls(#[from] net::TlsError),
    /// The port for other regions is taken, or not ours.
    #[error("cannot listen for other regions: {0}")]
    Geo(#[from] net::OpenError),
    /// The record of regions cannot be used.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// What the others do without cannot be put aside.
    #[error(transparent)]
    Aside(#[from] AsideError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system refuses threads or sockets.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
}

/// Runs a node until it is told to stop by a signal or by `SHUTDOWN`.
pub fn run(config: &Config) -> Result<(), StartError> {
    raise_file_limit();
    let Config { database, node, .. } = config;
    let store = store(config)?;
    tracing::info!(
        database,
        region = config.region.name,
        node,
        dir = ?config.dir,
        "starting"
    );
    let storage = store.as_ref().map(Store::storage);
    let members = Membership::start(config, storage)?.map(Arc::new);
    let config = &with_record(config, members.as_deref());
    let listener = Listener::bind(config.clients.listen)?;
    let epoch = epoch(store.as_ref(), members.as_deref())?;
    let budget = Arc::new(Budget::new(config.geo_log_bytes as u64));
    let shards = shards(config, epoch, &budget);
    let server = Arc::new(Server::new(shards, settings(config)));
    server.room.begin(Arc::clone(&budget));
    server.set_room(config.room);
    server.silence.change(|silence| *silence = config.silence);
    let keeping = store
        .as_ref()
        .map(|store| keep(config, store, epoch, &server));
    let keeping = keeping.transpose()?;
    let credentials = config.geo.as_ref().map(credentials).transpose()?;
    let links = link(config, &server, members);
    let threads = (0..config.threads).map(|number| Thread::start(Arc::clone(&server), number));
    let threads = threads.collect::<Result<Vec<_>, _>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(async {
        if let Some(links) = &links {
            tokio::spawn(Arc::clone(links).follow());
            tokio::spawn(Arc::clone(links).watch());
        }
        let net = match (config.geo.as_ref(), credentials) {
            (Some(geo), Some(credentials)) => Some(open(config, geo, credentials, links.as_ref())?),
            _ => None,
        };
        if let Some(net) = &net {
            let _ = server.geo_figures.set(net.figures());
        }
        if let Some(admin) = &config.admin {
            let admin = Admin::bind(admin.port, &admin.token_file).await?;
            tokio::spawn(admin.serve(Arc::clone(&server)));
        }
        spawn_tasks(config, &server, budget);
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            ended = listener.run(Arc::clone(&server), threads) => ended?,
            _ = term.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
            () = server.stop.notified() => {}
            () = take_newcomers(net.as_ref(), links.as_deref()) => {}
        }
        if let Some(net) = net {
            net.stop().await;
        }
        Ok(())
    });
    drop(keeping);
    // The directory is ours until the process is gone: a connection may still be at something.
    std::mem::forget(store);
    tracing::info!("stopped");
    ended
}

/// The data directory, if there is one, without what the other regions do without.
fn store(config: &Config) -> Result<Option<Store>, StartError> {
    let Some(dir) = &config.dir else {
        return Ok(None);
    };
    let dir = DataDir::take(dir).map_err(StoreError::Dir)?;
    aside::put(dir.path(), &owner(config), &config.region.name)?;
    Ok(Some(Store::new(dir, owner(config))))
}

/// The epoch of the life that begins.
fn epoch(store: Option<&Store>, members: Option<&Membership>) -> Result<Epoch, StartError> {
    let epoch = match store {
        Some(store) => store.epoch(Moment::now())?,
        None => Epoch(clock::now_ms()),
    };
    let ended = members.map(Membership::ended);
    Ok(epoch.max(ended.unwrap_or_default()))
}

/// Begins what goes on beside clients and links.
fn spawn_tasks(config: &Config, server: &Arc<Server>, budget: Arc<Budget>) {
    tokio::spawn(keep_tidy(Arc::clone(server), config.expiry_grace));
    tokio::spawn(keep_room(budget));
    if let Some(dir) = config.dir.clone() {
        let server = Arc::clone(server);
        tokio::spawn(aside::write_again(server, dir, owner(config)));
    }
}

/// The settings, with the regions that the record knows besides.
fn with_record(config: &Config, members: Option<&Membership>) -> Config {
    let mut config = config.clone();
    let roster = members.map(Membership::roster).unwrap_or_default();
    // Those that are forgotten are to be told so.
    for (id, name, entry) in roster.iter() {
        let mut known = config.peers.iter().map(|peer| peer.region.id);
        if id != config.region.id && !known.any(|known| known == id) {
            config.peers.push(Peer {
                region: config::Region {
                    id,
                    name: name.to_owned(),
                },
                address: entry.addresses.first().cloned().unwrap_or_default(),
            });
        }
    }
    config.peers.sort_by_key(|peer| peer.region.id);
    config.active_active |= !config.peers.is_empty();
    config
}

/// Connects with regions that come while the node runs, for ever.
async fn take_newcomers(net: Option<&Net>, links: Option<&Links>) {
    let (Some(net), Some(links)) = (net, links) else {
        return std::future::pending().await;
    };
    loop {
        let newcomer = links.newcomer().await;
        let name = newcomer.name;
        let peer = PeerConfig {
            region: newcomer.region,
            address: newcomer.address,
            handler: newcomer.link,
            waker: newcomer.waker,
        };
        if let Err(error) = net.add(&name, peer) {
            tracing::error!(region = name, %error, "cannot be called");
        }
    }
}

/// What works on the disk; no snapshot is begun once the log ends.
#[derive(Debug)]
struct Keeping {
    _saving: snapshot::Running,
    _syncing: Syncing,
}

/// Reads what is on disk, and keeps what comes.
fn keep(
    config: &Config,
    store: &Store,
    epoch: Epoch,
    server: &Server,
) -> Result<Keeping, StartError> {
    let now = Moment::now();
    let begun = store.go_on(&server.shards, epoch, config.fsync, now)?;
    let durability = Arc::new(begun.durability);
    let settings = snapshot::Settings {
        loaded: begun.loaded,
        geo_bytes: config.geo_log_disk_bytes as u64,
        piece_bytes: limits::PIECE_BYTES,
    };
    let shards = Arc::clone(&server.shards);
    if config.peers.is_empty() && !durability.is_filled() {
        // Nobody else has anything of it. If it cannot be written, the disk has said why.
        let _ = durability.fill(&shards, Moment::now());
    }
    let snapshots = store.snapshots(Arc::clone(&shards), Arc::clone(&durability), settings);
    let snapshots = Arc::new(snapshots);
    let backups = store.backups(&config.node, Arc::clone(&shards), Arc::clone(&durability));
    let keeping = Keeping {
        _saving: snapshots.start()?,
        _syncing: durability.start(shards)?,
    };
    let _ = server.repairs.set(store.repairs(begun.damaged));
    let _ = server.backups.set(Arc::new(backups));
    let _ = server.durability.set(durability);
    let _ = server.snapshots.set(snapshots);
    Ok(keeping)
}

fn owner(config: &Config) -> Owner {
    Owner {
        database: config.database.clone(),
        region: config.region.id,
        shards: config.shards,
    }
}

fn shards(config: &Config, epoch: Epoch, budget: &Arc<Budget>) -> Shards {
    let seed = Seed::from_text(config.database.as_bytes());
    let peers = config.peers.iter().map(|peer| peer.region.id);
    let peers = Peers {
        members: peers
            .chain([config.region.id])
            .collect::<BTreeSet<Region>>(),
        clock_drift_max_ms: config.max_clock_drift.as_millis() as u64,
        budget: Arc::clone(budget),
        on_disk: config.dir.is_some(),
    };
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
        Shard::with_peers(identity, seed, fastrand::u64(..), peers.clone())
    };
    Shards::new(seed, (0..config.shards).map(build).collect())
}

/// The level of features that this build knows: 2 since ops of closed origins are issued again, 3
/// since a region is told what its peer's log no longer has, 4 since regions tell each other the
/// record of regions, 5 since frames may be compressed on their way, 6 since a region catches up by
/// state, 7 since a region that is silent for too long is excluded, 8 since whoever does without a
/// forgotten region says so.
const FEATURE_LEVEL: u32 = 8;

/// How often things that are stable are dropped and folded, and keys past their deadline removed.
const TIDY_EVERY: Duration = Duration::from_millis(100);
/// How often memory for the logs is made ready, if it is short.
const ROOM_EVERY: Duration = Duration::from_millis(100);
/// Things that are settled in a shard under one hold of its lock.
const SETTLED_AT_ONCE: usize = 1_000;
/// Keys and fields that are removed from a shard under one hold of its lock.
const EXPIRED_AT_ONCE: usize = 100;

/// Links with the other regions, if there are any, without connections.
fn link(
    config: &Config,
    server: &Arc<Server>,
    members: Option<Arc<Membership>>,
) -> Option<Arc<Links>> {
    let members = members?;
    let joins = members.joins();
    let is_forgotten = members.is_forgotten();
    let settings = geo::proto::Config {
        own: config.region.id,
        database: config.database.clone(),
        level: FEATURE_LEVEL,
        lanes: Tuning::default().lanes,
        window_bytes: limits::LINK_WINDOW_BYTES,
        relay_window_bytes: limits::RELAY_WINDOW_BYTES,
        state_window_bytes: limits::STATE_WINDOW_BYTES,
        state_bytes_per_s: limits::STATE_BYTES_PER_S,
    };
    let peers: Vec<_> = config
        .peers
        .iter()
        .map(|peer| (peer.region.id, peer.region.name.clone()))
        .collect();
    let links = Arc::new(Links::new(
        Arc::clone(server),
        &settings,
        &config.region.name,
        &peers,
        config.max_clock_drift,
        members,
    ));
    links.begin();
    let _ = server.regions.set(Arc::<Links>::clone(&links));
    let has_all = server.durability.get().is_some_and(|disk| disk.is_filled());
    if joins || is_forgotten {
        server.loading.begin_joining();
    } else if !has_all {
        server.loading.begin();
    }
    // What it waits for is known from the start.
    links.look_at_refill();
    Some(links)
}

fn credentials(geo: &Geo) -> Result<Credentials, net::TlsError> {
    Credentials::load(&geo.ca, &geo.cert, &geo.key)
}

/// Starts to call and to answer the other regions.
fn open(
    config: &Config,
    geo: &Geo,
    credentials: Credentials,
    links: Option<&Arc<Links>>,
) -> Result<Net, StartError> {
    let own = (config.region.name.clone(), config.region.id);
    let others = config
        .peers
        .iter()
        .map(|peer| (peer.region.name.clone(), peer.region.id));
    let regions: BTreeMap<String, Region> = others.chain([own]).collect();
    let directory = Directory {
        database: config.database.clone(),
        regions,
    };
    let mut settings = net::Config::new(config.region.id, geo.listen, credentials, directory);
    settings.interface.clone_from(&geo.interface);
    settings.compression = geo.compression;
    let handlers = links.iter().flat_map(|links| links.handlers());
    let peers = handlers
        .zip(&config.peers)
        .map(|((region, handler, waker), peer)| PeerConfig {
            region,
            address: peer.address.clone(),
            handler,
            waker,
        });
    Ok(Net::start(settings, peers.collect())?)
}

/// Drops and folds what is stable, frees what was removed and removes what is past its deadline, a
/// shard at a time, for ever.
async fn keep_tidy(server: Arc<Server>, grace: Duration) {
    let mut ticks = tokio::time::interval(TIDY_EVERY);
    loop {
        ticks.tick().await;
        server.traffic.sample(clock::now_ms(), server.stats.total());
        let regions = server.regions.get();
        if let Some(regions) = regions {
            regions.look_at_refill();
        }
        let down = regions.map(|regions| regions.down()).unwrap_or_default();
        for index in 0..server.shards.count() {
            let removed = server.shards.with(index, Shard::take_removed);
            if !removed.is_empty() {
                tokio::task::spawn_blocking(move || drop(removed));
            }
            while server
                .shards
                .with(index, |shard| shard.settle(SETTLED_AT_ONCE))
            {
                tokio::task::yield_now().await;
            }
            if !server.loading.is_loading() {
                // Removals are writes, too: they must have seen what our last life had.
                expire(&server, index, grace, &down).await;
            }
        }
    }
}

/// Keeps memory for the logs ready, for ever.
async fn keep_room(budget: Arc<Budget>) {
    let mut ticks = tokio::time::interval(ROOM_EVERY);
    loop {
        ticks.tick().await;
        if budget.lacks_room() {
            let budget = Arc::clone(&budget);
            let _ = tokio::task::spawn_blocking(move || budget.make_room()).await;
        }
    }
}

/// Removes what is past its deadline from a shard, some at a time.
async fn expire(server: &Server, index: usize, grace: Duration, down: &[Region]) {
    loop {
        let round = Round {
            now_ms: clock::now_ms(),
            grace_ms: grace.as_millis() as u64,
            down,
            limit: EXPIRED_AT_ONCE,
        };
        let removed = server.shards.with(index, |shard| shard.expire(&round));
        if removed == 0 {
            return;
        }
        server.wrote();
        tokio::task::yield_now().await;
    }
}

fn settings(config: &Config) -> Settings {
    let password = config.clients.requirepass.as_ref();
    Settings {
        node: config.node.clone(),
        password: password.map(|password| password.expose().as_bytes().to_vec()),
        clients_max: config.clients.connections_max,
        policy: config.policy,
        active_active: config.active_active,
        dir: config
            .dir
            .as_ref()
            .map_or_else(|| ".".to_owned(), |dir| dir.display().to_string()),
        fsync: config.fsync,
        port: config.clients.listen.port(),
        free: BTreeMap::new(),
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
