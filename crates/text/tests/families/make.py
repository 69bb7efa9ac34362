"""Writes the tokenizer families of this folder, and the tokens and texts that `transformers` makes with them.

Needs the Python packages transformers 5, sentencepiece, protobuf: python make.py [NAME ...]

A family is what its model's folder has, with a small vocabulary in place of the real one: normalizer, cutting, model, decoder,
what is put around a text, added tokens and configuration are those of the models. Three vocabularies serve all: merges of bytes,
merges of SentencePiece, and pieces with probabilities. Merges of bytes were made across words on purpose, so that each difference
of cutting shows.
"""

import json
import os
import pathlib
import random
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"

import sentencepiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import SentencePieceExtractor
from tokenizers.models import BPE
from transformers.utils import logging

from texts import TEXTS, TRAINING

logging.set_verbosity_error()
HERE = pathlib.Path(__file__).parent
# Two of these spell an id.
DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def spelled(ids):
    assert all(id < len(DIGITS) ** 2 for id in ids)
    return "".join(DIGITS[id // 64] + DIGITS[id % 64] for id in ids)


# Vocabularies.


def byte_merges():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=1000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), max_token_length=10, show_progress=False
    )
    tokenizer.train_from_iterator(TRAINING, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    # Words that no merge makes: they are found by those alone who look for whole words first.
    whole = ["Ġgolden", "Ġforest", "ĠHTTP", "Ġreturn", "123", "ing"]
    merged = ["".join(merge.split(" ")) for merge in merges]
    tokens = list(dict.fromkeys(alphabet + merged + [word for word in whole if word not in merged]))
    return {"type": "BPE", "tokens": tokens, "merges": merges}


def pieces(kind):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "m")
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([line for line in TRAINING if "\n" not in line]), model_prefix=path, model_type=kind,
            vocab_size=900 if kind == "bpe" else 640, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
            split_digits=True, allow_whitespace_only_pieces=True, character_coverage=0.98, max_sentence_length=100000,
            minloglevel=2,
        )
        extracted = SentencePieceExtractor(path + ".model").extract(BPE if kind == "bpe" else models.Unigram)
        model = pathlib.Path(path + ".model").read_bytes()
    if kind == "unigram":
        return {"type": "Unigram", "tokens": [[token, round(score, 4)] for token, score in extracted["vocab"]]}, model
    vocab = sorted(extracted["vocab"].items(), key=lambda item: item[1])
    merges = [" ".join(merge) for merge in extracted["merges"]]
    # Without the three tokens in front, which families name as they like.
    return {"type": "BPE", "tokens": [token for token, _ in vocab][3:], "merges": merges}, model


# Parts of tokenizer.json.


def split(pattern, behavior="Isolated"):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": False}


