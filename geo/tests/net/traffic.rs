//! What a healthy link does.

use std::time::Duration;

use bytes::Bytes;
use geo::net::{Compression, Ended, Transmit};

use super::certificates::{Authority, directory, region};
use super::node::{Node, config, eventually, frame, now, nowhere, pair};
use super::relay::{Path, Relay};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn messages_and_frames_go_both_ways() {
    let (eu, us) = pair().await;
    for n in 0..100_u32 {
        eu.side(2).send_message(&n.to_le_bytes());
        us.side(1).send_message(&n.to_be_bytes());
        eu.side(2).send_frame(n as u16 % 5, frame(&n.to_le_bytes()));
        us.side(1).send_frame(3, frame(&n.to_be_bytes()));
    }
    eventually("all has come", || {
        [us.side(1), eu.side(2)]
            .iter()
            .all(|side| side.messages().len() == 100 && side.frames().len() == 100)
    })
    .await;
    let expected: Vec<Vec<u8>> = (0..100_u32).map(|n| n.to_le_bytes().to_vec()).collect();
    assert_eq!(us.side(1).messages(), expected, "messages keep their order");
    let expected: Vec<Bytes> = (0..100_u32).map(|n| frame(&n.to_be_bytes())).collect();
    assert_eq!(eu.side(2).frames(), expected, "a lane keeps its order");
    let path = eu.net.peer(region(2)).unwrap().path.unwrap();
    assert_eq!(path.remote, us.address());
    assert!(eu.net.peer(region(3)).is_none());
}

#[tokio::test]
async fn a_lane_keeps_its_order_among_others() {
    let (eu, us) = pair().await;
    for n in 0..1_000_u32 {
        eu.side(2)
            .send_frame((n % 4) as u16, frame(&n.to_le_bytes()));
    }
    eventually("all has come", || us.side(1).frames().len() == 1_000).await;
    let number = |frame: &Bytes| u32::from_le_bytes(frame[4..].try_into().unwrap());
    let numbers: Vec<u32> = us.side(1).frames().iter().map(number).collect();
    for lane in 0..4 {
        let of_lane: Vec<u32> = numbers.iter().copied().filter(|n| n % 4 == lane).collect();
        assert!(of_lane.is_sorted());
        assert_eq!(of_lane.len(), 250);
    }
}

#[tokio::test]
async fn frames_that_were_compressed_arrive_as_they_were_sealed() {
    let authority = Authority::new();
    let us = Node::us(&authority);
    let mut config = config(1, authority.node("eu"), directory("db"));
    config.compression = Compression::On;
    let eu = Node::start(config, &[(2, us.address())]);
    eventually("both are linked", || eu.side(2).is_up()).await;
    let number = |frame: &Bytes| u32::from_le_bytes(frame[4..8].try_into().unwrap());
    let alike = |n: u32| frame(&[&n.to_le_bytes()[..], &[7; 100]].concat());
    let mut sent: Vec<Bytes> = (0..1_000).map(alike).collect();
    // Too large for a block.
    sent.push(frame(
        &[&1_000_u32.to_le_bytes()[..], &vec![7; 8 * MIB]].concat(),
    ));
    for frame in &sent {
        eu.side(2)
            .send_frame((number(frame) % 4) as u16, frame.clone());
    }
    eventually("all has come", || us.side(1).frames().len() == sent.len()).await;
    let mut came = us.side(1).frames();
    for lane in 0..4 {
        let of_lane = came.iter().map(number).filter(|n| n % 4 == lane);
        assert!(of_lane.is_sorted(), "a lane keeps its order");
    }
    came.sort_by_key(number);
    assert!(came == sent, "the bytes are those that were sent");
    let counts = eu.net.figures().total();
    assert!(
        0 < counts.squeezed_to && 4 * counts.squeezed_to < counts.squeezed,
        "{counts:?}"
    );
    // A build that knows nothing of it gets frames as they are.
    eu.side(2).takes_nothing_compressed();
    for n in 0..1_000 {
        eu.side(2).send_frame(0, alike(n));
    }
    eventually("all has come", || {
        us.side(1).frames().len() == sent.len() + 1_000
    })
    .await;
    assert_eq!(eu.net.figures().total(), counts);
}

#[tokio::test]
async fn big_frames_arrive_whole() {
    let (eu, us) = pair().await;
    let big: Vec<Bytes> = (0..3).map(|n| frame(&vec![n; 8 * MIB])).collect();
    for (lane, bytes) in big.iter().enumerate() {
        eu.side(2).send_frame(lane as u16, bytes.clone());
    }
    eventually("all has come", || us.side(1).frames().len() == 3).await;
    let mut found = us.side(1).frames();
    found.sort();
    assert!(found == big);
}

#[tokio::test]
async fn a_full_inbox_holds_up_its_lane_alone_and_loses_nothing() {
    let (eu, us) = pair().await;
    us.side(1).set_full(Some(0));
    let big = frame(&vec![0; MIB]);
    for _ in 0..60 {
        eu.side(2).send_frame(0, big.clone());
    }
    eventually("frames are refused for now", || 0 < us.side(1).laters()).await;
    eu.side(2).send_message(b"still here");
    eu.side(2).send_frame(1, frame(&[1; 9]));
    eventually("messages get past", || us.side(1).messages().len() == 1).await;
    eventually("other lanes get past", || {
        us.side(1).frames() == [frame(&[1; 9])]
    })
    .await;
    us.side(1).set_full(None);
    eventually("all has come", || us.side(1).frames().len() == 61).await;
    assert_eq!(eu.side(2).connections(), 1);
}

