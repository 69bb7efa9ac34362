#!/usr/bin/env python3
"""`pagoda pull`, `list` and a run by name against a hub on this machine that speaks as much of the protocol as a download needs.

    cargo build --features hub && python tests/hub/run.py target/debug/pagoda

Asks nothing of the network.
"""

import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import tempfile
import threading

FOLKTALE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../models/folktale")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


class Hub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    broken_off = False
    gets = []

    def do_HEAD(self):
        self.answer(send=False)

    def do_GET(self):
        type(self).gets.append(self.path)
        self.answer(send=True)

    def answer(self, send):
        api = re.fullmatch(r"/api/models/(\S+?)/(revision|tree)/([^?]+)(\?.*)?", self.path)
        file = re.fullmatch(r"/org/folktale/resolve/[^/]+/(.+)", self.path)
        if api and api[1] == "org/folktale" and api[2] == "revision":
            siblings = [{"rfilename": name} for name in FILES]
            self.json(200, {"id": "org/folktale", "_id": "1", "sha": COMMIT, "siblings": siblings}, send)
        elif api and api[1] == "org/folktale":
            tree = [{"type": "file", "oid": etag(name), "size": size(name), "path": name} for name in FILES]
            self.json(200, tree, send)
        elif api and api[1] == "org/gated":
            self.json(403, {"error": "Access to model org/gated is restricted"}, send, "GatedRepo")
        elif file and file[1] in FILES:
            self.file(file[1], send)
        else:
            self.json(404, {"error": "Repository not found"}, send, "RepoNotFound")

    def json(self, status, value, send, code=None):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        if code:
            self.send_header("x-error-code", code)
        self.end_headers()
        if send:
            self.wfile.write(body)

    def file(self, name, send):
        with open(os.path.join(FOLKTALE, name), "rb") as file:
            body = file.read()
        begin = int((self.headers.get("range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if begin else 200)
        self.send_header("etag", f'"{etag(name)}"')
        self.send_header("x-repo-commit", COMMIT)
        self.send_header("accept-ranges", "bytes")
        if begin:
            self.send_header("content-range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        self.send_header("content-length", str(len(body) - begin))
        self.end_headers()
        if send and name == "model.safetensors" and not Hub.broken_off:
            Hub.broken_off = True
            self.wfile.write(body[begin : len(body) // 2])
            self.close_connection = True
        elif send:
            self.wfile.write(body[begin:])

    def log_message(self, *_):
        pass


def etag(name):
    with open(os.path.join(FOLKTALE, name), "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def size(name):
    return os.path.getsize(os.path.join(FOLKTALE, name))


def main():
    binary = os.path.abspath(sys.argv[1])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "HF_HOME": home, "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "PAGODA_MODEL"):
            environment.pop(name, None)

        def pagoda(*arguments, code=0, **more):
            done = subprocess.run(
                [binary, *arguments], env={**environment, **more}, capture_output=True, text=True, timeout=300
            )
            assert done.returncode == code, f"{arguments}: {done.returncode}, {done.stderr}"
            return done

        assert "HF_HUB_OFFLINE" in pagoda("pull", "org/folktale", code=2, HF_HUB_OFFLINE="1").stderr
        assert "org/nothing" in pagoda("pull", "org/nothing", code=3).stderr
        assert "licence" in pagoda("pull", "org/gated", code=7).stderr
        first = subprocess.run(
            [binary, "pull", "org/folktale"], env=environment, capture_output=True, text=True, timeout=300
        )
        print("broken off:", first.returncode, first.stderr.strip().splitlines()[-1:])
        folder = pagoda("pull", "org/folktale").stdout.strip()
        assert folder.endswith(f"models--org--folktale/snapshots/{COMMIT}"), folder
        for name in FILES:
            assert os.path.getsize(os.path.join(folder, name)) == size(name), name
        before = len(Hub.gets)
        pagoda("pull", "org/folktale")
        assert not any("resolve" in path for path in Hub.gets[before:]), "what is there is downloaded again"
        assert "org/folktale" in pagoda("list").stdout and "LlamaForCausalLM" in pagoda("list").stdout
        ran = pagoda("run", "Once upon a time", "-m", "org/folktale", "-n", "8", "--seed", "1", HF_ENDPOINT="http://127.0.0.1:9")
        assert ran.stdout.strip(), ran.stderr
        assert "org/folktale" in pagoda("run", "x", "-m", "org/other", code=3).stderr
    print("hub: 1 passed, 0 failed")


if __name__ == "__main__":
    main()
