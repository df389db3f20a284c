//! Scenarios that broke earlier versions of the semantics: each was found by searching, and each
//! is named after its symptom. Regions are numbered 0, 1, 2; `sync` delivers everything.

use crate::cluster::{Cluster, Intent, KEYS, Look};
use crdt::{Attached, Deadline, End, Region};

/// A plain `SET`.
const PLAIN: Attached = Attached::Deadline(Deadline::Never);
const BEFORE_ALL_DEADLINES: u64 = 0;
const AFTER_ALL_DEADLINES: u64 = 100;

/// Regions, and a wall clock that moves with every command.
pub(crate) struct Story {
    pub(crate) cluster: Cluster,
    pub(crate) wall_ms: u64,
}

impl Story {
    pub(crate) fn new() -> Self {
        Self {
            cluster: Cluster::new(3),
            wall_ms: 0,
        }
    }

    /// A command at a region, later than all before it.
    pub(crate) fn run(&mut self, region: usize, intent: Intent) -> &mut Self {
        self.transact(region, vec![intent])
    }

    pub(crate) fn transact(&mut self, region: usize, intents: Vec<Intent>) -> &mut Self {
        self.transact_at(region, BEFORE_ALL_DEADLINES, intents)
    }

    /// A command at a region, past all deadlines.
    fn late(&mut self, region: usize, intent: Intent) -> &mut Self {
        self.transact_at(region, AFTER_ALL_DEADLINES, vec![intent])
    }

    fn transact_at(&mut self, region: usize, now_ms: u64, intents: Vec<Intent>) -> &mut Self {
        self.wall_ms += 1;
        let commands: Vec<_> = intents.into_iter().map(|intent| (0, intent)).collect();
        let times = (self.wall_ms, now_ms);
        self.cluster.transact(region, times, &commands);
        self.cluster.replicas[region].check();
        self
    }

    /// Delivers everything.
    pub(crate) fn sync(&mut self) -> &mut Self {
        for region in 0..3 {
            while self.cluster.deliver(region, 0) {
                self.cluster.replicas[region].check();
            }
        }
        self
    }

    /// Delivers the next op that one region can take.
    fn deliver(&mut self, region: usize) -> &mut Self {
        assert!(self.cluster.deliver(region, 0), "there is one");
        self
    }

    pub(crate) fn collect(&mut self, region: usize) -> &mut Self {
        self.cluster.settle(region, usize::MAX);
        self.cluster.replicas[region].check();
        self
    }

    /// A new primary that lacks the last op of the old one.
    pub(crate) fn lose(&mut self, region: usize) -> &mut Self {
        self.cluster.fail(region, true);
        self
    }

    pub(crate) fn look(&self, region: usize) -> Look {
        let state = &self.cluster.replicas[region].state;
        Look::at(state, KEYS[0], BEFORE_ALL_DEADLINES)
    }

    /// Delivers everything, and checks that the string is what it should be in all regions, before
    /// all is collected and after.
    #[track_caller]
    pub(crate) fn ends_as(&mut self, expected: &str) {
        for region in 0..3 {
            while self.cluster.deliver(region, 0) {}
            let string = self.look(region).string.map(String::from_utf8);
            assert_eq!(string, Some(Ok(expected.into())), "in region {region}");
        }
        self.cluster.converge();
        let string = self.look(0).string.map(String::from_utf8);
        assert_eq!(string, Some(Ok(expected.into())), "when all is collected");
    }
}

pub(crate) fn set(value: &str) -> Intent {
    Intent::Set(value.into(), PLAIN)
}

pub(crate) fn append(value: &str) -> Intent {
    Intent::Append(value.into())
}

pub(crate) const X: u8 = b'x';

#[test]
fn falling_sum() {
    let mut story = Story::new();
    story.run(0, Intent::Add(-3)).sync();
    story.run(1, Intent::Delete).run(0, Intent::Add(5));
    story.ends_as("5");
}

#[test]
fn zero_increment() {
    Story::new().run(0, Intent::Add(0)).ends_as("0");
}

