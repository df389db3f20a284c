//! What one command, or one MULTI, does to one shard: reads values, writes effects, becomes one op.
//!
//! A write is applied as soon as it is decided, so that what follows in the same transaction sees
//! it. What an effect removes is what this shard holds; the rules for what a write must ship
//! besides (sums of counter parts, deadlines that end with their key, bodies of other types) are
//! here, so that handlers know nothing of them. See docs/semantics.md, "Values" and "Keys".

use crdt::{
    Attached, Bodies, Change, Deadline, Dot, Edit, Increment, Key, Kind, Look, Number, Survey,
};

use super::Shard;
use super::looks::Looked;
use super::open::OpenOp;
use crate::command::CommandError;

/// Edits of a string are folded by a writer once they weigh this much more than its value, bytes.
const EDITS_SLACK_BYTES: usize = 1 << 10;

/// See the module.
#[derive(Debug)]
pub struct Txn<'a> {
    pub(super) shard: &'a mut Shard,
    pub(super) now_ms: u64,
    pub(super) first: Option<Key<'a>>,
    pub(super) op: Option<OpenOp>,
    pub(super) looked: Looked,
}

/// Whole keys.
impl Txn<'_> {
    /// Whether part of the shard is ahead of its version.
    pub fn is_ahead(&self) -> bool {
        self.shard.is_ahead()
    }

    /// Whether there may be more of a key than the version of its shard says.
    pub fn is_ahead_at(&self, name: &[u8]) -> bool {
        let state = self.shard.state();
        state.is_ahead_at(&state.seed().key(name))
    }

    /// Removes a key: everything that is there, hidden or not. Returns whether there was a key that
    /// readers saw.
    pub fn remove(&mut self, key: &Key<'_>) -> bool {
        let existed = self.shard.state.kind(key, self.now_ms).is_some();
        self.remove_all(key);
        existed
    }

    /// Replaces a key's deadlines.
    pub fn set_deadline(&mut self, key: &Key<'_>, deadline: Deadline) {
        self.emit(key, Change::Deadline(deadline));
    }

    /// Removes all keys of the shard.
    pub fn flush(&mut self) {
        let mut counted = Vec::new();
        // Without other regions nobody else has increments that could come back.
        let slots = (!self.shard.alone).then(|| self.shard.state.slots());
        for slot in slots.into_iter().flatten() {
            self.shard
                .state
                .keys_with_parts(slot, |name| counted.push(Box::<[u8]>::from(name)));
        }
        for name in &counted {
            let key = self.shard.state.seed().key(name);
            self.forget_parts(&key, Bodies::ALL);
        }
        if !self.shard.state.is_void() {
            let nowhere = self.shard.state.any_key();
            self.emit(&nowhere, Change::Flush);
        }
    }

    fn survey(&self, key: &Key<'_>) -> Survey {
        self.shard
            .state
            .look(key, self.now_ms)
            .survey(self.shard.origin)
    }

    fn remove_all(&mut self, key: &Key<'_>) {
        let survey = self.survey(key);
        if survey.bodies != Bodies::NONE || survey.deadlines {
            self.forget_parts(key, Bodies::ALL);
            self.emit(
                key,
                Change::Remove {
                    bodies: Bodies::ALL,
                    deadlines: true,
                },
            );
        }
    }

    /// Makes way for a write of a kind, which says nothing of deadlines itself. Where it begins a
    /// new life of the key, deadlines of the old one go, also those that only others still keep:
    /// one that stands alone is dropped when it is stable, here perhaps earlier than there.
    pub(super) fn prepare(&mut self, key: &Key<'_>, kind: Kind) -> Survey {
        let survey = self.survey(key);
        self.prepare_for(key, kind, survey)
    }

    /// As [`Txn::prepare`], for a kind whose place no other may take. Returns how many elements
    /// there are.
    pub(super) fn claim(&mut self, key: &Key<'_>, kind: Kind) -> Result<usize, CommandError> {
        let look = self.shard.state.look(key, self.now_ms);
        let length = match look.kind() {
            None => 0,
            Some(seen) if seen == kind => look.len(kind),
            Some(_) => return Err(CommandError::WrongType),
        };
        let survey = look.survey(self.shard.origin);
        self.prepare_for(key, kind, survey);
        Ok(length)
    }

    /// As [`Txn::prepare`], for a key that has been surveyed.
    pub(super) fn prepare_for(&mut self, key: &Key<'_>, kind: Kind, survey: Survey) -> Survey {
        let survey = self.make_way_for(key, kind, survey);
        if survey.bodies == Bodies::NONE && !self.shard.alone {
            let (bodies, deadlines) = (Bodies::NONE, true);
            self.emit(key, Change::Remove { bodies, deadlines });
        }
        survey
    }

    /// Makes way for a write of a kind: what is past its deadline goes, and so do bodies of other
    /// types, and deadlines of a life that is over. Returns what was seen of a key that lives on.
    pub(super) fn make_way(&mut self, key: &Key<'_>, kind: Kind) -> Survey {
        let survey = self.survey(key);
        self.make_way_for(key, kind, survey)
    }

    /// As [`Txn::make_way`], for a key that has been surveyed.
    pub(super) fn make_way_for(&mut self, key: &Key<'_>, kind: Kind, survey: Survey) -> Survey {
        if survey.bodies == Bodies::NONE && !survey.deadlines {
            return survey;
        }
        if !survey.lives {
            let ended = survey.ends_at.is_some() && survey.bodies != Bodies::NONE;
            self.shard.expired.keys += u64::from(ended);
            self.remove_all(key);
            return Survey::default();
        }
        let others = survey.bodies.but(kind.bodies());
        if others != Bodies::NONE {
            self.forget_parts(key, others);
            self.emit(
                key,
                Change::Remove {
                    bodies: others,
                    deadlines: false,
                },
            );
        }
        survey
    }

    /// Gives a key that lives on its deadline back. What forgets a key's only counter leaves it
    /// without a value for one effect, and without other regions that is settled at once.
    pub(super) fn keep_deadline(&mut self, key: &Key<'_>, before: Survey) {
        if let Some(ms) = before.ends_at
            && self.shard.state.deadline(key).is_none()
        {
            self.emit(key, Change::Deadline(Deadline::At(ms)));
        }
    }

    /// Ships what was seen of the counter parts of these bodies.
    pub(super) fn forget_parts(&mut self, key: &Key<'_>, bodies: Bodies) {
        if bodies.has(Bodies::STRING) {
            for seen in self.shard.state.string_parts(key) {
                self.emit(key, Change::ForgetPart { field: None, seen });
            }
        }
        if self.shard.alone {
            return; // Containers go whole.
        }
        if bodies.has(Bodies::HASH) {
            for (field, seen) in self.shard.state.all_field_parts(key) {
                self.emit(
                    key,
                    Change::ForgetPart {
                        field: Some(&field),
                        seen,
                    },
                );
            }
        }
        if bodies.has(Bodies::SORTED_SET) {
            for (member, seen) in self.shard.state.all_score_parts(key) {
                self.emit(
                    key,
                    Change::ForgetScore {
                        member: &member,
                        seen,
                    },
                );
            }
        }
    }
}

