//! The record of regions: its laws, what it refuses, its bytes.

use proptest::prelude::*;

use super::*;

fn region(id: u8) -> Region {
    Region::new(id).expect("not 0")
}

fn three() -> Roster {
    let mut roster = Roster::new();
    for (id, name) in [(1, "one"), (2, "two")] {
        let address = format!("{name}:6390");
        assert_eq!(
            roster.note(region(id), name, &[address], Stage::Founding),
            Ok(true)
        );
    }
    roster.add(region(3), "three", "three:6390").expect("free");
    roster
}

/// Any record of a few regions, so that they meet often.
fn records() -> impl Strategy<Value = Roster> {
    let entry = (
        1..4_u8,
        0..3_u8,
        0..5_u8,
        (0..2_u32, 0..2_u32, 0..3_u64),
        prop::collection::btree_set(1..5_u8, 0..4),
        0..3_u8,
    );
    prop::collection::vec(entry, 0..5).prop_map(|entries| {
        let mut roster = Roster::new();
        for (id, name, stage, (revision, incarnation, ended), confirmed, address) in entries {
            let entry = Entry {
                incarnation,
                ended: Epoch(ended),
                stage: match stage {
                    0 => Stage::Founding,
                    1 => Stage::Joining,
                    2 => Stage::Member,
                    3 => Stage::Excluded,
                    _ => Stage::Forgotten,
                },
                addresses: (0..address).map(|n| format!("host-{n}:1")).collect(),
                revision,
                confirmed: confirmed.iter().copied().map(region).collect(),
                without: match stage {
                    3 => confirmed.into_iter().map(region).collect(),
                    _ => BTreeSet::new(),
                },
            };
            roster
                .entries
                .insert((region(id), format!("name-{name}")), entry);
        }
        roster
    })
}

fn merged(a: &Roster, b: &Roster) -> Roster {
    let mut merged = a.clone();
    merged.merge(b);
    merged
}

proptest! {
    #[test]
    fn merging_is_commutative_associative_and_idempotent(
        a in records(), b in records(), c in records(),
    ) {
        prop_assert_eq!(merged(&a, &b), merged(&b, &a));
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        prop_assert_eq!(&merged(&a, &a), &a);
        let ab = merged(&a, &b);
        prop_assert_eq!(&merged(&ab, &b), &ab);
        let mut again = ab;
        prop_assert!(!again.merge(&a), "what is in it is no news");
    }

    #[test]
    fn what_is_written_is_read(roster in records()) {
        prop_assert_eq!(Roster::decode(&roster.encode()), Ok(roster));
    }

    #[test]
    fn garbage_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = Roster::decode(&bytes);
        let _ = Roster::decode(&[vec![1], bytes.clone()].concat());
        let _ = Roster::decode(&[vec![2], bytes].concat());
    }

    #[test]
    fn a_record_has_one_form(roster in records(), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let bytes = roster.encode();
        let mut changed = bytes.clone();
        changed[at.index(bytes.len())] ^= 1_u8 << bit;
        if let Ok(read) = Roster::decode(&changed) {
            prop_assert_eq!(read.encode(), changed);
        }
        for end in 0..bytes.len() {
            prop_assert!(Roster::decode(&bytes[..end]).is_err());
        }
        prop_assert!(Roster::decode(&[bytes, vec![0]].concat()).is_err());
    }
}

#[test]
fn another_format_is_refused_by_its_number() {
    assert_eq!(Roster::decode(&[9, 0, 0]), Err(RosterError::Format(9)));
    assert_eq!(Roster::decode(&[]), Err(RosterError::Length));
}

#[test]
fn an_id_and_a_name_are_given_once() {
    let mut roster = three();
    assert!(matches!(
        roster.add(region(3), "three", "elsewhere:1"),
        Err(AddError::Known { .. })
    ));
    let error = roster.add(region(2), "mars", "mars:1").unwrap_err();
    assert!(error.to_string().contains("region two"), "{error}");
    let error = roster.add(region(9), "two", "two:1").unwrap_err();
    assert!(error.to_string().contains("id 2"), "{error}");
    for (name, address) in [("a b", "a:1"), ("", "a:1"), ("a", ""), ("a", "a b:1")] {
        let error = roster.add(region(9), name, address);
        assert!(
            matches!(error, Err(AddError::Malformed(_))),
            "{name:?} {address:?}"
        );
    }
    assert_eq!(roster, three(), "what is refused changes nothing");
}

#[test]
fn a_region_is_confirmed_by_all_but_itself() {
    let mut roster = three();
    assert_eq!(roster.waits_for(region(3), "three"), ["one", "two"]);
    assert!(roster.confirm(region(1)));
    assert!(!roster.confirm(region(1)), "once is enough");
    assert!(!roster.confirm(region(3)), "not by itself");
    assert!(!roster.is_confirmed(region(3), "three"));
    assert!(roster.confirm(region(2)));
    assert!(roster.is_confirmed(region(3), "three"));
    // One more that joins may count on something before it has heard of the third.
    roster.add(region(4), "four", "four:1").expect("free");
    assert_eq!(roster.waits_for(region(3), "three"), ["four"]);
    assert!(roster.confirm(region(4)) && roster.is_confirmed(region(3), "three"));
    assert!(roster.promote(region(3), "three") && !roster.promote(region(3), "three"));
}