#[test]
fn double_delete() {
    let mut story = Story::new();
    story.run(0, Intent::Add(5)).sync();
    story.run(1, Intent::Delete).run(2, Intent::Delete).sync();
    story.run(0, Intent::Add(1)).ends_as("1");
}

#[test]
fn set_against_incr() {
    let mut story = Story::new();
    story.run(0, Intent::Add(5)).sync();
    story.run(1, set("10")).run(0, Intent::Add(1));
    story.ends_as("11");
}

#[test]
fn zrem_against_zincrby() {
    let mut story = Story::new();
    story.run(0, Intent::ScoreSet(X, 4.1)).sync();
    story.run(0, Intent::ScoreRemove(X));
    story.run(1, Intent::ScoreAdd(X, 2.0)).sync();
    for region in 0..3 {
        assert_eq!(story.look(region).scores, [(2.0, vec![X])]);
    }
    story.cluster.converge();
}

/// A delete that saw only the winner uncovers the loser, in every order of arrival.
#[test]
fn uncovered_sibling() {
    for winner_first in [true, false] {
        let mut story = Story::new();
        story.run(1, set("b")).run(0, set("a"));
        if winner_first {
            story.deliver(2);
        }
        story.run(0, Intent::Delete);
        story.ends_as("b");
    }
}

#[test]
fn add_against_remove() {
    let mut story = Story::new();
    story.run(0, Intent::MemberAdd(X));
    story.run(0, Intent::MemberRemove(X));
    story.run(1, Intent::MemberAdd(X)).sync();
    for region in 0..3 {
        assert!(story.look(region).members.contains(&[X][..]));
    }
    story.cluster.converge();
}

#[test]
fn fold_into_unstable_base() {
    let mut story = Story::new();
    story.run(1, append("x")).run(0, set("10"));
    story.run(1, Intent::Delete);
    story.deliver(0).collect(0);
    story.ends_as("10");
}

#[test]
fn new_life_no_deadline() {
    let mut story = Story::new();
    story.run(0, Intent::Push(End::Tail, b"1".to_vec()));
    story.run(0, Intent::End(Deadline::At(40)));
    story.run(0, Intent::Pop(End::Head, 1));
    story.run(0, Intent::Add(1)).ends_as("1");
    assert_eq!(story.look(0).ends_at, None);
}

#[test]
fn mixed_write_keeps_deadline() {
    let mut story = Story::new();
    let ending = Attached::Deadline(Deadline::At(30));
    story.run(0, Intent::Set(b"11".to_vec(), ending));
    story.run(0, Intent::Add(1)).run(0, append("x"));
    story.ends_as("12x");
    assert_eq!(story.look(0).ends_at, Some(30));
}

#[test]
fn push_after_pop() {
    let mut story = Story::new();
    story.run(0, Intent::Push(End::Tail, b"a".to_vec()));
    story.run(0, Intent::Pop(End::Head, 1)).sync();
    story.run(1, Intent::Push(End::Tail, b"b".to_vec()));
    story.collect(0).sync();
    for region in 0..3 {
        assert_eq!(story.look(region).elements, [b"b"]);
    }
    story.cluster.converge();
}

#[test]
fn lost_op_returns() {
    let mut story = Story::new();
    story.run(0, Intent::Add(5)).sync();
    story.run(0, Intent::Add(1)).deliver(2).lose(0);
    story.run(0, Intent::Add(1)).run(1, Intent::Delete);
    story.ends_as("2");
}

#[test]
fn births_in_one_op() {
    let mut story = Story::new();
    let commands = vec![Intent::Add(1), Intent::Delete, Intent::Add(2)];
    story.transact(0, commands).ends_as("2");
}

#[test]
fn set_against_flush_against_incr() {
    let mut story = Story::new();
    story.run(0, Intent::Add(5)).sync();
    story.run(0, Intent::Add(5));
    story.run(1, Intent::Delete).run(2, Intent::Flush);
    story.ends_as("5");
}

