//! How an ending looks to a client.

use crate::error::ApiError;
use pagoda_engine::{CompletionReason, RequestResult};
use serde::Serialize;

/// The two fields that tell a client why a choice ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ending {
    /// `stop` or `length`.
    pub(crate) finish_reason: &'static str,
    /// What exactly ended it, where that is not plain from `finish_reason`.
    pub(crate) stop_reason: Option<StopReason>,
}

/// What ended a choice.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum StopReason {
    /// A stop string of the request, or the name of a limit.
    Text(String),
    /// A stop id of the request.
    Token(u32),
}

/// Translates the end of a choice. `asked` are the stop ids of the request itself.
///
/// # Errors
/// For endings that leave the client without the answer it asked for: cancelled and out of time.
pub(crate) fn ending(result: &RequestResult, asked: &[u32]) -> Result<Ending, ApiError> {
    let reason = &result.reason;
    let last = result.token_ids.last().copied();
    let of = |finish_reason, stop_reason| Ok(Ending { finish_reason, stop_reason });
    match reason {
        CompletionReason::Eos => of("stop", last.filter(|id| asked.contains(id)).map(StopReason::Token)),
        CompletionReason::StopString(text) => of("stop", Some(StopReason::Text(text.clone()))),
        CompletionReason::MaxTokens | CompletionReason::LengthLimit(_) => of("length", None),
        CompletionReason::Repetition => of("length", Some(StopReason::Text(reason.name().into()))),
        CompletionReason::Cancelled => Err(ApiError::Cancelled),
        CompletionReason::Timeout(which) => Err(ApiError::Timeout {
            which: *which,
            limit: result.deadlines.of(*which),
            asked: result.deadlines.of(*which) == result.asked.of(*which),
            elapsed: result.processing_time,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagoda_engine::{DeadlineKind, Deadlines, LengthKind, RequestId, SampleIndex};
    use std::time::Duration;

    fn result(reason: CompletionReason, token_ids: Vec<u32>) -> RequestResult {
        RequestResult {
            id: RequestId::EMPTY,
            sample: SampleIndex(0),
            text: String::new(),
            tokens_generated: token_ids.len() as u32,
            token_ids,
            cumulative_logprob: 0.0,
            reason,
            prompt_tokens: 1,
            cached_tokens: 0,
            preemptions: 0,
            processing_time: Duration::from_secs(3),
            queue_time: None,
            time_to_first_token: None,
            deadlines: Deadlines {
                first_token: Some(Duration::from_secs(2)),
                total: Some(Duration::from_secs(9)),
                ..Deadlines::default()
            },
            asked: Deadlines { first_token: Some(Duration::from_secs(2)), ..Deadlines::default() },
        }
    }

    #[test]
    fn every_reason_has_its_ending() {
        let stop = |reason| ending(&result(reason, vec![7]), &[7]).map(|end| end.finish_reason);
        assert_eq!(stop(CompletionReason::Eos), Ok("stop"));
        assert_eq!(stop(CompletionReason::StopString("x".into())), Ok("stop"));
        assert_eq!(stop(CompletionReason::MaxTokens), Ok("length"));
        assert_eq!(stop(CompletionReason::LengthLimit(LengthKind::Context)), Ok("length"));
        assert_eq!(stop(CompletionReason::LengthLimit(LengthKind::Pool)), Ok("length"));
        assert_eq!(stop(CompletionReason::Repetition), Ok("length"));
        assert_eq!(stop(CompletionReason::Cancelled).unwrap_err().status(), 499);
        assert_eq!(stop(CompletionReason::Timeout(DeadlineKind::FirstToken)).unwrap_err().status(), 504);
        assert_eq!(stop(CompletionReason::Timeout(DeadlineKind::Total)).unwrap_err().status(), 503);
    }

    #[test]
    fn a_timeout_has_the_limit_that_passed() {
        let (which, limit) = (DeadlineKind::FirstToken, Some(Duration::from_secs(2)));
        let error = ending(&result(CompletionReason::Timeout(which), Vec::new()), &[]).unwrap_err();
        assert_eq!(error, ApiError::Timeout { which, limit, asked: true, elapsed: Duration::from_secs(3) });
    }

    #[test]
    fn a_stop_id_is_named_only_if_the_request_asked_for_it() {
        let reason = |tokens: &[u32], asked: &[u32]| {
            ending(&result(CompletionReason::Eos, tokens.to_vec()), asked).unwrap().stop_reason
        };
        assert_eq!(reason(&[1, 7], &[3, 7]), Some(StopReason::Token(7)));
        assert_eq!(reason(&[7, 2], &[3, 7]), None);
        assert_eq!(reason(&[], &[3]), None);
    }
}
