//! The masks of one request: what each of its samples may be continued with.

use crate::mask_workers::MaskWorkers;
use pagoda_grammar::{Grammar, Matcher};
use pagoda_sched::{ConstraintFault, SampleIndex, TokenConstraint, TokenId};
use std::sync::{Arc, Mutex, MutexGuard};

/// Follows the samples of one request through a grammar.
///
/// The mask after a token is computed by a worker from the moment that the token is chosen, which is during the rest of the
/// step and the next forward pass. Whoever needs a mask that is not there yet computes it, or waits for the worker at it.
#[derive(Debug)]
pub(crate) struct RequestConstraint {
    grammar: Arc<Grammar>,
    /// Ids that end the text besides the grammar's, ascending.
    stop_ids: Box<[TokenId]>,
    samples: Box<[Arc<SampleMask>]>,
    workers: MaskWorkers,
}

/// The mask of the place where one sample is.
#[derive(Debug)]
pub(crate) struct SampleMask {
    grammar: Arc<Grammar>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Made for the first token.
    matcher: Option<Matcher>,
    /// Tokens that the matcher has taken in.
    taken: u32,
    /// The next of them.
    pending: Option<TokenId>,
    /// Mask after `taken` tokens.
    words: Vec<u32>,
    faulty: bool,
}

impl RequestConstraint {
    /// Matchers for `samples` samples, each at the beginning.
    pub(crate) fn new(
        grammar: Arc<Grammar>,
        stop_ids: Box<[TokenId]>,
        samples: u16,
        workers: MaskWorkers,
    ) -> Self {
        let sample = |_| Arc::new(SampleMask { grammar: Arc::clone(&grammar), state: Mutex::default() });
        Self { samples: (0..samples).map(sample).collect(), stop_ids, workers, grammar }
    }

    /// Where the text may end, it may end in every way.
    fn allow_stops(&self, words: &mut Vec<u32>) {
        let has = |words: &[u32], id: TokenId| {
            words.get(id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1)
        };
        if !self.grammar.eos().iter().any(|&id| has(words, id)) {
            return;
        }
        for &id in &self.stop_ids {
            let word = id as usize / 32;
            if words.len() <= word {
                words.resize(word + 1, 0);
            }
            words[word] |= 1 << (id % 32);
        }
    }
}

impl TokenConstraint for RequestConstraint {
    fn allowed(
        &self,
        sample: SampleIndex,
        generated: u32,
        words: &mut Vec<u32>,
    ) -> Result<(), ConstraintFault> {
        words.clear();
        if generated == 0 {
            words.extend_from_slice(self.grammar.start());
        } else {
            self.samples[usize::from(sample.0)].write(generated, words)?;
        }
        self.allow_stops(words);
        Ok(())
    }

    fn chosen(&self, sample: SampleIndex, generated: u32, token: TokenId) {
        let ends = self.stop_ids.binary_search(&token).is_ok() || self.grammar.eos().contains(&token);
        if !ends {
            let mask = &self.samples[usize::from(sample.0)];
            mask.choose(generated, token);
            self.workers.advance(mask);
        }
    }
}

/// What a long text has left behind takes long to free, so that is done elsewhere.
impl Drop for RequestConstraint {
    fn drop(&mut self) {
        self.workers.release(std::mem::take(&mut self.samples));
    }
}

impl SampleMask {
    /// Computes the mask after the token that was chosen last, unless it is there.
    pub(crate) fn catch_up(&self) {
        self.lock().catch_up(&self.grammar);
    }

    fn choose(&self, generated: u32, token: TokenId) {
        let mut state = self.lock();
        // A token that was chosen out of turn cannot be followed.
        state.faulty |= state.taken != generated || state.pending.is_some();
        state.pending = Some(token);
    }

    fn write(&self, generated: u32, words: &mut Vec<u32>) -> Result<(), ConstraintFault> {
        let mut state = self.lock();
        state.catch_up(&self.grammar);
        if state.faulty || state.taken != generated {
            return Err(ConstraintFault);
        }
        words.extend_from_slice(&state.words);
        Ok(())
    }

    /// A matcher that a panic went through is not to be trusted.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| {
            let mut state = poisoned.into_inner();
            state.faulty = true;
            state
        })
    }
}

impl State {
    fn catch_up(&mut self, grammar: &Grammar) {
        let Some(token) = self.pending.take().filter(|_| !self.faulty) else { return };
        let matcher = self.matcher.get_or_insert_with(|| grammar.matcher());
        let followed = matcher.consume(token).and_then(|()| matcher.mask(&mut self.words));
        self.faulty = followed.is_err();
        self.taken += 1;
    }
}
