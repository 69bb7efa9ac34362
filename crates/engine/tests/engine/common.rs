//! An engine whose steps the test lets through one by one.

use pagoda_engine::{Engine, EngineConfig, EngineHandle, GenerateParams, ServedModel, Session};
use pagoda_sched::fake::{FakeControl, FakeExecutor, FakeModel};
use pagoda_sched::{
    AdapterId, AdapterWeights, ExecError, Executor, KvCapacity, SchedulerConfig, StepInput, StepOutput,
    TokenId,
};
use pagoda_text::{Tokenizer, TokenizerFiles};
use serde_json::{Value, json};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

pub(crate) const CONTEXT: u32 = 256;
pub(crate) const VOCAB: u32 = 257;
/// The end-of-sequence token.
pub(crate) const EOS: TokenId = 256;
/// A step that has not begun by then never will.
const PATIENCE: Duration = Duration::from_secs(30);

static TOKENIZER: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| Arc::new(byte_tokenizer()));

/// One token per byte, and one special token that ends a text.
fn byte_tokenizer() -> Tokenizer {
    let vocab: serde_json::Map<String, Value> =
        (0..=255_u8).map(|byte| (byte_char(byte).to_string(), json!(byte))).collect();
    let file = json!({
        "version": "1.0",
        "added_tokens": [{
            "id": EOS, "content": "<|end|>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    });
    Tokenizer::from_files(&TokenizerFiles {
        origin: "byte tokenizer",
        tokenizer_json: file.to_string().as_bytes(),
        tokenizer_config: Some(br#"{"eos_token": "<|end|>"}"#),
        ..TokenizerFiles::default()
    })
    .expect("the tokenizer is well formed")
}

/// The letter that stands for a byte in byte-level vocabularies: itself if printable, else one from 256 on.
fn byte_char(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let rank = (0..byte).filter(|&before| !printable(before)).count() as u32;
    char::from_u32(256 + rank).expect("below the surrogates")
}

pub(crate) fn served_model() -> ServedModel {
    ServedModel::new("fake", Arc::clone(&TOKENIZER), CONTEXT)
}

pub(crate) fn bytes(text: &str) -> Vec<TokenId> {
    text.bytes().map(TokenId::from).collect()
}

/// Decodes a whole answer at once.
pub(crate) fn decode(tokens: &[TokenId]) -> String {
    TOKENIZER.decode(tokens, true)
}

pub(crate) fn prompt(text: &str) -> GenerateParams {
    GenerateParams { prompt_tokens: bytes(text), ignore_eos: true, ..GenerateParams::default() }
}

pub(crate) fn prompt_for(text: &str, max_tokens: u32) -> GenerateParams {
    GenerateParams { max_tokens: Some(max_tokens), ..prompt(text) }
}

/// Holds each step until the test lets it through.
#[derive(Debug)]
pub(crate) struct Gated {
    inner: FakeExecutor,
    started: Sender<()>,
    permits: Receiver<()>,
}

impl Executor for Gated {
    fn capacity(&self) -> KvCapacity {
        self.inner.capacity()
    }

    fn execute(&mut self, input: &StepInput, output: &mut StepOutput) -> Result<(), ExecError> {
        // When the test has dropped its end, steps run freely.
        let _ = self.started.send(());
        let _ = self.permits.recv();
        self.inner.execute(input, output)
    }

    fn attach(&mut self, id: AdapterId, adapter: AdapterWeights) -> Result<(), ExecError> {
        self.inner.attach(id, adapter)
    }

    fn detach(&mut self, id: AdapterId) -> Option<AdapterWeights> {
        self.inner.detach(id)
    }
}

/// The test's hold on the steps of an engine. Dropping it lets them run freely.
pub(crate) struct Gate {
    started: Receiver<()>,
    permits: Sender<()>,
}

impl Gate {
    /// Waits until a step has begun. It runs only when it is released.
    pub(crate) fn wait(&self) {
        self.started.recv_timeout(PATIENCE).expect("a step begins");
    }

    /// Lets the step that has begun run.
    pub(crate) fn release(&self) {
        self.permits.send(()).expect("the engine is there");
    }

    /// Lets `steps` steps run, each of which must begin.
    pub(crate) fn steps(&self, steps: u32) {
        for _ in 0..steps {
            self.wait();
            self.release();
        }
    }
}

/// What a test builds its engine from.
pub(crate) struct Setup {
    pub(crate) executor: FakeExecutor,
    pub(crate) model: ServedModel,
    pub(crate) config: EngineConfig,
}

impl Default for Setup {
    fn default() -> Self {
        Self::with_blocks(512)
    }
}

impl Setup {
    pub(crate) fn with_blocks(blocks: u32) -> Self {
        let config = EngineConfig {
            scheduler: SchedulerConfig {
                max_num_seqs: 32,
                max_num_batched_tokens: 128,
                ..SchedulerConfig::default()
            },
            ..EngineConfig::default()
        };
        let executor = FakeExecutor::new(FakeExecutor::capacity_of(blocks, 4, CONTEXT, VOCAB));
        Self { executor, model: served_model(), config }
    }

    pub(crate) fn saying(text: &str) -> Self {
        Self::default().script(bytes(text))
    }

    pub(crate) fn script(mut self, script: Vec<TokenId>) -> Self {
        self.executor = self.executor.with_script(script);
        self
    }

    pub(crate) fn start(self) -> Running {
        let (control, fake) = (self.executor.control(), self.executor.model().clone());
        let engine =
            Engine::start(Arc::new(self.model), self.executor, self.config).expect("the engine starts");
        Running { handle: engine.handle().clone(), engine, control, fake }
    }

    pub(crate) fn start_gated(self) -> (Running, Gate) {
        let (started, begun) = channel();
        let (permits, allowed) = channel();
        let (control, fake) = (self.executor.control(), self.executor.model().clone());
        let executor = Gated { inner: self.executor, started, permits: allowed };
        let engine = Engine::start(Arc::new(self.model), executor, self.config).expect("the engine starts");
        let running = Running { handle: engine.handle().clone(), engine, control, fake };
        (running, Gate { started: begun, permits })
    }
}

pub(crate) struct Running {
    pub(crate) handle: EngineHandle,
    pub(crate) engine: Engine,
    pub(crate) control: FakeControl,
    pub(crate) fake: FakeModel,
}

impl Running {
    pub(crate) fn sessions(&self, params: GenerateParams) -> Vec<Session> {
        let request = self.handle.model().validate(params).expect("the parameters are valid");
        self.handle.submit(request).expect("the engine accepts the request")
    }

    pub(crate) fn session(&self, params: GenerateParams) -> Session {
        let mut sessions = self.sessions(params);
        assert_eq!(sessions.len(), 1);
        sessions.remove(0)
    }

    /// Ends the engine in order and checks that nothing is left in it.
    pub(crate) fn finish(self) {
        self.handle.drain();
        self.engine.join().expect("the engine ends in order");
        let left = self.handle.snapshot();
        assert_eq!((left.running, left.waiting, left.waiting_tokens, left.used_blocks), (0, 0, 0, 0));
    }
}

/// Value of a series, by its name and a part of its labels.
pub(crate) fn metric(page: &str, name: &str, label: &str) -> f64 {
    let mut values = page.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (series_name, labels) = series.split_once('{')?;
        (series_name == name && labels.contains(label)).then(|| value.parse().expect("a number"))
    });
    let value = values.next().unwrap_or_else(|| panic!("no series {name} with {label} in\n{page}"));
    assert!(values.next().is_none(), "several series {name} with {label}");
    value
}
