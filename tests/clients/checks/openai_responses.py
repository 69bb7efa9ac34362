"""Responses with the `openai` package: whole and in a stream, calls of functions, a schema, refusals."""

import json

import openai

from server import KEY, Server, expect, refused

PACKAGE = "openai"
INPUT = [{"role": "user", "content": "Once upon a time"}]
SCHEMA = {"type": "object", "properties": {"n": {"const": 7}}, "required": ["n"], "additionalProperties": False}


def check(binary):
    with Server(binary) as server:
        client = openai.OpenAI(base_url=server.base + "/v1", api_key=KEY, max_retries=0)
        whole = ask(client)
        expect(whole.output_text and whole.status == "incomplete", whole)
        expect(whole.incomplete_details.reason == "max_output_tokens", whole)
        expect(whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens, whole.usage)
        streamed(client, whole)
        formed = ask(client, text={"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}, max_output_tokens=60)
        expect(json.loads(formed.output_text) == {"n": 7} and formed.status == "completed", formed)
        calls(client)
        refused(openai.BadRequestError, lambda: ask(client, previous_response_id="resp_1"), param="previous_response_id")
        server.wait_until_idle()


def ask(client, **fields):
    fixed = {"model": "default", "max_output_tokens": 24, "temperature": 0, "input": INPUT, "extra_body": {"seed": 1}}
    return client.responses.create(**(fixed | fields))


def streamed(client, whole):
    with client.responses.stream(model="default", max_output_tokens=24, temperature=0, input=INPUT,
                                 extra_body={"seed": 1}) as stream:
        events = list(stream)
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    expect(text == whole.output_text, (text, whole.output_text))
    numbers = [event.sequence_number for event in events if hasattr(event, "sequence_number")]
    expect(numbers == sorted(set(numbers)), numbers)
    expect(events[-1].type == "response.incomplete" and events[-1].response.output_text == text, events[-1])


def calls(client):
    tool = {"type": "function", "name": "look", "parameters": SCHEMA, "strict": True}
    fields = {"tools": [tool], "tool_choice": {"type": "function", "name": "look"}, "max_output_tokens": 60}
    call = ask(client, **fields).output[0]
    expect(call.type == "function_call" and json.loads(call.arguments) == {"n": 7}, call)
    with client.responses.stream(model="default", input=INPUT, temperature=0, **fields) as stream:
        expect(stream.get_final_response().output[0].arguments == call.arguments, "a call in a stream")
