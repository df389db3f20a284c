//! Which parts of a state are ahead of the version of its shard.
//!
//! A piece that was merged brings what the ops up to its version left behind, though the shard has
//! yet to be given some of them. When it is, an effect that a piece has covered is skipped in the
//! spans of that piece, and nowhere else. See [`crate::piece`].

use std::collections::{BTreeMap, BTreeSet};

use crate::body::Kind;
use crate::effect::{Bodies, Change, End};
use crate::piece::Range;
use crate::position::{Position, Side};
use crate::slot::{Key, Seed};
use crate::stamp::{FactId, Stamp};
use crate::version::Version;

/// What of a slot something is about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Claimed {
    /// The keys with these tags, both included, but for these containers of these keys, by hash.
    Keys(u32, u32, Vec<(u64, Bodies)>),
    /// Some of a container of a key, by its hash.
    Run(u64, Kind, Range),
}

#[derive(Clone, Debug)]
struct Claim {
    claimed: Claimed,
    version: Version,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    by_slot: BTreeMap<u16, Vec<Claim>>,
    /// All versions together.
    newest: Version,
    /// The keys, by hash, of which pieces have told: the others are as the version says.
    told: BTreeSet<u64>,
    /// There were too many of them.
    all_told: bool,
}

/// Keys that are remembered one by one.
const TOLD_MAX: usize = 1 << 20;

/// One thing of a key.
struct Place<'a> {
    kind: Kind,
    part: Part<'a>,
}

enum Part<'a> {
    None,
    Name(&'a [u8]),
    Element(Position),
}

impl Held {
    /// Notes that part of a slot is up to a version.
    pub(crate) fn claim(&mut self, slot: u16, claimed: Claimed, version: &Version) {
        self.newest.join(version);
        let claims = self.by_slot.entry(slot).or_default();
        // The runs of a container alternate with the register of its key.
        let mut last = claims.iter_mut().rev().take(2);
        if last.any(|last| last.version == *version && last.claimed.extend(&claimed)) {
            return;
        }
        claims.retain(|old| old.claimed != claimed || !version.includes(&old.version));
        claims.push(Claim {
            claimed,
            version: version.clone(),
        });
    }

    /// Notes that a piece has told of a key.
    pub(crate) fn tell(&mut self, key: u64) {
        if self.told.len() < TOLD_MAX {
            self.told.insert(key);
        } else {
            self.all_told = true;
        }
    }

    /// Whether more may be here of a key than the version of the shard says.
    pub(crate) fn has_told(&self, key: u64) -> bool {
        !self.by_slot.is_empty() && (self.all_told || self.told.contains(&key))
    }

    /// The versions of all parts together.
    pub(crate) const fn newest(&self) -> &Version {
        &self.newest
    }

    /// Forgets what a version includes.
    pub(crate) fn caught_up(&mut self, version: &Version) {
        if self.by_slot.is_empty() {
            return;
        }
        self.newest = Version::new();
        for claims in self.by_slot.values_mut() {
            claims.retain(|claim| !version.includes(&claim.version));
            for claim in claims {
                self.newest.join(&claim.version);
            }
        }
        self.by_slot.retain(|_, claims| !claims.is_empty());
        if self.by_slot.is_empty() {
            self.told.clear();
            self.all_told = false;
        }
    }

    /// Whether there is any such part.
    pub(crate) fn is_ahead(&self) -> bool {
        !self.by_slot.is_empty()
    }

    /// Whether any part covers an op.
    pub(crate) fn covers(&self, stamp: Stamp) -> bool {
        !self.by_slot.is_empty() && self.newest.covers(stamp)
    }

    /// The versions of the parts that all of this belongs to.
    pub(crate) fn versions(&self, slot: u16, claimed: &Claimed) -> impl Iterator<Item = &Version> {
        let claims = self.by_slot.get(&slot).into_iter().flatten();
        let around = claims.filter(move |claim| claim.claimed.includes(claimed));
        around.map(|claim| &claim.version)
    }

    /// Whether a key's register holds what an op leaves behind.
    pub(crate) fn has_register(&self, key: &Key<'_>, stamp: Stamp, seed: &Seed) -> bool {
        let place = Place {
            kind: Kind::String,
            part: Part::None,
        };
        let claims = self.by_slot.get(&key.slot.number()).into_iter().flatten();
        let mut known = claims.filter(|claim| claim.version.covers(stamp));
        known.any(|claim| claim.claimed.has(key, &place, seed))
    }

    /// Whether a change is known where it happens.
    pub(crate) fn skips(
        &self,
        key: &Key<'_>,
        id: FactId,
        change: &Change<'_>,
        seed: &Seed,
    ) -> bool {
        let Some(claims) = self.by_slot.get(&key.slot.number()) else {
            return false;
        };
        let Some(place) = place(change, id) else {
            return false;
        };
        claims
            .iter()
            .any(|claim| claim.version.covers(id.stamp) && claim.claimed.has(key, &place, seed))
    }
}

