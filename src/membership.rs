//! This node's record of regions: on disk, told to peers, and taken from them.
//!
//! What peers tell gathers here until somebody takes it in ([`Membership::change`]). A change is
//! stored and synced, then acted upon by whoever links with regions, then those that join are
//! confirmed, which is stored too; only then is it told to anybody. So whatever another node hears
//! from us, we keep to it after a crash. One change at a time; it waits for the disk.
//!
//! Without a data directory the record is as lasting as everything else.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crdt::{Epoch, Region};
use geo::proto::{Roster, RosterError, Stage};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::config::Config;
use crate::oplog::storage::Storage;

/// The file of the record, and the one that is to take its place.
pub(crate) const FILE: &str = "regions/record";
const PART: &str = "regions/record.part";
pub(crate) const FOLDER: &str = "regions";
/// A file that says that the region was forgotten and let back in.
pub(crate) const BACK: &str = "regions/let-back-in";
/// Bytes of the checksum in front of the record.
const CHECKSUM_BYTES: usize = 4;
/// Bytes of a file that can be a record.
const BYTES_MAX: u64 = 4 << 20;

/// Why there is no record of regions.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// The file cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// Which.
        path: String,
        /// What the system says.
        error: io::Error,
    },
    /// The file is damaged.
    #[error(
        "{path}: the record of regions is damaged: its checksum is wrong; without the file the \
         node takes the record of the others, if one of them is among its peers"
    )]
    Checksum {
        /// Which.
        path: String,
    },
    /// The file is something else.
    #[error("{path}: {error}")]
    Content {
        /// Which.
        path: String,
        /// Why.
        error: RosterError,
    },
    /// The record names regions, but nothing says how to reach any.
    #[error(
        "{path} names other regions ({names}), so geo-cert, geo-key and geo-ca are needed to talk \
         to them"
    )]
    NoGeo {
        /// The record.
        path: String,
        /// Which regions.
        names: String,
    },
    /// This life of the region is over.
    #[error(
        "the other regions have forgotten this one and let it back in, but what it holds is of the \
         time before: start its node again"
    )]
    Stale,
    /// What the configuration says cannot be in a record.
    #[error("the configured regions: {0}")]
    Configured(RosterError),
}

/// The record as it is told.
#[derive(Debug)]
struct Known {
    roster: Roster,
    revision: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Membership {
    own: (Region, String),
    storage: Option<Arc<dyn Storage>>,
    known: Mutex<Known>,
    heard: Mutex<Roster>,
    /// Held by whoever changes the record.
    turn: Mutex<()>,
    is_stale: AtomicBool,
    /// Whether this life holds nothing of those before, and has written nothing.
    is_fresh: AtomicBool,
    news: Notify,
}

impl Membership {
    /// Goes on from the record on disk and what the configuration says. `None` for a database that
    /// has one region, and knows of no other.
    pub fn start(
        config: &Config,
        storage: Option<Arc<dyn Storage>>,
    ) -> Result<Option<Self>, MembershipError> {
        let stored = match &storage {
            Some(storage) => read(&**storage)?,
            None => Roster::new(),
        };
        if config.peers.is_empty() && stored.is_empty() {
            return Ok(None);
        }
        let mut roster = stored.clone();
        let own = &config.region;
        let stage = if config.joins {
            Stage::Joining
        } else {
            Stage::Founding
        };
        if roster.get(own.id, &own.name).is_none() {
            let noted = roster.note(own.id, &own.name, &[], stage);
            noted.map_err(MembershipError::Configured)?;
        }
        for peer in &config.peers {
            let addresses = [peer.address.clone()];
            let region = &peer.region;
            if roster.get(region.id, &region.name).is_none() {
                let noted = roster.note(region.id, &region.name, &addresses, Stage::Founding);
                noted.map_err(MembershipError::Configured)?;
            }
        }
        if config.geo.is_none() {
            let others = roster.iter().filter(|&(id, _, _)| id != own.id);
            let names: Vec<&str> = others.map(|(_, name, _)| name).collect();
            return Err(MembershipError::NoGeo {
                path: storage.map_or_else(String::new, |storage| storage.path(FILE)),
                names: names.join(", "),
            });
        }
        if let Some(storage) = storage.as_ref().filter(|_| roster != stored) {
            write(&**storage, &roster)?;
        }
        Ok(Some(Self {
            own: (own.id, own.name.clone()),
            storage,
            known: Mutex::new(Known {
                roster,
                revision: 1,
            }),
            heard: Mutex::default(),
            turn: Mutex::default(),
            is_stale: AtomicBool::new(false),
            is_fresh: AtomicBool::new(false),
            news: Notify::new(),
        }))
    }

    /// The record.
    pub fn roster(&self) -> Roster {
        self.known.lock().roster.clone()
    }

