#!/usr/bin/env python3
"""Traces of a server's calls, as a collector on this machine receives them.

    cargo build --features otlp && python tests/traces/run.py target/debug/pagoda
"""

import http.server
import json
import os
import subprocess
import sys
import threading
import urllib.request

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector(http.server.BaseHTTPRequestHandler):
    received = b""
    paths = set()

    def do_POST(self):
        Collector.received += self.rfile.read(int(self.headers["content-length"]))
        Collector.paths.add(self.path)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    binary = os.path.abspath(sys.argv[1])
    collector = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    environment = {
        **os.environ,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
        "OTEL_SERVICE_NAME": "story-teller",
    }
    server = subprocess.Popen([binary, "serve", "--port", "0"], env=environment, stdout=subprocess.PIPE, text=True)
    base = server.stdout.readline().split()[-1].removesuffix("/v1")
    while True:
        try:
            urllib.request.urlopen(base + "/health")
            break
        except urllib.error.HTTPError:
            pass
    body = json.dumps({"messages": [{"role": "user", "content": "Once upon a secret"}], "max_tokens": 9}).encode()
    headers = {"content-type": "application/json", "traceparent": f"00-{TRACE}-{PARENT}-01"}
    urllib.request.urlopen(urllib.request.Request(base + "/v1/chat/completions", body, headers)).read()
    server.terminate()
    server.wait(timeout=60)
    collector.shutdown()
    assert Collector.paths == {"/v1/traces"}, Collector.paths
    for part in (
        b"story-teller", b"chat folktale", b"queue", b"prefill", b"decode", b"gen_ai.usage.output_tokens",
        b"gen_ai.operation.name", b"gen_ai.response.id", bytes.fromhex(TRACE), bytes.fromhex(PARENT),
    ):
        assert part in Collector.received, f"{part!r} is not in {Collector.received!r}"
    assert b"secret" not in Collector.received and b"/health" not in Collector.received
    print("traces: 1 passed, 0 failed")


if __name__ == "__main__":
    main()
