//! The description of the interface, for tools and for readers.

use crate::error_shape::ErrorShape;
use crate::table::Endpoint;
use crate::wire::{dialect_schema, schema};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// An OpenAPI 3.1 document of `endpoints`. A path that is also there under `/v1` is described once.
pub(crate) fn document(endpoints: &[Endpoint], version: &str) -> Value {
    let mut paths = Map::new();
    for endpoint in described(endpoints) {
        let methods = endpoint.methods.split(", ").filter(|method| *method != "HEAD");
        let operations =
            methods.map(|method| (method.to_ascii_lowercase(), operation(&endpoint.path, method)));
        paths.insert(endpoint.path.replace("{*id}", "{id}"), Value::Object(operations.collect()));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Pagoda",
            "version": version,
            "description": "Most paths under /v1 also answer without /v1. null is the same as absent. Unknown fields are \
                            ignored.",
        },
        "security": [{}, {"bearer": []}, {"x-api-key": []}, {"api-key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
            },
            "schemas": {
                "Completion": schema::completion(),
                "Chat": schema::chat(),
                "Response": dialect_schema::responses(),
                "Message": dialect_schema::messages(),
                "Native": dialect_schema::native(),
                "Infill": dialect_schema::infill(),
                "Ollama": dialect_schema::ollama(),
                "Embedding": schema::embedding(),
                "Tokenize": schema::tokenize(),
                "Detokenize": schema::detokenize(),
                "Abort": schema::abort(),
                "Error": schema::error(),
                "MessageError": dialect_schema::message_error(),
                "OllamaError": dialect_schema::ollama_error(),
            },
        },
    })
}

/// The same as a page, which needs nothing else.
pub(crate) fn page(endpoints: &[Endpoint], version: &str) -> String {
    let mut rows = String::new();
    for endpoint in described(endpoints) {
        let methods = endpoint.methods.replace("GET, HEAD", "GET");
        // Writing to a String cannot fail.
        let _ = writeln!(
            rows,
            "<tr><td>{methods}</td><td><code>{}</code></td><td>{}</td></tr>",
            endpoint.path,
            summary(&endpoint.path)
        );
    }
    let fields = |name: &str, schema: &Value| {
        let mut list = format!("<h2><code>{name}</code></h2>\n<dl>\n");
        for (field, about) in schema["properties"].as_object().into_iter().flatten() {
            let text = about["description"].as_str().unwrap_or_default();
            let _ = writeln!(list, "<dt><code>{field}</code></dt><dd>{text}</dd>");
        }
        list + "</dl>\n"
    };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Pagoda {version}</title>\n\
         <style>body{{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}\
         td{{padding:.2rem 1rem .2rem 0;vertical-align:top}}dt{{float:left;clear:left;width:16rem}}\
         dd{{margin-left:17rem}}</style>\n<h1>Pagoda {version}</h1>\n\
         <p><a href=\"openapi.json\">openapi.json</a></p>\n<table>\n{rows}</table>\n{}{}{}{}{}{}</html>\n",
        fields("/v1/completions", &schema::completion()),
        fields("/v1/chat/completions", &schema::chat()),
        fields("/v1/responses", &dialect_schema::responses()),
        fields("/v1/messages", &dialect_schema::messages()),
        fields("/v1/embeddings", &schema::embedding()),
        fields("/tokenize", &schema::tokenize()),
    )
}

/// The endpoints without those that are aliases.
fn described(endpoints: &[Endpoint]) -> impl Iterator<Item = &Endpoint> {
    let is_alias = |endpoint: &&Endpoint| {
        let versioned = format!("/v1{}", endpoint.path);
        endpoints.iter().any(|other| other.path == versioned)
    };
    endpoints.iter().filter(move |endpoint| !is_alias(endpoint))
}

fn operation(path: &str, method: &str) -> Value {
    let error = match ErrorShape::of(path) {
        ErrorShape::OpenAi => "Error",
        ErrorShape::Anthropic => "MessageError",
        ErrorShape::Ollama => "OllamaError",
    };
    let mut operation = json!({
        "summary": summary(path),
        "responses": {
            "200": {"description": "The answer."},
            "default": {"description": "What was wrong.", "content": {"application/json": {
                "schema": {"$ref": format!("#/components/schemas/{error}")},
            }}},
        },
    });
    if path.contains('{') {
        operation["parameters"] = json!([
            {"name": "id", "in": "path", "required": true, "schema": {"type": "string"}},
        ]);
    }
    if let Some(name) = body(path).filter(|_| method == "POST") {
        let reference = format!("#/components/schemas/{name}");
        operation["requestBody"] = json!({"required": true, "content": {"application/json": {
            "schema": {"$ref": reference},
        }}});
    }
    operation
}

