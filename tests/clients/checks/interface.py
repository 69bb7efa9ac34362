"""`schemathesis` on /openapi.json: nothing that fits or does not fit the interface gets a 5xx or an undocumented answer."""

import os
import subprocess
import sys
import tempfile

from server import KEY, Server

PACKAGE = "schemathesis"
CHECKS = "not_a_server_error,response_schema_conformance,status_code_conformance,content_type_conformance"
# A request may set a deadline that passes, which 504 tells.
CONFIG = '[checks]\nnot_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "504"]\n'


def check(binary):
    with Server(binary, "--any-model-name") as server, tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "schemathesis.toml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(CONFIG)
        command = [
            os.path.join(os.path.dirname(sys.executable), "schemathesis"),
            *("--config-file", config, "run", server.base + "/openapi.json"),
            *("--header", f"x-api-key: {KEY}", "--checks", CHECKS),
            *("--max-examples", os.environ["CLIENTS_EXAMPLES"]),
            *("--phases", "examples,coverage,fuzzing", "--generation-allow-x00", "true", "--mode", "all"),
            *("--request-timeout", "60", "--seed", "1"),
        ]
        subprocess.run(command, check=True, cwd=folder)
