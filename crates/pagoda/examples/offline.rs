//! Many prompts in one batch, without a server: `cargo run --release --example offline [MODEL]`.

use pagoda::{Engine, GenerateParams};
use std::error::Error;

const PROMPTS: [&str; 4] = [
    "Once upon a time",
    "The fox said to the crow",
    "In the forest there lived",
    "The king had three sons, and",
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut builder = Engine::builder();
    if let Some(folder) = std::env::args().nth(1) {
        builder = builder.model(folder);
    }
    let engine = builder.build()?;
    let params = GenerateParams { max_tokens: Some(48), seed: Some(1), ..GenerateParams::default() };
    // All requests are submitted before the first is read, so they share every step.
    let sessions = PROMPTS.map(|prompt| engine.generate(prompt, params.clone()));
    for (prompt, session) in PROMPTS.iter().zip(sessions) {
        let result = session?.result().await?;
        println!(
            "{prompt}{}\n  [{} tokens, {}]\n",
            result.text,
            result.tokens_generated,
            result.reason.name()
        );
    }
    Ok(())
}