/// The schema of the body that a path reads.
fn body(path: &str) -> Option<&'static str> {
    match path {
        "/v1/completions" | "/v1/completions/render" => Some("Completion"),
        "/v1/chat/completions"
        | "/v1/chat/completions/render"
        | "/v1/chat/completions/input_tokens"
        | "/apply-template" => Some("Chat"),
        "/v1/responses" | "/v1/responses/input_tokens" => Some("Response"),
        "/v1/messages" | "/v1/messages/count_tokens" => Some("Message"),
        "/completion" => Some("Native"),
        "/infill" => Some("Infill"),
        "/api/chat" | "/api/generate" | "/api/show" => Some("Ollama"),
        "/v1/embeddings" => Some("Embedding"),
        "/v1/tokenize" => Some("Tokenize"),
        "/v1/detokenize" => Some("Detokenize"),
        "/v1/abort_request" => Some("Abort"),
        _ => None,
    }
}

/// One line on a path; empty for one that nobody described.
fn summary(path: &str) -> &'static str {
    match path {
        "/v1/completions" => "Continue prompts.",
        "/v1/chat/completions" => "Answer a conversation.",
        "/v1/responses" => "Answer a conversation, in the words of OpenAI's responses, without state.",
        "/v1/responses/input_tokens" => "The length of its prompt, in tokens.",
        "/v1/messages" => "Answer a conversation, in the words of Anthropic's messages.",
        "/v1/messages/count_tokens" => "The length of its prompt, in tokens.",
        "/completion" => "Continue prompts, as llama.cpp has it.",
        "/infill" => "Fill the gap between two texts, as llama.cpp has it.",
        "/api/chat" => "Answer a conversation, as Ollama has it.",
        "/api/generate" => "Answer a prompt, as Ollama has it.",
        "/api/show" => "What the model is, as Ollama has it.",
        "/api/tags" => "The names that are served, as Ollama has it.",
        "/api/version" => "The version of the program, as Ollama has it.",
        "/v1/embeddings" => "Turn texts into vectors.",
        "/v1/completions/render" => "The tokens of the prompts, without running them.",
        "/v1/chat/completions/render" => "The exact prompt of a conversation, without running it.",
        "/v1/chat/completions/input_tokens" => "The length of the prompt of a conversation, in tokens.",
        "/apply-template" => "The exact prompt of a conversation, as text.",
        "/v1/requests" => "The requests that wait and run.",
        "/v1/requests/{id}" => "Where a request stands and why; DELETE ends it.",
        "/v1/models" => "The names that are served.",
        "/v1/models/{*id}" => "One of them.",
        "/v1/tokenize" => "Text to tokens.",
        "/v1/detokenize" => "Tokens to text.",
        "/v1/tokenizer_info" => "Special tokens and chat template.",
        "/v1/load" => "Counts of requests and KV blocks.",
        "/v1/loads" => "The same and more, as SGLang has it.",
        "/v1/abort_request" => "End a request, or all of the caller's.",
        "/props" => "Context, slots and chat template, as llama.cpp has it.",
        "/slots" => "The rows of the batch, as llama.cpp has it.",
        "/server_info" => "How the server was started.",
        "/v1/health" | "/ready" | "/healthz" | "/ping" => "Whether requests are taken and make progress.",
        "/live" => "Whether the socket is open.",
        "/metrics" => "Metrics for Prometheus.",
        "/version" => "What the program is.",
        "/openapi.json" => "This description.",
        "/docs" => "This description as a page.",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::endpoints;

    #[test]
    fn every_endpoint_is_described() {
        let endpoints = endpoints();
        let document = document(&endpoints, "0");
        for endpoint in described(&endpoints) {
            assert!(!summary(&endpoint.path).is_empty(), "{}", endpoint.path);
            let path = &document["paths"][endpoint.path.replace("{*id}", "{id}")];
            for method in endpoint.methods.split(", ").filter(|method| *method != "HEAD") {
                let operation = &path[method.to_ascii_lowercase()];
                assert!(operation["responses"].is_object(), "{method} {}", endpoint.path);
                assert_eq!(
                    operation["requestBody"].is_object(),
                    method == "POST",
                    "{method} {}",
                    endpoint.path
                );
            }
            assert!(page(&endpoints, "0").contains(&format!("<code>{}</code>", endpoint.path)));
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document(&endpoints(), "0");
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
        assert!(document["components"]["schemas"]["Chat"]["properties"]["temperature"].is_object());
    }
}
