//! Facts inside one replica: origins as small numbers, and what an op has seen.
//!
//! A fact's identity is 20 bytes on the wire and would be more in memory, a million times over.
//! So a replica numbers the origins it has met; the numbers are its own and never leave it.
//! Digests hash the origins themselves, so they do not depend on the numbering.

use std::cmp::{Ordering, Reverse};

use crate::origin::Origin;
use crate::stamp::{Dot, FactId, Stamp, Time};
use crate::version::Version;

/// A replica's number for an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OriginIx(pub(crate) u16);

/// The identity of a fact inside a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id {
    pub(crate) time: Time,
    pub(crate) index: u32,
    pub(crate) origin: OriginIx,
}

impl Id {
    /// Without the origin.
    pub(crate) const fn dot(self) -> Dot {
        Dot {
            time: self.time,
            index: self.index,
        }
    }
}

/// The origins that a replica has met, numbered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins {
    known: Vec<(Origin, u64)>,
}

impl Origins {
    /// The number of an origin, given now if it has none.
    ///
    /// # Panics
    ///
    /// After 65,536 origins: one is made by each restart of each region's shard.
    pub(crate) fn number(&mut self, origin: Origin) -> OriginIx {
        if let Some(ix) = self.find(origin) {
            return ix;
        }
        let ix = u16::try_from(self.known.len()).expect("fewer than 65,536 restarts");
        let hash = mix(u64::from(origin.region.id()), origin.epoch.0);
        self.known.push((origin, hash));
        OriginIx(ix)
    }

    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.known.len()
    }

    /// The number of an origin, if it has one. O(origins), of which there are few.
    pub(crate) fn find(&self, origin: Origin) -> Option<OriginIx> {
        self.known
            .iter()
            .rposition(|known| known.0 == origin)
            .map(|at| OriginIx(at as u16))
    }

    /// The origin with this number.
    pub(crate) fn get(&self, ix: OriginIx) -> Origin {
        self.known[usize::from(ix.0)].0
    }

    /// An identity as the world knows it.
    pub(crate) fn fact_id(&self, id: Id) -> FactId {
        FactId {
            stamp: Stamp {
                time: id.time,
                origin: self.get(id.origin),
            },
            index: id.index,
        }
    }

    /// Which of two facts ranks higher: by stamp, then index.
    pub(crate) fn compare(&self, a: Id, b: Id) -> Ordering {
        a.time.cmp(&b.time).then_with(|| {
            let rank = |ix| {
                let origin = self.get(ix);
                (Reverse(origin.region), origin.epoch)
            };
            let by_origin = if a.origin == b.origin {
                Ordering::Equal
            } else {
                rank(a.origin).cmp(&rank(b.origin))
            };
            by_origin.then(a.index.cmp(&b.index))
        })
    }

    /// The hash of an identity, equal at every replica.
    pub(crate) fn hash(&self, id: Id) -> u64 {
        self.hash_dot(id.origin, id.dot())
    }

    /// As [`Origins::hash`], in parts.
    pub(crate) fn hash_dot(&self, origin: OriginIx, dot: Dot) -> u64 {
        mix(
            self.known[usize::from(origin.0)].1 ^ dot.time.0,
            u64::from(dot.index),
        )
    }

    /// What a version covers, by number.
    pub(crate) fn cover(&self, version: &Version, into: &mut Vec<Time>) {
        into.clear();
        into.extend(self.known.iter().map(|&(origin, _)| version.get(origin)));
    }
}

/// What an op had seen when it was issued, its own earlier effects included.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen<'a> {
    /// All that is here: the op was issued at this replica, just now.
    All,
    /// Facts up to these times, by number of their origin.
    UpTo(&'a [Time]),
    /// As the above by an op that may have been applied before: of its own facts those of effects
    /// ahead of this one.
    Again(&'a [Time], Id),
    /// These, and the ops named besides.
    And(&'a [Time], &'a [(OriginIx, Time)]),
}

impl Seen<'_> {
    /// Whether it covers a fact.
    pub(crate) fn covers(self, id: Id) -> bool {
        match self {
            Self::Again(_, own) if (own.origin, own.time) == (id.origin, id.time) => {
                id.index < own.index
            }
            Self::All | Self::UpTo(_) | Self::Again(..) | Self::And(..) => {
                self.covers_time(id.origin, id.time)
            }
        }
    }

    /// Whether it covers what `origin` did at `time`.
    pub(crate) fn covers_time(self, origin: OriginIx, time: Time) -> bool {
        let is_up_to = |times: &[Time]| {
            let covered = times.get(usize::from(origin.0));
            covered.is_some_and(|&covered| time <= covered)
        };
        match self {
            Self::All => true,
            Self::UpTo(times) | Self::Again(times, _) => is_up_to(times),
            Self::And(times, also) => is_up_to(times) || also.contains(&(origin, time)),
        }
    }

    /// Whether it is known that nothing can come of an origin any more.
    pub(crate) fn has_closed(self, origin: OriginIx) -> bool {
        matches!(self, Self::UpTo(_)) && self.covers_time(origin, Time::MAX)
    }
}

/// Rounds of settling: what was applied before a round is stable once the round has passed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rounds {
    pub(crate) open: u32,
    pub(crate) passed: u32,
}

/// Mixes two words into one, so that each bit of either moves half of the bits of the result.
///
/// Source: the folded multiply of wyhash, <https://github.com/wangyi-fudan/wyhash>.
pub(crate) const fn mix(a: u64, b: u64) -> u64 {
    let product = ((a ^ 0x9e37_79b9_7f4a_7c15) as u128) * ((b ^ 0xbf58_476d_1ce4_e5b9) as u128);
    let folded = (product as u64) ^ ((product >> 64) as u64);
    let again = (folded as u128) * 0x94d0_49bb_1331_11eb_u128;
    (again as u64) ^ ((again >> 64) as u64) ^ a.rotate_left(32) ^ b
}
