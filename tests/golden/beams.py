#!/usr/bin/env python3
"""What `generate` of Hugging Face transformers finds by beam search: writes `beams.json` beside `golden.json`.

Reads the models that make.py stored. Only searches whose outcome is the same in f32 and f64 are kept.
"""

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

MODELS = ["llama-gqa3-untied", "qwen3-sharded"]
TOKENS = 16
# (width, length penalty, early stopping, number of stop ids)
SEARCHES = [
    (2, 1.0, False, 0),
    (4, 1.0, False, 0),
    (2, 1.0, False, 2),
    (3, 1.0, False, 4),
    (4, 1.0, False, 6),
    (3, 0.0, False, 3),
    (4, 2.0, False, 4),
    (3, -0.5, False, 4),
    (2, 1.0, True, 3),
    (4, 0.7, True, 6),
    (3, 1.0, "never", 4),
    (4, 2.0, "never", 6),
]


def search(model, prompt, width, penalty, early_stopping, stop_ids):
    config = GenerationConfig(
        num_beams=width,
        num_return_sequences=width,
        max_new_tokens=TOKENS,
        do_sample=False,
        length_penalty=penalty,
        early_stopping=early_stopping,
        eos_token_id=stop_ids or None,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_scores=True,
    )
    model.generation_config = GenerationConfig()
    ids = torch.tensor([prompt])
    found = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    outputs = []
    for sequence, score in zip(found.sequences.tolist(), found.sequences_scores.tolist()):
        tokens = sequence[len(prompt) : len(prompt) + TOKENS]
        end = next((at + 1 for at, token in enumerate(tokens) if token in stop_ids), len(tokens))
        outputs.append((tokens[:end], score))
    return outputs


def stops(model, prompt, count):
    """Tokens that some beam has late, so that outputs end at different lengths."""
    late = [token for tokens, _ in search(model, prompt, 4, 1.0, False, []) for token in tokens[3:]]
    return sorted(dict.fromkeys(late[::-1]))[:count]


def cases(folder):
    models = [
        AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()
        for dtype in (torch.float32, torch.float64)
    ]
    found = []
    for case in json.loads((folder / "golden.json").read_text())["cases"]:
        for length in (len(case["prompt"]), len(case["prompt"]) // 2):
            prompt = case["prompt"][:length]
            for width, penalty, early_stopping, count in SEARCHES if prompt else []:
                stop_ids = stops(models[0], prompt, count)
                single, double = (
                    search(model, prompt, width, penalty, early_stopping, stop_ids) for model in models
                )
                if [tokens for tokens, _ in single] != [tokens for tokens, _ in double]:
                    continue
                found.append(
                    {
                        "prompt": prompt,
                        "width": width,
                        "length_penalty": penalty,
                        "early_stopping": early_stopping,
                        "stop_ids": stop_ids,
                        "outputs": [tokens for tokens, _ in double],
                        "scores": [round(score, 6) for _, score in double],
                    }
                )
    return found


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=Path(__file__).parent)
    folder = parser.parse_args().models
    torch.set_num_threads(1)
    for name in MODELS:
        found = cases(folder / name)
        lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in found)
        (folder / name / "beams.json").write_text(f'{{"max_tokens":{TOKENS},"cases":[\n{lines}\n]}}\n')
        ended = sum(len(tokens) < TOKENS for case in found for tokens in case["outputs"])
        print(f"{name}: {len(found)} searches, {ended} outputs that end early")


if __name__ == "__main__":
    main()
