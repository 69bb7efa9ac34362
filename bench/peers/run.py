#!/usr/bin/env python3
"""Runs pagoda and its peers on the same model and workloads, in turn, and prints the ratios.

The order is: repetition, workload, engine and format, so that all of them see the same states of the machine. Each run is a
process of its own, except for an engine that takes a minute to start, which is stopped between its turns. The first
repetition tries everything; later ones leave out what was far from the best of its class of weights. Results go to a file
of lines; the same command takes up where it was cut off. See README.md.
"""

import argparse
import signal
import sys
import time
from pathlib import Path

import ours
import summarize
from child import Child, Failed, NotStarted
from engines import Choice, choices, cores, home
from formats import FORMATS
from results import Results
from workloads import workloads

# Measured to lie far behind the others at these workloads, so that they only cost time: tried with --all.
HOPELESS = {
    "llamacpp": ("decode32", "decode64", "prefill", "prefix"),
    "transformers": ("decode1", "decode32", "decode64", "prefill", "prefix"),
    "llamacpp:bf16": ("decode1", "decode8"),
}
START_LIMIT_S = 600


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", type=Path, default=home() / "models" / "qwen2.5-0.5b", help="Hugging Face folder")
    p.add_argument("--engines", type=_names, help=f"of: {', '.join(FORMATS)}")
    p.add_argument("--formats", type=_names, help="such as int4 or llamacpp:q4_0")
    p.add_argument("--workloads", type=_names, help=f"of: {', '.join(workloads())}")
    p.add_argument("--repetitions", type=int, default=3)
    p.add_argument("--threads", type=int, default=len(cores()), help="of every engine (default: the physical cores)")
    p.add_argument("--run-limit", type=float, default=10.0, metavar="SECONDS", help="time box of decoding in one run")
    p.add_argument("--limit", type=float, default=1800.0, metavar="SECONDS", help="no run begins after this")
    p.add_argument("--contend", type=float, default=0.8, metavar="SHARE", help="of the best, to be repeated (0: all)")
    p.add_argument("--all", action="store_true", help="also what is known to be far behind")
    p.add_argument("--quick", action="store_true", help="tiny workloads: whether everything runs")
    p.add_argument("--out", type=Path, default=home() / "results.jsonl")
    p.add_argument("--pagoda", help="the command (default: the release build)")
    p.add_argument("--pagoda-flags", default="", help="more flags for `pagoda bench throughput`")
    return p.parse_args()


def _names(text):
    return [name for name in text.split(",") if name]


