#!/usr/bin/env python3
"""What a server has to survive as a process: signals, a full disk, few file descriptors, little memory, hostile calls.

    tests/reliability/run.py target/release/pagoda [CHECK...] [--scale 1.0]

Runs all checks, or those named, against servers of its own with the embedded model, each on a free port of this machine. Prints for each
figure what is asked and what was seen; exits with 1 if one does not hold. --scale 0.1 does a tenth as much. Needs Linux and nothing else.
The check of the full disk mounts a small file system of its own and is skipped, and named, where that is not permitted.
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

FAILED = []
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
# How a server ends that SIGTERM ended in order.
ENDED = 128 + signal.SIGTERM


def figure(name, asked, seen, holds):
    """Prints a figure, and remembers it if it does not hold."""
    print(f"  {'ok  ' if holds else 'FAIL'} {name}: asked {asked}, seen {seen}", flush=True)
    if not holds:
        FAILED.append(name)


class Server:
    """A server with the embedded model on a free port."""

    def __init__(self, binary, *options, stdout=None, stderr=subprocess.DEVNULL, limit=None, port=0, preexec=None):
        command = [binary, "serve", "--port", str(port), *options]
        self.port = port

        def before():
            if limit:
                resource.setrlimit(*limit)
            if preexec:
                preexec()

        begun = time.monotonic()
        self.process = subprocess.Popen(command, stdout=stdout or subprocess.PIPE, stderr=stderr, preexec_fn=before)
        if stdout is None:
            line = self.process.stdout.readline().decode()
            self.port = int(line.rsplit("/v1", 1)[0].rsplit(":", 1)[1])
        self.until_ready()
        self.start_seconds = time.monotonic() - begun

    def until_ready(self, limit=60):
        end = time.monotonic() + limit
        while time.monotonic() < end:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.call("GET", "/ready")[0] == 200:
                    return
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}")
            time.sleep(0.005)
        raise RuntimeError("the server does not become ready")

    def connect(self, timeout=60):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def call(self, method, path, body=None, timeout=60):
        """Status and text of the answer."""
        connection = self.connect(timeout)
        try:
            connection.request(method, path, body if body is None or isinstance(body, bytes) else json.dumps(body))
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def complete(self, tokens=4, **more):
        return self.call("POST", "/v1/completions", {"prompt": "Once upon a time", "max_tokens": tokens, **more})

    def memory(self):
        """Anonymous memory, what was swapped out included, KiB."""
        with open(f"/proc/{self.process.pid}/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        return sum(int(fields[name].split()[0]) for name in ("RssAnon", "VmSwap"))

    def cpu(self):
        """Seconds of processor time."""
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def end(self, limit=60):
        """Ends the server in order; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(limit)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


def at(share, values):
    """The value that this share of all does not exceed."""
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def ms(seconds):
    return f"{1000 * seconds:.1f} ms"


def stream(server, tokens, times=None, body=None, seen=None):
    """Reads a stream; returns its text, whether it ended as it has to, and its last error."""
    connection = server.connect()
    asked = {"prompt": "Once upon a time", "max_tokens": tokens, "ignore_eos": True, "stream": True, **(body or {})}
    connection.request("POST", "/v1/completions", json.dumps(asked))
    response = connection.getresponse()
    if response.status != 200:
        connection.close()
        return response.status, "", False, None
    text, done, error, last = "", False, None, None
    while line := response.readline():
        line = line.decode().strip()
        if line == "data: [DONE]":
            done = True
        elif line.startswith("data: "):
            now = time.monotonic()
            if times is not None and last is not None:
                times.append(now - last)
            last = now
            event = json.loads(line[6:])
            error = event.get("error", error)
            text += "".join(choice.get("text", "") for choice in event.get("choices", []))
            if seen is not None:
                seen.set()
    connection.close()
    return 200, text, done, error


def in_background(target, *arguments):
    thread = threading.Thread(target=target, args=arguments, daemon=True)
    thread.start()
    return thread


