//! Things by name: the keys of a slot, the fields of a hash, the members of a set.
//!
//! A thing that is just one base is a compact entry of the table; anything else is kept in full
//! in a slab. Every change goes through [`Names::update`] or one of its short cuts, which say what
//! the thing was before and is after, so that counts, digests and indexes are kept up by
//! difference and never recomputed.

mod merge;

use crate::counter::Counter;
use crate::effect::Increment;
use crate::entry::{self, Compact, Entry};
use crate::fact::{Id, Origins, Rounds, Seen};
pub(crate) use crate::kept::{Kept, NoInteger, Summary, Updated};
use crate::register::{Base, Register, Sum, deflate};
use crate::slot::Seed;
use crate::table::{Named, Near, Slab, Table};

/// How a table finds the name in an entry.
#[derive(Debug)]
pub(crate) enum EntryName {}

impl Named for EntryName {
    fn name(entry: &[u8]) -> &[u8] {
        entry::name(entry)
    }
}

/// A thing in full: a register, perhaps with more.
pub(crate) trait Full: Default {
    /// What its counter parts add up to.
    type Sum: Sum;
    /// A thing that is a register.
    fn from_register(register: Register<Self::Sum>) -> Self;
    /// Its register, if it has one.
    fn register(&self) -> Option<&Register<Self::Sum>>;
    /// Its register, made now if it has none.
    fn register_mut(&mut self) -> &mut Register<Self::Sum>;
    /// Whether it has something besides its register that exists.
    fn has_bodies(&self) -> bool;
    /// Whether it has something besides its register, though it may be empty.
    fn is_more_than_register(&self) -> bool;
    /// Whether its register is the latest of what exists of it: then its base is what readers see.
    fn register_is_read(&self, origins: &Origins) -> bool;
}

impl<S: Sum> Full for Register<S> {
    type Sum = S;

    fn from_register(register: Self) -> Self {
        register
    }

    fn register(&self) -> Option<&Self> {
        Some(self)
    }

    fn register_mut(&mut self) -> &mut Self {
        self
    }

    fn has_bodies(&self) -> bool {
        false
    }

    fn is_more_than_register(&self) -> bool {
        false
    }

    fn register_is_read(&self, _: &Origins) -> bool {
        true
    }
}

/// A thing: its name, and the hashes of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thing<'a> {
    pub(crate) name: &'a [u8],
    /// Of the name, for the table.
    pub(crate) hash: u64,
    /// Of the whole path to it, for digests.
    pub(crate) digest: u64,
}

/// What a change needs to know besides the thing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) origins: &'a Origins,
    pub(crate) seed: &'a Seed,
    /// What the op had seen.
    pub(crate) seen: Seen<'a>,
    /// The identity of what the effect leaves behind.
    pub(crate) id: Id,
    /// Whether everything is stable at once, because there is no other region.
    pub(crate) alone: bool,
    /// Whether the op goes on with the same thing, which must not be taken for gone meanwhile.
    pub(crate) goes_on: bool,
    /// The round of settling that is open, and the last whose ops are all stable.
    pub(crate) rounds: Rounds,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Names<F> {
    table: Table<EntryName>,
    full: Slab<F>,
    live: u32,
}

impl<F> Default for Names<F> {
    fn default() -> Self {
        Self {
            table: Table::default(),
            full: Slab::default(),
            live: 0,
        }
    }
}

impl<F: Full> Names<F> {
    /// How many things exist, deadlines aside.
    pub(crate) const fn live(&self) -> usize {
        self.live as usize
    }

    /// Whether nothing at all is kept.
    pub(crate) fn is_void(&self) -> bool {
        self.table.len() == 0
    }

    /// Where a thing is.
    pub(crate) fn find(&self, hash: u64, name: &[u8]) -> Option<u32> {
        self.table.find(hash, name)
    }

    /// Has the processor load what a lookup will read, one step further each time.
    pub(crate) fn approach(&self, hash: u64, near: Near) -> Near {
        self.table.approach(hash, near)
    }

