"""The `openai` package of npm, in openai_node.mjs."""

import os
import subprocess

from server import KEY, Server

PACKAGE = "npm:openai"


def check(binary):
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "openai_node.mjs")
    with Server(binary, "--max-in-flight-per-key", "2") as server:
        modules = os.path.join(os.environ["CLIENTS_NPM"], "package.json")
        subprocess.run(["node", script, server.base, KEY, modules], check=True, timeout=120)
