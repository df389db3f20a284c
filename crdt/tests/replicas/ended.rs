//! Counter parts of origins that ended: folded, removed, and raised by what turns up late.

use crate::cluster::{Intent, KEYS};
use crate::regressions::{Story, X, append, set};
use crdt::{Change, Dot, Number, Origin, Raised, SeenPart, Stamp, Time};

/// A counter of region 0 in its first life, at 5 everywhere, and then its second life.
fn counter_of_an_ended_origin() -> (Story, SeenPart<Number>) {
    let mut story = Story::new();
    story.run(0, Intent::Add(2)).run(0, Intent::Add(3)).sync();
    let state = &story.cluster.replicas[1].state;
    let part = state.string_parts(&state.seed().key(KEYS[0]))[0];
    story.lose(0).sync();
    (story, part)
}

impl Story {
    /// Folds what can be folded at a region, in as many steps as it takes.
    fn fold(&mut self, region: usize) -> &mut Self {
        self.collect(region).collect(region)
    }

    pub(crate) fn parts(&self, region: usize) -> usize {
        let state = &self.cluster.replicas[region].state;
        state.string_parts(&state.seed().key(KEYS[0])).len()
    }

    /// One more increment of an ended origin turns up, by 1, and a region issues it again.
    fn raise(&mut self, region: usize, origin: Origin, (birth, from): (Dot, Dot), sum: i128) {
        self.wall_ms += 1;
        let at = Dot {
            time: Time(from.time.0 + 1),
            index: 0,
        };
        let raised = Raised {
            origin,
            birth,
            from,
            from_sum: Number::int(sum),
            at,
            sum: Number::int(sum + 1),
        };
        let changes = [
            Change::Reissue(Stamp {
                time: at.time,
                origin,
            }),
            Change::RaisePart {
                field: None,
                raised: Box::new(raised),
            },
        ];
        self.cluster.raised.push(origin);
        self.cluster.emit(region, self.wall_ms, &changes);
        self.cluster.replicas[region].check();
    }
}

/// A part of an ended origin becomes the base; what is written by regions that have folded it and
/// by ones that have not means the same everywhere.
#[test]
fn a_part_of_an_ended_origin_is_folded() {
    let second = |intent: Intent, expected: &str| {
        for (folds, writes) in [(0, 0), (1, 0), (0, 1), (1, 2)] {
            let mut story = Story::new();
            story.run(0, Intent::Add(5)).sync().lose(0);
            story.run(1, set("other")).run(1, Intent::Delete).sync();
            story.run(0, Intent::Add(2)).run(1, Intent::Add(3)).sync();
            story.lose(0).sync().fold(folds);
            assert_eq!(story.parts(folds), 1, "that of the second life is folded");
            assert_eq!(story.parts(2), 2);
            story.run(writes, intent.clone()).ends_as(expected);
        }
    };
    second(Intent::Add(1), "6");
    second(append("x"), "5x");
    second(set("7"), "7");
    second(Intent::SetBit(3, false), "%");
}

#[test]
fn a_removal_by_who_has_folded_a_part_removes_it_where_it_is_not() {
    let mut story = Story::new();
    story
        .run(0, Intent::FieldAdd(X, 5))
        .run(0, Intent::Add(5))
        .sync();
    story.lose(0).sync().fold(1);
    story.run(1, Intent::Delete).sync();
    for region in 0..3 {
        assert_eq!(story.look(region).kind, None, "in region {region}");
    }
    story.cluster.converge();
}

/// An increment that turns up when its part is here folded, there removed, elsewhere neither.
#[test]
fn an_increment_turns_up_after_its_part_was_folded() {
    for folded in [vec![], vec![0], vec![1, 2], vec![0, 1, 2]] {
        let (mut story, part) = counter_of_an_ended_origin();
        for &region in &folded {
            assert_eq!(story.fold(region).parts(region), 0);
        }
        story.raise(0, part.origin, (part.birth, part.at), 5);
        story.ends_as("6");
        story.run(1, Intent::Add(1)).ends_as("7");
    }
}

#[test]
fn an_increment_turns_up_after_its_part_was_removed() {
    for collected in [vec![], vec![0], vec![1], vec![0, 1, 2]] {
        let (mut story, part) = counter_of_an_ended_origin();
        story.run(1, Intent::Delete).sync();
        for &region in &collected {
            story.fold(region);
        }
        story.raise(0, part.origin, (part.birth, part.at), 5);
        story.ends_as("1");
        story.run(2, Intent::Delete).sync();
        assert_eq!(story.look(0).kind, None);
        story.cluster.converge();
    }
}

/// A removal that has not seen the late increment leaves it, whether its issuer has folded or not.
#[test]
fn a_removal_does_not_take_what_turned_up_late() {
    for folded in [vec![], vec![1], vec![0], vec![0, 1, 2]] {
        let (mut story, part) = counter_of_an_ended_origin();
        for &region in &folded {
            story.fold(region);
        }
        story.run(1, Intent::Delete);
        story.raise(0, part.origin, (part.birth, part.at), 5);
        story.ends_as("1");
    }
}

/// The same op issued again by two regions counts once.
#[test]
fn an_increment_that_is_issued_again_twice_counts_once() {
    let (mut story, part) = counter_of_an_ended_origin();
    story.fold(0);
    story.raise(0, part.origin, (part.birth, part.at), 5);
    story.raise(1, part.origin, (part.birth, part.at), 5);
    story.ends_as("6");
}
