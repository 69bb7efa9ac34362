"""`guidellm`: four streams at once on both routes, twenty calls each, none failed."""

import json
import os
import subprocess
import sys
import tempfile

from server import FOLKTALE, KEY, Server, expect

PACKAGE = "guidellm"


def check(binary):
    guidellm = os.path.join(os.path.dirname(sys.executable), "guidellm")
    for route in ("/v1/completions", "/v1/chat/completions"):
        with Server(binary) as server, tempfile.TemporaryDirectory() as folder:
            report = os.path.join(folder, "report.json")
            backend = f"kind=openai_http,target={server.base},api_key={KEY},model=default,request_format={route}"
            command = [
                *(guidellm, "run", "--backend", backend, "--profile", "kind=concurrent,streams=4"),
                *("--constraint", "kind=max_requests,count=20", "--constraint", "kind=max_duration,seconds=60"),
                *("--tokenizer", f"kind=huggingface_auto,model={FOLKTALE}"),
                *("--data", "kind=synthetic_text,prompt_tokens=24,output_tokens=16"),
                *("--output", f"kind=json,path={report}", "--disable-console"),
            ]
            subprocess.run(command, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}, timeout=300)
            with open(report, encoding="utf-8") as file:
                totals = json.load(file)["benchmarks"][0]["metrics"]["request_totals"]
            expect(totals["successful"] == 20 and totals["errored"] == 0, totals)
