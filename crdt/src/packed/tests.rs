//! Packed elements beside a vector, and the room they take.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::sequence::Sequence;

/// An element of its own.
#[derive(Clone, Debug, PartialEq)]
enum Owned {
    Pushed(Id, End, Vec<u8>),
    Full(u32),
}

impl Owned {
    fn element(&self) -> Element<'_> {
        match self {
            Self::Pushed(id, end, value) => Element::Pushed {
                id: *id,
                end: *end,
                value,
            },
            Self::Full(place) => Element::Full(*place),
        }
    }
}

fn owned() -> impl Strategy<Value = Owned> {
    let time = prop_oneof![any::<u64>(), 1_000_u64..2_000];
    let index = prop_oneof![any::<u32>(), 0_u32..200];
    let end = prop_oneof![Just(End::Head), Just(End::Tail)];
    let length = prop_oneof![8 => 0_usize..200, 1 => 0_usize..20_000];
    let value = length.prop_map(|length| vec![b'v'; length]);
    let pushed =
        (time, index, 0_u16..3, end, value).prop_map(|(time, index, origin, end, value)| {
            let (time, origin) = (Time(time), OriginIx(origin));
            Owned::Pushed(
                Id {
                    time,
                    index,
                    origin,
                },
                end,
                value,
            )
        });
    prop_oneof![9 => pushed, 1 => any::<u32>().prop_map(Owned::Full)]
}

#[derive(Clone, Debug)]
enum Step {
    Push(Owned, Growth),
    Insert(Index, Owned),
    Remove(Index),
    RemoveSome(Index, Index, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let rank = any::<Index>;
    let end = prop_oneof![Just(Growth::Front), Just(Growth::Back)];
    prop_oneof![
        6 => (owned(), end).prop_map(|(element, end)| Step::Push(element, end)),
        6 => (rank(), owned()).prop_map(|(at, element)| Step::Insert(at, element)),
        8 => rank().prop_map(Step::Remove),
        1 => (rank(), rank(), 1_usize..4).prop_map(|(a, b, each)| Step::RemoveSome(a, b, each)),
    ]
}

fn apply(step: Step, sequence: &mut Sequence<Packed>, model: &mut Vec<Owned>) {
    let length = model.len();
    match step {
        Step::Push(element, Growth::Front) => {
            sequence.push_front(element.element());
            model.insert(0, element);
        }
        Step::Push(element, _) => {
            sequence.push_back(element.element());
            model.push(element);
        }
        Step::Insert(at, element) => {
            let rank = at.index(length + 1);
            sequence.insert(rank, element.element());
            model.insert(rank, element);
        }
        Step::Remove(at) if 0 < length => {
            sequence.remove(at.index(length));
            model.remove(at.index(length));
        }
        Step::RemoveSome(a, b, each) => {
            let (a, b) = (a.index(length + 1), b.index(length + 1));
            let ranks = a.min(b)..a.max(b);
            let mut asked = 0;
            sequence.remove_range(ranks.clone(), |element| {
                assert_eq!(element, model[ranks.start + asked].element());
                asked += 1;
                asked.is_multiple_of(each)
            });
            assert_eq!(asked, ranks.len());
            let mut rank = 0;
            model.retain(|_| {
                rank += 1;
                !(ranks.contains(&(rank - 1)) && (rank - ranks.start).is_multiple_of(each))
            });
        }
        Step::Remove(_) => {}
    }
}

proptest! {
    #[test]
    fn packed_elements_are_a_vec(
        start in prop::collection::vec(owned(), 0..300),
        script in prop::collection::vec(step(), 0..200),
        at in any::<Index>(),
    ) {
        let (mut sequence, mut model) = (Sequence::<Packed>::default(), start);
        for element in &model {
            sequence.push_back(element.element());
        }
        for step in script {
            apply(step, &mut sequence, &mut model);
            prop_assert_eq!(sequence.len(), model.len());
        }
        let all = || sequence.range(0..model.len());
        prop_assert!(all().eq(model.iter().map(Owned::element)));
        prop_assert!(all().rev().eq(model.iter().rev().map(Owned::element)));
        let (mut asked, at) = (Vec::new(), at.index(model.len() + 1));
        for (rank, element) in model.iter().enumerate() {
            prop_assert_eq!(sequence.get(rank), Some(element.element()));
        }
        let mut rank_of = |element: Element<'_>| {
            let rank = model.iter().position(|other| other.element() == element);
            asked.push(rank);
            rank.is_some_and(|rank| rank < at)
        };
        // Elements that are equal have no rank of their own.
        if (1..model.len()).all(|rank| !model[..rank].contains(&model[rank])) {
            prop_assert_eq!(sequence.partition_point(&mut rank_of), at);
        }
    }
}

/// Elements as one command after the other pushes them, 64 bytes each.
fn pushed(count: u64, growth: Growth) -> Sequence<Packed> {
    let mut sequence = Sequence::default();
    for time in 0..count {
        let id = Id {
            time: Time(time),
            index: 0,
            origin: OriginIx(0),
        };
        let (end, value) = (End::Tail, &[b'v'; 64][..]);
        let element = Element::Pushed { id, end, value };
        match growth {
            Growth::Front => sequence.push_front(element),
            Growth::Middle => sequence.insert(sequence.len() / 2, element),
            Growth::Back => sequence.push_back(element),
        }
    }
    sequence
}

#[test]
fn what_is_pushed_at_an_end_takes_little_more_than_its_values() {
    for growth in [Growth::Front, Growth::Back] {
        let sequence = pushed(100_000, growth);
        let bytes: usize = sequence.leaves().map(Packed::heap_bytes).sum();
        let nodes = sequence.leaves().count() * size_of::<Packed>();
        assert!(bytes + nodes <= 72 * 100_000, "{bytes} + {nodes} bytes");
    }
}

#[test]
fn small_ones_are_small() {
    assert_eq!(size_of::<Sequence<Packed>>(), 48);
    let bytes = |count| {
        pushed(count, Growth::Back)
            .leaves()
            .map(Packed::heap_bytes)
            .sum::<usize>()
    };
    assert_eq!(bytes(1), 69);
    assert!(bytes(5) <= 6 * 70);
}

#[test]
fn room_is_given_back() {
    let mut sequence = pushed(100_000, Growth::Middle);
    sequence.remove_range(0..100_000, |element| match element {
        Element::Pushed { id, .. } => !id.time.0.is_multiple_of(100),
        Element::Full(_) => true,
    });
    assert_eq!(sequence.len(), 1000);
    assert!(sequence.leaves().map(Packed::heap_bytes).sum::<usize>() <= 4 * 70 * 1000);
    while 0 < sequence.len() {
        sequence.remove(sequence.len() / 2);
    }
    assert_eq!(sequence.leaves().map(Packed::heap_bytes).sum::<usize>(), 0);
}
