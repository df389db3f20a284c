//! Regions that stay away for longer than they may, and come back.

use std::collections::BTreeMap;
use std::time::Duration;

use testing::{Client, Playground, Value, wait_until};

use crate::{Node, Regions};

const LIMIT: Duration = Duration::from_mins(1);

type Row = BTreeMap<String, String>;

/// The row of a region in `REGION LIST`, as text.
fn row(server: &Regions, at: usize, region: &str) -> Row {
    let mut redis = server.connect(at);
    let rows: Vec<Row> = redis::cmd("REGION").arg("LIST").query(&mut redis).unwrap();
    let mut rows = rows.into_iter();
    rows.find(|row| row["name"] == region)
        .expect("it has a row")
}

fn text(reply: &Value) -> String {
    String::from_utf8_lossy(reply.bytes().unwrap_or_default()).into_owned()
}

/// A field of `INFO`.
fn info(client: &mut Client, name: &str) -> String {
    let text = text(&client.run(&["INFO"]));
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_default().trim_start_matches(':').to_owned()
}

fn set_horizon(client: &mut Client, horizon: &str) {
    let set = client.run(&["CONFIG", "SET", "region-horizon", horizon]);
    assert_eq!(set.error(), None);
}

/// Waits until both others do without the third region, and has them be patient from then on: a
/// busy machine can keep one silent for longer than these tests can wait.
#[track_caller]
fn wait_excluded(server: &Regions, others: &mut [&mut Client; 2]) {
    for at in [1, 2] {
        let is_excluded = || row(server, at, "three")["stage"] == "excluded";
        assert!(wait_until(LIMIT, is_excluded), "{}", server.0.log());
    }
    for client in others {
        set_horizon(client, "24h");
    }
}

/// Waits until nothing waits to become stable.
#[track_caller]
fn wait_drained(server: &Regions, at: usize) {
    let mut client = server.0.client(at);
    let drained = wait_until(LIMIT, || info(&mut client, "mem_unstable_things") == "0");
    assert!(drained, "region {at}: {}", server.0.log());
}

#[track_caller]
fn wait_same(server: &Playground) {
    let mut clients: Vec<(usize, Client)> = (1..=3).map(|at| (at, server.client(at))).collect();
    let same = wait_until(LIMIT, || server.in_sync(&mut clients, |_, _| true));
    assert!(same, "{}", server.log());
}

