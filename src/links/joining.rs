//! Regions that come while the node runs: the record of regions, and following it.
//!
//! What peers tell of the record is taken in by one task ([`Links::follow`]), what an operator asks
//! for by his request; both change it through `Membership::change`, so that a region is let in,
//! in every shard, before it is confirmed. Whoever drives connections takes the new links from
//! [`Links::newcomer`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crdt::{Epoch, Region};
use geo::net::Waker;
use geo::proto::{self, AddError, Entry, ForgetError, Gone, Roster, Stage};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::{Links, PeerLink};
use crate::clock;
use crate::membership::MembershipError;
use crate::proxy::RegionState;

/// Regions that there can be.
const REGIONS_MAX: usize = u8::MAX as usize;
/// Between two tries to store a record.
const RETRY: Duration = Duration::from_secs(1);

/// What wakes the tasks that send. It only grows, and is read without a lock at every write.
#[derive(Debug)]
pub(super) struct Wakers(Box<[OnceLock<Waker>]>);

impl Default for Wakers {
    fn default() -> Self {
        Self((0..REGIONS_MAX).map(|_| OnceLock::new()).collect())
    }
}

impl Wakers {
    pub(super) fn wake(&self) {
        let all = self.0.iter().map_while(OnceLock::get);
        all.for_each(Waker::wake);
    }

    /// One more. There is one for each id, and ids are not linked twice.
    pub(super) fn another(&self) -> Waker {
        let waker = Waker::default();
        for place in &self.0 {
            if place.set(waker.clone()).is_ok() {
                break;
            }
        }
        waker
    }
}

/// A region to be connected with.
#[derive(Debug)]
pub struct Newcomer {
    /// Its id.
    pub region: Region,
    /// Its name.
    pub name: String,
    /// Where it is, `host:port`.
    pub address: String,
    /// Our side of the link.
    pub link: Arc<PeerLink>,
    /// What wakes the task that sends to it.
    pub waker: Waker,
}

/// Those that nobody has connected with yet: at most one for each id.
#[derive(Debug, Default)]
pub(super) struct Newcomers {
    waiting: Mutex<VecDeque<Newcomer>>,
    arrival: Notify,
}

