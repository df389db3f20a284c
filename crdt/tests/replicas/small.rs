//! Small scope, all of it: three regions and a few ops on one key, whatever each op had seen, in
//! every order of arrival, collected at every step or at the end, for every pair of types; and
//! where one region collects at every step, and in the end they take in each other's state.
//!
//! Two ops run always; `MERIDIAN_SMALL_OPS` says how many at most. Three take minutes with
//! optimisation, four hours.

use std::collections::BTreeSet;

use crate::cluster::{Cluster, Intent};
use crdt::{Attached, Deadline, End};

/// Regions of a scenario.
const REGIONS: usize = 3;
/// A plain `SET`.
const PLAIN: Attached = Attached::Deadline(Deadline::Never);

/// One op: where, what, and which of those before it it has seen, as bits.
#[derive(Clone, Debug)]
struct Op {
    region: usize,
    intent: Intent,
    seen: u32,
}

/// What is delivered before an op is issued, and at the end: which op where.
type Plan = Vec<Vec<(usize, usize)>>;

fn string() -> Vec<Intent> {
    let ending = Attached::Deadline(Deadline::At(10));
    vec![
        Intent::Set(b"7".to_vec(), ending),
        Intent::Append(b"1".to_vec()),
        Intent::Add(3),
    ]
}

fn hash() -> Vec<Intent> {
    vec![
        Intent::FieldSet(b'a', b"7".to_vec(), PLAIN),
        Intent::FieldAdd(b'a', 3),
        Intent::FieldRemove(b'a'),
    ]
}

fn set() -> Vec<Intent> {
    vec![Intent::MemberAdd(b'a'), Intent::MemberRemove(b'a')]
}

fn sorted_set() -> Vec<Intent> {
    vec![
        Intent::ScoreSet(b'a', 1.5),
        Intent::ScoreAdd(b'a', 0.1),
        Intent::ScoreRemove(b'a'),
    ]
}

fn list() -> Vec<Intent> {
    vec![
        Intent::Push(End::Tail, b"1".to_vec()),
        Intent::Insert(0, b"2".to_vec()),
        Intent::Pop(End::Head, 1),
    ]
}

/// Whether what an op has seen has seen nothing else, and has all that its region did before.
fn is_causal(ops: &[Op]) -> bool {
    (0..).zip(ops).all(|(at, op)| {
        (0..at).all(|before: usize| {
            let other = &ops[before];
            let sees = op.seen >> before & 1 == 1;
            (sees || other.region != op.region) && (!sees || other.seen & !op.seen == 0)
        })
    })
}

/// Delivers what must be there, by ranks, each after what it had seen.
fn plan(ops: &[Op], ranks: &[usize]) -> Plan {
    let mut has = [0_u32; REGIONS];
    let mut plan = Plan::new();
    let fill = |region: usize, wanted: u32, has: &mut [u32; REGIONS]| {
        let mut step = Vec::new();
        loop {
            let lacks = |op: &usize| (wanted & !has[region]) >> op & 1 == 1;
            let is_ready = |op: &usize| ops[*op].seen & !has[region] == 0;
            let ready = (0..ops.len()).filter(lacks).filter(is_ready);
            let Some(next) = ready.min_by_key(|&op| ranks[op]) else {
                return step;
            };
            has[region] |= 1 << next;
            step.push((region, next));
        }
    };
    for (at, op) in ops.iter().enumerate() {
        plan.push(fill(op.region, op.seen, &mut has));
        has[op.region] |= 1 << at;
    }
    let all = (1 << ops.len()) - 1;
    plan.push(
        (0..REGIONS)
            .flat_map(|at| fill(at, all, &mut has))
            .collect(),
    );
    plan
}

/// Every order of so many things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for shorter in orders(count - 1) {
        for at in 0..count {
            let mut order = shorter.clone();
            order.insert(at, count - 1);
            all.push(order);
        }
    }
    all
}

