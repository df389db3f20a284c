//! Scripts of frames and heartbeats against one delivery.

use std::collections::BTreeSet;

use crdt::{Change, Effect, Epoch, Frame, FrameWriter, Origin, Region, Time, Version};

use super::*;
use crate::proto::message::Announcement;

mod excluded;

const NOW_MS: u64 = 1_000;

fn region(id: u8) -> Region {
    Region::new(id).expect("not 0")
}

fn origin(id: u8, epoch: u64) -> Origin {
    Origin::new(region(id), Epoch(epoch))
}

fn at(ms: u64) -> Time {
    Time::from_ms(ms)
}

/// Region 1 of regions 1 to `members`.
fn delivery(members: u8, inbox_bytes_max: usize) -> Delivery {
    let members: BTreeSet<Region> = (1..=members).map(region).collect();
    Delivery::new(DeliveryConfig {
        own: origin(1, 1),
        members,
        inbox_bytes_max,
        max_clock_drift_ms: 500,
    })
}

/// Writes frames of one origin that follow each other.
struct Issuer(FrameWriter);

impl Issuer {
    fn new(origin: Origin) -> Self {
        Self(FrameWriter::new(0, origin))
    }

    /// A frame of ops at these milliseconds that have all seen `deps`.
    fn frame(&mut self, ms: &[u64], deps: &[(Origin, u64)]) -> Frame {
        let deps: Version = deps.iter().map(|&(origin, ms)| (origin, at(ms))).collect();
        for &ms in ms {
            self.0.begin_op(at(ms), &deps);
            self.0.push(&Effect {
                key: b"k",
                change: Change::MemberAdd { member: b"m" },
            });
            self.0.end_op();
        }
        self.0.seal().expect("there are ops")
    }
}

fn heartbeat(origin: Origin, last_op: u64, time: u64, applied: &[(Origin, u64)]) -> Heartbeat {
    Heartbeat {
        origin,
        last_op: at(last_op),
        time: at(time),
        applied: applied
            .iter()
            .map(|&(origin, ms)| (origin, at(ms)))
            .collect(),
        kept: None,
        announced: Vec::new(),
    }
}

/// Offers a frame from its own region and applies all that is ready. Returns the times applied.
fn give(to: &mut Delivery, frame: &Frame) -> Vec<u64> {
    let from = frame.origin().region;
    to.offer(frame.clone(), from, NOW_MS);
    apply(to)
}

fn apply(to: &mut Delivery) -> Vec<u64> {
    let mut times = Vec::new();
    while let Some((frame, skip)) = to.next_ready() {
        times.extend(
            frame
                .iter()
                .map(|op| op.stamp.time)
                .filter(|&t| skip < t)
                .map(Time::ms),
        );
        to.applied(&frame);
    }
    times
}

fn announcement(about: u8, below: u64, held: &[(Origin, u64)]) -> Announcement {
    Announcement {
        region: region(about),
        below: Epoch(below),
        held: held.iter().map(|&(origin, ms)| (origin, at(ms))).collect(),
    }
}

#[test]
fn frames_apply_in_order_once_and_without_a_gap() {
    let mut b = Issuer::new(origin(2, 1));
    let (one, two, three) = (
        b.frame(&[10], &[]),
        b.frame(&[11, 12], &[]),
        b.frame(&[13], &[]),
    );
    let mut a = delivery(2, 1 << 20);
    assert_eq!(a.offer(two.clone(), region(2), NOW_MS), Offer::Gap);
    assert_eq!(a.offer(one.clone(), region(2), NOW_MS), Offer::Ready);
    assert_eq!(a.offer(one, region(2), NOW_MS), Offer::Duplicate);
    assert_eq!(give(&mut a, &two), [10, 11, 12]);
    assert_eq!(give(&mut a, &two), []);
    assert_eq!(give(&mut a, &three), [13]);
    assert_eq!(a.version().get(origin(2, 1)), at(13));
}

#[test]
fn of_a_frame_that_is_held_in_part_the_rest_is_applied() {
    let (mut short, mut long) = (Issuer::new(origin(2, 1)), Issuer::new(origin(2, 1)));
    let mut a = delivery(2, 1 << 20);
    assert_eq!(give(&mut a, &short.frame(&[10], &[])), [10]);
    assert_eq!(give(&mut a, &long.frame(&[10, 11], &[])), [11]);
}

