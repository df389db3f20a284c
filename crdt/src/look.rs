//! A key, looked up once: whatever a writer asks about it, the lookup is paid for once.

use crate::body::{Body, KeyState, Kind, present, visible};
use crate::names::{Kept, NoInteger};
use crate::origin::Origin;
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
        Survey {
            bodies: present(kept),
            deadlines: kept.has_deadlines(),
            ends_at: kept.ends_at(&self.state.origins),
            counts: string.counts,
            edit_bytes: string.edit_bytes,
            string_bytes: string.bytes,
            own: string.own,
        }
    }
}
