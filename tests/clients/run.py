#!/usr/bin/env python3
"""Clients of others against a server of ours, with the embedded model.

    python tests/clients/run.py target/release/pagoda [--only openai_python] [--examples 300]
    python tests/clients/run.py target/release/pagoda --install target/clients

Each file in checks/ drives one client. One that is not installed is skipped and named; `--install` makes a folder with what
requirements.txt and package.json name, and runs in it. Models and data sets are not downloaded.
"""

import argparse
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CHECKS = [
    "openai_python", "openai_npm", "openai_responses", "anthropic_python", "lm_eval_scores", "interface", "guidellm_run",
    "vllm_bench",
]


def install(folder):
    """Installs the clients into `folder`. False, with the reason told, where a package cannot be had."""
    python = os.path.join(folder, "bin", "python")
    steps = [
        [sys.executable, "-m", "venv", folder],
        [python, "-m", "pip", "install", "--quiet", "--requirement", os.path.join(HERE, "requirements.txt")],
    ]
    for command in steps:
        if subprocess.run(command).returncode != 0:
            print(f"clients: skipped, {' '.join(command)} failed")
            return False
    if shutil.which("npm"):
        shutil.copy(os.path.join(HERE, "package.json"), folder)
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--prefix", folder])
    return True


def installed(package):
    if package.startswith("npm:"):
        folder = os.environ.get("CLIENTS_NPM", "")
        return os.path.isdir(os.path.join(folder, "node_modules", package.removeprefix("npm:")))
    return importlib.util.find_spec(package) is not None


def run(names, binary):
    passed = skipped = 0
    for name in names:
        package = package_of(name)
        if not installed(package):
            print(f"{name}: skipped, {package} is not installed")
            skipped += 1
            continue
        begun = time.monotonic()
        importlib.import_module(f"checks.{name}").check(binary)
        print(f"{name}: passed, {time.monotonic() - begun:.0f} s", flush=True)
        passed += 1
    print(f"clients: {passed} passed, 0 failed, {skipped} skipped")


def package_of(name):
    """The line `PACKAGE = "…"` of a check, which cannot be imported where the package is missing."""
    with open(os.path.join(HERE, "checks", name + ".py"), encoding="utf-8") as file:
        line = next(line for line in file if line.startswith("PACKAGE = "))
    return line.split('"')[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--only", action="append", choices=CHECKS, help="one of the checks; may be repeated")
    parser.add_argument("--examples", type=int, default=300, help="per operation of the interface")
    parser.add_argument("--install", metavar="FOLDER", help="install the clients there first")
    arguments = parser.parse_args()
    binary = os.path.abspath(arguments.binary)
    names = arguments.only or CHECKS
    if arguments.install:
        folder = os.path.abspath(arguments.install)
        if not install(folder):
            return
        command = [os.path.join(folder, "bin", "python"), __file__, binary, "--examples", str(arguments.examples)]
        for name in names:
            command += ["--only", name]
        sys.exit(subprocess.run(command, env={**os.environ, "CLIENTS_NPM": folder}).returncode)
    os.environ["CLIENTS_EXAMPLES"] = str(arguments.examples)
    run(names, binary)


if __name__ == "__main__":
    main()
