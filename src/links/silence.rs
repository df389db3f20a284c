//! Regions that stay away: looking for how long each has been silent, once a second, and doing
//! without those that are gone for too long.
//!
//! Who decides, and when, is in `geo::proto` (`Horizon`); here its facts are gathered, and what it
//! says is done: an exclusion is a change of the record of regions like any other. Nothing is
//! decided by a node that does not serve, or takes no part itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crdt::{Epoch, Region};
use geo::proto::{self, Horizon, PATIENCE, Roster, Verdict};
use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use super::Links;
use crate::clock;
use crate::membership::MembershipError;
use crate::proxy::{SilenceSettings, SilentRegion};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks between two at memory.
const LOOKS_PER_STOCK: u32 = 10;
/// For how long keys are looked at then.
const STOCK_FOR: Duration = Duration::from_millis(25);

/// What is known of silent regions.
#[derive(Debug, Default)]
pub(super) struct Watch {
    horizon: Horizon,
    looks: u32,
    /// Whether what waits takes too much memory.
    takes_too_much: bool,
    /// Those that would be excluded, if the regions that hear each other outweighed the rest.
    outweighed: Vec<Region>,
}

/// Held for moments, with no other lock taken meanwhile.
pub(super) type Watching = Mutex<Watch>;

fn span(duration: Duration) -> proto::Span {
    proto::Span(duration.as_nanos().try_into().unwrap_or(u64::MAX))
}

impl Watch {
    fn verdict(&self, own: Region, roster: &Roster, settings: SilenceSettings) -> Verdict {
        let horizon = Some(settings.horizon).filter(|horizon| !horizon.is_zero());
        let takes_too_much = self.takes_too_much;
        self.horizon
            .verdict(own, roster, horizon.map(span), takes_too_much)
    }
}

impl Links {
    /// Looks for silent regions, for ever.
    pub async fn watch(self: Arc<Self>) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let links = Arc::clone(&self);
            // It looks at keys, and may wait for the disk.
            let looked = tokio::task::spawn_blocking(move || links.look_at_silence()).await;
            if let Ok(Err(error)) = looked {
                tracing::error!(%error, "a silent region cannot be excluded");
            }
        }
    }

    fn look_at_silence(&self) -> Result<(), MembershipError> {
        let roster = self.common.members.roster();
        let mut others = roster.ids();
        let takes_part = others.remove(&self.own.0);
        let signs = self.signs_of(&others);
        let now = proto::Instant(clock::monotonic_ns());
        let is_stock_due = {
            let watch = &mut *self.common.watch.lock();
            let signs_of = |id| signs.get(&id).copied().unwrap_or_default();
            watch.horizon.look(now, &others, signs_of);
            watch.looks = watch.looks.wrapping_add(1);
            let is_anybody_silent = watch.horizon.silent(PATIENCE).next().is_some();
            watch.takes_too_much &= is_anybody_silent;
            is_anybody_silent && watch.looks.is_multiple_of(LOOKS_PER_STOCK)
        };
        let server = &self.common.server;
        if is_stock_due {
            let max = server.unstable_bytes_max();
            let takes_too_much = max.is_some_and(|max| max < server.unstable_bytes(STOCK_FOR));
            self.common.watch.lock().takes_too_much = takes_too_much;
        }
        if !takes_part || server.loading.is_loading() {
            self.common.watch.lock().outweighed.clear();
            return Ok(());
        }
        let settings = server.silence.settings();
        let verdict = self
            .common
            .watch
            .lock()
            .verdict(self.own.0, &roster, settings);
        let outweighed = match verdict {
            Verdict::Nobody => Vec::new(),
            Verdict::Exclude(_) => {
                self.exclude_silent(settings)?;
                Vec::new()
            }
            Verdict::Outweighed(gone) => gone,
        };
        self.tell_outweighed(outweighed);
        Ok(())
    }

    /// How many signs of life there have been of each region, in all shards.
    fn signs_of(&self, others: &BTreeSet<Region>) -> BTreeMap<Region, u64> {
        let shards = &self.common.server.shards;
        let mut signs: BTreeMap<Region, u64> = others.iter().map(|&id| (id, 0)).collect();
        for index in 0..shards.count() {
            shards.with(index, |shard| {
                for (&id, all) in &mut signs {
                    *all += shard.delivery().signs_of(id);
                }
            });
        }
        signs
    }

    /// Excludes those that are silent for too long, by what the record says by then.
    fn exclude_silent(&self, settings: SilenceSettings) -> Result<(), MembershipError> {
        let own = self.own.0;
        let newest: BTreeMap<Region, Epoch> = self
            .common
            .members
            .roster()
            .ids()
            .into_iter()
            .map(|id| (id, self.newest_epoch(id)))
            .collect();
        let exclude = |roster: &mut Roster| {
            let verdict = self.common.watch.lock().verdict(own, roster, settings);
            let Verdict::Exclude(gone) = verdict else {
                return Ok(Vec::new());
            };
            for id in &gone {
                let newest = newest.get(id).copied().unwrap_or_default();
                roster.exclude(*id, Epoch(newest.0 + 1));
            }
            Ok::<_, MembershipError>(gone)
        };
        let gone = self
            .common
            .members
            .change(exclude, |roster| self.act(roster))?;
        for id in gone {
            let name = self.common.names.read().get(&id).cloned();
            let watch = self.common.watch.lock();
            tracing::warn!(
                region = name,
                silent_s = watch.horizon.silent_for(id).ms() / 1_000,
                for_memory = watch.takes_too_much,
                "excluded: it was silent for too long, and the others do without it; it comes back \
                 when its node is started again"
            );
        }
        self.common.wake();
        Ok(())
    }

    /// Says once of whom an operator has to decide.
    fn tell_outweighed(&self, outweighed: Vec<Region>) {
        let known = std::mem::replace(&mut self.common.watch.lock().outweighed, outweighed.clone());
        for id in outweighed.into_iter().filter(|id| !known.contains(id)) {
            let name = self.common.names.read().get(&id).cloned();
            tracing::error!(
                region = name,
                "silent for too long, but not excluded: those that are heard here do not outweigh \
                 the rest. If it is gone, and this region is to stay, forget it: `meridian admin \
                 region forget`"
            );
        }
    }

    /// What is known of a region's silence.
    pub(super) fn silent_region(&self, id: Region) -> SilentRegion {
        let watch = self.common.watch.lock();
        SilentRegion {
            silent_ms: watch.horizon.silent_for(id).ms(),
            must_decide: watch.outweighed.contains(&id),
        }
    }
}
