//! How an ending looks to a client.

use crate::error::ApiError;
use pagoda_engine::CompletionReason;
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

/// Translates `reason`. `last` is the last token generated and `asked` the stop ids of the request itself.
///
/// # Errors
/// For endings that leave the client without the answer it asked for: cancelled and out of time.
pub(crate) fn ending(
    reason: &CompletionReason,
    last: Option<u32>,
    asked: &[u32],
) -> Result<Ending, ApiError> {
    let of = |finish_reason, stop_reason| Ok(Ending { finish_reason, stop_reason });
    match reason {
        CompletionReason::Eos => of("stop", last.filter(|id| asked.contains(id)).map(StopReason::Token)),
        CompletionReason::StopString(text) => of("stop", Some(StopReason::Text(text.clone()))),
        CompletionReason::MaxTokens | CompletionReason::LengthLimit(_) => of("length", None),
        CompletionReason::Repetition => of("length", Some(StopReason::Text(reason.name().into()))),
        CompletionReason::Cancelled => Err(ApiError::Cancelled),
        CompletionReason::Timeout(which) => Err(ApiError::Timeout(which.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagoda_engine::{DeadlineKind, LengthKind};

    #[test]
    fn every_reason_has_its_ending() {
        let stop = |reason: CompletionReason| ending(&reason, Some(7), &[7]).map(|end| end.finish_reason);
        assert_eq!(stop(CompletionReason::Eos), Ok("stop"));
        assert_eq!(stop(CompletionReason::StopString("x".into())), Ok("stop"));
        assert_eq!(stop(CompletionReason::MaxTokens), Ok("length"));
        assert_eq!(stop(CompletionReason::LengthLimit(LengthKind::Context)), Ok("length"));
        assert_eq!(stop(CompletionReason::LengthLimit(LengthKind::Pool)), Ok("length"));
        assert_eq!(stop(CompletionReason::Repetition), Ok("length"));
        assert_eq!(stop(CompletionReason::Cancelled).unwrap_err().status(), 499);
        assert_eq!(stop(CompletionReason::Timeout(DeadlineKind::Queue)).unwrap_err().status(), 504);
    }

    #[test]
    fn a_stop_id_is_named_only_if_the_request_asked_for_it() {
        let reason = |last, asked: &[u32]| ending(&CompletionReason::Eos, last, asked).unwrap().stop_reason;
        assert_eq!(reason(Some(7), &[3, 7]), Some(StopReason::Token(7)));
        assert_eq!(reason(Some(2), &[3, 7]), None);
        assert_eq!(reason(None, &[3]), None);
    }
}
