//! Where a playground keeps its files: a folder a node, with its settings and certificates.

use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::plan::{Region, Setup};

/// A folder; a temporary one is removed when dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    is_temporary: bool,
}

impl Folder {
    /// The one that is named, or a temporary one.
    pub(super) fn open(named: Option<&Path>) -> io::Result<Self> {
        let path = named.map_or_else(temporary, Path::to_path_buf);
        create(&path)?;
        // What is passed to a node must not depend on where it runs.
        Ok(Self {
            path: path.canonicalize()?,
            is_temporary: named.is_none(),
        })
    }

    /// The folder of a node, made if it is not there.
    pub(super) fn of_node(&self, node: &str) -> io::Result<PathBuf> {
        let path = self.path.join(node);
        create(&path)?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_temporary
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            let _ = writeln!(io::stderr(), "{} remains: {error}", self.path.display());
        }
    }
}

/// The settings of a region's node; `peers` are the other regions, and where it finds them.
pub(super) fn settings(
    setup: &Setup,
    region: &Region,
    geo: SocketAddr,
    peers: &[(&Region, SocketAddr)],
) -> String {
    let mut settings = table([
        ("database", super::DATABASE.into()),
        ("dir", "data".into()),
        ("region", region.name.as_str().into()),
        ("region-id", i64::from(region.id).into()),
        ("node", region.node.as_str().into()),
        ("port", i64::from(region.client_port).into()),
        ("policy", setup.policy.as_str().into()),
        ("admin-port", 0.into()),
        ("admin-token-file", "admin-token".into()),
    ]);
    if let Some(shards) = setup.shards {
        settings.insert("shards".to_owned(), i64::from(shards).into());
    }
    if !peers.is_empty() {
        settings.extend(table([
            ("geo-bind", geo.ip().to_string().into()),
            ("geo-port", i64::from(geo.port()).into()),
            ("geo-cert", "cert.pem".into()),
            ("geo-key", "key.pem".into()),
            ("geo-ca", "ca.pem".into()),
            (
                "peers",
                peers.iter().map(peer).collect::<Vec<Value>>().into(),
            ),
        ]));
    }
    format!("# Written anew at each start of the playground.\n{settings}")
}

fn peer((region, address): &(&Region, SocketAddr)) -> Value {
    let peer = table([
        ("id", i64::from(region.id).into()),
        ("name", region.name.as_str().into()),
        ("address", address.to_string().into()),
    ]);
    peer.into()
}

fn table<const N: usize>(values: [(&str, Value); N]) -> Table {
    values
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

fn temporary() -> PathBuf {
    let name = format!("meridian-playground-{:016x}", fastrand::u64(..));
    std::env::temp_dir().join(name)
}

/// Makes a folder that only its owner may enter; one that is there is fine.
fn create(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