#[test]
fn a_region_that_stays_away_is_done_without_and_brings_what_it_has_when_it_is_back() {
    let server = Regions::start(3);
    let [mut one, mut two, mut three] = [1, 2, 3].map(|at| server.0.client(at));
    assert_eq!(one.run(&["INCR", "count"]).int(), Some(1));
    assert_eq!(three.run(&["SET", "before", "v"]).error(), None);
    wait_same(&server.0);
    for client in [&mut one, &mut two, &mut three] {
        set_horizon(client, "5s");
    }
    server.0.cut(1, 3);
    server.0.cut(2, 3);
    // What only stability can collect, and what nobody else hears of.
    assert_eq!(one.run(&["DEL", "count"]).int(), Some(1));
    assert_eq!(three.run(&["INCRBY", "count", "7"]).int(), Some(8));
    assert_eq!(three.run(&["SET", "apart", "v"]).error(), None);
    for command in [["INCR", "gone"], ["DEL", "gone"]] {
        assert_eq!(three.run(&command).int(), Some(1));
    }
    let is_silent = wait_until(LIMIT, || {
        3_000
            < row(&server, 1, "three")["silent-ms"]
                .parse::<u64>()
                .unwrap()
            || row(&server, 1, "three")["stage"] == "excluded"
    });
    assert!(is_silent);
    wait_excluded(&server, &mut [&mut one, &mut two]);
    assert_eq!(info(&mut one, "regions_excluded"), "1");
    wait_drained(&server, 1);

    // The other side of the cut goes on, excludes nobody, and says what there is to decide.
    let told = wait_until(LIMIT, || {
        let report = text(&three.run(&["MEMORY", "DOCTOR"]));
        report.contains("one has been silent for") && report.contains("do not outweigh the rest")
    });
    assert!(told, "{}", text(&three.run(&["MEMORY", "DOCTOR"])));
    assert_eq!(row(&server, 3, "one")["stage"], "member");

    server.0.heal_all();
    let refused = wait_until(LIMIT, || {
        let reply = three.run(&["SET", "refused", "v"]);
        let said = reply.error().unwrap_or_default();
        said.starts_with("EXCLUDED ") && said.contains("start its node again")
    });
    assert!(refused, "{}", server.0.log());
    assert_eq!(text(&three.run(&["GET", "apart"])), "v", "it lets read");
    assert_eq!(one.run(&["GET", "apart"]).bytes(), None);

    server.0.node(3, "stop");
    server.0.node(3, "start");
    let back = wait_until(LIMIT, || {
        let reply = server.0.client(3).run(&["SET", "back", "v"]);
        reply.error().is_none()
    });
    assert!(back, "{}", server.0.log());
    for at in 1..=3 {
        let mut client = server.0.client(at);
        let has_all = wait_until(LIMIT, || {
            text(&client.run(&["GET", "apart"])) == "v"
                && text(&client.run(&["GET", "before"])) == "v"
                && text(&client.run(&["GET", "count"])) == "7"
        });
        assert!(has_all, "region {at}: {}", server.0.log());
    }
    wait_same(&server.0);
    for at in 1..=3 {
        let is_member = || row(&server, at, "three")["stage"] == "member";
        assert!(wait_until(LIMIT, is_member), "region {at}");
        wait_drained(&server, at);
    }
}

#[test]
fn what_was_put_aside_is_written_again_once_however_often_its_node_is_killed() {
    const COUNT: i64 = 3_000;
    let server = Regions::start(3);
    let [mut one, mut two, mut three] = [1, 2, 3].map(|at| server.0.client(at));
    for client in [&mut one, &mut two] {
        set_horizon(client, "4s");
    }
    // Of lives that have ended, and that all have closed, nothing is written again.
    for before in 0..3 {
        assert_eq!(three.run(&["INCR", "count"]).int(), Some(before + 1));
        wait_same(&server.0);
        server.0.node(3, "stop");
        server.0.node(3, "start");
        three = server.0.client(3);
        let serves = wait_until(LIMIT, || three.run(&["GET", "count"]).error().is_none());
        assert!(serves, "{}", server.0.log());
    }
    assert_eq!(one.run(&["INCRBY", "count", "2"]).int(), Some(5));
    wait_same(&server.0);
    server.0.cut(1, 3);
    server.0.cut(2, 3);
    let commands: Vec<[&str; 3]> = (0..COUNT)
        .flat_map(|_| [["INCRBY", "count", "1"], ["RPUSH", "list", "x"]])
        .collect();
    for part in commands.chunks(500) {
        three.pipeline(part).expect("it takes writes");
    }
    wait_excluded(&server, &mut [&mut one, &mut two]);
    assert_eq!(one.run(&["INCRBY", "count", "7"]).int(), Some(12));
    server.0.heal_all();
    let refused = wait_until(LIMIT, || {
        let reply = three.run(&["SET", "refused", "v"]);
        reply.error().unwrap_or_default().starts_with("EXCLUDED ")
    });
    assert!(refused, "{}", server.0.log());
    let mut had = 0;
    for round in 0..4 {
        server.0.node(3, "kill");
        server.0.node(3, "start");
        // Killed as soon as some more of it has come to others.
        let goes_on = wait_until(LIMIT, || {
            let count = text(&one.run(&["GET", "count"])).parse::<i64>().unwrap();
            let (before, all) = (had, 12 + COUNT);
            had = count;
            before < count || count == all
        });
        assert!(goes_on, "round {round}: {}", server.0.log());
    }
    for at in 1..=3 {
        let mut client = server.0.client(at);
        let has_all = wait_until(LIMIT, || {
            text(&client.run(&["GET", "count"])) == (12 + COUNT).to_string()
                && client.run(&["LLEN", "list"]).int() == Some(COUNT)
        });
        let count = text(&client.run(&["GET", "count"]));
        assert!(has_all, "region {at} has {count}: {}", server.0.log());
    }
    wait_same(&server.0);
}

