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

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = "model.safetensors"
FILES = ["config.json", "generation_config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json"]
BLOCKS = "tests/golden/gguf/q4_k.gguf"
PARTS = ["Q8_0/Tale-Q8_0-00001-of-00002.gguf", "Q8_0/Tale-Q8_0-00002-of-00002.gguf"]
# Files of each repository: path there, and where they are here.
REPOSITORIES = {
    "org/folktale": {name: f"models/folktale/{name}" for name in FILES}
    | {"consolidated.safetensors": "README.md", "onnx/config.json": "README.md"},
    "org/blocks": {"Tale-Q4_K_M.gguf": BLOCKS, "Tale-IQ2_XXS.gguf": "README.md", "mmproj-F16.gguf": "README.md"}
    | {PARTS[0]: "README.md", PARTS[1]: "ARCHITECTURE.md"},
    "org/odd": {"Tale-Q5_0.gguf": BLOCKS, "plain.gguf": BLOCKS},
    "org/pickled": {"config.json": "models/folktale/config.json", "pytorch_model.bin": "README.md"},
}


class Hub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A file whose answers end in the middle, and how many more of them do.
    ends_early = (None, 0)
    gets = []
    ranges = []

    def do_HEAD(self):
        self.answer(send=False)

    def do_GET(self):
        type(self).gets.append(self.path)
        self.answer(send=True)

    def answer(self, send):
        api = re.fullmatch(r"/api/models/(\S+?)/(revision|tree)/([^?]+)(\?.*)?", self.path)
        file = re.fullmatch(r"/(org/[^/]+)/resolve/[^/]+/(.+)", self.path)
        files = REPOSITORIES.get(api[1] if api else file and file[1], {})
        if files and api and api[2] == "revision":
            siblings = [{"rfilename": name} for name in files]
            self.json(200, {"id": api[1], "_id": "1", "sha": COMMIT, "siblings": siblings}, send)
        elif files and api:
            self.json(200, [entry(name, path) for name, path in files.items()], send)
        elif api and api[1] == "org/gated":
            self.json(403, {"error": "Access to model org/gated is restricted"}, send, "GatedRepo")
        elif file and file[2] in files:
            self.file(file[2], files[file[2]], send)
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

    def file(self, name, path, send):
        body = read(path)
        begin = int((self.headers.get("range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if begin else 200)
        self.send_header("etag", f'"{sha256(path)}"')
        self.send_header("x-repo-commit", COMMIT)
        self.send_header("accept-ranges", "bytes")
        if begin:
            self.send_header("content-range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        self.send_header("content-length", str(len(body) - begin))
        self.end_headers()
        if not send:
            return
        Hub.ranges.append((name, begin))
        early, left = Hub.ends_early
        if name == early and left > 0:
            Hub.ends_early = (early, left - 1)
            # The first ends in the middle, the others bring nothing.
            self.wfile.write(body[begin : len(body) // 2])
            self.close_connection = True
        else:
            self.wfile.write(body[begin:])

    def log_message(self, *_):
        pass


def read(path):
    with open(os.path.join(ROOT, path), "rb") as file:
        return file.read()


def sha256(path):
    return hashlib.sha256(read(path)).hexdigest()


def entry(name, path):
    """What a listing says: large files are stored apart, and the repository holds something small in their place."""
    large = not name.endswith(".json")
    oid = hashlib.sha1(name.encode()).hexdigest() if large else sha256(path)
    lfs = {"lfs": {"oid": sha256(path), "size": size(path), "pointerSize": 130}} if large else {}
    return {"type": "file", "oid": oid, "size": size(path), "path": name} | lfs


def size(path):
    return os.path.getsize(os.path.join(ROOT, path))


def folder_is_pulled(pagoda):
    """A folder, over a connection that breaks."""
    Hub.ends_early = (WEIGHTS, 6)
    broken = pagoda("pull", "org/folktale", code=7).stderr
    assert "What has come is kept" in broken, broken
    assert "was broken off; `pagoda pull org/folktale`" in pagoda("run", "x", "-m", "org/folktale", code=3).stderr
    Hub.ends_early = (WEIGHTS, 1)
    begun = len(Hub.ranges)
    folder = pagoda("pull", "org/folktale").stdout.strip()
    half = size("models/folktale/" + WEIGHTS) // 2
    resumed = [begin for name, begin in Hub.ranges[begun:] if name == WEIGHTS]
    assert set(resumed) == {half}, f"what had come is downloaded again: {resumed}"
    assert folder.endswith(f"models--org--folktale/snapshots/{COMMIT}"), folder
    assert sorted(os.listdir(folder)) == FILES, os.listdir(folder)
    for name in FILES:
        path = "models/folktale/" + name
        assert os.path.realpath(os.path.join(folder, name)).endswith(sha256(path)), "the name is the hash"
        with open(os.path.join(folder, name), "rb") as file:
            assert file.read() == read(path), name
    before = len(Hub.gets)
    pagoda("pull", "org/folktale")
    assert not any("resolve" in path for path in Hub.gets[before:]), "what is there is downloaded again"
    ran = pagoda("run", "Once upon a time", "-m", "org/folktale", "-n", "8", "--seed", "1", HF_ENDPOINT="http://127.0.0.1:9")
    assert ran.stdout.strip(), ran.stderr


def gguf_is_pulled(pagoda):
    """GGUF files by format, by name, and where no format is given."""
    path = pagoda("pull", "org/blocks").stdout.strip()
    assert path.endswith(f"{COMMIT}/Tale-Q4_K_M.gguf"), path
    for name in ("org/blocks", "org/blocks:q4_k_m", "org/blocks/Tale-Q4_K_M.gguf", "hf.co/org/blocks:Q4_K_M"):
        assert pagoda("run", "Hello", "-m", name, "-n", "2", HF_HUB_OFFLINE="1").stdout, name
    assert pagoda("run", "Hello", "-n", "2", PAGODA_MODEL="org/blocks:Q4_K_M").stdout
    assert "no Q8_0; add one of :Q4_K_M" in pagoda("run", "x", "-m", "org/blocks:Q8_0", code=3).stderr
    path = pagoda("pull", "org/blocks:q8_0").stdout.strip()
    assert path.endswith(PARTS[0]) and os.path.exists(path.replace("00001-of", "00002-of")), path
    missing = pagoda("pull", "org/blocks:Q6_K", code=3).stderr
    assert "no Q6_K; add one of :IQ2_XXS (" in missing and "pagoda pull org/blocks:Q8_0`" in missing, missing
    odd = pagoda("pull", "org/odd", code=3).stderr
    assert "neither Q4_K_M nor Q8_0; add one of :Q5_0 (" in odd and "/plain.gguf (" in odd, odd
    assert pagoda("pull", "org/odd/plain.gguf@main").stdout.strip().endswith("/plain.gguf")
    assert "only pickled weights (pytorch_model.bin)" in pagoda("pull", "org/pickled", code=3).stderr


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
        assert "OWNER/NAME:Q4_K_M" in pagoda("pull", "org/../etc", code=2).stderr
        folder_is_pulled(pagoda)
        gguf_is_pulled(pagoda)
        listed = pagoda("list").stdout
        for line in ("org/blocks:Q4_K_M", "org/blocks:Q8_0", "org/folktale", "org/odd/plain.gguf", "LlamaForCausalLM", "KiB"):
            assert line in listed, listed
        assert "org/folktale" in pagoda("run", "x", "-m", "org/other", code=3).stderr
    print("hub: 1 passed, 0 failed")


if __name__ == "__main__":
    main()
