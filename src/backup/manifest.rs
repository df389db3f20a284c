//! What a backup says of itself: `manifest.json`, for people and for whoever restores it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::membership;

/// The file.
pub(super) const NAME: &str = "manifest.json";
/// The format that this build writes, and the newest that it reads.
pub(super) const FORMAT: u32 = 1;

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Of this file and of what it lists.
    pub format: u32,
    /// The build that made it.
    pub build: String,
    /// The database.
    pub database: String,
    /// The region's id.
    pub region: u8,
    /// The node.
    pub node: String,
    /// How many shards the database has.
    pub shards: u16,
    /// When it was asked for, milliseconds since 1970: all that was acknowledged before is in it.
    pub begun_ms: u64,
    /// When it was finished.
    pub finished_ms: u64,
    /// By shard, the last op of each origin that was in it for certain: `region.epoch.time`.
    pub version: Vec<Vec<String>>,
    /// What belongs to it besides.
    pub files: Vec<Listed>,
}

/// A file of a backup.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listed {
    /// Its name in the backup, and in a data directory.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// Their CRC-32C.
    pub crc32c: u32,
}

/// Why a manifest cannot be gone by.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not there, or cannot be read.
    #[error("{path}: {error}; a backup that was not finished has none", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// It is none.
    #[error("{path}: {why}; take another backup", path = path.display())]
    Bad {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A later build wrote it.
    #[error(
        "{path}: format {format} is newer than {FORMAT}, the newest that this build reads; \
             restore it with build {build}",
        path = path.display()
    )]
    TooNew {
        /// Which.
        path: PathBuf,
        /// Its format.
        format: u32,
        /// Who wrote it.
        build: String,
    },
}

impl Manifest {
    /// Reads that of a backup.
    pub(super) fn read(backup: &Path) -> Result<Self, ManifestError> {
        let path = backup.join(NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => return Err(ManifestError::Io { path, error }),
        };
        // The format first: a later one may look otherwise.
        let bad = |error: serde_json::Error| ManifestError::Bad {
            path: path.clone(),
            why: error.to_string(),
        };
        let value: serde_json::Value = serde_json::from_str(&text).map_err(bad)?;
        let format = value["format"].as_u64().unwrap_or_default();
        if u64::from(FORMAT) < format {
            return Err(ManifestError::TooNew {
                format: u32::try_from(format).unwrap_or(u32::MAX),
                build: value["build"].as_str().unwrap_or("?").to_owned(),
                path,
            });
        }
        let manifest: Self = serde_json::from_value(value).map_err(bad)?;
        match manifest.fault() {
            None => Ok(manifest),
            Some(why) => Err(ManifestError::Bad { path, why }),
        }
    }

    fn fault(&self) -> Option<String> {
        let is_plain = |name: &str| {
            let mut parts = name.split('/');
            let folder = parts.next().unwrap_or_default();
            let file = parts.next().unwrap_or_default();
            let is_ours = matches!(folder, "log" | "snapshot") && parts.next().is_none();
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.';
            let is_named = !file.starts_with('.') && file.bytes().all(is_name);
            name == membership::FILE || (is_ours && !file.is_empty() && is_named)
        };
        if self.format == 0 || self.region == 0 || self.shards == 0 {
            return Some("format, region or shards is 0".to_owned());
        }
        let stranger = self.files.iter().find(|file| !is_plain(&file.name));
        if let Some(stranger) = stranger {
            return Some(format!("{} is no file of a backup", stranger.name));
        }
        let has_log = self.files.iter().any(|file| file.name.starts_with("log/"));
        (!has_log).then(|| "it lists no segment of a log".to_owned())
    }
}