class Session:
    """One call of this script."""

    def __init__(self, options):
        self.options = options
        self.model = options.model.absolute()
        self.pagoda = ours.binary(options.pagoda)
        self.results = Results(options.out)
        self.residents = {}
        self.broken = set()  # what did not start is not tried again
        self.begin = time.monotonic()
        every = workloads(options.quick)
        self.workloads = [every[name] for name in options.workloads or every]
        self.choices = [c for c in choices(options.engines, options.formats) if self._usable(c)]
        self.log = (options.out.parent / f"{options.out.stem}.log").open("a", buffering=1)

    def _usable(self, choice):
        reason = choice.missing(self.model)
        if choice.ours and not self.pagoda.exists():
            reason = f"{self.pagoda} is not built; run cargo build --release"
        if reason:
            print(f"skipped {choice}: {reason}", flush=True)
        return reason is None

    def whole(self):
        """All repetitions, between two measurements of the machine."""
        o = self.options
        self.results.add("start", model=self.model.name, threads=o.threads, quick=o.quick, run_limit_s=o.run_limit)
        self._limits("before")
        try:
            for repetition in range(o.repetitions):
                for workload in self.workloads:
                    self._turns(workload, repetition)
        except TimeoutError as end:
            print(f"stopped: {end}", flush=True)
        finally:
            for child in self.residents.values():
                child.end()
        self._limits("after")

    def _limits(self, when):
        limits = ours.limits(self.pagoda, self.options.threads) if self.pagoda.exists() else None
        if limits:
            self.results.add("limits", when=when, limits=limits)
        print(f"limits {when}: {limits or 'not measured'}", flush=True)

    def _turns(self, workload, repetition):
        """Each engine once; who begins changes with the repetition."""
        turn = [c for c in self.choices if self._wanted(c, workload, repetition)]
        shift = repetition % max(len(turn), 1)
        for choice in turn[shift:] + turn[:shift]:
            if self.results.find(choice, workload.name, repetition):
                continue
            if time.monotonic() - self.begin > self.options.limit:
                raise TimeoutError(f"{self.options.limit:.0f} s are over; the same command goes on from here")
            self._run(choice, workload, repetition)

    def _wanted(self, choice, workload, repetition):
        if choice in self.broken:
            return False
        if not (self.options.all or self.options.quick):
            hopeless = HOPELESS.get(choice.engine, ()) + HOPELESS.get(str(choice), ())
            if workload.name in hopeless:
                return False
        return repetition == 0 or self._contends(choice, workload)

    def _contends(self, choice, workload):
        """Whether the first repetition was near the best of its side (ours, peers) in its class of weights."""
        first = {}
        for row in self.results.runs():
            if row["workload"] == workload.name and row["repetition"] == 0:
                first[Choice(row["engine"], row["format"])] = row.get(f"{workload.headline}_tok_s") or 0
        rivals = [r for c, r in first.items() if c.ours == choice.ours and c.bits == choice.bits]
        own = first.get(choice, 0)
        return own > 0 and own >= self.options.contend * max(rivals)

    def _run(self, choice, workload, repetition):
        start = time.monotonic()
        try:
            row = self._measured(choice, workload, repetition)
        except Failed as failure:
            row = {"error": str(failure)}
            if isinstance(failure, NotStarted):
                self.broken.add(choice)
            if choice in self.residents:
                self.residents.pop(choice).end()
        spent = round(time.monotonic() - start, 1)
        names = {"engine": choice.engine, "format": choice.format, "workload": workload.name, "repetition": repetition}
        row = self.results.add("run", **names, **row, spent_s=spent)
        _show(row, choice)

    def _measured(self, choice, workload, repetition):
        o = self.options
        if choice.ours:
            extra = o.pagoda_flags.split()
            return ours.throughput(
                self.pagoda, self.model, choice.format, workload, repetition, o.threads, o.run_limit, extra
            )
        child = self.residents.get(choice)
        if child is None:
            child = Child(choice, self.model, o.threads, self.log, START_LIMIT_S)
            if choice.resident:
                self.residents[choice] = child
        child.resume()
        try:
            about = {k: child.about[k] for k in ("version", "settings")}
            return child.run(workload, repetition, o.run_limit) | about | {"start_s": child.about["ready"]}
        finally:
            if choice.resident:
                child.pause()
            else:
                child.end()


def _show(row, choice):
    rates = ", ".join(
        f"{name} {row[key]:.1f}"
        for name, key in (("prefill", "prefill_tok_s"), ("decode", "decode_tok_s"), ("output", "output_tok_s"))
        if row.get(key)
    )
    cut = "" if row.get("complete", True) else " (cut)"
    what = f"failed: {row['error']}" if "error" in row else f"{rates} tok/s{cut}"
    other = f", others {row['other_cores']:.2f} cores" if row.get("other_cores", 0) > 0.1 else ""
    print(f"{row['at'][11:19]} {row['repetition']} {row['workload']:9} {choice!s:18} {what}{other}", flush=True)


def main():
    # The children are in groups of their own; this lets `finally` end them.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    options = arguments()
    session = Session(options)
    if not session.choices:
        sys.exit("nothing to run")
    session.whole()
    print(summarize.report(session.results, workloads(options.quick)))


if __name__ == "__main__":
    main()
