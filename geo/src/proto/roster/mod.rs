//! Which regions a database has: a record that every region holds, and that merges.
//!
//! Each region has an entry by id and name: where its nodes are, how far it is on its way in or
//! out, who has confirmed it. Records merge entry by entry ([`Roster::merge`]): the order in which
//! they meet does not matter, nor how often. An entry never goes, so an id is never given twice
//! without somebody noticing: where two names claim an id, or two ids a name, that is a *clash*,
//! and nobody confirms either ([`Roster::clash`]).
//!
//! A region confirms another once nothing becomes stable at it without that other any more, not
//! before. A joining region writes when all have confirmed it ([`Roster::waits_for`]), and when it
//! holds what they held.

mod codec;
mod exclusion;
mod forget;

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crdt::{Epoch, Region};

pub use codec::RosterError;
pub use forget::ForgetError;

/// Regions that a record may name, those that clash and those that are gone included.
const ENTRIES_MAX: usize = 512;
/// Addresses of one region.
const ADDRESSES_MAX: usize = 8;
/// Bytes of an address.
const ADDRESS_BYTES_MAX: usize = 255;
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 63;

/// How far a region is on its way in or out. A later one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// A member from the start, by the configuration of whoever says so.
    Founding,
    /// It is being let in, and writes nothing yet.
    Joining,
    /// It has been let in.
    Member,
    /// It was silent for too long: it takes part no more, and is refused until it comes back with
    /// nothing.
    Excluded,
    /// An operator has sent it away: it takes part no more, and is refused until one lets it in.
    Forgotten,
}

/// What is known of one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// How often it has come back after it was forgotten. What is said of an earlier time does not
    /// count any more.
    pub incarnation: u32,
    /// How far it is.
    pub stage: Stage,
    /// Its epochs below this ended when it was forgotten; 0 if it never was.
    pub ended: Epoch,
    /// Where its nodes are, `host:port`.
    pub addresses: Vec<String>,
    /// How often these have been changed.
    pub revision: u32,
    /// Who counts on nothing any more that it has not acknowledged.
    pub confirmed: BTreeSet<Region>,
    /// Who does without it, since it was excluded or forgotten.
    pub without: BTreeSet<Region>,
}

impl Entry {
    fn merge(&mut self, other: &Self) {
        match self.incarnation.cmp(&other.incarnation) {
            Ordering::Less => {
                self.incarnation = other.incarnation;
                self.stage = other.stage;
                self.confirmed.clone_from(&other.confirmed);
                self.without.clone_from(&other.without);
            }
            Ordering::Equal => {
                self.stage = self.stage.max(other.stage);
                self.confirmed.extend(&other.confirmed);
                self.without.extend(&other.without);
            }
            Ordering::Greater => {}
        }
        self.ended = self.ended.max(other.ended);
        if (self.revision, &self.addresses) < (other.revision, &other.addresses) {
            self.revision = other.revision;
            self.addresses.clone_from(&other.addresses);
        }
    }

    /// Whether it takes part, or is about to.
    pub fn is_current(&self) -> bool {
        self.stage < Stage::Excluded
    }
}

/// A region that takes part no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// Its epochs below this have ended.
    pub ended: Epoch,
    /// Who has said that it does without it.
    pub without: BTreeSet<Region>,
}

/// Why a region cannot be added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// Another region has the id.
    #[error(
        "id {} is that of region {name}, and an id is never used again: take one that no region \
         has had",
        id.id()
    )]
    IdTaken {
        /// The id.
        id: Region,
        /// Whose it is.
        name: String,
    },
    /// A region of that name has another id.
    #[error("region {name} is there already, with id {}", id.id())]
    NameTaken {
        /// The name.
        name: String,
        /// Its id.
        id: Region,
    },
    /// It is there already.
    #[error("region {name} is there already")]
    Known {
        /// Its name.
        name: String,
    },
    /// Its name or address is none.
    #[error("{0}")]
    Malformed(#[from] RosterError),
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    entries: BTreeMap<(Region, String), Entry>,
}