/// Why a region is not added.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Add(#[from] AddError),
    #[error(transparent)]
    Forget(#[from] ForgetError),
    #[error(transparent)]
    Store(#[from] MembershipError),
}

impl Links {
    /// Waits for the next region to be connected with.
    pub async fn newcomer(&self) -> Newcomer {
        loop {
            if let Some(newcomer) = self.newcomers.waiting.lock().pop_front() {
                return newcomer;
            }
            self.newcomers.arrival.notified().await;
        }
    }

    /// Begins to act by the record as it was found, before anybody is connected.
    pub fn begin(&self) {
        self.act(&self.common.members.roster());
        self.common.members.look();
    }

    /// Takes in what peers tell of the record of regions, for ever.
    pub async fn follow(self: Arc<Self>) {
        loop {
            self.common.members.news().await;
            let links = Arc::clone(&self);
            let taken = tokio::task::spawn_blocking(move || links.take_in()).await;
            if let Ok(Err(MembershipError::Stale)) = taken {
                self.step_back();
            } else if let Ok(Err(error)) = taken {
                tracing::error!(%error, "the record of regions cannot be stored: nothing of it is done");
                sleep(RETRY).await;
                self.common.members.look();
            }
        }
    }

    /// Takes in what was heard. Where this region has been let in and holds everything, it is a
    /// member from now on.
    fn take_in(&self) -> Result<(), MembershipError> {
        let loading = &self.common.server.loading;
        let serves = !loading.is_loading();
        let (own, name) = &self.own;
        let members = &self.common.members;
        // Without a disk nothing is left of what the lives before have written.
        let is_on_disk = self.common.server.durability.get().is_some();
        let is_fresh = members.joins() || (!is_on_disk && !loading.has_served());
        members.set_fresh(is_fresh);
        let epoch = self
            .common
            .server
            .shards
            .with(0, |shard| shard.origin().epoch);
        let promote = |roster: &mut Roster| {
            if is_fresh && roster.come_back(*own, name, epoch) {
                tracing::info!("this region was excluded, and comes back with nothing");
            }
            let is_in = serves && roster.is_confirmed(*own, name);
            Ok::<_, MembershipError>(is_in && roster.promote(*own, name))
        };
        let is_new = members.change(promote, |roster| self.act(roster))?;
        if is_new {
            tracing::info!("this region is a member from now on");
        }
        if self.common.is_out().is_some() {
            self.step_back();
        }
        self.common.look_at_refill();
        self.common.wake();
        Ok(())
    }

    /// The others do without this region: it takes no writes from now on, which they would not get.
    fn step_back(&self) {
        let loading = &self.common.server.loading;
        loading.begin_joining();
        if let Some(waits) = self.common.is_out() {
            loading.set_waits(waits);
        }
        if self.common.members.is_stale() {
            // What it says of the time before must not be taken for that of whom they let in.
            for link in self.all() {
                link.side.lock().refuse(true);
            }
        }
    }

    /// Whether all the others count on this region.
    pub(super) fn check_let_in(&self) -> Result<(), String> {
        let members = &self.common.members;
        if let Some(waits) = self.common.is_out() {
            return Err(format!("this region {waits}"));
        }
        let unconfirmed = members.unconfirmed_by();
        if members.joins() && !unconfirmed.is_empty() {
            let by = unconfirmed.join(", ");
            return Err(format!("this region is yet to be let in by {by}"));
        }
        Ok(())
    }

    /// Whether this region may say who takes part.
    fn check_takes_part(&self) -> Result<(), String> {
        let loading = &self.common.server.loading;
        if loading.is_loading() && loading.joins() {
            return Err("this region takes no part itself yet: ask one that does".to_owned());
        }
        Ok(())
    }

    /// Forgets a region: from now on it holds up nothing here, and is refused.
    pub(super) fn forget(&self, name: &str) -> Result<(), String> {
        self.check_takes_part()?;
        let forget = |roster: &mut Roster| {
            let (id, _) = roster.find(name)?;
            let ended = Epoch(self.newest_epoch(id).0 + 1);
            Ok::<_, Refusal>(roster.forget(self.own.0, name, ended)?)
        };
        let members = &self.common.members;
        let done = members.change(forget, |roster| self.act(roster));
        done.map_err(|error| error.to_string())?;
        tracing::warn!(region = name, "forgotten: it is refused from now on");
        self.common.wake();
        Ok(())
    }

    /// The newest epoch of a region that any shard knows of.
    pub(super) fn newest_epoch(&self, id: Region) -> Epoch {
        let shards = &self.common.server.shards;
        let newest = |index| shards.with(index, |shard| shard.delivery().newest_epoch(id));
        let newest = (0..shards.count()).filter_map(newest).max();
        newest.unwrap_or_default()
    }

    /// Lets a forgotten region back in, under new epochs.
    pub(super) fn rejoin(&self, name: &str) -> Result<(), String> {
        self.check_takes_part()?;
        let rejoin = |roster: &mut Roster| Ok::<_, Refusal>(roster.rejoin(name)?);
        let members = &self.common.members;
        let done = members.change(rejoin, |roster| self.act(roster));
        done.map_err(|error| error.to_string())?;
        tracing::info!(region = name, "a forgotten region is let back in");
        self.common.wake();
        Ok(())
    }

    /// Adds a region to the record, and lets it in.
    pub(super) fn add(&self, id: Region, name: &str, address: &str) -> Result<(), String> {
        self.check_takes_part()?;
        let add = |roster: &mut Roster| Ok::<_, Refusal>(roster.add(id, name, address)?);
        let added = self.common.members.change(add, |roster| self.act(roster));
        added.map_err(|error| error.to_string())?;
        tracing::info!(region = name, id = id.id(), address, "a region is to join");
        self.common.wake();
        Ok(())
    }

    /// Lets in who is new in the record: from now on nothing is stable here without it. Refuses who
    /// is forgotten, and gives the epochs below which they have ended.
    pub(super) fn act(&self, roster: &Roster) -> Vec<(Region, Epoch)> {
        for (id, name, entry) in roster.current() {
            if let Some((other_id, other)) = roster.clash(id, name) {
                tracing::error!(
                    region = name,
                    id = id.id(),
                    other,
                    other_id = other_id.id(),
                    "two regions claim one id or name: neither is let in; add them under others"
                );
            }
            let is_refused = entry.stage == Stage::Joining && roster.clash(id, name).is_some();
            if id == self.own.0 || is_refused {
                continue;
            }
            let shards = &self.common.server.shards;
            for index in 0..shards.count() {
                shards.with(index, |shard| shard.delivery().admit(id));
            }
            let known = self.links.read().get(&id).map(Arc::clone);
            if let Some(link) = known {
                link.side.lock().refuse(false);
                continue;
            }
            let now = proto::Instant(clock::monotonic_ns());
            self.common.reach.lock().down(id, now);
            let link = self.link(id, name);
            let address = self.connect(link, entry);
            tracing::info!(region = name, id = id.id(), address, "let in");
        }
        let forgotten = roster.forgotten().into_iter();
        let forgotten = forgotten.filter(|(id, _)| *id != self.own.0);
        forgotten
            .map(|(id, gone)| self.exclude(id, &gone, roster))
            .collect()
    }

    /// Has whoever drives connections connect with a region. Returns where that is.
    fn connect(&self, link: Arc<PeerLink>, entry: &Entry) -> String {
        let address = entry.addresses.first().cloned().unwrap_or_default();
        let newcomer = Newcomer {
            region: link.region,
            name: link.name.clone(),
            address: address.clone(),
            waker: link.waker.clone(),
            link,
        };
        self.newcomers.waiting.lock().push_back(newcomer);
        self.newcomers.arrival.notify_one();
        address
    }

    /// A region holds up nothing from now on, and is refused, unless it comes back by itself where
    /// it may. One that is heard of only now has a link, too: nobody else may be left to tell it.
    fn exclude(&self, id: Region, gone: &Gone, roster: &Roster) -> (Region, Epoch) {
        let shards = &self.common.server.shards;
        let exclude = |index| {
            shards.with(index, |shard| {
                let delivery = shard.delivery();
                let below = delivery.exclude(id, gone.ended);
                delivery.done_without(id, &gone.without);
                below
            })
        };
        let below = (0..shards.count()).map(exclude).max();
        let may_return = roster.is_excluded(id);
        let refuse = |link: &PeerLink| {
            let mut side = link.side.lock();
            side.refuse(true);
            side.let_return(may_return);
        };
        let known = self.links.read().get(&id).map(Arc::clone);
        let entry = roster.iter().find(|(of, _, _)| *of == id);
        if let Some(link) = known {
            refuse(&link);
        } else if let Some((_, name, entry)) = entry {
            let link = self.link(id, name);
            refuse(&link);
            self.connect(link, entry);
        }
        (id, below.unwrap_or(gone.ended))
    }

    /// The rows by id, with what the record says of each; those that clash are all there.
    pub(super) fn by_record(&self, rows: Vec<RegionState>) -> Vec<RegionState> {
        let roster = self.common.members.roster();
        let mut rows: BTreeMap<(u8, String), RegionState> = rows
            .into_iter()
            .map(|row| ((row.id, row.name.clone()), row))
            .collect();
        for (id, name, entry) in roster.iter() {
            let key = (id.id(), name.to_owned());
            let row = rows.entry(key).or_insert_with(|| RegionState {
                name: name.to_owned(),
                id: id.id(),
                is_self: false,
                state: "down",
                stage: "",
                silent_ms: 0,
                must_decide: false,
                waits_for: Vec::new(),
                lag_ms: 0,
                pending_ops: 0,
                catching_up: None,
                caught_up: 0,
                state_bytes: (0, 0),
            });
            row.stage = match entry.stage {
                _ if roster.clash(id, name).is_some() => "clash",
                Stage::Joining => "joining",
                Stage::Founding | Stage::Member => "member",
                Stage::Excluded => "excluded",
                Stage::Forgotten => "forgotten",
            };
            if entry.stage == Stage::Joining {
                let names = roster.waits_for(id, name);
                row.waits_for = names.into_iter().map(ToOwned::to_owned).collect();
            }
        }
        rows.into_values().collect()
    }
}
