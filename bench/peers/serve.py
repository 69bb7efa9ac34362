#!/usr/bin/env python3
"""Starts each server in turn and puts the same load on it: random prompts of 128 tokens, 128 tokens of answer, Poisson
arrivals. The client is `pagoda bench serve` for all of them, on the same machine. Prints completed requests per second, time
to first token and time between tokens. See README.md.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import ours
from engines import Choice, choices, cores, home
from results import Results

TOKENS = 128
# Sequences that llama-server runs at once, and the context of each.
SLOTS, SLOT_TOKENS = 32, 512
QUICK_TOKENS = 8
LONGEST = 2048
START_LIMIT_S = 600
REQUESTS = {0.5: 24, 2.0: 48, 4.0: 64}
SERVERS = ("pagoda", "vllm", "llamacpp")
DEFAULT_FORMATS = ["pagoda:bf16", "pagoda:int8", "pagoda:int4", "vllm:bf16", "llamacpp:q8_0", "llamacpp:q4_0"]
FIGURES = ("request_throughput", "output_throughput", "median_ttft_ms", "p90_ttft_ms", "median_itl_ms", "p90_itl_ms")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", type=Path, default=home() / "models" / "qwen2.5-0.5b", help="Hugging Face folder")
    p.add_argument("--formats", default=",".join(DEFAULT_FORMATS), help="servers, as engine:format")
    p.add_argument("--rates", default="0.5,2,4", help="requests per second")
    p.add_argument("--repetitions", type=int, default=1, help="rounds over all servers")
    p.add_argument("--threads", type=int, default=len(cores()))
    p.add_argument("--load-limit", type=float, default=120.0, metavar="SECONDS", help="time box of one load")
    p.add_argument("--quick", action="store_true", help="a few short requests: whether everything runs")
    p.add_argument("--out", type=Path, default=home() / "serve.jsonl")
    p.add_argument("--pagoda", help="the command (default: the release build)")
    p.add_argument("--pagoda-flags", default="", help="more flags for `pagoda serve`")
    return p.parse_args()


def free_port():
    """A port of this machine that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def llama_server():
    """The server that setup.sh builds from the same source as the library."""
    return home() / "bin" / "llama-server"


def command(choice, options, port):
    """The command line of a server."""
    model, threads = options.model.absolute(), str(options.threads)
    if choice.ours:
        pagoda = str(ours.binary(options.pagoda))
        arguments = ours.model_arguments(model, choice.format)
        flags = ["--threads", threads, *options.pagoda_flags.split()]
        return [pagoda, "serve", *arguments, "--port", str(port), *flags]
    if choice.engine == "vllm":
        return [
            str(choice.python()), "-m", "vllm.entrypoints.openai.api_server", "--model", str(choice.files(model)),
            "--served-model-name", "m", "--dtype", "bfloat16", "--max-model-len", str(LONGEST),
            "--max-num-seqs", "128", "--host", "127.0.0.1", "--port", str(port),
        ]  # fmt: skip
    return [
        str(llama_server()), "-m", str(choice.files(model)), "-t", threads, "-tb", threads, "-np", str(SLOTS),
        "-c", str(SLOTS * SLOT_TOKENS), "--host", "127.0.0.1", "--port", str(port), "-a", "m",
    ]  # fmt: skip


def missing(choice, options):
    """Why a server cannot be started, or None."""
    if choice.ours:
        return None if ours.binary(options.pagoda).exists() else "not built; run cargo build --release"
    if choice.engine not in SERVERS:
        return "no server of it is driven here"
    if choice.engine == "llamacpp" and not llama_server().exists():
        return "llama-server is not built; run setup.sh llamacpp"
    return choice.missing(options.model.absolute())


