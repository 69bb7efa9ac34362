"""The inside of a peer's process: takes runs from stdin, one JSON object a line, and answers each on stdout with one
line that begins with `@@ `. The end of stdin ends the process. What the engine itself prints is passed through.

Request: {"workload": {…fields of Workload}, "repetition": 0, "limit_s": 30}. Answer: {"ready": …} once, then records.
"""

import argparse
import json
import os
import sys
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

from formats import FORMATS, path
from workloads import Workload, prompts

MARK = "@@ "
# Leaves a decoding rate only when this many steps were seen.
LEAST_STEPS = 4
WARM_UP_LIMIT_S = 60
# Time boxes that the prompts may take.
PROMPT_BOXES = 4
# After so many the process is given up: not every engine can stop between steps.
LAST_BOX = 8


@dataclass
class Outcome:
    """What one run did. Times in seconds from the submission of the first request."""

    wall: float
    first: float | None  # until every sequence had its first token; None where the engine does not tell
    tokens: int  # generated, over all sequences
    early: int = 0  # those of them that were there at `first`
    prompt_done: int | None = None  # prompt tokens computed, when cut before the first tokens


class Timer:
    """The clock of a run, with its time box."""

    def __init__(self, limit):
        self.limit = limit
        self.restart()

    def restart(self):
        """Starts the clock again, after what an engine does once before requests come."""
        self.start = time.perf_counter()

    def elapsed(self):
        """Seconds since the start."""
        return time.perf_counter() - self.start

    def expired(self, first=None):
        """Whether the time box is used up; engines that can stop between steps then do. The box is for decoding, which
        began at `first`; the prompts have PROMPT_BOXES of them, because a run without first tokens says little."""
        return self.elapsed() > (PROMPT_BOXES * self.limit if first is None else first + self.limit)


def record(workload, outcome):
    """Rates in tokens per second. A run cut by its time box keeps the rates it showed; end to end is then estimated."""
    row = {"wall_s": round(outcome.wall, 3), "tokens": outcome.tokens, "complete": outcome.tokens >= workload.output_tokens}
    if outcome.first is None:
        if row["complete"]:
            row["output_tok_s"] = workload.output_tokens / outcome.wall
        elif outcome.prompt_done:
            row["prefill_tok_s"] = outcome.prompt_done / outcome.wall
    else:
        row["first_s"] = round(outcome.first, 3)
        row["prefill_tok_s"] = workload.prompt_tokens / outcome.first
        decoded, spent = outcome.tokens - outcome.early, outcome.wall - outcome.first
        if spent > 0 and decoded >= (1 if row["complete"] else LEAST_STEPS * workload.sequences):
            row["decode_tok_s"] = decoded / spent
            left = (workload.output_tokens - outcome.tokens) / row["decode_tok_s"]
            row["output_tok_s"] = workload.output_tokens / (outcome.wall + left)
    return {k: round(v, 2) if k.endswith("tok_s") else v for k, v in row.items()}


def warm_up(workload):
    """A short run of as many sequences, so that what an engine compiles or touches at first use is outside the measurement."""
    return replace(workload, name="warm-up", shared=0, unique=16, output=3)


def peak_mib():
    """Peak resident memory of this process, mapped files included."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    return None


def answer(value):
    """One line for the process that started this one."""
    print(MARK + json.dumps(value), flush=True)


def _request(engine, line):
    request = json.loads(line)
    workload = Workload(**request["workload"])
    ids = prompts(workload, request["repetition"], engine.vocabulary)
    engine.run(prompts(warm_up(workload), request["repetition"], engine.vocabulary), warm_up(workload), Timer(WARM_UP_LIMIT_S))
    timer = Timer(request["limit_s"])
    outcome = engine.run(ids, workload, timer)
    return record(workload, outcome) | {"peak_mib": peak_mib()}


def serve(load, engine_name):
    """Runs an engine: `load(options)` gives an object with `vocabulary`, `version`, `settings` and
    `run(ids, workload, timer) -> Outcome`."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder; converted files lie beside it")
    parser.add_argument("--format", choices=list(FORMATS[engine_name]), required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    options.weights = path(engine_name, options.format, options.model)
    options.vocabulary = json.loads((options.model / "config.json").read_text())["vocab_size"]
    start = time.perf_counter()
    engine = load(options)
    answer({"ready": round(time.perf_counter() - start, 2), "version": engine.version, "settings": engine.settings})
    for line in sys.stdin:
        try:
            answer(_request(engine, line))
        except Exception as error:  # one failed run must not end a process that took minutes to start
            traceback.print_exc()
            answer({"error": f"{type(error).__name__}: {error}"})