#[test]
fn nobody_confirms_a_region_alone_or_one_that_clashes() {
    let mut alone = Roster::new();
    alone
        .note(region(3), "three", &[], Stage::Joining)
        .expect("a name");
    assert!(!alone.is_confirmed(region(3), "three"));
    let mut here = three();
    let mut there = here.clone();
    here.add(region(4), "four", "four:1").expect("free");
    there.add(region(4), "fire", "fire:1").expect("free there");
    there.merge(&here);
    assert_eq!(there.clash(region(4), "four"), Some((region(4), "fire")));
    assert_eq!(there.clash(region(4), "fire"), Some((region(4), "four")));
    assert_eq!(there.clash(region(3), "three"), None);
    there.confirm(region(1));
    let confirmed = |name| {
        there
            .get(region(4), name)
            .map(|entry| entry.confirmed.len())
    };
    assert_eq!((confirmed("four"), confirmed("fire")), (Some(0), Some(0)));
    assert_eq!(
        there
            .get(region(3), "three")
            .map(|entry| entry.confirmed.len()),
        Some(1)
    );
}

#[test]
fn two_regions_of_one_name_are_forgotten_by_their_ids() {
    let mut here = three();
    let mut there = here.clone();
    here.add(region(4), "four", "four:1").expect("free");
    there.add(region(5), "four", "other:1").expect("free there");
    there.merge(&here);
    let error = there.forget(region(1), "four", Epoch(1)).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("four (#4), four (#5)") && text.contains("#ID"),
        "{text}"
    );
    for id in ["#4", "#5"] {
        assert_eq!(there.forget(region(1), id, Epoch(1)), Ok(true), "{id}");
    }
    assert!(there.ids().iter().all(|id| id.id() < 4));
    let gone = there.forgotten();
    assert!(gone.contains_key(&region(4)) && gone.contains_key(&region(5)));
    let error = there.rejoin("#9").unwrap_err().to_string();
    assert!(
        error.contains("no region #9") && error.contains("one (#1)"),
        "{error}"
    );
}

#[test]
fn a_claim_to_an_id_is_forgotten_by_its_name_also_where_the_id_is_ours() {
    let mut roster = three();
    let mut elsewhere = Roster::new();
    elsewhere
        .add(region(1), "mars", "mars:1")
        .expect("free there");
    roster.merge(&elsewhere);
    assert!(matches!(
        roster.forget(region(1), "#1", Epoch(1)),
        Err(ForgetError::Ambiguous { .. })
    ));
    assert!(matches!(
        roster.forget(region(1), "one", Epoch(1)),
        Err(ForgetError::Own { .. })
    ));
    assert_eq!(roster.forget(region(1), "mars", Epoch(1)), Ok(true));
    assert!(roster.ids().contains(&region(1)));
}

#[test]
fn an_exclusion_is_undone_by_a_return_and_not_by_older_news() {
    let mut roster = three();
    let before = roster.clone();
    assert!(roster.exclude(region(2), Epoch(9)) && !roster.exclude(region(2), Epoch(9)));
    assert!(roster.confirm(region(1)));
    assert!(!roster.merge(&before), "what was before is no news");
    assert!(roster.is_excluded(region(2)) && roster.excluded() == 1);
    let gone = &roster.forgotten()[&region(2)];
    assert_eq!((gone.ended, &gone.without), (Epoch(9), &[region(1)].into()));
    // For a build that does not know the word it is forgotten.
    let old = Roster::decode(&roster.encode_without_exclusion()).expect("it is a record");
    let stage = old.get(region(2), "two").map(|entry| entry.stage);
    assert_eq!(stage, Some(Stage::Forgotten));

    let mut back = roster.clone();
    let old = Epoch(8);
    assert!(!back.come_back(region(2), "two", old), "that has ended");
    assert!(back.come_back(region(2), "two", Epoch(9)));
    assert!(!back.come_back(region(2), "two", Epoch(9)), "it takes part");
    let heard = back.return_of(region(2));
    assert_eq!(heard.iter().count(), 1, "nothing else is listened to");
    assert!(roster.merge(&heard) && roster.ids().contains(&region(2)));
    assert!(
        roster
            .get(region(2), "two")
            .is_some_and(|entry| entry.without.is_empty())
    );
    // Sent away by hand it stays away.
    let mut sent = before;
    sent.forget(region(1), "two", Epoch(9)).expect("another");
    assert!(!sent.come_back(region(2), "two", Epoch(9)));
}