class Server:
    """A running server."""

    def __init__(self, choice, options, log):
        self.port = free_port()
        self.process = subprocess.Popen(
            command(choice, options, self.port),
            env=choice.environment(options.threads),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def wait(self):
        """Until it answers; returns whether it does, and how long it took."""
        start = time.monotonic()
        while time.monotonic() - start < START_LIMIT_S and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as reply:
                    if reply.status == 200:
                        return True, time.monotonic() - start
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.1)
        return False, time.monotonic() - start

    def end(self):
        """Asks it to end, then ends it."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def load(options, port, rate, seed, requests, tokens):
    """One load; the JSON of `pagoda bench serve`."""
    with tempfile.TemporaryDirectory() as folder:
        client = [
            str(ours.binary(options.pagoda)), "bench", "serve", "--port", str(port), "--request-rate", str(rate),
            "--num-prompts", str(requests), "--random-input-len", str(tokens), "--random-output-len", str(tokens),
            "--ignore-eos", "--seed", str(seed), "--percentile-metrics", "ttft,tpot,itl,e2el",
            "--metric-percentiles", "50,90,99", "--num-warmups", "2", "--quiet", "--save-result",
            "--result-dir", folder, "--result-filename", "result.json",
        ]  # fmt: skip
        try:
            done = subprocess.run(client, capture_output=True, text=True, timeout=options.load_limit)
        except subprocess.TimeoutExpired:
            return {"error": f"not done in {options.load_limit:.0f} s"}
        file = Path(folder) / "result.json"
        result = json.loads(file.read_text()) if file.exists() else {}
        if done.returncode != 0:
            result["error"] = (done.stderr.strip() or "failed").splitlines()[-1]
        return result


def one_server(choice, options, results, repetition):
    """All rates on one server."""
    names = {"engine": choice.engine, "format": choice.format, "repetition": repetition}
    with (options.out.parent / f"{options.out.stem}.log").open("a") as log:
        server = Server(choice, options, log)
        try:
            ready, seconds = server.wait()
            if not ready:
                results.add("serve", **names, error="it did not become ready; see the log")
                print(f"{choice}: did not become ready", flush=True)
                return
            for number, rate in enumerate(float(r) for r in options.rates.split(",")):
                requests = 4 if options.quick else REQUESTS.get(rate, int(16 * rate) + 16)
                tokens = QUICK_TOKENS if options.quick else TOKENS
                result = load(options, server.port, rate, 10 * repetition + number, requests, tokens)
                row = results.add("serve", **names, rate=rate, ready_s=round(seconds, 2), **result)
                figures = ", ".join(f"{name} {row[name]:.2f}" for name in FIGURES if row.get(name) is not None)
                print(f"{choice} at {rate}/s: {figures} {row.get('error', '')}", flush=True)
        finally:
            server.end()


def table(results):
    """The figures in Markdown, by rate; several repetitions as several rows."""
    rows = [row for row in results.rows if row["kind"] == "serve" and "rate" in row]
    lines = [
        "| arrivals/s | server | completed req/s | output tok/s | TTFT p50 ms | TTFT p90 ms | ITL p50 ms | ITL p90 ms | failed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda r: (r["rate"], -(r.get("request_throughput") or 0))):
        cells = (f"{row[name]:.2f}" if row.get(name) is not None else "–" for name in FIGURES)
        failed = row.get("error") or row.get("failed", "–")
        lines.append(f"| {row['rate']} | {row['engine']}:{row['format']} | {' | '.join(cells)} | {failed} |")
    return "\n".join(lines)


def main():
    options = arguments()
    results = Results(options.out)
    wanted = choices(formats=options.formats.split(","))
    usable = []
    for choice in sorted(wanted, key=lambda c: options.formats.split(",").index(str(c))):
        reason = missing(choice, options)
        if reason:
            print(f"skipped {choice}: {reason}", flush=True)
        else:
            usable.append(choice)
    if not usable:
        sys.exit("nothing to run")
    limits = lambda when: results.add("limits", when=when, limits=ours.limits(ours.binary(options.pagoda), options.threads))
    limits("before")
    for repetition in range(options.repetitions):
        for choice in usable:
            one_server(choice, options, results, repetition)
    limits("after")
    print(table(results))


if __name__ == "__main__":
    main()
