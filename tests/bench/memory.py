"""Resident memory per element, against Redis: 16-byte names and members, 64-byte values."""

import time

from servers import Client, Meridian, Redis, resident_bytes

ELEMENTS = 1_000_000
BATCH = 1000
VALUE = b"v" * 64


def name(number):
    return b"key:%012d" % number


def strings(first):
    return [("SET", name(number), VALUE) for number in range(first, first + BATCH)]


def one(command, words):
    """Batches that add to a single container."""
    def batch(first):
        numbers = range(first, first + BATCH)
        return [(command, "container", *[word for number in numbers for word in words(number)])]
    return batch


def small_hashes(first):
    hashes = range(first // 5, (first + BATCH) // 5)
    return [("HSET", name(key), *[w for f in range(5) for w in (b"field:%010d" % f, VALUE)]) for key in hashes]


# shape, batches, bar against Redis
SHAPES = [
    ("strings", strings, 0.85),
    ("one hash", one("HSET", lambda number: (name(number), VALUE)), 1.0),
    ("one set", one("SADD", lambda number: (name(number),)), 1.0),
    ("one sorted set", one("ZADD", lambda number: (number, name(number))), 1.0),
    ("one list", one("RPUSH", lambda number: (VALUE,)), 1.5),
    ("hashes of 5 fields", small_hashes, 1.5),
]


def per_element(start, batches):
    server = start()
    try:
        client = Client(server.port)
        before = resident_bytes(server.pid)
        for first in range(0, ELEMENTS, BATCH):
            client.pipeline(batches(first))
        time.sleep(3)  # what is freed in the background is freed
        return (resident_bytes(server.pid) - before) / ELEMENTS
    finally:
        server.stop()


def measure():
    rows = []
    for shape, batches, bar in SHAPES:
        redis, ours = per_element(Redis, batches), per_element(Meridian, batches)
        rows.append({
            "what": f"memory, {shape}", "unit": "bytes", "redis": redis, "ours": ours,
            "figure": f"{ours / redis:.2f} ×", "bar": f"≤ {bar:.2f} ×", "holds": ours <= bar * redis,
        })
        print(rows[-1], flush=True)
    return rows
