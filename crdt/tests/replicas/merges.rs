//! Regions that take in each other's state, where each has collected in its own time.

use crdt::{Attached, Deadline, End, Epoch, Origin, Region, Time, Version};

use crate::cluster::Intent;
use crate::cluster::pieces::check_same;
use crate::regressions::{Story, X, append, set};

impl Story {
    /// A region takes in the state of another.
    fn merge(&mut self, region: usize, from: usize) -> &mut Self {
        self.cluster.merge(region, from, 1);
        self.cluster.replicas[region].check();
        self
    }

    /// A region collects as if of the others' first lives these alone had ended.
    fn fold_ended(&mut self, region: usize, ended: &[u8]) -> &mut Self {
        let mut stable = Version::new();
        for id in 1..=3 {
            let of = Region::new(id).expect("not 0");
            for epoch in [1, 2] {
                stable.advance(Origin::new(of, Epoch(epoch)), Time(u64::MAX - 1));
            }
            if ended.contains(&id) {
                stable.raise_floor(of, Epoch(2));
            }
        }
        let replica = &mut self.cluster.replicas[region];
        for _ in 0..3 {
            replica.state.settle(&stable, usize::MAX);
        }
        replica.check();
        self
    }

    #[track_caller]
    fn check_alike(&self, a: usize, b: usize) {
        let [a, b] = [a, b].map(|region| &self.cluster.replicas[region].state);
        check_same(a, b, "merged");
    }
}

/// What one side has folded and the other has not is one thing in two forms.
#[test]
fn merge_of_folded() {
    let mut story = Story::new();
    story.run(0, append("a")).sync().collect(0);
    story.run(0, append("b"));
    story.merge(1, 0);
    assert_eq!(story.look(1).string, Some(b"ab".to_vec()));
    story.merge(0, 1).check_alike(0, 1);
    story.ends_as("ab");
}

#[test]
fn merge_into_folded() {
    let mut story = Story::new();
    story.run(0, set("a")).sync();
    story.run(0, append("b")).sync().collect(0);
    story.run(1, append("c"));
    story.merge(0, 1);
    assert_eq!(story.look(0).string, Some(b"abc".to_vec()));
    story.merge(1, 0).check_alike(0, 1);
    story.ends_as("abc");
}

/// An edit with a lower stamp than its base, folded here and apart there.
#[test]
fn merge_of_an_edit_older_than_its_base() {
    for (a, b) in [(0, 1), (1, 0)] {
        let mut story = Story::new();
        story
            .run(0, append("x"))
            .run(1, set("base"))
            .sync()
            .collect(0);
        story.merge(a, b);
        assert_eq!(story.look(a).string, Some(b"basex".to_vec()));
        story.ends_as("basex");
    }
}

/// A base with edits folded into it, which the other side has removed, and there an edit that has
/// become a base: that of two bases which has more in it is not the one that is left.
#[test]
fn merge_of_an_edit_that_has_become_a_base_where_the_one_before_was_removed() {
    let mut story = Story::new();
    story.run(2, set("a")).run(2, append("b")).sync();
    for _ in 0..3 {
        story.collect(2);
    }
    story.run(1, Intent::Delete).run(0, append("c"));
    for (region, from) in [(2, 0), (1, 0), (0, 1)] {
        story.cluster.deliver_from(region, from);
    }
    for _ in 0..3 {
        story.collect(0);
    }
    story.merge(2, 0);
    assert_eq!(story.look(2).string, Some(b"c".to_vec()));
    story.ends_as("c");
}

/// What was folded there and removed here by one who had seen it all stays removed.
#[test]
fn merge_of_folded_and_removed() {
    let mut story = Story::new();
    story
        .run(0, append("a"))
        .run(0, append("b"))
        .sync()
        .collect(0);
    story.run(1, Intent::Delete).run(1, append("c"));
    story.merge(1, 0).merge(0, 1).check_alike(0, 1);
    story.ends_as("c");
}

/// Two regions fold the parts of two origins that have ended, each first one and then the other.
fn folded_apart(first: Option<Intent>) -> Story {
    let mut story = Story::new();
    if let Some(first) = first {
        story.run(2, first).sync();
    }
    story.run(0, Intent::Add(5)).run(1, Intent::Add(7)).sync();
    for region in [0, 1] {
        story.cluster.fail(region, false);
    }
    story.fold_ended(0, &[1]).fold_ended(1, &[2]);
    assert_eq!((story.parts(0), story.parts(1)), (1, 1));
    story
}

#[test]
fn merge_of_parts_folded_in_another_order() {
    for (first, expected) in [(None, "12"), (Some(set("30")), "42")] {
        for (a, b) in [(0, 1), (1, 0), (2, 0), (2, 1), (0, 2), (1, 2)] {
            let mut story = folded_apart(first.clone());
            story.merge(a, b).check_alike(a, b);
            let text = Some(expected.as_bytes().to_vec());
            assert_eq!(story.look(a).string, text, "{a} has merged {b}");
            story.merge(b, a).check_alike(a, b);
            story.ends_as(expected);
        }
    }
}

#[test]
fn merge_of_parts_folded_in_another_order_and_removed() {
    for remover in [0, 1, 2] {
        for (a, b) in [(0, 1), (1, 0), (2, 0), (0, 2)] {
            let mut story = folded_apart(None);
            story.run(remover, Intent::Delete);
            story.merge(a, b).merge(b, a).check_alike(a, b);
            story.sync();
            assert_eq!(story.look(a).kind, None, "by {remover}");
            story.run(remover, Intent::Add(1)).ends_as("1");
        }
    }
}

