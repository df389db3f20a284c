//! A sequence beside a vector, and the room it takes.

use std::collections::VecDeque;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Checks what the nodes promise; returns how deep the leaves are, and how many items there
/// are and would fit in the leaves as they are allocated.
fn check<T: Copy + 'static>(node: &Node<VecDeque<T>>) -> (usize, usize, usize) {
    match node {
        Node::Leaf(items) => {
            assert!(items.len() <= FULL && items.capacity() <= FULL);
            (0, items.len(), items.capacity())
        }
        Node::Inner(inner) => {
            assert!(!inner.children.is_empty() && inner.children.len() <= FANOUT);
            let checked: Vec<_> = inner.children.iter().map(check).collect();
            assert!(checked.iter().all(|child| child.0 == checked[0].0));
            let counts: Vec<_> = checked.iter().map(|child| child.1).collect();
            assert_eq!(inner.counts, counts);
            assert!(!counts.contains(&0));
            let room = checked.iter().map(|child| child.2).sum();
            (checked[0].0 + 1, counts.iter().sum(), room)
        }
    }
}

fn pushed(length: usize) -> Sequence<VecDeque<usize>> {
    let mut sequence = Sequence::default();
    (0..length).for_each(|item| sequence.push_back(item));
    sequence
}

fn room<T: Copy + 'static>(sequence: &Sequence<VecDeque<T>>) -> usize {
    let (_, count, room) = check(&sequence.root);
    assert_eq!(count, sequence.len());
    room
}

#[derive(Clone, Debug)]
enum Step {
    Front(u8),
    Back(u8),
    /// So many in a row, each before or behind the one before.
    Insert(Index, u8, bool),
    Remove(Index),
    RemoveSome(Index, Index, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let rank = any::<Index>;
    prop_oneof![
        2 => any::<u8>().prop_map(Step::Front),
        2 => any::<u8>().prop_map(Step::Back),
        3 => (rank(), any::<u8>(), any::<bool>())
            .prop_map(|(at, many, behind)| Step::Insert(at, many, behind)),
        8 => rank().prop_map(Step::Remove),
        1 => (rank(), rank(), 1_usize..4).prop_map(|(a, b, each)| Step::RemoveSome(a, b, each)),
    ]
}

/// Does the same to both.
fn apply(step: Step, sequence: &mut Sequence<VecDeque<usize>>, model: &mut Vec<usize>) {
    let length = model.len();
    match step {
        Step::Front(many) => (0..many.into()).for_each(|item| {
            sequence.push_front(item);
            model.insert(0, item);
        }),
        Step::Back(many) => (0..many.into()).for_each(|item| {
            sequence.push_back(item);
            model.push(item);
        }),
        Step::Insert(at, many, behind) => {
            let at = at.index(length + 1);
            for item in 0..usize::from(many) {
                let rank = at + if behind { item } else { 0 };
                sequence.insert(rank, item);
                model.insert(rank, item);
            }
        }
        Step::Remove(at) if 0 < length => {
            let rank = at.index(length);
            assert_eq!(sequence.get(rank), Some(model.remove(rank)));
            sequence.remove(rank);
        }
        Step::RemoveSome(a, b, each) => {
            let (a, b) = (a.index(length + 1), b.index(length + 1));
            let ranks = a.min(b)..a.max(b);
            let mut asked = Vec::new();
            sequence.remove_range(ranks.clone(), |item| {
                asked.push(item);
                item % each == 0
            });
            assert_eq!(asked, model[ranks.clone()]);
            let kept: Vec<_> = asked
                .into_iter()
                .filter(|item| !item.is_multiple_of(each))
                .collect();
            model.splice(ranks, kept);
        }
        Step::Remove(_) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_sequence_is_a_vec(
        start in 0_usize..40_000,
        script in prop::collection::vec(step(), 0..60),
    ) {
        let mut sequence = pushed(start);
        let mut model: Vec<_> = (0..start).collect();
        for step in script {
            apply(step, &mut sequence, &mut model);
            prop_assert_eq!(sequence.len(), model.len());
            room(&sequence);
        }
        prop_assert!(sequence.range(0..model.len()).eq(model.iter().copied()));
        prop_assert_eq!(sequence.get(model.len()), None);
    }

    #[test]
    fn a_range_is_read_from_both_ends(
        length in 0_usize..20_000,
        (a, b) in any::<(Index, Index)>(),
        turns in any::<u64>(),
    ) {
        let (a, b) = (a.index(length + 1), b.index(length + 1));
        let mut sequence = pushed(length);
        sequence.push_front(length);
        sequence.remove(0);
        let mut items = sequence.range(a..b);
        let mut model = a..b;
        for turn in 0..=b.saturating_sub(a) {
            prop_assert_eq!(items.len(), model.len());
            if turns >> (turn % 64) & 1 == 0 {
                prop_assert_eq!(items.next(), model.next());
            } else {
                prop_assert_eq!(items.next_back(), model.next_back());
            }
        }
        prop_assert_eq!(items.next(), None);
        prop_assert_eq!(items.next_back(), None);
        prop_assert!(sequence.range(a..length + 9).eq(a..length));
    }

    #[test]
    fn a_partition_is_found(length in 0_usize..40_000, at in any::<Index>()) {
        let sequence = pushed(length);
        let at = at.index(length + 1);
        prop_assert_eq!(sequence.partition_point(|item| item < at), at);
    }

    /// However many removals left them behind, a few survivors do not keep their room.
    #[test]
    fn removals_give_room_back(
        length in 0_usize..40_000,
        each in 1_usize..300,
        one_by_one in any::<bool>(),
    ) {
        let mut sequence = pushed(length);
        let mut model: Vec<_> = (0..length).collect();
        model.retain(|item| item.is_multiple_of(each));
        if one_by_one {
            for left in 0..length.div_ceil(each) {
                for _ in 1..each.min(length - left * each) {
                    sequence.remove(left + 1);
                }
            }
        } else {
            sequence.remove_range(0..length, |item| !item.is_multiple_of(each));
        }
        prop_assert!(sequence.range(0..length).eq(model.iter().copied()));
        prop_assert!(room(&sequence) <= 4 * model.len() + 8);
    }
}

#[test]
fn what_is_pushed_at_one_end_is_packed() {
    let mut backwards = Sequence::<VecDeque<_>>::default();
    (0..100_000).for_each(|item| backwards.push_front(item));
    for sequence in [pushed(100_000), backwards] {
        assert!(room(&sequence) <= 100_000 + 2 * FULL);
    }
}

#[test]
fn small_ones_are_small() {
    assert_eq!(size_of::<Sequence<VecDeque<u64>>>(), 40);
    assert_eq!(room(&pushed(0)), 0);
    assert_eq!(room(&pushed(1)), 1);
    assert_eq!(room(&pushed(3)), 4);
    let mut emptied = pushed(40_000);
    while 0 < emptied.len() {
        emptied.remove(emptied.len() / 2);
    }
    assert_eq!(room(&emptied), 0);
}
