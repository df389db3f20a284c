//! Every bound of a node, with its unit and its reason.
//!
//! A bound that users may change is a default here and a setting in `config`; the others are fixed.
//! How they depend on each other is asserted at compile time, at the bottom.

use std::time::Duration;

/// Bytes in a kibibyte.
pub const KIB: usize = 1024;
/// Bytes in a mebibyte.
pub const MIB: usize = 1024 * KIB;
/// Bytes in a gibibyte.
pub const GIB: usize = 1024 * MIB;

// --- A request ---

/// Bytes of one argument (default of `proto-max-bulk-len`): as Redis, whose strings end there too.
pub const BULK_BYTES_MAX: usize = 512 * MIB;
/// Arguments of one command, its name included: what a client can make us keep track of before it
/// has sent anything worth it.
pub const ARGUMENTS_MAX: usize = 1024 * KIB;
/// Bytes of an inline command, and of the line that announces a count or a length.
pub const INLINE_BYTES_MAX: usize = 64 * KIB;
/// Bytes that one client may have sent and we have not executed (`client-query-buffer-limit`). A
/// request lies in that buffer as a whole, so this bounds a request too.
pub const QUERY_BUFFER_BYTES_MAX: usize = GIB;
/// Arguments of one command of a client that has yet to authenticate: enough for `HELLO` and
/// `AUTH`.
pub const UNAUTHENTICATED_ARGUMENTS_MAX: usize = 10;
/// Bytes of one argument of a client that has yet to authenticate.
pub const UNAUTHENTICATED_BULK_BYTES_MAX: usize = 16 * KIB;

// --- A connection ---

/// Connections of clients to a node (default of `maxclients`), as Redis.
pub const CLIENTS_MAX: usize = 10_000;
/// Bytes that one read asks the socket for: fills a pipeline of 32 small requests many times over,
/// and stays in the cache of a core.
pub const READ_BYTES: usize = 16 * KIB;
/// Bytes of a buffer that is kept for the next connection that has something to say.
pub const IDLE_BUFFER_BYTES: usize = 32 * KIB;
/// Buffers that a thread keeps free: as many connections as are busy at once, as a rule.
pub const FREE_BUFFERS: usize = 64;
/// How long a connection stays on a shard that its next command is about too, nanoseconds.
pub const STAY_NS: u64 = 20_000;
/// Requests of one connection that are looked at before the first of them runs.
pub const REQUESTS_AHEAD: usize = 64;
/// Keys of these that are looked for ahead.
pub const KEYS_AHEAD: usize = 256;
/// Bytes of replies after which a connection writes before it executes more of its pipeline, so
/// that a long pipeline of large replies does not pile them all up.
pub const REPLY_FLUSH_BYTES: usize = MIB;
/// Commands that a `MULTI` may queue: each costs at least an allocation.
pub const QUEUED_COMMANDS_MAX: usize = 1024 * KIB;
/// Bytes of the commands that a `MULTI` may queue: they stand for a query buffer.
pub const QUEUED_BYTES_MAX: usize = QUERY_BUFFER_BYTES_MAX;
/// Keys that a connection may watch.
pub const WATCHED_KEYS_MAX: usize = 64 * KIB;
/// Channels and patterns that a connection may subscribe to.
pub const SUBSCRIPTIONS_MAX: usize = 64 * KIB;
/// Bytes of the name a client may give itself, of a user name, of a library name.
pub const CLIENT_NAME_BYTES_MAX: usize = KIB;

// --- What operators look at ---

/// Commands that take longer go into the slow log, microseconds (default of
/// `slowlog-log-slower-than`), as Redis.
pub const SLOW_US: i64 = 10_000;
/// Entries of the slow log (default of `slowlog-max-len`), as Redis.
pub const SLOW_LOG_ENTRIES: usize = 128;
/// What `slowlog-max-len` can be set to: an entry takes up to 4 KiB.
pub const SLOW_LOG_ENTRIES_MAX: usize = 64 * KIB;
/// Arguments that the slow log shows of a command, as Redis.
pub const SLOW_LOG_ARGUMENTS: usize = 32;
/// Bytes that the slow log shows of an argument, as Redis.
pub const SLOW_LOG_ARGUMENT_BYTES: usize = 128;
/// Spikes that are remembered of a latency event, as Redis.
pub const LATENCY_SPIKES: usize = 160;
/// Lines that a `MONITOR` may leave unread before it is cut off.
pub const MONITOR_LINES_MAX: usize = 16 * KIB;

/// Connections to the admin port at a time: people and their scripts. One that comes beyond that
/// takes the place of the one that has been there longest without a request.
pub const ADMIN_CONNECTIONS_MAX: usize = 16;
/// How long the head of a request to it may take: it is a few lines, on one machine.
pub const ADMIN_HEAD_WITHIN: Duration = Duration::from_secs(5);
/// Bytes of the body of a request to it: none needs more.
pub const ADMIN_BODY_BYTES_MAX: usize = 64 * KIB;

// --- Keys and values ---

/// Bytes of a string value: what one argument can carry, so what `SETRANGE` and `APPEND` may reach.
pub const STRING_BYTES_MAX: usize = BULK_BYTES_MAX;
/// Bytes of a key: it goes into every record of the key, and no sane name is as long.
pub const KEY_BYTES_MAX: usize = BULK_BYTES_MAX;

// --- Memory ---

