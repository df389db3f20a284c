//! A storage in memory that loses and tears what was not synced, as disks do: for the simulation
//! and for tests of whatever is stored.
//!
//! It remembers every step that was taken. A crash is a prefix of these and, of each step in it
//! that nothing has made durable since, whether it has happened: whole, not at all, or a part.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::storage::{Storage, Stored};

/// One thing that was asked of the storage.
#[derive(Clone, Debug)]
enum Step {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
    SyncFolder(String),
    Append(usize, u64, Vec<u8>),
    Truncate(usize, u64),
    Sync(usize),
}

/// What has become of a step that nothing had made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has happened.
    Happened,
    /// It has not.
    Lost,
    /// So many bytes of it have, and the rest is zeros; it is as [`Fate::Happened`] where there are
    /// no bytes.
    Torn(usize),
}

/// What goes wrong from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Appends and new files find no room once files have so many bytes.
    pub room: Option<u64>,
    /// Syncs fail.
    pub sync_fails: bool,
    /// Appends fail.
    pub append_fails: bool,
}

#[derive(Debug, Default)]
struct Inner {
    names: BTreeMap<String, usize>,
    files: Vec<Vec<u8>>,
    steps: Vec<Step>,
    trouble: Trouble,
}

/// See the module.
#[derive(Clone, Default)]
pub struct FaultyDisk {
    inner: Arc<Mutex<Inner>>,
}

impl std::fmt::Debug for FaultyDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FaultyDisk({} steps)", self.steps())
    }
}

impl FaultyDisk {
    /// How many steps were taken.
    pub fn steps(&self) -> usize {
        self.inner.lock().steps.len()
    }

    /// Of the first steps, those that nothing has made durable, and how many bytes each appends.
    pub fn unsynced(&self, steps: usize) -> Vec<(usize, usize)> {
        let inner = self.inner.lock();
        let taken = &inner.steps[..steps];
        let bytes = |step: &Step| {
            if let Step::Append(_, _, bytes) = step {
                bytes.len()
            } else {
                0
            }
        };
        let open = (0..steps).filter(|&at| !is_durable(taken, at));
        open.map(|at| (at, bytes(&taken[at]))).collect()
    }

    /// What is found after a crash that came when so many steps had been taken. `fate` decides of
    /// each that was not durable.
    #[must_use]
    pub fn after_crash(&self, steps: usize, mut fate: impl FnMut(usize) -> Fate) -> Self {
        let inner = self.inner.lock();
        let taken = &inner.steps[..steps];
        let mut found = Inner {
            files: vec![Vec::new(); inner.files.len()],
            ..Inner::default()
        };
        for (at, step) in taken.iter().enumerate() {
            let fate = if is_durable(taken, at) {
                Fate::Happened
            } else {
                fate(at)
            };
            if fate != Fate::Lost {
                found.apply(step, fate);
            }
        }
        // From here on it is durable: a later crash begins with it.
        let names: Vec<(String, usize)> = found.names.clone().into_iter().collect();
        for (name, file) in names {
            let content = found.files[file].clone();
            found.steps.push(Step::Create(name.clone(), file));
            found.steps.push(Step::Append(file, 0, content));
            found.steps.push(Step::Sync(file));
            let folder = folder_of(&name).to_owned();
            found.steps.push(Step::SyncFolder(folder));
        }
        Self {
            inner: Arc::new(Mutex::new(found)),
        }
    }

    /// Has things go wrong, or well again.
    pub fn trouble(&self, trouble: Trouble) {
        self.inner.lock().trouble = trouble;
    }

    /// Changes a bit of a file.
    pub fn flip(&self, name: &str, bit: u64) {
        let mut inner = self.inner.lock();
        let file = inner.names[name];
        inner.files[file][(bit / 8) as usize] ^= 1 << (bit % 8);
    }

    /// The bytes of a file.
    pub fn content(&self, name: &str) -> Vec<u8> {
        let inner = self.inner.lock();
        inner.files[inner.names[name]].clone()
    }
}

/// Whether a later step among these has made one durable.
fn is_durable(steps: &[Step], at: usize) -> bool {
    let later = &steps[at + 1..];
    match &steps[at] {
        Step::Sync(_) | Step::SyncFolder(_) => true,
        Step::Append(file, ..) | Step::Truncate(file, _) => later
            .iter()
            .any(|step| matches!(step, Step::Sync(synced) if synced == file)),
        Step::Create(name, _) | Step::Rename(_, name) | Step::Remove(name) => later
            .iter()
            .any(|step| matches!(step, Step::SyncFolder(folder) if folder == folder_of(name))),
    }
}

fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn not_found(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{name}: not found"))
}

impl Inner {
    fn apply(&mut self, step: &Step, fate: Fate) {
        match step {
            Step::Create(name, file) => {
                self.names.insert(name.clone(), *file);
            }
            Step::Rename(from, to) => {
                if let Some(file) = self.names.remove(from) {
                    self.names.insert(to.clone(), file);
                }
            }
            Step::Remove(name) => {
                self.names.remove(name);
            }
            Step::Append(file, at, bytes) => {
                let file = &mut self.files[*file];
                let (start, end) = (*at as usize, *at as usize + bytes.len());
                if file.len() < end {
                    file.resize(end, 0);
                }
                let kept = match fate {
                    Fate::Torn(kept) => kept.min(bytes.len()),
                    Fate::Happened | Fate::Lost => bytes.len(),
                };
                file[start..start + kept].copy_from_slice(&bytes[..kept]);
            }
            Step::Truncate(file, bytes) => self.files[*file].truncate(*bytes as usize),
            Step::Sync(_) | Step::SyncFolder(_) => {}
        }
    }

    fn take(&mut self, step: Step) {
        self.apply(&step, Fate::Happened);
        self.steps.push(step);
    }

    fn has_room(&self, more: usize) -> bool {
        let used: usize = self
            .names
            .values()
            .map(|&file| self.files[file].len())
            .sum();
        self.trouble
            .room
            .is_none_or(|room| (used + more) as u64 <= room)
    }
}

impl Storage for FaultyDisk {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let inner = self.inner.lock();
        let names = inner.names.keys().filter(|name| folder_of(name) == folder);
        Ok(names
            .map(|name| name.rsplit('/').next().unwrap_or(name).to_owned())
            .collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn Stored>> {
        let mut inner = self.inner.lock();
        if inner.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if inner.trouble.append_fails {
            return Err(io::ErrorKind::Other.into());
        }
        let file = inner.files.len();
        inner.files.push(Vec::new());
        inner.take(Step::Create(name.to_owned(), file));
        Ok(Arc::new(FaultyFile {
            disk: self.clone(),
            file,
        }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Stored>> {
        let inner = self.inner.lock();
        let &file = inner.names.get(name).ok_or_else(|| not_found(name))?;
        Ok(Arc::new(FaultyFile {
            disk: self.clone(),
            file,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.inner.lock();
        if !inner.names.contains_key(from) {
            return Err(not_found(from));
        }
        inner.take(Step::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.inner.lock();
        if !inner.names.contains_key(name) {
            return Err(not_found(name));
        }
        inner.take(Step::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        let mut inner = self.inner.lock();
        if inner.trouble.sync_fails {
            return Err(io::ErrorKind::Other.into());
        }
        inner.take(Step::SyncFolder(folder.to_owned()));
        Ok(())
    }

    fn path(&self, name: &str) -> String {
        name.to_owned()
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: FaultyDisk,
    file: usize,
}

impl Stored for FaultyFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.inner.lock().files[self.file].len() as u64)
    }

    fn append(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.disk.inner.lock();
        if inner.trouble.append_fails {
            return Err(io::ErrorKind::Other.into());
        }
        if !inner.has_room(bytes.len()) {
            // As a disk does, a part of it.
            let part = bytes[..bytes.len() / 2].to_vec();
            inner.take(Step::Append(self.file, at, part));
            return Err(io::ErrorKind::StorageFull.into());
        }
        inner.take(Step::Append(self.file, at, bytes.to_vec()));
        Ok(())
    }

    fn read(&self, at: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let inner = self.disk.inner.lock();
        let rest = inner.files[self.file]
            .get(at as usize..)
            .unwrap_or_default();
        Ok(rest[..rest.len().min(bytes)].to_vec())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.disk
            .inner
            .lock()
            .take(Step::Truncate(self.file, bytes));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.disk.inner.lock();
        if inner.trouble.sync_fails {
            return Err(io::ErrorKind::Other.into());
        }
        inner.take(Step::Sync(self.file));
        Ok(())
    }
}
