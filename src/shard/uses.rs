//! When, or how often, keys are used, as far as eviction goes by it; and picking keys to evict.
//!
//! `crdt` keeps a word a key while that is asked for; what it says is decided here. Under an LRU
//! policy it is the time of the last use, in units of 64 ms. Under an LFU policy it is, as in
//! Redis, the minute of the last use and a logarithmic count of uses that decays; and a bit that
//! says that the key has come to be just now, for the write that makes it is no use. Commands of
//! clients are uses, and so are ops of other regions: what is written elsewhere is in use.
//!
//! An eviction is a removal of what was seen, an op like any other; see docs/semantics.md,
//! "Deadlines". Which keys, and how many, is decided by `proxy::room`.

use crdt::{Bodies, Key, Pick, Region, Stock};

use super::Shard;

/// Which keys go first when memory is short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eviction {
    /// None: commands that add data are refused.
    #[default]
    None,
    /// Those used least recently.
    AllKeysLru,
    /// Those used least often.
    AllKeysLfu,
    /// Any.
    AllKeysRandom,
    /// Of those with a deadline, those used least recently.
    VolatileLru,
    /// Of those with a deadline, those used least often.
    VolatileLfu,
    /// Any with a deadline.
    VolatileRandom,
    /// Those that end first.
    VolatileTtl,
}

impl Eviction {
    /// All, with what Redis calls them, in its order.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::VolatileLru, "volatile-lru"),
        (Self::VolatileLfu, "volatile-lfu"),
        (Self::VolatileRandom, "volatile-random"),
        (Self::VolatileTtl, "volatile-ttl"),
        (Self::AllKeysLru, "allkeys-lru"),
        (Self::AllKeysLfu, "allkeys-lfu"),
        (Self::AllKeysRandom, "allkeys-random"),
        (Self::None, "noeviction"),
    ];

    /// What Redis calls it.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(eviction, _)| *eviction == self);
        found.map_or("", |(_, name)| name)
    }

    /// The one of this name; case does not matter.
    pub fn parse(text: &str) -> Option<Self> {
        let mut all = Self::ALL.iter();
        let found = all.find(|(_, name)| name.eq_ignore_ascii_case(text));
        found.map(|(eviction, _)| *eviction)
    }

    /// Whether only keys with a deadline go.
    pub const fn is_volatile(self) -> bool {
        matches!(
            self,
            Self::VolatileLru | Self::VolatileLfu | Self::VolatileRandom | Self::VolatileTtl
        )
    }

    /// Whether keys go by chance.
    pub const fn is_random(self) -> bool {
        matches!(self, Self::AllKeysRandom | Self::VolatileRandom)
    }

    /// Whether it goes by how often keys are used.
    pub const fn is_lfu(self) -> bool {
        matches!(self, Self::AllKeysLfu | Self::VolatileLfu)
    }

    /// Whether it goes by when keys were used.
    pub const fn is_lru(self) -> bool {
        matches!(self, Self::AllKeysLru | Self::VolatileLru)
    }
}

/// How uses are counted under an LFU policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frequency {
    /// The larger, the more uses a count stands for (`lfu-log-factor`).
    pub log_factor: u32,
    /// Minutes after which a count falls by one; 0 is never (`lfu-decay-time`).
    pub decay_min: u32,
}

/// What is noted of uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Noted {
    /// Nothing.
    #[default]
    Nothing,
    /// When keys are used.
    Recency,
    /// How often.
    Frequency(Frequency),
}

/// What a shard notes of uses, and since when.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Uses {
    noted: Noted,
    since_ms: u64,
}

/// How a key was used before it came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Used {
    /// For the last time so many seconds ago.
    Ago {
        /// Seconds.
        idle_s: u64,
    },
    /// So often, as [`Shard::use_count`] counts.
    Times(u8),
}

/// Milliseconds in a unit of time under an LRU policy.
const UNIT_MS: u64 = 64;
/// Set in a word of a key that has not been used since it came to be.
const FRESH: u32 = 1 << 31;
/// The count of a new key, as in Redis: it must not be the next to go.
const FIRST_COUNT: u32 = 5;
/// The highest count.
const COUNT_MAX: u32 = 255;

/// The time of a word under an LRU policy; never 0, which is none.
const fn recency_word(ms: u64) -> u32 {
    let word = (ms / UNIT_MS) as u32;
    if word == 0 { 1 } else { word }
}

const fn minute(ms: u64) -> u32 {
    (ms / 60_000) as u32 & 0xffff
}

const fn frequency_word(ms: u64, count: u32) -> u32 {
    minute(ms) << 8 | count
}

impl Uses {
    /// What a key gets that comes to be.
    const fn fresh(&self, now_ms: u64) -> u32 {
        match self.noted {
            Noted::Nothing => 0,
            Noted::Recency => recency_word(now_ms),
            Noted::Frequency(_) => FRESH | frequency_word(now_ms, FIRST_COUNT),
        }
    }

