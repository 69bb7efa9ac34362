"""`vllm bench serve`: twenty calls at twenty a second on both routes, none failed."""

import json
import os
import subprocess
import sys
import tempfile

from server import FOLKTALE, KEY, Server, expect

PACKAGE = "vllm"
# Builds for a CPU are a distribution of another name, which the command line does not look for.
MAIN = """
import importlib.metadata as metadata, sys
version = metadata.version
names = {name.lower().replace("-", "_") for name in metadata.packages_distributions().get("vllm", ["vllm"])}
metadata.version = lambda name: version(sorted(names)[0] if name == "vllm" else name)
sys.argv[0] = "vllm"
from vllm.entrypoints.cli.main import main
main()
"""


def check(binary):
    for backend, route in (("openai", "/v1/completions"), ("openai-chat", "/v1/chat/completions")):
        with Server(binary) as server, tempfile.TemporaryDirectory() as folder:
            command = [
                *(sys.executable, "-c", MAIN, "bench", "serve", "--backend", backend, "--endpoint", route),
                *("--base-url", server.base, "--model", FOLKTALE, "--served-model-name", "default"),
                *("--dataset-name", "random", "--random-input-len", "24", "--random-output-len", "16"),
                *("--num-prompts", "20", "--request-rate", "20", "--header", f"x-api-key={KEY}"),
                *("--save-result", "--result-dir", folder, "--result-filename", "report.json"),
            ]
            environment = {**os.environ, "OPENAI_API_KEY": KEY, "HF_HUB_OFFLINE": "1"}
            subprocess.run(command, check=True, env=environment, timeout=300)
            with open(os.path.join(folder, "report.json"), encoding="utf-8") as file:
                report = json.load(file)
            expect(report["completed"] == 20 and report["total_output_tokens"] == 320, report)
