//! A node's data directory: whose it is, and that only one process has it.
//!
//! The lock is the system's, on the file `lock` in it, so it ends with its process however that
//! ends. What the file says is for people.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// The file that is locked.
const LOCK: &str = "lock";

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// The system says so.
    #[error("dir {}: {error}", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// Another process has it.
    #[error("dir {}: another node has it (process {owner}); give each node its own", path.display())]
    Taken {
        /// The directory.
        path: PathBuf,
        /// Which process.
        owner: String,
    },
}

/// A directory that is ours while this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Holds the lock.
    _lock: File,
}

impl DataDir {
    /// Takes a directory, made if it is not there.
    pub fn take(path: &Path) -> Result<Self, DirError> {
        let failed = |at: &Path| {
            let path = at.to_owned();
            |error| DirError::Io { path, error }
        };
        create(path).map_err(failed(path))?;
        let name = path.join(LOCK);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&name)
            .map_err(failed(&name))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut owner = String::new();
                let _ = lock.read_to_string(&mut owner);
                return Err(DirError::Taken {
                    path: path.to_owned(),
                    owner: owner.trim().to_owned(),
                });
            }
            Err(error) => return Err(failed(&name)(error.into())),
        }
        let written = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        written.map_err(failed(&name))?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes a folder and those that it is in, so that they are there after a crash.
fn create(path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent().filter(|_| !path.is_dir()) else {
        return Ok(());
    };
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    create(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_owner_and_a_second_is_told_who() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data");
        let first = DataDir::take(&path).expect("it is free");
        let error = DataDir::take(&path).expect_err("it is taken").to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        assert!(error.contains(&*path.to_string_lossy()), "{error}");
        drop(first);
        DataDir::take(&path).expect("it is free again");
    }
}