    /// For how long a key has not been used, milliseconds.
    const fn idle_ms(&self, word: u32, now_ms: u64) -> u64 {
        let used = if word == 0 {
            recency_word(self.since_ms)
        } else {
            word
        };
        let idle = recency_word(now_ms).wrapping_sub(used);
        // A clock may have been set back.
        if idle <= u32::MAX / 2 {
            idle as u64 * UNIT_MS
        } else {
            0
        }
    }

    /// How often a key has been used lately: a count from 0 to 255.
    fn count(&self, frequency: Frequency, word: u32, now_ms: u64) -> u32 {
        let word = if word == 0 {
            frequency_word(self.since_ms, FIRST_COUNT)
        } else {
            word
        };
        let minutes = minute(now_ms).wrapping_sub(word >> 8) & 0xffff;
        let periods = minutes.checked_div(frequency.decay_min).unwrap_or(0);
        (word & COUNT_MAX).saturating_sub(periods)
    }

    /// The word of a key that is used now.
    fn used(&self, word: u32, now_ms: u64, random: &mut fastrand::Rng) -> u32 {
        match self.noted {
            Noted::Nothing => word,
            Noted::Recency => recency_word(now_ms),
            Noted::Frequency(_) if word & FRESH != 0 => word & !FRESH,
            Noted::Frequency(frequency) => {
                let count = self.count(frequency, word, now_ms);
                let above = f64::from(count.saturating_sub(FIRST_COUNT));
                let chance = 1.0 / (above * f64::from(frequency.log_factor) + 1.0);
                let more = count < COUNT_MAX && random.f64() < chance;
                frequency_word(now_ms, count + u32::from(more))
            }
        }
    }
}

impl Shard {
    /// Notes this of uses from now on. What was noted so far is forgotten unless it is the same.
    pub fn note_uses_as(&mut self, noted: Noted, now_ms: u64) {
        let is_same = std::mem::discriminant(&noted) == std::mem::discriminant(&self.uses.noted);
        self.uses.noted = noted;
        if !is_same {
            self.uses.since_ms = now_ms;
            self.state.keep_uses(noted != Noted::Nothing);
        }
    }

    /// Whether uses are noted.
    #[inline]
    pub const fn notes_uses(&self) -> bool {
        self.state.keeps_uses()
    }

    /// A key is used.
    pub(super) fn note_use(&mut self, key: &Key<'_>, now_ms: u64) {
        let (uses, random) = (self.uses, &mut self.random);
        self.state
            .change_use(key, |word| uses.used(word, now_ms, random));
    }

    /// A key counts as used like this, where that is what is noted; otherwise as used now.
    pub(super) fn set_use(&mut self, key: &Key<'_>, used: Option<Used>, now_ms: u64) {
        let word = match (self.uses.noted, used) {
            (Noted::Nothing, _) => return,
            (Noted::Recency, Some(Used::Ago { idle_s })) => {
                recency_word(now_ms.saturating_sub(idle_s.saturating_mul(1_000)))
            }
            (Noted::Frequency(_), Some(Used::Times(count))) => frequency_word(now_ms, count.into()),
            (Noted::Recency | Noted::Frequency(_), _) => self.uses.fresh(now_ms),
        };
        self.state.change_use(key, |_| word);
    }

    /// Keys that come to be from now on do so at this moment.
    pub(super) fn begin_uses(&mut self, now_ms: u64) {
        if self.notes_uses() {
            self.state.set_fresh_use(self.uses.fresh(now_ms));
        }
    }

    /// For how long a key has not been used, milliseconds, where that is noted.
    pub fn idle_ms(&self, key: &Key<'_>, now_ms: u64) -> Option<u64> {
        let word = self.state.use_of(key)?;
        (self.uses.noted == Noted::Recency).then(|| self.uses.idle_ms(word, now_ms))
    }

    /// How often a key was used, as Redis counts it, where that is noted.
    pub fn use_count(&self, key: &Key<'_>, now_ms: u64) -> Option<u32> {
        let word = self.state.use_of(key)?;
        match self.uses.noted {
            Noted::Frequency(frequency) => Some(self.uses.count(frequency, word, now_ms)),
            Noted::Nothing | Noted::Recency => None,
        }
    }

