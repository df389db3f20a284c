//! What a transaction writes to hashes, sets, sorted sets and lists.
//!
//! The rules of [`super::txn`] for what a write ships besides, for what is inside of keys. A key
//! and a field or member of it are looked up once, before anything is written; what comes of
//! making way for the write is told by the survey, and not looked up again.

use std::ops::Range;

use crdt::{
    Attached, Bodies, Change, Deadline, End, FieldSeen, Key, Kind, Number, POSITION_STEPS_MAX,
    Position, Presence, ScoreSeen, Survey,
};

use super::Txn;
use crate::command::{CommandError, Outcome};

/// Hashes.
impl Txn<'_> {
    /// Sets a field, whatever was there. Returns whether it is new.
    pub fn hash_set(
        &mut self,
        key: &Key<'_>,
        field: &[u8],
        value: &[u8],
        attached: Attached,
    ) -> bool {
        let look = self.shard.state.look(key, self.now_ms);
        let seen = (look.survey(self.shard.origin), look.field(field));
        self.hash_write(key, (field, value, attached), seen)
    }

    /// As [`Txn::hash_set`], for a key that no other type may be at.
    pub fn hash_put(
        &mut self,
        key: &Key<'_>,
        field: &[u8],
        value: &[u8],
        attached: Attached,
    ) -> Result<bool, CommandError> {
        let look = self.shard.state.look(key, self.now_ms);
        if look.kind().is_some_and(|kind| kind != Kind::Hash) {
            return Err(CommandError::WrongType);
        }
        let seen = (look.survey(self.shard.origin), look.field(field));
        Ok(self.hash_write(key, (field, value, attached), seen))
    }

    fn hash_write(
        &mut self,
        key: &Key<'_>,
        (field, value, attached): (&[u8], &[u8], Attached),
        (survey, seen): (Survey, FieldSeen),
    ) -> bool {
        let survey = self.prepare_for(key, Kind::Hash, survey);
        let begins = attached == Attached::Nothing;
        let (existed, ends_at) = self.prepare_field((key, field), begins, (survey, seen));
        let attached = match (attached, ends_at) {
            (Attached::Nothing, Some(ms)) => Attached::Deadline(Deadline::At(ms)),
            (attached, _) => attached,
        };
        if existed && seen.counts {
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
        let look = self.shard.state.look(key, self.now_ms);
        let (survey, seen) = (look.survey(self.shard.origin), look.field(field));
        let survey = self.prepare_for(key, Kind::Hash, survey);
        let (_, carried) = self.prepare_field((key, field), true, (survey, seen));
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
        let look = self.shard.state.look(key, self.now_ms);
        let (survey, seen) = (look.survey(self.shard.origin), look.field(field));
        let survey = self.make_way_for(key, Kind::Hash, survey);
        let (existed, _) = self.prepare_field((key, field), false, (survey, seen));
        if existed {
            if seen.counts {
                self.forget_field(key, field);
            }
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

    /// Makes way for a write of a field of a key that way was made for, whose survey says what is
    /// left; `begins` says that the write may begin a new life of the field and says nothing of
    /// deadlines itself. Returns whether the field is there, and when it ends.
    fn prepare_field(
        &mut self,
        (key, field): (&Key<'_>, &[u8]),
        begins: bool,
        (survey, seen): (Survey, FieldSeen),
    ) -> (bool, Option<u64>) {
        // What was past its deadline is gone by now, with all its fields.
        let seen = if survey.bodies.has(Bodies::HASH) {
            seen
        } else {
            FieldSeen::default()
        };
        let existed = seen.value == Presence::Seen;
        if !existed && (seen.deadlines || (begins && !self.shard.alone)) {
            self.shard.expired.fields += u64::from(seen.value == Presence::Hidden);
            if seen.counts {
                self.forget_field(key, field);
            }
            self.emit(
                key,
                Change::FieldRemove {
                    field,
                    deadlines: true,
                },
            );
            return (false, None);
        }
        (existed, seen.ends_at)
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
    /// What a writer sees of a member of a key that no other type may be at; for
    /// [`Txn::zset_put`], before anything else is written.
    pub fn zset_look(
        &self,
        key: &Key<'_>,
        member: &[u8],
    ) -> Result<(Survey, ScoreSeen), CommandError> {
        let look = self.shard.state.look(key, self.now_ms);
        match look.kind() {
            None => Ok((look.survey(self.shard.origin), ScoreSeen::default())),
            Some(Kind::SortedSet) => Ok((look.survey(self.shard.origin), look.score(member))),
            Some(_) => Err(CommandError::WrongType),
        }
    }

    /// Sets a score. Returns whether the member is new.
    pub fn zset_set(&mut self, key: &Key<'_>, member: &[u8], score: f64) -> bool {
        let look = self.shard.state.look(key, self.now_ms);
        let seen = (look.survey(self.shard.origin), look.score(member));
        self.zset_put(key, member, score, seen)
    }

    /// As [`Txn::zset_set`], for a member that has just been looked at.
    pub fn zset_put(
        &mut self,
        key: &Key<'_>,
        member: &[u8],
        score: f64,
        (survey, seen): (Survey, ScoreSeen),
    ) -> bool {
        let survey = self.prepare_for(key, Kind::SortedSet, survey);
        // What was past its deadline is gone by now, with all its members.
        let existed = survey.bodies.has(Bodies::SORTED_SET) && seen.score.is_some();
        if existed && seen.counts {
            self.forget_score(key, member);
        }
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