#[test]
fn a_frame_waits_for_what_its_ops_had_seen() {
    let (mut b, mut c) = (Issuer::new(origin(2, 1)), Issuer::new(origin(3, 1)));
    let cause = c.frame(&[10], &[]);
    let effect = b.frame(&[20], &[(origin(3, 1), 10)]);
    let mut a = delivery(3, 1 << 20);
    assert_eq!(a.offer(effect, region(2), NOW_MS), Offer::Waiting);
    assert_eq!(apply(&mut a), []);
    assert_eq!(give(&mut a, &cause), [10, 20]);
}

#[test]
fn what_waits_is_bounded_and_what_is_first_is_taken() {
    let mut b = Issuer::new(origin(2, 1));
    let deps = [(origin(3, 1), 10)];
    let (one, two) = (b.frame(&[20], &deps), b.frame(&[21], &deps));
    let mut a = delivery(3, 1);
    assert_eq!(a.offer(one.clone(), region(2), NOW_MS), Offer::Waiting);
    assert_eq!(a.offer(two.clone(), region(2), NOW_MS), Offer::Full);
    assert_eq!(a.waiting_bytes(), one.bytes().len());
    assert_eq!(
        give(&mut a, &Issuer::new(origin(3, 1)).frame(&[10], &[])),
        [10, 20]
    );
    assert_eq!(give(&mut a, &two), [21]);
}

#[test]
fn heartbeat_over_a_gap() {
    let (b, mut a) = (origin(2, 1), delivery(2, 1 << 20));
    a.heard(heartbeat(b, 5, 9, &[]), region(2), NOW_MS);
    assert_eq!(a.version().get(b), Time::ZERO, "op 5 is missing");
    assert_eq!(a.behind_since(region(2)), Some(NOW_MS));
    assert_eq!(give(&mut a, &Issuer::new(b).frame(&[5], &[])), [5]);
    assert_eq!(a.version().get(b), at(9), "then it counts");
    assert_eq!(a.deps().0.get(b), at(5), "but is no op");
    assert_eq!(a.behind_since(region(2)), None);
}

#[test]
fn a_time_too_far_ahead_is_not_admitted_until_the_clock_has_passed_it() {
    let b = origin(2, 1);
    let frame = Issuer::new(b).frame(&[NOW_MS + 600], &[]);
    let mut a = delivery(2, 1 << 20);
    assert_eq!(a.offer(frame.clone(), region(2), NOW_MS), Offer::Ahead);
    a.heard(heartbeat(b, 0, NOW_MS + 9_000, &[]), region(2), NOW_MS);
    assert!(
        a.version().get(b) <= at(NOW_MS + 501),
        "nor does a heartbeat drag it along"
    );
    assert_eq!(
        a.offer(frame.clone(), region(2), NOW_MS + 100),
        Offer::Ready
    );

    let mut trusting = delivery(2, 1 << 20);
    trusting.accept_clock(region(2));
    assert_eq!(trusting.offer(frame, region(2), NOW_MS), Offer::Ready);
}

#[test]
fn ops_of_strangers_and_forged_ones_of_ours_are_refused() {
    let mut a = delivery(2, 1 << 20);
    let ours = Issuer::new(origin(1, 1)).frame(&[5], &[]);
    assert_eq!(
        a.offer(ours.clone(), region(2), NOW_MS),
        Offer::Refused(Refusal::Ours)
    );
    a.issued(at(5));
    assert_eq!(a.offer(ours, region(2), NOW_MS), Offer::Duplicate);
    let strange = Issuer::new(origin(9, 1)).frame(&[5], &[]);
    assert_eq!(
        a.offer(strange, region(2), NOW_MS),
        Offer::Refused(Refusal::Stranger)
    );
}

#[test]
fn a_region_alone_holds_everything_stable() {
    let mut a = delivery(1, 1 << 20);
    a.issued(at(5));
    assert_eq!(a.stable().get(origin(1, 1)), at(5));
}

/// A delivery of region 1 at which everybody has announced the first epochs.
fn settled() -> Delivery {
    let mut a = delivery(3, 1 << 20);
    for id in [2, 3] {
        let announced = (1..=3).map(|about| announcement(about, 1, &[])).collect();
        a.heard(
            Heartbeat {
                announced,
                ..heartbeat(origin(id, 1), 0, 1, &[])
            },
            region(id),
            NOW_MS,
        );
    }
    assert!(a.open_endings().is_empty());
    a
}

