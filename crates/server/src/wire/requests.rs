//! `/v1/requests` and `/v1/requests/{id}`: the responses as written.

use pagoda_engine::{Explanation, MachineState, RequestBrief, RequestId, Rule, Standing};
use serde::Serialize;
use std::time::Duration;

/// Most requests of a list.
const MAX_LISTED: usize = 1_000;

/// What waits and runs, oldest first.
#[derive(Serialize)]
pub(crate) struct RequestList {
    pub(crate) object: &'static str,
    pub(crate) data: Vec<ListedRequest>,
    /// Whether there are more than are listed.
    pub(crate) has_more: bool,
}

/// One of them.
#[derive(Serialize)]
pub(crate) struct ListedRequest {
    pub(crate) object: &'static str,
    pub(crate) id: String,
    /// The `x-request-id` of its call, if the caller gave one.
    pub(crate) name: Option<String>,
    pub(crate) age_ms: u64,
    pub(crate) prompt_tokens: u32,
    pub(crate) generated_tokens: u64,
    /// Samples that have not ended.
    pub(crate) samples: u16,
}

impl RequestList {
    /// `name` tells what the caller of a request called it.
    pub(crate) fn new(requests: &[RequestBrief], name: &dyn Fn(RequestId) -> Option<String>) -> Self {
        let listed = requests.iter().take(MAX_LISTED).map(|request| ListedRequest {
            object: "request",
            id: request.id.to_string(),
            name: name(request.id),
            age_ms: millis(request.age),
            prompt_tokens: request.prompt_tokens,
            generated_tokens: request.generated,
            samples: request.samples,
        });
        Self { object: "list", data: listed.collect(), has_more: requests.len() > MAX_LISTED }
    }
}

/// A request that ends after the running step.
#[derive(Serialize)]
pub(crate) struct Cancelled {
    pub(crate) object: &'static str,
    pub(crate) id: String,
    pub(crate) cancelled: bool,
}

impl Cancelled {
    pub(crate) fn new(id: RequestId) -> Self {
        Self { object: "request.cancelled", id: id.to_string(), cancelled: true }
    }
}

/// Requests that end after the running step.
#[derive(Serialize)]
pub(crate) struct Aborted {
    pub(crate) object: &'static str,
    /// How many; those that had ended or were never there are not counted.
    pub(crate) cancelled: usize,
}

/// Where a request stands.
#[derive(Serialize)]
pub(crate) struct RequestView {
    pub(crate) object: &'static str,
    pub(crate) id: String,
    /// As metrics name it.
    pub(crate) tenant: String,
    /// `waiting` or `running`.
    pub(crate) state: &'static str,
    pub(crate) class: &'static str,
    /// After the time that it has waited.
    pub(crate) effective_class: &'static str,
    /// Time in the queue so far.
    pub(crate) waited_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waiting: Option<Waiting>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) running: Option<Running>,
    /// Absent before the first step, and once it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expected: Option<Expected>,
    pub(crate) machine: Machine,
}

/// What holds a request back.
#[derive(Serialize)]
pub(crate) struct Waiting {
    /// Sequences that are expected to go before it.
    pub(crate) position: u32,
    /// Short name of the rule.
    pub(crate) rule: &'static str,
    /// The rule in words.
    pub(crate) reason: String,
    /// Blocks that have to be free for it.
    pub(crate) needed_blocks: u32,
    /// Tokens of it that are in the prefix cache.
    pub(crate) cached_tokens: u32,
    /// The next of those before it; `null` for those of other tenants.
    pub(crate) before: Vec<Option<String>>,
}

/// How far a request is.
#[derive(Serialize)]
pub(crate) struct Running {
    pub(crate) computed_tokens: u32,
    pub(crate) generated_tokens: u32,
    pub(crate) blocks: u32,
}

/// When a request is expected to be served, from the moment of asking.
#[derive(Serialize)]
pub(crate) struct Expected {
    pub(crate) start_ms: u64,
    pub(crate) first_token_ms: u64,
    pub(crate) finish_ms: u64,
}

/// What all requests share.
#[derive(Serialize)]
pub(crate) struct Machine {
    pub(crate) rows: u32,
    pub(crate) max_rows: u32,
    pub(crate) blocks: u32,
    pub(crate) blocks_free: u32,
    /// Of the free ones, those with cached content.
    pub(crate) blocks_reclaimable: u32,
}

impl RequestView {
    pub(crate) fn new(id: RequestId, tenant: String, explanation: &Explanation) -> Self {
        let (waiting, running) = match &explanation.standing {
            Standing::Waiting { .. } => (waiting(&explanation.standing, &explanation.machine), None),
            &Standing::Running { computed, generated, blocks } => {
                (None, Some(Running { computed_tokens: computed, generated_tokens: generated, blocks }))
            }
        };
        let expected = explanation.estimate.map(|estimate| Expected {
            start_ms: millis(estimate.start),
            first_token_ms: millis(estimate.first_token),
            finish_ms: millis(estimate.finish),
        });
        let machine = explanation.machine;
        Self {
            object: "request",
            id: id.to_string(),
            tenant,
            state: if waiting.is_some() { "waiting" } else { "running" },
            class: explanation.class.name(),
            effective_class: explanation.effective_class.name(),
            waited_ms: millis(explanation.waited),
            waiting,
            running,
            expected,
            machine: Machine {
                rows: machine.rows.0,
                max_rows: machine.rows.1,
                blocks: machine.blocks,
                blocks_free: machine.blocks_free,
                blocks_reclaimable: machine.blocks_reclaimable,
            },
        }
    }
}

fn waiting(standing: &Standing, machine: &MachineState) -> Option<Waiting> {
    let &Standing::Waiting { position, rule, needed_blocks, cached_tokens, ref before } = standing else {
        return None;
    };
    let own = |id: RequestId| (id != RequestId::EMPTY).then(|| id.to_string());
    Some(Waiting {
        position,
        rule: rule.name(),
        reason: reason(rule, needed_blocks, machine),
        needed_blocks,
        cached_tokens,
        before: before.iter().copied().map(own).collect(),
    })
}

/// Why a request waits, in words.
fn reason(rule: Rule, needed: u32, machine: &MachineState) -> String {
    let other = |id: RequestId| {
        if id == RequestId::EMPTY {
            "a request of another tenant".to_owned()
        } else {
            format!("request {id}")
        }
    };
    match rule {
        Rule::Next => "it goes into the next step".to_owned(),
        Rule::Order { first } => {
            format!("{} goes first, by class, share of the tenant or arrival", other(first.request))
        }
        Rule::Rows => format!("the batch is full: {} of {} rows run", machine.rows.0, machine.rows.1),
        Rule::Blocks => format!(
            "it needs {needed} KV blocks and {} of {} are free, {} of them with cached content",
            machine.blocks_free, machine.blocks, machine.blocks_reclaimable
        ),
        Rule::Prefix { with } => {
            format!("{} is computing a prefix that both have", other(with.request))
        }
        Rule::Prefill => {
            "two other prompts are being computed, or streams leave no room for a part of this one".to_owned()
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
