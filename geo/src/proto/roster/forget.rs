//! Forgetting a region by hand, and letting it back in.
//!
//! A region is meant by its name, or by `#` and its id. Where two have one name, as two operators
//! can have added them at the same time and apart, only the id says which is meant, and where two
//! have one id, only the name.

use crdt::{Epoch, Region};

use super::{Entry, Roster, Stage};

/// Why a region cannot be forgotten, or let back in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForgetError {
    /// There is none of that name.
    #[error("there is no region {name}; regions: {known}")]
    Unknown {
        /// The name.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// There are several.
    #[error("{name} can be any of {known}: say which, by #ID or by name")]
    Ambiguous {
        /// What was said.
        name: String,
        /// Whom that can mean.
        known: String,
    },
    /// It is the one that was asked.
    #[error("region {name} is this one: ask a region that stays")]
    Own {
        /// Its name.
        name: String,
    },
    /// It takes part.
    #[error("region {name} has not been forgotten, so it needs not be let back in")]
    Current {
        /// Its name.
        name: String,
    },
}

fn listed<'a>(regions: impl Iterator<Item = (Region, &'a str)>) -> String {
    let listed = regions.map(|(id, name)| format!("{name} (#{})", id.id()));
    listed.collect::<Vec<_>>().join(", ")
}

impl Roster {
    /// Region `own` forgets another, whose epochs below `ended` are over. Returns whether it had
    /// not been forgotten.
    pub fn forget(&mut self, own: Region, name: &str, ended: Epoch) -> Result<bool, ForgetError> {
        let (id, known) = self.find(name)?;
        if self.is_of(own, id, &known) {
            return Err(ForgetError::Own { name: known });
        }
        let entry = self.entry(id, &known);
        let is_new = entry.stage != Stage::Forgotten;
        entry.stage = Stage::Forgotten;
        entry.ended = ended.max(entry.ended);
        Ok(is_new)
    }

    /// Whether an entry is that of region `own`: not one that another has made under its id.
    fn is_of(&self, own: Region, id: Region, name: &str) -> bool {
        let is_claim = |entry: &Entry| entry.stage == Stage::Joining;
        let entry = self.get(id, name);
        own == id && !(self.clash(id, name).is_some() && entry.is_some_and(is_claim))
    }

    /// More of the epochs of a region that takes part no more are known to be over. Returns whether
    /// that is news.
    pub fn end(&mut self, id: Region, ended: Epoch) -> bool {
        let entries = self.entries.iter_mut().filter(|((of, _), _)| *of == id);
        let mut news = false;
        for (_, entry) in entries.filter(|(_, entry)| !entry.is_current()) {
            news |= entry.ended < ended;
            entry.ended = ended.max(entry.ended);
        }
        news
    }

    /// Lets a region that was forgotten or excluded back in: it joins once more.
    pub fn rejoin(&mut self, name: &str) -> Result<(), ForgetError> {
        let (id, known) = self.find(name)?;
        let entry = self.entry(id, &known);
        if entry.is_current() {
            return Err(ForgetError::Current { name: known });
        }
        entry.join_again();
        Ok(())
    }

    fn entry(&mut self, id: Region, name: &str) -> &mut Entry {
        let entry = self.entries.get_mut(&(id, name.to_owned()));
        entry.expect("it has just been found")
    }

    /// The one region that is meant by a name, or by `#` and an id.
    pub fn find(&self, name: &str) -> Result<(Region, String), ForgetError> {
        let by_id = name.strip_prefix('#').and_then(|id| id.parse().ok());
        let is_meant =
            |&(id, known, _): &(Region, &str, &Entry)| known == name || Some(id.id()) == by_id;
        let meant: Vec<(Region, &str)> = self
            .iter()
            .filter(is_meant)
            .map(|(id, known, _)| (id, known))
            .collect();
        let name = name.to_owned();
        match *meant {
            [(id, known)] => Ok((id, known.to_owned())),
            [] => Err(ForgetError::Unknown {
                name,
                known: listed(self.iter().map(|(id, known, _)| (id, known))),
            }),
            [..] => Err(ForgetError::Ambiguous {
                name,
                known: listed(meant.into_iter()),
            }),
        }
    }
}