#[test]
fn stable_is_what_every_region_has_acknowledged() {
    let (own, b, c) = (origin(1, 1), origin(2, 1), origin(3, 1));
    let mut a = settled();
    a.issued(at(5));
    a.heard(heartbeat(b, 0, 10, &[(own, 5)]), region(2), NOW_MS);
    assert_eq!(a.stable().get(own), Time::ZERO, "region 3 has not");
    a.heard(heartbeat(c, 7, 10, &[(own, 5), (c, 7)]), region(3), NOW_MS);
    assert_eq!(
        a.stable().get(own),
        Time::ZERO,
        "an op of it is missing that may not have seen it"
    );
    let as_answer: Version = [(own, at(5))].into_iter().collect();
    assert_eq!(a.acknowledged(&as_answer, false), 2, "but it has it");
    assert_eq!(give(&mut a, &Issuer::new(c).frame(&[7], &[])), [7]);
    assert_eq!(a.stable().get(own), at(5));
    assert_eq!(a.stable().get(c), Time::ZERO, "region 2 has not");
}

#[test]
fn a_new_epoch_closes_the_old_one_once_all_is_held() {
    let (old, new) = (origin(2, 1), origin(2, 9));
    let mut issuer = Issuer::new(old);
    let (first, second) = (issuer.frame(&[10], &[]), issuer.frame(&[11], &[]));
    let third = issuer.frame(&[12], &[]);
    let mut a = settled();
    give(&mut a, &first);
    a.heard(heartbeat(new, 0, 100, &[]), region(2), NOW_MS);
    let said = a.heartbeat(at(NOW_MS)).announced;
    assert!(said.contains(&announcement(2, 9, &[(old, 10)])), "{said:?}");
    assert_eq!(
        a.offer(second.clone(), region(2), NOW_MS),
        Offer::Refused(Refusal::Ended)
    );

    // Region 2 starts empty; region 3 has one op more than we.
    let by = |id, epoch, held: &[(Origin, u64)]| Heartbeat {
        announced: vec![
            announcement(1, 1, &[]),
            announcement(2, 9, held),
            announcement(3, 1, &[]),
        ],
        ..heartbeat(origin(id, epoch), 0, 101, &[])
    };
    a.heard(by(2, 9, &[]), region(2), NOW_MS);
    a.heard(by(3, 1, &[(old, 11)]), region(3), NOW_MS);
    let ending = Ending {
        region: region(2),
        below: Epoch(9),
        is_final: true,
    };
    assert_eq!(a.open_endings(), [ending], "op 11 is missing");
    assert_eq!(
        a.offer(second, region(3), NOW_MS),
        Offer::Ready,
        "region 3 is believed"
    );
    assert_eq!(apply(&mut a), [11]);
    assert!(a.open_endings().is_empty());
    assert_eq!(a.version().floor(region(2)), Epoch(9));
    assert_eq!(a.deps().0.floor(region(2)), Epoch(9));

    assert_eq!(a.offer(first, region(3), NOW_MS), Offer::Duplicate);
    assert_eq!(
        a.offer(third.clone(), region(3), NOW_MS),
        Offer::Late(third.clone())
    );
    assert_eq!(
        a.late(),
        std::slice::from_ref(&third),
        "until its region has issued it again"
    );
    assert!(!a.can_reissue(&third));
    assert_eq!(a.closed_at(old), at(11));
    a.drop_late(|frame, end| frame.origin() == old && end == at(11));
    assert_eq!(a.late(), []);
}

#[test]
fn under_steady_writes_heartbeats_are_taken_and_lag_does_not_grow() {
    let (own, b) = (origin(1, 1), origin(2, 1));
    let mut issuer = Issuer::new(b);
    let mut a = delivery(2, 1 << 20);
    let announced = [1, 2].map(|about| announcement(about, 1, &[])).to_vec();
    a.heard(
        Heartbeat {
            announced,
            ..heartbeat(b, 0, 1, &[])
        },
        region(2),
        NOW_MS,
    );
    a.issued(at(5));
    for ms in 10..100 {
        // Every heartbeat names an op that comes only after the next heartbeat.
        a.heard(heartbeat(b, ms, ms, &[(own, 5)]), region(2), NOW_MS + ms);
        if 10 < ms {
            assert_eq!(give(&mut a, &issuer.frame(&[ms - 1], &[])), [ms - 1]);
        }
        assert_eq!(a.behind_since(region(2)), Some(NOW_MS + ms));
    }
    assert_eq!(a.stable().get(own), at(5));
}

