"""llama.cpp through the low-level interface of llama-cpp-python, driven as its own llama-batched-bench does: prompts packed
into batches of BATCH tokens, then one batch of N tokens per step, each sequence with a KV stream of its own. Greedy choice
is made here with numpy. A shared prefix is computed once and copied to the other sequences, which the caller has to do:
llama.cpp itself shares nothing between simultaneous requests."""

import numpy as np
import llama_cpp as llama

from harness import Outcome, serve

BATCH = 2048
MICRO_BATCH = 512
ERROR_LEVEL = 4


@llama.llama_log_callback
def _errors_only(level, text, _data):
    if level >= ERROR_LEVEL:
        print(text.decode(errors="replace"), end="", flush=True)


class LlamaCpp:
    """A loaded GGUF file."""

    def __init__(self, options):
        llama.llama_log_set(_errors_only, None)
        llama.llama_backend_init()
        parameters = llama.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self.model = llama.llama_model_load_from_file(str(options.weights).encode(), parameters)
        if not self.model:
            raise SystemExit(f"{options.weights}: not loaded")
        self.threads = options.threads
        self.vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))
        self.version = f"llama-cpp-python {llama.__version__}"
        self.settings = f"n_batch {BATCH}, n_ubatch {MICRO_BATCH}; {llama.llama_print_system_info().decode()}"

    def _context(self, sequences, length):
        p = llama.llama_context_default_params()
        p.n_seq_max = sequences
        p.n_ctx = (length + 255) // 256 * 256 * sequences
        p.n_batch, p.n_ubatch = BATCH, MICRO_BATCH
        p.n_threads = p.n_threads_batch = self.threads
        p.no_perf = True
        context = llama.llama_init_from_model(self.model, p)
        if not context:
            raise RuntimeError("no context")
        return context

    def run(self, ids, workload, timer):
        """See `harness.serve`."""
        context = self._context(len(ids), workload.prompt + workload.output)
        batch = llama.llama_batch_init(max(BATCH, len(ids)), 0, 1)
        timer.restart()  # a server has its context before the requests come
        try:
            return _Run(context, batch, self.vocabulary, timer).whole(ids, workload)
        finally:
            llama.llama_batch_free(batch)
            llama.llama_free(context)


class _Run:
    """One workload in one context."""

    def __init__(self, context, batch, vocabulary, timer):
        self.context, self.batch, self.vocabulary, self.timer = context, batch, vocabulary, timer

    def whole(self, ids, workload):
        self._share(ids, workload.shared)
        last, done = self._prompts(ids, workload.shared)
        if len(last) < len(ids):
            return Outcome(self.timer.elapsed(), None, len(last), done)
        first, tokens = self.timer.elapsed(), len(ids)
        for position in range(workload.prompt, workload.prompt + workload.output - 1):
            if self.timer.expired(first):
                break
            self._decode([(last[s], position, s, True) for s in range(len(ids))])
            last = {s: self._greedy(s) for s in range(len(ids))}
            tokens += len(ids)
        return Outcome(self.timer.elapsed(), first, tokens, early=len(ids))

    def _share(self, ids, shared):
        for start in range(0, shared, BATCH):
            end = min(shared, start + BATCH)
            self._decode([(ids[0][p], p, 0, False) for p in range(start, end)])
        memory = llama.llama_get_memory(self.context)
        for sequence in range(1, len(ids) if shared else 1):
            llama.llama_memory_seq_cp(memory, 0, sequence, -1, -1)

    def _prompts(self, ids, shared):
        """Sequence to its first token, as far as the time box let it come, and the prompt tokens computed."""
        rows = [(p[i], i, s, i + 1 == len(p)) for s, p in enumerate(ids) for i in range(shared, len(p))]
        last, done = {}, shared * len(ids)
        for start in range(0, len(rows), BATCH):
            if self.timer.expired():
                break
            part = rows[start : start + BATCH]
            self._decode(part)
            last |= {s: self._greedy(i) for i, (_, _, s, wanted) in enumerate(part) if wanted}
            done += len(part)
        return last, done

    def _decode(self, rows):
        """rows: token, position, sequence, whether logits are wanted."""
        b = self.batch
        for i, (token, position, sequence, wanted) in enumerate(rows):
            b.token[i], b.pos[i], b.logits[i] = token, position, wanted
            b.n_seq_id[i], b.seq_id[i][0] = 1, sequence
        b.n_tokens = len(rows)
        if llama.llama_decode(self.context, b) != 0:
            raise RuntimeError("llama_decode failed")

    def _greedy(self, row):
        logits = llama.llama_get_logits_ith(self.context, row)
        return int(np.ctypeslib.as_array(logits, shape=(self.vocabulary,)).argmax())


if __name__ == "__main__":
    serve(LlamaCpp, "llamacpp")
