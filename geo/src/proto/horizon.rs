//! For how long each region has been silent, and whom the others are to do without for that.
//!
//! A region is heard by a sign of life of it that comes over its own link, or through a third
//! region ([`Delivery::signs_of`](super::Delivery::signs_of)). Silence is added up look by look,
//! each counting for no more than a few seconds: so neither a wall clock that jumps, nor a node
//! that was down, stopped or asleep itself, makes a silence. Nothing of it outlives the node.
//!
//! Who has been silent for the horizon is excluded, and so is who has been silent for a minute
//! while what waits to become stable takes more memory than it may: but only by regions that are
//! heard by each other, have been for a while, and outweigh the rest ([`Roster::outweighs`]). So
//! two parts of a database that do not hear each other never exclude each other. A part that does
//! not outweigh the rest excludes nobody, and keeps what waits until an operator forgets who is
//! gone.

use std::collections::{BTreeMap, BTreeSet};

use crdt::Region;

use super::roster::Roster;
use super::{Instant, Span};

/// What a look counts for at most: more than that has passed only where we were not awake.
const LOOK_MAX: Span = Span::from_ms(5_000);
/// Silence after which a region is not heard.
const QUIET: Span = Span::from_ms(3_000);
/// For how long a region must have been heard before it counts: whoever it hears is heard here by
/// then, too.
const STEADY: Span = Span::from_ms(10_000);
/// Silence without which nobody is excluded for the sake of memory, and nobody at all who is on its
/// way in: a node that restarts takes its time.
pub const PATIENCE: Span = Span::from_ms(60_000);

/// Who is to be done without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody.
    Nobody,
    /// These, from now on.
    Exclude(Vec<Region>),
    /// These would be, but those that are heard do not outweigh the rest: an operator has to
    /// decide.
    Outweighed(Vec<Region>),
}

#[derive(Debug, Default)]
struct Life {
    signs: u64,
    silent: Span,
    heard: Span,
}

/// See the module. One a node.
#[derive(Debug, Default)]
pub struct Horizon {
    looked_at: Option<Instant>,
    lives: BTreeMap<Region, Life>,
}

impl Horizon {
    /// Takes note of how many signs of life there have been of each other region that takes part.
    /// To be called about once a second.
    pub fn look(
        &mut self,
        now: Instant,
        others: &BTreeSet<Region>,
        mut signs_of: impl FnMut(Region) -> u64,
    ) {
        let passed = self.looked_at.map_or(Span(0), |then| now.since(then));
        let passed = passed.min(LOOK_MAX);
        self.looked_at = Some(now);
        self.lives.retain(|region, _| others.contains(region));
        for &region in others {
            let signs = signs_of(region);
            let life = self.lives.entry(region).or_insert_with(|| Life {
                signs,
                ..Life::default()
            });
            if life.signs == signs {
                life.silent.0 = life.silent.0.saturating_add(passed.0);
            } else {
                life.silent = Span(0);
                life.heard.0 = life.heard.0.saturating_add(passed.0);
            }
            if QUIET <= life.silent {
                life.heard = Span(0);
            }
            life.signs = signs;
        }
    }

    /// For how long a region has been silent, as far as we were there to hear it.
    pub fn silent_for(&self, region: Region) -> Span {
        self.lives.get(&region).map_or(Span(0), |life| life.silent)
    }

    /// The regions that have been silent for so long.
    pub fn silent(&self, least: Span) -> impl Iterator<Item = Region> + '_ {
        let lives = self.lives.iter();
        let silent = lives.filter(move |(_, life)| least <= life.silent);
        silent.map(|(&region, _)| region)
    }

    /// Who is to be done without: for silence as long as the `horizon`, if there is one, or a
    /// shorter one where what waits takes too much memory.
    pub fn verdict(
        &self,
        own: Region,
        roster: &Roster,
        horizon: Option<Span>,
        takes_too_much: bool,
    ) -> Verdict {
        let least = [horizon, takes_too_much.then_some(PATIENCE)];
        let Some(least) = least.into_iter().flatten().min() else {
            return Verdict::Nobody;
        };
        let least_of = |id| {
            if roster.joins(id) {
                least.max(PATIENCE)
            } else {
                least
            }
        };
        let is_gone = |&id: &Region| least_of(id) <= self.silent_for(id);
        let gone: Vec<Region> = self.silent(least).filter(is_gone).collect();
        if gone.is_empty() {
            return Verdict::Nobody;
        }
        let heard = self.lives.iter().filter(|(_, life)| STEADY <= life.heard);
        let heard: BTreeSet<Region> = heard.map(|(&id, _)| id).chain([own]).collect();
        if roster.outweighs(&heard) {
            Verdict::Exclude(gone)
        } else {
            Verdict::Outweighed(gone)
        }
    }
}

#[cfg(test)]
mod tests {
    use crdt::Epoch;

    use super::*;
    use crate::proto::Stage;

    fn region(id: u8) -> Region {
        Region::new(id).expect("not 0")
    }

    fn roster(ids: &[u8]) -> Roster {
        let mut roster = Roster::new();
        for &id in ids {
            let noted = roster.note(region(id), &format!("r{id}"), &[], Stage::Founding);
            noted.expect("a name");
        }
        roster
    }

    /// Looks every second, from a second to the next; those that are heard give a sign each time.
    struct Looks {
        horizon: Horizon,
        at_s: u64,
        others: BTreeSet<Region>,
        signs: BTreeMap<Region, u64>,
    }