#[test]
fn one_that_is_back_is_filled_up_by_state_where_logs_were_cut_without_it() {
    check_filled_up_by_state(false);
}

/// What all have of counters is then in the older of two snapshots alone of what was put aside, and
/// folded or dropped elsewhere.
#[test]
fn nor_are_increments_lost_whose_beginnings_the_log_does_not_have() {
    check_filled_up_by_state(true);
}

/// A string, a field and a member, each as a counter.
const COUNTERS: [[&str; 3]; 3] = [
    ["INCRBY", "count", ""],
    ["HINCRBY", "hash", "count"],
    ["ZINCRBY", "zset", ""],
];

/// Raises all counters, and gives what the last has come to.
fn raise(client: &mut Client, by: &str) -> [String; 3] {
    COUNTERS.map(|[name, key, field]| {
        let reply = match name {
            "INCRBY" => client.run(&[name, key, by]),
            "HINCRBY" => client.run(&[name, key, field, by]),
            _ => client.run(&[name, key, by, "member"]),
        };
        reply
            .int()
            .map_or_else(|| text(&reply), |int| int.to_string())
    })
}

fn counters(client: &mut Client) -> [String; 3] {
    [
        text(&client.run(&["GET", "count"])),
        text(&client.run(&["HGET", "hash", "count"])),
        text(&client.run(&["ZSCORE", "zset", "member"])),
    ]
}

#[track_caller]
fn save_twice(client: &mut Client) {
    // A log is cut behind a snapshot before the next is begun, once all have kept it.
    for _ in 0..2 {
        let saved = wait_until(LIMIT, || client.run(&["SAVE"]).error().is_none());
        assert!(saved);
    }
}

#[track_caller]
fn check_filled_up_by_state(saves_before: bool) {
    let flags = ["--", "--geo-log-memory", "1MiB", "--geo-log-budget", "1MiB"];
    let server = Regions::with(3, &flags);
    let [mut one, mut two, mut three] = [1, 2, 3].map(|at| server.0.client(at));
    for client in [&mut one, &mut two] {
        set_horizon(client, "4s");
    }
    assert_eq!(raise(&mut three, "1"), ["1", "1", "1"]);
    let kept = three.run(&["REGION", "WAIT", "2", "20000", "KEPT"]);
    assert_eq!(kept.int(), Some(2));
    wait_same(&server.0);
    if saves_before {
        save_twice(&mut three);
    }
    server.0.cut(1, 3);
    server.0.cut(2, 3);
    assert_eq!(raise(&mut three, "2"), ["3", "3", "3"]);
    if saves_before {
        // That is in the snapshot with what all have, and is not told from it there.
        save_twice(&mut three);
    }
    assert_eq!(raise(&mut three, "8"), ["11", "11", "11"]);
    assert_eq!(three.run(&["SET", "apart", "v"]).error(), None);
    wait_excluded(&server, &mut [&mut one, &mut two]);
    assert_eq!(raise(&mut one, "4"), ["5", "5", "5"]);
    let value = "x".repeat(10_000);
    for part in 0..10 {
        let names: Vec<String> = (0..100).map(|key| format!("key:{part}:{key}")).collect();
        let sets: Vec<[&str; 3]> = names.iter().map(|name| ["SET", name, &value]).collect();
        one.pipeline(&sets).expect("it takes writes");
    }
    let kept = one.run(&["REGION", "WAIT", "1", "20000", "KEPT"]);
    assert_eq!(kept.int(), Some(1));
    for client in [&mut one, &mut two] {
        save_twice(client);
    }
    server.0.heal_all();
    let refused = wait_until(LIMIT, || {
        let reply = three.run(&["SET", "refused", "v"]);
        reply.error().unwrap_or_default().starts_with("EXCLUDED ")
    });
    assert!(refused, "{}", server.0.log());
    server.0.node(3, "stop");
    server.0.node(3, "start");
    for at in 1..=3 {
        let has_all = wait_until(LIMIT, || {
            let mut client = server.0.client(at);
            counters(&mut client) == ["15", "15", "15"]
                && text(&client.run(&["GET", "apart"])) == "v"
                && text(&client.run(&["GET", "key:9:99"])) == value
        });
        let found = counters(&mut server.0.client(at));
        assert!(has_all, "region {at}: {found:?} {}", server.0.log());
    }
    let rows = ["region_one", "region_two"].map(|name| info(&mut server.0.client(3), name));
    let is_idle = |row: &String| row.contains("caught_up_shards=0,");
    assert!(!rows.iter().all(is_idle), "{rows:?}");
    wait_same(&server.0);
    for at in 1..=3 {
        wait_drained(&server, at);
    }
}

