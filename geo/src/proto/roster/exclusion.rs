//! Regions that were silent for too long, and are done without.
//!
//! An exclusion is noted in the record by whoever finds it due, and each of the others says that it
//! does without the region once it has acted upon that. No two parts of a database that do not hear
//! each other may both exclude, or there would be two databases in the end: so only regions that
//! are more than half of all may, or half with the lowest id among them ([`Roster::outweighs`]).
//! One that was excluded counts among all until every other does without it, for until then
//! somebody may not have heard of that.
//!
//! It comes back by itself, with nothing, as a life that has written nothing: that is news of its
//! own entry alone, which is all that is listened to of what it says ([`Roster::return_of`]).

use std::collections::BTreeSet;

use crdt::{Epoch, Region};

use super::{Entry, Roster, Stage};

impl Entry {
    /// It joins once more; what was said of the time before does not count.
    pub(super) fn join_again(&mut self) {
        self.incarnation += 1;
        self.stage = Stage::Joining;
        self.confirmed.clear();
        self.without.clear();
    }
}

impl Roster {
    /// Excludes a region, whose epochs below `ended` are over. Returns whether it took part.
    pub fn exclude(&mut self, id: Region, ended: Epoch) -> bool {
        let entries = self.entries.iter_mut().filter(|((of, _), _)| *of == id);
        let mut took_part = false;
        for (_, entry) in entries.filter(|(_, entry)| entry.is_current()) {
            entry.stage = Stage::Excluded;
            entry.ended = ended.max(entry.ended);
            took_part = true;
        }
        took_part
    }

    /// Whether a region is excluded, and nobody has sent it away by hand.
    pub fn is_excluded(&self, id: Region) -> bool {
        let mut of_id = self.iter().filter(|(of, _, _)| *of == id).peekable();
        of_id.peek().is_some() && of_id.all(|(_, _, entry)| entry.stage == Stage::Excluded)
    }

    /// Whether a region is on its way in.
    pub fn joins(&self, id: Region) -> bool {
        let mut current = self.current().filter(|(of, _, _)| *of == id);
        current.any(|(_, _, entry)| entry.stage == Stage::Joining)
    }

    /// How many regions are.
    pub fn excluded(&self) -> usize {
        let is_excluded = |(_, _, entry): &(Region, &str, &Entry)| entry.stage == Stage::Excluded;
        self.iter().filter(is_excluded).count()
    }

    /// Region `own` does without those that take part no more. Returns whether that is news.
    pub(super) fn do_without(&mut self, own: Region) -> bool {
        let mut news = false;
        for ((id, _), entry) in &mut self.entries {
            if !entry.is_current() && *id != own {
                news |= entry.without.insert(own);
            }
        }
        news
    }

    /// Whether these regions are so many that the rest cannot be as many: more than half of all, or
    /// half with the lowest id. Those that join have no say and count all the same, for elsewhere
    /// they may have been let in.
    pub fn outweighs(&self, these: &BTreeSet<Region>) -> bool {
        let current = self.ids();
        let counts = |entry: &Entry| {
            entry.is_current()
                || entry.stage == Stage::Excluded && !current.is_subset(&entry.without)
        };
        let all = self.iter().filter(|(_, _, entry)| counts(entry));
        let all: BTreeSet<Region> = all.map(|(id, _, _)| id).collect();
        let has_say = |stage| matches!(stage, Stage::Founding | Stage::Member);
        let members = self.iter().filter(|(_, _, entry)| has_say(entry.stage));
        let members: BTreeSet<Region> = members.map(|(id, _, _)| id).collect();
        let count = members.intersection(these).count();
        let has_lowest = all.first().is_some_and(|first| these.contains(first));
        all.len() < 2 * count || (all.len() == 2 * count && has_lowest)
    }

    /// A region that was excluded, and now is a life that holds and has written nothing, comes
    /// back; but not if the epoch of that life has ended with those before. Returns whether it
    /// does.
    pub fn come_back(&mut self, id: Region, name: &str, epoch: Epoch) -> bool {
        let entry = self.entries.get_mut(&(id, name.to_owned()));
        let entry = entry.filter(|entry| entry.stage == Stage::Excluded && entry.ended <= epoch);
        let comes = entry.is_some();
        if let Some(entry) = entry {
            entry.join_again();
        }
        comes
    }

    /// What a region knows that begins anew, with nothing: that it joins, and where the others are.
    #[must_use]
    pub fn returning(&self, id: Region, name: &str) -> Self {
        let mut begun = Self::new();
        let others = self.current().filter(|&(other, _, _)| other != id);
        for (other, known, entry) in others {
            // A name of a record is one.
            let _ = begun.note(other, known, &entry.addresses, Stage::Founding);
        }
        let _ = begun.note(id, name, &[], Stage::Joining);
        let ended = self.get(id, name).map(|entry| entry.ended);
        begun.begin_after(
            id,
            name,
            Epoch(ended.unwrap_or_default().0.saturating_sub(1)),
        );
        begun
    }

    /// A region begins no life under an epoch that is not after this one.
    pub fn begin_after(&mut self, id: Region, name: &str, newest: Epoch) {
        if let Some(entry) = self.entries.get_mut(&(id, name.to_owned())) {
            entry.ended = entry.ended.max(Epoch(newest.0 + 1));
        }
    }

    /// Of what a region says that is excluded, only that it comes back.
    #[must_use]
    pub fn return_of(&self, id: Region) -> Self {
        let is_return = |of: &Region, entry: &Entry| *of == id && entry.stage == Stage::Joining;
        let entries = self.entries.iter();
        let returns = entries.filter(|((of, _), entry)| is_return(of, entry));
        Self {
            entries: returns
                .map(|(key, entry)| (key.clone(), entry.clone()))
                .collect(),
        }
    }
}