    /// The bytes of the record and its revision, if that is not `known`.
    pub fn since(&self, known: u64) -> Option<(u64, Vec<u8>)> {
        let now = self.known.lock();
        (now.revision != known).then(|| (now.revision, now.roster.encode()))
    }

    /// Takes note of what a peer has, to be taken in by [`Self::change`]. Returns whom that lets
    /// in, if it is news: they count from now on, for what the peer says next it says knowing of
    /// them.
    pub fn hear(&self, roster: &Roster) -> BTreeSet<Region> {
        let mut all = self.known.lock().roster.clone();
        if !all.merge(roster) {
            return BTreeSet::new();
        }
        let mut heard = self.heard.lock();
        heard.merge(roster);
        all.merge(&heard);
        self.news.notify_one();
        let mut let_in = all.let_in();
        let_in.remove(&self.own.0);
        let_in
    }

    /// Waits until there is something to take in.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// There is something to look at.
    pub fn look(&self) {
        self.news.notify_one();
    }

    /// Whether this region is yet to be let in.
    pub fn joins(&self) -> bool {
        let known = self.known.lock();
        let own = known.roster.get(self.own.0, &self.own.1);
        own.is_some_and(|entry| entry.stage == Stage::Joining)
    }

    /// Whether the others do without this region.
    pub fn is_forgotten(&self) -> bool {
        let known = self.known.lock();
        let own = known.roster.get(self.own.0, &self.own.1);
        own.is_some_and(|entry| !entry.is_current())
    }

    /// Whether they do because they have not heard it for too long.
    pub fn is_excluded(&self) -> bool {
        let known = self.known.lock();
        let own = known.roster.get(self.own.0, &self.own.1);
        own.is_some_and(|entry| entry.stage == Stage::Excluded)
    }

    /// Says whether this life holds nothing of those before, and has written nothing: then it can
    /// be the one that is let back in.
    pub fn set_fresh(&self, is_fresh: bool) {
        self.is_fresh.store(is_fresh, Ordering::Relaxed);
    }

    /// Below which epochs those of this region have ended.
    pub fn ended(&self) -> Epoch {
        let known = self.known.lock();
        let own = known.roster.get(self.own.0, &self.own.1);
        own.map_or(Epoch(0), |entry| entry.ended)
    }

    /// Whether they have let it back in since, and do not mean this life of it.
    pub fn is_stale(&self) -> bool {
        self.is_stale.load(Ordering::Relaxed)
    }

    /// Who has yet to confirm this region; of a region that nobody has heard of, everybody.
    pub fn unconfirmed_by(&self) -> Vec<String> {
        let known = self.known.lock();
        let (id, name) = (self.own.0, &self.own.1);
        if let Some((other_id, other)) = known.roster.clash(id, name) {
            return vec![format!(
                "nobody: {other} has claimed id {} too",
                other_id.id()
            )];
        }
        if known.roster.is_confirmed(id, name) {
            return Vec::new();
        }
        let names = known.roster.waits_for(id, name);
        names.into_iter().map(ToOwned::to_owned).collect()
    }

    /// Changes the record, with what was heard: stores it, has `act` follow it, which gives the
    /// epochs below which regions have ended, confirms those that join, and tells it from then on.
    /// If it cannot be stored nothing changes.
    pub fn change<T, E: From<MembershipError>>(
        &self,
        change: impl FnOnce(&mut Roster) -> Result<T, E>,
        act: impl FnOnce(&Roster) -> Vec<(Region, Epoch)>,
    ) -> Result<T, E> {
        let _turn = self.turn.lock();
        let before = self.roster();
        let heard = self.heard.lock().clone();
        let mut after = before.clone();
        after.merge(&heard);
        let result = change(&mut after)?;
        self.check_life(&before, &after)?;
        self.store(&before, &after)?;
        let ended = act(&after);
        self.tell(after.clone());
        let mut confirmed = after.clone();
        for (id, below) in ended {
            confirmed.end(id, below);
        }
        confirmed.confirm(self.own.0);
        self.store(&after, &confirmed)?;
        self.tell(confirmed);
        Ok(result)
    }

    /// A region that has written cannot be the one that was let back in.
    fn check_life(&self, before: &Roster, after: &Roster) -> Result<(), MembershipError> {
        let own = |roster: &Roster| roster.get(self.own.0, &self.own.1).cloned();
        let (Some(before), Some(after)) = (own(before), own(after)) else {
            return Ok(());
        };
        let is_fresh = self.is_fresh.load(Ordering::Relaxed) || before.stage == Stage::Joining;
        let is_let_in = after.is_current() && before.incarnation < after.incarnation;
        if !is_fresh && is_let_in {
            if let Some(storage) = &self.storage {
                say_back(&**storage)?;
            }
            self.is_stale.store(true, Ordering::Relaxed);
            return Err(MembershipError::Stale);
        }
        Ok(())
    }

