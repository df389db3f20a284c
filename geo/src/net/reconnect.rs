//! When to call a peer again, and where it is.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;

use super::driver::Ended;

const FIRST: Duration = Duration::from_millis(100);
/// With the time that an attempt may be stuck between two of its packets, a link is back within
/// 3 s of a cut's end.
const LAST: Duration = Duration::from_secs(2);

/// How long to wait between attempts: doubles with each, up to two seconds, and is spread over
/// half of itself, so that peers of a region that returns do not all call at once.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// After an attempt that led to no connection.
    pub(super) fn failed(&mut self, chance: f64) -> Duration {
        let wait = self.next;
        self.next = LAST.min(2 * wait);
        wait.mul_f64(1.0 - chance / 2.0)
    }

    /// After a connection that has ended. One that was refused counts as a failed attempt; if only
    /// an operator can help, as many.
    pub(super) fn ended(&mut self, ended: &Ended, chance: f64) -> Duration {
        if matches!(ended, Ended::Rejected(reject) if reject.needs_operator) {
            self.next = LAST;
        } else if !ended.is_refusal() {
            self.next = FIRST;
        }
        self.failed(chance)
    }
}

/// Where `address` (`host:port`) is now, of the family that our socket can reach.
pub(super) async fn resolve(address: &str, from: SocketAddr) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> = lookup_host(address)
        .await?
        .filter(|found| from.is_ipv6() || found.is_ipv4())
        .collect();
    if found.is_empty() {
        let reason = format!("{address} has no address that can be reached from {from}");
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, reason));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Reject;

    fn ms(duration: Duration) -> u128 {
        duration.as_millis()
    }

    #[test]
    fn waits_double_up_to_a_bound_and_begin_anew_after_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..7).map(|_| ms(backoff.failed(0.0))).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 2_000, 2_000]);
        assert_eq!(ms(backoff.ended(&Ended::Lost(String::new()), 0.0)), 100);
        assert_eq!(ms(backoff.failed(1.0)), 100, "chance takes up to half");
    }

    #[test]
    fn a_refusal_is_no_success() {
        let mut backoff = Backoff::default();
        let refused = Ended::Refused("not you".to_owned());
        assert_eq!(ms(backoff.ended(&refused, 0.0)), 100);
        assert_eq!(ms(backoff.ended(&refused, 0.0)), 200);
        let reject = Reject {
            reason: "other shards".to_owned(),
            needs_operator: true,
        };
        assert_eq!(ms(backoff.ended(&Ended::Rejected(reject), 0.0)), 2_000);
    }
}
