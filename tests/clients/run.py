#!/usr/bin/env python3
"""Clients of others against a server of ours: the `openai` package, and `schemathesis` on /openapi.json.

    python tests/clients/run.py target/release/pagoda [--examples 300]

Needs both packages (pip install openai schemathesis); what is missing is skipped and named. Downloads nothing.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

KEY = "sk-of-the-tests"
CHECKS = "not_a_server_error,response_schema_conformance,status_code_conformance,content_type_conformance"
# A request may set a deadline that passes, which 504 tells.
SCHEMATHESIS = '[checks]\nnot_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "504"]\n'


class Server:
    """A server with the embedded model on a free port."""

    def __init__(self, binary, *options):
        environment = {**os.environ, "PAGODA_API_KEY": KEY}
        command = [binary, "serve", "--port", "0", "--max-model-len", "256", *options]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.base = line.removeprefix("listening on ").strip().removesuffix("/v1")
        while self.get("/health") != 200:
            pass

    def get(self, path):
        try:
            return urllib.request.urlopen(self.base + path).status
        except urllib.error.HTTPError as error:
            return error.code

    def load(self):
        request = urllib.request.Request(self.base + "/load", headers={"x-api-key": KEY})
        return json.load(urllib.request.urlopen(request))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        code = self.process.wait(timeout=60)
        assert code == 0, f"the server ended with {code}"


def check_openai(binary):
    import openai

    with Server(binary, "--max-in-flight-per-key", "2") as server:
        client = openai.OpenAI(base_url=server.base + "/v1", api_key=KEY)
        messages = [{"role": "user", "content": "Once upon a time"}]

        model = client.models.list().data[0].id
        chat = client.chat.completions.create(model=model, messages=messages, max_tokens=8, seed=1, logprobs=True)
        assert chat.usage.completion_tokens <= 8 and chat.choices[0].finish_reason in ("stop", "length")
        assert chat._request_id, "x-request-id is read into the answer"

        options = {"include_usage": True}
        common = {"model": model, "messages": messages, "max_tokens": 8, "seed": 1}
        chunks = list(client.chat.completions.create(stream=True, stream_options=options, **common))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == chat.choices[0].message.content
        assert chunks[-1].usage.completion_tokens == chat.usage.completion_tokens

        whole = client.completions.create(model="default", prompt=["Once", "There was"], max_tokens=4, n=2)
        assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]

        stream = client.completions.create(
            model=model, prompt="Once", max_tokens=200, stream=True, extra_body={"ignore_eos": True}
        )
        next(iter(stream))
        stream.close()
        while server.load()["running"]:
            pass

        # Two streams are all that the key may have; the third call is sent again until one of them ends.
        running = [
            client.completions.create(
                model=model, prompt="Once", max_tokens=200, stream=True, extra_body={"ignore_eos": True}
            )
            for _ in range(2)
        ]
        refused = client.with_options(max_retries=0)
        expect(openai.RateLimitError, lambda: refused.completions.create(model=model, prompt="x", max_tokens=1))
        for stream in running:
            stream.close()
        client.with_options(max_retries=5).completions.create(model=model, prompt="x", max_tokens=1)

        wrong = openai.OpenAI(base_url=server.base + "/v1", api_key="sk-other")
        expect(openai.AuthenticationError, lambda: wrong.models.list())
        expect(openai.NotFoundError, lambda: client.completions.create(model="gpt-9", prompt="x"))
        error = expect(openai.BadRequestError, lambda: client.completions.create(model=model, prompt="x", n=99))
        assert error.param == "n" and error.code == "invalid_value", error


def expect(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was expected")


def check_schemathesis(binary, examples):
    with Server(binary, "--any-model-name") as server, tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "schemathesis.toml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(SCHEMATHESIS)
        command = [
            os.path.join(os.path.dirname(sys.executable), "schemathesis"),
            *("--config-file", config, "run", server.base + "/openapi.json"),
            *("--header", f"x-api-key: {KEY}", "--checks", CHECKS, "--max-examples", str(examples)),
            *("--phases", "examples,coverage,fuzzing", "--generation-allow-x00", "true", "--mode", "all"),
            *("--request-timeout", "60", "--seed", "1"),
        ]
        subprocess.run(command, check=True, cwd=folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--examples", type=int, default=300, help="per operation of the interface")
    arguments = parser.parse_args()
    binary = os.path.abspath(arguments.binary)
    for name, check in [
        ("openai", lambda: check_openai(binary)),
        ("schemathesis", lambda: check_schemathesis(binary, arguments.examples)),
    ]:
        if importlib.util.find_spec(name) is None:
            print(f"{name}: skipped, it is not installed")
            continue
        check()
        print(f"{name}: passed")


if __name__ == "__main__":
    main()
