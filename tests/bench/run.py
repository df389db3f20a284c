#!/usr/bin/env python3
"""Measures what docs/performance.md claims, side by side with Redis, and writes its table.

    cargo build --release && tests/bench/run.py [requests attached memory lag cut disk away] [--rounds 3]

Needs redis-server and redis-benchmark. Without names it measures everything, in about half an hour;
with names it replaces only those rows. Results are kept in target/bench.json.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import subprocess

import away
import cut
import disk
import lag
import memory
import load
from servers import MERIDIAN, ROOT

GROUPS = {
    "requests": lambda rounds: load.measure(rounds),
    "attached": lambda rounds: load.measure_attached(rounds),
    "memory": lambda rounds: memory.measure(),
    "lag": lambda rounds: lag.measure(),
    "cut": lambda rounds: cut.measure(),
    "disk": lambda rounds: disk.measure(rounds),
    "away": lambda rounds: away.measure(),
}
KEPT = ROOT / "target" / "bench.json"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def said(*command):
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout.strip()


def machine():
    model = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    name = model.group(1) if model else platform.machine()
    return f"{os.cpu_count()} × {name}, Linux {platform.release()}, {said('redis-server', '--version').split()[2]}"


def table(groups):
    lines = ["| | Redis | Meridian | result | bar | |", "| --- | --: | --: | --: | --: | --- |"]
    for name in GROUPS:
        for row in groups.get(name, {}).get("rows", []):
            redis, ours = (f"{row[side]:.2f} {row['unit']}" if row[side] is not None else "" for side in ("redis", "ours"))
            mark = "" if row["holds"] else "**missed**"
            lines.append(f"| {row['what']} | {redis} | {ours} | {row['figure']} | {row['bar']} | {mark} |")
    lines.append("")
    for name, group in groups.items():
        lines.append(f"- `tests/bench/run.py {name}`: {group['when']}, commit {group['commit']}, {group['machine']}.")
    return "\n".join(lines)


def write_page(groups):
    PAGE.parent.mkdir(exist_ok=True)
    if PAGE.exists():
        before, _, rest = PAGE.read_text().partition(BEGIN)
        after = rest.partition(END)[2]
    else:
        before = "# Performance\n\nMeasured side by side with Redis, in the same run, on the same machine.\n" \
            "`tests/bench/run.py` writes the table; the figure of a ratio is Meridian's divided by Redis's.\n\n"
        after = "\n"
    PAGE.write_text(f"{before}{BEGIN}\n\n{table(groups)}\n\n{END}{after}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("groups", nargs="*", choices=[[], *GROUPS], metavar="group", help=", ".join(GROUPS))
    arguments.add_argument("--rounds", type=int, default=3, help="of each server, by turns")
    chosen = arguments.parse_args()
    if not MERIDIAN.exists():
        raise SystemExit(f"{MERIDIAN} is not there: cargo build --release")
    groups = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for name in chosen.groups or GROUPS:
        print(f"== {name}", flush=True)
        groups[name] = {
            "rows": GROUPS[name](chosen.rounds),
            "when": datetime.date.today().isoformat(),
            "commit": said("git", "describe", "--always", "--dirty"),
            "machine": machine(),
        }
        KEPT.write_text(json.dumps(groups, indent=1))
        write_page(groups)
    print(table(groups))


if __name__ == "__main__":
    main()
