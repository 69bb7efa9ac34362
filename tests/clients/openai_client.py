#!/usr/bin/env python3
"""Drives a running server with the official `openai` package.

    pip install openai
    python3 openai_client.py http://127.0.0.1:8000/v1

Prints one line per check and exits non-zero if one fails. Chat is skipped, with a line that says so, when the
model has no chat template.
"""

import sys
import threading

import openai

PROMPT = "Once upon a time"
MESSAGES = [{"role": "user", "content": "Tell me a very short story."}]


class Checks:
    """Runs checks by name and counts the failures."""

    def __init__(self):
        self.failed = 0

    def run(self, name, check):
        try:
            note = check()
        except Exception as error:  # a failed check must not hide the ones after it
            self.failed += 1
            print(f"FAIL  {name}: {type(error).__name__}: {error}")
        else:
            print(f"ok    {name}" + (f": {note}" if note else ""))


def expect(condition, message):
    if not condition:
        raise AssertionError(message)


def completion(client, **fields):
    fields = {"model": "default", "prompt": PROMPT, "max_tokens": 24, "temperature": 0, "seed": 1} | fields
    return client.completions.create(**fields)


def chat(client, **fields):
    fields = {"model": "default", "messages": MESSAGES, "max_tokens": 24, "temperature": 0, "seed": 1} | fields
    return client.chat.completions.create(**fields)


def check_models(client):
    models = client.models.list().data
    expect(models, "no models")
    expect(client.models.retrieve(models[0].id).id == models[0].id, "retrieve differs from list")
    return f"{models[0].id}, context {models[0].max_model_len}"


def check_completion(client):
    answer = completion(client)
    usage = answer.usage
    expect(answer.choices[0].finish_reason in ("stop", "length"), answer.choices[0].finish_reason)
    expect(usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage)
    return repr(answer.choices[0].text[:60])


def check_prompt_shapes(client):
    answer = completion(client, prompt=[PROMPT, "The king said"], n=2, temperature=0.8, max_tokens=4)
    expect([choice.index for choice in answer.choices] == [0, 1, 2, 3], answer.choices)
    expect(len(completion(client, prompt=[1, 2, 3], max_tokens=2).choices) == 1, "token ids")
    expect(len(completion(client, prompt=[[1, 2], [3]], max_tokens=2).choices) == 2, "lists of token ids")


def check_completion_stream(client):
    whole = completion(client)
    stream = completion(client, stream=True, stream_options={"include_usage": True})
    text, usage, finish = "", None, None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.text
            finish = choice.finish_reason or finish
    expect(text == whole.choices[0].text, f"stream {text!r} != {whole.choices[0].text!r}")
    expect(finish == whole.choices[0].finish_reason, finish)
    counts = lambda usage: (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
    expect(counts(usage) == counts(whole.usage), f"{usage} != {whole.usage}")


def check_completion_logprobs(client):
    logprobs = completion(client, logprobs=3, max_tokens=5).choices[0].logprobs
    expect(len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset), logprobs)
    for token, logprob, top in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs):
        expect(top[token] == logprob, f"{token!r}: {logprob} is not {top}")


def check_stop(client):
    whole = completion(client, max_tokens=40).choices[0].text
    stop = whole[len(whole) // 2 :][:3]
    expect(stop, "the answer is too short for this check")
    cut = completion(client, max_tokens=40, stop=[stop]).choices[0]
    expect(cut.text == whole[: whole.index(stop)], f"{cut.text!r} is not {whole!r} up to {stop!r}")
    expect(cut.finish_reason == "stop" and cut.stop_reason == stop, cut)


def check_chat(client):
    answer = chat(client)
    expect(answer.choices[0].message.role == "assistant", answer)
    return repr(answer.choices[0].message.content[:60])


def check_chat_stream(client):
    whole = chat(client)
    text, roles, usage = "", [], None
    for chunk in chat(client, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            roles += [choice.delta.role] if choice.delta.role else []
    expect(text == whole.choices[0].message.content, f"stream {text!r} != {whole.choices[0].message.content!r}")
    expect(roles == ["assistant"], roles)
    expect(usage.completion_tokens == whole.usage.completion_tokens, usage)


def check_chat_parts_and_logprobs(client):
    parts = [{"role": "user", "content": [{"type": "text", "text": MESSAGES[0]["content"]}]}]
    answer = chat(client, messages=parts, logprobs=True, top_logprobs=2, max_tokens=4)
    expect(answer.choices[0].message.content == chat(client, max_tokens=4).choices[0].message.content, "parts")
    for token in answer.choices[0].logprobs.content:
        expect(len(token.top_logprobs) == 2 and token.logprob <= 0, token)


def refusal(call, kind, param=None, code=None):
    """`call` must be refused with this error class, parameter and code."""

    def check():
        try:
            call()
        except kind as error:
            expect(param is None or error.param == param, f"param is {error.param!r}")
            expect(code is None or error.code == code, f"code is {error.code!r}")
            expect(error.response.headers.get("x-request-id"), "no x-request-id")
            return str(error)[:100]
        raise AssertionError("it was not refused")

    return check


def check_concurrent(client):
    texts = [None] * 8

    def one(at):
        texts[at] = completion(client).choices[0].text

    threads = [threading.Thread(target=one, args=[at]) for at in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect(len(set(texts)) == 1, f"answers differ with company: {set(texts)}")


def has_chat(client):
    try:
        chat(client, max_tokens=1)
    except openai.BadRequestError as error:
        print(f"skip  chat: {error.message}")
        return False
    return True


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0)
    checks = Checks()
    for name, check in [
        ("models", check_models),
        ("completion", check_completion),
        ("prompt shapes and n", check_prompt_shapes),
        ("completion stream equals whole", check_completion_stream),
        ("completion logprobs", check_completion_logprobs),
        ("stop string", check_stop),
        ("eight at once", check_concurrent),
    ]:
        checks.run(name, lambda check=check: check(client))
    if has_chat(client):
        checks.run("chat", lambda: check_chat(client))
        checks.run("chat stream equals whole", lambda: check_chat_stream(client))
        checks.run("chat parts and logprobs", lambda: check_chat_parts_and_logprobs(client))
        tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
        refused = refusal(lambda: chat(client, tools=tools), openai.BadRequestError, "tools", "unsupported_field")
        checks.run("tools are refused", refused)
    for name, fields, kind, param, code in [
        ("empty prompt", {"prompt": ""}, openai.BadRequestError, "prompt", "invalid_value"),
        ("max_tokens 0", {"max_tokens": 0}, openai.BadRequestError, "max_tokens", "invalid_value"),
        ("temperature -1", {"temperature": -1}, openai.BadRequestError, "temperature", "invalid_value"),
        ("token id out of range", {"prompt": [2**31]}, openai.BadRequestError, "prompt", "invalid_value"),
        ("prompt too long", {"prompt": [1] * 500_000}, openai.BadRequestError, "prompt", "context_length_exceeded"),
        ("unknown model", {"model": "no-such-model"}, openai.NotFoundError, "model", "model_not_found"),
    ]:
        checks.run(name, refusal(lambda fields=fields: completion(client, **fields), kind, param, code))
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    main()