/// How far beyond `maxmemory` what other regions send is taken (default of `maxmemory-reserve`),
/// percent of it: what deletes has to come through, and clients stop at the limit.
pub const MEMORY_RESERVE_PERCENT: u32 = 20;
/// What `maxmemory-reserve` can be set to.
pub const MEMORY_RESERVE_PERCENT_MAX: u32 = 1_000;
/// Keys that are looked at for one that is evicted (default of `maxmemory-samples`), as Redis.
pub const EVICTION_SAMPLES: usize = 5;
/// What `maxmemory-samples` can be set to, as Redis.
pub const EVICTION_SAMPLES_MAX: usize = 64;
/// Defaults of `lfu-log-factor` and `lfu-decay-time` (minutes), as Redis.
pub const LFU_LOG_FACTOR: u32 = 10;
/// See [`LFU_LOG_FACTOR`].
pub const LFU_DECAY_MIN: u32 = 1;

// --- Other regions ---

/// Bytes of ops after which a shard seals its frame, though no link has asked for it: a frame is
/// admitted whole, so a large one is a long hold of a lock elsewhere.
pub const FRAME_BYTES: usize = 64 * KIB;

/// Bytes after which a segment of the log on disk is left for the next: segments are removed as
/// wholes, and a start reads those that snapshots do not cover.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// Bytes of the log that may wait in memory, beyond what it has there anyway, for a disk that
/// refuses writes: about a segment. What other regions send beyond that stays with them.
pub const LOG_UNWRITTEN_BYTES_MAX: u64 = SEGMENT_BYTES;

/// Bytes of a piece of a snapshot, as a rule: a short hold of a shard's lock.
pub const PIECE_BYTES: usize = 32 * KIB;
/// Bytes of a snapshot that are written in a second, so that clients hardly notice.
pub const SNAPSHOT_BYTES_PER_S: f64 = 64.0 * MIB as f64;
/// Bytes of a snapshot after which it is synced.
pub const SNAPSHOT_UNSYNCED_BYTES: u64 = 8 << 20;
/// Bytes of the log since the last snapshot after which one is due, or twice that of the snapshot
/// if that is more: a start reads so much of the log at most, and then about as much.
pub const SNAPSHOT_DUE_BYTES: u64 = 256 << 20;
/// Bytes of state that a shard has taken in and that wait for the disk; no more is taken in until
/// it has them, and at half of it the disk is told to hurry.
pub const INTAKE_BYTES_MAX: u64 = 8 * MIB as u64;
/// Bytes of segments that are kept for regions that lag (default of `geo-log-budget`).
pub const GEO_LOG_DISK_BYTES_DEFAULT: usize = 10 * GIB;

// --- Shards ---

/// Shards of a database, by default.
pub const SHARDS_DEFAULT: u16 = 16;
/// Shards of a database: each has a lock, a log and a stream a peer.
pub const SHARDS_MAX: u16 = 1024;
/// Elements that `SCAN` and its kin look at under one hold of a shard's lock, whatever `COUNT`
/// says: about a millisecond.
pub const SCAN_STEP_MAX: usize = 10_000;

// --- Between regions ---

/// Bytes of recent ops that all shards of a node keep for other regions (default): at 100 bytes an
/// op, what a region misses in a minute of 80,000 writes a second.
pub const OPLOG_BYTES_DEFAULT: usize = 512 * MIB;
/// Bytes of another origin's frames that may wait in a shard for what they depend on. The rest
/// stays with their sender.
pub const INBOX_BYTES_MAX: usize = 4 * MIB;
/// How far ahead of our clock, in milliseconds, a time from another region may be (default).
pub const CLOCK_DRIFT_MS_DEFAULT: u64 = 500;
/// Bytes of a shard's own frames on the way to one peer: 100 ms at 1 Gbit/s are 12.5 MB, which 16
/// shards share more than twice over; one alone gets 160 Mbit/s.
pub const LINK_WINDOW_BYTES: usize = 2 * MIB;
/// Bytes of a shard's frames of other regions on the way to one peer that cannot get them directly.
pub const RELAY_WINDOW_BYTES: usize = MIB / 2;

/// For how long a region may be silent before the others do without it (default of
/// `region-horizon`).
pub const REGION_HORIZON: Duration = Duration::from_hours(24);
/// Percent of `maxmemory` that what waits for a silent region may take (default of
/// `unstable-memory`).
pub const UNSTABLE_MEMORY_PERCENT: u32 = 10;

/// Bytes of state on the way to a peer that catches up.
pub const STATE_WINDOW_BYTES: usize = 2 * MIB;
/// Bytes of state that are sent to a peer in a second: what commands hardly notice.
pub const STATE_BYTES_PER_S: u64 = 64 * MIB as u64;

const _: () = assert!(BULK_BYTES_MAX + INLINE_BYTES_MAX < QUERY_BUFFER_BYTES_MAX);
const _: () = assert!(QUERY_BUFFER_BYTES_MAX + INLINE_BYTES_MAX <= u32::MAX as usize);
const _: () = assert!(UNAUTHENTICATED_BULK_BYTES_MAX < BULK_BYTES_MAX);
const _: () = assert!(UNAUTHENTICATED_ARGUMENTS_MAX < ARGUMENTS_MAX);
const _: () = assert!(READ_BYTES <= IDLE_BUFFER_BYTES);
const _: () = assert!(IDLE_BUFFER_BYTES < REPLY_FLUSH_BYTES);
const _: () = assert!(STRING_BYTES_MAX <= BULK_BYTES_MAX && KEY_BYTES_MAX <= BULK_BYTES_MAX);
const _: () = assert!(SHARDS_DEFAULT.is_power_of_two() && SHARDS_MAX.is_power_of_two());
const _: () = assert!(SHARDS_DEFAULT <= SHARDS_MAX);
const _: () = assert!(SHARDS_MAX <= crdt::SLOTS);
// A frame may exceed a window by itself, but then it is the first to wait, which is always taken.
const _: () = assert!(LINK_WINDOW_BYTES + 2 * RELAY_WINDOW_BYTES < INBOX_BYTES_MAX);
