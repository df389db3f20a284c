"""How long a write takes to be visible in another region, under 20,000 writes/s.

A probe pushes to a list in the first region and waits for it, blocked, in the second: the time from
sending to receiving is the lag, one trip of a client included. Load and probe are processes of their
own.
"""

import multiprocessing
import time

from servers import Client, Playground, percentile

WRITES_PER_S = 20_000
TICK_S = 0.002
PROBES = 1_000
PROBE_EVERY_S = 0.01


def load(port, stop, written):
    """Writes at a steady rate until told to stop; says how many it did."""
    client, count, started = Client(port), 0, time.monotonic()
    while not stop.is_set():
        due = int((time.monotonic() - started) * WRITES_PER_S)
        if count < due:
            client.pipeline([("SET", f"load:{n % 1_000_000}", "x" * 64) for n in range(count, min(due, count + 1000))])
            count = min(due, count + 1000)
        time.sleep(TICK_S)
    written.value = count / (time.monotonic() - started)


def probe(from_port, to_port, lags):
    """Milliseconds from sending to being received in the other region."""
    writer, waiter = Client(from_port), Client(to_port)
    found = []
    for number in range(PROBES):
        waiter.socket.sendall(b"*3\r\n$5\r\nBLPOP\r\n$5\r\nprobe\r\n$2\r\n30\r\n")
        time.sleep(PROBE_EVERY_S)  # blocked by now
        sent = time.perf_counter()
        writer.run("RPUSH", "probe", number)
        assert waiter.read() == [b"probe", str(number).encode()]
        found.append((time.perf_counter() - sent) * 1e3)
    lags.put(found)


def one(rtt_ms):
    servers = Playground(regions=3, rtt=f"{rtt_ms}ms")
    try:
        stop, written, lags = multiprocessing.Event(), multiprocessing.Value("d"), multiprocessing.Queue()
        loader = multiprocessing.Process(target=load, args=(servers.ports[0], stop, written))
        prober = multiprocessing.Process(target=probe, args=(servers.ports[0], servers.ports[1], lags))
        loader.start()
        time.sleep(3)
        prober.start()
        found = sorted(lags.get(timeout=300))
        stop.set()
        loader.join()
        prober.join()
        print(f"rtt {rtt_ms} ms: {written.value:.0f} writes/s", flush=True)
        return found, written.value
    finally:
        servers.stop()


def measure():
    rows = []
    for rtt_ms in (0, 80):
        found, rate = one(rtt_ms)
        for share, bar_ms in ((0.50, 1), (0.99, 5)):
            above = percentile(found, share) - rtt_ms / 2
            rows.append({
                "what": f"geo lag above half of {rtt_ms} ms, p{share * 100:.0f}, {rate:.0f} writes/s", "unit": "ms",
                "redis": None, "ours": above, "figure": f"{above:.2f} ms", "bar": f"≤ {bar_ms} ms", "holds": above <= bar_ms,
            })
            print(rows[-1], flush=True)
    return rows
