//! Writing again what a region had that nobody else has, from what was put aside.
//!
//! Once the node serves, the log in the folder is read, and ops of its own that nobody else has are
//! issued again (`shard::late`), each once however often that is begun. When all are, and synced,
//! the folder gets a file that says so, and can be removed.
//!
//! An increment says what its origin has added by then, so what it went on from has to be known;
//! those who have that have folded or dropped it by now. It is looked for in the log, and in the
//! snapshots: while a region is away, the one before the log is kept.
//!
//! What the log there no longer had, because it was cut to its budget, is in a snapshot alone, as
//! state: that is told, and not written again. Nor is what rests on ops that no region has, or an
//! increment of which it is not known what it went on from.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crdt::{Frame, Op, Origin, Region, State, Time, Version};
use geo::proto::Offer;

use super::{AsideError, failed, folders, sync};
use crate::clock::{self, Moment};
use crate::oplog::record::Owner;
use crate::oplog::recover::recover;
use crate::oplog::recovered::Replay;
use crate::oplog::storage::Disk;
use crate::proxy::Server;
use crate::shard::{Known, LateOps, Shard};
use crate::shards::Shards;
use crate::snapshot;

/// The file that says that there is nothing left to write again.
const DONE: &str = "written-again";
/// Between two looks whether it is time to write again.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Tries to hand a shard a frame that it has no room for.
const TRIES: u32 = 100;

/// Writes again, once the node serves, what only this region has, of every folder that was put
/// aside. Returns at once if there is none.
pub async fn write_again(server: Arc<Server>, dir: PathBuf, owner: Owner) {
    let is_open = |(_, folder): &(u32, PathBuf)| !folder.join(DONE).exists();
    let open: Vec<PathBuf> = match folders(&dir) {
        Ok(all) => all
            .into_iter()
            .filter(is_open)
            .map(|(_, path)| path)
            .collect(),
        Err(error) => {
            tracing::error!(%error, "what was put aside cannot be looked for");
            return;
        }
    };
    for folder in open {
        while server.loading.is_loading() || !has_closed(&server, owner.region) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let (of, owner, path) = (Arc::clone(&server), owner.clone(), folder.clone());
        let done = tokio::task::spawn_blocking(move || write_one(&of, &path, &owner));
        match done.await {
            Ok(Ok(found)) => tell(&folder, found),
            Ok(Err(error)) => tracing::error!(%error, "what was put aside is not written again"),
            Err(_) => return, // The node ends.
        }
    }
}

/// Whether all regions have said where the lives of this one before have ended.
fn has_closed(server: &Server, own: Region) -> bool {
    let is_closed = |index| {
        server.shards.with(index, |shard| {
            let open = shard.delivery().open_endings();
            open.iter().all(|ending| ending.region != own)
        })
    };
    (0..server.shards.count()).all(is_closed)
}

/// What has become of what was put aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Found {
    late: LateOps,
    /// Shards of which ops are missing between what all have and what the log has.
    gaps: usize,
    /// Frames that could not be written again now.
    waiting: usize,
}

fn tell(folder: &Path, found: Found) {
    let folder = folder.display().to_string();
    let LateOps { reissued, lost, .. } = found.late;
    if found.gaps + found.waiting == 0 && lost == 0 {
        tracing::info!(
            folder,
            ops = reissued,
            "what only this region had was written again: the folder can be removed"
        );
        return;
    }
    tracing::error!(
        folder,
        ops = reissued,
        shards_with_gaps = found.gaps,
        frames_waiting = found.waiting,
        increments_lost = lost,
        "not all that only this region had was written again: keep the folder. What its log no \
         longer has is in its snapshot alone, as is what increments that are lost went on from; what \
         waits rests on ops that no region has"
    );
}