    /// What is told from now on.
    fn tell(&self, roster: Roster) {
        let mut known = self.known.lock();
        known.revision += u64::from(known.roster != roster);
        known.roster = roster;
    }

    fn store(&self, before: &Roster, after: &Roster) -> Result<(), MembershipError> {
        match &self.storage {
            Some(storage) if before != after => write(&**storage, after),
            _ => Ok(()),
        }
    }
}

/// Notes that this region was let back in, and that what its directory holds is to be put aside.
fn say_back(storage: &dyn Storage) -> Result<(), MembershipError> {
    if !is_back(storage)? {
        let made = storage.create(BACK).and_then(|file| file.sync());
        made.map_err(failed(storage, BACK))?;
    }
    storage.sync_folder(FOLDER).map_err(failed(storage, BACK))
}

/// Whether that was noted.
pub(crate) fn is_back(storage: &dyn Storage) -> Result<bool, MembershipError> {
    let names = storage.list(FOLDER).map_err(failed(storage, FOLDER))?;
    Ok(names.iter().any(|name| BACK.ends_with(&format!("/{name}"))))
}

fn failed(storage: &dyn Storage, name: &str) -> impl FnOnce(io::Error) -> MembershipError {
    let path = storage.path(name);
    |error| MembershipError::Io { path, error }
}

/// The record on disk; one of nobody, if there is none.
pub(crate) fn read(storage: &dyn Storage) -> Result<Roster, MembershipError> {
    let names = storage.list(FOLDER).map_err(failed(storage, FOLDER))?;
    if !names.iter().any(|name| FILE.ends_with(&format!("/{name}"))) {
        return Ok(Roster::new());
    }
    let io = |error| failed(storage, FILE)(error);
    let file = storage.open(FILE).map_err(io)?;
    let bytes = file.size().map_err(io)?.min(BYTES_MAX);
    let bytes = file.read(0, bytes as usize).map_err(io)?;
    let path = || storage.path(FILE);
    let (checksum, record) = bytes
        .split_at_checked(CHECKSUM_BYTES)
        .ok_or_else(|| MembershipError::Checksum { path: path() })?;
    if checksum != crc32c::crc32c(record).to_le_bytes() {
        return Err(MembershipError::Checksum { path: path() });
    }
    Roster::decode(record).map_err(|error| MembershipError::Content {
        path: path(),
        error,
    })
}

/// Writes the record beside, and has it take the place of the one before when it is synced.
pub(crate) fn write(storage: &dyn Storage, roster: &Roster) -> Result<(), MembershipError> {
    let io = |error| failed(storage, PART)(error);
    let names = storage.list(FOLDER).map_err(failed(storage, FOLDER))?;
    if names.iter().any(|name| PART.ends_with(&format!("/{name}"))) {
        storage.remove(PART).map_err(io)?;
    }
    let record = roster.encode();
    let bytes = [&crc32c::crc32c(&record).to_le_bytes(), record.as_slice()].concat();
    let file = storage.create(PART).map_err(io)?;
    file.append(0, &bytes).map_err(io)?;
    file.sync().map_err(io)?;
    drop(file);
    storage.rename(PART, FILE).map_err(io)?;
    storage.sync_folder(FOLDER).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Peer, RawConfig};
    use crate::oplog::faulty::{Fate, FaultyDisk, Trouble};

    fn region(id: u8) -> Region {
        Region::new(id).expect("not 0")
    }

    /// Region 1, with 2 as its peer.
    fn config() -> Config {
        let mut config = Config::load(&RawConfig::default()).expect("defaults are right");
        config.geo = Some(config::Geo {
            listen: ([127, 0, 0, 1], 0).into(),
            interface: None,
            compression: geo::net::Compression::default(),
            cert: "cert.pem".into(),
            key: "key.pem".into(),
            ca: "ca.pem".into(),
        });
        config.peers = vec![Peer {
            region: config::Region {
                id: region(2),
                name: "two".to_owned(),
            },
            address: "two:6390".to_owned(),
        }];
        config
    }

    fn start(disk: &FaultyDisk) -> Result<Membership, MembershipError> {
        let storage: Arc<dyn Storage> = Arc::new(disk.clone());
        let started = Membership::start(&config(), Some(storage))?;
        Ok(started.expect("there are peers"))
    }

    fn add(
        members: &Membership,
        act: impl FnOnce(&Roster) -> Vec<(Region, Epoch)>,
    ) -> Result<(), MembershipError> {
        let add = |roster: &mut Roster| {
            roster.add(region(3), "three", "three:6390").expect("free");
            Ok(())
        };
        members.change(add, act)
    }

