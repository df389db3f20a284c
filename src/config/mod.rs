//! Settings of a node: [`RawConfig`] is what was written, [`Config`] is what is true.
//!
//! A `Config` cannot be wrong: every value is in its range and every rule between two of them
//! holds. What is wrong is told in one line that names the file, the key, the value, and what to
//! do ([`ConfigError`]). Defaults live here and nowhere else; `deploy/meridian.example.toml` lists
//! every setting, and a test holds it to that.

mod raw;
pub mod units;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, thread};

use geo::net::Compression;
use toml::Value;

pub use self::raw::{ConfigError, RawConfig};
use self::raw::{Written, plain};
use crate::durability::Fsync;
use crate::limits;
pub use crate::proxy::Policy;
use crate::proxy::{RoomSettings, Share, SilenceSettings};
use crate::shard::{Eviction, Frequency};

/// Bytes of a name of a database, region or node: what a label of a host name may have.
const NAME_BYTES_MAX: usize = 63;
/// Default of `geo-log-memory`.
const GEO_LOG_BYTES: usize = 512 * limits::MIB;
/// Smallest `geo-log-memory`: less holds no backlog worth the name.
const GEO_LOG_BYTES_MIN: usize = limits::MIB;
/// Default of `max-clock-drift`.
const CLOCK_DRIFT: Duration = Duration::from_millis(500);
/// Default of `expiry-grace`.
const EXPIRY_GRACE: Duration = Duration::from_secs(10);
/// Longest of either: past it, it is a mistake of units.
const TIME_MAX: Duration = Duration::from_hours(1);
/// Shortest `region-horizon` that is one: a region is heard again within that as a rule.
const HORIZON_MIN: Duration = Duration::from_secs(3);
/// Longest of it: past it, it is a mistake of units.
const HORIZON_MAX: Duration = Duration::from_hours(365 * 24);
/// Most `threads`, `maxclients`.
const THREADS_MAX: usize = 256;
const CLIENTS_MAX: usize = 1_000_000;

/// The settings of a node, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the database; equal in all regions.
    pub database: String,
    /// This region.
    pub region: Region,
    /// The other regions, in the order of their ids; none twice, and none that is this one.
    pub peers: Vec<Peer>,
    /// Whether this region is new to a database that runs, and has to be let in.
    pub joins: bool,
    /// Name of this node, unique in its region.
    pub node: String,
    /// Shards of the database: a power of two, 1 under [`Policy::NonClustered`].
    pub shards: u16,
    /// Which commands may span slots.
    pub policy: Policy,
    /// Whether the stricter rules of several regions hold; true if there are peers.
    pub active_active: bool,
    /// What clients connect to.
    pub clients: Clients,
    /// How other regions are reached; present if there are peers.
    pub geo: Option<Geo>,
    /// The limit of memory, and what goes with it.
    pub room: RoomSettings,
    /// For how long other regions may be silent, and how much may wait for them.
    pub silence: SilenceSettings,
    /// Bytes of ops that may wait in memory for other regions, for all shards together.
    pub geo_log_bytes: usize,
    /// Where data is kept, if it is.
    pub dir: Option<PathBuf>,
    /// How safe a write is before its reply.
    pub fsync: Fsync,
    /// Bytes of the log on disk that are kept for regions that lag.
    pub geo_log_disk_bytes: usize,
    /// How far ahead of ours another region's clock may be.
    pub max_clock_drift: Duration,
    /// How long after its deadline a key of another region is removed.
    pub expiry_grace: Duration,
    /// How whoever runs the node reaches it, if it can be.
    pub admin: Option<AdminPort>,
    /// Threads that serve clients.
    pub threads: usize,
    /// What to log, as `tracing_subscriber` filters are written.
    pub log: String,
    /// The parent process to end with, if any.
    pub exit_with_parent: Option<u32>,
}

/// A region's id and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Never used for another region in the life of the database.
    pub id: crdt::Region,
    /// Such as `eu-west`.
    pub name: String,
}

