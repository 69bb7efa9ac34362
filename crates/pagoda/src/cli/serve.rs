//! `pagoda serve`: the HTTP server.

use super::args::ServeArgs;
use super::exit::{CliError, Failure};
use super::find_model::next_steps;
use super::inspect::describe;
use super::listeners::{Listeners, Place};
use super::log_lines;
use super::options::builder;
use super::progress::LoadBar;
use super::quantize;
use super::reload::Keeper;
use super::security::SecurityArgs;
use super::status;
use super::tenants;
use anyhow::anyhow;
use pagoda::sched::Deadlines;
use pagoda::server::{Reload, ServerConfig, ServerState};
use pagoda::{Engine, EngineHandle, EngineState, Prepared, QuantFormat};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often the load is looked at while it runs.
const LOAD_LOOK: Duration = Duration::from_millis(100);

/// Serves until a signal or a failure of the engine.
pub(crate) fn serve(args: &ServeArgs) -> Result<(), CliError> {
    log_lines::take_notices();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::new(Failure::Runtime, error))?;
    let served = runtime.block_on(serve_async(args));
    // A template or a tokenizer that is still at work for a caller who was cut off is not waited for.
    runtime.shutdown_background();
    served
}

async fn serve_async(args: &ServeArgs) -> Result<(), CliError> {
    let started = Instant::now();
    let stop = StopSignals::new()?;
    let mut config = server_config(args)?;
    let (reload, orders) = Reload::channel();
    config.reload = Some(reload);
    let prepared = prepare(args)?;
    config.build.cpu_isa = Some(prepared.isa().to_string());
    let Listeners { main, place, admin } = Listeners::bind(args)?;
    announce((&prepared, args), &config, (&place, admin.as_ref().map(|(_, address)| *address)));
    let load = Load {
        started,
        begun: Instant::now(),
        quantize: prepared.cpu.quantize,
        ways_in: format!(
            "        API   {}   metrics /metrics   docs /docs\n        try   {}",
            place.url(),
            place.try_line()
        ),
    };
    let engine = prepared.load_in_background()?;
    let handle = engine.handle().clone();
    let state = ServerState::new(handle.clone(), config);
    let admin = admin.map(|(listener, _)| {
        tokio::spawn(pagoda::server::serve_admin(listener, state.clone(), std::future::pending()))
    });
    let loading = tokio::spawn(report_load(handle.clone(), load));
    let status = (!args.disable_log_stats).then(|| tokio::spawn(status::report(state.clone())));
    let mut keeper = Keeper::new(args, engine, state.clone(), orders)?;
    let mut signal = None;
    let (kept, ended_by) = (&mut keeper, &mut signal);
    let until = async move {
        *ended_by = end(kept, stop).await;
    };
    let served = pagoda::server::serve(main, state, until).await;
    for task in [Some(loading), status].into_iter().flatten() {
        task.abort();
    }
    if let Some(admin) = admin {
        admin.abort();
    }
    served.map_err(|error| CliError::new(Failure::Runtime, error))?;
    finish(keeper.into_engine(), signal)
}

/// Waits for the end of the engine (`None`) or for a signal. From a first signal on a second one ends the process at once.
async fn end(keeper: &mut Keeper<'_>, mut stop: StopSignals) -> Option<Failure> {
    tokio::select! {
        () = keeper.keep() => None,
        signal = stop.first() => {
            eprintln!("draining; a second signal stops at once");
            tokio::spawn(async move { std::process::exit(i32::from(stop.first().await as u8)) });
            Some(signal)
        }
    }
}

pub(crate) fn prepare(args: &ServeArgs) -> Result<Prepared, CliError> {
    let mut builder = builder(args.model.as_deref(), &args.engine)?;
    if !args.served_model_name.is_empty() {
        builder = builder.served_names(args.served_model_name.iter().cloned());
    }
    let engine = builder.engine_config();
    engine.scheduler.max_waiting_requests =
        args.max_queue.unwrap_or_else(|| args.engine.max_num_seqs.saturating_mul(4).max(64));
    engine.scheduler.ageing = Duration::from_secs(args.ageing);
    engine.scheduler.max_pinned_blocks = args.max_pinned_blocks;
    engine.give_up_after = Duration::from_secs(args.stall_timeout);
    engine.stall_after = engine.stall_after.min(engine.give_up_after / 2);
    engine.deadlines = Deadlines {
        queue: Some(Duration::from_secs(args.queue_timeout)),
        first_token: args.first_token_timeout.map(Duration::from_secs),
        total: args.request_timeout.map(Duration::from_secs),
    };
    let prepared = builder.prepare()?;
    check_pins(args.max_pinned_blocks, &prepared)?;
    Ok(prepared)
}

