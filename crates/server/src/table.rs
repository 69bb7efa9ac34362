//! The table of routes while it is being made.

use crate::error::ApiError;
use crate::json::excerpt;
use crate::state::ServerState;
use crate::suggest::nearest;
use axum::Router;
use axum::http::{Method, Uri};
use axum::routing::MethodRouter;
use std::sync::Arc;

/// A path and the methods that it answers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The path; a part in braces stands for any text.
    pub path: String,
    /// The methods, as the header `allow` lists them.
    pub methods: &'static str,
}

/// Interfaces of OpenAI's that are out of scope, by the first part of their paths.
const OUT_OF_SCOPE: [&str; 14] = [
    "assistants",
    "audio",
    "batches",
    "containers",
    "conversations",
    "evals",
    "files",
    "fine_tuning",
    "images",
    "moderations",
    "realtime",
    "threads",
    "uploads",
    "vector_stores",
];

/// What a client that is lost is told to look at.
const MAIN: &str =
    "/v1/completions, /v1/chat/completions, /v1/models, /tokenize, /health, /metrics and /version";

/// Routes, and what they are.
#[derive(Default)]
pub(crate) struct Table {
    router: Router<ServerState>,
    endpoints: Vec<Endpoint>,
}

impl Table {
    /// A route under `path`. `methods` are those of `route`; all others are refused with them.
    pub(crate) fn at(mut self, path: &str, methods: &'static str, route: MethodRouter<ServerState>) -> Self {
        let refuse = move |method: Method, uri: Uri| async move {
            ApiError::MethodNotAllowed { path: shown(&uri), method: shown_method(&method), allowed: methods }
        };
        self.router = self.router.route(path, route.fallback(refuse));
        self.endpoints.push(Endpoint { path: path.to_owned(), methods });
        self
    }

    /// The same under `/v1`, and without.
    pub(crate) fn both(self, path: &str, methods: &'static str, route: MethodRouter<ServerState>) -> Self {
        self.at(&format!("/v1{path}"), methods, route.clone()).at(path, methods, route)
    }

    /// What is in the table.
    pub(crate) fn endpoints(self) -> Vec<Endpoint> {
        self.endpoints
    }

    /// The routes, with an answer for every other path.
    pub(crate) fn finish(self) -> Router<ServerState> {
        let known: Arc<[Endpoint]> = self.endpoints.into();
        self.router.fallback(move |method: Method, uri: Uri| async move { unknown(&known, &method, &uri) })
    }
}

fn unknown(known: &[Endpoint], method: &Method, uri: &Uri) -> ApiError {
    let (path, method) = (shown(uri), shown_method(method));
    let first = uri.path().trim_start_matches('/');
    let first = first.strip_prefix("v1/").unwrap_or(first).split('/').next().unwrap_or_default();
    if OUT_OF_SCOPE.contains(&first) {
        return ApiError::NoSuchPath(format!("{path} is not offered by this server; it has {MAIN}"));
    }
    let paths = known.iter().map(|endpoint| endpoint.path.as_str()).filter(|path| !path.contains('{'));
    ApiError::NoSuchPath(match nearest(uri.path(), paths) {
        Some(meant) => format!("no route {method} {path}; did you mean {meant}?"),
        None => format!("no route {method} {path}; this server has {MAIN}"),
    })
}

fn shown(uri: &Uri) -> String {
    excerpt(uri.path()).into_owned()
}

fn shown_method(method: &Method) -> String {
    excerpt(method.as_str()).into_owned()
}
