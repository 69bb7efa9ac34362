//! From typed options to a source and a setup.

use super::args::{Aim, CostArgs, SimArgs};
use crate::cli::exit::{CliError, Failure};
use pagoda::bench::{Report, step_cost};
use pagoda::sched::SchedulerConfig;
use pagoda_lab::{Process, Setup, Slo, Source, StepCost, Workload};
use std::time::Duration;

/// Where the requests come from.
pub(super) fn source(args: &SimArgs) -> Source {
    let load = &args.load;
    if let Some(path) = &load.trace {
        return Source::Trace(path.clone());
    }
    let process = match load.clients {
        Some(clients) => Process::Clients(clients),
        None if load.burst => Process::Burst,
        None => Process::Poisson { rate: load.rate },
    };
    Source::Workload(Workload { shape: load.workload, process, requests: load.requests, seed: load.seed })
}

/// What they go through.
pub(super) fn setup(args: &SimArgs) -> Result<Setup, CliError> {
    let limits = &args.limits;
    let base = Setup::default();
    Ok(Setup {
        config: SchedulerConfig {
            max_num_seqs: limits.max_num_seqs,
            max_num_batched_tokens: limits.max_num_batched_tokens,
            max_model_len: limits.max_model_len,
            itl_target: limits.itl_target_ms.map(Duration::from_millis),
            max_waiting_requests: limits.max_queue.unwrap_or(base.config.max_waiting_requests),
            ..base.config
        },
        block_size: limits.block_size,
        kv_blocks: limits.kv_blocks,
        cost: cost(&args.cost)?,
        without: args.rules.without.iter().copied().collect(),
        weights: args.load.tenant_weight.clone(),
        queue_timeout: limits.queue_timeout.map(Duration::from_secs_f64),
        slo: slo(&args.results.goodput),
    })
}

/// Costs from a file or the default, with what was typed in their place.
fn cost(args: &CostArgs) -> Result<StepCost, CliError> {
    let mut cost = match (&args.cost, &args.fit) {
        (Some(path), _) => StepCost::read(path).map_err(usage)?,
        (None, Some(path)) => {
            let cost = step_cost(&Report::read(path).map_err(usage)?).map_err(usage)?;
            eprintln!(
                "a step of that machine: {:.3} ms + {:.1} us per token beyond {} + {:.2} ns per token of context + {:.2} ns per attended pair",
                1e3 * cost.base_s,
                1e6 * cost.token_s,
                cost.free_tokens,
                1e9 * cost.context_s,
                1e9 * cost.attended_s
            );
            cost
        }
        (None, None) => StepCost::default(),
    };
    for (typed, unit, field) in [
        (args.cost_base_ms, 1e-3, &mut cost.base_s),
        (args.cost_token_us, 1e-6, &mut cost.token_s),
        (args.cost_free_tokens, 1.0, &mut cost.free_tokens),
        (args.cost_context_ns, 1e-9, &mut cost.context_s),
        (args.cost_attended_ns, 1e-9, &mut cost.attended_s),
    ] {
        if let Some(value) = typed {
            *field = value * unit;
        }
    }
    cost.checked().map_err(usage)
}

fn slo(goodput: &[(Aim, f64)]) -> Slo {
    let limit = |aim| goodput.iter().find(|(of, _)| *of == aim).map(|(_, seconds)| *seconds);
    Slo { ttft: limit(Aim::Ttft), tpot: limit(Aim::Tpot), e2e: limit(Aim::E2el) }
}

fn usage(error: impl std::error::Error + Send + Sync + 'static) -> CliError {
    CliError::new(Failure::Usage, error)
}
