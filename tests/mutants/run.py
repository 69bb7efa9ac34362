#!/usr/bin/env python3
"""Puts one fault after the other into a copy of the scheduler and asks whether a test fails.

    tests/mutants/run.py [NAME...]      all, or those whose names contain one of the words

Each fault is a replacement of text that has to be there exactly once, so that a fault that no longer fits its code is an error. Prints
which test killed which fault; exits with 1 if one survived. Takes about a minute for each on two cores.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCHED = "crates/sched/src/"

# Name, file, what is there, what is put in its place.
MUTANTS = [
    ("comparison-ignores-tokens-of-a-block", "pool/index.rs", "while block != NONE && tokens != *self.tokens(block) {", "while block != NONE && tokens.len() != self.tokens(block).len() {"),
    ("stale-content-not-dropped-on-eviction", "pool/alloc.rs", "            self.unpublish(block);\n", "            let _ = block;\n"),
    ("block-published-before-it-is-computed", "scheduler/commit.rs", "while (sequence.cache.published + 1) * size <= sequence.computed {", "while (sequence.cache.published + 1) * size <= sequence.total() {"),
    ("reference-not-counted-on-hit", "pool/prefix.rs", "            self.count_published(block.index());\n", "            let _ = block;\n"),
    ("double-free", "pool/alloc.rs", "        record.refs -= 1;\n", "        record.refs = record.refs.saturating_sub(2);\n"),
    ("request-not-forgotten-when-aborted-in-queue", "scheduler/ending.rs", "                    self.queue.remove(key);\n", "                    let _ = key;\n"),
    ("no-free-when-aborted-mid-prefill", "scheduler/ending.rs", "                self.pool.release_table(&mut sequence.table);\n", "                if sequence.output.is_empty() {\n                    std::mem::forget(std::mem::take(&mut sequence.table));\n                }\n                self.pool.release_table(&mut sequence.table);\n"),
    ("preempted-request-loses-generated-tokens", "sequence.rs", "        self.lost = self.computed;\n", "        self.lost = self.computed;\n        self.output.pop();\n"),
    ("resume-skips-the-watermark", "scheduler/admission.rs", "        if self.batch.is_empty() {\n            return 0;", "        if self.batch.is_empty() || sequence.preemptions > 0 {\n            return 0;"),
    ("deferred-cancellations-ignored", "scheduler/ending.rs", "        if self.step.in_flight {\n            return;", "        if self.step.in_flight {\n            self.deferred.clear();\n            return;"),
    ("ageing-term-zero", "queue/mod.rs", "saturating_add(raised);", "saturating_add(raised / 1_000_000);"),
    ("terminal-event-sent-twice", "scheduler/ending.rs", "        self.out.events.push(Effect::Finished { id: id.request, sample: id.sample, reason, stats });\n", "        self.out.events.push(Effect::Finished { id: id.request, sample: id.sample, reason: reason.clone(), stats });\n        self.out.events.push(Effect::Finished { id: id.request, sample: id.sample, reason, stats });\n"),
    ("terminal-event-missing-after-a-failed-step", "scheduler/ending.rs", "        self.out.events.push(Effect::Failed {", "        #[cfg(any())]\n        self.out.events.push(Effect::Failed {"),
    ("timeout-checked-only-while-queued", "scheduler/ending.rs", "        (limits.total, DeadlineKind::Total),\n", "        (limits.total.filter(|_| sequence.first_scheduled.is_never()), DeadlineKind::Total),\n"),
    ("samples-not-counted-at-admission", "scheduler/admission.rs", "        if self.batch.rows() + sequence.rows() > self.config.max_num_seqs {\n            return Err(Obstacle::Rows);", "        if self.batch.rows() + 1 > self.config.max_num_seqs {\n            return Err(Obstacle::Rows);"),
    ("salt-omitted-from-the-first-block", "pool/chain.rs", "Link::Root(salt.0)", "Link::Root(salt.0 & 0)"),
    ("nan-row-sampled", "scheduler/commit.rs", "            Err(fault) => return self.fail_row(key, fault, now),\n", "            Err(fault) if self.batch.at(key).output.len() > 1_000_000 => return self.fail_row(key, fault, now),\n            Err(_) => 0,\n"),
    ("tenants-not-charged", "queue/accounts.rs", "account.charged.saturating_add(service.saturating_mul(account.unit))", "account.charged.saturating_add(service.saturating_mul(0))"),
    ("returning-tenant-not-lifted", "queue/accounts.rs", "        account.charged = account.charged.max(level);\n", "        let _ = (account, level);\n"),
    ("head-passed-without-end", "scheduler/passing.rs", "!obstacle.is_room() || passes.by_fitting < MAX_PASSES", "!obstacle.is_room() || passes.by_fitting < u8::MAX"),
    ("cached-prompts-jump-without-end", "scheduler/passing.rs", "|| passed >= JUMPS ||", "|| passed == u8::MAX ||"),
    ("prefix-waited-for-without-end", "scheduler/passing.rs", "sequence.passes.held >= MAX_HELD", "sequence.passes.held == u8::MAX"),
    ("aged-class-has-no-turn", "queue/mod.rs", "let turn = self.classes[class.index()].passed >= TURNS;\n            waits", "let turn = self.classes[class.index()].passed > u32::MAX - 1;\n            waits"),
    ("third-prompt-opens", "scheduler/admission.rs", "(chunk < gap && self.open_prefills() >= OPEN_PREFILLS)", "(chunk < gap && self.open_prefills() > OPEN_PREFILLS)"),
    ("chunks-without-pace", "pace.rs", "            Some(target) if load.decodes > 0 =>", "            Some(target) if load.decodes > 1_000_000 =>"),
]  # fmt: skip


def mutate(tree, file, old, new):
    path = tree / SCHED / file
    text = path.read_text()
    if text.count(old) != 1:
        sys.exit(f"{file} has {text.count(old)} times, not once: {old!r}; adapt the fault to the code")
    path.write_text(text.replace(old, new))


def fails(tree, target):
    """The tests that fail, or None if all pass. A fault that does not compile is an error."""
    command = ["cargo", "test", "--offline", "--package", "pagoda-sched", "--no-fail-fast"]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target), "RUST_BACKTRACE": "0"}
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=900)
    except subprocess.TimeoutExpired:
        return ["(did not come to an end)"]
    if "error: could not compile" in done.stderr:
        sys.exit("\n".join(line for line in done.stderr.splitlines() if line.startswith(("error", "  -->"))))
    if done.returncode == 0:
        return None
    return re.findall(r"^test (\S+) .*\.\.\. FAILED", done.stdout, re.MULTILINE) or ["(the process ended)"]


def main():
    words = sys.argv[1:]
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant[0] for word in words)]
    work = ROOT / "target" / "mutants"
    survivors = []
    for name, file, old, new in chosen:
        tree = work / "tree"
        shutil.rmtree(tree, ignore_errors=True)
        ignore = shutil.ignore_patterns("target", ".git")
        shutil.copytree(ROOT, tree, ignore=ignore)
        mutate(tree, file, old, new)
        killers = fails(tree, work / "target")
        if killers is None:
            survivors.append(name)
        print(f"{name}: {'SURVIVED' if killers is None else ', '.join(killers[:3])}", flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} faults were found")
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