/// The one thing that a change is about, if it is one.
fn place<'a>(change: &Change<'a>, id: FactId) -> Option<Place<'a>> {
    let (kind, part) = match *change {
        Change::Remove { .. }
        | Change::Flush
        | Change::Reissue(_)
        | Change::ElementsRemove { .. } => return None,
        Change::Deadline(_)
        | Change::ForgetPart { field: None, .. }
        | Change::RaisePart { field: None, .. }
        | Change::StringSet { .. }
        | Change::StringEdit { .. }
        | Change::StringAdd { .. } => (Kind::String, Part::None),
        Change::ForgetPart {
            field: Some(field), ..
        }
        | Change::RaisePart {
            field: Some(field), ..
        }
        | Change::FieldSet { field, .. }
        | Change::FieldAdd { field, .. }
        | Change::FieldRemove { field, .. }
        | Change::FieldDeadline { field, .. } => (Kind::Hash, Part::Name(field)),
        Change::MemberAdd { member } | Change::MemberRemove { member } => {
            (Kind::Set, Part::Name(member))
        }
        Change::ForgetScore { member, .. }
        | Change::RaiseScore { member, .. }
        | Change::ScoreSet { member, .. }
        | Change::ScoreAdd { member, .. }
        | Change::ScoreRemove { member } => (Kind::SortedSet, Part::Name(member)),
        Change::Push { end, .. } => {
            let side = match end {
                End::Head => Side::Left,
                End::Tail => Side::Right,
            };
            (Kind::List, Part::Element(Position::pushed(side, id)))
        }
        Change::Insert { ref at, .. } | Change::ElementSet { ref at, .. } => {
            (Kind::List, Part::Element(at.clone()))
        }
    };
    Some(Place { kind, part })
}

impl Claimed {
    /// The register of a key.
    pub(crate) const fn register(key: u64) -> Self {
        Self::Run(key, Kind::String, Range::all(Kind::String))
    }

    fn has(&self, key: &Key<'_>, place: &Place<'_>, seed: &Seed) -> bool {
        match self {
            Self::Keys(first, last, but) => {
                let is_in = (*first..=*last).contains(&tag(key.hash));
                let kind = place.kind.bodies();
                is_in
                    && !but
                        .iter()
                        .any(|(key_hash, later)| *key_hash == key.hash && later.has(kind))
            }
            Self::Run(hash, kind, range) => {
                let is_in = match (range, &place.part) {
                    (Range::Names(first, last), Part::Name(name)) => {
                        (*first..=*last).contains(&tag(seed.hash(name)))
                    }
                    (Range::Elements(after, until), Part::Element(at)) => {
                        after.as_ref().is_none_or(|after| after < at)
                            && until.as_ref().is_none_or(|until| at <= until)
                    }
                    (_, Part::None) => true,
                    _ => false,
                };
                *hash == key.hash && *kind == place.kind && is_in
            }
        }
    }

    /// Whether all of `other` belongs to this.
    fn includes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Keys(first, last, but), Self::Keys(from, to, later)) => {
                let goes = |(key, bodies): &(u64, Bodies)| {
                    let mut out = later.iter();
                    !(*from..=*to).contains(&tag(*key))
                        || out.any(|(other, all)| other == key && all.has(*bodies))
                };
                first <= from && to <= last && but.iter().all(goes)
            }
            (Self::Keys(first, last, but), Self::Run(key, kind, _)) => {
                let is_out =
                    |(other, bodies): &(u64, Bodies)| other == key && bodies.has(kind.bodies());
                (*first..=*last).contains(&tag(*key)) && !but.iter().any(is_out)
            }
            (Self::Run(key, kind, range), Self::Run(other, of, part)) => {
                (key, kind) == (other, of) && includes(range, part)
            }
            (Self::Run(..), Self::Keys(..)) => false,
        }
    }

    /// Takes in what comes right behind. Returns whether it could.
    fn extend(&mut self, next: &Self) -> bool {
        match (self, next) {
            (Self::Keys(_, last, but), Self::Keys(first, to, later))
                if last.checked_add(1) == Some(*first) =>
            {
                *last = *to;
                but.extend_from_slice(later);
                true
            }
            (
                Self::Run(key, kind, Range::Names(_, last)),
                Self::Run(other, of, Range::Names(first, to)),
            ) if (&*key, &*kind) == (other, of) && last.checked_add(1) == Some(*first) => {
                *last = *to;
                true
            }
            (
                Self::Run(key, kind, Range::Elements(_, until)),
                Self::Run(other, of, Range::Elements(after, to)),
            ) if (&*key, &*kind) == (other, of) && until.is_some() && until == after => {
                until.clone_from(to);
                true
            }
            _ => false,
        }
    }
}

/// The half of a hash that orders walks.
pub(crate) const fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

fn includes(range: &Range, part: &Range) -> bool {
    match (range, part) {
        (Range::Names(first, last), Range::Names(from, to)) => first <= from && to <= last,
        (Range::Elements(after, until), Range::Elements(from, to)) => {
            let begins = after
                .as_ref()
                .is_none_or(|after| from.as_ref().is_some_and(|from| after <= from));
            let ends = until
                .as_ref()
                .is_none_or(|until| to.as_ref().is_some_and(|to| to <= until));
            begins && ends
        }
        (Range::Names(..), Range::Elements(..)) | (Range::Elements(..), Range::Names(..)) => false,
    }
}