def check_drain(binary, scale):
    """SIGTERM at random times under load: what runs is finished, what comes is refused, and nothing is stuck."""
    dice = random.Random(1)
    runs = max(3, int(100 * scale))
    codes, cut, refusals, longest = [], 0, 0, 0.0
    for _ in range(runs):
        with Server(binary, "--shutdown-timeout", "20") as server:
            answers, refused = [], []

            def client():
                with contextlib.suppress(OSError, http.client.HTTPException):
                    while True:
                        begun = stream(server, 1 + dice.randrange(40))
                        if begun[0] != 200:
                            refused.append(begun[0])
                            return
                        answers.append(begun)

            clients = [in_background(client) for _ in range(3)]
            time.sleep(dice.random() * 0.3)
            begun = time.monotonic()
            codes.append(server.end())
            longest = max(longest, time.monotonic() - begun)
            for thread in clients:
                thread.join(30)
            cut += sum(not done or error is not None for _, _, done, error in answers)
            refusals += len(refused)
            wrong = [status for status in refused if status != 503]
            if wrong:
                figure("status of what is refused", 503, wrong, False)
    figure("exit code of every run", ENDED, sorted(set(codes)), set(codes) == {ENDED})
    figure(f"answers cut short in {runs} runs", 0, cut, cut == 0)
    figure("longest end under load", "<= 20 s", f"{longest:.2f} s", longest <= 20)
    print(f"       {refusals} calls were refused with 503 meanwhile")
    idle = []
    for _ in range(max(1, int(10 * scale))):
        with Server(binary) as server:
            begun = time.monotonic()
            assert server.end() == ENDED
            idle.append(time.monotonic() - begun)
    figure("end of an idle server", "<= 1 s", f"{max(idle):.2f} s", max(idle) <= 1)


def check_second_signal(binary, scale):
    """A second signal ends a server that still works."""
    times, codes = [], []
    for _ in range(max(1, int(5 * scale))):
        with Server(binary, "--shutdown-timeout", "60") as server:
            seen = threading.Event()
            in_background(lambda: contextlib.suppress(Exception).__enter__() or stream(server, 100_000, seen=seen))
            assert seen.wait(20), "the stream begins"
            server.process.send_signal(signal.SIGTERM)
            while server.call("GET", "/ready")[0] != 503:
                time.sleep(0.005)
            time.sleep(0.05)
            begun = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            codes.append(server.process.wait(30))
            times.append(time.monotonic() - begun)
    figure("end after a second signal", "<= 1 s", f"{max(times):.2f} s", max(times) <= 1)
    print(f"       exit codes: {sorted(set(codes))}")


def check_kill(binary, scale):
    """After kill -9 the same port is served again as after any start."""
    runs = max(2, int(20 * scale))
    with Server(binary) as server:
        port, fresh = server.port, server.start_seconds
    times = []
    for _ in range(runs):
        with Server(binary, port=port) as server:
            times.append(server.start_seconds)
            threads = [in_background(lambda: contextlib.suppress(Exception).__enter__() or safely(stream, server, 1000)) for _ in range(3)]
            time.sleep(0.05)
            server.process.kill()
            server.process.wait()
            for thread in threads:
                thread.join(10)
    figure(f"ready after kill -9, {runs} times on one port", f"as a fresh start ({fresh:.2f} s), + 1 s", f"{max(times):.2f} s", max(times) <= fresh + 1)


def safely(function, *arguments):
    """Calls what may find its server gone."""
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        return function(*arguments)


