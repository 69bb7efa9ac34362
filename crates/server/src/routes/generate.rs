//! What all generating endpoints do once a body has become requests.

use crate::answer::{self, Call};
use crate::error::ApiError;
use crate::placement::Place;
use crate::request_id::{self, X_REQUEST_ID};
use crate::said::Speech;
use crate::shape::Shape;
use crate::sse;
use crate::state::{InFlight, ServerState};
use crate::tenant::Caller;
use crate::wire::common::{Delivery, Shown};
use axum::response::Response;
use futures_util::{StreamExt as _, future, stream};
use pagoda_engine::{GenerateParams, RequestId, Session, ValidatedRequest};
use serde_json::Value;
use std::sync::Arc;
use std::time::SystemTime;

/// Requests ready for the engine, and how to answer them.
pub(super) struct Plan {
    /// One per prompt, in order.
    requests: Vec<ValidatedRequest>,
    caller: Caller,
    delivery: Delivery,
    shown: Shown,
    stop_ids: Vec<u32>,
    echo: Vec<String>,
    speech: Speech,
    repeated: Value,
}

impl Plan {
    /// Validates one request per prompt, each with the parameters of the call.
    ///
    /// # Errors
    /// For the first prompt or parameter out of range.
    pub(super) fn new(
        state: &ServerState,
        caller: Caller,
        (delivery, shown): (Delivery, Shown),
        mut params: GenerateParams,
        prompts: Vec<Vec<u32>>,
    ) -> Result<Self, ApiError> {
        check_stream(delivery, &params)?;
        params.tenant = caller.tenant;
        params.max_unread = delivery.stream.then_some(state.config().stream_buffer);
        let stop_ids = params.stop_token_ids.clone();
        let validate = |prompt_tokens| {
            state.model().validate(GenerateParams { prompt_tokens, ..params.clone() }).map_err(ApiError::from)
        };
        let requests = prompts.into_iter().map(validate).collect::<Result<_, _>>()?;
        let (echo, speech, repeated) = (Vec::new(), Speech::default(), Value::Null);
        Ok(Self { requests, caller, delivery, shown, stop_ids, echo, speech, repeated })
    }

    /// Repeats each prompt's text before each of its choices.
    pub(super) fn echo(mut self, texts: Vec<String>) -> Self {
        let choices = self.requests.iter().map(|request| usize::from(request.returned()));
        self.echo = texts.into_iter().zip(choices).flat_map(|(text, n)| vec![text; n]).collect();
        self
    }

    /// Reads what the model says as `speech` tells, and repeats this of the request.
    pub(super) fn speaking(self, speech: Speech, repeated: Value) -> Self {
        Self { speech, repeated, ..self }
    }

    /// Submits the requests and answers in the shape `S`. Dropping the answer, or the wait for it, cancels what
    /// runs.
    ///
    /// # Errors
    /// If the engine refuses a request; those submitted before it are cancelled.
    pub(super) async fn answer<S: Shape>(
        self,
        state: &ServerState,
        prefix: &str,
        mut in_flight: InFlight,
    ) -> Result<Response, ApiError> {
        let prompt_tokens = self.requests.iter().map(|request| u64::from(request.prompt_tokens())).sum();
        let Some(first) = self.requests.first() else {
            return Err(ApiError::internal(&"a call without a request"));
        };
        let [samples, returned] = [first.samples(), first.returned()].map(usize::from);
        let adapter = first.adapter().map(Arc::from);
        let first = first.id();
        state.handle().name_tenant(self.caller.tenant.id, &self.caller.label);
        let mut sessions: Vec<Session> = Vec::with_capacity(self.requests.len() * samples);
        let mut places = Vec::with_capacity(self.requests.len());
        for request in self.requests {
            let (more, place) = state.handle().submit_placed(request)?;
            sessions.extend(more);
            places.push(place);
        }
        if let Some(name) = self.caller.call {
            in_flight.name(state.calls().enter(self.caller.tenant.id, name, first));
        }
        let placed: Vec<_> =
            stream::iter(places).then(|place| place).filter_map(future::ready).collect().await;
        let place = Place::of(&placed);
        let call = Call {
            id: format!("{prefix}{first}"),
            request_id: request_id::text_of(first),
            created: seconds_since_epoch(),
            model: state.model().clone(),
            adapter,
            delivery: self.delivery,
            shown: self.shown,
            stop_ids: self.stop_ids,
            echo: self.echo,
            choices: sessions.len(),
            samples,
            returned,
            prompt_tokens,
            speech: self.speech,
            repeated: self.repeated,
        };
        if call.delivery.stream {
            let comment = place.filter(|_| call.delivery.queue_comment).and_then(|place| place.comment());
            let keep_alive = call.delivery.keep_alive(state.config().keep_alive);
            let response = sse::respond::<S>(call, sessions, (comment, keep_alive), in_flight);
            return Ok(with_place(response, first, place));
        }
        let (answers, usage) = answer::collect(&call, sessions).await?;
        drop(in_flight);
        Ok(with_place(state.bulky(S::whole(&call, answers, usage)?)?, first, place))
    }
}

/// Names the response after its first request and says where in the queue that was.
pub(super) fn with_place(mut response: Response, first: RequestId, place: Option<Place>) -> Response {
    let headers = response.headers_mut();
    headers.insert(X_REQUEST_ID, request_id::of(first));
    if let Some(place) = place {
        place.write(headers);
    }
    response
}

/// Which samples are the best is known only when all have ended. The outputs of a beam search are streamed all the same:
/// they come at the end.
fn check_stream(delivery: Delivery, params: &GenerateParams) -> Result<(), ApiError> {
    let (n, best_of) = (params.n.unwrap_or(1), params.best_of);
    match best_of.filter(|&best_of| best_of > n && delivery.stream && !params.use_beam_search) {
        None => Ok(()),
        Some(best_of) => {
            let message = format!(
                "best_of is {best_of} and n is {n}: the best samples are known when all have ended, so they cannot \
                 be streamed; leave out stream, or set best_of to n"
            );
            Err(ApiError::invalid("best_of", message))
        }
    }
}

fn seconds_since_epoch() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
