//! Regions that take part no more.

use super::*;

#[test]
fn what_others_hold_of_an_excluded_region_is_taken_until_all_have_said() {
    let mut a = delivery(3, 1 << 20);
    let mut c = Issuer::new(origin(3, 1));
    let frames = [10, 11, 12].map(|ms| c.frame(&[ms], &[]));
    assert_eq!(give(&mut a, &frames[0]), [10]);
    assert_eq!(
        a.exclude(region(3), Epoch(1)),
        Epoch(2),
        "its epoch 1 is over"
    );
    assert_eq!(a.exclude(region(3), Epoch(1)), Epoch(2), "once");
    a.done_without(region(3), &[region(2)].into());
    let ended = Offer::Refused(Refusal::Ended);
    assert_eq!(a.offer(frames[1].clone(), region(3), NOW_MS), ended);
    let later = Issuer::new(origin(3, 7)).frame(&[20], &[]);
    assert_eq!(a.offer(later, region(2), NOW_MS), ended);
    assert_eq!(
        a.open_endings().last().map(|ending| ending.region),
        Some(region(3))
    );
    let mut word = heartbeat(origin(2, 1), 0, 20, &[(origin(3, 1), 11)]);
    word.announced = vec![
        announcement(1, 1, &[]),
        announcement(2, 1, &[]),
        announcement(3, 2, &[(origin(3, 1), 11)]),
    ];
    a.heard(word, region(2), NOW_MS);
    assert!(!a.open_endings().is_empty(), "2 holds more than we do");
    assert_eq!(a.offer(frames[1].clone(), region(2), NOW_MS), Offer::Ready);
    assert_eq!(apply(&mut a), [11]);
    assert!(a.open_endings().is_empty());
    assert!(a.all_have(&Version::from_iter([(origin(3, 1), at(11))])));
    assert!(matches!(
        a.offer(frames[2].clone(), region(2), NOW_MS),
        Offer::Late(_)
    ));
    assert!(a.admit(region(3)) && !a.admit(region(3)));
    assert!(
        !a.all_have(&Version::new()),
        "it has said nothing since it is back"
    );
}

/// Until a region does without another, it takes from that one what it holds of a third.
#[test]
fn what_was_announced_before_another_was_excluded_does_not_count() {
    let mut a = delivery(4, 1 << 20);
    a.heard(heartbeat(origin(4, 1), 0, 20, &[]), region(4), NOW_MS);
    a.exclude(region(4), Epoch(2));
    a.exclude(region(3), Epoch(1));
    for gone in [3, 4] {
        a.done_without(region(gone), &[region(2)].into());
    }
    let mut heard = heartbeat(origin(2, 1), 0, 20, &[]);
    let of = |about, below| announcement(about, below, &[]);
    heard.announced = vec![of(1, 1), of(2, 1), of(4, 2)];
    a.heard(heard.clone(), region(2), NOW_MS);
    assert_eq!(a.version().floor(region(4)), Epoch(0));
    heard.announced.push(of(3, 1));
    a.heard(heard, region(2), NOW_MS);
    assert_eq!(a.version().floor(region(4)), Epoch(2));
}

/// Who has not heard that a region is excluded takes what a later life of it sends.
#[test]
fn what_is_said_by_one_that_still_hears_the_excluded_does_not_count() {
    let mut a = delivery(3, 1 << 20);
    assert_eq!(a.exclude(region(3), Epoch(2)), Epoch(2));
    let later = origin(3, 7);
    let mut heard = heartbeat(origin(2, 1), 0, 20, &[]);
    let of = |about, below| announcement(about, below, &[]);
    heard.announced = vec![of(1, 1), of(2, 1), of(3, 7)];
    a.heard(heard.clone(), region(2), NOW_MS);
    let ending = |below| Ending {
        region: region(3),
        below: Epoch(below),
        is_final: false,
    };
    assert_eq!(a.open_endings().last(), Some(&ending(2)));

    // It hears of that, and its record says what it knew.
    assert_eq!(a.exclude(region(3), Epoch(8)), Epoch(8));
    a.done_without(region(3), &[region(2)].into());
    assert_eq!(a.open_endings().last(), Some(&ending(8)));
    heard.announced.push(announcement(3, 8, &[(later, 10)]));
    heard.time = at(21);
    a.heard(heard, region(2), NOW_MS);
    let frame = Issuer::new(later).frame(&[10], &[]);
    assert_eq!(a.offer(frame, region(2), NOW_MS), Offer::Ready);
    assert_eq!(apply(&mut a), [10]);
    assert!(a.open_endings().is_empty());
}

/// A life of the excluded region may have begun with the very epoch by which it has ended here:
/// what another says of what came before that is no word on the end.
#[test]
fn what_is_said_counts_once_who_says_it_does_without_the_excluded() {
    let says = |below, held: &[(Origin, u64)], time| {
        let mut heard = heartbeat(origin(2, 1), 0, time, &[]);
        let of = |about, below| announcement(about, below, &[]);
        heard.announced = vec![of(1, 1), of(2, 1), announcement(3, below, held)];
        heard
    };
    let is_final = |a: &Delivery| a.open_endings().last().map(|ending| ending.is_final);
    let mut a = delivery(3, 1 << 20);
    let mut c = Issuer::new(origin(3, 1));
    give(&mut a, &c.frame(&[10], &[]));
    a.heard(says(2, &[], 20), region(2), NOW_MS);
    assert_eq!(a.exclude(region(3), Epoch(2)), Epoch(2));
    assert_eq!(is_final(&a), Some(false), "2 takes what epoch 2 sends");

    // As the record says it: 2 does without, and has ended what it knew.
    assert_eq!(a.exclude(region(3), Epoch(3)), Epoch(3));
    a.done_without(region(3), &[region(2)].into());
    assert_eq!(is_final(&a), Some(false), "it has said nothing since");
    let later = origin(3, 2);
    a.heard(says(3, &[(later, 15)], 21), region(2), NOW_MS);
    assert_eq!(is_final(&a), Some(true));
    let frame = Issuer::new(later).frame(&[15], &[]);
    assert_eq!(a.offer(frame, region(2), NOW_MS), Offer::Ready);
    assert_eq!(apply(&mut a), [15]);
    assert!(a.open_endings().is_empty());
}

