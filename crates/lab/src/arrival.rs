//! One request of a workload, before it has a prompt.

use pagoda_sched::Priority;

/// One request of a workload: when it comes, how long it is, and who asks. Its tokens are made when it arrives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// Seconds since the start. Of no meaning where clients wait for their answers.
    pub at: f64,
    /// Tokens of the prompt, the shared prefix included; at least 1.
    pub prompt_tokens: u32,
    /// Tokens after which the model ends the answer, its stop token included; at least 1. The scheduler does not know it.
    pub output_tokens: u32,
    /// Most tokens of the answer, as the client asks; at least `output_tokens`.
    pub max_tokens: u32,
    /// Scheduling class.
    pub class: Priority,
    /// Who pays: an index of the names of the source.
    pub tenant: u32,
    /// What the prompt has in common with others.
    pub prefix: Option<Prefix>,
}

/// The beginning of a prompt that others share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Requests with the same group have the same tokens at the same places of their prefixes.
    pub group: u32,
    /// Leading tokens that are the group's; at most those of the prompt.
    pub tokens: u32,
}
