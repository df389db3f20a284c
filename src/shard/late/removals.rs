//! What a late op takes away: of what it had seen, and no more.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each part deals with some changes, and with no others"
)]

use crdt::{Attached, Bodies, Change, Deadline, Key};

use super::{Again, score_in};
use crate::shard::txn::Txn;

impl Txn<'_> {
    pub(super) fn remove_again(&mut self, again: &Again, key: &Key<'_>, change: &Change<'_>) {
        match change {
            Change::Remove { bodies, deadlines } => {
                self.remove_bodies_again(again, key, *bodies, *deadlines);
            }
            Change::Flush => {
                let mut names = Vec::new();
                for slot in self.shard.state.slots() {
                    let places = self.shard.state.places(slot);
                    let visit = &mut |name: &[u8]| names.push(name.to_vec());
                    self.shard.state.scan(slot, 0, places, 0, visit);
                }
                for name in names {
                    let key = self.shard.state.seed().key(&name);
                    self.remove_bodies_again(again, &key, Bodies::ALL, true);
                }
            }
            Change::FieldRemove { field, .. } => self.remove_text_again(again, key, Some(field)),
            Change::MemberRemove { member } => self.remove_member_again(again, key, member),
            Change::ScoreRemove { member } => self.remove_score_again(again, key, member),
            Change::ElementsRemove { first, last } => {
                let ends = (Some(first), Some(last));
                for at in self.shard.state.elements_seen(key, ends, &again.past) {
                    let (first, last) = (at.clone(), at);
                    self.emit(key, Change::ElementsRemove { first, last });
                }
            }
            _ => {}
        }
    }

    fn remove_bodies_again(
        &mut self,
        again: &Again,
        key: &Key<'_>,
        bodies: Bodies,
        deadlines: bool,
    ) {
        if bodies.has(Bodies::STRING) {
            self.remove_text_again(again, key, None);
        }
        let state = &self.shard.state;
        if bodies.has(Bodies::HASH) {
            let hash = state.hash(key, 0).into_iter();
            let fields: Vec<_> = hash.flat_map(|h| h.iter()).map(|f| f.0.to_vec()).collect();
            for field in fields {
                self.remove_text_again(again, key, Some(&field));
            }
        }
        let state = &self.shard.state;
        if bodies.has(Bodies::SET) {
            let set = state.set(key).into_iter();
            let members: Vec<_> = set.flat_map(|s| s.iter()).map(<[u8]>::to_vec).collect();
            for member in members {
                self.remove_member_again(again, key, &member);
            }
        }
        let state = &self.shard.state;
        if bodies.has(Bodies::SORTED_SET) {
            let zset = state.sorted_set(key).into_iter();
            let members = zset.flat_map(|z| z.range(0..z.len()));
            let members: Vec<_> = members.map(|m| m.0.to_vec()).collect();
            for member in members {
                self.remove_score_again(again, key, &member);
            }
        }
        if bodies.has(Bodies::LIST) {
            let state = &self.shard.state;
            for at in state.elements_seen(key, (None, None), &again.past) {
                let (first, last) = (at.clone(), at);
                self.emit(key, Change::ElementsRemove { first, last });
            }
        }
        let survey = self.shard.state.survey(key, self.shard.origin);
        if deadlines && survey.deadlines && survey.bodies == Bodies::NONE {
            let bodies = Bodies::NONE;
            self.emit(key, Change::Remove { bodies, deadlines });
        }
    }

    /// Removes a string or a field; what was not seen of it stays.
    fn remove_text_again(&mut self, again: &Again, key: &Key<'_>, field: Option<&[u8]>) {
        let state = &self.shard.state;
        let named = again.parts(key, field);
        let now = state.left(key, field, &again.past.blind(), &[], None).value;
        let left = state.left(key, field, &again.past, &named, None).value;
        match (now, left, field) {
            (Some(now), Some(left), _) if now != left => {
                let ends_at = match field {
                    None => state.survey(key, self.shard.origin).ends_at,
                    Some(field) => state.field_deadline(key, field).0,
                };
                let attached =
                    ends_at.map_or(Attached::Nothing, |ms| Attached::Deadline(Deadline::At(ms)));
                self.replace(key, field, &left, attached);
            }
            (Some(_), None, None) => {
                self.forget_parts(key, Bodies::STRING);
                let (bodies, deadlines) = (Bodies::STRING, false);
                self.emit(key, Change::Remove { bodies, deadlines });
            }
            (Some(_), None, Some(field)) => {
                self.forget_field(key, field);
                let deadlines = true;
                self.emit(key, Change::FieldRemove { field, deadlines });
            }
            _ => {}
        }
    }

    fn remove_member_again(&mut self, again: &Again, key: &Key<'_>, member: &[u8]) {
        let state = &self.shard.state;
        let is_there = state.set(key).is_some_and(|set| set.contains(member));
        if is_there && !state.member_left(key, member, &again.past) {
            self.emit(key, Change::MemberRemove { member });
        }
    }

    fn remove_score_again(&mut self, again: &Again, key: &Key<'_>, member: &[u8]) {
        let state = &self.shard.state;
        let named = again.scores(key, member);
        let now = state.score_left(key, member, &again.past.blind(), &[], None);
        let left = state.score_left(key, member, &again.past, &named, None);
        match (now.value, left.value) {
            (Some(_), None) => {
                self.forget_score(key, member);
                self.emit(key, Change::ScoreRemove { member });
            }
            (Some(now), Some(left)) if now != left => {
                if let Some(score) = score_in(Some(&left)) {
                    self.forget_score(key, member);
                    self.emit(key, Change::ScoreSet { member, score });
                }
            }
            _ => {}
        }
    }
}
