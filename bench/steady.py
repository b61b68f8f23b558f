#!/usr/bin/env python3
"""A gateway in use for hours: mail comes and goes at a steady rate, and a little of it can't leave. Do log, index and memory
stay what they should, and does everything add up, at every minute?

    bench/steady.py --bin target/release/sendero --dir FOLDER [--secs 7200] [--rate 100] [--size 4096] [--stuck 0.001]
                    [--keep 10m] [--limits "..."]

--stuck of the messages are for mailboxes that are full and stay open; --keep is how long bodies of ended mail are kept.
FOLDER lies on the disk to be measured and is emptied first. Prints a JSON line each minute, and one with the sums at the end.
"""
import argparse
import json
import threading
import time

from gateway import Gateway, Source, start_hop


class Load(threading.Thread):
    """Submits at a steady rate until it is told to end."""

    def __init__(self, port, o):
        super().__init__(daemon=True)
        self.port, self.o, self.accepted, self.stuck, self.ends = port, o, 0, 0, threading.Event()

    def run(self):
        began, every = time.monotonic(), round(1 / self.o.stuck) if self.o.stuck else 0
        with Source(self.port) as source:
            while not self.ends.is_set():
                ahead = self.accepted / self.o.rate - (time.monotonic() - began)
                if ahead > 0:
                    time.sleep(ahead)
                n = self.accepted
                full = bool(every) and n % every == every // 2
                source.submit(f"{'full' if full else 'user'}{n}@dest.test", f"number {n}", self.o.size)
                self.stuck += full
                self.accepted += 1


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--bin", default="target/release/sendero")
    p.add_argument("--dir", required=True)
    p.add_argument("--secs", type=int, default=7200)
    p.add_argument("--rate", type=int, default=100)
    p.add_argument("--size", type=int, default=4096)
    p.add_argument("--stuck", type=float, default=0.001)
    p.add_argument("--keep", default="10m")
    o = p.parse_args()
    if not (60 <= o.secs <= 86400 and 1 <= o.rate <= 2000 and 0 <= o.stuck <= 0.1):
        p.error("secs 60 to 86400, rate 1 to 2000, stuck 0 to 0.1")
    times = bytearray(o.secs * o.rate * 2 + 1000)

    def taken(_when, _host, to):
        if to.startswith(b"USER"):
            times[int(to[4:to.index(b"@")])] += 1

    gateway = Gateway(o.bin, o.dir, start_hop(taken), limits=["20 connections"], queue=f'keep_bodies = "{o.keep}"')
    gateway.start()
    load = Load(gateway.port, o)
    load.start()
    began, worst, cpu = time.monotonic(), 0, gateway.cpu_s()
    try:
        while time.monotonic() - began < o.secs:
            time.sleep(60 - (time.monotonic() - began) % 60)
            before = load.accepted
            asked, status = gateway.ask("status")
            states = status["recipients"]
            missing = status["accepted"] - sum(states.values())
            # The first message was the one that showed that it is up.
            heard = before + 1 <= status["accepted"] <= load.accepted + 2
            worst = max(worst, abs(missing))
            now = gateway.cpu_s()
            print(json.dumps({
                "minute": round((time.monotonic() - began) / 60), "accepted": status["accepted"], "difference": missing,
                "as_many_as_were_submitted": heard, "sent": states.get("sent", 0), "queued": states.get("queued", 0),
                "stuck": load.stuck, "log_mb": gateway.size_mb("queue/log/*.seg"), "index_mb": gateway.size_mb("queue/index*"),
                "pss_mb": gateway.pss_mb(), "cpu": round((now - cpu) / 60, 3), "status_s": asked,
            }), flush=True)
            cpu = now
            if not load.is_alive():
                raise SystemExit("the source ended")
        load.ends.set()
        load.join(30)
        time.sleep(5)
        states = gateway.ask("status")[1]["recipients"]
        print(json.dumps({
            "submitted": load.accepted, "delivered": sum(1 for n in times if n), "doubles": sum(n - 1 for n in times if n),
            "stuck": load.stuck, "states": states, "largest_difference": worst,
        }))
    finally:
        stopped, code = gateway.stop()
        print(json.dumps({"stop_s": stopped, "stop_code": code}))


if __name__ == "__main__":
    main()