#[test]
fn what_a_region_announced_ends_with_its_life() {
    let mut a = settled();
    let says = |by, two, held: &[(Origin, u64)]| Heartbeat {
        announced: vec![
            announcement(1, 1, &[]),
            announcement(2, two, &[]),
            announcement(3, 9, held),
        ],
        ..heartbeat(by, 0, 100, &[])
    };
    a.heard(says(origin(3, 9), 1, &[]), region(3), NOW_MS);
    let held = [(origin(3, 1), 11)];
    a.heard(says(origin(2, 1), 1, &held), region(2), NOW_MS);
    let open = |a: &Delivery| {
        a.open_endings()
            .iter()
            .map(|e| e.region.id())
            .collect::<Vec<_>>()
    };
    assert_eq!(open(&a), [3], "region 2 has an op that we lack");
    a.heard(heartbeat(origin(2, 5), 0, 101, &[]), region(2), NOW_MS);
    assert_eq!(open(&a), [2, 3], "and has not said what is left of it");
    a.heard(says(origin(2, 5), 5, &[]), region(2), NOW_MS);
    assert_eq!(open(&a), [2, 3], "region 3 may have got it in time");
    a.heard(says(origin(3, 9), 5, &[]), region(3), NOW_MS);
    assert_eq!(open(&a), [0; 0], "it has not: it is lost");
}

/// What a life that is over had handed on is waited for: else one region would close without what
/// another holds.
#[test]
fn what_was_handed_on_before_a_life_ended_is_waited_for() {
    let old = origin(2, 1);
    let mut issuer = Issuer::new(old);
    let (first, second) = (issuer.frame(&[10], &[]), issuer.frame(&[11], &[]));
    let mut a = delivery(4, 1 << 20);
    let says = |by: Origin, two, three, held: &[(Origin, u64)]| Heartbeat {
        announced: vec![
            announcement(1, 1, &[]),
            announcement(2, two, held),
            announcement(3, three, &[]),
            announcement(4, 1, &[]),
        ],
        ..heartbeat(by, 0, 100, &[])
    };
    for id in [2, 3, 4] {
        let first = Heartbeat {
            time: at(1),
            ..says(origin(id, 1), 1, 1, &[])
        };
        a.heard(first, region(id), NOW_MS);
    }
    give(&mut a, &first);
    // Region 3 had an op more and handed it to region 4, whose word of that is under way.
    a.heard(says(origin(2, 9), 9, 1, &[]), region(2), NOW_MS);
    a.heard(says(origin(4, 1), 9, 1, &[(old, 10)]), region(4), NOW_MS);
    a.heard(says(origin(3, 5), 9, 5, &[]), region(3), NOW_MS);
    a.heard(says(origin(2, 9), 9, 5, &[]), region(2), NOW_MS);
    assert_eq!(a.version().floor(region(2)), Epoch(1));
    a.heard(says(origin(4, 1), 9, 5, &[(old, 11)]), region(4), NOW_MS);
    assert_eq!(a.version().floor(region(2)), Epoch(1), "op 11 is missing");
    assert_eq!(a.offer(second, region(4), NOW_MS), Offer::Ready);
    assert_eq!(apply(&mut a), [11]);
    assert_eq!(a.version().floor(region(2)), Epoch(9));
}

/// What others have closed without us they count as held, whatever we have written in it.
#[test]
fn others_that_have_closed_lives_of_ours_have_none_of_what_we_hold_of_them() {
    let own = origin(1, 1);
    let ops = Version::from_iter([(own, at(5))]);
    let of_others = Version::from_iter([(origin(2, 1), at(3))]);
    let closes = |id, epoch| {
        let mut heard = heartbeat(origin(id, 1), 3, 20, &[(origin(2, 1), 3)]);
        heard.applied.raise_floor(region(1), Epoch(epoch));
        heard
    };
    let mut a = settled();
    give(&mut a, &Issuer::new(origin(2, 1)).frame(&[3], &[]));
    a.issued(at(5));
    for id in [2, 3] {
        a.heard(closes(id, 2), region(id), NOW_MS);
    }
    assert!(!a.all_have(&ops));
    assert_eq!(a.acknowledged(&ops, false), 0);
    assert_eq!(a.acknowledged(&ops, true), 0);
    assert_eq!(a.stable().get(own), Time::ZERO);
    assert!(a.all_have(&of_others), "but they have what they say");

    // A life that comes back on the disk of that one, and has not been told.
    let mut later = Delivery::new(DeliveryConfig {
        own: origin(1, 9),
        ..a.config
    });
    later.recovered(&Issuer::new(own).frame(&[5], &[]));
    for id in [2, 3] {
        later.heard(closes(id, 2), region(id), NOW_MS);
    }
    assert!(!later.all_have(&ops));
    assert_eq!(later.acknowledged(&ops, false), 0);
}

