//! `/tokenize` and `/detokenize`.

use super::converse;
use crate::error::ApiError;
use crate::json::{Fields, JsonBody};
use crate::state::{InFlight, ServerState};
use crate::wire::tokenize::{
    Answer, Counted, DetokenizeRequest, Detokenized, Piece, PieceText, Plain, Source, TokenizeRequest,
};
use axum::extract::State;
use axum::response::Response;
use pagoda_engine::ServedModel;
use pagoda_text::{Special, TextError, unquote};
use serde::Serialize;

/// Longest text that tokens are turned into, bytes: some tokens are long, and a body holds many.
const MAX_TEXT: usize = 16 << 20;

/// A text to its tokens.
pub(crate) async fn tokenize(
    State(state): State<ServerState>,
    _in_flight: InFlight,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let json = state.on_text_thread_for(body.len(), move |state| tokens(state, &body)).await?;
    state.bulky(json)
}

/// Tokens to their text.
pub(crate) async fn detokenize(
    State(state): State<ServerState>,
    _in_flight: InFlight,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let json = state.on_text_thread(move |state| text(state, &body)).await?;
    state.bulky(json)
}

fn tokens(state: &ServerState, body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let mut fields = Fields::parse(body)?;
    let request = TokenizeRequest::take(&mut fields)?;
    state.note_unknown(fields.left());
    state.check_model(request.model.as_deref())?;
    let model = state.model();
    let invalid = |error: TextError| ApiError::invalid(request.param, error.to_string());
    let tokens = match request.source {
        Source::Text(text) if request.parse_special => model.tokenizer.encode(&text, request.special),
        Source::Text(text) => model.tokenizer.encode_quoted(&model.tokenizer.quote(&text)),
        Source::Chat(mut chat) => {
            let prompt = converse::prompt(state, &mut chat)?;
            match request.special {
                Special::Skip => model.tokenizer.encode_quoted(&prompt),
                Special::Add => model.tokenizer.encode(&unquote(&prompt), Special::Add),
            }
        }
    };
    let tokens = tokens.map_err(invalid)?;
    match request.answer {
        Answer::Counted { strings } => write(&Counted {
            count: tokens.len(),
            max_model_len: model.max_model_len,
            token_strs: strings.then(|| entries(model, &tokens)),
            tokens: &tokens,
        }),
        Answer::Plain { pieces: false } => write(&Plain { tokens }),
        Answer::Plain { pieces: true } => write(&Plain { tokens: pieces(model, &tokens) }),
    }
}

/// What the tokens are called in the vocabulary.
fn entries(model: &ServedModel, tokens: &[u32]) -> Vec<String> {
    let entry = |&id| model.tokenizer.id_to_token(id).unwrap_or_default();
    tokens.iter().map(entry).collect()
}

fn pieces<'m>(model: &'m ServedModel, tokens: &[u32]) -> Vec<Piece<'m>> {
    let piece = |&id| {
        let bytes = model.tokenizer.token_bytes(id).unwrap_or_default();
        let piece = std::str::from_utf8(bytes).map_or(PieceText::Bytes(bytes), PieceText::Text);
        Piece { id, piece }
    };
    tokens.iter().map(piece).collect()
}

fn text(state: &ServerState, body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let mut fields = Fields::parse(body)?;
    let request = DetokenizeRequest::take(&mut fields)?;
    state.note_unknown(fields.left());
    state.check_model(request.model.as_deref())?;
    let model = state.model();
    check(model, &request.tokens)?;
    let text = model.tokenizer.decode(&request.tokens, false);
    write(&Detokenized { prompt: &text, content: &text })
}

/// Checks that all are tokens, and how long their text is, before any of it is made.
fn check(model: &ServedModel, tokens: &[u32]) -> Result<(), ApiError> {
    let mut bytes = 0;
    for (at, &id) in tokens.iter().enumerate() {
        if id >= model.vocab_size {
            let message = format!(
                "tokens[{at}] is {id}; token ids of this model are 0 to {}",
                model.vocab_size.saturating_sub(1)
            );
            return Err(ApiError::invalid("tokens", message));
        }
        bytes += model.tokenizer.token_bytes(id).map_or(0, <[u8]>::len);
    }
    if bytes > MAX_TEXT {
        let message = format!("the text of tokens has {bytes} bytes; at most {MAX_TEXT} are made at once");
        return Err(ApiError::invalid("tokens", message));
    }
    Ok(())
}

pub(crate) fn write(answer: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(answer).map_err(|error| ApiError::internal(&error))
}
