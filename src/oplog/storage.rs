//! Files of a data directory: what the op log and snapshots need of a file system, and no more.
//!
//! A trait, for the simulator has one of its own that tears, loses and flips what is not synced.
//! Names are relative to the data directory, with `/` between folder and file. What a crash may
//! undo is told at each call; what has been synced nothing undoes.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// See the module.
pub trait Storage: Send + Sync + Debug {
    /// The files of a folder, by name. A folder that is not there has none.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;
    /// Makes an empty file, and its folder. It is not there after a crash unless both are synced.
    fn create(&self, name: &str) -> io::Result<Arc<dyn Stored>>;
    /// Opens a file.
    fn open(&self, name: &str) -> io::Result<Arc<dyn Stored>>;
    /// Gives a file another name, at which no file may be open. After a crash it has one of them.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. After a crash it may be there again.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Syncs what was created, renamed and removed in a folder.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;
    /// Where a file is, for people.
    fn path(&self, name: &str) -> String;
}

/// A file of a [`Storage`].
pub trait Stored: Send + Sync + Debug {
    /// How many bytes it has.
    fn size(&self) -> io::Result<u64>;
    /// Writes bytes at a place: its end, or where they are already. A part of them may be there
    /// after an error, and what a crash leaves of them before they are synced is any part, in any
    /// order.
    fn append(&self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Reads up to so many bytes from a place; fewer only at the end of the file.
    fn read(&self, at: u64, bytes: usize) -> io::Result<Vec<u8>>;
    /// Cuts the file short.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
    /// Waits until all that was written is safe from a crash. After an error it must not be tried
    /// again: the system may have forgotten what it could not write.
    fn sync(&self) -> io::Result<()>;
}

/// A folder of the file system.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
}

impl Disk {
    /// The files below a folder, which is there.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

impl Storage for Disk {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.at(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn Stored>> {
        let path = self.at(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Stored>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.at(name))?;
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.at(from), self.at(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.at(name))
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        let path = self.at(folder);
        if path.is_dir() {
            File::open(path)?.sync_all()?;
        }
        // The folder itself may be new.
        File::open(&self.root)?.sync_all()
    }

    fn path(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }
}

impl Stored for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn append(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn read(&self, at: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut read = vec![0; bytes];
        let mut filled = 0;
        while filled < bytes {
            match self.read_at(&mut read[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        read.truncate(filled);
        Ok(read)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