/// What survives a concurrent `DEL` still expires, also when it has been folded.
#[test]
fn a_folded_edit_keeps_the_deadline_it_carries() {
    let mut story = Story::new();
    story.run(0, Intent::Set(b"a".to_vec(), PLAIN));
    story.run(0, Intent::End(Deadline::At(30))).sync();
    story.run(1, append("x")).run(0, Intent::Delete);
    story.ends_as("x");
    assert_eq!(story.look(0).ends_at, Some(30));
}

/// A field's deadline that a removal of its hash left alone goes in the end.
#[test]
fn a_field_deadline_left_alone_goes() {
    let mut story = Story::new();
    story
        .run(0, Intent::FieldSet(X, b"1".to_vec(), PLAIN))
        .sync();
    story.run(0, Intent::FieldEnd(X, Deadline::At(30)));
    story.run(1, Intent::Delete).sync();
    story.cluster.converge();
    assert!(story.cluster.replicas[0].state.is_void());
}

/// Where infinities of both signs meet, an increment ships no sum that is not a number.
#[test]
fn infinities_that_meet_make_no_sum_that_is_not_a_number() {
    let mut story = Story::new();
    story.run(0, Intent::ScoreAdd(X, f64::INFINITY));
    story.run(1, Intent::ScoreAdd(X, f64::NEG_INFINITY)).sync();
    story.run(0, Intent::ScoreAdd(X, f64::NEG_INFINITY)).sync();
    assert_eq!(story.look(2).scores, [(f64::NEG_INFINITY, vec![X])]);
    story.cluster.converge();
}

/// Where there is no other region, what was removed goes at once, but not between the effects of
/// one op: a field's counter part is forgotten before the field is set.
#[test]
fn setting_the_only_field_keeps_the_keys_deadline() {
    let mut cluster = Cluster::new(1);
    let commands = [
        Intent::FieldAdd(X, 1),
        Intent::End(Deadline::At(30)),
        Intent::FieldSet(X, b"2".to_vec(), PLAIN),
    ];
    for command in commands {
        cluster.transact(0, (0, BEFORE_ALL_DEADLINES), &[(0, command)]);
    }
    let look = Look::at(&cluster.replicas[0].state, KEYS[0], BEFORE_ALL_DEADLINES);
    assert_eq!(look.ends_at, Some(30));
}

/// A deadline that a removal left alone stays until the removal is stable: a write that has not
/// seen the removal ends with it.
#[test]
fn a_lone_deadline_waits_for_what_has_not_seen_the_removal() {
    let mut story = Story::new();
    let write = || Intent::FieldSet(X, b"1".to_vec(), Attached::Nothing);
    story.run(0, write()).sync();
    story.run(0, Intent::End(Deadline::At(30))).sync();
    story.run(1, Intent::End(Deadline::At(30)));
    story.run(2, Intent::Delete);
    story.deliver(2).deliver(0).collect(2).collect(2);
    story.run(1, write()).sync();
    for region in 0..3 {
        assert_eq!(story.look(region).ends_at, Some(30), "in region {region}");
    }
    story.cluster.converge();
}

/// A deadline attached to a string that lost its key to a concurrent write of another type waits
/// until the string is what readers see.
#[test]
fn a_string_that_lost_its_key_does_not_end_the_winner() {
    let mut story = Story::new();
    let ending = Attached::Deadline(Deadline::At(30));
    story.run(0, Intent::Set(b"v".to_vec(), ending));
    story.run(1, Intent::MemberAdd(X)).sync();
    for region in 0..3 {
        assert_eq!(story.look(region).ends_at, None, "in region {region}");
    }
    story.run(2, Intent::MemberRemove(X)).sync();
    story.cluster.converge();
    assert_eq!(
        story.look(0).kind,
        None,
        "who removed it saw the string, too"
    );
}

/// As before, where the removal of the winner has not seen the string.
#[test]
fn a_string_that_gets_its_key_back_ends_at_its_deadline() {
    let mut story = Story::new();
    let ending = Attached::Deadline(Deadline::At(30));
    story.run(0, Intent::Set(b"v".to_vec(), ending));
    story.run(1, Intent::MemberAdd(X));
    story.deliver(2).deliver(2);
    assert_eq!(story.look(2).ends_at, None);
    story.run(1, Intent::MemberRemove(X));
    story.ends_as("v");
    assert_eq!(story.look(0).ends_at, Some(30));
}

