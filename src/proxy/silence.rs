//! Other regions that are silent: for how long they may be, and how much may wait for them.
//!
//! What waits to become stable is found by looking at keys, as `MEMORY DOCTOR` does, some under
//! each hold of a lock and for a few milliseconds; of more than that allows it is told from the
//! slots that were seen. What waits inside lists is not seen.

use std::fmt;
use std::time::{Duration, Instant};

use crdt::Stock;
use parking_lot::Mutex;

use super::{Server, memory};
use crate::config::units;
use crate::{clock, limits};

/// Keys that are looked at under one hold of a lock; of the last slot all are.
const KEYS_AT_ONCE: usize = 256;

/// How much memory may be taken by what waits to become stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Percent of `maxmemory`, or of the machine's memory where there is no such limit.
    Percent(u32),
    /// Bytes.
    Bytes(u64),
}

impl Share {
    /// Reads `10%` or a size such as `512MiB`.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(percent) = text.strip_suffix('%') {
            let percent = percent.trim_end().parse().ok()?;
            return (percent <= 100).then_some(Self::Percent(percent));
        }
        Some(Self::Bytes(units::size(text)? as u64))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Bytes(bytes) => write!(f, "{bytes}"),
        }
    }
}

/// What is set of regions that are silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SilenceSettings {
    /// `region-horizon`: after so much silence a region is excluded; 0 is never.
    pub horizon: Duration,
    /// `unstable-memory`: it is excluded earlier where what waits takes more; 0 is never.
    pub unstable: Share,
}