/// Strings.
impl Txn<'_> {
    /// Sets a string, whatever was there. [`Attached::Nothing`] keeps the deadline that it has.
    pub fn string_set(&mut self, key: &Key<'_>, value: &[u8], attached: Attached) {
        let survey = match attached {
            Attached::Nothing => self.prepare(key, Kind::String),
            Attached::Deadline(_) => self.make_way(key, Kind::String),
        };
        self.string_replace(key, value, attached, survey);
    }

    fn string_replace(&mut self, key: &Key<'_>, value: &[u8], attached: Attached, seen: Survey) {
        if seen.counts {
            self.forget_parts(key, Bodies::STRING);
        }
        let attached = match (attached, seen.ends_at) {
            (Attached::Nothing, Some(ms)) => Attached::Deadline(Deadline::At(ms)),
            (attached, _) => attached,
        };
        self.emit(key, Change::StringSet { value, attached });
    }

    /// Changes a part of a string.
    pub fn string_edit(&mut self, key: &Key<'_>, edit: Edit<'_>) {
        let survey = self.prepare(key, Kind::String);
        let outweighed = survey.string_bytes + EDITS_SLACK_BYTES < survey.edit_bytes;
        if survey.counts || outweighed {
            self.rewrite(key, survey);
        }
        self.emit(
            key,
            Change::StringEdit {
                edit,
                carried: survey.ends_at,
            },
        );
    }

    /// Adds to a string that is a number or not there; the caller has checked that, and the range.
    pub fn string_add(&mut self, key: &Key<'_>, by: Number) {
        let survey = self.survey(key);
        self.string_add_for(key, by, survey);
    }

    /// Adds to a string that is an integer or not there. Returns what is read then.
    pub fn integer_add(&mut self, key: &Key<'_>, by: i64) -> Result<i64, CommandError> {
        let look = self.shard.state.look(key, self.now_ms);
        let before = integer_in(look)?;
        let after = before.checked_add(by).ok_or(CommandError::Overflow)?;
        let survey = look.survey(self.shard.origin);
        self.string_add_for(key, Number::int(by.into()), survey);
        // What is read may stand for a sum that is further out, by increments of several regions.
        if before == i64::MIN || before == i64::MAX {
            return integer_in(self.shard.state.look(key, self.now_ms));
        }
        Ok(after)
    }

    fn string_add_for(&mut self, key: &Key<'_>, by: Number, survey: Survey) {
        let survey = self.prepare_for(key, Kind::String, survey);
        let mut own = survey.own;
        if 0 < survey.edit_bytes {
            // Which makes an end of all parts.
            self.rewrite(key, survey);
            own = None;
        }
        let increment = self.increment(own, by);
        self.emit(
            key,
            Change::StringAdd {
                increment,
                carried: survey.ends_at,
            },
        );
    }

    /// Writes the value so far as a base.
    pub(super) fn rewrite(&mut self, key: &Key<'_>, survey: Survey) {
        let value = self
            .shard
            .state
            .string(key, self.now_ms)
            .unwrap_or_default()
            .into_owned();
        self.string_replace(key, &value, Attached::Nothing, survey);
    }

    pub(super) fn increment<S: std::ops::Add<Output = S>>(
        &mut self,
        own: Option<(Dot, S)>,
        by: S,
    ) -> Increment<S> {
        match own {
            Some((birth, sum)) => Increment {
                birth,
                sum: sum + by,
            },
            None => Increment {
                birth: self.next_dot(),
                sum: by,
            },
        }
    }
}

/// The integer at a key.
fn integer_in(look: Look<'_>) -> Result<i64, CommandError> {
    look.integer().map_err(|kind| match kind {
        Kind::String => CommandError::NotAnInteger,
        Kind::Hash | Kind::Set | Kind::SortedSet | Kind::List => CommandError::WrongType,
    })
}
