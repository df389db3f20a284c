//! What settings may say, and what a wrong one is answered with.

use std::fs;
use std::path::Path;
use std::time::Duration;

use clap::Parser;

use super::raw::keys;
use super::*;

/// Flags as a command line has them.
#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    raw: RawConfig,
}

fn flags(words: &[&str]) -> RawConfig {
    let words = std::iter::once("serve").chain(words.iter().copied());
    Line::try_parse_from(words).unwrap().raw
}

/// Settings of a file called `meridian.toml` beside `cert.pem`, `key.pem` and `ca.pem`; in an error
/// the folder's name is left out.
fn load(text: &str, words: &[&str]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    for name in ["cert.pem", "key.pem", "ca.pem"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    let file = folder.path().join("meridian.toml");
    fs::write(&file, text).unwrap();
    let raw = RawConfig {
        config: Some(file),
        ..flags(words)
    };
    let prefix = format!("{}/", folder.path().display());
    Config::load(&raw).map_err(|error| error.to_string().replace(&prefix, ""))
}

const THREE_REGIONS: &str = r#"
    database = "shop"
    region = "us-east"
    region-id = 1
    geo-cert = "cert.pem"
    geo-key = "key.pem"
    geo-ca = "ca.pem"
    [[peers]]
    id = 3
    name = "ap-south"
    address = "127.0.0.1:3"
    [[peers]]
    id = 2
    name = "eu-west"
    address = "eu.example.com:2"
"#;

#[test]
fn nothing_written_is_one_region_on_loopback() {
    let config = Config::load(&RawConfig::default()).unwrap();
    assert_eq!(config.clients.listen, "127.0.0.1:6379".parse().unwrap());
    assert_eq!((config.shards, config.policy), (16, Policy::Enterprise));
    assert_eq!(
        (config.region.id.id(), config.node.as_str()),
        (1, "local-1")
    );
    assert!(config.geo.is_none() && config.peers.is_empty() && !config.active_active);
    assert_eq!(config.geo_log_bytes, 512 << 20);
    assert_eq!(config.max_clock_drift, Duration::from_millis(500));
    assert_eq!(config.expiry_grace, Duration::from_secs(10));
    assert_eq!(config.silence.horizon, Duration::from_hours(24));
    assert_eq!(config.silence.unstable, Share::Percent(10));
    assert_eq!(config.clients.connections_max, 10_000);
    assert!(1 <= config.threads);
}

#[test]
fn flags_win_over_the_file() {
    let config = load("shards = 8\nport = 7001\nlog = 'warn'", &["--shards", "4"]).unwrap();
    assert_eq!((config.shards, config.clients.listen.port()), (4, 7001));
    assert_eq!(config.log, "warn");
}

#[test]
fn peers_come_from_tables_or_a_flag() {
    let config = load(THREE_REGIONS, &[]).unwrap();
    let of = |config: &Config| -> Vec<(u8, String, String)> {
        let peers = config.peers.iter().cloned();
        peers
            .map(|peer| (peer.region.id.id(), peer.region.name, peer.address))
            .collect()
    };
    let expected = [
        (2, "eu-west".to_owned(), "eu.example.com:2".to_owned()),
        (3, "ap-south".to_owned(), "127.0.0.1:3".to_owned()),
    ];
    assert_eq!(of(&config), expected);
    assert!(config.active_active);
    let geo = config.geo.unwrap();
    assert!(geo.cert.ends_with("cert.pem") && geo.cert.is_absolute());
    assert_eq!(geo.listen.port(), 6390);

    let flag = "3:ap-south@127.0.0.1:3,2:eu-west@eu.example.com:2";
    let config = load(THREE_REGIONS, &["--peers", flag]).unwrap();
    assert_eq!(of(&config), expected);
}

#[test]
fn one_region_may_take_the_stricter_rules() {
    assert!(load("active-active = true", &[]).unwrap().active_active);
    assert!(load("", &["--active-active", "yes"]).unwrap().active_active);
}

#[test]
fn non_clustered_is_one_shard() {
    assert_eq!(load("policy = 'non-clustered'", &[]).unwrap().shards, 1);
}

#[test]
fn a_password_is_kept_out_of_logs() {
    let config = load("requirepass = 'swordfish'", &[]).unwrap();
    assert!(!format!("{config:?}").contains("swordfish"));
    assert_eq!(config.clients.requirepass.unwrap().expose(), "swordfish");
    assert!(
        load("requirepass = ''", &[])
            .unwrap()
            .clients
            .requirepass
            .is_none()
    );
}

/// What is written, and what is said about it: settings of the file (`\\n` for a new line), after
/// `regions` those of three regions too; flags start with `--`.
const WRONG: &str = r"
shards = 17                    => meridian.toml: shards = 17: must be a power of two from 1 to 1024
shards = 2048                  => meridian.toml: shards = 2048: must be a power of two from 1 to 1024
--shards 0                     => --shards 0: must be a power of two from 1 to 1024
shards = [1]                   => meridian.toml: shards: must be a single value
shard = 1                      => meridian.toml: shard: there is no such setting; did you mean `shards`?
geo_log_memory = 1             => did you mean `geo-log-memory`?
blue = 1                       => meridian.toml: blue: there is no such setting; `meridian serve --help`
a = 1\nb = = 2                 => meridian.toml:2: 
port = 70000                   => meridian.toml: port = 70000: must be a port, 0 to 65535
bind = 'here'                  => meridian.toml: bind = 'here': must be an IP address
policy = 'oss'                 => meridian.toml: policy = 'oss': is not supported yet
policy = 'x'                   => policy = 'x': must be enterprise or non-clustered
policy='non-clustered'\nshards=2 => shards = 2: must be 1 under the policy non-clustered
geo-log-memory = '5 parsec'    => must be a size of at least 1MiB, such as 512MiB
geo-log-memory = 1000          => must be a size of at least 1MiB
max-clock-drift = 500          => max-clock-drift = 500: must be a time from 1ms to 1h
region-horizon = '2s'          => region-horizon = '2s': must be 0 for never, or a time from 3s to 8760h, such as 24h
unstable-memory = 'some'       => unstable-memory = 'some': must be a share of maxmemory such as 10%, or a size; 0 for any
expiry-grace = '2h'            => expiry-grace = '2h': must be a time from 0ms to 1h
maxclients = 0                 => maxclients = 0: must be a number from 1 to 1000000
threads = 'many'               => threads = 'many': must be a number from 1 to 256
log = 'a=b=c'                  => must be error, warn, info, debug or trace
database = 'my shop'           => must be 1 to 63 letters, digits, '-', '_' or '.'
region-id = 256                => region-id = 256: must be a number from 1 to 255
geo-cert = 'cert.pem'          => meridian.toml: geo-key: is missing
geo-cert = 'none.pem'          => geo-cert = 'none.pem': there is no such file
regions --region-id 2          => --region-id 2: is also the id of the peer eu-west
regions --region eu-west       => --region eu-west: is also the name of a peer
regions --active-active no     => --active-active no: must be yes
active-active = 2              => active-active = 2: must be yes or no
peers = '2:eu@h:1'             => meridian.toml: region: is missing; with peers it must be given
peers = '2:eu'                 => 2:eu must be ID:NAME@HOST:PORT
peers = '0:eu@h:1'             => id 0 must be a number from 1 to 255
--peers 2:eu@h                 => --peers 2:eu@h: address h must be HOST:PORT
--peers 2:eu@h:1,2:ap@h:2      => the id 2 or the name ap is there twice
[[peers]]\nid = 2              => meridian.toml: peers: the peer number 1: its name is missing
[[peers]]\nport = 2            => port is unknown; a peer has id, name and address
";

#[test]
fn errors_name_the_place_and_the_remedy() {
    for case in WRONG.trim().lines() {
        let (written, expected) = case.split_once("=> ").unwrap();
        let (base, written) = match written.strip_prefix("regions ") {
            Some(rest) => (THREE_REGIONS, rest.trim()),
            None => ("", written.trim()),
        };
        let result = if written.starts_with("--") {
            load(base, &written.split(' ').collect::<Vec<_>>())
        } else {
            load(&written.replace(r"\n", "\n"), &[])
        };
        let error = result.expect_err(case).replace('"', "'");
        assert!(error.contains(expected), "{case}: {error}");
        assert!(!error.contains('\n'), "more than a line: {error}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let raw = flags(&["--config", "nowhere/meridian.toml"]);
    let error = Config::load(&raw).unwrap_err().to_string();
    assert!(
        error.starts_with("nowhere/meridian.toml: cannot be read: "),
        "{error}"
    );
}

/// The example lists every setting: as it stands, and with what is commented out put in.
#[test]
fn the_example_lists_every_setting() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/meridian.example.toml");
    let text = fs::read_to_string(path).unwrap();
    load(&text, &[]).unwrap();

    let is_setting = |line: &&str| line.contains(" = ") || line.starts_with("[[");
    let uncommented: Vec<&str> = text
        .lines()
        .map(|line| {
            line.strip_prefix('#')
                .filter(|rest| !rest.starts_with(' '))
                .unwrap_or(line)
        })
        .filter(is_setting)
        .collect();
    // With the peers that it names, the stricter rules are not to be refused.
    let config = load(&uncommented.join("\n"), &["--active-active", "yes"]).unwrap();
    assert_eq!(config.peers.len(), 2);
    for key in keys() {
        let is_there =
            |line: &&str| line.starts_with(&format!("{key} = ")) || **line == format!("[[{key}]]");
        assert!(
            uncommented.iter().any(is_there),
            "{key} is not in the example"
        );
    }
}

/// The defaults that the example and the help name are the real ones.
#[test]
fn the_example_shows_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/meridian.example.toml");
    let text = fs::read_to_string(path).unwrap();
    let default = Config::load(&RawConfig::default()).unwrap();
    let peerless: Vec<&str> = text
        .lines()
        .take_while(|line| !line.contains("[[peers]]"))
        .map(|line| {
            line.strip_prefix('#')
                .filter(|rest| !rest.starts_with(' '))
                .unwrap_or(line)
        })
        .filter(|line| line.contains(" = "))
        .filter(|line| {
            !["geo-cert", "geo-key", "geo-ca"]
                .iter()
                .any(|key| line.starts_with(key))
        })
        .filter(|line| {
            !["geo-interface", "threads", "admin-"]
                .iter()
                .any(|key| line.starts_with(key))
        })
        .collect();
    let example = load(&peerless.join("\n"), &[]).unwrap();
    assert_eq!(format!("{example:?}"), format!("{default:?}"));
}
