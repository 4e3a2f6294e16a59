#!/usr/bin/env python3
"""Load on a server, in one command (Python alone, and wrk, https://github.com/wg/wrk):

    cargo build --release
    benches/serve.py                                  # target/release/kdm, fashion-mnist, 60 s
    benches/serve.py --seconds 5 --program target/debug/kdm

On the loopback, with clients and server on the same machine, it measures images a second of 64
clients beside `kdm bench sample` at its best batch, right before and right after; how long answers
take; memory through the load; whether 1000 connections are held and answered; whether everything
beyond the queue is answered 429; and whether a stop under load loses an answer. What should be and
isn't is marked, and ends the command with 1.
"""

import argparse
import asyncio
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).parent
CLIENTS, HELD = 64, 1000
failed = False


def told(ok, text):
    global failed
    failed |= not ok
    print(("      " if ok else "FAILS ") + text, flush=True)


def bench(args, batch, iters):
    """Images a second of `kdm bench sample`."""
    command = [args.program, "bench", "sample", "--model", args.model, "--batch", str(batch)]
    command += ["--iters", str(iters), "--json"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return 1000 / found["ms_per_image"]


class Server:
    def __init__(self, args, *more):
        command = [args.program, "serve", "--model", args.model, "--listen", "127.0.0.1:0", *more]
        environment = {**os.environ, "KDM_LOG": "warn"}
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        self.url = self.child.stdout.readline().strip().rstrip("/")
        self.port = int(self.url.rsplit(":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()

    def memory(self):
        """Resident megabytes."""
        status = Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


async def ask(connection, path, body=None):
    """Status and headers; the answer is read whole."""
    reader, writer = connection
    body = json.dumps(body).encode() if body else b""
    head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: x\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    await reader.readexactly(int(headers.get("content-length", 0)))
    return int(lines[0].split()[1]), headers


async def connect(server):
    return await asyncio.open_connection("127.0.0.1", server.port)


def samples(count, seed):
    return {"first_seed": seed * count, "count": count, "format": "npy"}


def load(args, server):
    """64 clients for the whole time."""
    memory, ending = [], threading.Event()

    def watch():
        while not ending.wait(min(1, args.seconds / 10)):
            memory.append(server.memory())

    watching = threading.Thread(target=watch)
    watching.start()
    command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{args.seconds}s", "--timeout", "60s"]
    command += ["-s", str(HERE / "serve.lua"), server.url]
    wrk = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    ending.set()
    watching.join()
    line = wrk.strip().splitlines()[-1]
    rate, refused, broken = (
        int(re.search(pattern, line)[1])
        for pattern in (r"(\d+) images/s", r"otherwise (\d+)", r"broken off (\d+)")
    )
    told(refused == 0 and broken == 0, f"{CLIENTS} clients for {args.seconds} s: {line}")
    begin, end = memory[len(memory) // 4], max(memory[len(memory) // 2 :])
    text = f"memory: {begin:.0f} MB after a quarter of the time, then {end:.0f} MB at most"
    told(end < 1.1 * begin, text)
    return rate


async def held(server):
    """Many connections, all of which are answered, while samples are drawn."""
    connections = await asyncio.gather(*(connect(server) for _ in range(HELD)))
    drawing = asyncio.create_task(ask(await connect(server), "/v1/samples", samples(64, 1)))
    for _ in range(3):
        begun = time.monotonic()
        answers = await asyncio.gather(*(ask(one, "/healthz") for one in connections))
        seconds = time.monotonic() - begun
        answered = sum(status == 200 for status, _ in answers)
        await asyncio.sleep(0.5)
    told(answered == HELD, f"{HELD} connections held: {answered} answered in {seconds:.2f} s")
    told((await drawing)[0] == 200, "samples are drawn beside them")
    for _, writer in connections:
        writer.close()


async def overload(server):
    """Far more than the queue takes, all at once."""
    connections = await asyncio.gather(*(connect(server) for _ in range(200)))
    asked = (ask(one, "/v1/samples", samples(32, i)) for i, one in enumerate(connections))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    statuses = [a[0] if isinstance(a, tuple) else type(a).__name__ for a in answers]
    counts = {status: statuses.count(status) for status in sorted(set(statuses), key=str)}
    later = [int(a[1]["retry-after"]) for a in answers if isinstance(a, tuple) and a[0] == 429]
    told(set(counts) == {200, 429}, f"200 requests beyond a queue of 512 samples: {counts}")
    told(bool(later) and min(later) >= 1, f"Retry-After: {min(later)} to {max(later)} s")


async def stop(server):
    """SIGTERM when some are answered and the others wait."""
    connections = await asyncio.gather(*(connect(server) for _ in range(CLIENTS)))
    asked = [ask(one, "/v1/samples", samples(16, i)) for i, one in enumerate(connections)]
    tasks = [asyncio.create_task(one) for one in asked]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    before = sum(task.done() for task in tasks)
    server.child.send_signal(signal.SIGTERM)
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    answered = sum(isinstance(a, tuple) and a[0] == 200 for a in answers)
    code = server.child.wait(60)
    text = f"stopped after {before} of {CLIENTS} answers: {answered} in all, exit code {code}"
    told(answered == CLIENTS and code == 0, text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default="target/release/kdm")
    parser.add_argument("--model", default="fashion-mnist")
    parser.add_argument("--seconds", type=int, default=60)
    args = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    iters = max(2, args.seconds // 6)
    rates = {batch: bench(args, batch, iters) for batch in (16, 32, 64, 128)}
    best = max(rates, key=rates.get)
    shown = ", ".join(f"{batch}: {rate:.0f}" for batch, rate in rates.items())
    print(f"      kdm bench sample, images a second by batch: {shown}", flush=True)
    with Server(args) as server:
        rate = load(args, server)
        after = bench(args, best, iters)
        alone = max(rates[best], after)
        text = f"{rate} images/s are {rate / alone:.0%} of batches of {best} alone ({alone:.0f}/s)"
        told(rate >= 0.9 * alone, text)
        asyncio.run(held(server))
        asyncio.run(stop(server))
    with Server(args, "--queue", "512") as server:
        asyncio.run(overload(server))
    sys.exit(failed)


if __name__ == "__main__":
    main()
