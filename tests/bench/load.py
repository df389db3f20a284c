"""CPU of the server per request, and throughput, against Redis in the same run.

`redis-benchmark` with two client threads, 50 clients and 64-byte values; 1 M random keys are there
before. The servers take turns; each figure is the median of the rounds.
"""

import statistics
import subprocess
import tempfile

from servers import Client, Meridian, Playground, Redis, cpu_s

KEYS = 1_000_000
VALUE = "x" * 64
COMMON = ["-c", "50", "--threads", "2", "-d", "64", "-r", str(KEYS), "-q", "--csv"]

# name, pipeline, requests, arguments of redis-benchmark, CPU bar, throughput bar (against Redis)
RUNS = [
    ("SET", 1, 400_000, ["SET", "key:__rand_int__", VALUE], 0.80, 1.3),
    ("GET", 1, 400_000, ["GET", "key:__rand_int__"], 0.80, 1.3),
    ("INCR", 1, 400_000, ["INCR", "counter:__rand_int__"], 0.80, None),
    ("SET", 32, 3_000_000, ["SET", "key:__rand_int__", VALUE], 0.60, 2.0),
    ("GET", 32, 3_000_000, ["GET", "key:__rand_int__"], 0.60, 2.0),
    ("INCR", 32, 3_000_000, ["INCR", "counter:__rand_int__"], 1.0, None),
    ("HSET", 16, 1_500_000, ["HSET", "myhash", "element:__rand_int__", VALUE], 1.0, None),
    ("HGET", 16, 1_500_000, ["HGET", "myhash", "element:__rand_int__"], 1.0, None),
    ("SADD", 16, 1_500_000, ["SADD", "myset", "element:__rand_int__"], 1.0, None),
    ("ZADD", 16, 1_000_000, ["ZADD", "myzset", "__rand_int__", "element:__rand_int__"], 1.0, None),
    ("LPUSH", 16, 1_500_000, ["LPUSH", "mylist", VALUE], 1.0, None),
    ("RPOP", 16, 1_500_000, ["RPOP", "mylist"], 1.0, None),
    ("LRANGE 100", 16, 200_000, ["LRANGE", "hundred", "0", "99"], 1.0, None),
    ("MSET 10", 16, 200_000, ["MSET", *["key:__rand_int__", VALUE] * 10], 1.0, None),
    ("ZRANGE 10", 16, 500_000, ["ZRANGE", "myzset", "0", "9"], 1.0, None),
]


def preload(port):
    client = Client(port)
    for first in range(0, KEYS, 1000):
        client.pipeline([("SET", f"key:{key:012}", VALUE) for key in range(first, first + 1000)])
    client.run("RPUSH", "hundred", *[VALUE] * 100)


def run(server, pipeline, requests, command):
    """Microseconds of CPU a request, and requests a second."""
    before = cpu_s(server.pid)
    output = subprocess.run(
        ["redis-benchmark", "-p", str(server.port), "-P", str(pipeline), "-n", str(requests), *COMMON, *command],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    used = cpu_s(server.pid) - before
    rows = [line for line in output.splitlines() if line.startswith('"') and not line.startswith('"test"')]
    # The quoted command may hold commas; the rate is the first figure after it.
    rate = float(rows[-1].rsplit('","', 7)[1])
    return used / requests * 1e6, rate


def measure(rounds=3):
    """Rows for the table."""
    servers = [Redis(), Meridian()]
    try:
        for server in servers:
            preload(server.port)
        rows = []
        for name, pipeline, requests, command, cpu_bar, rate_bar in RUNS:
            results = {server.name: [] for server in servers}
            for _ in range(rounds):
                for server in servers:
                    results[server.name].append(run(server, pipeline, requests, command))
            cpu, rate = ({n: statistics.median(r[i] for r in rs) for n, rs in results.items()} for i in (0, 1))
            label = f"{name}, pipeline {pipeline}"
            rows.append(row(f"CPU, {label}", "µs", cpu, cpu_bar, at_most=True))
            if rate_bar:
                rows.append(row(f"throughput, {label}", "krps", {n: r / 1e3 for n, r in rate.items()}, rate_bar, at_most=False))
            print(rows[-1] if not rate_bar else rows[-2:], flush=True)
        return rows
    finally:
        for server in servers:
            server.stop()


def measure_attached(rounds=3):
    """SET at pipeline 32 with two remote regions attached, their processes not counted."""
    # Both have a directory, as the nodes of a playground do.
    folder = tempfile.TemporaryDirectory(prefix="meridian-bench-")
    alone, attached = Meridian(["--dir", folder.name]), Playground(regions=3)
    try:
        results = {alone.name: [], attached.name: []}
        for server in (alone, attached):
            preload(server.port)
        for _ in range(rounds):
            for server in (alone, attached):
                results[server.name].append(run(server, 32, 1_500_000, ["SET", "key:__rand_int__", VALUE])[0])
        medians = {name: statistics.median(figures) for name, figures in results.items()}
        ratio = medians[attached.name] / medians[alone.name]
        return [{
            "what": "CPU, SET, pipeline 32, two remote regions attached (against none)",
            "unit": "µs", "redis": medians[alone.name], "ours": medians[attached.name],
            "figure": f"{ratio:.2f} ×", "bar": "≤ 1.60 ×", "holds": ratio <= 1.60,
        }]
    finally:
        alone.stop()
        attached.stop()
        folder.cleanup()


def row(what, unit, by_server, bar, at_most):
    ratio = by_server["meridian"] / by_server["redis"]
    return {
        "what": what, "unit": unit, "redis": by_server["redis"], "ours": by_server["meridian"],
        "figure": f"{ratio:.2f} ×",
        "bar": f"{'≤' if at_most else '≥'} {bar:.2f} ×",
        "holds": ratio <= bar if at_most else bar <= ratio,
    }