/// What is collected at every step.
#[derive(Clone, Copy, Debug)]
enum Collects {
    Nothing,
    Everywhere,
    /// In the first region only.
    There,
}

impl Collects {
    fn at(self, cluster: &mut Cluster, region: usize) {
        let here = match self {
            Self::Nothing => false,
            Self::Everywhere => true,
            Self::There => region == 0,
        };
        if here {
            cluster.settle(region, usize::MAX);
            cluster.replicas[region].check();
        }
    }
}

/// Takes in what another region holds until all have all.
fn exchange(cluster: &mut Cluster, collects: Collects) {
    for (region, from) in [(0, 1), (2, 0), (1, 2), (0, 2)] {
        cluster.merge(region, from, 1);
        cluster.replicas[region].check();
        collects.at(cluster, region);
    }
}

/// Runs a scenario; the cluster compares with the model at every step.
fn run(ops: &[Op], plan: &[Vec<(usize, usize)>], collects: Collects) {
    let mut cluster = Cluster::new(REGIONS as u8);
    for (at, deliveries) in plan.iter().enumerate() {
        for &(region, op) in deliveries {
            cluster.deliver_from(region, ops[op].region);
            cluster.replicas[region].check();
            collects.at(&mut cluster, region);
        }
        if let Some(Op { region, intent, .. }) = ops.get(at) {
            cluster.transact(*region, (0, 0), &[(0, intent.clone())]);
            cluster.replicas[*region].check();
        }
    }
    if plan.len() == ops.len() {
        exchange(&mut cluster, collects);
    }
    cluster.converge();
}

/// Runs all that begins with these ops, up to so many. Returns how many scenarios that were.
fn explore(ops: &mut Vec<Op>, alphabet: &[Intent], most: usize) -> usize {
    let mut count = 0;
    let mut plans = BTreeSet::new();
    for ranks in orders(ops.len()) {
        plans.insert(plan(ops, &ranks));
    }
    for plan in &plans {
        for collects in [Collects::Nothing, Collects::Everywhere] {
            run(ops, plan, collects);
            count += 1;
        }
    }
    let by_state: BTreeSet<_> = plans.iter().map(|plan| &plan[..ops.len()]).collect();
    for plan in by_state {
        run(ops, plan, Collects::There);
        count += 1;
    }
    if ops.len() == most {
        return count;
    }
    for region in 0..REGIONS {
        for intent in alphabet {
            for seen in 0..1 << ops.len() {
                let intent = intent.clone();
                ops.push(Op {
                    region,
                    intent,
                    seen,
                });
                if is_causal(ops) {
                    count += explore(ops, alphabet, most);
                }
                ops.pop();
            }
        }
    }
    count
}

/// Explores commands of two types, and deleting the key.
fn check_pair(one: Vec<Intent>, other: Vec<Intent>) {
    let most = std::env::var("MERIDIAN_SMALL_OPS");
    let most = most.ok().and_then(|most| most.parse().ok()).unwrap_or(2);
    let mut alphabet = one;
    alphabet.extend(other);
    alphabet.push(Intent::Delete);
    let count = explore(&mut Vec::new(), &alphabet, most);
    assert!(100 < count, "{count} scenarios");
}

macro_rules! pairs {
    ($($name:ident: $one:ident, $other:expr;)*) => {
        $(#[test]
        fn $name() {
            check_pair($one(), $other);
        })*
    };
}

pairs! {
    strings: string, Vec::new();
    hashes: hash, Vec::new();
    sets: set, Vec::new();
    sorted_sets: sorted_set, Vec::new();
    lists: list, Vec::new();
    strings_and_hashes: string, hash();
    strings_and_sets: string, set();
    strings_and_sorted_sets: string, sorted_set();
    strings_and_lists: string, list();
    hashes_and_sets: hash, set();
    hashes_and_sorted_sets: hash, sorted_set();
    hashes_and_lists: hash, list();
    sets_and_sorted_sets: set, sorted_set();
    sets_and_lists: set, list();
    sorted_sets_and_lists: sorted_set, list();
}
