//! Beam search the plain way: every continuation of every beam is listed, sorted and counted off.

use super::FakeModel;
use crate::{BeamSearch, EarlyStopping, SamplingParams, TokenId};

/// One output of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct BeamAnswer {
    /// Its tokens, a stop id included.
    pub tokens: Vec<TokenId>,
    /// Sum of the log-probabilities over length to the power of the penalty.
    pub score: f64,
    /// Whether a stop id ended it.
    pub stopped: bool,
}

/// A beam with the hash of all its tokens, the prompt included.
#[derive(Clone)]
struct Live {
    tokens: Vec<TokenId>,
    prefix: u64,
    sum: f64,
}

impl FakeModel {
    /// The outputs that a beam search after `prompt` keeps when none may have more than `longest` tokens, best first.
    ///
    /// # Panics
    /// If `params` ask for no search.
    pub fn beam_answers(&self, prompt: &[TokenId], params: &SamplingParams, longest: u32) -> Vec<BeamAnswer> {
        let search = params.beam.expect("the parameters ask for a search");
        let width = usize::from(search.width);
        let prefix = self.prefix_of(prompt);
        let mut live = vec![Live { tokens: Vec::new(), prefix, sum: 0.0 }];
        let mut kept: Vec<BeamAnswer> = Vec::new();
        for length in 1..=longest {
            let all = self.continuations(&live, params, length - 1);
            let stops = |next: &Live| params.stop_ids.contains(&next.tokens[length as usize - 1]);
            let ended = all.iter().take(width).filter(|&next| stops(next));
            kept.extend(ended.map(|next| answer(next, &search, true)));
            best(&mut kept, width);
            live = all.iter().filter(|&next| !stops(next)).take(width).cloned().collect();
            if is_over(&live, &kept, &search, longest) {
                return kept;
            }
        }
        kept.extend(live.iter().map(|beam| answer(beam, &search, false)));
        best(&mut kept, width);
        kept
    }

    /// Every token after every beam, the best sum first; equal sums by beam, then by token.
    fn continuations(&self, live: &[Live], params: &SamplingParams, generated: u32) -> Vec<Live> {
        let mut all = Vec::new();
        for (rank, beam) in live.iter().enumerate() {
            for next in self.candidates(beam.prefix, generated, usize::MAX) {
                if generated < params.min_tokens && params.stop_ids.contains(&next.token) {
                    continue;
                }
                let tokens = [&beam.tokens[..], &[next.token]].concat();
                let prefix = Self::extend(beam.prefix, next.token);
                all.push((rank, Live { tokens, prefix, sum: beam.sum + f64::from(next.logprob) }));
            }
        }
        all.sort_by(|(one_rank, one), (rank, other)| {
            let tokens = one.tokens.last().cmp(&other.tokens.last());
            other.sum.total_cmp(&one.sum).then(one_rank.cmp(rank)).then(tokens)
        });
        all.into_iter().map(|(_, beam)| beam).collect()
    }
}

fn answer(beam: &Live, search: &BeamSearch, stopped: bool) -> BeamAnswer {
    let score = beam.sum / (beam.tokens.len() as f64).powf(f64::from(search.length_penalty));
    BeamAnswer { tokens: beam.tokens.clone(), score, stopped }
}

/// Keeps the best `width`; among equals what came first.
fn best(kept: &mut Vec<BeamAnswer>, width: usize) {
    kept.sort_by(|one, other| other.score.total_cmp(&one.score));
    kept.truncate(width);
}

fn is_over(live: &[Live], kept: &[BeamAnswer], search: &BeamSearch, longest: u32) -> bool {
    let Some(front) = live.first() else { return true };
    if kept.len() < usize::from(search.width) {
        return false;
    }
    let length = match search.early_stopping {
        EarlyStopping::Yes => return true,
        EarlyStopping::Never if search.length_penalty > 0.0 => longest as usize,
        EarlyStopping::No | EarlyStopping::Never => front.tokens.len(),
    };
    let attainable = front.sum / (length as f64).powf(f64::from(search.length_penalty));
    kept.iter().all(|kept| kept.score >= attainable)
}