    /// The thing with this name.
    pub(crate) fn get(&self, hash: u64, name: &[u8]) -> Option<(u32, Kept<'_, F>)> {
        let id = self.find(hash, name)?;
        Some((id, self.kept(self.table.get(id)?)))
    }

    /// The thing at this place, with its name.
    pub(crate) fn at(&self, id: u32) -> Option<(&[u8], Kept<'_, F>)> {
        let entry = self.table.get(id)?;
        Some((entry::name(entry), self.kept(entry)))
    }

    fn kept<'a>(&'a self, entry: &'a [u8]) -> Kept<'a, F> {
        match entry::read(entry) {
            Entry::Compact(base) => Kept::Compact(base),
            Entry::Counter(counter) => Kept::Counter(counter),
            Entry::Full(place) => {
                Kept::Full(self.full.get(place).expect("entries name full things"))
            }
        }
    }

    /// Above the place of every thing.
    pub(crate) fn ids_end(&self) -> u32 {
        self.table.ids_end()
    }

    /// Some things from a tag on. See [`Table::step`].
    pub(crate) fn step(&self, first: u32, seed: &Seed) -> (Vec<(u32, u32)>, Option<u32>) {
        self.table.step(first, seed)
    }

    /// The things that are kept in full.
    pub(crate) fn in_full(&self) -> &Slab<F> {
        &self.full
    }

