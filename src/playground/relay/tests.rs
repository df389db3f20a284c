//! The relay on loopback, with plain sockets for regions.

use std::time::Duration;

use testing::{Stopwatch, wait_until};

use super::*;

const LIMIT: Duration = Duration::from_secs(10);
/// Longer than anything without delay takes, even on a busy machine.
const SILENCE: Duration = Duration::from_millis(300);

/// Two regions, 0 and 1, where 0 dials.
struct Pair {
    relay: Relay,
    sockets: [UdpSocket; 2],
}

impl Pair {
    fn new(shape: Shape) -> Self {
        let sockets = [(); 2].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let addresses = [0, 1].map(|region: usize| sockets[region].local_addr().unwrap());
        let relay = Relay::start(&addresses, shape, 1).unwrap();
        Self { relay, sockets }
    }

    /// Sends from region 0, as if the entrance were region 1.
    fn dial(&self, text: &str) {
        let entrance = self.relay.entrance(0, 1).unwrap();
        self.sockets[0].send_to(text.as_bytes(), entrance).unwrap();
    }

    /// What a region receives within a limit, and from whom.
    fn receive(&self, region: usize, limit: Duration) -> Option<(String, SocketAddr)> {
        let mut buffer = [0; 100];
        self.sockets[region].set_read_timeout(Some(limit)).unwrap();
        let (bytes, from) = self.sockets[region].recv_from(&mut buffer).ok()?;
        Some((String::from_utf8_lossy(&buffer[..bytes]).into_owned(), from))
    }

    fn heard(&self, region: usize, limit: Duration) -> Option<String> {
        self.receive(region, limit).map(|(text, _)| text)
    }

    /// Region 0 dials and region 1 answers it; where region 0 was answered from.
    fn talk(&self) {
        self.dial("ping");
        let (text, from) = self.receive(1, LIMIT).unwrap();
        assert_eq!(text, "ping");
        self.sockets[1].send_to(b"pong", from).unwrap();
        let (text, from) = self.receive(0, LIMIT).unwrap();
        assert_eq!(
            (text.as_str(), Some(from)),
            ("pong", self.relay.entrance(0, 1))
        );
    }

    fn cut(&self, from: usize, to: usize, is_cut: bool) {
        self.relay.direction(from, to).unwrap().set_cut(is_cut);
    }
}

#[test]
fn what_is_answered_comes_back() {
    let pair = Pair::new(Shape::default());
    pair.talk();
    pair.talk();
}

#[test]
fn each_direction_takes_its_time() {
    let pair = Pair::new(Shape::default());
    let delay = |ms| Shape {
        delay: Duration::from_millis(ms),
        ..Shape::default()
    };
    pair.relay.direction(0, 1).unwrap().set_shape(delay(30));
    pair.relay.direction(1, 0).unwrap().set_shape(delay(70));
    let watch = Stopwatch::start();
    pair.dial("ping");
    let (_, from) = pair.receive(1, LIMIT).unwrap();
    let there = watch.elapsed();
    pair.sockets[1].send_to(b"pong", from).unwrap();
    pair.receive(0, LIMIT).unwrap();
    let both = watch.elapsed();
    assert!(Duration::from_millis(30) <= there && Duration::from_millis(100) <= both);
    assert!(both < SILENCE, "{both:?}");
}

#[test]
fn a_constant_delay_keeps_the_order() {
    let shape = Shape {
        delay: Duration::from_millis(5),
        ..Shape::default()
    };
    let pair = Pair::new(shape);
    for number in 0..100 {
        pair.dial(&number.to_string());
    }
    for number in 0..100 {
        assert_eq!(pair.heard(1, LIMIT), Some(number.to_string()));
    }
}

#[test]
fn a_cut_lasts_until_it_is_healed() {
    let pair = Pair::new(Shape::default());
    pair.talk();
    pair.cut(0, 1, true);
    pair.dial("lost");
    assert_eq!(pair.heard(1, SILENCE), None);
    pair.cut(0, 1, false);
    pair.talk();
}

#[test]
fn a_cut_of_one_way_leaves_the_other() {
    let pair = Pair::new(Shape::default());
    pair.dial("ping");
    let (_, from) = pair.receive(1, LIMIT).unwrap();
    pair.cut(0, 1, true);
    pair.sockets[1].send_to(b"pong", from).unwrap();
    assert_eq!(pair.heard(0, LIMIT), Some("pong".to_owned()));
    pair.dial("lost");
    assert_eq!(pair.heard(1, SILENCE), None);

    pair.cut(0, 1, false);
    pair.cut(1, 0, true);
    pair.dial("ping");
    assert_eq!(pair.heard(1, LIMIT), Some("ping".to_owned()));
    pair.sockets[1].send_to(b"lost", from).unwrap();
    assert_eq!(pair.heard(0, SILENCE), None);
}

#[test]
fn the_share_that_is_lost_is_lost() {
    let pair = Pair::new(Shape {
        loss: 0.5,
        ..Shape::default()
    });
    let direction = pair.relay.direction(0, 1).unwrap();
    let mut heard = 0;
    for round in 1..=100 {
        // A few at a time, so that none is lost to a full buffer.
        (0..10).for_each(|number| pair.dial(&number.to_string()));
        let all_met_their_fate = || {
            let counts = direction.counts();
            counts.passed + counts.lost == 10 * round
        };
        assert!(
            wait_until(LIMIT, all_met_their_fate),
            "{:?}",
            direction.counts()
        );
        while heard < direction.counts().passed {
            assert!(pair.heard(1, LIMIT).is_some());
            heard += 1;
        }
    }
    assert!((400..600).contains(&heard), "{heard} of 1000 passed");
    assert_eq!(pair.heard(1, SILENCE), None);
}

#[test]
fn a_region_may_come_back_on_another_port() {
    let mut pair = Pair::new(Shape::default());
    pair.talk();
    pair.sockets[0] = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    pair.talk();
}