/// Beside what may be pinned, a request of full length has to fit.
fn check_pins(pinned: u32, prepared: &Prepared) -> Result<(), CliError> {
    // Block 0 holds no tokens.
    let blocks = prepared.cpu.blocks - 1;
    let longest = prepared.model.max_model_len.div_ceil(prepared.cpu.block_size);
    let most = (blocks / 2).min(blocks.saturating_sub(longest));
    if pinned <= most {
        return Ok(());
    }
    let error = anyhow!(
        "--max-pinned-blocks is {pinned}; at most {most} of the {blocks} KV blocks can be pinned, so that a request of \
         {} tokens fits beside them: lower it or --max-model-len, or give more --kv-cache-memory",
        prepared.model.max_model_len
    );
    Err(CliError::new(Failure::Usage, error))
}

fn server_config(args: &ServeArgs) -> Result<ServerConfig, CliError> {
    let mut config = ServerConfig {
        unlisted_names: args.model.as_deref().map(names_of).unwrap_or_default(),
        any_model_name: args.any_model_name,
        shutdown_timeout: Duration::from_secs(args.shutdown_timeout),
        tenants: tenants::weights(&args.tenants)?,
        share_prefix_cache: args.tenants.share_prefix_cache,
        ..ServerConfig::default()
    };
    config.build.version = env!("CARGO_PKG_VERSION").to_owned();
    args.security.apply(args.host, &mut config)?;
    Ok(config)
}

/// What clients may call a model besides its names: the folder as it was typed, and its last component.
fn names_of(model: &str) -> Vec<String> {
    let last = Path::new(model).file_name().map(|name| name.to_string_lossy().into_owned());
    std::iter::once(model.to_owned()).chain(last).collect()
}

fn announce(
    (prepared, args): (&Prepared, &ServeArgs),
    config: &ServerConfig,
    (place, admin): (&Place, Option<SocketAddr>),
) {
    eprint!("{}", describe(prepared));
    if args.model.is_none() && args.engine.random.is_none() {
        eprint!(
            "note    no MODEL was given: the story model inside this program is served\n{}",
            next_steps("serve")
        );
    }
    eprintln!("{}", waiting(prepared));
    eprintln!("{}", SecurityArgs::describe(config, args.host));
    if let Some(address) = admin {
        eprintln!("admin   http://{address}");
    }
    super::print::place(format_args!("listening on {}\n", place.url()));
}

/// How much may wait, and for how long higher classes go first.
fn waiting(prepared: &Prepared) -> String {
    let scheduler = &prepared.engine.scheduler;
    let [high, normal, low] = [1, 2, 3].map(|classes| scheduler.ageing.saturating_mul(classes).as_secs_f64());
    format!(
        "queue   {} requests · higher classes that come later go before low ones for {low} s, normal {normal} s, high {high} s; \
         from then on at most {} times in a row",
        scheduler.max_waiting_requests,
        pagoda::sched::TURNS,
    )
}

/// What is said once the weights are loaded.
struct Load {
    /// When the process began.
    started: Instant,
    /// When the load did.
    begun: Instant,
    quantize: Option<QuantFormat>,
    /// How to use the server, in lines to copy.
    ways_in: String,
}

async fn report_load(handle: EngineHandle, load: Load) {
    let mut bar = LoadBar::new();
    while handle.state() == EngineState::Loading {
        bar.show(handle.health().loaded);
        tokio::time::sleep(LOAD_LOOK).await;
    }
    if handle.state() == EngineState::Ready {
        bar.show(1.0);
        if let Some(format) = load.quantize {
            quantize::report(format, load.begun.elapsed());
        }
        let (open, weights) = (load.begun - load.started, load.begun.elapsed());
        eprintln!(
            "ready   {:.1} s (open {:.1} · weights {:.1})\n{}",
            (open + weights).as_secs_f64(),
            open.as_secs_f64(),
            weights.as_secs_f64(),
            load.ways_in,
        );
        prepare_constraints(&handle);
    }
}

/// Reads the vocabulary for constrained outputs beside everything else, so that the first request with one does not wait
/// for it.
pub(crate) fn prepare_constraints(handle: &EngineHandle) {
    let model = handle.model().clone();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = model.prepare_constraints() {
            tracing::warn!(%error, "outputs of this model cannot be constrained");
        }
    });
}

/// Stops the engine and reports how it ended.
fn finish(engine: Engine, signal: Option<Failure>) -> Result<(), CliError> {
    engine.handle().shutdown();
    engine.join().map_err(|error| CliError::new(Failure::Internal, error))?;
    let Some(signal) = signal else { return Ok(()) };
    let name = if signal == Failure::Terminated { "SIGTERM" } else { "SIGINT" };
    Err(CliError::new(signal, anyhow!("ended by {name}, with nothing left to do")))
}

struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    fn new() -> Result<Self, CliError> {
        let listen = |kind| signal(kind).map_err(|error| CliError::new(Failure::Runtime, error));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits for the next of the signals; it is told as its exit code.
    async fn first(&mut self) -> Failure {
        tokio::select! {
            _ = self.interrupt.recv() => Failure::Interrupted,
            _ = self.terminate.recv() => Failure::Terminated,
        }
    }
}
