//! A storage in memory that loses and tears what was not synced, as disks do: for the simulation
//! and for tests of whatever is stored.
//!
//! It remembers every step that was taken. A crash is a prefix of these and, of each step in it
//! that nothing has made durable since, whether it has happened: whole, not at all, or a part.
//! What was written before a sync that failed is never durable, whatever sync succeeds later, in
//! this process or the next, though it can be read: it has to be written once more.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
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

/// A step, which of all it was, and which later one has made it durable.
#[derive(Clone, Debug)]
struct Taken {
    number: usize,
    step: Step,
    durable_by: Option<usize>,
    /// How many there were when a sync that was about it failed.
    failed_at: Option<usize>,
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

/// Files, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Image {
    names: BTreeMap<String, usize>,
    files: Vec<Vec<u8>>,
}

/// What a sync makes durable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    File(usize),
    Folder(String),
}

#[derive(Debug, Default)]
struct Inner {
    /// What is read.
    now: Image,
    /// What steps have come to that were durable when they were last forgotten.
    base: Image,
    /// Steps since then, and those before that were not durable.
    steps: Vec<Taken>,
    /// How many there were, and how many when some were forgotten.
    taken: usize,
    forgotten: usize,
    /// By what would make them durable: the numbers of those that are not.
    open: BTreeMap<Scope, Vec<usize>>,
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
        self.inner.lock().taken
    }

    /// Of the first steps, those that nothing has made durable, and how many bytes each appends.
    pub fn unsynced(&self, steps: usize) -> Vec<(usize, usize)> {
        let inner = self.inner.lock();
        let open = inner.first(steps).filter(|taken| !taken.is_durable(steps));
        open.map(|taken| (taken.number, taken.step.bytes()))
            .collect()
    }

    /// What is found after a crash that came when so many steps had been taken. `fate` decides of
    /// each that was not durable.
    ///
    /// # Panics
    ///
    /// If some of what came later is forgotten.
    #[must_use]
    pub fn after_crash(&self, steps: usize, mut fate: impl FnMut(usize) -> Fate) -> Self {
        let inner = self.inner.lock();
        assert!(inner.forgotten <= steps, "what was there is forgotten");
        let mut found = inner.base.clone();
        for taken in inner.first(steps) {
            let fate = if taken.is_durable(steps) {
                Fate::Happened
            } else {
                fate(taken.number)
            };
            if fate != Fate::Lost {
                found.apply(&taken.step, fate);
            }
        }
        Self::with(found)
    }

    /// All that can be found after a crash that came when so many steps had been taken, each once:
    /// every one of them that was not durable has happened, has not, or half of it has.
    ///
    /// # Panics
    ///
    /// If some of what came later is forgotten.
    #[must_use]
    pub fn crashes(&self, steps: usize) -> Vec<Self> {
        let inner = self.inner.lock();
        assert!(inner.forgotten <= steps, "what was there is forgotten");
        let mut images = BTreeSet::from([inner.base.clone()]);
        for taken in inner.first(steps) {
            let mut next = BTreeSet::new();
            for image in images {
                if !taken.is_durable(steps) {
                    next.insert(image.after(&taken.step, Fate::Torn(taken.step.bytes() / 2)));
                    next.insert(image.clone());
                }
                next.insert(image.after(&taken.step, Fate::Happened));
            }
            images = next;
        }
        images.into_iter().map(Self::with).collect()
    }

    /// One with these files. All of it is durable: a later crash begins with it.
    fn with(image: Image) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                base: image.clone(),
                now: image,
                ..Inner::default()
            })),
        }
    }

    /// What is found after the process was killed when so many steps had been taken: all that it
    /// had written is there, and what was not synced can still be lost. What a sync was about that
    /// has failed can be lost whatever is synced from now on.
    #[must_use]
    pub fn after_kill(&self, steps: usize) -> Self {
        let inner = self.inner.lock();
        let mut found = Inner {
            now: inner.base.clone(),
            base: inner.base.clone(),
            taken: inner.steps.first().map_or(0, |taken| taken.number),
            ..Inner::default()
        };
        for taken in inner.first(steps) {
            found.taken = taken.number;
            found.take(taken.step.clone());
            if let Some(by) = taken.durable_by.filter(|_| taken.is_durable(steps)) {
                found.settle(taken.number, by);
            }
            if let Some(at) = taken.failed_at.filter(|at| *at <= steps) {
                found.fail(taken.number, at);
            }
        }
        found.taken = steps;
        found.forgotten = inner.forgotten.min(steps);
        Self {
            inner: Arc::new(Mutex::new(found)),
        }
    }

    /// Forgets what a crash before now would leave, which has its cost. What came after a step that
    /// is not durable stays as long as that does, where it is about the same: a crash undoes the
    /// one, and not the order.
    pub fn forget(&self) {
        let mut inner = self.inner.lock();
        let Inner { base, steps, .. } = &mut *inner;
        let mut open: BTreeSet<Scope> = BTreeSet::new();
        steps.retain(|taken| {
            let scope = scope(&taken.step);
            let is_behind = scope.as_ref().is_some_and(|scope| open.contains(scope));
            if taken.durable_by.is_some() && !is_behind {
                base.apply(&taken.step, Fate::Happened);
                return false;
            }
            open.extend(scope);
            true
        });
        inner.forgotten = inner.taken;
    }

    /// Has things go wrong, or well again.
    pub fn trouble(&self, trouble: Trouble) {
        self.inner.lock().trouble = trouble;
    }

    /// Changes a bit of a file.
    pub fn flip(&self, name: &str, bit: u64) {
        let mut inner = self.inner.lock();
        let Inner { now, base, .. } = &mut *inner;
        for image in [now, base] {
            let file = image
                .names
                .get(name)
                .and_then(|&file| image.files.get_mut(file));
            if let Some(byte) = file.and_then(|file| file.get_mut((bit / 8) as usize)) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// The bytes of a file.
    pub fn content(&self, name: &str) -> Vec<u8> {
        let inner = self.inner.lock();
        inner.now.files[inner.now.names[name]].clone()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.inner.lock().now.bytes()
    }

    /// A hash of the names of all files, and of the bytes of those whose content matters.
    pub fn fingerprint(&self, matters: impl Fn(&str) -> bool) -> u64 {
        let Inner { now, .. } = &*self.inner.lock();
        let mut hasher = DefaultHasher::new();
        for (name, &file) in &now.names {
            (name, matters(name).then(|| &now.files[file])).hash(&mut hasher);
        }
        hasher.finish()
    }
}

impl Step {
    /// How many bytes it appends.
    const fn bytes(&self) -> usize {
        if let Self::Append(_, _, bytes) = self {
            bytes.len()
        } else {
            0
        }
    }
}

impl Taken {
    /// Whether it was when so many steps had been taken.
    fn is_durable(&self, steps: usize) -> bool {
        self.durable_by.is_some_and(|by| by < steps)
    }
}

/// What would make a step durable; those that sync are when they return.
fn scope(step: &Step) -> Option<Scope> {
    match step {
        Step::Sync(_) | Step::SyncFolder(_) => None,
        Step::Append(file, ..) | Step::Truncate(file, _) => Some(Scope::File(*file)),
        Step::Create(name, _) | Step::Rename(_, name) | Step::Remove(name) => {
            Some(Scope::Folder(folder_of(name).to_owned()))
        }
    }
}

fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn not_found(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{name}: not found"))
}

impl Image {
    fn apply(&mut self, step: &Step, fate: Fate) {
        match step {
            Step::Create(name, file) => {
                self.names.insert(name.clone(), *file);
                self.file(*file);
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
                let file = self.file(*file);
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
            Step::Truncate(file, bytes) => self.file(*file).truncate(*bytes as usize),
            Step::Sync(_) | Step::SyncFolder(_) => {}
        }
    }

    fn file(&mut self, file: usize) -> &mut Vec<u8> {
        if self.files.len() <= file {
            self.files.resize_with(file + 1, Vec::new);
        }
        &mut self.files[file]
    }

    /// What it is after a step, without what can be reached by no name and never will be.
    fn after(&self, step: &Step, fate: Fate) -> Self {
        let mut after = self.clone();
        after.apply(step, fate);
        for (file, bytes) in after.files.iter_mut().enumerate() {
            if !bytes.is_empty() && !after.names.values().any(|&named| named == file) {
                bytes.clear();
            }
        }
        after
    }

    fn bytes(&self) -> u64 {
        let bytes = |&file: &usize| self.files[file].len() as u64;
        self.names.values().map(bytes).sum()
    }
}

impl Inner {
    /// Those of the first steps that are not forgotten.
    fn first(&self, steps: usize) -> impl Iterator<Item = &Taken> {
        self.steps
            .iter()
            .take_while(move |taken| taken.number < steps)
    }

    fn take(&mut self, step: Step) {
        self.now.apply(&step, Fate::Happened);
        let number = self.taken;
        self.taken += 1;
        let durable = match &step {
            Step::Sync(file) => self.open.remove(&Scope::File(*file)),
            Step::SyncFolder(folder) => self.open.remove(&Scope::Folder(folder.clone())),
            Step::Create(..)
            | Step::Rename(..)
            | Step::Remove(_)
            | Step::Append(..)
            | Step::Truncate(..) => None,
        };
        for earlier in durable.unwrap_or_default() {
            let at = self.steps.partition_point(|taken| taken.number < earlier);
            self.steps[at].durable_by = Some(number);
        }
        let scope = scope(&step);
        let durable_by = scope.is_none().then_some(number);
        if let Some(scope) = scope {
            self.open.entry(scope).or_default().push(number);
        }
        self.steps.push(Taken {
            number,
            step,
            durable_by,
            failed_at: None,
        });
    }

    /// No later sync makes this step durable.
    fn fail(&mut self, number: usize, at: usize) {
        self.close(number).failed_at = Some(at);
    }

    /// This step is durable by that one, which may be forgotten.
    fn settle(&mut self, number: usize, by: usize) {
        self.close(number).durable_by = Some(by);
    }

    /// A step of which no later one decides whether it is durable.
    fn close(&mut self, number: usize) -> &mut Taken {
        for open in self.open.values_mut() {
            open.retain(|&other| other != number);
        }
        let place = self.steps.partition_point(|taken| taken.number < number);
        &mut self.steps[place]
    }

    /// Syncs, or fails: then no later sync makes durable what this one was about.
    fn sync(&mut self, step: Step, scope: &Scope) -> io::Result<()> {
        if self.trouble.sync_fails {
            for number in self.open.remove(scope).unwrap_or_default() {
                self.fail(number, self.taken);
            }
            return Err(io::Error::other("the disk does not sync"));
        }
        self.take(step);
        Ok(())
    }

    fn has_room(&self, more: usize) -> bool {
        self.trouble
            .room
            .is_none_or(|room| self.now.bytes() + more as u64 <= room)
    }
}

impl Storage for FaultyDisk {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let inner = self.inner.lock();
        let names = inner.now.names.keys();
        let names = names.filter(|name| folder_of(name) == folder);
        Ok(names
            .map(|name| name.rsplit('/').next().unwrap_or(name).to_owned())
            .collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn Stored>> {
        let mut inner = self.inner.lock();
        if inner.now.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if inner.trouble.append_fails {
            return Err(io::Error::other("the disk does not write"));
        }
        let file = inner.now.files.len();
        inner.take(Step::Create(name.to_owned(), file));
        Ok(Arc::new(FaultyFile {
            disk: self.clone(),
            file,
        }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Stored>> {
        let inner = self.inner.lock();
        let &file = inner.now.names.get(name).ok_or_else(|| not_found(name))?;
        Ok(Arc::new(FaultyFile {
            disk: self.clone(),
            file,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.inner.lock();
        if !inner.now.names.contains_key(from) {
            return Err(not_found(from));
        }
        inner.take(Step::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.inner.lock();
        if !inner.now.names.contains_key(name) {
            return Err(not_found(name));
        }
        inner.take(Step::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        let scope = Scope::Folder(folder.to_owned());
        let step = Step::SyncFolder(folder.to_owned());
        self.inner.lock().sync(step, &scope)
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
        Ok(self.disk.inner.lock().now.files[self.file].len() as u64)
    }

    fn append(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.disk.inner.lock();
        if inner.trouble.append_fails {
            return Err(io::Error::other("the disk does not write"));
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
        let rest = inner.now.files[self.file]
            .get(at as usize..)
            .unwrap_or_default();
        Ok(rest[..rest.len().min(bytes)].to_vec())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut inner = self.disk.inner.lock();
        inner.take(Step::Truncate(self.file, bytes));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let scope = Scope::File(self.file);
        self.disk.inner.lock().sync(Step::Sync(self.file), &scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a failed sync was about and what was written once more after it, when all else is
    /// forgotten: the old does not come after the new.
    #[test]
    fn what_is_never_durable_stays_before_what_is() {
        let disk = FaultyDisk::default();
        let file = disk.create("log/1").expect("it can be made");
        disk.sync_folder("log").expect("it syncs");
        file.append(0, b"first").expect("there is room");
        file.truncate(0).expect("it can be cut");
        let sync_fails = true;
        disk.trouble(Trouble {
            sync_fails,
            ..Trouble::default()
        });
        assert!(file.sync().is_err());
        disk.trouble(Trouble::default());
        file.append(0, b"again").expect("there is room");
        file.sync().expect("it syncs");
        for disk in [disk.clone(), disk.after_kill(disk.steps())] {
            disk.forget();
            for disk in [disk.clone(), disk.after_kill(disk.steps())] {
                for fate in [Fate::Happened, Fate::Lost, Fate::Torn(2)] {
                    let left = disk.after_crash(disk.steps(), |_| fate);
                    assert_eq!(left.content("log/1"), b"again", "{fate:?}");
                }
            }
        }
    }
}
