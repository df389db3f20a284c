//! A peer with a good certificate that sends what it should not.

use geo::net::{Ended, Transmit};

use super::certificates::{Authority, directory, region};
use super::node::{Node, config, eventually, nowhere};

/// Region 2 linked with 1 and, through its own call, with 3.
async fn three() -> (Node, Node, Node) {
    let authority = Authority::new();
    let ap = Node::start(
        config(3, authority.node("ap"), directory("db")),
        &[(2, nowhere())],
    );
    let peers = [(1, nowhere()), (3, ap.address())];
    let us = Node::start(config(2, authority.node("us"), directory("db")), &peers);
    let eu = Node::eu(&authority, &us);
    eventually("all are linked", || {
        eu.side(2).is_up() && us.side(1).is_up() && us.side(3).is_up() && ap.side(2).is_up()
    })
    .await;
    (eu, us, ap)
}

/// Region 1 sends something bad; region 2 ends that link for `expected`, keeps the other, and
/// takes the link up again.
async fn check_fault(transmit: Transmit, is_expected: impl Fn(&Ended) -> bool) {
    let (eu, us, ap) = three().await;
    eu.side(2).send(transmit);
    eventually("the link has ended", || !us.side(1).endings().is_empty()).await;
    assert!(
        is_expected(&us.side(1).endings()[0]),
        "{:?}",
        us.side(1).endings()
    );
    eventually("the sender knows why", || {
        matches!(eu.side(2).endings().first(), Some(Ended::Refused(_)))
    })
    .await;
    let counts = us.net.peer(region(1)).unwrap().counts;
    assert_eq!(counts.malformed + counts.rejected, 1);
    eventually("it is linked again", || {
        us.side(1).is_up() && eu.side(2).is_up()
    })
    .await;
    ap.side(2).send_message(b"undisturbed");
    eventually("the other link works", || us.side(3).messages().len() == 1).await;
    assert_eq!(us.side(3).connections(), 1);
}

#[tokio::test]
async fn a_huge_length_on_a_lane_closes_the_connection() {
    let huge = Transmit::Frame {
        lane: 1,
        bytes: u32::MAX.to_le_bytes().to_vec().into(),
    };
    check_fault(huge, |ended| matches!(ended, Ended::Malformed(_))).await;
}

#[tokio::test]
async fn a_message_that_is_too_long_closes_the_connection() {
    let long = Transmit::Control(vec![0; 5 << 20]);
    check_fault(long, |ended| matches!(ended, Ended::Malformed(_))).await;
}

#[tokio::test]
async fn what_the_handler_refuses_closes_the_connection() {
    let nonsense = Transmit::Control(b"nonsense".to_vec());
    check_fault(nonsense, |ended| matches!(ended, Ended::Rejected(_))).await;
}
