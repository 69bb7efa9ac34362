#!/usr/bin/env python3
"""Tables in Markdown from the file of run.py: medians and spread of every engine, and ratios of ours to the best peer.

    summarize.py results.jsonl [--quick]
"""

import argparse
from collections import defaultdict
from pathlib import Path
from statistics import median

from engines import OURS, Choice
from results import Results
from workloads import workloads

RATES = {"prefill": "prefill_tok_s", "decode": "decode_tok_s", "output": "output_tok_s"}
# More than this of other processes' work during a run makes it a doubtful one.
DISTURBED_CORES = 0.25
CLASSES = {16: "bf16", 8: "8 bit", 4: "4 bit"}


def _spread(values, digits):
    if not values:
        return "–"
    text = f"{median(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def _rates(rows, name):
    return [row[RATES[name]] for row in rows if row.get(RATES[name])]


def _grouped(results, workload):
    """Choice to its runs that gave a figure."""
    groups = defaultdict(list)
    for row in results.runs():
        if row["workload"] == workload.name and "error" not in row:
            groups[Choice(row["engine"], row["format"])].append(row)
    return groups


def _table(groups, workload):
    key = lambda item: -median(_rates(item[1], workload.headline) or [0])
    lines = [
        "| engine | weights | runs | prefill tok/s | decode tok/s | output tok/s end to end | peak MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for choice, rows in sorted(groups.items(), key=key):
        runs = str(len(rows)) + (" (cut)" if any(not row["complete"] for row in rows) else "")
        peak = max((row.get("peak_mib") or 0 for row in rows), default=0) or "–"
        rates = (_spread(_rates(rows, name), digits) for name, digits in (("prefill", 0), ("decode", 1), ("output", 1)))
        lines.append(f"| {choice.engine} | {choice.format} | {runs} | {' | '.join(rates)} | {peak} |")
    return lines


def _best(groups, rate, side):
    """The choice with the highest median of `rate` among those that `side` accepts, and its runs."""
    medians = {c: median(_rates(rows, rate)) for c, rows in groups.items() if side(c) and _rates(rows, rate)}
    best = max(medians, key=medians.get, default=None)
    return best and (best, groups[best])


def _ratio(groups, rate, ours, theirs):
    """A line with the ratio of two best ones; repetitions that both have are compared pairwise for the spread."""
    own, peer = _best(groups, rate, ours), _best(groups, rate, theirs)
    if not own or not peer:
        return None
    mine, other = ({row["repetition"]: row.get(RATES[rate]) for row in rows} for _, rows in (own, peer))
    pairs = [mine[r] / other[r] for r in mine if mine[r] and other.get(r)]
    if not pairs:
        return None
    return f"| {own[0]} | {peer[0]} | {rate} | {_spread(pairs, 2)} |"


def _ratios(groups, workload):
    rates = [workload.headline] + (["output"] if workload.headline != "output" else [])
    is_ours, is_peer = (lambda c: c.engine == OURS), (lambda c: c.engine != OURS)
    lines = []
    for rate in rates:
        lines.append(("best", _ratio(groups, rate, is_ours, is_peer)))
        for bits, name in CLASSES.items():
            same = lambda side, bits=bits: lambda c: side(c) and c.bits == bits
            lines.append((name, _ratio(groups, rate, same(is_ours), same(is_peer))))
    rows = [f"| {name} {line}" for name, line in lines if line]
    if not rows:
        return []
    return ["", "| class | ours | best peer | rate | ratio |", "|---|---|---|---|---|", *rows]


def _limits(results):
    found = [row for row in results.rows if row["kind"] == "limits"]
    if not found:
        return ["The limits of the machine were not measured."]
    units = sorted({unit for row in found for unit in row["limits"].get("peak_gops", {})})
    lines = ["| when | read GB/s | " + " | ".join(f"{unit} Gop/s" for unit in units) + " |", "|---" * (len(units) + 2) + "|"]
    for row in found:
        peaks = (f"{row['limits'].get('peak_gops', {}).get(unit, 0):.0f}" for unit in units)
        lines.append(f"| {row['when']} {row['at'][11:16]} | {row['limits']['read_gbs']:.1f} | {' | '.join(peaks)} |")
    return lines


def _notes(results):
    known = (row for row in results.runs() if "version" in row)
    versions = sorted({(row["engine"], row["version"], row.get("settings", "")) for row in known})
    lines = [f"- {version}: {settings}" for _, version, settings in versions]
    disturbed = [row for row in results.runs() if row.get("other_cores", 0) > DISTURBED_CORES]
    lines.append(f"- {len(disturbed)} of {len(results.runs())} runs had more than {DISTURBED_CORES} cores of other work.")
    for row in results.runs():
        if "error" in row:
            lines.append(f"- failed: {row['engine']}:{row['format']} {row['workload']} {row['repetition']}: {row['error']}")
    return lines


def report(results, sizes):
    """All tables as one text."""
    starts = [row for row in results.rows if row["kind"] == "start"]
    what = f"{starts[-1]['model']}, {starts[-1]['threads']} threads" if starts else "results"
    lines = [f"## {what}", "", *_limits(results)]
    for workload in sizes.values():
        groups = _grouped(results, workload)
        if groups:
            lines += ["", f"### {workload.name}: {workload.describe()}", ""]
            lines += _table(groups, workload) + _ratios(groups, workload)
    return "\n".join([*lines, "", *_notes(results)])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("results", type=Path)
    p.add_argument("--quick", action="store_true", help="the file was written with --quick")
    options = p.parse_args()
    print(report(Results(options.results), workloads(options.quick)))


if __name__ == "__main__":
    main()
