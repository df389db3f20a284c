//! Clients over real sockets: what needs more than one of them, or time.

mod clock;
mod disk;
mod limits;
mod panics;
mod pipelines;
mod whole;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crdt::{Epoch, Origin, Region, Seed};

use super::{Listener, Policy, Server, Settings, Thread};
use crate::shard::{Identity, Shard};
use crate::shards::Shards;

/// Longer than anything takes that is not broken.
const PATIENCE: Duration = Duration::from_secs(10);

/// A node of four shards, served until the tests end.
fn node() -> (Arc<Server>, SocketAddr) {
    let origin = Origin::new(Region::new(1).unwrap(), Epoch(1));
    serve(
        origin,
        |identity, seed| Shard::new(identity, seed, 1),
        |_| {},
    )
}

/// The same, of other shards, with something to be done before clients come.
fn serve(
    origin: Origin,
    build: impl Fn(Identity, Seed) -> Shard,
    prepare: impl FnOnce(&Arc<Server>),
) -> (Arc<Server>, SocketAddr) {
    let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.address().unwrap();
    let seed = Seed::from_text(b"test");
    let shard = |number| {
        let (first, slots) = Shards::slots_of(number, 4);
        let identity = Identity {
            number,
            first,
            slots,
            origin,
            alone: true,
        };
        build(identity, seed)
    };
    let settings = Settings {
        node: "test".into(),
        password: None,
        clients_max: 100,
        policy: Policy::Enterprise,
        dir: ".".to_owned(),
        fsync: crate::durability::Fsync::EverySecond,
        active_active: false,
        port: address.port(),
        free: std::collections::BTreeMap::new(),
    };
    let server = Arc::new(Server::new(
        Shards::new(seed, (0..4).map(shard).collect()),
        settings,
    ));
    prepare(&server);
    let threads = (0..2)
        .map(|n| Thread::start(Arc::clone(&server), n).unwrap())
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let run = Arc::clone(&server);
    std::thread::spawn(move || runtime.block_on(listener.run(run, threads)));
    (server, address)
}

struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            read: Vec::new(),
        }
    }

    fn send(&mut self, line: &str) {
        self.stream
            .write_all(format!("{line}\r\n").as_bytes())
            .unwrap();
    }

    /// Reads until what has come ends with `end`; or until the connection ends.
    fn until(&mut self, end: &str) -> String {
        let mut buffer = [0; 4096];
        while !self.read.ends_with(end.as_bytes()) {
            match self.stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => self.read.extend_from_slice(&buffer[..n]),
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&self.read)),
            }
        }
        String::from_utf8(std::mem::take(&mut self.read)).unwrap()
    }

    /// What a command replies.
    fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.send("ECHO that-was-all");
        let mut text = self.until("$12\r\nthat-was-all\r\n");
        text.truncate(text.len().saturating_sub("$12\r\nthat-was-all\r\n".len()));
        text
    }

    #[track_caller]
    fn check(&mut self, line: &str, expected: &str) {
        assert_eq!(self.ask(line), expected, "{line}");
    }
}

#[track_caller]
fn wait_until(mut is_true: impl FnMut() -> bool) {
    let end_ms = crate::clock::now_ms() + PATIENCE.as_millis() as u64;
    while !is_true() {
        assert!(crate::clock::now_ms() < end_ms, "in vain");
        std::thread::yield_now();
    }
}