/// Another region, and where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Which it is.
    pub region: Region,
    /// `host:port` (UDP), resolved at each try to connect.
    pub address: String,
}

/// The door for clients.
#[derive(Clone, Debug)]
pub struct Clients {
    /// Address and TCP port; port 0 takes any that is free.
    pub listen: SocketAddr,
    /// The password to `AUTH` with, if there is one.
    pub requirepass: Option<Secret>,
    /// Connections at a time.
    pub connections_max: usize,
}

/// The door for whoever runs the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminPort {
    /// A TCP port of loopback; 0 takes any that is free.
    pub port: u16,
    /// The file that holds the token, made if it is not there.
    pub token_file: PathBuf,
}

/// The door for other regions, and who we are to them.
#[derive(Clone, Debug)]
pub struct Geo {
    /// Address and UDP port; port 0 takes any that is free.
    pub listen: SocketAddr,
    /// The network interface to send by, if not as routed.
    pub interface: Option<String>,
    /// Whether what is sent there is compressed.
    pub compression: Compression,
    /// PEM file with this node's certificate.
    pub cert: PathBuf,
    /// PEM file with its private key.
    pub key: PathBuf,
    /// PEM file with the authorities that sign nodes' certificates.
    pub ca: PathBuf,
}

/// A text that must not reach a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Config {
    /// Reads the file that the flags name, lays the flags over it, and checks everything.
    pub fn load(raw: &RawConfig) -> Result<Self, ConfigError> {
        let written = Written::read(raw)?;
        let peers = peers(&written)?;
        let region = region(&written, &peers)?;
        let policy = written.parsed("policy", Policy::Enterprise, policy)?;
        let bind = written.parsed("bind", Ipv4Addr::LOCALHOST.into(), ip)?;
        Ok(Self {
            database: own(&written, "database", "meridian", &peers)?,
            joins: joins(&written, &peers)?,
            node: written.parsed("node", format!("{}-1", region.name), name)?,
            shards: shards(&written, policy)?,
            policy,
            active_active: active_active(&written, &peers)?,
            clients: clients(&written, bind)?,
            geo: geo(&written, bind, &peers)?,
            room: room(&written)?,
            silence: silence(&written)?,
            geo_log_bytes: written.parsed("geo-log-memory", GEO_LOG_BYTES, log_bytes)?,
            dir: written.path("dir")?,
            fsync: written.parsed("appendfsync", Fsync::EverySecond, |text| {
                let fsync = Fsync::parse(text);
                fsync.ok_or_else(|| "must be always, everysec or no".to_owned())
            })?,
            geo_log_disk_bytes: written.parsed(
                "geo-log-budget",
                limits::GEO_LOG_DISK_BYTES_DEFAULT,
                disk_bytes,
            )?,
            max_clock_drift: written.parsed("max-clock-drift", CLOCK_DRIFT, |text| {
                time(text, Duration::from_millis(1))
            })?,
            expiry_grace: written.parsed("expiry-grace", EXPIRY_GRACE, |text| {
                time(text, Duration::ZERO)
            })?,
            admin: admin(&written)?,
            threads: written.parsed("threads", cores(), |text| number(text, 1, THREADS_MAX))?,
            log: written.parsed("log", "info".to_owned(), filter)?,
            exit_with_parent: raw.exit_with_parent,
            region,
            peers,
        })
    }
}

/// A name that may be left out only while there are no peers: a default that two regions share, or
/// that is changed later, would mix up databases.
fn own(
    written: &Written,
    key: &'static str,
    default: &str,
    peers: &[Peer],
) -> Result<String, ConfigError> {
    if written.value(key).is_none() && !peers.is_empty() {
        return Err(written.error(key, "is missing; with peers it must be given"));
    }
    written.parsed(key, default.to_owned(), name)
}