def check_descriptors(binary, scale):
    """With 64 file descriptors: the accept loop rests while there are none, and goes on when there are."""
    with Server(binary, limit=(resource.RLIMIT_NOFILE, (64, 64))) as server:
        held = []
        for _ in range(100):
            held.append(socket.create_connection(("127.0.0.1", server.port), timeout=5))
        seconds = 2 + 3 * scale
        time.sleep(0.5)
        before = server.cpu()
        time.sleep(seconds)
        share = (server.cpu() - before) / seconds
        figure("share of a core without descriptors", "< 50 %", f"{100 * share:.1f} %", share < 0.5)
        for connection in held:
            connection.close()
        begun = time.monotonic()
        served = safely(server.complete)
        figure("served once there are descriptors", 200, served and served[0], served is not None and served[0] == 200)
        print(f"       after {ms(time.monotonic() - begun)}")
        figure("exit code", ENDED, code := server.end(), code == ENDED)


def check_disk(binary, scale):
    """Output and logs on a file system that is full, or to a reader that is gone."""
    folder = tempfile.mkdtemp(prefix="pagoda-full-")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True).returncode == 0
    try:
        if mounted:
            with contextlib.suppress(OSError), open(f"{folder}/filler", "wb", buffering=0) as filler:
                while True:
                    filler.write(bytes(4096))
            with open(f"{folder}/out", "wb") as out, free_port() as port:
                serves_without_output(binary, "a full disk", port, out)
        else:
            print("  skipped: a file system cannot be mounted here")
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "wb") as out, free_port() as port:
            serves_without_output(binary, "a closed pipe", port, out)
        with open("/dev/full", "wb") as out, free_port() as port:
            serves_without_output(binary, "/dev/full", port, out)
        reader, writer = os.pipe()
        with os.fdopen(writer, "wb") as out, os.fdopen(reader) as unread, free_port() as port:
            serves_without_output(binary, "a pipe that nobody reads", port, out, unread)
    finally:
        if mounted:
            subprocess.run(["umount", folder], check=True)
        os.rmdir(folder)


@contextlib.contextmanager
def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    yield port


def serves_without_output(binary, where, port, out, unread=None):
    try:
        with Server(binary, "--log", "debug", port=port, stdout=out, stderr=out) as server:
            statuses = {server.complete()[0] for _ in range(300)}
            server.call("POST", "/v1/completions", b"{")
            figure(f"calls served with output to {where}", {200}, statuses, statuses == {200})
            if unread:
                # What is left in the pipe is not waited for at the end.
                unread.close()
            figure("exit code", ENDED, code := server.end(), code == ENDED)
    except (RuntimeError, OSError) as error:
        figure(f"calls served with output to {where}", {200}, error, False)


def check_memory(binary, scale):
    """An address space that is too small is an error in words, or enough."""
    outcomes = {"served": [], "refused in words": [], "aborted": [], "other": []}
    # With less, the program has no room for the few bytes that words take.
    least = (os.path.getsize(binary) >> 20) + 12
    for mebibytes in range(least, 601, max(10, int(10 / max(scale, 0.1)))):
        limit = (resource.RLIMIT_AS, (mebibytes << 20, mebibytes << 20))
        process = subprocess.run(
            [binary, "run", "Once upon a time", "--max-tokens", "4"], capture_output=True, timeout=60,
            preexec_fn=lambda limit=limit: resource.setrlimit(*limit),
        )
        said = process.stderr.decode(errors="replace")
        kind = "other"
        if process.returncode == 0:
            kind = "served"
        elif process.returncode > 0 and "error:" in said and "panicked" not in said:
            kind = "refused in words"
        elif process.returncode == -signal.SIGABRT:
            # A small allocation of the standard library or the allocator itself failed, which has no other end.
            kind = "aborted"
        outcomes[kind].append(mebibytes)
    counts = {kind: len(sizes) for kind, sizes in outcomes.items()}
    figure("ends with too little address space", "served or refused in words, seldom aborted", counts, not outcomes["other"] and counts["aborted"] * 10 <= sum(counts.values()))
    print(f"       aborted with {outcomes['aborted']} MiB, other ends with {outcomes['other']} MiB")


