#!/usr/bin/env python3
"""Channels with limits and mail waiting on all of them: windows as the next hop counts them, CPU between slots, memory,
and how soon a `now` message leaves.

    bench/paced.py --bin target/release/sendero --dir FOLDER [--channels 1] [--messages 100000] [--limit 30] [--secs 150]

All messages are bulk with one channel, else normal, spread over the channels. Each channel has an address of its own on
this machine (127.0.0.0/8), so that each is an account of its own, and may send --limit messages a minute. FOLDER is
emptied first. Prints one JSON line.
"""
import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

SETTINGS = """
data_dir = "{dir}/data"
hostname = "gw.bench.test"
[http]
listen = ["127.0.0.1:0"]
[[submission]]
listen = "127.0.0.1:{port}"
tls = "none"
trusted = ["127.0.0.0/8"]
person = "bench@bench.test"
[network]
allow = ["127.0.0.0/8:{sink}"]
[secrets]
master_key_file = "{dir}/master.key"
"""

DIRECTORY = """
[[team]]
name = "bench"
domains = ["bench.test"]
[[person]]
email = "bench@bench.test"
teams = ["bench"]
send_as = ["*@bench.test"]
"""

CHANNEL = """
[[channel]]
name = "c{n}"
owner = "team:bench"
host = "{host}"
port = {sink}
tls = "none"
auth = "none"
domains = ["*"]
default = {default}
limits = ["{limit} messages / 1 minute", "3 connections"]
"""


def host_of(n):
    return f"127.{1 + n // 64000}.{n // 250 % 256}.{1 + n % 250}"


class Sink(asyncio.Protocol):
    """The next hop: takes everything, and remembers when, where and for whom."""

    taken = []

    def connection_made(self, transport):
        self.transport, self.rest, self.body, self.to = transport, b"", False, b""
        self.host = transport.get_extra_info("sockname")[0]
        transport.write(b"220 sink\r\n")

    def data_received(self, data):
        self.rest += data
        while True:
            end = self.rest.find(b"\r\n.\r\n" if self.body else b"\r\n")
            if end < 0:
                return
            if self.body:
                self.rest, self.body = self.rest[end + 5:], False
                self.taken.append((time.monotonic(), self.host, self.to))
                self.transport.write(b"250 ok\r\n")
                continue
            line, self.rest = self.rest[:end].upper(), self.rest[end + 2:]
            if line.startswith(b"EHLO"):
                self.transport.write(b"250-sink\r\n250-8BITMIME\r\n250 PIPELINING\r\n")
            elif line.startswith(b"DATA"):
                self.body, self.rest = True, b"\r\n" + self.rest
                self.transport.write(b"354 go\r\n")
            elif line.startswith(b"QUIT"):
                self.transport.write(b"221 bye\r\n")
                self.transport.close()
            else:
                self.to = line[9:-1] if line.startswith(b"RCPT") else self.to
                self.transport.write(b"250 ok\r\n")


def start_sink():
    loop, ready, port = asyncio.new_event_loop(), threading.Event(), []

    async def serve():
        server = await loop.create_server(Sink, "0.0.0.0", 0, backlog=4096)
        port.append(server.sockets[0].getsockname()[1])
        ready.set()

    def run():
        loop.run_until_complete(serve())
        loop.run_forever()

    threading.Thread(target=run, daemon=True).start()
    ready.wait(10)
    return port[0]


def submit(port, name, numbers, channels, lane):
    with socket.create_connection(("127.0.0.1", port), 5) as s:
        s.settimeout(120)
        r = s.makefile("rb")
        r.readline()
        s.sendall(b"EHLO load.bench.test\r\n")
        while r.readline()[3:4] == b"-":
            pass
        for n in numbers:
            s.sendall(f"MAIL FROM:<bench@bench.test>\r\nRCPT TO:<{name}{n}@dest.test>\r\nDATA\r\n".encode())
            [r.readline() for _ in range(3)]
            s.sendall(f"From: <bench@bench.test>\r\nTo: <{name}{n}@dest.test>\r\nSubject: {n}\r\nX-Sendero-Lane: {lane}\r\n"
                      f"X-Sendero-Channel: c{n % channels}\r\n\r\nhello\r\n.\r\n".encode())
            reply = r.readline()
            if reply[:3] != b"250":
                raise SystemExit(f"refused: {reply}")


def cpu_s(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pss_mb(pid):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024, 1)


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
    o.dir = os.path.abspath(o.dir)
    shutil.rmtree(o.dir, ignore_errors=True)
    os.makedirs(o.dir)
    sink = start_sink()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    Path(o.dir, "sendero.toml").write_text(SETTINGS.format(dir=o.dir, port=port, sink=sink))
    rows = [CHANNEL.format(n=n, host=host_of(n), sink=sink, limit=o.limit, default="true" if n == 0 else "false")
            for n in range(o.channels)]
    Path(o.dir, "directory.toml").write_text(DIRECTORY + "".join(rows))
    argv = [o.bin, "--config", f"{o.dir}/sendero.toml", "serve", "--apply", f"{o.dir}/directory.toml"]
    process = subprocess.Popen(argv, stdout=open(f"{o.dir}/log", "ab"), stderr=subprocess.STDOUT)
    try:
        for _ in range(1200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        began, share = time.monotonic(), -(-o.messages // 16)
        lane = "bulk" if o.channels == 1 else "normal"
        work = [threading.Thread(target=submit, args=(port, "user", range(n, min(n + share, o.messages)), o.channels, lane))
                for n in range(0, o.messages, share)]
        [one.start() for one in work]
        [one.join() for one in work]
        accepted = time.monotonic() - began
        # What may leave at once has left a while later; then nothing does until the first units are old.
        time.sleep(max(0, began + 35 - time.monotonic()))
        before, at = cpu_s(process.pid), time.monotonic()
        time.sleep(10)
        quiet = (cpu_s(process.pid) - before) / (time.monotonic() - at)
        left = sum(1 for when, _, _ in Sink.taken if at <= when <= at + 10)
        asked = time.monotonic()
        submit(port, "urgent", [0], o.channels, "now")
        urgent = None
        while time.monotonic() - began < o.secs:
            time.sleep(0.2)
            if urgent is None:
                urgent = next((round(when - asked, 3) for when, _, to in Sink.taken if to.startswith(b"URGENT")), None)
        by_host = {}
        for when, host, _ in Sink.taken:
            by_host.setdefault(host, []).append(when)
        print(json.dumps({
            "channels": o.channels, "messages": o.messages, "limit_per_min": o.limit, "accept_per_s": round(o.messages / accepted),
            "delivered": len(Sink.taken), "hosts": len(by_host), "max_in_60s": max(most_in_a_minute(sorted(t)) for t in by_host.values()),
            "cpu_between_slots": round(quiet, 4), "left_meanwhile": left, "now_left_after_s": urgent, "pss_mb": pss_mb(process.pid),
            "doubles": len(Sink.taken) - len({to for _, _, to in Sink.taken}),
        }))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


if __name__ == "__main__":
    main()