fn region(written: &Written, peers: &[Peer]) -> Result<Region, ConfigError> {
    let name = own(written, "region", "local", peers)?;
    if written.value("region-id").is_none() && !peers.is_empty() {
        return Err(written.error("region-id", "is missing; with peers it must be given"));
    }
    let first = crdt::Region::new(1).expect("1 is an id");
    let id = written.parsed("region-id", first, region_id)?;
    for peer in peers {
        if peer.region.id == id {
            let advice = format!("is also the id of the peer {}", peer.region.name);
            return Err(written.error("region-id", &advice));
        }
        if peer.region.name == name {
            return Err(written.error("region", "is also the name of a peer"));
        }
    }
    Ok(Region { id, name })
}

fn shards(written: &Written, policy: Policy) -> Result<u16, ConfigError> {
    let default = match policy {
        Policy::Enterprise => limits::SHARDS_DEFAULT,
        Policy::NonClustered => 1,
    };
    written.parsed("shards", default, |text| {
        let shards = text
            .parse()
            .ok()
            .filter(|shards: &u16| shards.is_power_of_two() && *shards <= limits::SHARDS_MAX);
        match shards {
            Some(1) => Ok(1),
            Some(_) if policy == Policy::NonClustered => {
                Err("must be 1 under the policy non-clustered".to_owned())
            }
            Some(shards) => Ok(shards),
            None => Err(format!(
                "must be a power of two from 1 to {}",
                limits::SHARDS_MAX
            )),
        }
    })
}

fn active_active(written: &Written, peers: &[Peer]) -> Result<bool, ConfigError> {
    written.parsed("active-active", !peers.is_empty(), |text| match text {
        "yes" | "true" => Ok(true),
        "no" | "false" if peers.is_empty() => Ok(false),
        "no" | "false" => Err("must be yes, for there are peers".to_owned()),
        _ => Err("must be yes or no".to_owned()),
    })
}

fn joins(written: &Written, peers: &[Peer]) -> Result<bool, ConfigError> {
    written.parsed("join", false, |text| match text {
        "yes" | "true" if peers.is_empty() => {
            Err("needs peers: at least one region of the database to join".to_owned())
        }
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err("must be yes or no".to_owned()),
    })
}

fn clients(written: &Written, bind: IpAddr) -> Result<Clients, ConfigError> {
    let port = written.parsed("port", 6379, port)?;
    let password = written
        .text("requirepass")?
        .filter(|password| !password.is_empty());
    Ok(Clients {
        listen: SocketAddr::new(bind, port),
        requirepass: password.map(Secret),
        connections_max: written.parsed("maxclients", limits::CLIENTS_MAX, |text| {
            number(text, 1, CLIENTS_MAX)
        })?,
    })
}

fn admin(written: &Written) -> Result<Option<AdminPort>, ConfigError> {
    let Some(port) = written.parsed("admin-port", None, |text| port(text).map(Some))? else {
        return Ok(None);
    };
    let in_dir = written.path("dir")?.map(|dir| dir.join("admin-token"));
    let token_file = written.path("admin-token-file")?.or(in_dir);
    let advice = "needs a dir for the token of the port, or an admin-token-file";
    let token_file = token_file.ok_or_else(|| written.error("admin-port", advice))?;
    Ok(Some(AdminPort { port, token_file }))
}

fn room(written: &Written) -> Result<RoomSettings, ConfigError> {
    let default = RoomSettings::default();
    let count = |key, default: u32, max: u32| {
        let read = |text: &str| number(text, 0, max as usize).map(|number| number as u32);
        written.parsed(key, default, read)
    };
    let eviction = written.parsed("maxmemory-policy", default.eviction, |text| {
        let names = Eviction::ALL.map(|(_, name)| name).join(", ");
        Eviction::parse(text).ok_or_else(|| format!("must be one of {names}"))
    })?;
    Ok(RoomSettings {
        max_bytes: written.parsed("maxmemory", default.max_bytes, |text| {
            let bytes = units::size(text).map(|bytes| bytes as u64);
            bytes.ok_or_else(|| "must be a size, such as 4GiB, or 0 for no limit".to_owned())
        })?,
        reserve_percent: count(
            "maxmemory-reserve",
            default.reserve_percent,
            limits::MEMORY_RESERVE_PERCENT_MAX,
        )?,
        eviction,
        samples: written.parsed("maxmemory-samples", default.samples, |text| {
            number(text, 1, limits::EVICTION_SAMPLES_MAX)
        })?,
        frequency: Frequency {
            log_factor: count(
                "lfu-log-factor",
                default.frequency.log_factor,
                i32::MAX as u32,
            )?,
            decay_min: count(
                "lfu-decay-time",
                default.frequency.decay_min,
                i32::MAX as u32,
            )?,
        },
    })
}

