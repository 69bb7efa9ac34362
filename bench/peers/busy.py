#!/usr/bin/env python3
"""What one other busy process costs each engine: throughput alone and beside it, in turn, against the share of the CPU that
it took. An engine that shares fairly loses that share; one whose threads spin for each other loses much more. See README.md.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import ours
from child import Child, Failed, process_seconds
from engines import choices, cores, home
from results import Results
from workloads import workloads

DEFAULT_FORMATS = "pagoda:bf16,pagoda:int8,pagoda:int4,llamacpp:q4_0,openvino:bf16"
START_LIMIT_S = 600


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", type=Path, default=home() / "models" / "qwen2.5-0.5b", help="Hugging Face folder")
    p.add_argument("--formats", default=DEFAULT_FORMATS, help="as engine:format")
    p.add_argument("--workloads", default="decode1,decode8")
    p.add_argument("--repetitions", type=int, default=3)
    p.add_argument("--threads", type=int, default=len(cores()))
    p.add_argument("--run-limit", type=float, default=10.0, metavar="SECONDS", help="time box of decoding in one run")
    p.add_argument("--quick", action="store_true", help="tiny workloads: whether everything runs")
    p.add_argument("--out", type=Path, default=home() / "busy.jsonl")
    p.add_argument("--pagoda", help="the command (default: the release build)")
    return p.parse_args()


class Busy:
    """A process that computes without end, in a session of its own as the engines are: schedulers share by session."""

    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def seconds(self):
        """CPU seconds that it took so far."""
        return process_seconds(self.process.pid)


class Subject:
    """An engine that is asked again and again. A peer is one process, so that its start is not beside the busy one."""

    def __init__(self, choice, options, log):
        self.choice, self.options = choice, options
        self.child = None
        if not choice.ours:
            self.child = Child(choice, options.model.absolute(), options.threads, log, START_LIMIT_S)

    def run(self, workload, repetition):
        o = self.options
        if self.child:
            return self.child.run(workload, repetition, o.run_limit)
        pagoda = ours.binary(o.pagoda)
        model = o.model.absolute()
        return ours.throughput(pagoda, model, self.choice.format, workload, repetition, o.threads, o.run_limit)

    def end(self):
        if self.child:
            self.child.end()


def pair(subject, workload, repetition):
    """Rates alone and beside a busy process, and the cores that it took during the whole second run."""
    rate = f"{workload.headline}_tok_s"
    alone = subject.run(workload, repetition)
    with Busy() as busy:
        start, before = time.monotonic(), busy.seconds()
        beside = subject.run(workload, repetition)
        taken = (busy.seconds() - before) / (time.monotonic() - start)
    return {"alone": alone.get(rate), "beside": beside.get(rate), "busy_cores": round(taken, 2)}


def line(choice, workload, rows, threads):
    """A row of the table: what was kept, what the CPU left would give, and their ratio."""
    rows = [r for r in rows if r["alone"] and r["beside"]]
    if not rows:
        return f"| {workload.name} | {choice} | – | – | – | – | – |"
    kept = median(r["beside"] / r["alone"] for r in rows)
    fair = median(1 - r["busy_cores"] / threads for r in rows)
    alone, beside = (median(r[name] for r in rows) for name in ("alone", "beside"))
    return f"| {workload.name} | {choice} | {alone:.1f} | {beside:.1f} | {kept:.2f} | {fair:.2f} | {kept / fair:.2f} |"


def main():
    options = arguments()
    results = Results(options.out)
    names = options.workloads.split(",")
    sizes = [workloads(options.quick)[name] for name in names]
    lines = []
    with (options.out.parent / f"{options.out.stem}.log").open("a", buffering=1) as log:
        for choice in choices(formats=options.formats.split(",")):
            reason = choice.missing(options.model.absolute())
            if reason:
                print(f"skipped {choice}: {reason}", flush=True)
                continue
            try:
                subject = Subject(choice, options, log)
            except Failed as failure:
                print(f"skipped {choice}: {failure}", flush=True)
                continue
            for workload in sizes:
                lines.append(measure(subject, workload, options, results))
                print(lines[-1], flush=True)
            subject.end()
    print("\n| workload | engine | alone tok/s | beside tok/s | kept | CPU left | kept / CPU left |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(sorted(lines)))


def measure(subject, workload, options, results):
    """All repetitions of one workload."""
    rows = []
    names = {"engine": subject.choice.engine, "format": subject.choice.format, "workload": workload.name}
    for repetition in range(options.repetitions):
        try:
            row = pair(subject, workload, repetition)
        except Failed as failure:
            results.add("busy", **names, repetition=repetition, error=str(failure))
            break
        rows.append(results.add("busy", **names, repetition=repetition, **row))
    return line(subject.choice, workload, rows, options.threads)


if __name__ == "__main__":
    main()
