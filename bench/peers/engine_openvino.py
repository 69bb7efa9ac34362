"""OpenVINO GenAI's ContinuousBatchingPipeline (paged attention, dynamic split-fuse) on the folders of convert.sh."""

import numpy as np
import openvino as ov
import openvino_genai as genai

from harness import Outcome, serve

BATCHED_TOKENS = 2048
CACHE_GIB = 4
MOST_SEQUENCES = 256


class OpenVino:
    """A compiled pipeline. Prefix caching is off except for workloads with a shared prefix, where it costs nothing extra."""

    def __init__(self, options):
        self.folder = options.weights
        self.threads = options.threads
        self.vocabulary = options.vocabulary
        self.version = f"openvino {ov.get_version().split('-')[0]}, genai {genai.__version__.split('-')[0]}"
        self.settings = f"max_num_batched_tokens {BATCHED_TOKENS}, INFERENCE_PRECISION_HINT bf16, KV u8 (default)"
        self.caching, self.pipeline = None, None
        self._compile(caching=False)

    def _compile(self, caching):
        if self.caching == caching:
            return
        self.pipeline = None
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size = CACHE_GIB
        scheduler.max_num_batched_tokens = BATCHED_TOKENS
        scheduler.max_num_seqs = MOST_SEQUENCES
        scheduler.dynamic_split_fuse = True
        scheduler.enable_prefix_caching = caching
        properties = {
            "INFERENCE_PRECISION_HINT": "bf16",
            "INFERENCE_NUM_THREADS": self.threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.pipeline = genai.ContinuousBatchingPipeline(str(self.folder), scheduler, "CPU", properties)
        self.caching = caching

    def run(self, ids, workload, timer):
        """See `harness.serve`."""
        self._compile(caching=workload.shared > 0)
        config = genai.GenerationConfig()
        config.max_new_tokens = workload.output
        config.ignore_eos = True
        config.do_sample = False
        timer.restart()
        add = lambda i: self.pipeline.add_request(i, ov.Tensor(np.array([ids[i]], dtype=np.int64)), config)
        handles = [add(i) for i in range(len(ids))]
        waiting, tokens, first, early = set(range(len(ids))), 0, None, 0
        while self.pipeline.has_non_finished_requests() and not timer.expired(first):
            self.pipeline.step()
            for i, handle in enumerate(handles):
                while handle.can_read():
                    tokens += sum(len(o.generated_ids) for o in handle.read().values())
                    waiting.discard(i)
            if first is None and not waiting:
                first, early = timer.elapsed(), tokens
        wall = timer.elapsed()
        self._clear(handles)
        return Outcome(wall, first, tokens, early)

    def _clear(self, handles):
        """Ends what the time box cut off, so that the pipeline is empty for another run."""
        for handle in handles:
            handle.cancel()
        while self.pipeline.has_non_finished_requests():
            self.pipeline.step()


if __name__ == "__main__":
    serve(OpenVino, "openvino")