    /// Picks keys to evict, `samples` at most, each with a rank: the higher, the sooner it should
    /// go. None are picked only if there are none. By chance one is as good as another.
    pub fn pick_to_evict(
        &mut self,
        eviction: Eviction,
        samples: usize,
        now_ms: u64,
        mut visit: impl FnMut(u64, &[u8]),
    ) {
        let (uses, random) = (self.uses, &mut self.random);
        let pick: Pick<'_> = &mut |below| random.u64(0..below);
        for _ in 0..samples {
            let picked = match eviction {
                Eviction::None => return,
                Eviction::VolatileTtl => self.state.first_to_end(),
                Eviction::VolatileLru | Eviction::VolatileLfu | Eviction::VolatileRandom => {
                    self.state.sample_volatile(pick)
                }
                Eviction::AllKeysLru | Eviction::AllKeysLfu | Eviction::AllKeysRandom => {
                    self.state.sample(pick)
                }
            };
            let Some(picked) = picked else { return };
            let rank = match uses.noted {
                _ if eviction == Eviction::VolatileTtl => {
                    u64::MAX - picked.ends_at.unwrap_or_default()
                }
                Noted::Nothing => 0,
                Noted::Recency => uses.idle_ms(picked.word, now_ms),
                Noted::Frequency(frequency) => {
                    (COUNT_MAX - uses.count(frequency, picked.word, now_ms)).into()
                }
            };
            visit(rank, picked.name);
            if eviction.is_random() || eviction == Eviction::VolatileTtl {
                return;
            }
        }
    }

    /// Adds what keys take up, of slots from `from` on, counted from the first of the shard, until
    /// about `limit` keys have been looked at. Returns where to go on.
    pub fn take_stock(&self, from: u16, limit: usize, stock: &mut Stock) -> Option<u16> {
        let (mut at, mut seen) = (from, 0);
        for slot in self.state.slots().skip(from.into()) {
            if limit <= seen {
                return Some(at);
            }
            self.state.take_stock(slot, stock);
            seen += self.state.slot_len(slot);
            at += 1;
        }
        None
    }

    /// The regions that have not said that they keep all that is here, where anything waits for
    /// that.
    pub fn waits_for(&self) -> Vec<Region> {
        if self.state.unsettled() == 0 {
            return Vec::new();
        }
        let applied = self.delivery.applied_ops();
        let lacks = |region: &&Region| !self.delivery.has(**region, &applied, true);
        self.delivery.others().filter(lacks).copied().collect()
    }

    /// Removes a key to make room, if it is still there and may go. Returns whether it was.
    pub fn evict(&mut self, eviction: Eviction, name: &[u8], now_ms: u64) -> bool {
        if !self.is_in_service() {
            return false;
        }
        let key = self.state.seed().key(name);
        if self.state.is_ahead_at(&key) {
            return false;
        }
        let survey = self.state.survey(&key, self.origin);
        let may_go = !eviction.is_volatile() || survey.ends_at.is_some();
        if survey.bodies == Bodies::NONE || !may_go {
            return false;
        }
        let evicted = self.guarded("evicting a key", |shard| {
            shard.transact(now_ms, None, |txn| {
                txn.remove(&key);
            });
        });
        evicted.is_some()
    }
}

#[cfg(test)]
mod tests {
    use crdt::{Attached, Deadline};

    use super::*;
    use crate::shard::testing::{NOW_MS, region, shard, shard_from};

    fn set(shard: &mut Shard, name: &str, now_ms: u64) {
        shard.transact(now_ms, None, |txn| {
            let key = txn.key(name.as_bytes());
            txn.string_set(&key, b"v", Attached::Deadline(Deadline::Never));
            txn.note_use(name.as_bytes());
        });
    }

    fn read(shard: &mut Shard, name: &str, now_ms: u64) {
        shard.transact(now_ms, None, |txn| txn.note_use(name.as_bytes()));
    }

    fn idle_ms(shard: &Shard, name: &str, now_ms: u64) -> Option<u64> {
        shard.idle_ms(&shard.state().seed().key(name.as_bytes()), now_ms)
    }

    fn count(shard: &Shard, name: &str, now_ms: u64) -> Option<u32> {
        shard.use_count(&shard.state().seed().key(name.as_bytes()), now_ms)
    }

    /// A flush has no key, and the slot of none is that of another shard.
    #[test]
    fn a_flush_of_another_region_is_no_use_of_a_key() {
        let (mut a, mut b) = (shard_from(1, 8_000), shard_from(2, 8_000));
        b.note_uses_as(Noted::Recency, NOW_MS);
        let mut names = (0..).map(|n: u32| format!("key{n}"));
        let is_here = |name: &String| {
            a.state()
                .has_slot(a.state().seed().key(name.as_bytes()).slot)
        };
        let name = names.find(is_here).expect("half of all are");
        a.transact(NOW_MS, None, |txn| {
            let key = txn.key(name.as_bytes());
            txn.string_set(&key, b"v", Attached::Deadline(Deadline::Never));
            txn.flush();
        });
        let frame = a.seal().expect("there is an op");
        assert_eq!(b.offer(frame, region(1), NOW_MS), geo::proto::Offer::Ready);
        assert!(b.is_in_service());
    }

