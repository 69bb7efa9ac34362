"""`lm-eval`'s local-completions with the server's own tokenizer: its log-likelihoods against `pagoda eval ppl`, bit for bit."""

import json
import os
import subprocess

from server import KEY, Server, expect

PACKAGE = "lm_eval"
TEXTS = [
    "Once upon a time there was a little girl. " * 20,
    "The king said to his daughter, \"Go into the garden and bring me three white roses.\"\n\nShe went.",
    "été, naïve – 雪 🙂 and <|endoftext|> as a text",
]


def check(binary):
    from lm_eval.api.instance import Instance
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    def asked(kind, arguments):
        return [Instance(kind, {}, each, at) for at, each in enumerate(arguments)]

    os.environ["OPENAI_API_KEY"] = KEY
    with Server(binary) as server:
        model = LocalCompletionsAPI(
            base_url=server.base + "/v1/completions", model="default", tokenizer_backend="remote", auth_token=KEY,
            max_length=255, batch_size=3,
        )
        scores = model.loglikelihood_rolling(asked("loglikelihood_rolling", [(text,) for text in TEXTS]))
        endings = model.loglikelihood(asked("loglikelihood", [("Once upon", " a time"), ("Once upon", " xylophones")]))
        story = model.generate_until(asked("generate_until", [("Once upon a time", {"until": ["."]})]))
    for text, score in zip(TEXTS, scores):
        expect(score == own_score(binary, text), f"{score!r} is not {own_score(binary, text)!r} for {text!r}")
    (likely, greedy), (unlikely, _) = endings
    expect(greedy and likely > unlikely, endings)
    expect(story[0] and "." not in story[0], story)


def own_score(binary, text):
    command = [binary, "eval", "ppl", "-", "--max-model-len", "256", "--json"]
    answer = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    return json.loads(answer)["logprob"]
