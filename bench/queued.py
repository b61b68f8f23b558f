#!/usr/bin/env python3
"""A hundred thousand queued messages: memory, restart after kill -9 with a cold cache, and looking into the queue.

    bench/queued.py --bin target/release/sendero --dir FOLDER [--messages 100000] [--channels 1] [--size 10240]

FOLDER lies on the disk to be measured and is emptied first. Nothing listens at the next hop, so everything stays
queued. As root the page cache is dropped before the restart. Prints one JSON line. How long a page of a list takes by
each filter, among a million messages: cargo run --release -p store --example lists.
"""
import argparse
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
allow = ["127.0.0.1:{closed}"]
[queue]
retry = ["1h"]
[secrets]
master_key_file = "{dir}/master.key"
"""

PERSON = """
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
host = "127.0.0.1"
port = {closed}
tls = "none"
auth = "none"
domains = ["*"]
default = {default}
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def pss_mb(pid):
    for line in open(f"/proc/{pid}/smaps_rollup"):
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


class Gateway:
    def __init__(self, o, port):
        self.o, self.port, self.process = o, port, None

    def start(self, *extra):
        log = open(Path(self.o.dir) / "log", "ab")
        argv = [self.o.bin, "--config", f"{self.o.dir}/sendero.toml", "serve", *extra]
        began = time.time()
        self.process = subprocess.Popen(argv, stdout=log, stderr=log)
        while time.time() - began < 120:
            if self.process.poll() is not None:
                raise SystemExit("the gateway ended: see the log in the folder")
            try:
                if self.submit("first", 1):
                    return time.time() - began
            except OSError:
                time.sleep(0.01)
        raise SystemExit("the gateway does not answer")

    def submit(self, name, count, channels=1, size=200, start=0):
        with socket.create_connection(("127.0.0.1", self.port), 5) as s:
            s.settimeout(60)
            r = s.makefile("rb")
            r.readline()
            s.sendall(b"EHLO load.bench.test\r\n")
            while r.readline()[3:4] == b"-":
                pass
            line = b"x" * 76 + b"\r\n"
            text = line * max(size // len(line), 1)
            for n in range(start, start + count):
                head = f"From: <bench@bench.test>\r\nTo: <{name}{n}@dest.test>\r\nSubject: {name} {n}\r\nX-Sendero-Channel: c{n % channels}\r\n\r\n"
                s.sendall(f"MAIL FROM:<bench@bench.test>\r\nRCPT TO:<{name}{n}@dest.test>\r\nDATA\r\n".encode())
                replies = [r.readline() for _ in range(3)]
                if replies[2][:3] != b"354":
                    raise SystemExit(f"refused: {replies}")
                s.sendall(head.encode() + text + b".\r\n")
                reply = r.readline()
                if reply[:3] != b"250":
                    raise SystemExit(f"refused: {reply}")
            return True

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def ask(self, *words):
        began = time.time()
        out = subprocess.run([self.o.bin, "--config", f"{self.o.dir}/sendero.toml", "--output", "json", *words],
                             capture_output=True, text=True, timeout=120)
        if out.returncode:
            raise SystemExit(f"{words}: {out.stderr}")
        return round(time.time() - began, 3), json.loads(out.stdout)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--bin", default="target/release/sendero")
    p.add_argument("--dir", required=True)
    p.add_argument("--messages", type=int, default=100_000)
    p.add_argument("--channels", type=int, default=1)
    p.add_argument("--size", type=int, default=10240)
    o = p.parse_args()
    if not 1 <= o.messages <= 2_000_000 or not 1 <= o.channels <= 20_000:
        p.error("messages 1 to 2000000, channels 1 to 20000")
    o.dir = os.path.abspath(o.dir)
    shutil.rmtree(o.dir, ignore_errors=True)
    os.makedirs(o.dir)
    port, closed = free_port(), free_port()
    Path(o.dir, "sendero.toml").write_text(SETTINGS.format(dir=o.dir, port=port, closed=closed))
    rows = [CHANNEL.format(n=n, closed=closed, default="true" if n == 0 else "false") for n in range(o.channels)]
    Path(o.dir, "directory.toml").write_text(PERSON + "".join(rows))
    gateway = Gateway(o, port)
    gateway.start("--apply", f"{o.dir}/directory.toml")
    began, workers, share = time.time(), [], o.messages // 16
    for n in range(16):
        count = share if n < 15 else o.messages - 15 * share
        work = threading.Thread(target=gateway.submit, args=("user", count, o.channels, o.size, n * share))
        work.start()
        workers.append(work)
    for work in workers:
        work.join()
    accepted = time.time() - began
    gateway.ask("queue")
    time.sleep(1)
    full = pss_mb(gateway.process.pid)
    gateway.kill()
    cold = False
    if os.geteuid() == 0:
        subprocess.run(["sync"], check=True)
        Path("/proc/sys/vm/drop_caches").write_text("3")
        cold = True
    restart = gateway.start()
    after = pss_mb(gateway.process.pid)
    queue_s, queue = gateway.ask("queue")
    found_s, found = gateway.ask("message", "list", "--recipient", "user77@dest.test")
    page_s, deep = 0, None
    # Each of the sixteen producers sent its share in order: one from the middle of a share lies deep in the list.
    middle = gateway.ask("message", "list", "--recipient", f"user{8 * share + share // 2}@dest.test")[1]["data"][0]["id"]
    page_s, deep = gateway.ask("message", "list", "--after", middle, "--limit", "50")
    ended = time.time()
    gateway.process.send_signal(signal.SIGTERM)
    code = gateway.process.wait(60)
    print(json.dumps({
        "messages": o.messages, "channels": o.channels, "accept_per_s": round(o.messages / accepted),
        "pss_mb_full": round(full, 1), "pss_mb_after_restart": round(after, 1), "restart_to_first_accept_s": round(restart, 2),
        "cold_cache": cold, "queue_s": queue_s, "queued": sum(row["queued"] for row in queue), "list_recipient_s": found_s,
        "found": len(found["data"]), "deep_page_s": page_s, "deep_rows": len(deep["data"]),
        "stop_s": round(time.time() - ended, 2), "stop_code": code,
    }))


if __name__ == "__main__":
    main()
