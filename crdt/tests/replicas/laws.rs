//! The laws of docs/semantics.md: whatever regions do, in whatever order it arrives, whenever what
//! is stable is collected, each shows what the model shows, and in the end all show the same.
//!
//! Longer runs: `PROPTEST_CASES=100000 cargo test --release -p meridian-crdt --test replicas`.

use crate::cluster::{Cluster, Intent, Replica, Step};
use crdt::{Attached, Deadline, End};
use proptest::prelude::*;

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::sample::select(vec!["a", "b", "7", "-2", "0.5", ""])
            .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(prop::sample::select(b"xyz1".to_vec()), 1..3),
    ]
}

fn deadline() -> impl Strategy<Value = Deadline> {
    prop_oneof![
        3 => prop::sample::select(vec![10, 20]).prop_map(Deadline::At),
        1 => Just(Deadline::Never),
    ]
}

fn attached() -> impl Strategy<Value = Attached> {
    prop_oneof![
        2 => Just(Attached::Deadline(Deadline::Never)),
        1 => deadline().prop_map(Attached::Deadline),
        1 => Just(Attached::Nothing),
    ]
}

fn score() -> impl Strategy<Value = f64> {
    prop::sample::select(vec![0.1, -0.2, 3.0, 1e16, f64::INFINITY, f64::NEG_INFINITY])
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Head), Just(End::Tail)]
}

fn string_intent() -> impl Strategy<Value = Intent> {
    prop_oneof![
        (value(), attached()).prop_map(|(value, attached)| Intent::Set(value, attached)),
        value().prop_map(Intent::Append),
        (0_u64..4, value()).prop_map(|(offset, bytes)| Intent::Overwrite(offset, bytes)),
        (0_u64..20, any::<bool>()).prop_map(|(offset, bit)| Intent::SetBit(offset, bit)),
        (-3_i64..6).prop_map(Intent::Add),
        (-9_i64..9).prop_map(|by| Intent::AddDecimal(by * 10_i64.pow(16))),
    ]
}

fn container_intent() -> impl Strategy<Value = Intent> {
    let name = || b'a'..b'd';
    prop_oneof![
        (name(), value(), attached()).prop_map(|(f, v, a)| Intent::FieldSet(f, v, a)),
        (name(), -3_i64..6).prop_map(|(field, by)| Intent::FieldAdd(field, by)),
        name().prop_map(Intent::FieldRemove),
        (name(), deadline()).prop_map(|(field, at)| Intent::FieldEnd(field, at)),
        name().prop_map(Intent::FieldReap),
        name().prop_map(Intent::MemberAdd),
        name().prop_map(Intent::MemberRemove),
        (name(), score()).prop_map(|(member, score)| Intent::ScoreSet(member, score)),
        (name(), score()).prop_map(|(member, by)| Intent::ScoreAdd(member, by)),
        name().prop_map(Intent::ScoreRemove),
        (end(), value()).prop_map(|(end, value)| Intent::Push(end, value)),
        (end(), 1_usize..3).prop_map(|(end, count)| Intent::Pop(end, count)),
        (0_usize..8, value()).prop_map(|(rank, value)| Intent::Insert(rank, value)),
        (0_usize..8, value()).prop_map(|(rank, value)| Intent::ElementSet(rank, value)),
    ]
}

fn key_intent() -> impl Strategy<Value = Intent> {
    prop_oneof![
        4 => Just(Intent::Delete),
        1 => Just(Intent::Flush),
        4 => deadline().prop_map(Intent::End),
        3 => Just(Intent::Reap),
    ]
}

/// Commands, with `share` of those on containers.
fn intent(share: u32) -> impl Strategy<Value = Intent> {
    prop_oneof![
        4 => string_intent(),
        share => container_intent(),
        3 => key_intent(),
    ]
}

