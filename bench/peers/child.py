"""A peer's process, seen from outside: started, asked, paused between its turns, measured, ended."""

import json
import os
import queue
import signal
import subprocess
import threading
import time
from pathlib import Path

from harness import LAST_BOX, MARK

TICKS = os.sysconf("SC_CLK_TCK")
# How long a process may take to end by itself after its input ended.
FAREWELL_S = 10


class Failed(Exception):
    """A process that ended, hung or answered with an error; the text says which."""


def machine_seconds():
    """CPU seconds used by everybody, and taken by the hypervisor, since the machine started."""
    v = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (v[0] + v[1] + v[2] + v[5] + v[6]) / TICKS, v[7] / TICKS


def process_seconds(pid):
    """CPU seconds of a process with its ended children."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(int(x) for x in fields[11:15]) / TICKS


class NotStarted(Failed):
    """A process that did not come to its first answer."""


class Shares:
    """How many cores a process, all others and the hypervisor took between two moments."""

    def __init__(self, pid):
        self.pid = pid
        self.before = self._now()

    def _now(self):
        return (time.monotonic(), process_seconds(self.pid), *machine_seconds())

    def take(self):
        """The shares since the start, in cores."""
        wall, own, all_, steal = (b - a for a, b in zip(self.before, self._now()))
        wall = max(wall, 1e-3)
        names = {"own_cores": own, "other_cores": max(all_ - own, 0), "steal_cores": steal}
        return {k: round(v / wall, 2) for k, v in names.items()}


class Child:
    """A running engine of a `Choice`. `log` takes all that it prints."""

    def __init__(self, choice, model, threads, log, start_limit):
        self.log = log
        self.process = subprocess.Popen(
            choice.command(model, threads),
            env=choice.environment(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        self.answers = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.about = self._answer(start_limit)
        except BaseException as failure:
            self.end()
            if isinstance(failure, Failed):
                raise NotStarted(f"not started: {failure}") from None
            raise

    def _read(self):
        for line in self.process.stdout:
            if line.startswith(MARK):
                self.answers.put(json.loads(line[len(MARK) :]))
            else:
                self.log.write(line)
        self.answers.put({"error": "the process ended"})

    def _answer(self, limit):
        try:
            answer = self.answers.get(timeout=limit)
        except queue.Empty:
            raise Failed(f"no answer in {limit:.0f} s") from None
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def run(self, workload, repetition, limit):
        """One workload; the record of harness.py with the shares of the CPU."""
        request = {"workload": vars(workload), "repetition": repetition, "limit_s": limit}
        shares = Shares(self.process.pid)
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except OSError:
            raise Failed("the process ended") from None
        return self._answer(LAST_BOX * limit) | shares.take()

    def signal(self, number):
        """To the whole process group."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def pause(self):
        """Stops all its threads, also those that would spin."""
        self.signal(signal.SIGSTOP)

    def resume(self):
        """Undoes `pause`."""
        self.signal(signal.SIGCONT)

    def end(self):
        """Lets it end, or ends it; one that has not answered yet is not waited for."""
        self.resume()
        try:
            self.process.stdin.close()
            self.process.wait(FAREWELL_S if hasattr(self, "about") else 0)
        except (OSError, subprocess.TimeoutExpired):
            pass
        self.signal(signal.SIGKILL)
        self.process.wait()
