//! Flags that users of vLLM and llama.cpp type, and what they mean here. Interface facts, in the order of those programs.

use super::Meaning::{Note, Refused, Same};
use super::{Foreign, Takes};

const fn flag(names: &'static [&'static str], meaning: super::Meaning) -> Foreign {
    Foreign { names, takes: Takes::Nothing, meaning }
}

const fn value(names: &'static [&'static str], meaning: super::Meaning) -> Foreign {
    Foreign { names, takes: Takes::Value, meaning }
}

const ALWAYS: super::Meaning = Note("it is always so here");
const NO_CODE: super::Meaning = Note("code of models is never run");
const PER_REQUEST: super::Meaning =
    Note("requests say it themselves; otherwise the model's generation_config.json does");
const ONE_MACHINE: super::Meaning =
    Refused("one process computes the whole model; run a server for each copy, with a proxy in front");
const PROXY: super::Meaning = Refused("put a proxy that speaks TLS in front");
const TEXT_ONLY: super::Meaning = Refused("only text is read and written here");
const NO_DRAFT: super::Meaning = Refused("tokens are drawn one by one; leave it out");
const NO_DOWNLOAD: super::Meaning =
    Refused("nothing is downloaded here; give the folder of a model as MODEL");

/// Every name that is taken over or explained.
pub(super) static TABLE: &[Foreign] = &[
    // What means the same.
    value(&["--ctx-size", "--max-seq-len", "--n-ctx", "-c"], Same("max-model-len")),
    value(&["--parallel", "--max-seqs", "-np"], Same("max-num-seqs")),
    value(&["--batch-size", "-b"], Same("max-num-batched-tokens")),
    value(&["--pa-block-size"], Same("block-size")),
    value(&["--kv-cache-memory-bytes"], Same("kv-cache-memory")),
    value(&["--gpu-memory-utilization", "--mem-fraction-static"], Same("memory-utilization")),
    value(&["--cache-type-k", "-ctk"], Same("kv-cache-dtype")),
    value(&["--quantization", "--quant", "--isq"], Same("quantize")),
    value(&["--chat-template-file"], Same("chat-template")),
    value(&["--lora-modules"], Same("lora")),
    value(&["--alias", "-a"], Same("served-model-name")),
    value(&["--allowed-origins"], Same("cors-origins")),
    value(&["--n-predict", "--predict"], Same("max-tokens")),
    value(&["--temp"], Same("temperature")),
    value(&["--repeat-penalty"], Same("repetition-penalty")),
    // What holds anyway.
    flag(&["--enable-prefix-caching", "--cache-prompt"], ALWAYS),
    flag(&["--enable-chunked-prefill", "--cont-batching", "-cb"], ALWAYS),
    flag(&["--enable-prompt-tokens-details", "--enable-force-include-usage"], ALWAYS),
    flag(&["--enable-request-id-headers", "--enable-tokenizer-info-endpoint"], ALWAYS),
    flag(&["--metrics", "--enable-metrics", "--props", "--slots", "--embedding", "--embeddings"], ALWAYS),
    flag(&["--enable-auto-tool-choice", "--jinja"], ALWAYS),
    value(
        &["--tool-call-parser", "--tool-parser-plugin"],
        Note("calls are found by the form that they have"),
    ),
    value(&["--reasoning-format", "--reasoning-parser"], Note("the chat template decides")),
    flag(&["--enable-lora"], Note("adapters are loaded where --lora or --max-loras says so")),
    value(&["--max-cpu-loras"], Note("adapters are in main memory, as many as --max-loras says")),
    flag(&["--enforce-eager"], Note("nothing is compiled at the start")),
    flag(&["--trust-remote-code"], NO_CODE),
    flag(&["--disable-log-requests", "--no-enable-log-requests"], Note("prompts are never logged")),
    flag(&["--disable-uvicorn-access-log"], Note("--log warn leaves out the lines of requests")),
    flag(&["--no-ui", "--no-webui"], Note("no page for conversations is served; pagoda chat holds one")),
    value(&["--flash-attn", "-fa"], Note("there is one kind of attention, and it is that")),
    flag(&["--mlock"], Note("weights are copied into memory of the process")),
    flag(&["--no-mmap"], Note("weights are copied into memory of the process")),
    value(&["--numa"], Note("start it under numactl instead")),
    value(&["--threads-batch", "-tb"], Note("the threads of --threads compute everything")),
    value(
        &["--threads-http", "--api-server-count"],
        Note("calls are answered by as many threads as there are processors"),
    ),
    value(&["--ubatch-size", "-ub"], Note("a step has as many tokens as --max-num-batched-tokens says")),
    value(&["--cache-type-v", "-ctv"], Note("keys and values have one type, --kv-cache-dtype")),
    value(&["--n-gpu-layers", "--gpu-layers", "-ngl"], Note("all layers are computed by the processor")),
    flag(&["--cpu"], Note("the processor is what computes")),
    value(
        &["--scheduling-policy"],
        Note("requests say their priority; equals go in the order of their arrival"),
    ),
    value(&["--swap-space", "--cpu-offload-gb"], Note("everything is in main memory")),
    value(&["--max-logprobs"], Note("a request can have up to 20")),
    value(&["--load-format"], Note("the folder says it")),
    value(&["--tokenizer-mode"], Note("the model's tokenizer.json is used")),
    value(&["--distributed-executor-backend"], Note("there is one process")),
    value(&["--seed"], Note("each request has a seed of its own")),
    value(
        &["--temperature", "--top-p", "--top-k", "--min-p", "--repetition-penalty", "--max-tokens"],
        PER_REQUEST,
    ),
    value(
        &["--timeout", "-to"],
        Note("--request-timeout, --first-token-timeout and --queue-timeout limit a request"),
    ),
    value(&["--verbosity", "--log-verbosity", "-lv"], Note("-v and -vv tell more, --log chooses")),
    // What is not offered, and what is instead.
    value(&["--tensor-parallel-size", "-tp", "--pipeline-parallel-size", "-pp"], ONE_MACHINE),
    value(&["--data-parallel-size", "-dp", "--nnodes", "--node-rank"], ONE_MACHINE),
    value(&["--pa-memory-mb"], Refused("give --kv-cache-memory with a unit, such as 4096MiB")),
    value(&["--num-gpu-blocks-override"], Refused("give --kv-cache-memory")),
    flag(
        &["--no-cont-batching", "-nocb", "--no-enable-chunked-prefill"],
        Refused("leave it out: `pagoda sim` shows what it would cost"),
    ),
    flag(&["--no-cache-prompt"], Refused("give --no-enable-prefix-caching")),
    value(&["--ssl-keyfile", "--ssl-certfile", "--ssl-key-file", "--ssl-cert-file"], PROXY),
    value(&["--root-path", "--api-prefix"], Refused("a proxy in front can add a prefix")),
    value(&["--mmproj", "--limit-mm-per-prompt", "-mm"], TEXT_ONLY),
    value(&["--speculative-config", "--model-draft", "-md", "--draft-max"], NO_DRAFT),
    flag(&["--reranking", "--rerank"], Refused("compare vectors of /v1/embeddings")),
    value(&["--hf-repo", "-hf", "-hfr", "--hf-file", "-hff", "--model-url", "-mu"], NO_DOWNLOAD),
    value(&["--download-dir", "--revision", "--hf-token", "-hft"], NO_DOWNLOAD),
    value(&["--tokenizer"], Refused("put tokenizer.json into the folder of the model")),
    value(
        &["--rope-scaling", "--rope-scale", "--rope-freq-base", "--hf-overrides"],
        Refused("change config.json"),
    ),
    value(
        &["--grammar", "--grammar-file", "--json-schema"],
        Refused("send it with the request as response_format"),
    ),
    value(
        &["--slot-save-path"],
        Refused("prefixes stay cached in memory; requests can hold them with cache_retention"),
    ),
    value(&["--log-file"], Refused("logs go to stderr: append 2> FILE")),
];