#[tokio::test]
async fn what_waits_to_be_sent_is_bounded() {
    let (eu, us) = pair().await;
    us.side(1).set_full(Some(0));
    let big = frame(&vec![0; MIB]);
    for _ in 0..400 {
        eu.side(2).send_frame(0, big.clone());
    }
    eventually("frames are refused for now", || 0 < us.side(1).laters()).await;
    eventually("some are taken", || eu.side(2).unsent() < 350).await;
    assert!(100 < eu.side(2).unsent(), "no more is taken than may wait");
    us.side(1).set_full(None);
    eventually("all has come", || us.side(1).frames().len() == 400).await;
}

#[tokio::test]
async fn timeouts_come_when_they_are_due() {
    let (eu, _us) = pair().await;
    let due = now() + Duration::from_millis(30);
    eu.side(2).set_due(due);
    eventually("it has come", || eu.side(2).timeouts() == 1).await;
    assert!(due <= now());
}

#[tokio::test]
async fn the_peer_hears_a_goodbye() {
    let (eu, us) = pair().await;
    us.net.stop().await;
    eventually("it is noticed", || {
        eu.side(2).endings() == [Ended::PeerStopped]
    })
    .await;
    assert_eq!(us.peers[&1].endings(), [Ended::Stopped]);
}

#[tokio::test]
async fn a_peer_that_returns_is_called_again() {
    let authority = Authority::new();
    let us = Node::us(&authority);
    let eu = Node::eu(&authority, &us);
    eventually("both are linked", || {
        eu.side(2).is_up() && us.side(1).is_up()
    })
    .await;
    let address = us.address();
    us.net.stop().await;
    eventually("it is gone", || !eu.side(2).is_up()).await;
    let us = Node::us_at(&authority, address, nowhere()).await;
    eventually("it is linked again", || {
        eu.side(2).is_up() && us.side(1).is_up()
    })
    .await;
    eu.side(2).send(Transmit::Control(b"welcome back".to_vec()));
    eventually("it hears", || {
        us.side(1).messages() == [b"welcome back".to_vec()]
    })
    .await;
    assert_eq!(eu.net.peer(region(2)).unwrap().counts.connected, 2);
}

#[tokio::test]
async fn a_node_that_starts_again_is_called_at_once() {
    let authority = Authority::new();
    let us = Node::us(&authority);
    let address = us.address();
    let path = Path {
        delay: Duration::ZERO,
        loss: 0.0,
        packet_bytes_max: 1_472,
    };
    let relay = Relay::start(path, address);
    let eu = Node::eu_calling(&authority, relay.address);
    eventually("both are linked", || {
        eu.side(2).is_up() && us.side(1).is_up()
    })
    .await;
    relay.set_cut(true); // It cannot say goodbye.
    drop(us);
    let us = Node::us_at(&authority, address, eu.address()).await;
    eventually("the old connection has ended", || !eu.side(2).is_up()).await;
    relay.set_cut(false);
    eventually("it is linked again", || {
        eu.side(2).is_up() && us.side(1).is_up()
    })
    .await;
    assert_eq!(eu.side(2).endings(), [Ended::PeerStarted]);
}

#[tokio::test]
async fn a_node_that_was_dropped_is_noticed_within_three_seconds() {
    let (eu, us) = pair().await;
    let began = now();
    drop(us);
    eventually("it is noticed", || !eu.side(2).is_up()).await;
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "took {:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_newer_connection_of_a_peer_replaces_the_older() {
    let authority = Authority::new();
    let us = Node::us(&authority);
    let first = Node::eu(&authority, &us);
    eventually("the first is linked", || {
        us.side(1).is_up() && first.side(2).is_up()
    })
    .await;
    let second = Node::eu(&authority, &us);
    eventually("the second is linked", || second.side(2).is_up()).await;
    eventually("the first has been told", || {
        first.side(2).endings().contains(&Ended::Replaced)
    })
    .await;
    assert_eq!(us.side(1).endings().first(), Some(&Ended::Replaced));
}

#[tokio::test]
async fn a_cut_is_noticed_and_a_heal_links_again_within_three_seconds() {
    let authority = Authority::new();
    let us = Node::us(&authority);
    let path = Path {
        delay: Duration::from_millis(5),
        loss: 0.0,
        packet_bytes_max: 1_472,
    };
    let relay = Relay::start(path, us.address());
    let eu = Node::eu_calling(&authority, relay.address);
    eventually("both are linked", || {
        eu.side(2).is_up() && us.side(1).is_up()
    })
    .await;
    relay.set_cut(true);
    let began = now();
    eventually("both notice", || !eu.side(2).is_up() && !us.side(1).is_up()).await;
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "took {:?}",
        began.elapsed()
    );
    eventually("it has tried in vain", || {
        1 < eu.net.peer(region(2)).unwrap().counts.failed
    })
    .await;
    relay.set_cut(false);
    let began = now();
    eventually("both are linked again", || {
        eu.side(2).is_up() && us.side(1).is_up()
    })
    .await;
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "took {:?}",
        began.elapsed()
    );
}