impl Roster {
    /// Of a database of which nothing is known.
    pub const fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
        }
    }

    /// Whether it names nobody.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every region, by id and name.
    pub fn iter(&self) -> impl Iterator<Item = (Region, &str, &Entry)> {
        let entries = self.entries.iter();
        entries.map(|((id, name), entry)| (*id, name.as_str(), entry))
    }

    /// Every region that takes part or is about to, by id and name.
    pub fn current(&self) -> impl Iterator<Item = (Region, &str, &Entry)> {
        self.iter().filter(|(_, _, entry)| entry.is_current())
    }

    /// The ids of these.
    pub fn ids(&self) -> BTreeSet<Region> {
        self.current().map(|(id, _, _)| id).collect()
    }

    /// Those of them that are let in: not such that join while another claims the id or the name.
    pub fn let_in(&self) -> BTreeSet<Region> {
        let is_let_in = |&(id, name, entry): &(Region, &str, &Entry)| {
            entry.stage != Stage::Joining || self.clash(id, name).is_none()
        };
        let all = self.current().filter(is_let_in);
        all.map(|(id, _, _)| id).collect()
    }

    /// The entry of a region.
    pub fn get(&self, id: Region, name: &str) -> Option<&Entry> {
        self.entries.get(&(id, name.to_owned()))
    }

    /// Takes in what another record knows. Returns whether any of it is news.
    pub fn merge(&mut self, other: &Self) -> bool {
        let before = self.clone();
        for (key, theirs) in &other.entries {
            let ours = self.entries.entry(key.clone());
            ours.or_insert_with(|| theirs.clone()).merge(theirs);
        }
        // The first so many of all that anybody has: in whatever order they meet.
        while ENTRIES_MAX < self.entries.len() {
            self.entries.pop_last();
        }
        *self != before
    }

    /// Notes a region that the configuration names, at least so far on its way. Returns whether
    /// that is news.
    pub fn note(
        &mut self,
        id: Region,
        name: &str,
        addresses: &[String],
        stage: Stage,
    ) -> Result<bool, RosterError> {
        let entry = Entry {
            incarnation: 0,
            stage,
            ended: Epoch(0),
            addresses: addresses.to_vec(),
            revision: 0,
            confirmed: BTreeSet::new(),
            without: BTreeSet::new(),
        };
        let mut one = Self::new();
        one.entries.insert((id, name.to_owned()), entry);
        one.check()?;
        Ok(self.merge(&one))
    }

    /// Adds a region that is to join.
    pub fn add(&mut self, id: Region, name: &str, address: &str) -> Result<(), AddError> {
        if self.get(id, name).is_some() {
            let name = name.to_owned();
            return Err(AddError::Known { name });
        }
        for (known_id, known, _) in self.iter() {
            if known_id == id {
                let name = known.to_owned();
                return Err(AddError::IdTaken { id, name });
            }
            if known == name {
                let name = known.to_owned();
                return Err(AddError::NameTaken { name, id: known_id });
            }
        }
        if ENTRIES_MAX <= self.entries.len() {
            return Err(AddError::Malformed(RosterError::TooMany));
        }
        self.note(id, name, &[address.to_owned()], Stage::Joining)?;
        Ok(())
    }

    /// The region, other than this one, that claims its id or its name.
    pub fn clash(&self, id: Region, name: &str) -> Option<(Region, &str)> {
        let claims =
            |&(other_id, other, _): &(Region, &str, &Entry)| (other_id == id) != (other == name);
        self.iter().find(claims).map(|(id, name, _)| (id, name))
    }

    /// Has region `own` confirm those that join: it counts on nothing any more that they have not
    /// acknowledged; and that it does without those that take part no more. Returns whether that
    /// is news.
    pub fn confirm(&mut self, own: Region) -> bool {
        let joining: Vec<(Region, String)> = self
            .iter()
            .filter(|&(id, name, entry)| {
                entry.stage == Stage::Joining && id != own && self.clash(id, name).is_none()
            })
            .map(|(id, name, _)| (id, name.to_owned()))
            .collect();
        let mut news = self.do_without(own);
        for key in joining {
            if let Some(entry) = self.entries.get_mut(&key) {
                news |= entry.confirmed.insert(own);
            }
        }
        news
    }

    /// The regions that have yet to confirm one. Those that join themselves are among them: they
    /// could count on something, too, before they have heard of it.
    pub fn waits_for(&self, id: Region, name: &str) -> Vec<&str> {
        let Some(entry) = self.get(id, name) else {
            return Vec::new();
        };
        let others = self.current().filter(|&(other, _, _)| other != id);
        let missing = others.filter(|(other, _, _)| !entry.confirmed.contains(other));
        missing.map(|(_, name, _)| name).collect()
    }

    /// Whether a region may write once it holds what the others held: it is a member, or all have
    /// confirmed it.
    pub fn is_confirmed(&self, id: Region, name: &str) -> bool {
        self.get(id, name).is_some_and(|entry| {
            let is_alone = self.ids().len() < 2;
            match entry.stage {
                Stage::Founding | Stage::Member => true,
                Stage::Joining => !is_alone && self.waits_for(id, name).is_empty(),
                Stage::Excluded | Stage::Forgotten => false,
            }
        })
    }

    /// The regions that are refused. An id that another region claims is not among them.
    pub fn forgotten(&self) -> BTreeMap<Region, Gone> {
        let current = self.ids();
        let mut forgotten: BTreeMap<Region, Gone> = BTreeMap::new();
        for (id, _, entry) in self.iter().filter(|(id, _, _)| !current.contains(id)) {
            let theirs = Gone {
                ended: entry.ended,
                without: entry.without.clone(),
            };
            let gone = forgotten.entry(id).or_insert_with(|| theirs.clone());
            gone.ended = gone.ended.max(theirs.ended);
            // Of several of one id all must be done without.
            gone.without
                .retain(|region| theirs.without.contains(region));
        }
        forgotten
    }

    /// A region that joins is a member from now on. Returns whether it was not before.
    pub fn promote(&mut self, id: Region, name: &str) -> bool {
        let entry = self.entries.get_mut(&(id, name.to_owned()));
        entry.is_some_and(|entry| {
            let joins = entry.stage == Stage::Joining;
            if joins {
                entry.stage = Stage::Member;
            }
            joins
        })
    }
}
