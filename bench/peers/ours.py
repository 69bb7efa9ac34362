"""Runs of the `pagoda` command: throughput of a workload, limits of the machine."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

from child import Failed
from engines import OURS, REPOSITORY
from formats import path
from harness import LAST_BOX

# For what surrounds the measurement: loading, packing, measuring the limits.
AROUND_S = 60
UNQUANTISED = "bf16"
RATES = {"prefill_tok_s": "prefill_tok_s", "decode_tok_s": "steady_decode_tok_s", "output_tok_s": "output_tok_s"}


def binary(given=None):
    """The command: as given, or the release build of this repository."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    return Path(given) if given else target / "release" / "pagoda"


def model_arguments(model, name):
    """The model in a weight format: a file, or the folder and how it is quantised."""
    files = path(OURS, name, model)
    stored = name == UNQUANTISED or files != model
    return [str(files), *([] if stored else ["--quantize", name])]


def _run(command, limit):
    settings = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "start_new_session": True}
    try:
        done = subprocess.run(command, timeout=limit, **settings)
    except subprocess.TimeoutExpired:
        raise Failed(f"not done in {limit:.0f} s") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("error")]
        raise Failed((errors or lines[-1:] or [f"exit code {done.returncode}"])[0])


def throughput(pagoda, model, name, workload, repetition, threads, limit, extra=()):
    """One run in a process of its own; the record of harness.py."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [
            str(pagoda), "bench", "throughput", *model_arguments(model, name), "--threads", str(threads),
            "--concurrency", str(workload.sequences), "--input-len", str(workload.unique),
            "--prefix-len", str(workload.shared), "--output-len", str(workload.output),
            # The peers do not hold prompts back for the sake of streams either.
            "--itl-target-ms", "3600000",
            "--seed", str(repetition), "--repetitions", "1", "--no-limits", "--json", str(report), *extra,
        ]  # fmt: skip
        _run(command, LAST_BOX * limit + AROUND_S)
        return _record(json.loads(report.read_text()))


def _record(report):
    point = report["points"][0]
    run = point["repetitions"][0]
    # The decode rate that harness.py takes too: without tokens that came beside the prefill of other prompts.
    rates = {k: run.get(v) for k, v in RATES.items()}
    rates = {k: round(v, 2) for k, v in rates.items() if v is not None}
    settings = report["settings"]
    peak = run.get("peak_rss_bytes")
    return {
        "wall_s": round(run["seconds"], 3),
        "complete": True,
        **rates,
        "peak_mib": peak >> 20 if peak else None,
        **(run.get("cores") or {}),
        "version": f"pagoda {report['version']}",
        "settings": f"isa {settings['isa']}, weights {settings['weights']}, KV {settings['kv']}",
        "bound": point.get("limit"),
    }


def limits(pagoda, threads):
    """Read bandwidth and peaks, as `pagoda doctor` measures them; None where it cannot."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [str(pagoda), "doctor", "--threads", str(threads), "--json", str(report)]
        try:
            _run(command, AROUND_S)
            return json.loads(report.read_text()).get("all")
        except (Failed, OSError, ValueError):
            return None
