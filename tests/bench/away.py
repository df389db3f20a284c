"""Regions that stay away: one cut off for millions of writes, one beyond what logs hold, and one that
is down for good.

Writers are processes of their own. What a link has shipped is not told apart from what state would
ship, so the first row holds only while `REGION LIST` never speaks of a catch-up by state.
"""

import multiprocessing
import pathlib
import random
import tempfile
import time

from cut import converged
from load import VALUE
from servers import Client, Playground, resident_bytes, wait_for

CUT_WRITES = 5_000_000
SILENT_WRITES = 10_000_000
SILENT_KEYS = 100_000
LOG_MEMORY, LOG_BUDGET = 512 << 20, 1 << 30
STATE_KEYS = 1_000_000
SHORT_LOG = 4 << 20


def write(port, first, count, keys):
    client = Client(port)
    for start in range(first, first + count, 500):
        client.pipeline([("SET", f"key:{key % keys:012}", VALUE) for key in range(start, start + 500)])


def write_all(ports, count, keys):
    """All of them, from two processes."""
    each = count // 2
    writers = [multiprocessing.Process(target=write, args=(port, at * each, each, keys)) for at, port in enumerate(ports)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0


def measure():
    return resume() + beyond() + silent()


def resume():
    """A region that is cut off while the others write goes on from the log."""
    servers = Playground(regions=3)
    try:
        servers.cut(0, 2)
        servers.cut(1, 2)
        write_all([servers.ports[0]] * 2, CUT_WRITES, 1_000_000)
        wait_for(lambda: digest(servers, 0) == digest(servers, 1), "both of the others", 300)
        began = time.monotonic()
        servers.heal()
        wait_for(lambda: digest(servers, 2) == digest(servers, 0), "the one that was cut off", 300)
        rate = CUT_WRITES / (time.monotonic() - began) / 1e3
        assert converged(servers)
        return [row(f"ops a second that a region gets that was cut off for {CUT_WRITES / 1e6:.0f} M writes", rate, "k/s", "≥", 150)]
    finally:
        servers.stop()


def beyond():
    """A region is cut off for so many writes that no log holds them, to one key in a hundred."""
    flags = ["--", "--geo-log-memory", str(SHORT_LOG), "--geo-log-budget", str(SHORT_LOG)]
    servers = Playground(regions=3, flags=flags)
    try:
        write_all([servers.ports[0]] * 2, STATE_KEYS, STATE_KEYS)
        wait_for(lambda: converged(servers), "equal digests", 300)
        servers.cut(0, 2)
        servers.cut(1, 2)
        keys = random.Random(1).sample(range(STATE_KEYS), STATE_KEYS // 100)
        client = Client(servers.ports[0])
        for count in range(2 * SHORT_LOG // (len(keys) * len(VALUE)) + 2):
            value = f"{count:064}"
            for start in range(0, len(keys), 500):
                client.pipeline([("SET", f"key:{key:012}", value) for key in keys[start:start + 500]])
        wait_for(lambda: digest(servers, 0) == digest(servers, 1), "both of the others", 300)
        # Logs on disk are cut behind a snapshot.
        for port in servers.ports[:2]:
            for _ in range(2):
                wait_for(lambda: Client(port).run("SAVE") == b"OK", "a snapshot", 60)
        before = caught_up(servers, 2)
        began = time.monotonic()
        servers.heal()
        wait_for(lambda: digest(servers, 2) == digest(servers, 0), "the one that was cut off", 300)
        took = time.monotonic() - began
        after = caught_up(servers, 2)
        assert converged(servers)
        assert before["shards"] < after["shards"], "it has caught up by the log"
        part = 100 * (after["bytes"] - before["bytes"]) / (STATE_KEYS * len(f"key:{0:012}" + VALUE))
        what = f"beyond the log, 1 % of {STATE_KEYS:,} keys differ (caught up in {took:.1f} s):"
        return [row(f"{what} questions and answers about state, of all names and values", part, "%", "≤", 5)]
    finally:
        servers.stop()


def caught_up(servers, at):
    """Bytes of state and questions about it on all links of a region, and shards that it has caught up."""
    info = Client(servers.ports[at]).run("INFO", "regions").decode()
    sums = {"bytes": 0, "shards": 0}
    for line in info.splitlines():
        for pair in line.split(":", 1)[-1].split(","):
            name, _, value = pair.partition("=")
            sums["bytes"] += int(value) if name in ("state_bytes_sent", "state_bytes_received") else 0
            sums["shards"] += int(value) if name == "caught_up_shards" else 0
    return sums


def silent():
    """A region is down while the others write a lot to few keys: what it costs them."""
    with tempfile.TemporaryDirectory(prefix="meridian-bench-") as folder:
        flags = ["--dir", folder, "--", "--geo-log-memory", str(LOG_MEMORY), "--geo-log-budget", str(LOG_BUDGET)]
        servers = Playground(regions=3, flags=flags)
        try:
            write_all([servers.port] * 2, 2 * SILENT_KEYS, SILENT_KEYS)
            wait_for(lambda: converged(servers), "equal digests", 60)
            before = [resident_bytes(pid) for pid in servers.pids[:2]]
            servers.request("POST", "/nodes/three-1/kill")
            write_all([servers.port] * 2, SILENT_WRITES, SILENT_KEYS)
            wait_for(lambda: digest(servers, 0) == digest(servers, 1), "the two that are up", 300)
            grown = max(resident_bytes(pid) - old for pid, old in zip(servers.pids, before))
            disk = max(used(pathlib.Path(folder) / f"{name}-1") for name in servers.names[:2])
        finally:
            servers.stop()
    what = f"a silent region, {SILENT_WRITES / 1e6:.0f} M writes to {SILENT_KEYS:,} keys:"
    mib = 1 << 20
    return [
        row(f"{what} resident memory grows by (log in memory: {LOG_MEMORY // mib} MiB)", grown / mib, "MiB", "≤", 1.1 * LOG_MEMORY / mib),
        row(f"{what} disk used", disk / mib, "MiB", "≤", LOG_BUDGET / mib),
    ]


def used(folder):
    assert folder.is_dir(), folder
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def digest(servers, at):
    return Client(servers.ports[at]).run("REGION", "DIGEST")


def row(what, value, unit, sign, bar):
    holds = value <= bar if sign == "≤" else bar <= value
    return {"what": what, "unit": unit, "redis": None, "ours": value, "figure": f"{value:.0f} {unit}",
            "bar": f"{sign} {bar:.0f} {unit}", "holds": holds}
