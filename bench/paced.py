#!/usr/bin/env python3
"""Channels with limits and mail waiting on all of them: windows as the next hop counts them, CPU between slots, memory,
and how soon a `now` message leaves.

    bench/paced.py --bin target/release/sendero --dir FOLDER [--channels 1] [--messages 100000] [--limit 30] [--secs 150]

All messages are bulk with one channel, else normal, spread over the channels. Each channel has an address of its own on
this machine (127.0.0.0/8), so that each is an account of its own, and may send --limit messages a minute. FOLDER is
emptied first. Prints one JSON line.
"""
import argparse
import json
import threading
import time

from gateway import Gateway, Source, start_hop


def host_of(n):
    return f"127.{1 + n // 64000}.{n // 250 % 256}.{1 + n % 250}"


def submit(port, name, numbers, channels, lane):
    with Source(port) as source:
        for n in numbers:
            fields = (f"X-Sendero-Lane: {lane}", f"X-Sendero-Channel: c{n % channels}")
            source.submit(f"{name}{n}@dest.test", n, 0, *fields)


def most_in_a_minute(times):
    most, first = 0, 0
    for last, at in enumerate(times):
        while at - times[first] >= 60:
            first += 1
        most = max(most, last - first + 1)
    return most


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--bin", default="target/release/sendero")
    p.add_argument("--dir", required=True)
    p.add_argument("--channels", type=int, default=1)
    p.add_argument("--messages", type=int, default=100_000)
    p.add_argument("--limit", type=int, default=30)
    p.add_argument("--secs", type=int, default=150)
    o = p.parse_args()
    if not (1 <= o.channels <= 20_000 and 1 <= o.messages <= 1_000_000 and 10 <= o.secs <= 3600):
        p.error("channels 1 to 20000, messages 1 to 1000000, secs 10 to 3600")
    taken = []
    hop = start_hop(lambda when, host, to: taken.append((when, host, to)))
    hosts = [host_of(n) for n in range(o.channels)]
    gateway = Gateway(o.bin, o.dir, hop, hosts, [f"{o.limit} messages / 1 minute", "3 connections"])
    gateway.start()
    try:
        began, share = time.monotonic(), -(-o.messages // 16)
        lane = "bulk" if o.channels == 1 else "normal"
        work = [threading.Thread(target=submit, args=(gateway.port, "user", range(n, min(n + share, o.messages)), o.channels, lane))
                for n in range(0, o.messages, share)]
        [one.start() for one in work]
        [one.join() for one in work]
        accepted = time.monotonic() - began
        # What may leave at once has left a while later; then nothing does until the first units are old.
        time.sleep(max(0, began + 35 - time.monotonic()))
        before, at = gateway.cpu_s(), time.monotonic()
        time.sleep(10)
        quiet = (gateway.cpu_s() - before) / (time.monotonic() - at)
        left = sum(1 for when, _, _ in taken if at <= when <= at + 10)
        asked = time.monotonic()
        submit(gateway.port, "urgent", [0], o.channels, "now")
        urgent = None
        while time.monotonic() - began < o.secs:
            time.sleep(0.2)
            if urgent is None:
                urgent = next((round(when - asked, 3) for when, _, to in taken if to.startswith(b"URGENT")), None)
        by_host = {}
        for when, host, _ in taken:
            by_host.setdefault(host, []).append(when)
        print(json.dumps({
            "channels": o.channels, "messages": o.messages, "limit_per_min": o.limit, "accept_per_s": round(o.messages / accepted),
            "delivered": len(taken), "hosts": len(by_host), "max_in_60s": max(most_in_a_minute(sorted(t)) for t in by_host.values()),
            "cpu_between_slots": round(quiet, 4), "left_meanwhile": left, "now_left_after_s": urgent, "pss_mb": gateway.pss_mb(),
            "doubles": len(taken) - len({to for _, _, to in taken}),
        }))
    finally:
        gateway.stop()


if __name__ == "__main__":
    main()
