//! What one command, or one MULTI, does to one shard: reads values, writes effects, becomes one op.
//!
//! A write is applied as soon as it is decided, so that what follows in the same transaction sees
//! it. What an effect removes is what this shard holds; the rules for what a write must ship
//! besides (sums of counter parts, deadlines that end with their key, bodies of other types) are
//! here, so that handlers know nothing of them. See docs/semantics.md, "Values" and "Keys".

use std::ops::Range;

use crdt::{
    Attached, Bodies, Change, Deadline, Dot, Edit, End, Increment, Key, Kind, Look, Number,
    POSITION_STEPS_MAX, Position, Survey,
};

use super::Shard;
use super::open::OpenOp;
use crate::command::{CommandError, Outcome};

/// Edits of a string are folded by a writer once they weigh this much more than its value, bytes.
const EDITS_SLACK_BYTES: usize = 1 << 10;

/// See the module.
#[derive(Debug)]
pub struct Txn<'a> {
    pub(super) shard: &'a mut Shard,
    pub(super) now_ms: u64,
    pub(super) first: Option<Key<'a>>,
    pub(super) op: Option<OpenOp>,
}

/// Whole keys.
impl Txn<'_> {
    /// Removes a key: everything that is there, hidden or not. Returns whether there was a key that
    /// readers saw.
    pub fn remove(&mut self, key: &Key<'_>) -> bool {
        let existed = self.exists(key);
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

    fn remove_all(&mut self, key: &Key<'_>) {
        let survey = self.shard.state.survey(key, self.shard.origin);
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
    fn prepare(&mut self, key: &Key<'_>, kind: Kind) -> Survey {
        let survey = self.shard.state.survey(key, self.shard.origin);
        self.prepare_for(key, kind, survey)
    }

    /// As [`Txn::prepare`], for a kind whose place no other may take. Returns how many elements
    /// there are.
    fn claim(&mut self, key: &Key<'_>, kind: Kind) -> Result<usize, CommandError> {
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
    fn prepare_for(&mut self, key: &Key<'_>, kind: Kind, survey: Survey) -> Survey {
        let survey = self.make_way_for(key, kind, survey);
        if survey.bodies == Bodies::NONE && !self.shard.alone {
            let (bodies, deadlines) = (Bodies::NONE, true);
            self.emit(key, Change::Remove { bodies, deadlines });
        }
        survey
    }

    /// Makes way for a write of a kind: what is past its deadline goes, and so do bodies of other
    /// types, and deadlines of a life that is over. Returns what was seen of a key that lives on.
    fn make_way(&mut self, key: &Key<'_>, kind: Kind) -> Survey {
        let survey = self.shard.state.survey(key, self.shard.origin);
        self.make_way_for(key, kind, survey)
    }

    /// As [`Txn::make_way`], for a key that has been surveyed.
    fn make_way_for(&mut self, key: &Key<'_>, kind: Kind, survey: Survey) -> Survey {
        if survey.bodies == Bodies::NONE && !survey.deadlines {
            return survey;
        }
        // A hash can be over by itself, when all its fields are past their deadlines.
        let lasts = survey.bodies.but(Bodies::HASH) != Bodies::NONE;
        let dead = survey.ends_at.is_some_and(|ms| ms <= self.now_ms)
            || (!lasts && self.kind(key).is_none());
        if dead {
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
    fn keep_deadline(&mut self, key: &Key<'_>, before: Survey) {
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
        let survey = self.shard.state.survey(key, self.shard.origin);
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

    fn increment<S: std::ops::Add<Output = S>>(
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

/// Hashes.
impl Txn<'_> {
    /// Sets a field. Returns whether it is new.
    pub fn hash_set(
        &mut self,
        key: &Key<'_>,
        field: &[u8],
        value: &[u8],
        attached: Attached,
    ) -> bool {
        let survey = self.prepare(key, Kind::Hash);
        let (existed, ends_at) = self.prepare_field(key, field, attached == Attached::Nothing);
        let attached = match (attached, ends_at) {
            (Attached::Nothing, Some(ms)) => Attached::Deadline(Deadline::At(ms)),
            (attached, _) => attached,
        };
        if existed {
            self.forget_field(key, field);
        }
        self.emit(
            key,
            Change::FieldSet {
                field,
                value,
                attached,
            },
        );
        self.keep_deadline(key, survey);
        !existed
    }

    /// Adds to a field that is a number or not there; the caller has checked that, and the range.
    pub fn hash_add(&mut self, key: &Key<'_>, field: &[u8], by: Number) {
        self.prepare(key, Kind::Hash);
        let (_, carried) = self.prepare_field(key, field, true);
        let own = self
            .shard
            .state
            .field_facts(key, field, self.shard.origin)
            .own;
        let increment = self.increment(own, by);
        self.emit(
            key,
            Change::FieldAdd {
                field,
                increment,
                carried,
            },
        );
    }

    /// Removes a field. Returns whether it was there.
    pub fn hash_remove(&mut self, key: &Key<'_>, field: &[u8]) -> bool {
        self.make_way(key, Kind::Hash);
        let (existed, _) = self.prepare_field(key, field, false);
        if existed {
            self.forget_field(key, field);
            self.emit(
                key,
                Change::FieldRemove {
                    field,
                    deadlines: true,
                },
            );
        }
        existed
    }

    /// Replaces a field's deadlines.
    pub fn hash_deadline(&mut self, key: &Key<'_>, field: &[u8], deadline: Deadline) {
        self.emit(key, Change::FieldDeadline { field, deadline });
    }

    /// Makes way for a write of a field; `begins` says that it may begin a new life of the field
    /// and says nothing of deadlines itself. Returns whether it is there, and when it ends.
    fn prepare_field(&mut self, key: &Key<'_>, field: &[u8], begins: bool) -> (bool, Option<u64>) {
        let (ends_at, deadlines) = self.shard.state.field_deadline(key, field);
        let hash = self.shard.state.hash(key, self.now_ms);
        let existed = hash.is_some_and(|hash| hash.contains(field));
        if !existed && (deadlines || (begins && !self.shard.alone)) {
            let ended = deadlines && self.shard.state.holds_field(key, field);
            self.shard.expired.fields += u64::from(ended);
            self.forget_field(key, field);
            self.emit(
                key,
                Change::FieldRemove {
                    field,
                    deadlines: true,
                },
            );
            return (false, None);
        }
        (existed, ends_at)
    }

    pub(super) fn forget_field(&mut self, key: &Key<'_>, field: &[u8]) {
        for seen in self.shard.state.field_parts(key, field) {
            self.emit(
                key,
                Change::ForgetPart {
                    field: Some(field),
                    seen,
                },
            );
        }
    }
}

/// Sets.
impl Txn<'_> {
    /// Adds members, of which there are some. Returns how many are new.
    pub fn set_add(
        &mut self,
        key: &Key<'_>,
        members: &[impl AsRef<[u8]>],
    ) -> Result<usize, CommandError> {
        self.claim(key, Kind::Set)?;
        let mut new = 0;
        for member in members {
            let member = member.as_ref();
            new += usize::from(!self.emit(key, Change::MemberAdd { member }));
        }
        Ok(new)
    }

    /// Removes a member. Returns whether it was there.
    pub fn set_remove(&mut self, key: &Key<'_>, member: &[u8]) -> bool {
        self.make_way(key, Kind::Set);
        let existed = self
            .shard
            .state
            .set(key)
            .is_some_and(|set| set.contains(member));
        if existed {
            self.emit(key, Change::MemberRemove { member });
        }
        existed
    }
}

/// Sorted sets.
impl Txn<'_> {
    /// Sets a score. Returns whether the member is new.
    pub fn zset_set(&mut self, key: &Key<'_>, member: &[u8], score: f64) -> bool {
        let survey = self.prepare(key, Kind::SortedSet);
        let existed = self.forget_score(key, member);
        self.emit(key, Change::ScoreSet { member, score });
        self.keep_deadline(key, survey);
        !existed
    }

    /// Adds to a score, or to zero for a new member. Returns the new score. The caller has checked
    /// that it is a number.
    pub fn zset_add(&mut self, key: &Key<'_>, member: &[u8], by: f64) -> f64 {
        self.prepare(key, Kind::SortedSet);
        let wanted = self.score(key, member).unwrap_or(0.0) + by;
        let facts = self.shard.state.score_facts(key, member, self.shard.origin);
        let mut increment = self.increment(facts.own, by);
        // Doubles do not add up alike in every order: where the sum can be picked so that the
        // score is what adding one by one gives, as on one machine, it is.
        if let Some((base, removed)) = self.shard.state.score_base(key, member, self.shard.origin) {
            let picked = wanted - base + removed;
            if (base + (picked - removed)).to_bits() == wanted.to_bits() {
                increment.sum = picked;
            }
        }
        if !increment.sum.is_finite() && wanted.is_finite() {
            // The sum has gone past all doubles: only the whole score says what is wanted.
            self.zset_set(key, member, wanted);
            return wanted;
        }
        self.emit(key, Change::ScoreAdd { member, increment });
        self.score(key, member).unwrap_or(wanted)
    }

    /// Removes a member. Returns whether it was there.
    pub fn zset_remove(&mut self, key: &Key<'_>, member: &[u8]) -> bool {
        self.make_way(key, Kind::SortedSet);
        let existed = self.forget_score(key, member);
        if existed {
            self.emit(key, Change::ScoreRemove { member });
        }
        existed
    }

    fn score(&self, key: &Key<'_>, member: &[u8]) -> Option<f64> {
        self.shard.state.sorted_set(key)?.score(member)
    }

    /// Ships what was seen of the counter parts of a score. Returns whether there is such a member.
    pub(super) fn forget_score(&mut self, key: &Key<'_>, member: &[u8]) -> bool {
        let parts = self.shard.state.score_parts(key, member);
        let existed = parts.is_some();
        for seen in parts.into_iter().flatten() {
            self.emit(key, Change::ForgetScore { member, seen });
        }
        existed
    }
}

/// Lists.
impl Txn<'_> {
    /// Adds elements, of which there are some, at an end, one after the other. Returns how many
    /// the list has then.
    pub fn list_push(
        &mut self,
        key: &Key<'_>,
        end: End,
        values: &[impl AsRef<[u8]>],
    ) -> Result<usize, CommandError> {
        let length = self.claim(key, Kind::List)?;
        for value in values {
            let value = value.as_ref();
            self.emit(key, Change::Push { end, value });
        }
        Ok(length + values.len())
    }

    /// Adds an element that will have this rank, which is at most the length of the list. Refused
    /// where elements were inserted between each other too often.
    pub fn list_insert(&mut self, key: &Key<'_>, rank: usize, value: &[u8]) -> Outcome {
        self.prepare(key, Kind::List);
        let list = self.shard.state.list(key);
        let at = |rank: Option<usize>| list.zip(rank).and_then(|(list, rank)| list.position(rank));
        let (before, after) = (at(rank.checked_sub(1)), at(Some(rank)));
        let mut ends = before.iter().chain(&after);
        if ends.any(|end| POSITION_STEPS_MAX <= end.steps().len()) {
            return Err(CommandError::text(
                "ERR elements were inserted between each other too often here",
            ));
        }
        if before.is_none() && after.is_none() {
            self.emit(
                key,
                Change::Push {
                    end: End::Tail,
                    value,
                },
            );
            return Ok(());
        }
        let id = self.next_fact();
        let at = Position::between(before.as_ref(), after.as_ref(), id);
        self.emit(key, Change::Insert { at, value });
        Ok(())
    }

    /// Removes the elements with these ranks, which are in the list.
    pub fn list_remove(&mut self, key: &Key<'_>, ranks: Range<usize>) {
        let list = self.shard.state.list(key);
        if let Some(span) = list.and_then(|list| list.span(ranks)) {
            self.list_remove_span(key, span);
        }
    }

    /// Removes all elements from one position to another, both included.
    pub fn list_remove_span(&mut self, key: &Key<'_>, (first, last): (Position, Position)) {
        self.emit(key, Change::ElementsRemove { first, last });
    }

    /// Writes into the element with this rank, which is in the list.
    pub fn list_set(&mut self, key: &Key<'_>, rank: usize, value: &[u8]) {
        let list = self.shard.state.list(key);
        let found = list.and_then(|list| list.position(rank).zip(list.born(rank)));
        if let Some((at, born)) = found {
            self.emit(key, Change::ElementSet { at, born, value });
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