    fn has_third(roster: &Roster) -> bool {
        roster.get(region(3), "three").is_some()
    }

    #[test]
    fn what_is_told_is_there_after_a_crash_at_any_step() {
        let disk = FaultyDisk::default();
        let members = start(&disk).expect("it starts");
        let steps = disk.steps();
        let mut acted = 0;
        add(&members, |_| {
            acted = disk.steps();
            Vec::new()
        })
        .expect("the disk is fine");
        let confirmed = |roster: &Roster| {
            let third = roster.get(region(3), "three");
            third.is_some_and(|entry| entry.confirmed.contains(&region(1)))
        };
        assert!(confirmed(&members.roster()));
        for crash in steps..=disk.steps() {
            let open = disk.unsynced(crash);
            for fates in 0..3_u32.pow(open.len() as u32) {
                let fate = |at| {
                    let place = open.iter().position(|(step, _)| *step == at).expect("open");
                    match fates / 3_u32.pow(place as u32) % 3 {
                        0 => Fate::Happened,
                        1 => Fate::Lost,
                        _ => Fate::Torn(open[place].1 / 2),
                    }
                };
                let found = start(&disk.after_crash(crash, fate));
                let roster = found.expect("it is never half written").roster();
                assert!(crash < acted || has_third(&roster), "acted upon at {crash}");
                assert!(
                    crash < disk.steps() || confirmed(&roster),
                    "told at {crash}"
                );
            }
        }
    }

    #[test]
    fn what_cannot_be_stored_is_neither_done_nor_told() {
        let disk = FaultyDisk::default();
        let members = start(&disk).expect("it starts");
        let (revision, _) = members.since(0).expect("there is one");
        let trouble = Trouble {
            sync_fails: true,
            ..Trouble::default()
        };
        disk.trouble(trouble);
        let failed = add(&members, |_| panic!("it is not acted upon"));
        let error = failed.expect_err("the sync fails").to_string();
        assert!(error.contains("regions/record"), "{error}");
        assert_eq!(members.since(revision), None);
        // What a peer has told is not forgotten meanwhile.
        let mut heard = Roster::new();
        heard.add(region(3), "three", "three:6390").expect("free");
        let counts = members.hear(&heard);
        assert!(
            counts.contains(&region(3)),
            "it holds things up from now on"
        );
        disk.trouble(Trouble::default());
        let nothing = |_: &mut Roster| Ok::<_, MembershipError>(());
        members
            .change(nothing, |_| Vec::new())
            .expect("the disk is fine again");
        assert!(members.since(revision).is_some() && has_third(&members.roster()));
    }

    #[test]
    fn a_record_that_is_damaged_is_refused_with_its_place() {
        let disk = FaultyDisk::default();
        start(&disk).expect("it starts");
        for bit in [0, 40, 200] {
            disk.flip(FILE, bit);
            let error = start(&disk).expect_err("damaged").to_string();
            assert!(error.contains(FILE), "{error}");
            disk.flip(FILE, bit);
        }
        assert!(start(&disk).is_ok());
    }

    #[test]
    fn the_record_wins_over_the_settings_and_needs_certificates() {
        let disk = FaultyDisk::default();
        let members = start(&disk).expect("it starts");
        add(&members, |_| Vec::new()).expect("the disk is fine");
        let alone = Config {
            peers: Vec::new(),
            geo: None,
            ..config()
        };
        let storage: Arc<dyn Storage> = Arc::new(disk);
        let error = Membership::start(&alone, Some(storage)).expect_err("no certificates");
        assert!(error.to_string().contains("two, three"), "{error}");
        let fresh: Arc<dyn Storage> = Arc::new(FaultyDisk::default());
        let none = Membership::start(&alone, Some(fresh)).expect("one region");
        assert!(none.is_none());
    }

    #[test]
    fn a_life_that_has_written_is_not_the_one_that_is_let_back_in() {
        let disk = FaultyDisk::default();
        let members = start(&disk).expect("it starts");
        let mut theirs = members.roster();
        theirs
            .forget(region(2), "local", Epoch(9))
            .expect("another");
        members.hear(&theirs);
        let nothing = |_: &mut Roster| Ok::<_, MembershipError>(());
        members
            .change(nothing, |_| Vec::new())
            .expect("it is stored");
        assert!(members.is_forgotten() && !members.is_stale());
        theirs.rejoin("local").expect("it was forgotten");
        members.hear(&theirs);
        for members in [members, start(&disk).expect("it starts")] {
            assert!(members.is_forgotten(), "after a restart, too");
            members.hear(&theirs);
            let refused = members.change(nothing, |_| panic!("it is not acted upon"));
            assert!(matches!(refused, Err(MembershipError::Stale)));
            assert!(members.is_stale() && members.is_forgotten());
        }
    }
}
