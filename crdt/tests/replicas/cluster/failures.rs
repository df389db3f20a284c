//! Regions whose primary fails, and what turns up of it after that.

use crdt::{Change, Dot, Epoch, Number, Origin, Stamp, Time, Version};

use super::{Cluster, KEYS, Replica, Shipped};
use crate::model::{Part, Place, Sum};

impl Cluster {
    /// One more increment by 1 of a closed origin, of a part that there is.
    pub(super) fn late(&mut self, region: usize, place: usize) {
        let name = vec![b'a'];
        let places = [
            Place::String,
            Place::Field(name.clone()),
            Place::Score(name),
        ];
        let place = &places[place % places.len()];
        let stable = self.stable(region);
        let parts = self.replicas[region].model.parts(KEYS[0], place);
        let has_closed = |part: &&Part| stable.get(part.origin) == Time::MAX;
        let Some(part) = parts.iter().find(has_closed) else {
            return;
        };
        let at = Dot {
            time: part.at.time.next(),
            index: 0,
        };
        let raise = match (place, part.sum) {
            (Place::Score(member), Sum::Score(sum)) => Change::RaiseScore {
                member,
                raised: Box::new(part.raised(at, sum, 1.0)),
            },
            (Place::Field(field), Sum::Number(sum)) => Change::RaisePart {
                field: Some(field),
                raised: Box::new(part.raised(at, sum, Number::int(1))),
            },
            (_, Sum::Number(sum)) => Change::RaisePart {
                field: None,
                raised: Box::new(part.raised(at, sum, Number::int(1))),
            },
            _ => return,
        };
        let of = Stamp {
            time: at.time,
            origin: part.origin,
        };
        self.raised.push(part.origin);
        self.emit(region, 0, &[Change::Reissue(of), raise]);
    }

    pub(crate) fn fail(&mut self, region: usize, lose: bool) {
        let old = &self.replicas[region];
        let mut target = old.version.clone();
        let own = self.log.get(&old.origin);
        let lost = own.and_then(|ops| ops.last()).map(|op| op.frame.last());
        if let Some(time) = lost.filter(|_| lose) {
            let stamp = Stamp {
                time,
                origin: old.origin,
            };
            let others = self.replicas.iter().enumerate();
            let held = others
                .into_iter()
                .any(|(at, other)| at != region && other.version.covers(stamp));
            if held && !self.collected.covers(stamp) {
                let before = own.and_then(|ops| ops.iter().nth_back(1));
                target.remove(old.origin);
                target.advance(old.origin, before.map_or(Time::ZERO, |op| op.frame.last()));
            }
        }
        let epoch = Epoch(old.origin.epoch.0 + 1);
        let origin = Origin::new(old.origin.region, epoch);
        self.replicas[region] = self.rebuild(origin, &target);
    }

    /// A replica that has applied what `target` covers, in whatever order.
    pub(super) fn rebuild(&self, origin: Origin, target: &Version) -> Replica {
        let mut new = Replica::new(origin, self.replicas.len() == 1);
        let ready = |new: &Replica, op: &Shipped| {
            let stamp = Stamp {
                time: op.frame.last(),
                origin: op.frame.origin(),
            };
            op.frame.prev() == new.version.get(stamp.origin)
                && target.covers(stamp)
                && new.version.includes(op.frame.deps())
        };
        let all = || self.log.values().flatten();
        while let Some(op) = all().find(|op| ready(&new, op)) {
            new.admit(&op.frame);
        }
        new
    }
}
