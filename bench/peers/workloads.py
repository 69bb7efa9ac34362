"""What every engine is asked to do: names, sizes and random prompts."""

import random
from dataclasses import dataclass, replace

# Ids below are often special or single bytes; ids above may be special.
LOWEST_TOKEN = 300
HIGHEST_TOKEN = 120_000
RESERVED_AT_TOP = 200


@dataclass(frozen=True)
class Workload:
    """`sequences` requests that arrive at once, each of `shared + unique` prompt tokens and `output` generated ones."""

    name: str
    sequences: int
    shared: int
    unique: int
    output: int
    headline: str  # the rate by which engines are compared: decode, prefill or output (end to end)

    @property
    def prompt(self):
        """Prompt tokens of one sequence."""
        return self.shared + self.unique

    @property
    def prompt_tokens(self):
        """Prompt tokens of all sequences."""
        return self.sequences * self.prompt

    @property
    def output_tokens(self):
        """Generated tokens of all sequences."""
        return self.sequences * self.output

    def describe(self):
        """The sizes in words, for a heading."""
        shared = f", {self.shared} of them shared" if self.shared else ""
        return f"{self.sequences} x ({self.prompt} prompt{shared} + {self.output} output)"


FULL = [
    Workload("decode1", 1, 0, 128, 128, "decode"),
    Workload("decode8", 8, 0, 128, 128, "decode"),
    Workload("decode32", 32, 0, 128, 128, "decode"),
    Workload("decode64", 64, 0, 128, 128, "decode"),
    Workload("prefill", 8, 0, 1024, 16, "prefill"),
    Workload("prefix", 32, 1024, 32, 32, "output"),
]


def _quick(workload):
    """The same shape of work at a size that proves that an engine runs."""
    return replace(
        workload,
        sequences=min(workload.sequences, 4),
        shared=min(workload.shared, 64),
        unique=min(workload.unique, 32),
        output=min(workload.output, 8),
    )


def workloads(quick=False):
    """Name to workload."""
    return {w.name: _quick(w) if quick else w for w in FULL}


def prompts(workload, repetition, vocabulary):
    """Other random ids for each workload and repetition, so that no prefix cache carries over. [sequences][prompt]"""
    rng = random.Random(f"{workload.name}/{repetition}")
    top = min(HIGHEST_TOKEN, vocabulary - RESERVED_AT_TOP)
    ids = lambda count: [rng.randrange(LOWEST_TOKEN, top) for _ in range(count)]
    shared = ids(workload.shared)
    return [shared + ids(workload.unique) for _ in range(workload.sequences)]
