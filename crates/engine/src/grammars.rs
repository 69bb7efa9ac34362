//! Constraints of requests, compiled for the model that is served.

use crate::constraint::RequestConstraint;
use crate::mask_workers::MaskWorkers;
use crate::{GenerateParams, InvalidRequest, ServedModel, invalid::invalid};
use pagoda_grammar::{Constraint, Grammar, GrammarCompiler, GrammarError, Vocabulary};
use pagoda_sched::{SharedConstraint, TokenId};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Most grammars that are kept for requests to come.
const MAX_KEPT: usize = 16;

/// Longest constraint whose grammar is kept, bytes.
const MAX_KEPT_BYTES: usize = 16 << 10;

/// A constraint, and where the request states it.
#[derive(Clone, Debug, PartialEq)]
pub struct ConstraintParam {
    /// Path of the field as the client knows it, such as `response_format.json_schema`.
    pub place: &'static str,
    /// What the output has to be.
    pub constraint: Constraint,
}

impl ConstraintParam {
    /// The field that holds it.
    pub(crate) fn param(&self) -> &'static str {
        self.place.split('.').next().unwrap_or(self.place)
    }
}

/// Compiles the constraints of requests and computes their masks. It is made at the first use, since it takes time and
/// memory with a large vocabulary and many servers never see a constraint.
///
/// A clone is one that has not been used.
#[derive(Default)]
pub struct Grammars {
    made: OnceLock<Result<Made, GrammarError>>,
}

struct Made {
    compiler: GrammarCompiler,
    workers: MaskWorkers,
    /// Latest last.
    kept: Mutex<VecDeque<(Constraint, Arc<Grammar>)>>,
}

impl Grammars {
    /// The grammar of `constraint`, of those that are kept or compiled.
    fn grammar(
        &self,
        model: &ServedModel,
        constraint: &Constraint,
    ) -> Result<(Arc<Grammar>, MaskWorkers), GrammarError> {
        let made = self.made.get_or_init(|| Made::new(model)).as_ref().map_err(GrammarError::clone)?;
        Ok((made.grammar(constraint)?, made.workers.clone()))
    }
}

impl Made {
    fn new(model: &ServedModel) -> Result<Self, GrammarError> {
        let tokenizer = &model.tokenizer;
        let bytes = |id| if tokenizer.is_special(id) { None } else { tokenizer.token_bytes(id) };
        let stop_ids: Vec<TokenId> =
            model.stop_ids.iter().copied().filter(|&id| id < model.vocab_size).collect();
        let vocabulary = Vocabulary::new(tokenizer.vocab_size(), bytes, &stop_ids)?;
        let compiler = GrammarCompiler::new(vocabulary, model.limits.grammar)?;
        Ok(Self { compiler, workers: MaskWorkers::start(), kept: Mutex::default() })
    }

    fn grammar(&self, constraint: &Constraint) -> Result<Arc<Grammar>, GrammarError> {
        // The list is whole after any panic: it changes by one insertion and one removal.
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let keeps = constraint.bytes() <= MAX_KEPT_BYTES;
        if keeps {
            let mut kept = lock();
            if let Some(index) = kept.iter().position(|(known, _)| known == constraint) {
                let latest = kept.remove(index).expect("the index was just found");
                let grammar = Arc::clone(&latest.1);
                kept.push_back(latest);
                return Ok(grammar);
            }
        }
        let grammar = Arc::new(self.compiler.compile(constraint)?);
        if keeps {
            let mut kept = lock();
            if kept.len() == MAX_KEPT {
                kept.pop_front();
            }
            kept.push_back((constraint.clone(), Arc::clone(&grammar)));
        }
        Ok(grammar)
    }
}

impl ServedModel {
    /// Compiles the constraint of a request for its samples; `None` if it has none.
    ///
    /// # Errors
    /// Names the field and what cannot be enforced, or what does not go together with a constraint.
    pub(crate) fn check_constraint(
        &self,
        params: &GenerateParams,
        samples: u16,
        stop_ids: &[TokenId],
    ) -> Result<Option<SharedConstraint>, InvalidRequest> {
        let Some(asked) = &params.constraint else { return Ok(None) };
        let ends = "a constrained output ends where its constraint does; leave one of them out";
        if params.ignore_eos {
            return Err(invalid(
                "ignore_eos",
                format!("ignore_eos is set together with {}: {ends}", asked.param()),
            ));
        }
        if let Some(tokens) = params.min_tokens.filter(|&tokens| tokens > 0) {
            let message = format!("min_tokens is {tokens} together with {}: {ends}", asked.param());
            return Err(invalid("min_tokens", message));
        }
        let (grammar, workers) = self
            .grammars
            .grammar(self, &asked.constraint)
            .map_err(|error| invalid(asked.param(), format!("{}: {error}", asked.place)))?;
        let constraint = RequestConstraint::new(grammar, stop_ids.into(), samples, workers);
        Ok(Some(SharedConstraint(Arc::new(constraint))))
    }

    /// Makes ready what constraints need, so that the first request with one does not wait for it.
    ///
    /// # Errors
    /// [`GrammarError::Vocabulary`] if outputs of this model cannot be constrained.
    pub fn prepare_constraints(&self) -> Result<(), GrammarError> {
        self.grammars.grammar(self, &Constraint::JsonObject).map(|_| ())
    }
}

impl Clone for Grammars {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl fmt::Debug for Grammars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammars").field("used", &self.made.get().is_some()).finish()
    }
}
