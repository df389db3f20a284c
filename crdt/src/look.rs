//! A key, looked up once: whatever a writer asks about it, the lookup is paid for once.

use crate::body::{Body, KeyState, Kind, present, score_of, visible};
use crate::effect::Bodies;
use crate::names::{Kept, NoInteger};
use crate::origin::Origin;
use crate::register::{Register, Sum};
use crate::slot::Key;
use crate::state::State;
use crate::survey::{Survey, survey_string};

/// A key at a moment. See the module.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    state: &'a State,
    kept: Option<Kept<'a, KeyState>>,
    now_ms: u64,
}

impl State {
    /// Looks a key up.
    pub fn look(&self, key: &Key<'_>, now_ms: u64) -> Look<'_> {
        Look {
            state: self,
            kept: self.key(key),
            now_ms,
        }
    }

    /// What a writer, by the name of `origin`, sees of a key.
    pub fn survey(&self, key: &Key<'_>, origin: Origin) -> Survey {
        self.look(key, 0).survey(origin)
    }
}

impl Look<'_> {
    /// The type that readers see, or `None` if there is no such key.
    #[inline]
    pub fn kind(&self) -> Option<Kind> {
        let kept = self.kept?;
        let origins = &self.state.origins;
        if kept.ends_at(origins).is_some_and(|ms| ms <= self.now_ms) {
            return None;
        }
        visible(kept, self.now_ms, origins)
    }

    /// How many elements there are in the container of a kind, deadlines aside.
    #[inline]
    pub fn len(&self, kind: Kind) -> usize {
        match self.kept {
            Some(Kept::Full(state)) => state.body(kind).map_or(0, Body::live),
            Some(Kept::Compact(_) | Kept::Counter(_)) | None => 0,
        }
    }

    /// The integer at the key, 0 if there is none; or the type that readers see there instead,
    /// which is a string if that is no integer.
    pub fn integer(&self) -> Result<i64, Kind> {
        match (self.kind(), self.kept) {
            (Some(Kind::String), Some(kept)) => match kept.integer() {
                Ok(integer) => Ok(integer.unwrap_or(0)),
                Err(NoInteger) => Err(Kind::String),
            },
            (Some(other), _) => Err(other),
            (None, _) => Ok(0),
        }
    }

    /// What a writer, by the name of `origin`, sees.
    pub fn survey(&self, origin: Origin) -> Survey {
        let Some(kept) = self.kept else {
            return Survey::default();
        };
        let string = survey_string(kept, self.state, origin);
        let bodies = present(kept);
        let ends_at = kept.ends_at(&self.state.origins);
        // A hash can be over by itself, when all its fields are past their deadlines.
        let has_any = match kept {
            Kept::Full(state) if bodies == Bodies::HASH => {
                let hash = state.body(Kind::Hash);
                hash.is_some_and(|hash| hash.has_any_at(self.now_ms))
            }
            Kept::Full(_) | Kept::Compact(_) | Kept::Counter(_) => bodies != Bodies::NONE,
        };
        Survey {
            bodies,
            lives: has_any && ends_at.is_none_or(|ms| self.now_ms < ms),
            deadlines: kept.has_deadlines(),
            ends_at,
            counts: string.counts,
            edit_bytes: string.edit_bytes,
            string_bytes: string.bytes,
            own: string.own,
        }
    }

    /// What a writer sees of a field of the hash at the key.
    pub fn field(&self, field: &[u8]) -> FieldSeen {
        let hash = match self.kept {
            Some(Kept::Full(state)) => state.body(Kind::Hash),
            Some(Kept::Compact(_) | Kept::Counter(_)) | None => None,
        };
        let Some(Body::Hash(hash)) = hash else {
            return FieldSeen::default();
        };
        let Some((_, kept)) = hash.fields.get(self.state.seed.hash(field), field) else {
            return FieldSeen::default();
        };
        let ends_at = kept.ends_at(&self.state.origins);
        let value = match kept.exists() {
            false => Presence::Nothing,
            true if ends_at.is_some_and(|ms| ms <= self.now_ms) => Presence::Hidden,
            true => Presence::Seen,
        };
        FieldSeen {
            value,
            ends_at,
            deadlines: kept.has_deadlines(),
            counts: counts(kept),
        }
    }

    /// What a writer sees of a member of the sorted set at the key.
    pub fn score(&self, member: &[u8]) -> ScoreSeen {
        let zset = match self.kept {
            Some(Kept::Full(state)) => state.body(Kind::SortedSet),
            Some(Kept::Compact(_) | Kept::Counter(_)) | None => None,
        };
        let Some(Body::SortedSet(zset)) = zset else {
            return ScoreSeen::default();
        };
        match zset.members.get(self.state.seed.hash(member), member) {
            Some((_, kept)) if kept.exists() => ScoreSeen {
                score: score_of(kept),
                counts: counts(kept),
            },
            Some(_) | None => ScoreSeen::default(),
        }
    }
}

/// Whether something is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// No.
    #[default]
    Nothing,
    /// It is, and past its deadline: readers do not see it.
    Hidden,
    /// It is.
    Seen,
}

/// What a writer sees of a field before it writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldSeen {
    /// Whether it has a value.
    pub value: Presence,
    /// When it ends, if it does; milliseconds since 1970, which may be past.
    pub ends_at: Option<u64>,
    /// Whether anything says when it ends, in force or not.
    pub deadlines: bool,
    /// Whether it has counter parts that a removal must ship.
    pub counts: bool,
}

/// What a writer sees of a member of a sorted set before it writes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ScoreSeen {
    /// Its score, if it is there.
    pub score: Option<f64>,
    /// Whether it has counter parts that a removal must ship.
    pub counts: bool,
}

fn counts<S: Sum>(kept: Kept<'_, Register<S>>) -> bool {
    match kept {
        Kept::Full(register) => register.live_parts().next().is_some(),
        Kept::Counter(_) => true,
        Kept::Compact(_) => false,
    }
}