#[test]
fn a_client_has_a_name_and_a_line_in_the_list() {
    let (_, address) = node();
    let (mut a, mut b) = (Client::connect(address), Client::connect(address));
    a.check("CLIENT GETNAME", "$-1\r\n");
    a.check("CLIENT SETNAME ann", "+OK\r\n");
    a.check(
        "CLIENT SETNAME \"a b\"",
        "-ERR Client names cannot contain spaces, newlines or special characters.\r\n",
    );
    a.check("CLIENT GETNAME", "$3\r\nann\r\n");
    a.check("CLIENT SETINFO LIB-NAME lib", "+OK\r\n");
    a.check("CLIENT SETINFO x y", "-ERR Unrecognized option 'x'\r\n");
    let list = b.ask("CLIENT LIST");
    assert!(
        list.contains(" name=ann ") && list.contains(" lib-name=lib "),
        "{list}"
    );
    assert!(list.contains("cmd=client|list "), "{list}");
    a.check(
        "CLIENT NOSUCH",
        "-ERR unknown subcommand 'NOSUCH'. Try CLIENT HELP.\r\n",
    );
    a.check(
        "CLIENT KILL",
        "-ERR wrong number of arguments for 'client|kill' command\r\n",
    );
    assert!(a.ask("CLIENT HELP").starts_with('*'));
    a.check(
        "LATENCY HELP x",
        "-ERR wrong number of arguments for 'latency|help' command\r\n",
    );
}

#[test]
fn a_killed_client_is_gone_and_the_others_stay() {
    let (server, address) = node();
    let (mut a, mut b) = (Client::connect(address), Client::connect(address));
    let id = a.ask("CLIENT ID");
    let id = id.trim().trim_start_matches(':').to_owned();
    b.check(&format!("CLIENT KILL ID {id}"), ":1\r\n");
    assert_eq!(a.until("never"), "");
    wait_until(|| server.clients.len() == 1);
    b.check("CLIENT KILL 1.2.3.4:5", "-ERR No such client\r\n");
    // Itself: after the reply.
    b.send("CLIENT KILL SKIPME no");
    assert_eq!(b.until("never"), ":1\r\n");
}

#[test]
fn a_pause_holds_back_writes_and_ends_early() {
    let (_, address) = node();
    let (mut a, mut b) = (Client::connect(address), Client::connect(address));
    a.check("CLIENT PAUSE 100000 WRITE", "+OK\r\n");
    b.check("GET k", "$-1\r\n");
    b.send("SET k v");
    wait_until(|| a.ask("INFO clients").contains("blocked_clients:1"));
    a.check("GET k", "$-1\r\n");
    a.check("CLIENT UNPAUSE", "+OK\r\n");
    assert_eq!(b.until("+OK\r\n"), "+OK\r\n");
    assert!(a.ask("INFO clients").contains("blocked_clients:0"));
    a.check("GET k", "$1\r\nv\r\n");
    a.check(
        "CLIENT PAUSE x",
        "-ERR timeout is not an integer or out of range\r\n",
    );
}

#[test]
fn replies_can_be_turned_off() {
    let (_, address) = node();
    let mut a = Client::connect(address);
    a.check("CLIENT REPLY SKIP\r\nSET a 1\r\nGET a", "$1\r\n1\r\n");
    a.check(
        "CLIENT REPLY OFF\r\nSET a 2\r\nGET a\r\nCLIENT REPLY ON\r\nGET a",
        "+OK\r\n$1\r\n2\r\n",
    );
}

