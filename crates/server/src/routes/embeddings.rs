//! `/v1/embeddings`.

use super::generate::with_place;
use super::tokenize::write;
use crate::error::ApiError;
use crate::finish;
use crate::json::{Fields, JsonBody};
use crate::state::{InFlight, ServerState};
use crate::tenant::Caller;
use crate::wire::completions::Prompt;
use crate::wire::embeddings::{Embedding, EmbeddingList, EmbeddingRequest, EmbeddingUsage, Encoding, Vector};
use axum::extract::State;
use axum::response::Response;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use pagoda_engine::{EngineHandle, GenerateParams, ServedModel, Session, SessionEvent, ValidatedRequest};
use pagoda_text::{Special, TextError};
use std::borrow::Cow;
use std::sync::Arc;

/// Inputs of one call that are computed at a time; the others wait here, so that a long list does not fill the queue.
const AT_ONCE: usize = 16;

/// Turns texts into vectors of unit length.
pub(crate) async fn create(
    State(state): State<ServerState>,
    caller: Caller,
    in_flight: InFlight,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let plan = state.on_text_thread(move |state| Plan::new(state, caller, &body)).await.map_err(rename)?;
    plan.answer(&state, in_flight).await.map_err(rename)
}

/// Requests ready for the engine.
struct Plan {
    /// One per input, in order.
    requests: Vec<ValidatedRequest>,
    caller: Caller,
    encoding: Encoding,
    dimensions: usize,
    /// As it was asked for.
    model: Arc<str>,
}

impl Plan {
    fn new(state: &ServerState, caller: Caller, body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let request = EmbeddingRequest::take(&mut fields)?;
        state.note_unknown(fields.left());
        let adapter = state.check_model(request.model.as_deref())?;
        let dimensions = check_dimensions(state.model().hidden, request.dimensions)?;
        let params = GenerateParams {
            pooling: Some(request.pooling),
            tenant: caller.tenant,
            priority: request.priority,
            deadlines: request.deadlines,
            salt: state.salt(caller.tenant.id, request.cache_salt.as_deref()),
            adapter: adapter.clone(),
            ..GenerateParams::default()
        };
        let special = if request.add_special_tokens { Special::Add } else { Special::Skip };
        let validated = request.inputs.into_iter().map(|input| {
            let prompt_tokens = tokens(state.model(), input, special)?;
            Ok(state.model().validate(GenerateParams { prompt_tokens, ..params.clone() })?)
        });
        let requests = validated.collect::<Result<_, ApiError>>()?;
        let model = adapter.unwrap_or_else(|| state.model().name().into());
        Ok(Self { requests, caller, encoding: request.encoding, dimensions, model })
    }

    /// Submits the requests, a few at a time. Dropping the wait for the answer cancels what runs.
    async fn answer(self, state: &ServerState, mut in_flight: InFlight) -> Result<Response, ApiError> {
        let Some(first) = self.requests.first().map(ValidatedRequest::id) else {
            return Err(ApiError::internal(&"a call without a request"));
        };
        let tenant = self.caller.tenant.id;
        state.handle().name_tenant(tenant, &self.caller.label);
        if let Some(name) = self.caller.call {
            in_flight.name(state.calls().enter(tenant, name, first));
        }
        let prompt_tokens = self.requests.iter().map(|request| u64::from(request.prompt_tokens())).sum();
        let (handle, dimensions) = (state.handle().clone(), self.dimensions);
        let vectors = stream::iter(self.requests)
            .map(move |request| embed(handle.clone(), request, dimensions))
            .buffered(AT_ONCE);
        let vectors: Vec<Vec<f32>> = vectors.try_collect().await?;
        drop(in_flight);
        let embedding = |(index, elements)| Embedding {
            object: "embedding",
            index,
            embedding: Vector::new(elements, self.encoding),
        };
        let list = EmbeddingList {
            object: "list",
            data: vectors.into_iter().enumerate().map(embedding).collect(),
            model: &self.model,
            usage: EmbeddingUsage { prompt_tokens, total_tokens: prompt_tokens },
        };
        Ok(with_place(state.bulky(write(&list)?)?, first, None))
    }
}

/// The vector of one input.
async fn embed(
    handle: EngineHandle,
    request: ValidatedRequest,
    dimensions: usize,
) -> Result<Vec<f32>, ApiError> {
    let lost = || ApiError::internal(&"a session ended without hidden states");
    let mut session: Session = handle.submit(request)?.pop().ok_or_else(lost)?;
    let mut vector = None;
    while let Some(event) = session.next().await {
        match event {
            SessionEvent::Prompt(found) => vector = Some(found.embedding(dimensions)),
            SessionEvent::Delta { .. } => {}
            SessionEvent::Failed(error) => return Err(error.into()),
            SessionEvent::Finished(result) => {
                finish::ending(&result, &[])?;
                return vector.ok_or_else(lost);
            }
        }
    }
    Err(lost())
}

/// Tokens of one input. A text that spells a special token is text all the same: who sends it has it from others.
fn tokens(model: &ServedModel, input: Prompt, special: Special) -> Result<Vec<u32>, ApiError> {
    let refused = |error: TextError| ApiError::of_text("input", &error);
    let (tokenizer, most) = (&model.tokenizer, model.max_model_len as usize);
    let text = match input {
        Prompt::Tokens(ids) => return Ok(ids),
        Prompt::Text(text) => text,
    };
    let quoted = match tokenizer.quote(&text) {
        Cow::Borrowed(text) => return tokenizer.encode_up_to(text, special, most).map_err(refused),
        Cow::Owned(quoted) => tokenizer.encode_quoted_up_to(&quoted, most).map_err(refused)?,
    };
    // What the tokenizer puts around any text.
    let bare = tokenizer.encode("a", Special::Skip).map_err(refused)?;
    let dressed = tokenizer.encode("a", special).map_err(refused)?;
    let before = dressed.windows(bare.len().max(1)).position(|window| window == bare).unwrap_or(0);
    let after = &dressed[dressed.len().min(before + bare.len())..];
    Ok([&dressed[..before], &quoted, after].concat())
}

/// How many elements to keep of a hidden state of `width`.
fn check_dimensions(width: u32, asked: Option<u32>) -> Result<usize, ApiError> {
    match asked {
        _ if width == 0 => Err(ApiError::unsupported("input", "this model has no hidden states to show")),
        None => Ok(width as usize),
        Some(asked @ 1..) if asked <= width => Ok(asked as usize),
        Some(asked) => {
            Err(ApiError::invalid("dimensions", format!("dimensions is {asked}; allowed: 1 to {width}")))
        }
    }
}

/// The name that the field has in an embeddings request.
fn rename(error: ApiError) -> ApiError {
    match error {
        ApiError::ContextLength { prompt, context, message, .. } => {
            ApiError::ContextLength { param: "input", prompt, context, message }
        }
        ApiError::Field { param, fault, message } if param == "prompt" => {
            ApiError::Field { param: "input".into(), fault, message }
        }
        other => other,
    }
}
