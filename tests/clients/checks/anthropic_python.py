"""The `anthropic` package: a message whole and in a stream, calls of functions, a count of tokens, refusals."""

import anthropic

from server import KEY, Server, expect, refused

PACKAGE = "anthropic"
MESSAGES = [{"role": "user", "content": "Once upon a time"}]
GREEDY = {"temperature": 0}
TOOL = {"name": "look", "input_schema": {"type": "object", "properties": {"n": {"const": 7}}, "required": ["n"],
                                         "additionalProperties": False}}


def check(binary):
    with Server(binary) as server:
        client = anthropic.Anthropic(base_url=server.base, api_key=KEY, max_retries=0)
        whole = ask(client)
        expect(whole.content[0].text and whole.stop_reason == "max_tokens", whole)
        expect(whole.usage.output_tokens == 24 and whole._request_id, whole)
        streamed(client, whole)
        stop(client, whole.content[0].text)
        calls(client)
        count = client.messages.count_tokens(model="default", messages=MESSAGES).input_tokens
        usage = whole.usage
        expect(count == usage.input_tokens + usage.cache_read_input_tokens, (count, usage))
        refusals(client, server)
        server.wait_until_idle()


def ask(client, **fields):
    fixed = {"model": "default", "max_tokens": 24, "messages": MESSAGES, "extra_body": GREEDY}
    return client.messages.create(**(fixed | fields))


def streamed(client, whole):
    with client.messages.stream(model="default", max_tokens=24, messages=MESSAGES, extra_body=GREEDY) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    expect(text == whole.content[0].text, (text, whole))
    expect(final.content[0].text == text and final.stop_reason == whole.stop_reason, final)
    expect(final.usage.output_tokens == whole.usage.output_tokens, final.usage)


def stop(client, text):
    word = text.split()[2]
    answer = ask(client, stop_sequences=[word])
    expect(answer.stop_reason == "stop_sequence" and answer.stop_sequence == word, answer)
    expect(text.startswith(answer.content[0].text), answer)


def calls(client):
    fields = {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "look"}, "max_tokens": 60}
    block = ask(client, **fields).content[0]
    expect(block.type == "tool_use" and block.input == {"n": 7}, block)
    with client.messages.stream(model="default", messages=MESSAGES, **fields) as stream:
        expect(stream.get_final_message().content[0].input == {"n": 7}, "a call in a stream")


def refusals(client, server):
    error = refused(anthropic.BadRequestError, lambda: ask(client, max_tokens=0), status_code=400)
    expect(error.body["error"]["type"] == "invalid_request_error" and error.request_id, error.body)
    refused(anthropic.NotFoundError, lambda: ask(client, model="claude-9"), status_code=404)
    stranger = anthropic.Anthropic(base_url=server.base, api_key="none", max_retries=0)
    refused(anthropic.AuthenticationError, lambda: ask(stranger), status_code=401)