    /// All things, by place.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &[u8], Kept<'_, F>)> {
        (0..self.ids_end()).filter_map(|id| self.at(id).map(|(name, kept)| (id, name, kept)))
    }

    /// Replaces what was seen of a thing by a base.
    pub(crate) fn set(&mut self, thing: Thing<'_>, base: Compact<'_>, cx: &Context<'_>) -> Updated {
        let after = Kept::<F>::Compact(base).summary(thing.digest, cx.origins);
        let Some(id) = self.table.find(thing.hash, thing.name) else {
            let entry = entry::compact(thing.name, base);
            let id = self.table.insert(thing.hash, thing.name, entry, cx.seed);
            self.live += 1;
            return Updated {
                id,
                before: Summary::default(),
                after,
                queue: false,
            };
        };
        let entry = self.table.get_mut(id).expect("found");
        if let Entry::Compact(old) = entry::read(entry)
            && cx.seen.covers(old.id)
        {
            let before = Kept::<F>::Compact(old).summary(thing.digest, cx.origins);
            if !entry::overwrite(entry, base) {
                self.table.replace(id, entry::compact(thing.name, base));
            }
            return Updated {
                id,
                before,
                after,
                queue: false,
            };
        }
        let Compact {
            id,
            attached,
            value,
        } = base;
        self.update(thing, cx, |full| {
            let base = Base {
                id,
                attached,
                value: value.to_vec(),
                folded: None,
            };
            full.register_mut().set(base, cx.seen, cx.origins);
        })
    }

    /// Takes note of the running sum of the issuer's counter part of a thing.
    pub(crate) fn add(
        &mut self,
        thing: Thing<'_>,
        increment: Increment<F::Sum>,
        carried: Option<u64>,
        cx: &Context<'_>,
    ) -> Updated {
        let found = self.table.find(thing.hash, thing.name);
        let old = found.map(|id| entry::read(self.table.get(id).expect("found")));
        let new = match old {
            _ if carried.is_some() => None,
            None => Counter::begin(cx.id, increment),
            Some(Entry::Counter(old)) => old.add(cx.id, increment),
            Some(Entry::Compact(_) | Entry::Full(_)) => None,
        };
        let Some(new) = new else {
            return self.change_register(thing, cx, |register| {
                register.add(cx.id, increment, carried, cx.origins);
            });
        };
        let summary = |counter| Kept::<F>::Counter(counter).summary(thing.digest, cx.origins);
        let (after, mut before) = (summary(new), Summary::default());
        let id = if let (Some(id), Some(Entry::Counter(old))) = (found, old) {
            before = summary(old);
            entry::overwrite_counter(self.table.get_mut(id).expect("found"), new);
            id
        } else {
            self.live += 1;
            let entry = entry::counter(thing.name, new);
            self.table.insert(thing.hash, thing.name, entry, cx.seed)
        };
        Updated {
            id,
            before,
            after,
            queue: false,
        }
    }

    /// Removes what was seen of a thing's register.
    pub(crate) fn remove(
        &mut self,
        thing: Thing<'_>,
        deadlines: bool,
        cx: &Context<'_>,
    ) -> Updated {
        let Some(id) = self.table.find(thing.hash, thing.name) else {
            return Updated::nothing();
        };
        if let Entry::Compact(old) = entry::read(self.table.get(id).expect("found"))
            && cx.seen.covers(old.id)
        {
            let before = Kept::<F>::Compact(old).summary(thing.digest, cx.origins);
            self.table.remove(id, thing.hash);
            self.live -= 1;
            return Updated {
                id,
                before,
                after: Summary::default(),
                queue: false,
            };
        }
        self.update(thing, cx, |full| {
            let register = full.register_mut();
            register.remove_seen(cx.seen, cx.id);
            if deadlines {
                register.remove_deadlines(cx.seen);
            }
        })
    }

    /// Changes a thing in full, which is made if there is none and goes if nothing is left of it.
    pub(crate) fn update(
        &mut self,
        thing: Thing<'_>,
        cx: &Context<'_>,
        change: impl FnOnce(&mut F),
    ) -> Updated {
        let found = self.table.find(thing.hash, thing.name);
        let mut stays = None;
        let place = match found.map(|id| entry::read(self.table.get(id).expect("found"))) {
            Some(Entry::Full(place)) => {
                stays = found;
                place
            }
            Some(Entry::Compact(base)) => self.full.insert(inflate(base)),
            Some(Entry::Counter(counter)) => self.full.insert(F::from_register(counter.register())),
            None => self.full.insert(F::default()),
        };
        let full = self.full.get_mut(place).expect("just found or made");
        let before = Kept::Full(&*full).summary(thing.digest, cx.origins);
        change(full);
        note_left_alone(full, cx.rounds.open);
        if cx.alone {
            settle(full, Seen::All, thing.digest, cx);
        }
        let queue = !cx.alone && wants_settling(full);
        let after = Kept::Full(&*full).summary(thing.digest, cx.origins);
        self.live = self.live + u32::from(after.exists) - u32::from(before.exists);
        let id = match stays.filter(|_| full.is_more_than_register()) {
            Some(id) => id,
            None => self.keep(thing, found, place, cx),
        };
        Updated {
            id,
            before,
            after,
            queue,
        }
    }

    /// Changes a thing's register, which is made if there is none.
    pub(crate) fn change_register(
        &mut self,
        thing: Thing<'_>,
        cx: &Context<'_>,
        change: impl FnOnce(&mut Register<F::Sum>),
    ) -> Updated {
        self.update(thing, cx, |full| change(full.register_mut()))
    }

    /// Changes what a thing has besides its register, if it is there in full.
    pub(crate) fn amend(
        &mut self,
        thing: Thing<'_>,
        cx: &Context<'_>,
        change: impl FnOnce(&mut F),
    ) -> Updated {
        if self.is_more(thing) {
            self.update(thing, cx, change)
        } else {
            Updated::nothing()
        }
    }

    /// Whether a thing has more than a register.
    pub(crate) fn is_more(&self, thing: Thing<'_>) -> bool {
        match self.get(thing.hash, thing.name) {
            Some((_, Kept::Full(full))) => full.is_more_than_register(),
            Some((_, Kept::Compact(_) | Kept::Counter(_))) | None => false,
        }
    }

    /// Drops and folds what is stable of a thing. `None` if there is no such thing in full.
    pub(crate) fn settle(
        &mut self,
        thing: Thing<'_>,
        stable: Seen<'_>,
        cx: &Context<'_>,
    ) -> Option<Updated> {
        let id = self.table.find(thing.hash, thing.name)?;
        let place = match entry::read(self.table.get(id)?) {
            Entry::Full(place) => place,
            Entry::Counter(counter) => self.full.insert(F::from_register(counter.register())),
            Entry::Compact(_) => return None,
        };
        let full = self.full.get_mut(place).expect("entries name full things");
        let before = Kept::Full(&*full).summary(thing.digest, cx.origins);
        if let Some(register) = full.register().is_some().then(|| full.register_mut()) {
            register.queued = false;
        }
        settle(full, stable, thing.digest, cx);
        let mut queue = wants_settling(full);
        if full.register().is_some() {
            let register = full.register_mut();
            queue |= !register.queued && register.waits_to_fold(stable);
            register.queued |= queue;
        }
        let after = Kept::Full(&*full).summary(thing.digest, cx.origins);
        debug_assert_eq!(
            before,
            Summary {
                ending: before.ending,
                ..after
            },
            "settling is unseen"
        );
        let id = self.keep(thing, Some(id), place, cx);
        Some(Updated {
            id,
            before,
            after,
            queue,
        })
    }

    /// Puts a thing that is in the slab at `place` where it belongs now: nowhere, in a compact
    /// entry, or there. What the op goes on with keeps its place, so that walks do not miss it.
    fn keep(&mut self, thing: Thing<'_>, found: Option<u32>, place: u32, cx: &Context<'_>) -> u32 {
        let (seed, goes_on) = (cx.seed, cx.alone && cx.goes_on && found.is_some());
        let full = self.full.get(place).expect("kept there");
        let entry = match full.register() {
            _ if full.is_more_than_register() => None,
            Some(register) if register.is_void() && !goes_on => {
                self.full.remove(place);
                if let Some(id) = found {
                    self.table.remove(id, thing.hash);
                }
                return found.unwrap_or(0);
            }
            // Whoever settles it will look for it in full.
            Some(register) if register.queued => None,
            Some(register) => match deflate(register) {
                Some(base) => Some(entry::compact(thing.name, base)),
                None => Counter::of(register).map(|c| entry::counter(thing.name, c)),
            },
            None => {
                self.full.remove(place);
                if let Some(id) = found {
                    self.table.remove(id, thing.hash);
                }
                return found.unwrap_or(0);
            }
        };
        match (entry, found) {
            (Some(entry), found) => {
                self.full.remove(place);
                self.put(thing, found, entry, seed)
            }
            (None, Some(id)) => {
                if !matches!(
                    entry::read(self.table.get(id).expect("found")),
                    Entry::Full(_)
                ) {
                    self.table.replace(id, entry::full(thing.name, place));
                }
                id
            }
            (None, None) => self.put(thing, None, entry::full(thing.name, place), seed),
        }
    }

    fn put(
        &mut self,
        thing: Thing<'_>,
        found: Option<u32>,
        entry: crate::thin::ThinBytes,
        seed: &Seed,
    ) -> u32 {
        match found {
            Some(id) => {
                self.table.replace(id, entry);
                id
            }
            None => self.table.insert(thing.hash, thing.name, entry, seed),
        }
    }

    /// The place of a thing that exists, at random. Costs O(1) expected while a good part of what
    /// is kept exists, as it does unless most are counters that were removed just now.
    pub(crate) fn random(&self, pick: &mut dyn FnMut(u64) -> u64) -> Option<u32> {
        if self.live == 0 {
            return None;
        }
        let exists = |id: u32| self.at(id).is_some_and(|(_, kept)| kept.exists());
        for _ in 0..64 {
            if let Some(id) = self.table.random(pick).filter(|&id| exists(id)) {
                return Some(id);
            }
        }
        let nth = pick(self.live().max(1) as u64) as usize;
        (0..self.ids_end()).filter(|&id| exists(id)).nth(nth)
    }

    /// The latest fact of any of them. O(things).
    pub(crate) fn latest(&self, origins: &Origins) -> Option<Id> {
        let latest = self.iter().filter_map(|(_, _, kept)| match kept {
            Kept::Compact(base) => Some(base.id),
            Kept::Counter(counter) => Some(counter.latest()),
            Kept::Full(full) => full
                .register()
                .and_then(|register| register.latest(origins)),
        });
        latest.max_by(|&a, &b| origins.compare(a, b))
    }

    /// Estimated bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.table.heap_bytes() + self.full.len() * (size_of::<F>() + 64)
    }
}

