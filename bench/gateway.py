"""What the programs in this folder share: a gateway in a folder of its own, a source and a next hop, all on this machine."""
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
allow = ["127.0.0.0/8:{hop}"]
[secrets]
master_key_file = "{dir}/master.key"
[queue]
{queue}
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
host = "{host}"
port = {hop}
tls = "none"
auth = "none"
domains = ["*"]
default = {default}
limits = [{limits}]
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Gateway:
    """A gateway that sends to one port of this machine. `folder` lies on the disk to be measured and is emptied first."""

    def __init__(self, program, folder, hop, hosts=("127.0.0.1",), limits=(), queue=""):
        self.program, self.dir, self.port, self.process = program, os.path.abspath(folder), free_port(), None
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)
        Path(self.dir, "sendero.toml").write_text(SETTINGS.format(dir=self.dir, port=self.port, hop=hop, queue=queue))
        limits = ", ".join(f'"{limit}"' for limit in limits)
        rows = [CHANNEL.format(n=n, host=host, hop=hop, limits=limits, default="false" if n else "true")
                for n, host in enumerate(hosts)]
        Path(self.dir, "directory.toml").write_text(PERSON + "".join(rows))
        self.first = ["--apply", f"{self.dir}/directory.toml"]

    def start(self):
        """Starts it; seconds until it has accepted a message, which is captured nowhere: it goes the way of the others."""
        log = open(Path(self.dir, "log"), "ab")
        argv = [self.program, "--config", f"{self.dir}/sendero.toml", "serve", *self.first]
        self.first, began = [], time.monotonic()
        self.process = subprocess.Popen(argv, stdout=log, stderr=log)
        while time.monotonic() - began < 120:
            if self.process.poll() is not None:
                raise SystemExit(f"the gateway ended: see {self.dir}/log")
            try:
                with Source(self.port) as source:
                    source.submit("first@dest.test", "first", 0)
                    return time.monotonic() - began
            except OSError:
                time.sleep(0.01)
        raise SystemExit(f"the gateway does not answer: see {self.dir}/log")

    def ask(self, *words):
        """A command of the program: how many seconds it took, and what it answered."""
        began = time.monotonic()
        argv = [self.program, "--config", f"{self.dir}/sendero.toml", "--output", "json", *words]
        out = subprocess.run(argv, capture_output=True, text=True, timeout=120)
        if out.returncode:
            raise SystemExit(f"{words}: {out.stderr}")
        return round(time.monotonic() - began, 3), json.loads(out.stdout)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """Ends it politely: seconds, and with which code."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        return round(time.monotonic() - began, 2), code

    def cpu_s(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def pss_mb(self):
        lines = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()
        return round(next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024, 1)

    def size_mb(self, pattern):
        """What the files under the data folder that match take on the disk."""
        size = 0
        for path in Path(self.dir, "data").glob(pattern):
            try:
                size += path.stat().st_blocks * 512
            except FileNotFoundError:
                pass
        return round(size / 1e6, 1)


class Source:
    """One connection that submits."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 5)
        self.socket.settimeout(120)
        self.replies = self.socket.makefile("rb")
        self.replies.readline()
        self.socket.sendall(b"EHLO load.bench.test\r\n")
        while self.replies.readline()[3:4] == b"-":
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def submit(self, to, subject, size, *fields):
        """Submits one message of about so many bytes, with these header fields."""
        self.socket.sendall(f"MAIL FROM:<bench@bench.test>\r\nRCPT TO:<{to}>\r\nDATA\r\n".encode())
        replies = [self.replies.readline() for _ in range(3)]
        if replies[2][:3] != b"354":
            raise SystemExit(f"refused: {replies}")
        head = "".join(f"{field}\r\n" for field in ("From: <bench@bench.test>", f"To: <{to}>", f"Subject: {subject}", *fields))
        body = (b"x" * 76 + b"\r\n") * max((size - len(head)) // 78, 1)
        self.socket.sendall(head.encode() + b"\r\n" + body + b".\r\n")
        reply = self.replies.readline()
        if reply[:3] != b"250":
            raise SystemExit(f"refused: {reply}")


class Hop(asyncio.Protocol):
    """The next hop: takes everything but what is for a mailbox that is `full`, and tells `taken` when, where and for whom."""

    def __init__(self, taken):
        self.taken = taken

    def connection_made(self, transport):
        self.transport, self.rest, self.body, self.to = transport, b"", False, b""
        self.host = transport.get_extra_info("sockname")[0]
        transport.write(b"220 hop\r\n")

    def data_received(self, data):
        self.rest += data
        while True:
            end = self.rest.find(b"\r\n.\r\n" if self.body else b"\r\n")
            if end < 0:
                return
            if self.body:
                self.rest, self.body = self.rest[end + 5:], False
                self.taken(time.monotonic(), self.host, self.to)
                self.transport.write(b"250 ok\r\n")
                continue
            line, self.rest = self.rest[:end].upper(), self.rest[end + 2:]
            self.transport.write(self.answer(line))
            if line.startswith(b"QUIT"):
                self.transport.close()

    def answer(self, line):
        if line.startswith(b"EHLO"):
            return b"250-hop\r\n250-8BITMIME\r\n250 PIPELINING\r\n"
        if line.startswith(b"DATA"):
            if not self.to:
                return b"503 5.5.1 no recipient\r\n"
            self.body, self.rest = True, b"\r\n" + self.rest
            return b"354 go\r\n"
        if line.startswith(b"QUIT"):
            return b"221 bye\r\n"
        if line.startswith(b"MAIL"):
            self.to = b""
        if line.startswith(b"RCPT"):
            if line.startswith(b"RCPT TO:<FULL"):
                return b"452 4.2.2 mailbox full\r\n"
            self.to = line[9:line.index(b">")]
        return b"250 ok\r\n"


def start_hop(taken, at=0):
    """Starts the next hop on every address of this machine; its port, free where none is named."""
    loop, ready, port = asyncio.new_event_loop(), threading.Event(), []

    async def serve():
        server = await loop.create_server(lambda: Hop(taken), "0.0.0.0", at, backlog=4096)
        port.append(server.sockets[0].getsockname()[1])
        ready.set()

    def run():
        loop.run_until_complete(serve())
        loop.run_forever()

    threading.Thread(target=run, daemon=True).start()
    ready.wait(10)
    return port[0]
