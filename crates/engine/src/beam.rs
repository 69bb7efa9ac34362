//! What a beam search may be asked for, and what it excludes.

use crate::invalid::{invalid, number};
use crate::{GenerateParams, InvalidRequest};
use pagoda_sched::{BeamSearch, EarlyStopping};

const MAX_LENGTH_PENALTY: f32 = 10.0;

/// The search that is asked for, of `width` beams; `None` if tokens are to be drawn.
///
/// # Errors
/// Names the first parameter that has no meaning with or without a search.
pub(crate) fn check_beam(params: &GenerateParams, width: u16) -> Result<Option<BeamSearch>, InvalidRequest> {
    let penalty = params.length_penalty.unwrap_or(1.0);
    let length_penalty = number("length_penalty", penalty, -MAX_LENGTH_PENALTY, MAX_LENGTH_PENALTY)?;
    let early_stopping = params.early_stopping.unwrap_or_default();
    if params.use_beam_search {
        if params.max_tokens == Some(0) || params.pooling.is_some() {
            let message = "max_tokens is 0; allowed with use_beam_search: 1 or more";
            return Err(invalid("max_tokens", message.to_owned()));
        }
        check_excluded(params)?;
        return Ok(Some(BeamSearch { width, length_penalty, early_stopping }));
    }
    let needs = |param| {
        invalid(
            param,
            format!("{param} only weighs the outputs of a beam search; set use_beam_search or leave it out"),
        )
    };
    if length_penalty != 1.0 {
        return Err(needs("length_penalty"));
    }
    if early_stopping != EarlyStopping::No {
        return Err(needs("early_stopping"));
    }
    Ok(None)
}

/// A search ranks by the model's own log-probabilities and its text is there only at the end.
fn check_excluded(params: &GenerateParams) -> Result<(), InvalidRequest> {
    let differs =
        |given: Option<f32>, off: f32| given.filter(|&value| value != off).map(|value| value.to_string());
    // vLLM's clients ask for temperature 0, and 1 is what a client states that means none.
    let temperature = params.temperature.filter(|&value| value != 0.0 && value != 1.0);
    let top_k = params.top_k.filter(|&value| value > 0);
    if let Some(constraint) = &params.constraint {
        let param = constraint.param();
        let message = format!(
            "{param} is set; a beam search takes the model's probabilities as they are; leave {param} out or \
             use_beam_search"
        );
        return Err(invalid(param, message));
    }
    let given = [
        ("temperature", temperature.map(|value| value.to_string())),
        ("top_k", top_k.map(|value| value.to_string())),
        ("top_p", differs(params.top_p, 1.0)),
        ("min_p", differs(params.min_p, 0.0)),
        ("repetition_penalty", differs(params.repetition_penalty, 1.0)),
        ("presence_penalty", differs(params.presence_penalty, 0.0)),
        ("frequency_penalty", differs(params.frequency_penalty, 0.0)),
        ("logit_bias", (!params.logit_bias.is_empty()).then(|| "set".to_owned())),
        ("stop", (!params.stop.is_empty()).then(|| "set".to_owned())),
    ];
    match given.into_iter().find_map(|(param, value)| Some((param, value?))) {
        None => Ok(()),
        Some((param, value)) => {
            let message = format!(
                "{param} is {value}; a beam search takes the model's probabilities as they are and ends at token ids \
                 alone; leave {param} out or use_beam_search"
            );
            Err(invalid(param, message))
        }
    }
}
