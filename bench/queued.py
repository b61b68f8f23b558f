#!/usr/bin/env python3
"""A million queued messages: memory, accepting more, restart after kill -9 with a cold cache, looking into the queue, and leaving.

    bench/queued.py --bin target/release/sendero --dir FOLDER [--messages 1000000] [--channels 1] [--size 1024] [--drain SECS]

FOLDER lies on the disk to be measured and is emptied first. The next hop is not there while the queue fills; with --drain it
comes up at the end, for so many seconds. As root the page cache is dropped before the restart. Prints one JSON line.
"""
import argparse
import json
import os
import subprocess
import threading
import time
from pathlib import Path

from gateway import Gateway, Source, free_port, start_hop

SOURCES = 16


class Filling(threading.Thread):
    """One of the sources: submits its share in order."""

    def __init__(self, port, o, numbers):
        super().__init__(daemon=True)
        self.port, self.o, self.numbers, self.times = port, o, numbers, []

    def run(self):
        with Source(self.port) as source:
            for n in self.numbers:
                source.submit(f"user{n}@dest.test", f"number {n}", self.o.size, f"X-Sendero-Channel: c{n % self.o.channels}")
                self.times.append(time.monotonic())


def fill(gateway, o):
    """When each message was accepted, in order."""
    share = -(-o.messages // SOURCES)
    work = [Filling(gateway.port, o, range(n, min(n + share, o.messages))) for n in range(0, o.messages, share)]
    [one.start() for one in work]
    [one.join() for one in work]
    return sorted(at for one in work for at in one.times)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--bin", default="target/release/sendero")
    p.add_argument("--dir", required=True)
    p.add_argument("--messages", type=int, default=1_000_000)
    p.add_argument("--channels", type=int, default=1)
    p.add_argument("--size", type=int, default=1024)
    p.add_argument("--drain", type=int, default=0)
    o = p.parse_args()
    if not (1000 <= o.messages <= 2_000_000 and 1 <= o.channels <= 20_000 and 0 <= o.drain <= 3600):
        p.error("messages 1000 to 2000000, channels 1 to 20000, drain 0 to 3600")
    hop = free_port()
    gateway = Gateway(o.bin, o.dir, hop, hosts=["127.0.0.1"] * o.channels, queue='retry = ["1h"]')
    gateway.start()
    began, times = time.monotonic(), fill(gateway, o)
    tenth = len(times) // 10
    gateway.ask("queue")
    time.sleep(3)
    full = gateway.pss_mb()
    gateway.kill()
    cold = os.geteuid() == 0
    if cold:
        subprocess.run(["sync"], check=True)
        Path("/proc/sys/vm/drop_caches").write_text("3")
    restart = gateway.start()
    after = gateway.pss_mb()
    queue_s, queue = gateway.ask("queue")
    found_s, found = gateway.ask("message", "list", "--recipient", "user77@dest.test")
    # Each of the producers sent its share in order: one from the middle of a share lies deep in the list.
    middle = o.messages // SOURCES // 2 + o.messages // 2
    deep = gateway.ask("message", "list", "--recipient", f"user{middle}@dest.test")[1]["data"][0]["id"]
    page_s, page = gateway.ask("message", "list", "--after", deep, "--limit", "50")
    figures = {
        "messages": o.messages, "channels": o.channels, "size": o.size, "accept_per_s": round(len(times) / (times[-1] - began)),
        "accept_first_tenth": round(tenth / (times[tenth] - times[0])), "accept_last_tenth": round(tenth / (times[-1] - times[-tenth - 1])),
        "pss_mb_full": full, "restart_to_first_accept_s": round(restart, 2), "cold_cache": cold, "pss_mb_after_restart": after,
        "queued": sum(row["queued"] for row in queue), "queue_s": queue_s, "list_recipient_s": found_s, "found": len(found["data"]),
        "deep_page_s": page_s, "deep_rows": len(page["data"]),
    }
    if o.drain:
        taken = []
        start_hop(lambda when, _host, _to: taken.append(when), hop)
        for n in range(o.channels):
            gateway.ask("channel", "resume", f"c{n}")
        time.sleep(o.drain)
        figures |= {"drained": len(taken), "drain_per_s": round(len(taken) / max(taken[-1] - taken[0], 0.001)) if taken else 0}
    figures["stop_s"], figures["stop_code"] = gateway.stop()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
