//! Sorted sets.

use redis::Commands as _;

use crate::Node;

#[test]
fn members_stand_by_score_then_name() {
    let node = Node::start();
    let mut redis = node.connect();
    let members = [(2.0, "c"), (1.0, "b"), (1.0, "a"), (3.5, "d")];
    assert_eq!(
        redis
            .zadd_multiple::<_, _, _, usize>("z", &members)
            .unwrap(),
        4
    );
    let all: Vec<(String, f64)> = redis.zrange_withscores("z", 0, -1).unwrap();
    let expected = [("a", 1.0), ("b", 1.0), ("c", 2.0), ("d", 3.5)];
    assert_eq!(
        all,
        expected.map(|(member, score)| (member.to_owned(), score))
    );
    assert_eq!(
        redis.zrank::<_, _, Option<usize>>("z", "c").unwrap(),
        Some(2)
    );
    assert_eq!(
        redis.zrevrank::<_, _, Option<usize>>("z", "c").unwrap(),
        Some(1)
    );
    assert_eq!(
        redis.zcount::<_, _, _, usize>("z", "(1", "+inf").unwrap(),
        2
    );
    assert_eq!(
        redis.zincr::<_, _, _, String>("z", "a", 10.5).unwrap(),
        "11.5"
    );
    assert_eq!(
        redis.zpopmax::<_, Vec<(String, f64)>>("z", 1).unwrap(),
        [("a".to_owned(), 11.5)]
    );
    assert_eq!(redis.zrembyscore::<_, _, _, usize>("z", 1, 2).unwrap(), 2);
    assert_eq!(redis.zrange::<_, Vec<String>>("z", 0, -1).unwrap(), ["d"]);
}

#[test]
fn scores_print_in_the_shortest_form() {
    let node = Node::start();
    let mut redis = node.connect();
    for (score, text) in [
        ("0.1", "0.1"),
        ("1e20", "1e+20"),
        ("3.0", "3"),
        ("-inf", "-inf"),
    ] {
        let () = redis::cmd("ZADD")
            .arg("z")
            .arg(score)
            .arg("m")
            .query(&mut redis)
            .unwrap();
        assert_eq!(redis.zscore::<_, _, String>("z", "m").unwrap(), text);
    }
}

#[test]
fn a_leaderboard_of_many_members_knows_every_rank() {
    const MEMBERS: usize = 2_000;
    let node = Node::start();
    let mut redis = node.connect();
    let mut pipeline = redis::pipe();
    for number in 0..MEMBERS {
        // Every number once, in an order that is not sorted.
        let number = number * 7 % MEMBERS;
        pipeline.zadd("z", format!("m{number}"), number).ignore();
    }
    let () = pipeline.query(&mut redis).unwrap();
    for number in (0..MEMBERS).step_by(97) {
        let rank: usize = redis.zrank("z", format!("m{number}")).unwrap();
        assert_eq!(rank, number);
    }
    let middle: Vec<String> = redis.zrange("z", 1000, 1002).unwrap();
    assert_eq!(middle, ["m1000", "m1001", "m1002"]);
}
