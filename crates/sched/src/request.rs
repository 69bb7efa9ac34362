//! What was asked. Immutable after validation.

use crate::{
    AdapterId, CacheSalt, CacheSpace, DeadlineKind, Priority, RequestId, Retention, SamplingParams, Tenant,
    TokenId,
};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One request as the scheduler sees it: token ids and limits, no text and no connection.
///
/// The front end has checked it: the prompt is not empty, every id is in the vocabulary, `samples >= 1`,
/// and prompt + `max_tokens` is within the model's context.
#[derive(Clone, Debug)]
pub struct Request {
    /// Name of the request, unique among all that are known to the scheduler.
    pub id: RequestId,
    /// Prompt tokens; shared by the samples of the request.
    pub prompt: Arc<[TokenId]>,
    /// How tokens are chosen, where generation stops, and what is reported.
    pub sampling: Arc<SamplingParams>,
    /// Upper bound of generated tokens per sample; 0 ends the request when its prompt is computed.
    pub max_tokens: u32,
    /// Number of samples (`n`), or of outputs that a beam search returns; all share the blocks of the prompt.
    pub samples: u16,
    /// Scheduling class.
    pub priority: Priority,
    /// Who pays.
    pub tenant: Tenant,
    /// Which prefix cache the request may share.
    pub salt: CacheSalt,
    /// What the model is changed by.
    pub adapter: AdapterId,
    /// How long the full blocks of its prompt stay in that cache.
    pub retention: Retention,
    /// When the request was accepted; monotonic.
    pub enqueued_at: Instant,
    /// Time limits, counted from `enqueued_at`.
    pub deadlines: Deadlines,
}

impl Request {
    /// Positions of the prompt whose outputs are read for [`SamplingParams::report`].
    pub(crate) fn read_positions(&self) -> Range<u32> {
        self.sampling.report.positions(self.prompt.len() as u32)
    }

    /// Where in the prefix cache its blocks are.
    pub fn cache_space(&self) -> CacheSpace {
        CacheSpace { salt: self.salt, adapter: self.adapter }
    }

    /// Rows of a step that the request takes once its prompt is computed: its samples or its beams.
    pub fn rows(&self) -> u16 {
        self.sampling.beam.map_or(self.samples, |beam| beam.width)
    }
}

/// Time limits of a request, each counted from its arrival. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    /// Longest wait before the first step that includes the request.
    pub queue: Option<Duration>,
    /// Longest time to the first token.
    pub first_token: Option<Duration>,
    /// Longest time to the end.
    pub total: Option<Duration>,
}

impl Deadlines {
    /// The limit of this kind.
    pub fn of(&self, kind: DeadlineKind) -> Option<Duration> {
        match kind {
            DeadlineKind::Queue => self.queue,
            DeadlineKind::FirstToken => self.first_token,
            DeadlineKind::Total => self.total,
        }
    }
}
