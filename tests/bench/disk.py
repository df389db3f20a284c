"""What keeping data on disk costs, and how soon a node is back: beside Redis where Redis has it too.

Directories are made for the run, on the disk that temporary files are on, and removed afterwards.
"""

import multiprocessing
import pathlib
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

from cut import LATENCY_RATE, latency_while
from load import KEYS, VALUE, preload, run
from servers import MERIDIAN, Client, connects, free_port, peak_bytes, resident_bytes, wait_for

SET = ["SET", "key:__rand_int__", VALUE]
ALWAYS_REQUESTS = 60_000
# Less than what a snapshot is made after.
REPLAYED = 2_000_000


class OnDisk:
    """A server with a directory of its own, which can be started again."""

    def __init__(self, command):
        self.port = free_port()
        self.dir = tempfile.mkdtemp(prefix="meridian-bench-")
        self.command = [word.format(port=self.port, dir=self.dir) for word in command]
        self.start()

    def start(self):
        """Seconds until it answers."""
        begun = time.monotonic()
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        self.pid = self.process.pid
        wait_for(lambda: connects(self.port), self.name, 300)
        return time.monotonic() - begun

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.dir)

    def bytes(self):
        return sum(file.stat().st_size for file in pathlib.Path(self.dir).rglob("*") if file.is_file())


class Redis(OnDisk):
    name = "redis"

    def __init__(self, *flags):
        super().__init__(["redis-server", "--port", "{port}", "--bind", "127.0.0.1", "--dir", "{dir}", "--save", "", *flags])


class Meridian(OnDisk):
    name = "meridian"

    def __init__(self, *flags):
        super().__init__([str(MERIDIAN), "serve", "--port", "{port}", "--log", "warn", *flags])


def measure(rounds=3):
    """Rows for the table."""
    rows = []
    for part in (cost_of_everysec, throughput_with_always, while_a_snapshot_is_made, start_from_snapshot, start_from_log):
        rows += part(rounds)
        print(rows[-1], flush=True)
    return rows


def cost_of_everysec(rounds):
    pairs = {
        "redis": (Redis("--appendonly", "no"), Redis("--appendonly", "yes", "--appendfsync", "everysec")),
        "meridian": (Meridian(), Meridian("--dir", "{dir}")),
    }
    everyone = [server for pair in pairs.values() for server in pair]
    try:
        for server in everyone:
            preload(server.port)
        took = {server: [] for server in everyone}
        for _ in range(rounds):
            for server in everyone:
                took[server].append(run(server, 32, 1_500_000, SET)[0])
        ratios = {
            name: statistics.median(took[disk]) / statistics.median(took[memory]) for name, (memory, disk) in pairs.items()
        }
        return [row("CPU, SET, pipeline 32, everysec against in memory", "×", ratios, ratios["meridian"], "≤", 1.3)]
    finally:
        for server in everyone:
            server.stop()


def throughput_with_always(rounds):
    servers = [Redis("--appendonly", "yes", "--appendfsync", "always"), Meridian("--dir", "{dir}", "--appendfsync", "always")]
    try:
        rates = {server.name: [] for server in servers}
        for _ in range(rounds):
            for server in servers:
                rates[server.name].append(run(server, 1, ALWAYS_REQUESTS, SET)[1] / 1e3)
        medians = {name: statistics.median(found) for name, found in rates.items()}
        ratio = medians["meridian"] / medians["redis"]
        return [row("throughput, SET, 50 clients, always", "krps", medians, ratio, "≥", 1.0)]
    finally:
        for server in servers:
            server.stop()


def while_a_snapshot_is_made(_rounds):
    server = Meridian("--dir", "{dir}")
    try:
        preload(server.port)
        before, _ = latency_while(server.port, lambda: time.sleep(5))
        resident = resident_bytes(server.pid)

        def snapshot():
            client = Client(server.port)
            saved = client.run("LASTSAVE")
            time.sleep(1.1)  # LASTSAVE counts seconds.
            client.run("BGSAVE")
            wait_for(lambda: client.run("LASTSAVE") != saved, "a snapshot", 120)

        during, _ = latency_while(server.port, snapshot)
        peak = peak_bytes(server.pid) / resident
        bar = max(2 * before, 20)
        return [
            row(f"p99 of a client at {LATENCY_RATE:,}/s while a snapshot of 1 M keys is made (before: {before:.1f} ms)",
                "ms", {"meridian": during}, during, "≤", bar),
            row("peak memory then, against before", "×", {"meridian": peak}, peak, "≤", 1.1),
        ]
    finally:
        server.stop()


def start_from_snapshot(rounds):
    servers = [Redis("--appendonly", "no"), Meridian("--dir", "{dir}")]
    try:
        for server in servers:
            preload(server.port)
            client = Client(server.port)
            client.socket.settimeout(300)
            client.run("SAVE")
        took = {server.name: [] for server in servers}
        for _ in range(rounds):
            for server in servers:
                server.kill()
                took[server.name].append(server.start())
                assert Client(server.port).run("DBSIZE") == KEYS + 1, f"{server.name} has lost keys"
        medians = {name: statistics.median(found) for name, found in took.items()}
        ratio = medians["meridian"] / medians["redis"]
        return [row("start with a snapshot of 1 M keys", "s", medians, ratio, "≤", 1.0)]
    finally:
        for server in servers:
            server.stop()


def write_all(port, first, count):
    client = Client(port)
    for start in range(first, first + count, 500):
        client.pipeline([("SET", f"key:{key % KEYS:012}", VALUE) for key in range(start, start + 500)])


def start_from_log(_rounds):
    server, idle = Meridian("--dir", "{dir}"), Meridian("--dir", "{dir}")
    try:
        half = REPLAYED // 2
        writers = [multiprocessing.Process(target=write_all, args=(server.port, first, half)) for first in (0, half)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        for one in (server, idle):
            one.kill()
        assert not list(pathlib.Path(server.dir).glob("snapshot/*.snap")), "the log was folded"
        rate = REPLAYED / (server.start() - idle.start()) / 1e6
        what = f"ops of the log replayed a second, {REPLAYED / 1e6:.0f} M"
        return [row(what, "M/s", {"meridian": rate}, rate, "≥", 0.5)]
    finally:
        for one in (server, idle):
            one.stop()


def row(what, unit, values, figure, sign, bar):
    holds = figure <= bar if sign == "≤" else bar <= figure
    shown = "×" if "redis" in values else unit
    return {
        "what": what, "unit": unit, "redis": values.get("redis"), "ours": values["meridian"],
        "figure": f"{figure:.2f} {shown}", "bar": f"{sign} {bar:.2f} {shown}", "holds": holds,
    }