REFUSED = [
    {"prompt": "x", "n": 2**31},
    {"prompt": "x", "n": 2**63},
    {"prompt": "x", "best_of": 10**9},
    {"prompt": "x", "logprobs": 10**9},
    {"prompt": "x", "prompt_logprobs": 10**9},
    {"prompt": "x", "max_tokens": -1},
    {"prompt": ["x"] * 100_000},
    {"prompt": [1] * 500_000},
    {"prompt": "x " * 500_000},
    {"prompt": "x", "stop": ["y" * 1000] * 1000},
    {"prompt": "x", "stop_token_ids": list(range(100_000))},
    {"prompt": "x", "logit_bias": {str(i): 1 for i in range(50_000)}},
    {"prompt": "x", "guided_regex": "((a{1000}){1000}){1000}"},
    {"prompt": "x", "guided_json": {"type": "array", "maxItems": 10**9}},
    {"prompt": "x", "guided_choice": ["y" * 500] * 5000},
    {"prompt": "x", "temperature": 1e300},
]


def check_refusals(binary, scale):
    """What is refused leaves nothing in memory."""
    with Server(binary) as server:
        bodies = [json.dumps(body).encode() for body in REFUSED] + [b'{"prompt": ' + b"[" * 1_000_000]
        statuses = set()

        def refuse(times):
            for _ in range(times):
                statuses.update(server.call("POST", "/v1/completions", body)[0] for body in bodies)

        # Until threads and their heaps are as large as they get.
        refuse(max(2, int(8 * scale)))
        before, rounds = server.memory(), max(2, int(20 * scale))
        refuse(rounds)
        more = (server.memory() - before) / (rounds * len(bodies))
        figure("statuses of what has to be refused", "4xx", sorted(statuses), all(400 <= status < 500 for status in statuses))
        figure(f"memory that a refusal leaves, of {rounds * len(bodies)}", "< 1024 KiB", f"{more:.1f} KiB", more < 1024)
        figure("served after that", 200, status := server.complete()[0], status == 200)


def attacks():
    """Calls that take long where something is not linear, or not bounded."""
    chat = lambda content, **more: ("/v1/chat/completions/render", {"messages": [{"role": "user", "content": content}], **more})
    texts = ["a" * 1_000_000, "_" * 500_000, " " * 1_000_000, "0123456789" * 100_000, "^" * 1_000_000, "\u200d" * 300_000,
             "日本語ру́عर" * 60_000, "\n" * 1_000_000, "👩‍👩‍👧" * 40_000, "ab" * 500_000]
    deep = {"type": "integer"}
    for _ in range(62):
        deep = {"type": "array", "items": deep, "minItems": 1}
    wide = {"type": "object", "properties": {f"p{i}": {"type": "string", "pattern": f"^(a|b{i})*[a-z]{{1,99}}.*c$"} for i in range(200)}}
    product = {"allOf": [{"anyOf": [{"properties": {f"p{i}": {"const": i}}} for i in range(60)]} for _ in range(4)]}
    guided = lambda field, value: ("/v1/completions", {"prompt": "x", "max_tokens": 20, field: value})
    yield from (("/tokenize", {"prompt": text}) for text in texts)
    yield from (chat(text) for text in texts[:4])
    yield from (guided("guided_json", schema) for schema in (deep, wide, product))
    yield from (guided("guided_regex", regex) for regex in
                ("(.*a.{500}){3}", "(a|aa)*(b|bb)*.{0,3000}c", "(x+x+)+y", r"[\p{L}\p{N}]{1,3000}\p{Sc}", "(?:.{0,99}(?:a|b)){50}", r"(\w+\s?){0,2000}"))
    rules = "".join(f'r{i}: "a" r{i + 1} | "b" r{i + 1}\n' for i in range(900))
    yield guided("guided_grammar", f'start: r0\n{rules}r900: "c"\n')
    yield guided("guided_grammar", 'start: a\na: a a | "x" | "xx" | ""\n')
    yield guided("guided_choice", [f"choice {i} of very many, each with a text of its own" for i in range(1000)])