#[test]
fn settings_are_read_set_all_or_none_and_act() {
    let (_, address) = node();
    let mut a = Client::connect(address);
    a.check(
        "CONFIG GET maxclients",
        "*2\r\n$10\r\nmaxclients\r\n$3\r\n100\r\n",
    );
    a.check("CONFIG SET timeout 5 maxclients x", "-ERR CONFIG SET failed (possibly related to argument 'maxclients') - argument couldn't be parsed into an integer\r\n");
    a.check("CONFIG GET timeout", "*2\r\n$7\r\ntimeout\r\n$1\r\n0\r\n");
    a.check("CONFIG SET port 1", "-ERR CONFIG SET failed (possibly related to argument 'port') - can't set immutable config\r\n");
    a.check(
        "CONFIG SET nosuch 1",
        "-ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'\r\n",
    );
    a.check("CONFIG SET hz 50 activerehashing no", "+OK\r\n");
    a.check("CONFIG GET H[Z]", "*2\r\n$2\r\nhz\r\n$2\r\n50\r\n");
    // What would promise something that is not there is refused.
    a.check(
        "CONFIG SET save \"\" appendonly no maxmemory-policy noeviction",
        "+OK\r\n",
    );
    a.check("CONFIG SET appendonly yes", "-ERR CONFIG SET failed (possibly related to argument 'appendonly') - start the node with a `dir`\r\n");
    a.check("CONFIG SET maxmemory-policy lru", "-ERR CONFIG SET failed (possibly related to argument 'maxmemory-policy') - argument(s) must be one of the following: volatile-lru, volatile-lfu, volatile-random, volatile-ttl, allkeys-lru, allkeys-lfu, allkeys-random, noeviction\r\n");
    let info = a.ask("INFO");
    for field in [
        "instantaneous_ops_per_sec",
        "evicted_keys",
        "total_system_memory",
        "mem_fragmentation_ratio",
        "rdb_last_bgsave_status",
        "master_replid",
    ] {
        assert!(info.contains(&format!("\r\n{field}:")), "{field} in {info}");
    }
    a.check("CONFIG SET maxmemory 1mb", "+OK\r\n");
    a.check(
        "SET k v",
        "-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    );
    a.check("CONFIG SET maxmemory 0", "+OK\r\n");
    a.check("SET k v", "+OK\r\n");
    a.check("CONFIG SET maxclients 1", "+OK\r\n");
    let mut refused = Client::connect(address);
    assert_eq!(
        refused.until("never"),
        "-ERR max number of clients reached\r\n"
    );
    a.check("CONFIG RESETSTAT", "+OK\r\n");
}

#[test]
fn what_is_slow_is_logged() {
    let (_, address) = node();
    let mut a = Client::connect(address);
    a.check(
        "CONFIG SET slowlog-log-slower-than 0 slowlog-max-len 2",
        "+OK\r\n",
    );
    a.check("SET k v", "+OK\r\n");
    a.check("SLOWLOG LEN", ":2\r\n");
    assert!(a.ask("SLOWLOG GET 1").starts_with("*1\r\n*6\r\n:"));
    a.check(
        "SLOWLOG GET -2",
        "-ERR count should be greater than or equal to -1\r\n",
    );
    a.check("CONFIG SET slowlog-log-slower-than -1", "+OK\r\n");
    a.check("SLOWLOG RESET", "+OK\r\n");
    a.check("SLOWLOG LEN", ":0\r\n");
    a.check("LATENCY LATEST", "*0\r\n");
    a.check("LATENCY HISTOGRAM GET nosuch", "*0\r\n");
    a.check("GET k", "$1\r\nv\r\n");
    let steps = a.ask("LATENCY HISTOGRAM nosuch get");
    let of_one = "*2\r\n$3\r\nget\r\n*4\r\n$5\r\ncalls\r\n:1\r\n$14\r\nhistogram_usec\r\n*2\r\n:";
    assert!(steps.starts_with(of_one), "{steps}");
    a.check("MEMORY USAGE nosuch", "$-1\r\n");
    assert!(a.ask("MEMORY USAGE k").starts_with(':'));
    a.check("DEBUG SLEEP 0.02", "+OK\r\n");
}

#[test]
fn a_monitor_sees_what_others_do() {
    let (_, address) = node();
    let (mut a, mut b) = (Client::connect(address), Client::connect(address));
    a.send("MONITOR");
    assert_eq!(a.until("+OK\r\n"), "+OK\r\n");
    b.check("SET k v", "+OK\r\n");
    let seen = a.until("\"ECHO\" \"that-was-all\"\r\n");
    assert!(seen.contains("[0 127.0.0.1:"), "{seen}");
    assert!(seen.contains("] \"SET\" \"k\" \"v\"\r\n"), "{seen}");
    b.check(
        "MULTI\r\nGET k\r\nexec",
        "+OK\r\n+QUEUED\r\n*1\r\n$1\r\nv\r\n",
    );
    let seen = a.until("\"ECHO\" \"that-was-all\"\r\n");
    let names = ["MULTI", "GET", "exec"].map(|name| seen.find(name).expect(name));
    assert!(names.is_sorted(), "{seen}");
    a.send("QUIT");
    assert!(a.until("never").ends_with("+OK\r\n"));
}

#[test]
fn a_token_says_what_a_region_must_have() {
    let (_, address) = node();
    let mut a = Client::connect(address);
    a.check("REGION TOKEN", "$1\r\na\r\n");
    a.check("SET k v", "+OK\r\n");
    let token = a.ask("REGION TOKEN");
    let token = token.lines().nth(1).unwrap();
    a.check(&format!("REGION READY {token}"), ":1\r\n");
    a.check(&format!("REGION READY {token} 0"), ":1\r\n");
    let ahead = "a;0,1.1.ffffffffffffff";
    a.check(&format!("REGION READY {ahead}"), ":0\r\n");
    a.check(&format!("REGION READY {ahead} 20"), ":0\r\n");
    a.check(
        "REGION READY a;4",
        "-ERR the token is of another database\r\n",
    );
    a.check("REGION READY x", "-ERR invalid token\r\n");
    a.check("REGION WAIT 0 0", ":0\r\n");
    a.check("REGION WAIT 1 10 KEPT", ":0\r\n");
    a.check("REGION WAIT 1 -1", "-ERR timeout is negative\r\n");
    a.check(
        "MULTI\r\nREGION WAIT 1 0\r\nEXEC",
        "+OK\r\n+QUEUED\r\n*1\r\n:0\r\n",
    );
    a.check("INCR n", ":1\r\n");
    let explained = a.ask("REGION EXPLAIN n");
    assert!(explained.contains("counter-parts\r\n*1\r\n"), "{explained}");
    let explained = a.ask("REGION EXPLAIN k");
    assert!(explained.contains("bases\r\n*1\r\n"), "{explained}");
}

#[test]
fn info_has_the_usual_sections() {
    let (_, address) = node();
    let mut a = Client::connect(address);
    let text = a.ask("INFO");
    for section in [
        "Server", "Clients", "Memory", "Stats", "CPU", "Keyspace", "Regions",
    ] {
        assert!(text.contains(&format!("# {section}\r\n")), "{section}");
    }
    assert!(text.contains("redis_version:") && !text.contains("# Commandstats"));
    a.check("SET k v", "+OK\r\n");
    let text = a.ask("INFO commandstats");
    assert!(text.contains("cmdstat_set:calls=1,usec="), "{text}");
    let text = a.ask("INFO memory");
    assert!(text.contains("used_memory:") && !text.contains("# Server"));
}

#[test]
fn the_table_answers_for_itself() {
    let (_, address) = node();
    let mut a = Client::connect(address);
    let described = "*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n\
                     *3\r\n+@read\r\n+@string\r\n+@fast\r\n*0\r\n";
    let text = a.ask("COMMAND INFO get nosuch config|get");
    assert!(text.starts_with(&format!("*3\r\n{described}")), "{text}");
    assert!(
        text.contains("$-1\r\n*10\r\n$10\r\nconfig|get\r\n"),
        "{text}"
    );
    a.check(
        "COMMAND GETKEYS MSET a 1 b 2",
        "*2\r\n$1\r\na\r\n$1\r\nb\r\n",
    );
    a.check(
        "COMMAND GETKEYS PING",
        "-ERR The command has no key arguments\r\n",
    );
    a.check(
        "COMMAND GETKEYS NOSUCH x",
        "-ERR Invalid command specified\r\n",
    );
    a.check(
        "COMMAND GETKEYS GET",
        "-ERR Invalid number of arguments specified for command\r\n",
    );
    a.check(
        "COMMAND GETKEYSANDFLAGS GET k",
        "*1\r\n*2\r\n$1\r\nk\r\n*2\r\n+RO\r\n+access\r\n",
    );
    a.check(
        "COMMAND LIST FILTERBY PATTERN incrb*",
        "*2\r\n$6\r\nincrby\r\n$11\r\nincrbyfloat\r\n",
    );
    let count = a.ask("COMMAND COUNT").replace(':', "*");
    assert!(a.ask("COMMAND").starts_with(&count) && a.ask("COMMAND LIST").starts_with(&count));
    let docs = a.ask("COMMAND DOCS get");
    assert!(docs.contains("$7\r\nsummary\r\n"), "{docs}");
    assert!(docs.contains("$5\r\nsince\r\n$5\r\n1.0.0\r\n"), "{docs}");
    assert!(docs.ends_with("$9\r\narguments\r\n*1\r\n*4\r\n$4\r\nname\r\n$3\r\nkey\r\n$4\r\ntype\r\n$6\r\nstring\r\n"), "{docs}");
    a.check("MULTI\r\nCONFIG NOSUCH\r\nEXEC", "+OK\r\n-ERR unknown subcommand 'NOSUCH'. Try CONFIG HELP.\r\n-EXECABORT Transaction discarded because of previous errors.\r\n");
}

#[test]
fn a_transaction_depends_on_what_it_watched() {
    let (_, address) = node();
    let (mut a, mut b) = (Client::connect(address), Client::connect(address));
    a.check(
        "MULTI\r\nSET k 1\r\nPING\r\nINCR k\r\nLPUSH k x\r\nEXEC",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*4\r\n+OK\r\n+PONG\r\n:2\r\n\
         -WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
    );
    // Keys of several shards may be watched; a change of any of them counts.
    for other in ["a", "b", "c", "d"] {
        a.check(&format!("WATCH k\r\nWATCH {other}"), "+OK\r\n+OK\r\n");
        b.check(&format!("SET {other} 1"), "+OK\r\n");
        a.check("MULTI\r\nGET k\r\nEXEC", "+OK\r\n+QUEUED\r\n*-1\r\n");
        a.check(
            "MULTI\r\nGET k\r\nEXEC",
            "+OK\r\n+QUEUED\r\n*1\r\n$1\r\n2\r\n",
        );
    }
    a.check(
        "MULTI\r\nSET k 1\r\nSET a 1\r\nEXEC",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n-CROSSSLOT Keys in request don't hash to the same slot\r\n",
    );
    a.check(
        "MULTI\r\nSET k 5\r\nDBSIZE\r\nGET k\r\nEXEC",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n+OK\r\n:5\r\n$1\r\n5\r\n",
    );
}

#[test]
fn a_blocked_client_gets_what_comes_and_only_the_first() {
    let (server, address) = node();
    let clients = || Client::connect(address);
    let (mut first, mut second, mut other) = (clients(), clients(), clients());
    let waiting = |count| {
        wait_until(|| {
            (0..4)
                .map(|i| server.shards.with(i, |s| s.waiting()))
                .sum::<usize>()
                == count
        });
    };
    first.send("BLPOP l 0");
    waiting(1);
    second.send("BLPOP l 0");
    waiting(2);
    other.check("RPUSH l x", ":1\r\n");
    let served = "*2\r\n$1\r\nl\r\n$1\r\nx\r\n";
    assert_eq!(first.until(served), served);
    other.check("LLEN l", ":0\r\n");
    waiting(1);
    let id = other.ask("CLIENT LIST");
    let line = id.lines().find(|line| line.contains("flags=b")).unwrap();
    let id = line
        .split_once("id=")
        .unwrap()
        .1
        .split(' ')
        .next()
        .unwrap()
        .to_owned();
    other.check(&format!("CLIENT UNBLOCK {id} ERROR"), ":1\r\n");
    let error = "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n";
    assert_eq!(second.until(error), error);
    let told = other.ask("INFO errorstats");
    assert!(told.contains("errorstat_UNBLOCKED:count=1\r\n"), "{told}");
    let calls = other.ask("INFO commandstats");
    assert!(calls.contains("failed_calls=1\r\n"), "{calls}");
    other.check(&format!("CLIENT UNBLOCK {id}"), ":0\r\n");
    second.check("BLPOP l 0.01", "*-1\r\n");
    second.check(
        "MULTI\r\nBLPOP l 0\r\nBLMOVE l l LEFT LEFT 0\r\nEXEC",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n*-1\r\n$-1\r\n",
    );
    // A client that leaves waits no longer.
    first.send("BLPOP l 0");
    waiting(1);
    drop(first);
    waiting(0);
}

#[test]
fn what_is_no_request_is_answered_closed_and_counted() {
    let (server, address) = node();
    let mut good = Client::connect(address);
    for (bytes, error) in [
        ("*x", "-ERR Protocol error: invalid multibulk length\r\n"),
        (
            "*1048577",
            "-ERR Protocol error: invalid multibulk length\r\n",
        ),
        ("*1\r\n$-5", "-ERR Protocol error: invalid bulk length\r\n"),
        (
            "*1\r\n$99999999999",
            "-ERR Protocol error: invalid bulk length\r\n",
        ),
        ("*1\r\n+x", "-ERR Protocol error: expected '$', got '+'\r\n"),
        (
            "SET \"a",
            "-ERR Protocol error: unbalanced quotes in request\r\n",
        ),
    ] {
        let mut bad = Client::connect(address);
        bad.send(bytes);
        assert_eq!(bad.until("never"), error, "{bytes}");
        good.check("PING", "+PONG\r\n");
    }
    assert_eq!(
        server.malformed.load(std::sync::atomic::Ordering::Relaxed),
        6
    );
    // What came before it is answered first.
    let mut bad = Client::connect(address);
    bad.send("PING\r\n*x");
    assert_eq!(
        bad.until("never"),
        "+PONG\r\n-ERR Protocol error: invalid multibulk length\r\n"
    );
}

#[test]
fn a_client_has_to_authenticate_if_there_is_a_password() {
    let (_, address) = node();
    let mut open = Client::connect(address);
    open.check("CONFIG SET requirepass secret", "+OK\r\n");
    let mut a = Client::connect(address);
    a.send("GET k");
    let refused = "-NOAUTH Authentication required.\r\n";
    assert_eq!(a.until(refused), refused);
    a.send("AUTH wrong");
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    assert_eq!(a.until(wrong), wrong);
    a.send("HELLO 2 AUTH default secret SETNAME me");
    a.until("*0\r\n");
    a.check("CLIENT GETNAME", "$2\r\nme\r\n");
    a.check("RESET\r\nAUTH secret", "+RESET\r\n+OK\r\n");
}

#[test]
fn what_may_be_in_a_transaction_is_as_in_redis() {
    let (_, address) = node();
    let mut a = Client::connect(address);
    a.check(
        "MULTI\r\nUNWATCH\r\nHELLO 2 SETNAME me\r\nWATCH k\r\nMULTI\r\nDISCARD",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n-ERR WATCH inside MULTI is not allowed\r\n\
         -ERR MULTI calls can not be nested\r\n+OK\r\n",
    );
    a.check(
        "MULTI\r\nSHUTDOWN\r\nSAVE\r\nEXEC",
        "+OK\r\n-ERR Command not allowed inside a transaction\r\n\
         -ERR Command not allowed inside a transaction\r\n\
         -EXECABORT Transaction discarded because of previous errors.\r\n",
    );
    a.check(
        "MULTI\r\nUNWATCH\r\nEXEC",
        "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n",
    );
    a.check("EXEC", "-ERR EXEC without MULTI\r\n");
    a.check("DISCARD", "-ERR DISCARD without MULTI\r\n");
}