/// Up to which epoch a region has closed another's origins can be ahead of what it has last
/// announced of them: then that does not say where they ended.
#[test]
fn what_another_has_closed_ends_where_it_says_and_is_announced_like_that() {
    let frame = Issuer::new(origin(3, 1)).frame(&[10], &[]);
    let closed = |below, held: &[(Origin, u64)]| {
        let mut heard = heartbeat(origin(2, 1), 0, 20, &[]);
        heard.applied.raise_floor(region(3), Epoch(2));
        heard.announced = vec![announcement(3, below, held)];
        heard
    };
    let mut a = delivery(3, 1 << 20);
    a.heard(closed(1, &[]), region(2), NOW_MS);
    assert_eq!(a.offer(frame, region(2), NOW_MS), Offer::Ready);
    assert_eq!(apply(&mut a), [10], "it is not taken for held");
    assert_eq!(a.version().floor(region(3)), Epoch(0));

    let held = [(origin(3, 1), 10)];
    a.heard(closed(2, &held), region(2), NOW_MS);
    assert_eq!(a.version().floor(region(3)), Epoch(2));
    let announced = a.heartbeat(at(900)).announced;
    assert!(
        announced.contains(&announcement(3, 2, &held)),
        "{announced:?}"
    );
}

/// What a region announces may be passed on before its heartbeat counts where it comes from.
#[test]
fn what_another_holds_whole_comes_before_parts_also_where_that_was_passed_on() {
    let (b, old) = (origin(2, 1), origin(3, 1));
    let says = |by: Origin, held: &[(Origin, u64)]| Heartbeat {
        announced: [(1, 1), (2, 1), (3, 9), (4, 1)]
            .map(|(about, below)| announcement(about, below, if about == 3 { held } else { &[] }))
            .to_vec(),
        ..heartbeat(by, 0, 30, held)
    };
    let before = heartbeat(b, 0, 20, &[]);
    // Of region 2, region 4 lacks an op.
    let mut d = Delivery::new(DeliveryConfig {
        own: origin(4, 1),
        ..delivery(4, 1 << 20).config
    });
    d.heard(before.clone(), region(2), NOW_MS);
    let waits = Heartbeat {
        last_op: at(25),
        ..says(b, &[(old, 10)])
    };
    d.heard(waits, region(2), NOW_MS);
    let relayed = d.relay_of(region(2)).expect("one counts");
    assert_eq!((relayed.last_op, relayed.time), (Time::ZERO, at(20)));
    assert_eq!(relayed.kept().get(old), Time::ZERO, "it comes after op 25");

    let mut a = delivery(4, 1 << 20);
    a.heard(before, region(2), NOW_MS);
    for by in [origin(3, 9), origin(4, 1)] {
        a.heard(says(by, &[]), region(by.region.id()), NOW_MS);
    }
    a.note_ahead(&Version::from_iter([(old, at(20))]));
    assert!(a.orphans().is_empty(), "region 2 has said nothing");
    a.heard(relayed, region(4), NOW_MS);
    assert!(a.orphans().is_empty(), "it has op 10 whole");
    let whole = Issuer::new(old).frame(&[10], &[]);
    assert_eq!(a.offer(whole, region(2), NOW_MS), Offer::Ready);
    assert_eq!(apply(&mut a), [10]);
    assert_eq!(a.orphans(), Version::from_iter([(old, at(20))]));
    // Its state can be ahead of its word, as long as it lives.
    assert!(a.begin_to_take(region(2), crate::proto::Instant(0)));
    a.was_shown(&Version::from_iter([(old, at(20))]));
    a.stop_taking(region(2));
    assert!(
        a.orphans().is_empty(),
        "region 2 has shown that it has op 20 whole"
    );
    assert_eq!(a.shown_by(region(2), old), at(20));
    a.heard(heartbeat(origin(2, 2), 0, 30, &[]), region(2), NOW_MS);
    assert_eq!(a.shown_by(region(2), old), Time::ZERO, "it may be lost");
}