    impl Looks {
        fn new(others: &[u8]) -> Self {
            Self {
                horizon: Horizon::default(),
                at_s: 0,
                signs: BTreeMap::new(),
                others: others.iter().copied().map(region).collect(),
            }
        }

        fn pass(&mut self, seconds: u64, heard: &[u8]) {
            for _ in 0..seconds {
                self.at_s += 1;
                let now = Instant(0) + Span::from_ms(1_000 * self.at_s);
                for &id in heard {
                    *self.signs.entry(region(id)).or_default() += 1;
                }
                let signs = &self.signs;
                let signs_of = |of: Region| signs.get(&of).copied().unwrap_or_default();
                self.horizon.look(now, &self.others, signs_of);
            }
        }

        fn verdict(&self, own: u8, roster: &Roster, is_over: bool) -> Verdict {
            let horizon = Some(Span::from_ms(100_000));
            self.horizon.verdict(region(own), roster, horizon, is_over)
        }
    }

    #[test]
    fn who_is_silent_for_the_horizon_is_excluded_by_those_that_hear_each_other() {
        let roster = roster(&[1, 2, 3]);
        let mut looks = Looks::new(&[2, 3]);
        looks.pass(100, &[2]);
        assert_eq!(looks.verdict(1, &roster, false), Verdict::Nobody);
        looks.pass(1, &[2]);
        let exclude = Verdict::Exclude(vec![region(3)]);
        assert_eq!(looks.verdict(1, &roster, false), exclude);
        assert_eq!(
            looks.horizon.verdict(region(1), &roster, None, false),
            Verdict::Nobody,
            "without a horizon"
        );
        looks.pass(1, &[2, 3]);
        assert_eq!(looks.verdict(1, &roster, false), Verdict::Nobody);
    }

    #[test]
    fn for_the_sake_of_memory_a_minute_is_enough_and_less_is_not() {
        let roster = roster(&[1, 2, 3]);
        let mut looks = Looks::new(&[2, 3]);
        looks.pass(60, &[2]);
        assert_eq!(looks.verdict(1, &roster, true), Verdict::Nobody);
        looks.pass(1, &[2]);
        let exclude = Verdict::Exclude(vec![region(3)]);
        assert_eq!(looks.verdict(1, &roster, true), exclude);
    }

    #[test]
    fn of_two_parts_one_excludes_at_most() {
        let roster = roster(&[1, 2, 3]);
        let mut alone = Looks::new(&[1, 2]);
        alone.pass(1_000, &[]);
        let gone = vec![region(1), region(2)];
        let outweighed = Verdict::Outweighed(gone);
        assert_eq!(alone.verdict(3, &roster, false), outweighed);
        // One that comes back does not decide by what it has just begun to hear.
        alone.pass(9, &[2]);
        let outweighed = Verdict::Outweighed(vec![region(1)]);
        assert_eq!(alone.verdict(3, &roster, false), outweighed);
        alone.pass(2, &[2]);
        let exclude = Verdict::Exclude(vec![region(1)]);
        assert_eq!(alone.verdict(3, &roster, false), exclude);
    }

    #[test]
    fn of_two_regions_the_one_with_the_lower_id_stays() {
        let roster = roster(&[4, 7]);
        let (mut low, mut high) = (Looks::new(&[7]), Looks::new(&[4]));
        low.pass(200, &[]);
        high.pass(200, &[]);
        let exclude = Verdict::Exclude(vec![region(7)]);
        assert_eq!(low.verdict(4, &roster, false), exclude);
        let outweighed = Verdict::Outweighed(vec![region(4)]);
        assert_eq!(high.verdict(7, &roster, false), outweighed);
    }

    #[test]
    fn a_node_that_was_not_awake_has_heard_no_silence() {
        let mut looks = Looks::new(&[2, 3]);
        looks.pass(20, &[2, 3]);
        looks.at_s += 1_000_000;
        looks.pass(1, &[]);
        assert_eq!(looks.horizon.silent_for(region(2)), LOOK_MAX);
        let mut started = Looks::new(&[2, 3]);
        started.at_s = 1_000_000;
        started.pass(2, &[]);
        assert_eq!(started.horizon.silent_for(region(3)).ms(), 1_000);
    }

    #[test]
    fn an_exclusion_counts_once_all_the_others_do_without() {
        let mut roster = roster(&[1, 2, 3]);
        let just = |id| BTreeSet::from([region(id)]);
        assert!(roster.exclude(region(3), Epoch(5)));
        roster.confirm(region(1));
        assert!(!roster.outweighs(&just(1)), "2 may not know of it");
        roster.confirm(region(2));
        assert!(roster.outweighs(&just(1)) && !roster.outweighs(&just(2)));
    }

    #[test]
    fn who_joins_counts_has_no_say_and_has_a_minute_at_least() {
        let mut roster = roster(&[1, 2]);
        roster.add(region(3), "r3", "r3:1").expect("free");
        let horizon = Some(Span::from_ms(5_000));
        let mut looks = Looks::new(&[2, 3]);
        looks.pass(60, &[2]);
        let verdict = |looks: &Looks| looks.horizon.verdict(region(1), &roster, horizon, false);
        assert_eq!(verdict(&looks), Verdict::Nobody);
        looks.pass(1, &[2]);
        assert_eq!(verdict(&looks), Verdict::Exclude(vec![region(3)]));
        let heard = |ids: &[u8]| ids.iter().copied().map(region).collect::<BTreeSet<_>>();
        assert!(!roster.outweighs(&heard(&[1, 3])));
        assert!(roster.outweighs(&heard(&[1, 2])));
    }
}