fn silence(written: &Written) -> Result<SilenceSettings, ConfigError> {
    let default = SilenceSettings::default();
    Ok(SilenceSettings {
        horizon: written.parsed("region-horizon", default.horizon, horizon)?,
        unstable: written.parsed("unstable-memory", default.unstable, share)?,
    })
}

fn geo(written: &Written, bind: IpAddr, peers: &[Peer]) -> Result<Option<Geo>, ConfigError> {
    let bind = written.parsed("geo-bind", bind, ip)?;
    let port = written.parsed("geo-port", 6390, port)?;
    let interface = written.parsed("geo-interface", None, |text| match text {
        "" => Err("must be the name of a network interface".to_owned()),
        _ => Ok(Some(text.to_owned())),
    })?;
    let compression = written.parsed("geo-compression", Compression::default(), |text| {
        let parsed = text.parse();
        parsed.map_err(|()| "must be off, apart or on".to_owned())
    })?;
    let identity = ["geo-cert", "geo-key", "geo-ca"];
    if peers.is_empty() && identity.iter().all(|key| written.value(key).is_none()) {
        return Ok(None);
    }
    let [cert, key, ca] = identity.map(|key| {
        let advice =
            "is missing; to talk to other regions, geo-cert, geo-key and geo-ca are needed";
        written.file(key)?.ok_or_else(|| written.error(key, advice))
    });
    Ok(Some(Geo {
        listen: SocketAddr::new(bind, port),
        interface,
        compression,
        cert: cert?,
        key: key?,
        ca: ca?,
    }))
}

/// The peers: in the file a list of tables, on the command line `ID:NAME@HOST:PORT,…`.
fn peers(written: &Written) -> Result<Vec<Peer>, ConfigError> {
    let mut peers: Vec<Peer> = match written.value("peers") {
        None => Vec::new(),
        Some(Value::Array(entries)) => entries
            .iter()
            .enumerate()
            .map(|(index, entry)| {
                let place = format!("the peer number {}: ", index + 1);
                peer_of_table(entry).map_err(|advice| written.error("peers", &(place + &advice)))
            })
            .collect::<Result<_, _>>()?,
        Some(_) => written.parsed("peers", Vec::new(), |text| {
            text.split(',')
                .filter(|entry| !entry.is_empty())
                .map(peer_of_text)
                .collect()
        })?,
    };
    peers.sort_by_key(|peer| peer.region.id);
    for (index, peer) in peers.iter().enumerate() {
        let mut before = peers[..index].iter();
        let Region { id, name } = &peer.region;
        if before.any(|other| other.region.id == *id || other.region.name == *name) {
            let advice = format!("the id {} or the name {name} is there twice", id.id());
            return Err(written.error("peers", &advice));
        }
    }
    Ok(peers)
}

fn peer_of_text(text: &str) -> Result<Peer, String> {
    let shape = || format!("{text} must be ID:NAME@HOST:PORT, such as 2:eu-west@10.0.0.2:6390");
    let (region, address) = text.split_once('@').ok_or_else(shape)?;
    let (id, region) = region.split_once(':').ok_or_else(shape)?;
    peer(id, region, address)
}