#[test]
fn one_without_a_disk_comes_back_with_nothing_once_it_is_started_again() {
    let server = Regions::in_memory(2);
    let [mut one, mut two] = [1, 2].map(|at| server.0.client(at));
    assert_eq!(two.run(&["SET", "before", "v"]).error(), None);
    let has_heard = wait_until(LIMIT, || text(&one.run(&["GET", "before"])) == "v");
    assert!(has_heard, "{}", server.0.log());
    set_horizon(&mut one, "4s");
    server.0.node(2, "kill");
    let is_excluded = || row(&server, 1, "two")["stage"] == "excluded";
    assert!(wait_until(LIMIT, is_excluded), "{}", server.0.log());
    set_horizon(&mut one, "24h");
    assert_eq!(one.run(&["SET", "after", "v"]).error(), None);
    server.0.node(2, "start");
    let back = wait_until(LIMIT, || {
        server
            .0
            .client(2)
            .run(&["SET", "back", "v"])
            .error()
            .is_none()
    });
    assert!(back, "{}", server.0.log());
    let mut two = server.0.client(2);
    for key in ["before", "after"] {
        let reply = two.run(&["GET", key]);
        assert_eq!(text(&reply), "v", "{key}: {reply:?}");
    }
    assert!(wait_until(LIMIT, || text(&one.run(&["GET", "back"])) == "v"));
}

#[test]
fn how_long_a_region_may_be_silent_is_set_while_the_node_runs() {
    let node = Node::with("region-horizon = '90m'\nunstable-memory = '64MiB'");
    let mut client = node.raw();
    let get = |client: &mut Client, name: &str| {
        let reply = client.run(&["CONFIG", "GET", name]);
        text(reply.items().expect("a pair")[1])
    };
    assert_eq!(get(&mut client, "region-horizon"), "90m");
    assert_eq!(get(&mut client, "unstable-memory"), "67108864");
    for (name, value, shown) in [
        ("region-horizon", "0", "0"),
        ("region-horizon", "7200s", "2h"),
        ("unstable-memory", "25%", "25%"),
    ] {
        assert_eq!(client.run(&["CONFIG", "SET", name, value]).error(), None);
        assert_eq!(get(&mut client, name), shown);
    }
    for (name, value) in [
        ("region-horizon", "1s"),
        ("region-horizon", "24"),
        ("unstable-memory", "101%"),
    ] {
        let reply = client.run(&["CONFIG", "SET", name, value]);
        let said = reply.error().unwrap_or_default().to_owned();
        assert!(said.contains(name) && said.contains("must be"), "{said}");
    }
}
