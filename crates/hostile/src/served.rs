//! A server without a socket: its routes over a fake model with the tokenizer of the embedded one.

use axum::Router;
use axum::body::{Body, Bytes};
use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use pagoda_engine::{Engine, EngineConfig, ServedModel};
use pagoda_sched::SchedulerConfig;
use pagoda_sched::fake::FakeExecutor;
use pagoda_server::{ServerConfig, ServerState, router};
use pagoda_text::{Tokenizer, TokenizerFiles};
use std::sync::{Arc, LazyLock};
use tokio::runtime::{Builder, Runtime};

/// Longest sequence.
const CONTEXT: u32 = 256;

/// A template that has places for everything that a client can send.
const TEMPLATE: &str = "{% for tool in tools or [] %}{{ tool | tojson }}\n{% endfor %}\
    {% for message in messages %}<s>{{ message.role }}: {{ message.content }}\
    {% for call in message.tool_calls or [] %}{{ call.function.name }}{{ call.function.arguments | tojson }}{% endfor %}</s>\n\
    {% endfor %}{% if add_generation_prompt %}<s>assistant: {% endif %}";

pub(crate) static TOKENIZER: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
    Arc::new(
        Tokenizer::from_files(&TokenizerFiles {
            origin: "folktale",
            tokenizer_json: include_bytes!("../../../models/folktale/tokenizer.json"),
            tokenizer_config: Some(include_bytes!("../../../models/folktale/tokenizer_config.json")),
            chat_template: Some(TEMPLATE),
            ..TokenizerFiles::default()
        })
        .expect("the embedded tokenizer is well formed"),
    )
});

/// What calls of this thread run on.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime can be made")
}

/// Routes and the engine behind them.
pub(crate) struct Served {
    service: TowerToHyperService<Router>,
    engine: Engine,
}

impl Served {
    /// A server whose every answer is `script`, or a hash of what came before.
    pub(crate) fn start(script: Option<Vec<u32>>) -> Self {
        let tokenizer = Arc::clone(&TOKENIZER);
        let capacity = FakeExecutor::capacity_of(512, 16, CONTEXT, tokenizer.vocab_size());
        let mut executor = FakeExecutor::new(capacity);
        if let Some(script) = script {
            executor = executor.with_script(script);
        }
        let mut model = ServedModel::new("fake", tokenizer, CONTEXT);
        model.hidden = pagoda_sched::fake::FakeModel::WIDTH as u32;
        let scheduler = SchedulerConfig { max_num_seqs: 16, ..SchedulerConfig::default() };
        let config = EngineConfig { scheduler, ..EngineConfig::default() };
        let engine = Engine::start(Arc::new(model), executor, config).expect("the engine starts");
        let state = ServerState::new(engine.handle().clone(), ServerConfig::default());
        Self { service: TowerToHyperService::new(router(state)), engine }
    }

    /// Status and body of the answer to a post.
    pub(crate) async fn post(&self, path: &str, body: Vec<u8>) -> (u16, Bytes) {
        let request = Request::post(path).header("host", "test").body(Body::from(body));
        let request = request.expect("the path is one of ours");
        let Ok(response) = self.service.call(request).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body has an end").to_bytes();
        assert_eq!(self.engine.failed(), None, "the engine failed");
        (status, body)
    }
}