impl Default for SilenceSettings {
    fn default() -> Self {
        Self {
            horizon: limits::REGION_HORIZON,
            unstable: Share::Percent(limits::UNSTABLE_MEMORY_PERCENT),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Silence(Mutex<SilenceSettings>);

impl Silence {
    /// What is set.
    pub fn settings(&self) -> SilenceSettings {
        *self.0.lock()
    }

    /// Changes what is set.
    pub fn change(&self, change: impl FnOnce(&mut SilenceSettings)) {
        change(&mut self.0.lock());
    }
}

/// Bytes of what goes once it is stable.
pub(crate) fn waiting(stock: &Stock) -> [(&'static str, crdt::Heap); 5] {
    [
        ("siblings", stock.siblings),
        ("edits", stock.edits),
        ("removed-parts", stock.removed_parts),
        ("deadlines", stock.deadlines),
        ("removed-keys", stock.ghosts),
    ]
}

/// Takes stock of shards until a moment: of each in turn, so that what is seen in time is of all of
/// them. `look` takes stock of one from a place, and says where to go on. Returns how many places
/// were seen of each; `None` where that is all.
pub(crate) fn sample<E>(
    shards: usize,
    until: Instant,
    stock: &mut Stock,
    mut look: impl FnMut(usize, u16, usize, &mut Stock) -> Result<Option<u16>, E>,
) -> Result<Vec<Option<u16>>, E> {
    let mut places = vec![Some(0); shards];
    while clock::monotonic() < until && places.iter().any(Option::is_some) {
        for (index, place) in places.iter_mut().enumerate() {
            if let Some(from) = *place {
                *place = look(index, from, KEYS_AT_ONCE, stock)?;
            }
        }
    }
    Ok(places)
}

impl Server {
    /// How many bytes may wait to become stable; `None` is any number.
    pub fn unstable_bytes_max(&self) -> Option<u64> {
        match self.silence.settings().unstable {
            Share::Percent(0) | Share::Bytes(0) => None,
            Share::Bytes(bytes) => Some(bytes),
            Share::Percent(percent) => {
                let max = match self.room.settings().max_bytes {
                    0 => memory::total(),
                    max => max,
                };
                (0 < max).then(|| (u128::from(max) * u128::from(percent) / 100) as u64)
            }
        }
    }

    /// About how many bytes do, found in so much time. To be called with no shard locked.
    pub fn unstable_bytes(&self, look_for: Duration) -> u64 {
        let shards = &self.shards;
        let unsettled = |index| shards.with(index, |shard| shard.state().unsettled());
        if (0..shards.count()).all(|index| unsettled(index) == 0) {
            return 0;
        }
        let mut stock = Stock::default();
        let until = clock::monotonic() + look_for;
        let places = sample(
            shards.count(),
            until,
            &mut stock,
            |index, from, keys, stock| {
                // One that is out of service has nothing that could be collected.
                let shard = shards.serve(index).ok();
                Ok::<_, ()>(shard.and_then(|shard| shard.take_stock(from, keys, stock)))
            },
        );
        let places = places.unwrap_or_default();
        let all = u128::from(crdt::SLOTS);
        let each = crdt::SLOTS / shards.count() as u16;
        let seen = places.iter().map(|place| u128::from(place.unwrap_or(each)));
        let bytes = waiting(&stock).iter().map(|(_, heap)| heap.bytes).sum();
        match seen.sum() {
            0 => bytes,
            seen => (u128::from(bytes) * all / seen) as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use crdt::{Epoch, Origin, Region, Seed};

    use super::*;
    use crate::durability::Fsync;
    use crate::oplog::Budget;
    use crate::proxy::{Policy, RoomSettings, Settings};
    use crate::shard::{Identity, Peers, Shard};
    use crate::shards::Shards;

    /// A server with four shards, of one of two regions.
    fn server() -> Server {
        let region = |id| Region::new(id).expect("not 0");
        let seed = Seed::from_text(b"test");
        let shard = |number| {
            let (first, slots) = Shards::slots_of(number, 4);
            let identity = Identity {
                number,
                first,
                slots,
                origin: Origin::new(region(1), Epoch(1)),
                alone: false,
            };
            let peers = Peers {
                members: BTreeSet::from([region(1), region(2)]),
                clock_drift_max_ms: 500,
                budget: Arc::new(Budget::new(1 << 20)),
                on_disk: false,
            };
            Shard::with_peers(identity, seed, 1, peers)
        };
        let settings = Settings {
            node: "test".into(),
            password: None,
            clients_max: 100,
            policy: Policy::Enterprise,
            dir: ".".to_owned(),
            fsync: Fsync::EverySecond,
            active_active: true,
            port: 0,
            free: BTreeMap::new(),
        };
        Server::new(Shards::new(seed, (0..4).map(shard).collect()), settings)
    }

    #[test]
    fn what_waits_is_found_and_told_from_a_part_of_it() {
        const COUNT: u64 = 40_000;
        let server = server();
        assert_eq!(server.unstable_bytes(Duration::from_secs(1)), 0);
        for number in 0..COUNT {
            let name = format!("key:{number}");
            let slot = server.shards.seed().key(name.as_bytes()).slot;
            server.shards.with(server.shards.index_of(slot), |shard| {
                shard.transact(clock::now_ms(), None, |txn| {
                    let key = txn.key(name.as_bytes());
                    txn.integer_add(&key, 1).expect("a number");
                });
                shard.transact(clock::now_ms(), None, |txn| {
                    let key = txn.key(name.as_bytes());
                    assert!(txn.remove(&key));
                });
            });
        }
        let all = server.unstable_bytes(Duration::from_mins(1));
        let range = COUNT * 40..COUNT * 1_000;
        assert!(range.contains(&all), "{all}");
        // A moment is enough for some of them.
        let told = server.unstable_bytes(Duration::from_micros(200));
        assert!((all / 2..all * 2).contains(&told), "{told} of {all}");
    }

    #[test]
    fn a_percentage_is_of_maxmemory_or_of_the_machine() {
        let server = server();
        let share = |share| server.silence.change(|silence| silence.unstable = share);
        assert_eq!(server.unstable_bytes_max(), Some(memory::total() / 10));
        server.set_room(RoomSettings {
            max_bytes: 5_000_000,
            ..RoomSettings::default()
        });
        assert_eq!(server.unstable_bytes_max(), Some(500_000));
        share(Share::Bytes(7));
        assert_eq!(server.unstable_bytes_max(), Some(7));
        share(Share::Percent(0));
        assert_eq!(server.unstable_bytes_max(), None);
    }

    #[test]
    fn a_share_is_written_as_it_is_read() {
        for (text, share) in [
            ("10%", Share::Percent(10)),
            ("0%", Share::Percent(0)),
            ("1048576", Share::Bytes(1 << 20)),
            ("0", Share::Bytes(0)),
        ] {
            assert_eq!(Share::parse(text), Some(share), "{text}");
            assert_eq!(share.to_string(), text);
        }
        assert_eq!(Share::parse("512MiB"), Some(Share::Bytes(512 << 20)));
        for text in ["", "%", "101%", "-1%", "10 per cent", "1.5%"] {
            assert_eq!(Share::parse(text), None, "{text}");
        }
    }
}
