"""The file of results: one JSON object a line, only ever appended to, so that a run can be cut off and taken up again."""

import json
import time
from pathlib import Path


class Results:
    """Records of kind "run" (with engine, format, workload, repetition), "limits" (before or after) and "start"."""

    def __init__(self, file):
        self.file = Path(file)
        self.rows = []
        if self.file.exists():
            self.rows = [json.loads(line) for line in self.file.read_text().splitlines() if line.strip()]

    def add(self, kind, **fields):
        """Writes a record at once."""
        row = {"kind": kind, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **fields}
        self.rows.append(row)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as out:
            out.write(json.dumps(row) + "\n")
        return row

    def runs(self):
        """All runs, failed ones too."""
        return [row for row in self.rows if row["kind"] == "run"]

    def find(self, choice, workload, repetition):
        """The run, if it was made and did not fail."""
        wanted = (choice.engine, choice.format, workload, repetition)
        done = (r for r in self.runs() if "error" not in r)
        found = (r for r in done if (r["engine"], r["format"], r["workload"], r["repetition"]) == wanted)
        return next(found, None)
