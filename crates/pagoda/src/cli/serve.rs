//! `pagoda serve`: the HTTP server.

use super::args::ServeArgs;
use super::exit::{CliError, Failure};
use super::inspect::describe;
use super::options::builder;
use super::progress::LoadBar;
use super::quantize;
use super::reload::Keeper;
use super::security::SecurityArgs;
use super::tenants;
use anyhow::anyhow;
use pagoda::sched::Deadlines;
use pagoda::server::{Reload, ServerConfig, ServerState};
use pagoda::{Engine, EngineHandle, EngineState, Prepared, QuantFormat};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often the load is looked at while it runs.
const LOAD_LOOK: Duration = Duration::from_millis(100);

/// Serves until a signal or a failure of the engine.
pub(crate) fn serve(args: &ServeArgs) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::new(Failure::Runtime, error))?;
    let served = runtime.block_on(serve_async(args));
    // A template or a tokenizer that is still at work for a caller who was cut off is not waited for.
    runtime.shutdown_background();
    served
}

async fn serve_async(args: &ServeArgs) -> Result<(), CliError> {
    let started = Instant::now();
    let mut stop = StopSignals::new()?;
    let mut config = server_config(args)?;
    let (reload, orders) = Reload::channel();
    config.reload = Some(reload);
    let prepared = prepare(args)?;
    config.build.cpu_isa = Some(prepared.isa().to_string());
    let listeners = Listeners::bind(args)?;
    announce(&prepared, (args.host, &config), &listeners);
    let load = Load { started, begun: Instant::now(), quantize: prepared.cpu.quantize };
    let engine = prepared.load_in_background()?;
    let state = ServerState::new(engine.handle().clone(), config);
    let admin = listeners.admin.map(|(listener, _)| {
        tokio::spawn(pagoda::server::serve_admin(listener, state.clone(), std::future::pending()))
    });
    let loading = tokio::spawn(report_load(engine.handle().clone(), load));
    let mut keeper = Keeper::new(args, engine, state.clone(), orders)?;
    let kept = &mut keeper;
    let until = async move {
        tokio::select! {
            () = kept.keep() => {}
            () = stop.first() => eprintln!("draining; a second signal stops at once"),
        }
        tokio::spawn(async move {
            stop.first().await;
            std::process::exit(i32::from(Failure::Runtime as u8));
        });
    };
    let served = pagoda::server::serve(listeners.main.0, state, until).await;
    loading.abort();
    if let Some(admin) = admin {
        admin.abort();
    }
    served.map_err(|error| CliError::new(Failure::Runtime, error))?;
    finish(keeper.into_engine())
}

pub(crate) fn prepare(args: &ServeArgs) -> Result<Prepared, CliError> {
    let mut builder =
        builder(args.model.as_deref(), &args.engine)?.served_names(args.served_model_name.iter().cloned());
    let engine = builder.engine_config();
    engine.scheduler.max_waiting_requests =
        args.max_queue.unwrap_or_else(|| args.engine.max_num_seqs.saturating_mul(4).max(64));
    engine.scheduler.ageing = Duration::from_secs(args.ageing);
    engine.scheduler.max_pinned_blocks = args.max_pinned_blocks;
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

/// Listeners with their addresses.
struct Listeners {
    main: (TcpListener, SocketAddr),
    admin: Option<(TcpListener, SocketAddr)>,
}

impl Listeners {
    fn bind(args: &ServeArgs) -> Result<Self, CliError> {
        let main = bind(SocketAddr::new(args.host, args.port))?;
        let admin = match args.security.admin_port {
            Some(port) => Some(bind((Ipv4Addr::LOCALHOST, port).into())?),
            None => None,
        };
        Ok(Self { main, admin })
    }
}

/// Connections that may wait to be accepted; the usual number is so small that a burst of clients overflows it.
const BACKLOG: u32 = 4_096;

fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of a server that has ended may still be closing.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), CliError> {
    listen(address).map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::AddrInUse => "; another program listens there: try another --port, or 0",
            _ => "",
        };
        CliError::new(Failure::Bind, anyhow!("cannot listen on {address}: {error}{advice}"))
    })
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

fn announce(prepared: &Prepared, (host, config): (IpAddr, &ServerConfig), listeners: &Listeners) {
    eprint!("{}", describe(prepared));
    eprintln!("{}", waiting(prepared));
    eprintln!("{}", SecurityArgs::describe(config, host));
    if let Some((_, address)) = &listeners.admin {
        eprintln!("admin   http://{address}");
    }
    super::print::place(format_args!("listening on http://{}/v1\n", listeners.main.1));
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
        eprintln!("ready   {:.1} s", load.started.elapsed().as_secs_f64());
    }
}

/// Stops the engine and reports how it ended.
fn finish(engine: Engine) -> Result<(), CliError> {
    engine.handle().shutdown();
    engine.join().map_err(|error| CliError::new(Failure::Internal, error))
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

    /// Waits for the next of the signals.
    async fn first(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