    #[test]
    fn names_are_those_of_redis() {
        for (eviction, name) in Eviction::ALL {
            assert_eq!(Eviction::parse(name), Some(eviction));
            assert_eq!(eviction.name(), name);
        }
        assert_eq!(Eviction::parse("AllKeys-LRU"), Some(Eviction::AllKeysLru));
        assert_eq!(Eviction::parse("lru"), None);
    }

    #[test]
    fn idle_time_runs_from_the_last_use_or_from_when_uses_are_noted() {
        let mut shard = shard(1);
        set(&mut shard, "old", NOW_MS);
        assert_eq!(idle_ms(&shard, "old", NOW_MS), None);
        let begun = NOW_MS + 6_400;
        shard.note_uses_as(Noted::Recency, begun);
        set(&mut shard, "new", begun + 640);
        let now = begun + 64_000;
        assert_eq!(idle_ms(&shard, "old", now), Some(64_000));
        assert_eq!(idle_ms(&shard, "new", now), Some(63_360));
        read(&mut shard, "old", now - 64);
        assert_eq!(idle_ms(&shard, "old", now), Some(64));
        assert_eq!(
            idle_ms(&shard, "old", now - 6_400),
            Some(0),
            "the clock was set back"
        );
        assert_eq!(idle_ms(&shard, "none", now), None);
    }

    #[test]
    fn counts_are_logarithmic_and_decay() {
        let mut shard = shard(1);
        let frequency = Frequency {
            log_factor: 10,
            decay_min: 1,
        };
        shard.note_uses_as(Noted::Frequency(frequency), NOW_MS);
        set(&mut shard, "k", NOW_MS);
        assert_eq!(
            count(&shard, "k", NOW_MS),
            Some(5),
            "the write that makes it is no use"
        );
        read(&mut shard, "k", NOW_MS);
        assert_eq!(count(&shard, "k", NOW_MS), Some(6));
        for _ in 0..1_000 {
            read(&mut shard, "k", NOW_MS);
        }
        // Redis's table has 18 for a factor of 10 and 1,000 uses.
        let after = count(&shard, "k", NOW_MS).unwrap();
        assert!((12..30).contains(&after), "{after}");
        assert_eq!(count(&shard, "k", NOW_MS + 3 * 60_000), Some(after - 3));
        assert_eq!(count(&shard, "k", NOW_MS + 999 * 60_000), Some(0));
        let frequency = Frequency {
            decay_min: 0,
            ..frequency
        };
        shard.note_uses_as(Noted::Frequency(frequency), NOW_MS);
        assert_eq!(count(&shard, "k", NOW_MS + 999 * 60_000), Some(after));
    }

    #[test]
    fn ops_of_other_regions_are_uses() {
        let mut first = shard(1);
        let mut second = shard(2);
        second.note_uses_as(Noted::Recency, NOW_MS);
        set(&mut first, "k", NOW_MS);
        let frame = first.seal().unwrap();
        second.offer(frame, first.origin().region, NOW_MS + 6_400);
        assert_eq!(idle_ms(&second, "k", NOW_MS + 12_800), Some(6_400));
    }

    #[test]
    fn only_what_may_go_goes() {
        let mut shard = shard(1);
        set(&mut shard, "lasts", NOW_MS);
        shard.transact(NOW_MS, None, |txn| {
            let key = txn.key(b"ends");
            let deadline = Deadline::At(NOW_MS + 1_000);
            txn.string_set(&key, b"v", Attached::Deadline(deadline));
        });
        let picked = |shard: &mut Shard, eviction| {
            let mut names = Vec::new();
            shard.pick_to_evict(eviction, 16, NOW_MS, |_, name| {
                names.push(String::from_utf8(name.to_vec()).unwrap());
            });
            names.sort_unstable();
            names.dedup();
            names
        };
        assert_eq!(picked(&mut shard, Eviction::None), [""; 0]);
        assert_eq!(picked(&mut shard, Eviction::VolatileTtl), ["ends"]);
        assert_eq!(picked(&mut shard, Eviction::VolatileLru), ["ends"]);
        assert_eq!(picked(&mut shard, Eviction::AllKeysLru), ["ends", "lasts"]);
        assert!(!shard.evict(Eviction::VolatileLru, b"lasts", NOW_MS));
        assert!(!shard.evict(Eviction::AllKeysLru, b"none", NOW_MS));
        assert!(shard.evict(Eviction::VolatileLru, b"ends", NOW_MS));
        assert!(shard.evict(Eviction::AllKeysLru, b"lasts", NOW_MS));
        assert_eq!(shard.len(NOW_MS), 0);
        assert_eq!(picked(&mut shard, Eviction::AllKeysRandom), [""; 0]);
    }
}
