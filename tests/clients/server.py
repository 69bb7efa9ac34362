"""A server with the embedded model, for the checks of this folder."""

import json
import os
import subprocess
import urllib.error
import urllib.request

KEY = "sk-of-the-tests"
FOLKTALE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../models/folktale")


class Server:
    """Runs `pagoda serve` on a free port for the length of a `with`."""

    def __init__(self, binary, *options):
        environment = {**os.environ, "PAGODA_API_KEY": KEY}
        command = [binary, "serve", "--port", "0", "--max-model-len", "256", *options]
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        line = self.process.stdout.readline()
        self.base = line.removeprefix("listening on ").strip().removesuffix("/v1")
        while self.status("/health") != 200:
            pass

    def status(self, path):
        try:
            return urllib.request.urlopen(self.base + path).status
        except urllib.error.HTTPError as error:
            return error.code

    def load(self):
        request = urllib.request.Request(self.base + "/load", headers={"x-api-key": KEY})
        return json.load(urllib.request.urlopen(request))

    def wait_until_idle(self):
        while self.load()["running"]:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        code = self.process.wait(timeout=60)
        assert code == 143, f"the server ended with {code}, not in order"


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


def refused(kind, call, **fields):
    """`call` has to raise `kind` with these attributes; the error is returned."""
    try:
        call()
    except kind as error:
        for name, value in fields.items():
            expect(getattr(error, name) == value, f"{name} is {getattr(error, name)!r} in {error}")
        return error
    raise AssertionError(f"{kind.__name__} was expected")
