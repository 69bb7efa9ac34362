"""The `openai` package: every shape of call, streams against whole answers, retries, refusals."""

import threading

import openai

from server import KEY, Server, expect, refused

PACKAGE = "openai"
PROMPT = "Once upon a time"
MESSAGES = [{"role": "user", "content": PROMPT}]
LONG = {"prompt": "Once", "max_tokens": 200, "stream": True, "extra_body": {"ignore_eos": True}}


def check(binary):
    with Server(binary, "--max-in-flight-per-key", "8") as server:
        client = openai.OpenAI(base_url=server.base + "/v1", api_key=KEY, max_retries=0)
        models(client)
        prompts(client)
        for create, fields in (
            (client.completions.create, {"prompt": PROMPT}),
            (client.chat.completions.create, {"messages": MESSAGES}),
        ):
            stream_equals_whole(create, fields)
        logprobs(client)
        stop(client)
        structured(client)
        embeddings(client)
        in_company(client)
        vanish(client, server)
        refusals(client, server)
        retries(client)


def ask(create, **fields):
    return create(**({"model": "default", "max_tokens": 24, "temperature": 0, "seed": 1} | fields))


def models(client):
    first = client.models.list().data[0]
    expect(client.models.retrieve(first.id).id == first.id, "retrieve differs from list")
    expect(first.max_model_len == 256, first)


def prompts(client):
    answer = ask(client.completions.create, prompt=["Once", "There was"], n=2, temperature=0.8, max_tokens=4)
    expect([choice.index for choice in answer.choices] == [0, 1, 2, 3], answer.choices)
    expect(len(ask(client.completions.create, prompt=[1, 2, 3], max_tokens=2).choices) == 1, "token ids")
    expect(len(ask(client.completions.create, prompt=[[1, 2], [3]], max_tokens=2).choices) == 2, "lists of ids")
    parts = [{"role": "user", "content": [{"type": "text", "text": PROMPT}]}]
    chats = [ask(client.chat.completions.create, messages=messages) for messages in (MESSAGES, parts)]
    expect(chats[0].choices == chats[1].choices, "parts differ from a string")
    expect(chats[0]._request_id, "x-request-id is not read into the answer")


def stream_equals_whole(create, fields):
    whole = ask(create, **fields)
    text, finish, roles = "", None, []
    for chunk in ask(create, stream=True, stream_options={"include_usage": True}, **fields):
        for choice in chunk.choices:
            delta = getattr(choice, "delta", None)
            text += (delta.content or "") if delta else choice.text
            roles += [delta.role] if delta and delta.role else []
            finish = choice.finish_reason or finish
    choice = whole.choices[0]
    expected = choice.message.content if hasattr(choice, "message") else choice.text
    expect(text == expected, f"stream {text!r}, whole {expected!r}")
    expect(finish == choice.finish_reason, finish)
    expect(chunk.usage.to_dict() == whole.usage.to_dict(), f"{chunk.usage} is not {whole.usage}")
    expect(roles == (["assistant"] if hasattr(choice, "message") else []), roles)


def logprobs(client):
    found = ask(client.completions.create, prompt=PROMPT, logprobs=3, max_tokens=5).choices[0].logprobs
    expect(len(found.tokens) == len(found.token_logprobs) == len(found.text_offset) == 5, found)
    for token, logprob, top in zip(found.tokens, found.token_logprobs, found.top_logprobs):
        expect(top[token] == logprob, f"{token!r}: {logprob} is not in {top}")
    chat = ask(client.chat.completions.create, messages=MESSAGES, logprobs=True, top_logprobs=2, max_tokens=4)
    for token in chat.choices[0].logprobs.content:
        expect(len(token.top_logprobs) == 2 and token.logprob <= 0, token)


def stop(client):
    whole = ask(client.completions.create, prompt=PROMPT, max_tokens=40).choices[0].text
    word = whole[len(whole) // 2 :][:3]
    cut = ask(client.completions.create, prompt=PROMPT, max_tokens=40, stop=[word]).choices[0]
    expect(cut.text == whole[: whole.index(word)], f"{cut.text!r} is not {whole!r} up to {word!r}")
    expect((cut.finish_reason, cut.stop_reason) == ("stop", word), cut)


def structured(client):
    schema = {"type": "object", "properties": {"good": {"type": "boolean"}}, "required": ["good"]}
    format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    answer = ask(client.chat.completions.create, messages=MESSAGES, response_format=format, max_tokens=100)
    expect(answer.choices[0].message.content.startswith("{"), answer)
    tool = {"type": "function", "function": {"name": "look", "parameters": schema}}
    answer = ask(
        client.chat.completions.create, messages=MESSAGES, tools=[tool], tool_choice="required", max_tokens=150
    )
    if answer.choices[0].finish_reason == "tool_calls":
        expect(answer.choices[0].message.tool_calls[0].function.name == "look", answer)


def embeddings(client):
    answer = client.embeddings.create(model="default", input=["Once", "upon a time"])
    expect([len(item.embedding) for item in answer.data] == [len(answer.data[0].embedding)] * 2, answer.usage)


def in_company(client):
    texts = [None] * 8

    def one(at):
        texts[at] = ask(client.completions.create, prompt=PROMPT).choices[0].text

    threads = [threading.Thread(target=one, args=[at]) for at in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect(len(set(texts)) == 1 and texts[0], f"answers differ with company: {set(texts)}")


def vanish(client, server):
    stream = ask(client.completions.create, **LONG)
    next(iter(stream))
    stream.close()
    server.wait_until_idle()


def refusals(client, server):
    wrong = openai.OpenAI(base_url=server.base + "/v1", api_key="sk-other", max_retries=0)
    refused(openai.AuthenticationError, wrong.models.list)
    for fields, kind, param, code in [
        ({"prompt": ""}, openai.BadRequestError, "prompt", "invalid_value"),
        ({"temperature": -1}, openai.BadRequestError, "temperature", "invalid_value"),
        ({"n": 99}, openai.BadRequestError, "n", "invalid_value"),
        ({"prompt": [2**31]}, openai.BadRequestError, "prompt", "invalid_value"),
        ({"prompt": [1] * 500_000}, openai.BadRequestError, "prompt", "context_length_exceeded"),
        ({"model": "no-such-model"}, openai.NotFoundError, "model", "model_not_found"),
    ]:
        fields = {"prompt": PROMPT} | fields
        error = refused(
            kind, lambda fields=fields: ask(client.completions.create, **fields), param=param, code=code
        )
        expect(error.response.headers.get("x-request-id"), "a refusal has no x-request-id")


def retries(client):
    """Eight streams are all that the key may have; a further call is sent again until one of them ends."""
    running = [ask(client.completions.create, **LONG) for _ in range(8)]
    refused(openai.RateLimitError, lambda: ask(client.completions.create, prompt=PROMPT, max_tokens=1))
    for stream in running:
        stream.close()
    ask(client.with_options(max_retries=5).completions.create, prompt=PROMPT, max_tokens=1)