/// A counter that is removed here and counts on there.
#[test]
fn merge_of_removed_parts() {
    let mut story = Story::new();
    story.run(0, Intent::Add(5)).sync();
    story.run(1, Intent::Delete).run(0, Intent::Add(2));
    story.merge(1, 0).merge(0, 1).check_alike(0, 1);
    story.ends_as("2");
}

/// A removed part that one side has dropped does not come back from the other.
#[test]
fn merge_of_dropped_parts() {
    let mut story = Story::new();
    story.run(0, Intent::Add(5)).sync();
    story.run(1, Intent::Delete).sync().collect(1);
    story.run(0, Intent::FieldAdd(X, 1));
    story.merge(0, 1).merge(1, 0).check_alike(0, 1);
    assert_eq!(story.look(0).string, None);
    story
        .run(0, Intent::Delete)
        .run(0, Intent::Add(3))
        .ends_as("3");
}

/// A removed part is among what both sides must hold for a key to be passed over, though nobody
/// reads it: it says what of a later increment counts.
#[test]
fn a_removed_part_is_not_passed_over() {
    let field = Intent::FieldSet(b'f', b"v".to_vec(), Attached::Nothing);
    let counted = [Intent::FieldAdd(X, 8), Intent::FieldAdd(X, 1)];
    let scored = [Intent::ScoreAdd(X, 8.0), Intent::ScoreAdd(X, 1.0)];
    for (other, [first, second], removal) in [
        (field, counted, Intent::FieldRemove(X)),
        (Intent::ScoreSet(b'f', 1.0), scored, Intent::ScoreRemove(X)),
    ] {
        let mut story = Story::new();
        story.run(0, other).sync().run(0, first);
        story.cluster.deliver_from(1, 0);
        story.run(1, removal).run(0, second);
        story.merge(2, 1).sync().check_alike(0, 2);
        story.cluster.converge();
    }
}

/// A deadline that was carried by an edit, folded here and removed there.
#[test]
fn merge_of_a_carried_deadline_that_was_removed() {
    let ending = Attached::Deadline(Deadline::At(40));
    for (a, b) in [(0, 1), (1, 0)] {
        let mut story = Story::new();
        story
            .run(0, Intent::Set(b"v".to_vec(), ending))
            .run(0, append("x"))
            .sync();
        story.collect(0);
        story.run(1, Intent::End(Deadline::Never));
        story.merge(a, b);
        assert_eq!(story.look(a).ends_at, None);
        story.ends_as("vx");
    }
}

/// A loser of a race, which one side has dropped, and its deadline.
#[test]
fn merge_of_siblings() {
    let mut story = Story::new();
    story.run(0, set("a")).run(1, set("b")).sync().collect(0);
    story.run(2, Intent::Delete);
    story.merge(0, 1).merge(1, 2).merge(2, 0).merge(0, 2);
    for region in 0..3 {
        assert_eq!(story.look(region).kind, None, "at {region}");
    }
    story.cluster.converge();
}

/// A piece has the whole of an op that removes and adds, and the op is applied again.
#[test]
fn an_op_that_removes_and_adds_again() {
    let push = || Intent::Push(End::Tail, b"e".to_vec());
    let field = || Intent::FieldSet(X, b"f".to_vec(), Attached::Nothing);
    let add = || Intent::FieldAdd(X, 2);
    let score = || Intent::ScoreAdd(X, 0.5);
    for write in [
        push(),
        field(),
        add(),
        score(),
        Intent::MemberAdd(X),
        set("a"),
        append("b"),
    ] {
        let mut story = Story::new();
        story.run(0, write.clone());
        story.cluster.begin_snapshot(0, usize::MAX);
        story.transact(0, vec![write.clone(), Intent::Delete, write]);
        let digest = story.cluster.replicas[0].state.digest();
        story.cluster.go_on();
        assert_eq!(story.cluster.replicas[0].state.digest(), digest);
        story.run(0, Intent::Flush).sync();
        story.cluster.converge();
    }
}

/// Merging twice, with oneself and in turns, changes nothing.
#[test]
fn merges_come_to_one_state_whatever_their_order() {
    let run = |order: &[(usize, usize)]| {
        let mut story = Story::new();
        story.run(0, set("1")).sync();
        story
            .run(0, Intent::Add(2))
            .run(1, append("x"))
            .run(2, Intent::FieldSet(X, b"f".to_vec(), Attached::Nothing));
        story.collect(1);
        for &(region, from) in order {
            story.merge(region, from);
        }
        story
    };
    let orders: [&[(usize, usize)]; 4] = [
        &[(0, 1), (0, 2), (1, 0), (2, 1)],
        &[(1, 2), (1, 1), (0, 1), (2, 0), (1, 2)],
        &[(2, 1), (2, 0), (1, 2), (0, 1), (0, 0)],
        &[(0, 2), (1, 0), (2, 1), (0, 1), (1, 2)],
    ];
    let first = run(orders[0]);
    for order in orders {
        let story = run(order);
        for region in 0..3 {
            let state = &story.cluster.replicas[region].state;
            check_same(state, &first.cluster.replicas[0].state, "in another order");
        }
    }
}