fn inflate<F: Full>(base: Compact<'_>) -> F {
    F::from_register(Register::of_base(base))
}

fn settle<F: Full>(full: &mut F, stable: Seen<'_>, thing: u64, cx: &Context<'_>) {
    let bodies = full.has_bodies() || cx.goes_on;
    // A write that has not seen the removal may be under way, and ends with this deadline.
    let waits = |left_alone| !cx.alone && cx.rounds.passed <= left_alone;
    if full.register().is_some() {
        let register = full.register_mut();
        let exists = bodies || register.exists() || waits(register.left_alone);
        register.settle(stable, exists, thing, cx.origins);
    }
}

/// Notes that nothing but deadlines is left of a thing.
fn note_left_alone<F: Full>(full: &mut F, round: u32) {
    let lone = |register: &Register<F::Sum>| !register.deadlines.is_empty() && !register.exists();
    if !full.has_bodies() && full.register().is_some_and(lone) {
        full.register_mut().left_alone = round;
    }
}

/// Whether a thing has just become one to settle; notes that it has.
fn wants_settling<F: Full>(full: &mut F) -> bool {
    let bodies = full.has_bodies();
    if full.register().is_none() {
        return false;
    }
    let register = full.register_mut();
    let exists = bodies || register.exists();
    let wants = !register.queued && register.is_unsettled(exists);
    register.queued |= wants;
    wants
}