def check_attacks(binary, scale):
    """Sixteen hostile calls at a time while a client streams: every one is answered, and the client hardly hears of it."""
    with Server(binary, "--max-num-seqs", "32") as server:
        server.complete(guided_regex="a+")
        tokens = int(100 + 300 * scale)
        idle, busy, health, statuses, longest = [], [], [], {}, [0.0, ""]
        stream(server, tokens, idle)
        calls = [(path, json.dumps(body).encode()) for path, body in attacks()]
        stop = threading.Event()
        lock = threading.Lock()

        def attack(offset):
            turn = offset
            while not stop.is_set():
                path, body = calls[turn % len(calls)]
                begun = time.monotonic()
                answer = safely(server.call, "POST", path, body, 120)
                took = time.monotonic() - begun
                with lock:
                    status = answer[0] if answer else "none"
                    statuses[status] = statuses.get(status, 0) + 1
                    if took > longest[0]:
                        longest[:] = [took, f"{path} {body[:60]!r}"]
                turn += 1

        attackers = [in_background(attack, offset) for offset in range(16)]
        time.sleep(0.5)
        end = time.monotonic() + 5 + 20 * scale
        streams = []
        while time.monotonic() < end:
            streams.append(stream(server, tokens, busy))
            for _ in range(10):
                begun = time.monotonic()
                assert server.call("GET", "/health")[0] == 200
                health.append(time.monotonic() - begun)
        stop.set()
        for thread in attackers:
            thread.join(180)
        figure("answers to hostile calls", "200 or 4xx", statuses, all(status == 200 or 400 <= status < 500 for status in statuses if status != "none") and "none" not in statuses)
        figure("streams meanwhile", "whole", f"{sum(done for _, _, done, _ in streams)} of {len(streams)}", all(done for _, _, done, _ in streams))
        # Attackers, server and this client share the processors, so the figures beside the idle ones are for reading.
        print(f"       between tokens: idle p50 {ms(at(0.5, idle))}, p99 {ms(at(0.99, idle))}; attacked p50 {ms(at(0.5, busy))}, p99 {ms(at(0.99, busy))}")
        print(f"       health: p50 {ms(at(0.5, health))}, p99 {ms(at(0.99, health))}; slowest attack {longest[0]:.2f} s: {longest[1]}")
        figure("memory after it", "<= 1.5 GiB", f"{server.memory() >> 10} MiB", server.memory() < 1_500_000)
        figure("exit code", ENDED, code := server.end(), code == ENDED)


def check_long_text(binary, scale):
    """Probes while a text of 4 MiB is tokenized."""
    with Server(binary) as server:
        body = json.dumps({"prompt": "There was once a king who had twelve daughters. " * 80_000}).encode()
        threads = [in_background(safely, server.call, "POST", "/tokenize", body) for _ in range(4)]
        times = []
        while any(thread.is_alive() for thread in threads) or len(times) < 100:
            begun = time.monotonic()
            assert server.call("GET", "/health")[0] == 200
            times.append(time.monotonic() - begun)
        print(f"       {len(body)} bytes four times at once: {len(times)} probes, p50 {ms(at(0.5, times))}, p99 {ms(at(0.99, times))} (asked: 50 ms)")


CHECKS = {name.removeprefix("check_").replace("_", "-"): check for name, check in list(globals().items()) if name.startswith("check_")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("checks", nargs="*", choices=[[], *CHECKS], help=", ".join(CHECKS))
    parser.add_argument("--scale", type=float, default=1.0)
    arguments = parser.parse_args()
    for name in arguments.checks or CHECKS:
        begun = time.monotonic()
        print(f"{name}: {CHECKS[name].__doc__}", flush=True)
        CHECKS[name](arguments.binary, arguments.scale)
        print(f"       {time.monotonic() - begun:.1f} s", flush=True)
    print(f"{len(FAILED)} figures do not hold" if FAILED else "all figures hold")
    sys.exit(1 if FAILED else 0)


if __name__ == "__main__":
    main()