/// A build that does not say without whom it does is believed by what it announces.
#[test]
fn an_older_build_says_by_what_it_announces_that_it_does_without_the_excluded() {
    let mut a = delivery(3, 1 << 20);
    a.exclude(region(3), Epoch(2));
    let mut heard = heartbeat(origin(2, 1), 0, 20, &[]);
    let of = |about, below| announcement(about, below, &[]);
    heard.announced = vec![of(1, 1), of(2, 1), of(3, 2)];
    a.heard(heard.clone(), region(2), NOW_MS);
    assert!(!a.open_endings().is_empty(), "nobody knows of its build");
    a.note_build(region(2), false);
    assert!(a.open_endings().is_empty());
    // Once it is a newer one, more is asked of it.
    a.note_build(region(2), true);
    a.exclude(region(3), Epoch(5));
    heard.announced.push(of(3, 5));
    a.heard(heard, region(2), NOW_MS);
    assert!(!a.open_endings().is_empty());
}

/// A frame of region 2 whose op has seen that the epochs of region 3 below this are closed.
fn frame_after(origin: Origin, ms: u64, below: u64) -> Frame {
    let mut deps = Version::new();
    deps.raise_floor(region(3), Epoch(below));
    let mut writer = FrameWriter::new(0, origin);
    writer.begin_op(at(ms), &deps);
    writer.push(&Effect {
        key: b"k",
        change: Change::MemberAdd { member: b"m" },
    });
    writer.end_op();
    writer.seal().expect("there are ops")
}

/// Region 3 is excluded by such as have started again since they heard of its lives.
#[test]
fn what_waits_has_seen_epochs_that_end_with_the_excluded() {
    let mut a = delivery(3, 1 << 20);
    let closed = frame_after(origin(2, 1), 10, 50);
    assert_eq!(a.offer(closed, region(2), NOW_MS), Offer::Waiting);
    let mut b = Issuer::new(origin(2, 4));
    let applied = b.frame(&[11], &[(origin(3, 70), 9)]);
    assert_eq!(a.offer(applied, region(2), NOW_MS), Offer::Waiting);
    assert_eq!(a.exclude(region(3), Epoch(1)), Epoch(71));
    assert_eq!(a.exclude(region(3), Epoch(1)), Epoch(71), "once");
    a.done_without(region(3), &[region(2)].into());
    let mut word = heartbeat(origin(2, 4), 11, 20, &[]);
    let of = |about, below| announcement(about, below, &[]);
    let own = announcement(2, 4, &[(origin(2, 1), 10)]);
    word.announced = vec![of(1, 1), own, of(3, 71)];
    a.heard(word, region(2), NOW_MS);
    assert_eq!(apply(&mut a), [10, 11], "it waits for 3 no longer");
    assert!(a.open_endings().is_empty());
}

/// The same of ops that are in the log: others may lack them, and wait.
#[test]
fn what_ops_of_earlier_lives_have_seen_ends_with_the_excluded() {
    for (below, ended) in [(50, 50), (0, 31)] {
        let mut a = delivery(3, 1 << 20);
        a.recovered(&frame_after(origin(2, 1), 10, below));
        let mut own = Issuer::new(origin(1, 0));
        a.recovered(&own.frame(&[12], &[(origin(3, 30), 9)]));
        assert_eq!(a.exclude(region(3), Epoch(1)), Epoch(ended));
        assert_eq!(a.exclude(region(3), Epoch(ended)), Epoch(ended), "once");
    }
}

/// A region is let back in, and its node starts with what it held before: it says that it holds
/// ops which all the others have closed their origin without.
#[test]
fn what_an_old_disk_holds_of_a_closed_origin_is_late_whatever_it_says() {
    let mut a = delivery(3, 1 << 20);
    let mut word = heartbeat(origin(2, 1), 0, 20, &[]);
    let of = |about, below| announcement(about, below, &[]);
    word.announced = vec![of(1, 1), of(2, 1), of(3, 2)];
    a.exclude(region(3), Epoch(2));
    a.done_without(region(3), &[region(2)].into());
    a.heard(word.clone(), region(2), NOW_MS);
    assert_eq!(a.version().floor(region(3)), Epoch(2));
    a.admit(region(3));
    let old = announcement(3, 7, &[(origin(3, 1), 10)]);
    let mut back = heartbeat(origin(3, 7), 0, 21, &[]);
    back.announced = vec![of(1, 1), of(2, 1), old];
    a.heard(back, region(3), NOW_MS);
    word.time = at(22);
    word.announced.push(of(3, 7));
    a.heard(word, region(2), NOW_MS);
    assert_eq!(a.version().floor(region(3)), Epoch(7));
    let said = a.heartbeat(at(23)).announced;
    let said = said.iter().find(|said| said.region == region(3));
    assert_eq!(said, Some(&of(3, 7)), "nobody has to wait for it");
    let frame = Issuer::new(origin(3, 1)).frame(&[10], &[]);
    assert!(matches!(a.offer(frame, region(3), NOW_MS), Offer::Late(_)));
}
