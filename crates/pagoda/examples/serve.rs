//! Pagoda's routes inside an application of your own: `cargo run --release --example serve`, then
//! `curl 127.0.0.1:8000/llm/v1/completions -d '{"prompt": "Once upon a time"}'`.

use axum::Router;
use axum::routing::get;
use pagoda::Engine;
use pagoda::server::{ServerConfig, ServerState, router};
use std::error::Error;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let engine = Engine::builder().served_names(["storyteller"]).build()?;
    let state = ServerState::new(engine.handle().clone(), ServerConfig::default());
    let app = Router::new()
        .route("/", get(|| async { "the stories are under /llm/v1\n" }))
        .nest("/llm", router(state));
    let listener = TcpListener::bind("127.0.0.1:8000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