def byte_level(regex=True, trim=True, prefix=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": trim, "use_regex": regex}


def digits(single=True):
    return {"type": "Digits", "individual_digits": single}


def cut(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


PUNCTUATION = {"type": "Punctuation", "behavior": "Contiguous"}
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s"
    r"|%s| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN = CASED % ("", "", r"\p{N}")
O200K = CASED % ("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "(?i:'s|'t|'re|'ve|'m|'ll|'d)?", r"\p{N}{1,3}")
NFC = {"type": "NFC"}
SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
PREFIXED = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, SPACES]}
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
PIECES = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
STRIPPED = {"type": "Sequence", "decoders": [*PIECES, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
UNSTRIPPED = {"type": "Sequence", "decoders": PIECES}


def around(before=(), after=()):
    """A post-processor: tokens and their ids before and after a text."""
    place = lambda name, type_id: {"SpecialToken": {"id": name, "type_id": type_id}}
    text = lambda name, type_id: {"Sequence": {"id": name, "type_id": type_id}}
    one = lambda name, type_id: [*(place(b, type_id) for b, _ in before), text(name, type_id), *(place(a, type_id) for a, _ in after)]
    return {
        "type": "TemplateProcessing",
        "single": one("A", 0),
        "pair": one("A", 0) + one("B", 1),
        "special_tokens": {name: {"id": name, "ids": [id], "tokens": [name]} for name, id in (*before, *after)},
    }


def steps(*processors):
    return {"type": "Sequence", "processors": list(processors)}


class Family:
    """Files of a model's folder, with the vocabulary named."""

    def __init__(self, name, models, model_type, base, front=(), **parts):
        self.name, self.models, self.model_type, self.base = name, models, model_type, base
        self.front = list(front)
        size = len(self.front) + len(BASES[base]["tokens"])
        self.next = size
        self.added = []
        self.json = {"normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None, **parts}
        self.files = {}

    def add(self, flags, *tokens, at=None):
        """Added tokens of one kind: s special, l and r strip what is before and behind, n normalized, w whole words.

        Those of the vocabulary keep their ids, others follow it."""
        for token in tokens:
            if at is not None:
                id, at = at, at + 1
            elif token in self.front:
                id = self.front.index(token)
            elif token in (tokens_of := [t if isinstance(t, str) else t[0] for t in BASES[self.base]["tokens"]]):
                id = len(self.front) + tokens_of.index(token)
            else:
                id, self.next = self.next, self.next + 1
            self.added.append([id, flags, token])
        return self

    def id(self, token):
        return next(id for id, _, text in self.added if text == token)

    def config(self, **entries):
        self.files["tokenizer_config.json"] = entries
        return self

    def file(self, name, content):
        self.files[name] = content
        return self

    def tokenizer(self):
        """What tokenizer.json says."""
        base = BASES[self.base]
        model = dict(self.json["model"])
        if base["type"] == "Unigram":
            model["vocab"] = [[token, 0.0] for token in self.front] + base["tokens"]
        else:
            model["vocab"] = {token: id for id, token in enumerate([*self.front, *base["tokens"]])}
            model["merges"] = base["merges"]
        flag = lambda flags, letter: letter in flags
        added = [
            {"id": id, "content": text, "single_word": flag(f, "w"), "lstrip": flag(f, "l"), "rstrip": flag(f, "r"),
             "normalized": flag(f, "n"), "special": flag(f, "s")}
            for id, f, text in sorted(self.added)
        ]
        return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, **self.json, "model": model}

    def write_folder(self, folder):
        dump = lambda name, value: (folder / name).write_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        dump("tokenizer.json", self.tokenizer())
        dump("config.json", {"model_type": self.model_type})
        for name, content in self.files.items():
            dump(name, content)


BPE_BYTES = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False}
GPT2_BYTES = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": False}
BPE_PIECES = {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True}
BYTES_BACK = byte_level(prefix=True)
LLAMA = ["<unk>", "<s>", "</s>"]
from families import families  # noqa: E402  (it needs the parts above)


def sequences(tokenizer, size, count):
    """Ids as a model might give them: any, bytes of split letters, special ones."""
    rng = random.Random(7)
    bytes_of = [tokenizer.convert_tokens_to_ids(f"<0x{byte:02X}>") for byte in range(256)]
    has_bytes = None not in bytes_of and len(set(bytes_of)) == 256
    specials = tokenizer.all_special_ids
    for number in range(count):
        ids = []
        for _ in range(rng.randrange(1, 12)):
            kind = rng.randrange(4)
            if kind == 0 and has_bytes:
                ids += [bytes_of[byte] for byte in rng.choice("é国😀ก\u0301").encode()]
            elif kind == 1 and specials:
                ids.append(rng.choice(specials))
            else:
                ids.append(rng.randrange(size))
        yield ids


def is_defined(tokenizer, ids):
    """Whether the bytes of the text are letters: where they are not, the library marks every byte of a run, even those of letters."""
    pieces = [tokenizer.convert_ids_to_tokens(id) or "" for id in ids]
    run, spoiled = b"", False
    for piece in [*pieces, ""]:
        if len(piece) == 6 and piece.startswith("<0x"):
            run += bytes([int(piece[3:5], 16)])
            continue
        try:
            run.decode()
        except UnicodeDecodeError:
            spoiled = True
        run = b""
    return not spoiled


def without_special(tokenizer, ids):
    """The text without special tokens, which the library leaves in when the normalizer changes their own texts."""
    return tokenizer.decode([id for id in ids if id not in tokenizer.all_special_ids], skip_special_tokens=True)


def answers(family):
    with tempfile.TemporaryDirectory() as path:
        folder = pathlib.Path(path)
        family.write_folder(folder)
        auto = AutoTokenizer.from_pretrained(path)
        plain = PreTrainedTokenizerFast.from_pretrained(path)
    # Classes of transformers 5 make a pipeline of their own for some models; the file, which the models come with, decides.
    differ = [t for t in TEXTS if auto.encode(t) != plain.encode(t) or auto.encode(t, add_special_tokens=False) != plain.encode(t, add_special_tokens=False)]
    tokenizer = plain if family.name in FILE_DECIDES else auto
    bare = [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS]
    full = [tokenizer.encode(text) for text in TEXTS]
    empty = tokenizer.encode("")
    before = next(n for n in range(len(empty) + 1) if all(f == empty[:n] + b + empty[n:] for f, b in zip(full, bare)))
    decoded = {}
    for index, (text, ids) in enumerate(zip(TEXTS, bare)):
        for skip in (False, True):
            back = without_special(tokenizer, ids) if skip else tokenizer.decode(ids)
            if back != text:
                decoded.setdefault(index, [None, None])[skip] = back
    random_ids = [ids for ids in sequences(tokenizer, len(tokenizer), 60) if is_defined(tokenizer, ids)][:40]
    stored = {
        "models": family.models,
        "model_type": family.model_type,
        "base": family.base,
        "front": family.front,
        "added": [[id, flags, text] for id, flags, text in sorted(family.added)],
        "json": family.json,
        "files": family.files,
        "around": [empty[:before], empty[before:]],
        "eos": tokenizer.eos_token_id,
        "special": sorted(set(tokenizer.all_special_ids) | {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}),
        "tokens": [spelled(ids) for ids in bare],
        "decoded": [[index, *pair] for index, pair in decoded.items()],
        "sequences": [[spelled(ids), tokenizer.decode(ids), without_special(tokenizer, ids)] for ids in random_ids],
    }
    path = HERE / f"{family.name}.json"
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}" for key, value in stored.items())
    path.write_text("{" + lines + "}\n", encoding="utf-8")
    note = f"; the class differs from the file for {len(differ)} texts" if differ else ""
    print(f"{family.name}: {type(auto).__name__}, {len(tokenizer)} tokens, {path.stat().st_size} bytes{note}")


# Families for which transformers 5 has a class with a pipeline of its own, which lacks the cutting of numbers or the normalizer of
# the file, or puts a space in front where SentencePiece, with which the models were trained, does not.
FILE_DECIDES = {"llama2", "llama2-normalized", "yi", "smollm2", "starcoder2", "exaone"}

BASES = {}


def compare_with_sentencepiece(model):
    """The file of Llama 2 against the library with which Llama 2 was trained."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    family = next(family for family in families(globals()) if family.name == "llama2")
    with tempfile.TemporaryDirectory() as path:
        family.write_folder(pathlib.Path(path))
        plain, auto = PreTrainedTokenizerFast.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    texts = [text for text in TEXTS if text and "\0" not in text and not any(token in text for token in LLAMA)]
    wrong = lambda tokenizer: sum(tokenizer.encode(text, add_special_tokens=False) != processor.encode(text) for text in texts)
    print(f"of {len(texts)} texts, other tokens than SentencePiece has: the file {wrong(plain)}, the class {wrong(auto)}")
    assert wrong(plain) == 0


def main():
    unigram, _ = pieces("unigram")
    spm, model = pieces("bpe")
    BASES.update(bytes=byte_merges(), pieces=spm, unigram=unigram)
    dump = lambda name, value: (HERE / name).write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    dump("vocabularies.json", BASES)
    dump("texts.json", TEXTS)
    (HERE / "pieces.model").write_bytes(model)
    compare_with_sentencepiece(model)
    for family in families(globals()):
        if not sys.argv[1:] or family.name in sys.argv[1:]:
            answers(family)


if __name__ == "__main__":
    main()
