"""transformers' own continuous batching (`generate_batch`, paged attention) on the CPU in bf16. It tells no time of a first
token and cannot be stopped between steps."""

import torch
import transformers

from harness import Outcome, serve

PAGE = 256
SPARE_PAGES = 4
BATCHED_TOKENS = 2048


class Transformers:
    """A loaded model."""

    def __init__(self, options):
        torch.set_num_threads(options.threads)
        loaded = transformers.AutoModelForCausalLM.from_pretrained(
            options.model, dtype=torch.bfloat16, attn_implementation="sdpa"
        )
        self.model = loaded.eval()
        self.vocabulary = options.vocabulary
        self.version = f"transformers {transformers.__version__}, torch {torch.__version__}"
        self.settings = f"generate_batch, sdpa, max_batch_tokens {BATCHED_TOKENS}"

    def run(self, ids, workload, timer):
        """See `harness.serve`."""
        config = transformers.GenerationConfig(
            max_new_tokens=workload.output, do_sample=False, eos_token_id=-1, pad_token_id=0
        )
        # By default it takes nine tenths of the free memory for its cache and spends seconds on that in every call.
        pages = len(ids) * -(-(workload.prompt + workload.output) // PAGE) + SPARE_PAGES
        batching = transformers.ContinuousBatchingConfig(
            page_size=PAGE, num_blocks=pages, max_batch_tokens=BATCHED_TOKENS, use_cuda_graph=False
        )
        timer.restart()
        # inference_mode() makes the background thread of generate_batch fail.
        with torch.no_grad():
            answers = self.model.generate_batch(inputs=ids, generation_config=config, continuous_batching_config=batching)
        tokens = sum(len(a.generated_tokens) for a in answers.values())
        if not tokens:
            raise RuntimeError("every request failed")
        return Outcome(timer.elapsed(), None, tokens)


if __name__ == "__main__":
    serve(Transformers, "transformers")
