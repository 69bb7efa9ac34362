"""Which engines there are, in which formats, how each is started, and what is missing here."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from formats import FORMATS, path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
OURS = "pagoda"
TCMALLOC = "libtcmalloc_minimal.so.4"
# Holds keys and values of the largest workload; the pool is resident from the start.
VLLM_POOL_GIB = 2


def home():
    """Where setup.sh installs: $PAGODA_PEERS, or a folder under the build folder."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    return Path(os.environ.get("PAGODA_PEERS", target / "peers")).resolve()


def cores():
    """One logical CPU of each physical core that this process may use."""
    seen = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            core = tuple((topology / f).read_text().strip() for f in ("physical_package_id", "core_id"))
        except OSError:
            core = cpu
        seen.setdefault(core, cpu)
    return list(seen.values())


@dataclass(frozen=True)
class Choice:
    """One engine in one weight format."""

    engine: str
    format: str

    def __str__(self):
        return f"{self.engine}:{self.format}"

    @property
    def ours(self):
        """Whether this is pagoda itself."""
        return self.engine == OURS

    @property
    def bits(self):
        """The class of weights it is compared in: 4, 8 or 16 bits."""
        return FORMATS[self.engine][self.format].bits

    @property
    def resident(self):
        """Whether one process serves all runs, because it takes long to start."""
        return self.engine == "vllm"

    def python(self):
        """The interpreter of its virtual environment."""
        return home() / "venv" / self.engine / "bin" / "python"

    def command(self, model, threads):
        """The command line of a peer's process."""
        script = HERE / f"engine_{self.engine}.py"
        return [str(self.python()), str(script), "--model", str(model), "--format", self.format, "--threads", str(threads)]

    def files(self, model):
        """What must exist for the model: the folder, or what convert.sh made of it."""
        return path(self.engine, self.format, model)

    def environment(self, threads):
        """Variables that its manual asks for, beside those of this process."""
        variables = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        if self.engine == "vllm":
            variables |= vllm_environment(threads)
        return variables

    def missing(self, model):
        """Why it cannot run here, or None."""
        if not self.ours and not self.python().exists():
            return f"not installed; run {HERE.name}/setup.sh {self.engine}"
        if not self.files(model).exists():
            return f"{self.files(model).name} is not there; run {HERE.name}/convert.sh {model.name}"
        return None


def vllm_environment(threads):
    """tcmalloc and Intel's OpenMP preloaded, as the manual of vLLM asks for the CPU; threads bound to cores."""
    variables = {
        "VLLM_CPU_KVCACHE_SPACE": str(VLLM_POOL_GIB),
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores()[:threads])),
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CACHE_ROOT": str(home() / "cache" / "vllm"),
        "TORCHINDUCTOR_CACHE_DIR": str(home() / "cache" / "torchinductor"),
    }
    openmp = home() / "venv" / "vllm" / "lib" / "libiomp5.so"
    found = [str(p) for p in (_tcmalloc(), openmp) if p and Path(p).exists()]
    return variables | ({"LD_PRELOAD": ":".join(found)} if found else {})


def _tcmalloc():
    local = home() / "lib" / TCMALLOC
    if local.exists():
        return local
    try:
        lines = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return None
    return next((line.split("=> ")[1] for line in lines if TCMALLOC in line), None)


def choices(engines=None, formats=None):
    """All choices, or those whose engine and format are named. A format may be written `engine:format` too."""
    every = [Choice(e, f) for e in FORMATS for f in FORMATS[e]]
    if engines:
        every = [c for c in every if c.engine in engines]
    if formats:
        every = [c for c in every if c.format in formats or str(c) in formats]
    return every
