//! What a shard that has started with nothing has to get back before clients may write to it.
//!
//! The other regions count what our last life had acknowledged as held here, and have collected
//! accordingly. An op that has not seen it would mean one thing where it is collected and another
//! where it is not, for good. But from the moment a region knows of this life nothing becomes
//! stable there without us: first because our ended origins are open, then because this life has
//! not acknowledged it. So it is enough to hold what each region held when it first said that it
//! knows of us: that is its *word*.
//!
//! A word may come by way of a third region, whose news of a region can be ahead of what it passes
//! on of it. All that had become stable there it had acknowledged itself before; so what it holds
//! by then is made part of the word.

use std::collections::{BTreeMap, BTreeSet};

use crdt::{Region, Version};

use super::Delivery;
use crate::proto::message::Heartbeat;

/// What is missing of the words of other regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Nothing.
    Nothing,
    /// This region has not given its word.
    Word(Region),
    /// We lack ops that this region held when it gave its word.
    Ops(Region),
}

#[derive(Debug)]
struct Word {
    /// The last op of each origin.
    holds: Version,
    /// It is to be given anew.
    is_old: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Words {
    by: BTreeMap<Region, Word>,
    /// They are no longer asked for.
    is_over: bool,
}

impl Delivery {
    /// Takes a region's word, if this heartbeat is the first that shows that it knows of us. What
    /// it announces has been taken.
    pub(super) fn take_word(&mut self, heartbeat: &Heartbeat, from: Region) {
        let region = heartbeat.origin.region;
        let has_word = self.words.by.get(&region).is_some_and(|word| !word.is_old);
        if self.words.is_over || has_word || self.closing.has_ended(heartbeat.origin) {
            return;
        }
        let own = self.config.own;
        let mut said = self.closing.said_by(region);
        if !said.any(|said| said.region == own.region && own.epoch <= said.below) {
            return;
        }
        let mut holds: Version = heartbeat.applied.iter().collect();
        // Of what is closed there, too.
        let ended = self.closing.said_by(region);
        let ended = ended.flat_map(|said| said.held.iter());
        let passed_on = self.latest_of(from).into_iter();
        let passed_on = passed_on.flat_map(|latest| latest.applied.iter());
        for (origin, time) in ended.chain(passed_on) {
            holds.advance(origin, time);
        }
        let word = self.words.by.entry(region).or_insert(Word {
            holds: Version::new(),
            is_old: false,
        });
        word.holds.join(&holds);
        word.is_old = false;
    }

    /// What is missing of the words of the other regions, if those that are `lost` need give none.
    /// What one is known to have held is missed whether it is lost or not.
    pub fn lack(&self, lost: &BTreeSet<Region>) -> Lack {
        if self.words.is_over {
            return Lack::Nothing;
        }
        let mut without = None;
        for &region in self.others() {
            let word = self.words.by.get(&region);
            if word.is_some_and(|word| !self.holds_all(&word.holds)) {
                return Lack::Ops(region);
            }
            if word.is_none_or(|word| word.is_old) && !lost.contains(&region) {
                without = without.or(Some(region));
            }
        }
        without.map_or(Lack::Nothing, Lack::Word)
    }

    fn holds_all(&self, version: &Version) -> bool {
        let own = self.config.own;
        version
            .iter()
            .all(|(origin, time)| origin == own || time <= self.deps.get(origin))
    }

    /// Every region is to give its word anew: what was given before is a part of it.
    pub fn ask_for_words(&mut self) {
        for word in self.words.by.values_mut() {
            word.is_old = true;
        }
    }

    /// Nothing is lacking from now on.
    pub fn end_words(&mut self) {
        self.words = Words {
            by: BTreeMap::new(),
            is_over: true,
        };
    }
}