/// Hands the shards what a log has of this region, with what its increments went on from.
fn write_one(server: &Server, folder: &Path, owner: &Owner) -> Result<Found, AsideError> {
    let storage = Disk::new(folder);
    let shards = &server.shards;
    let known = what_they_went_on_from(server, &storage, owner)?;
    for (index, known) in known.into_iter().enumerate() {
        shards.with(index, |shard| shard.know(known));
    }
    let late = || {
        let mut all = LateOps::default();
        for index in 0..shards.count() {
            all.add(shards.with(index, |shard| shard.late_ops()));
        }
        all
    };
    let before = late();
    let mut found = Found::default();
    let recovered = recover(&storage, owner, 0, &mut |what| match what {
        Replay::From(shard, stretch) => {
            let own = stretch.ends.iter();
            let mut own = own.filter(|(origin, _)| origin.region == owner.region);
            let lacks = own.any(|(origin, time)| closed_at(server, shard, origin) < time);
            found.gaps += usize::from(lacks);
        }
        Replay::Frame(frame) => {
            let origin = frame.origin();
            let is_known = origin.region != owner.region
                || frame.last() <= closed_at(server, frame.shard(), origin);
            if !is_known && !hand_in(server, &frame) {
                found.waiting += 1;
            }
        }
        // What came from others they have.
        Replay::Intake(..) => {}
    })?;
    // Of these nothing is taken that comes after the damage.
    found.gaps += recovered.damaged.len();
    for index in 0..shards.count() {
        shards.with(index, |shard| {
            shard.know(Known::default());
            found.waiting += shard.delivery().late_of(owner.region).count();
        });
    }
    let after = late();
    found.late = LateOps {
        reissued: after.reissued - before.reissued,
        skipped: after.skipped - before.skipped,
        lost: after.lost - before.lost,
    };
    server.wrote();
    let synced = server
        .durability
        .get()
        .map(|disk| disk.sync_now(shards, Moment::now()));
    if found.gaps + found.waiting == 0 && synced.is_none_or(|synced| synced.is_ok()) {
        let path = folder.join(DONE);
        let made = File::create(&path).and_then(|file| file.sync_all());
        made.map_err(failed(&path))?;
        sync(folder)?;
    }
    Ok(found)
}

/// What increments went on from that nobody else has, by shard: the last of each thing before them
/// that all have. Found in the log, or in a snapshot that was made before.
fn what_they_went_on_from(
    server: &Server,
    storage: &Disk,
    owner: &Owner,
) -> Result<Vec<Known>, AsideError> {
    let shards = &server.shards;
    let mut known: Vec<Known> = (0..shards.count()).map(|_| Known::default()).collect();
    let mut each = |visit: fn(&mut Known, &Op<'_>, Time)| {
        recover(storage, owner, 0, &mut |what| {
            let Replay::Frame(frame) = what else { return };
            let (shard, origin) = (frame.shard(), frame.origin());
            if origin.region == owner.region {
                let end = closed_at(server, shard, origin);
                let known = &mut known[usize::from(shard)];
                frame.iter().for_each(|op| visit(known, &op, end));
            }
        })
    };
    each(Known::want)?;
    each(Known::note)?;
    if known.iter().any(Known::wants) {
        snapshot::load_all(storage, owner, &mut |shard, piece| {
            let (first, slots) = Shards::slots_of(shard, owner.shards);
            let end = |origin| closed_at(server, shard, origin);
            let mut state = State::new(*shards.seed(), first, slots, false);
            state.merge(piece, &Version::new())?;
            known[usize::from(shard)].note_state(&state, end);
            Ok(())
        })?;
    }
    Ok(known)
}

/// Up to which time everybody has everything of an origin that has ended.
fn closed_at(server: &Server, shard: u16, origin: Origin) -> Time {
    let at = |shard: &mut Shard| shard.delivery().closed_at(origin);
    server.shards.with(shard.into(), at)
}

/// Has a shard issue again what is in a frame. Returns whether it has taken it.
fn hand_in(server: &Server, frame: &Frame) -> bool {
    let own = frame.origin().region;
    for _ in 0..TRIES {
        let shard = usize::from(frame.shard());
        let offer = |shard: &mut Shard| shard.offer(frame.clone(), own, clock::now_ms());
        match server.shards.with(shard, offer) {
            Offer::Late(_) | Offer::Duplicate => return true,
            Offer::Full => std::thread::sleep(LOOK_EVERY),
            Offer::Ready
            | Offer::Waiting
            | Offer::Gap
            | Offer::Ahead
            | Offer::OutOfService
            | Offer::Refused(_) => return false,
        }
    }
    false
}
