"""A 60 s cut with 1 M writes on each side, then a heal: how soon both sides agree, on everything.

Writers, and the client whose latency is taken, are processes of their own. Afterwards every key is
read back by its type in all regions.
"""

import multiprocessing
import time

from servers import Client, Playground, percentile, wait_for

CUT_S = 60
WRITES = 1_000_000
LATENCY_RATE = 2_000
CONVERGED_WITHIN_S = 10


def commands(side, number):
    """Writes of all types, some to keys of both sides and some to its own."""
    shared, own = number % 50_000, f"{side}:{number % 100_000}"
    return [
        ("SET", f"s:{shared}", f"{side}{number}"),
        ("INCR", f"n:{shared}"),
        ("HSET", f"h:{shared % 5_000}", f"f{number % 20}", f"{side}{number}"),
        ("SADD", f"e:{shared % 5_000}", number % 100),
        ("ZINCRBY", f"z:{shared % 5_000}", 1, f"m{number % 50}"),
        ("RPUSH", f"l:{shared % 20_000}", f"{side}{number}"),
        ("SET", f"own:{own}", number),
        ("SREM", f"e:{shared % 5_000}", (number + 50) % 100),
        ("DEL", f"own:{side}:{(number + 50_000) % 100_000}"),
        ("HINCRBY", f"hn:{shared % 5_000}", f"f{number % 10}", 1),
    ][number % 10]


def write(port, side, took):
    """All writes, spread over the time of the cut."""
    client, done, started = Client(port), 0, time.monotonic()
    while done < WRITES:
        due = min(WRITES, int((time.monotonic() - started) / (CUT_S - 2) * WRITES))
        if done < due:
            upto = min(due, done + 500)
            client.pipeline([commands(side, number) for number in range(done, upto)])
            done = upto
        else:
            time.sleep(0.002)
    took.put(time.monotonic() - started)


def latency(port, stop, results):
    """Milliseconds of each request of a steady client, from when it was due."""
    client, found = Client(port), []
    due = time.perf_counter()
    number = 0
    while not stop.is_set():
        due += 1 / LATENCY_RATE
        time.sleep(max(0.0, due - time.perf_counter()))
        client.run("GET" if number % 2 else "SET", f"lat:{number % 1000}", *([] if number % 2 else ["x" * 64]))
        found.append((time.perf_counter() - due) * 1e3)
        number += 1
    results.put(sorted(found))


def latency_while(port, action):
    """The 99th percentile of a steady client while something is done."""
    stop, results = multiprocessing.Event(), multiprocessing.Queue()
    process = multiprocessing.Process(target=latency, args=(port, stop, results))
    process.start()
    value = action()
    stop.set()
    found = results.get(timeout=60)
    process.join()
    return percentile(found, 0.99), value


def contents(port):
    """Every key with what a reader sees of it."""
    client, cursor, names = Client(port), b"0", set()
    while True:
        cursor, found = client.run("SCAN", cursor, "COUNT", 1000)
        names.update(found)
        if cursor == b"0":
            break
    reads = {
        b"string": lambda key: ("GET", key), b"hash": lambda key: ("HGETALL", key),
        b"set": lambda key: ("SMEMBERS", key), b"zset": lambda key: ("ZRANGE", key, 0, -1, "WITHSCORES"),
        b"list": lambda key: ("LRANGE", key, 0, -1),
    }
    everything, names = {}, sorted(names)
    for first in range(0, len(names), 500):
        some = names[first:first + 500]
        kinds = client.pipeline([("TYPE", key) for key in some])
        values = client.pipeline([reads[kind](key) for key, kind in zip(some, kinds)])
        for key, kind, value in zip(some, kinds, values):
            if kind == b"hash":
                value = sorted(zip(value[::2], value[1::2]))
            everything[key] = (kind, sorted(value) if kind == b"set" else value)
    return everything


def converged(servers):
    return len({Client(port).run("REGION", "DIGEST") for port in servers.ports}) == 1


def measure():
    servers = Playground(regions=3)
    try:
        before, _ = latency_while(servers.ports[0], lambda: time.sleep(10))
        return rows_of(servers, before)
    finally:
        servers.stop()


def rows_of(servers, before):
    servers.cut(0, 1)
    servers.cut(0, 2)
    healed = 0.0

    def heal_and_wait():
        nonlocal healed
        took = multiprocessing.Queue()
        sides = [(servers.ports[0], "a"), (servers.ports[1], "b")]
        writers = [multiprocessing.Process(target=write, args=(port, side, took)) for port, side in sides]
        started = time.monotonic()
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        time.sleep(max(0.0, CUT_S - (time.monotonic() - started)))
        servers.heal()
        healed = time.monotonic()
        # The client goes on writing, so digests are compared once it has stopped.
        time.sleep(CONVERGED_WITHIN_S / 2)

    during, _ = latency_while(servers.ports[0], heal_and_wait)
    # To ask for digests all the time would be a load of its own.
    wait_for(lambda: converged(servers), "equal digests", 300, every_s=0.2)
    agreed = time.monotonic() - healed
    everything = [contents(port) for port in servers.ports]
    equal = all(other == everything[0] for other in everything)
    bar = max(3 * before, 20)
    return [
        figure(f"equal digests after a {CUT_S} s cut with {WRITES:,} writes a side", agreed, "s", CONVERGED_WITHIN_S),
        {"what": f"equal contents then, {len(everything[0]):,} keys read back", "unit": "", "redis": None, "ours": None,
         "figure": "yes" if equal else "no", "bar": "yes", "holds": equal},
        figure(f"p99 of a client at {LATENCY_RATE:,}/s meanwhile (before: {before:.1f} ms)", during, "ms", bar),
    ]


def figure(what, value, unit, bar):
    return {"what": what, "unit": unit, "redis": None, "ours": value, "figure": f"{value:.1f} {unit}",
            "bar": f"≤ {bar:.0f} {unit}", "holds": value <= bar}
