//! Removing what is past its deadline: keys, and fields of hashes.
//!
//! Every replica hides a thing from its deadline on. The removal is an op like any other, of the
//! region that set the deadline. That waits until it has heard from every region that is not down
//! up to the deadline, so that an extension made there in time is not lost; for a thing that is
//! still there `expiry-grace` after its deadline, the live region with the lowest id does it. It
//! removes all it saw but the deadline: what it did not see stays hidden behind that, and goes in
//! the next round. A database of one region removes at once.
//!
//! A round costs what it removes, and holds the shard for `limit` things at most.

use crdt::{Bodies, Change, Region, Time};

use super::Shard;
use super::txn::Txn;

/// A region without a link is silent once nothing of it has come from others for so long: links
/// are down after as long.
const SILENCE_MS: u64 = 3_000;

/// What a round of removing goes by.
#[derive(Clone, Copy, Debug)]
pub struct Round<'a> {
    /// Now, milliseconds since 1970.
    pub now_ms: u64,
    /// `expiry-grace`, milliseconds.
    pub grace_ms: u64,
    /// The regions to which there is no link.
    pub down: &'a [Region],
    /// How many things may be removed.
    pub limit: usize,
}

/// How many things have been removed because they were past their deadlines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Keys.
    pub keys: u64,
    /// Fields of hashes.
    pub fields: u64,
}

impl Shard {
    /// Removes what is past its deadline and ours to remove. Returns how many things it removed:
    /// as many as the limit if there may be more.
    pub fn expire(&mut self, round: &Round<'_>) -> usize {
        // What it removed of what is ahead, it would not remove elsewhere.
        if !self.is_in_service() || self.is_ahead() {
            return 0;
        }
        let due = self.due(round);
        let mut left = round.limit;
        let mut keys = Vec::new();
        for &(region, until_ms) in &due {
            keys.extend(self.state.ended(region, until_ms, left - keys.len()));
        }
        left -= keys.len();
        let mut fields = Vec::new();
        for &(region, until_ms) in &due {
            let ended = self
                .state
                .ended_fields(region, until_ms, left - fields.len());
            fields.extend(ended);
        }
        if keys.is_empty() && fields.is_empty() {
            return 0;
        }
        let removed = self.guarded("removing what is past its deadline", |shard| {
            shard.transact(round.now_ms, None, |txn| {
                for name in &keys {
                    txn.expire_key(name);
                }
                for (name, field) in &fields {
                    txn.expire_field(name, field);
                }
            });
        });
        removed.map_or(0, |()| keys.len() + fields.len())
    }

    /// How many things have been removed because they were past their deadlines, here or by an op
    /// of another region.
    pub const fn expired(&self) -> Expired {
        self.expired
    }

    /// Of each region that has set deadlines, up to which of these are ours to remove.
    fn due(&self, round: &Round<'_>) -> Vec<(Region, u64)> {
        let setters = self.state.ending_regions();
        if self.alone || setters.is_empty() {
            let all = setters.into_iter();
            return all.map(|region| (region, round.now_ms)).collect();
        }
        let own = self.origin.region;
        let heard = self.heard_regions(round);
        let is_first = heard.iter().all(|&(other, _)| own < other);
        let late_ms = round.now_ms.saturating_sub(round.grace_ms);
        // What was written in lives that have ended is waited for no longer than the grace.
        let has_endings = !self.delivery.open_endings().is_empty();
        let until_ms = |setter: Region| {
            let others = heard.iter().filter(|&&(other, _)| other != setter);
            let heard_ms = others.map(|&(_, ms)| ms).min().unwrap_or(u64::MAX);
            if setter != own {
                is_first.then(|| heard_ms.min(late_ms))
            } else if has_endings {
                Some(heard_ms.min(late_ms))
            } else {
                Some(heard_ms.min(round.now_ms))
            }
        };
        let due = setters.into_iter();
        due.filter_map(|setter| Some((setter, until_ms(setter)?)))
            .collect()
    }

    /// The other regions that are not silent, each with the moment of its clock before which all
    /// that it did, in its present life, is here.
    fn heard_regions(&self, round: &Round<'_>) -> Vec<(Region, u64)> {
        let silent = Time::from_ms(round.now_ms.saturating_sub(SILENCE_MS));
        let heard = |&region: &Region| {
            let time = self.delivery.heard_up_to(region);
            if round.down.contains(&region) && time < silent {
                return None;
            }
            // A write may be stamped later than the clock of its region was, by the drift that it
            // admits: what was in time by that clock is waited for.
            let ms = time.ms().saturating_sub(self.clock_drift_max_ms + 1);
            Some((region, ms))
        };
        self.delivery.others().filter_map(heard).collect()
    }

    /// Counts what an effect of another region removes because it was past its deadline there.
    pub(super) const fn note_expiry(&mut self, change: &Change<'_>) {
        if !is_expiry(change) {
            return;
        }
        if matches!(change, Change::FieldRemove { .. }) {
            self.expired.fields += 1;
        } else {
            self.expired.keys += 1;
        }
    }
}

/// Whether an effect is the removal of what is past its deadline: no other keeps the deadlines of
/// what it removes whole.
pub(super) const fn is_expiry(change: &Change<'_>) -> bool {
    if let Change::Remove { bodies, deadlines } = change {
        bodies.has(Bodies::ALL) && !*deadlines
    } else {
        matches!(
            change,
            Change::FieldRemove {
                deadlines: false,
                ..
            }
        )
    }
}

impl Txn<'_> {
    fn expire_key(&mut self, name: &[u8]) {
        let key = self.shard.state.seed().key(name);
        let (bodies, deadlines) = (Bodies::ALL, false);
        self.forget_parts(&key, bodies);
        self.emit(&key, Change::Remove { bodies, deadlines });
        self.shard.expired.keys += 1;
    }

    fn expire_field(&mut self, name: &[u8], field: &[u8]) {
        let key = self.shard.state.seed().key(name);
        // Its key may have been removed just now.
        if self.shard.state.holds_field(&key, field) {
            self.forget_field(&key, field);
            let deadlines = false;
            self.emit(&key, Change::FieldRemove { field, deadlines });
            self.shard.expired.fields += 1;
        }
    }
}

#[cfg(test)]
mod promise;
#[cfg(test)]
mod tests;
