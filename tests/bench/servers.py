"""Servers to measure, a small RESP client, and what /proc says of a process."""

import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
MERIDIAN = ROOT / "target" / "release" / "meridian"
TICKS = os.sysconf("SC_CLK_TCK")


class Client:
    """A blocking connection that can pipeline."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = self.socket.makefile("rb", buffering=1 << 16)

    def run(self, *words):
        self.socket.sendall(encode(words))
        return self.read()

    def pipeline(self, commands):
        self.socket.sendall(b"".join(encode(words) for words in commands))
        return [self.read() for _ in commands]

    def read(self):
        line = self.input.readline()
        if not line:
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            raise RuntimeError(rest.decode(errors="replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            length = int(rest)
            return None if length < 0 else self.input.read(length + 2)[:-2]
        if kind == b"*":
            return None if int(rest) < 0 else [self.read() for _ in range(int(rest))]
        raise RuntimeError(f"not RESP: {line!r}")


def encode(words):
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        word = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
    return b"".join(parts)


def free_port(offsets=(0,)):
    """A port such that it and those at these offsets are free now, below the ephemeral range."""
    while True:
        first = random.randrange(12_000, 32_000)
        try:
            for offset in offsets:
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", first + offset))
            return first
        except OSError:
            continue


class Redis:
    name = "redis"

    def __init__(self):
        self.port = free_port()
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
            stdout=subprocess.DEVNULL,
        )
        self.pid = self.process.pid
        wait_for(lambda: connects(self.port), "redis-server")

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Meridian:
    """A single node."""

    name = "meridian"

    def __init__(self, flags=()):
        self.port = free_port()
        self.process = subprocess.Popen([MERIDIAN, "serve", "--port", str(self.port), "--log", "warn", *flags])
        self.pid = self.process.pid
        wait_for(lambda: connects(self.port), "meridian")

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Playground:
    """Several regions; `port` and `pid` are those of the first."""

    name = "meridian, with other regions"

    def __init__(self, regions=3, rtt="0ms", flags=()):
        self.names = ["one", "two", "three"][:regions]
        self.control = free_port(range(0, 10 * (regions + 1), 10))
        first = self.control + 10
        self.ports = [first + 10 * region for region in range(regions)]
        self.log = tempfile.NamedTemporaryFile(prefix="meridian-bench-", suffix=".log")
        self.process = subprocess.Popen(
            [MERIDIAN, "playground", "--regions", ",".join(self.names), "--rtt", rtt]
            + ["--port", str(first), "--control-port", str(self.control), *flags],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        for line in self.process.stdout:
            if line.startswith("ready"):
                break
        else:
            raise RuntimeError(f"the playground did not start: {open(self.log.name).read()}")
        self.port = self.ports[0]
        self.pids = [node["pid"] for node in self.status()["nodes"]]
        self.pid = self.pids[0]

    def status(self):
        return json.loads(self.request("GET", "/status"))

    def request(self, method, path):
        request = urllib.request.Request(f"http://127.0.0.1:{self.control}{path}", method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def cut(self, a, b):
        self.request("POST", f"/links/{self.names[a]}/{self.names[b]}/cut")

    def heal(self):
        self.request("POST", "/links/heal")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def connects(port):
    try:
        return Client(port).run("PING") == b"PONG"
    except (OSError, RuntimeError):
        return False


def wait_for(condition, what, limit_s=60, every_s=0.005):
    deadline = time.monotonic() + limit_s
    while not condition():
        if deadline < time.monotonic():
            raise TimeoutError(what)
        time.sleep(every_s)


def cpu_s(pid):
    """User and system seconds that a process has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_bytes(pid):
    return status_bytes(pid, "VmRSS")


def peak_bytes(pid):
    """The most that was ever resident."""
    return status_bytes(pid, "VmHWM")


def status_bytes(pid, name):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {name} of {pid}")


def percentile(values, share):
    """The value below which so large a share of the sorted values lies."""
    return values[min(len(values) - 1, int(len(values) * share))]