/// The none of a plain `SET` that lost its key does not keep the winner from ending.
#[test]
fn a_plain_set_that_lost_its_key_does_not_keep_the_winner() {
    let mut story = Story::new();
    story.run(1, Intent::MemberAdd(X)).sync();
    story.run(1, Intent::End(Deadline::At(30)));
    story.run(0, set("v"));
    story.run(1, Intent::MemberAdd(X)).sync();
    for region in 0..3 {
        assert_eq!(story.look(region).ends_at, Some(30), "in region {region}");
    }
    story.cluster.converge();
}

/// What a removal of a key past its deadline had not seen stays hidden behind the deadline.
#[test]
fn what_a_removal_had_not_seen_stays_hidden() {
    let mut story = Story::new();
    story.run(0, Intent::MemberAdd(b'a'));
    story.run(0, Intent::End(Deadline::At(30))).sync();
    story.run(1, Intent::MemberAdd(b'b'));
    story.late(0, Intent::Reap).sync();
    for region in 0..3 {
        let look = story.look(region);
        assert_eq!(look.members, [vec![b'b']].into());
        assert_eq!(look.ends_at, Some(30), "in region {region}");
    }
    story.late(2, Intent::Reap);
    story.cluster.converge();
    assert!(story.cluster.replicas[0].state.is_void());
}

/// As before, of a field.
#[test]
fn what_a_removal_of_a_field_had_not_seen_stays_hidden() {
    let mut story = Story::new();
    let write = |by| Intent::FieldAdd(X, by);
    story.run(0, write(1)).sync();
    story.run(0, Intent::FieldEnd(X, Deadline::At(30))).sync();
    story.run(1, write(2));
    story.late(0, Intent::FieldReap(X)).sync();
    for region in 0..3 {
        let field = story.look(region).fields.remove(&[X][..]);
        assert_eq!(field, Some((b"2".to_vec(), Some(30))), "in region {region}");
    }
    story
        .late(2, Intent::FieldReap(X))
        .late(1, Intent::FieldReap(X));
    story.cluster.converge();
    assert!(story.cluster.replicas[0].state.is_void());
}

/// An extension that a removal had not seen comes too late, and nothing is left of it.
#[test]
fn an_extension_that_crosses_a_removal_leaves_nothing() {
    let mut story = Story::new();
    story.run(0, Intent::MemberAdd(X));
    story.run(0, Intent::End(Deadline::At(30))).sync();
    story.run(1, Intent::End(Deadline::Never));
    story.late(0, Intent::Reap).late(2, Intent::Reap).sync();
    for region in 0..3 {
        assert_eq!(story.look(region).kind, None, "in region {region}");
    }
    story.cluster.converge();
    assert!(story.cluster.replicas[0].state.is_void());
}

/// Of equal deadlines each replica keeps the same when they are stable, whatever came first.
#[test]
fn of_equal_deadlines_the_lowest_region_removes() {
    let mut story = Story::new();
    story.run(0, Intent::MemberAdd(X)).sync();
    story.run(2, Intent::End(Deadline::At(30)));
    story.run(1, Intent::End(Deadline::At(30)));
    story.sync().cluster.converge();
    for replica in &story.cluster.replicas {
        let regions = replica.state.ending_regions();
        assert_eq!(regions, Region::new(2).into_iter().collect::<Vec<_>>());
    }
}

/// A member waits to be settled, goes, and is there again, with nothing to settle.
#[test]
fn a_member_that_was_added_anew_stays_in_the_order() {
    let mut story = Story::new();
    story.run(0, Intent::ScoreSet(X, 1.0));
    story.run(1, Intent::ScoreSet(X, 2.0)).sync();
    story.run(0, Intent::ScoreRemove(X));
    story.run(0, Intent::ScoreSet(X, 3.0)).sync();
    for region in 0..3 {
        story.collect(region);
        assert_eq!(story.look(region).scores, [(3.0, vec![X])]);
    }
    story.cluster.converge();
}