fn peer_of_table(value: &Value) -> Result<Peer, String> {
    let table = value.as_table().ok_or("must have id, name and address")?;
    let fields = ["id", "name", "address"];
    if let Some(stranger) = table.keys().find(|key| !fields.contains(&key.as_str())) {
        return Err(format!(
            "{stranger} is unknown; a peer has id, name and address"
        ));
    }
    let [id, name, address] = fields.map(|field| {
        table
            .get(field)
            .and_then(plain)
            .ok_or_else(|| format!("its {field} is missing"))
    });
    peer(&id?, &name?, &address?)
}

/// A region and its address, as they are written.
pub(crate) fn peer(id: &str, region: &str, address: &str) -> Result<Peer, String> {
    let of = |what, text: &str, advice: String| format!("{what} {text} {advice}");
    Ok(Peer {
        region: Region {
            id: region_id(id).map_err(|advice| of("id", id, advice))?,
            name: name(region).map_err(|advice| of("name", region, advice))?,
        },
        address: host_and_port(address).map_err(|advice| of("address", address, advice))?,
    })
}

fn region_id(text: &str) -> Result<crdt::Region, String> {
    let id = text.parse().ok().and_then(crdt::Region::new);
    id.ok_or_else(|| "must be a number from 1 to 255".to_owned())
}

/// A name that can stand in a certificate's URI and in a path of the playground's control port.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_name = (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_plain);
    if is_name {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "must be 1 to {NAME_BYTES_MAX} letters, digits, '-', '_' or '.'"
        ))
    }
}

fn host_and_port(text: &str) -> Result<String, String> {
    let (host, port) = text.rsplit_once(':').unwrap_or_default();
    let is_port = port.parse::<u16>().is_ok_and(|port| port != 0);
    if host.is_empty() || !is_port {
        return Err("must be HOST:PORT".to_owned());
    }
    Ok(text.to_owned())
}

fn policy(text: &str) -> Result<Policy, String> {
    match text {
        "enterprise" => Ok(Policy::Enterprise),
        "non-clustered" => Ok(Policy::NonClustered),
        "oss" => Err("is not supported yet: it comes with clusters of nodes; \
                      use enterprise or non-clustered"
            .to_owned()),
        _ => Err("must be enterprise or non-clustered".to_owned()),
    }
}

fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| "must be an IP address, such as 127.0.0.1 or ::".to_owned())
}

fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .map_err(|_| "must be a port, 0 to 65535".to_owned())
}

fn number(text: &str, min: usize, max: usize) -> Result<usize, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| format!("must be a number from {min} to {max}"))
}

fn log_bytes(text: &str) -> Result<usize, String> {
    let bytes = units::size(text).filter(|bytes| GEO_LOG_BYTES_MIN <= *bytes);
    bytes.ok_or_else(|| "must be a size of at least 1MiB, such as 512MiB".to_owned())
}

fn disk_bytes(text: &str) -> Result<usize, String> {
    units::size(text).ok_or_else(|| "must be a size, such as 10GiB".to_owned())
}

fn time(text: &str, min: Duration) -> Result<Duration, String> {
    let time = units::duration(text).filter(|time| (min..=TIME_MAX).contains(time));
    time.ok_or_else(|| {
        format!(
            "must be a time from {}ms to 1h, with its unit, such as 500ms",
            min.as_millis()
        )
    })
}

/// A time after which a region that is silent is excluded.
pub(crate) fn horizon(text: &str) -> Result<Duration, String> {
    let fits = |time: &Duration| time.is_zero() || (HORIZON_MIN..=HORIZON_MAX).contains(time);
    units::duration(text)
        .filter(fits)
        .ok_or_else(|| "must be 0 for never, or a time from 3s to 8760h, such as 24h".to_owned())
}

/// A share of memory.
pub(crate) fn share(text: &str) -> Result<Share, String> {
    Share::parse(text)
        .ok_or_else(|| "must be a share of maxmemory such as 10%, or a size; 0 for any".to_owned())
}

fn filter(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err("must be error, warn, info, debug or trace, \
                  or a filter such as info,meridian::links=debug"
            .to_owned()),
    }
}

fn cores() -> usize {
    thread::available_parallelism()
        .map_or(1, usize::from)
        .min(THREADS_MAX)
}