fn step(share: u32) -> impl Strategy<Value = Step> {
    let commands = prop::collection::vec((0_usize..2, intent(share)), 1..3);
    let now_ms = prop::sample::select(vec![0_u64, 0, 0, 15, 25]);
    prop_oneof![
        8 => (0_usize..3, 0_u64..3, now_ms, commands).prop_map(|(region, wall_ms, now_ms, commands)| {
            Step::Do { region, wall_ms, now_ms, commands }
        }),
        8 => (0_usize..3, 0_usize..4).prop_map(|(region, nth)| Step::Deliver { region, nth }),
        2 => (0_usize..3, 1_usize..4).prop_map(|(region, limit)| Step::Settle { region, limit }),
        1 => (0_usize..3, any::<bool>()).prop_map(|(region, lose)| Step::Fail { region, lose }),
        1 => (0_usize..3, 0_usize..3).prop_map(|(region, place)| Step::Late { region, place }),
        2 => by_state(),
    ]
}

/// What a region does by pieces of state.
fn by_state() -> impl Strategy<Value = Step> {
    let budget = || prop::sample::select(vec![1_usize, 1, 40, 10_000]);
    prop_oneof![
        (0_usize..3, 0_usize..3, budget()).prop_map(|(region, from, budget)| {
            Step::Merge {
                region,
                from,
                budget,
            }
        }),
        (0_usize..3, 0_usize..3, budget()).prop_map(|(region, from, budget)| {
            Step::CatchUp {
                region,
                from,
                budget,
            }
        }),
        (0_usize..3, budget()).prop_map(|(region, budget)| Step::Snapshot { region, budget }),
    ]
}

/// Commands that end keys which writes do not carry the deadlines of.
fn ending_intent() -> impl Strategy<Value = Intent> {
    prop_oneof![
        2 => Just(Intent::FieldSet(b'a', vec![], Attached::Nothing)),
        1 => Just(Intent::FieldRemove(b'a')),
        1 => Just(Intent::FieldAdd(b'a', 1)),
        1 => deadline().prop_map(|at| Intent::FieldEnd(b'a', at)),
        1 => Just(Intent::FieldReap(b'a')),
        1 => (0_u8..2).prop_map(Intent::MemberAdd),
        1 => attached().prop_map(|attached| Intent::Set(vec![], attached)),
        2 => deadline().prop_map(Intent::End),
        3 => Just(Intent::Reap),
        1 => Just(Intent::Delete),
    ]
}

fn ending_step() -> impl Strategy<Value = Step> {
    let now_ms = prop::sample::select(vec![0_u64, 0, 15, 25]);
    prop_oneof![
        8 => (0_usize..3, now_ms, ending_intent()).prop_map(|(region, now_ms, intent)| {
            let commands = vec![(0, intent)];
            Step::Do { region, wall_ms: 0, now_ms, commands }
        }),
        8 => (0_usize..3, 0_usize..4).prop_map(|(region, nth)| Step::Deliver { region, nth }),
        4 => (0_usize..3, 1_usize..4).prop_map(|(region, limit)| Step::Settle { region, limit }),
        2 => by_state(),
    ]
}

fn run(steps: &[Step]) {
    let mut cluster = Cluster::new(3);
    for step in steps {
        cluster.step(step);
    }
    if !cluster.replicas.iter().any(Replica::is_ahead) {
        cluster.check_merge(0, 1);
    }
    cluster.converge();
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn strings_and_deadlines_converge_to_what_the_model_says(
        steps in prop::collection::vec(step(0), 1..40)
    ) {
        run(&steps);
    }

    #[test]
    fn deadlines_end_what_they_should(
        steps in prop::collection::vec(ending_step(), 1..40)
    ) {
        run(&steps);
    }

    /// Where there is no other region, all is collected at once.
    #[test]
    fn a_region_alone_keeps_nothing_that_waits(
        steps in prop::collection::vec(step(12), 1..40)
    ) {
        let mut cluster = Cluster::new(1);
        for step in steps.iter().filter(|step| !matches!(step, Step::Fail { .. } | Step::Late { .. })) {
            cluster.step(step);
            let state = &cluster.replicas[0].state;
            prop_assert_eq!(state.unsettled(), 0);
            prop_assert_eq!(state.is_void(), state.is_empty(), "after {:?}: {:?}", step, state);
        }
    }

    #[test]
    fn all_types_converge_to_what_the_model_says(
        steps in prop::collection::vec(step(12), 1..60)
    ) {
        run(&steps);
    }
}