#[cfg(test)]
mod tests {
    use crate::effect::Change;
    use crate::origin::{Epoch, Origin, Region};
    use crate::slot::{SLOTS, Seed, Slot};
    use crate::stamp::{Stamp, Time};
    use crate::state::State;

    /// Whoever pops from a set until nothing is left must not look at all places for each of the
    /// last members.
    #[test]
    fn a_pick_takes_few_tries_where_most_are_gone() {
        let mut state = State::new(
            Seed::from_text(b"test"),
            Slot::new(0).unwrap(),
            SLOTS,
            false,
        );
        let origin = Origin::new(Region::new(1).unwrap(), Epoch(1));
        let key = state.seed().key(b"s");
        let names: Vec<String> = (0..20_000).map(|number: u32| number.to_string()).collect();
        let mut change = |at, change: &Change<'_>| {
            let time = Time(at);
            let op = state.begin(Stamp { time, origin }, None);
            state.apply(op, 0, &key, change);
        };
        for (at, member) in (1..).zip(&names) {
            let member = member.as_bytes();
            change(at, &Change::MemberAdd { member });
        }
        for (at, member) in (names.len() as u64 + 1..).zip(&names[3..19_990]) {
            let member = member.as_bytes();
            change(at, &Change::MemberRemove { member });
        }
        let (mut last, mut picks) = (1_u64, 0);
        let mut found = std::collections::BTreeMap::new();
        for _ in 0..1_000 {
            let member = state.set(&key).unwrap().random(&mut |below| {
                picks += 1;
                last = last.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (last >> 33) % below
            });
            *found.entry(member.unwrap().to_vec()).or_insert(0) += 1;
        }
        assert!(picks < 5_000, "{picks} picks");
        assert_eq!(found.len(), 13);
        assert!(found.values().all(|&times| 30 < times), "{found:?}");
    }
}
