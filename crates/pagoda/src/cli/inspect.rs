//! `pagoda inspect`: what a model is and what it will take.

use super::args::InspectArgs;
use super::exit::CliError;
use super::options::builder;
use super::size::show_bytes;
use pagoda::memory::available_bytes;
use pagoda::model::{AttentionSpan, DecoderSpec, Flow, RopeScaling, RopeSpec};
use pagoda::{Prepared, ServedModel};
use std::fmt::Write;

/// Prints the description of the model to stdout.
pub(crate) fn inspect(args: &InspectArgs) -> Result<(), CliError> {
    let prepared = builder(args.model.as_deref(), &args.engine)?.prepare()?;
    print!("{}{}", describe(&prepared), details(prepared.checkpoint.spec()));
    if args.tensors {
        print!("{}", tensors(&prepared));
    }
    Ok(())
}

/// The model and its memory plan in a few lines, as `serve` shows them at its start.
pub(crate) fn describe(prepared: &Prepared) -> String {
    let Prepared { checkpoint, model, memory, .. } = prepared;
    let spec = checkpoint.spec();
    let layout = &memory.layout;
    let tokens = u64::from(layout.blocks - 1) * u64::from(layout.block_size);
    [
        format!("pagoda  {} · {} · {} threads", env!("CARGO_PKG_VERSION"), prepared.isa(), memory.threads),
        format!(
            "model   {} · {} · {} parameters · stored as {} in {}",
            model.name(),
            spec.architecture,
            show_count(checkpoint.parameters()),
            spec.dtype,
            show_bytes(checkpoint.stored_bytes()),
        ),
        format!("text    {} tokens · stops {:?} · {}", spec.vocab_size, model.stop_ids, chat(model)),
        format!("sample  {}", defaults(model)),
        self::memory(prepared),
        format!(
            "kv      {tokens} tokens · {} blocks x {} · {} per token · {} requests of full length ({})",
            layout.blocks - 1,
            layout.block_size,
            show_bytes(layout.block_bytes() / u64::from(layout.block_size)),
            tokens / u64::from(model.max_model_len),
            model.max_model_len,
        ),
    ]
    .map(|line| line + "\n")
    .concat()
}

/// The memory plan in a line.
pub(crate) fn memory(prepared: &Prepared) -> String {
    let memory = &prepared.memory;
    let free = available_bytes().map_or_else(|| "?".to_owned(), show_bytes);
    format!(
        "memory  weights {} ({}) + KV {} ({}) + activations {} = {} of {free} free",
        show_bytes(memory.weights),
        memory.weight_formats,
        show_bytes(memory.kv),
        memory.kv_dtype,
        show_bytes(memory.activations),
        show_bytes(memory.total()),
    )
}

fn chat(model: &ServedModel) -> String {
    match model.tokenizer.chat_template().map(|template| template.check()) {
        None => "no chat template: /v1/completions only".to_owned(),
        Some(Ok(())) => "chat template from the model".to_owned(),
        Some(Err(error)) => format!("the chat template cannot be used: {error}"),
    }
}

fn defaults(model: &ServedModel) -> String {
    let defaults = &model.defaults;
    let mut text = match defaults.temperature {
        Some(temperature) => format!("temperature {temperature}"),
        None => "temperature 1".to_owned(),
    };
    let optional = [("top-p", defaults.top_p), ("min-p", defaults.min_p)];
    for (name, value) in optional.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        write!(text, " · {name} {value}").expect("writing to a string cannot fail");
    }
    if let Some(top_k) = defaults.top_k {
        write!(text, " · top-k {top_k}").expect("writing to a string cannot fail");
    }
    if let Some(penalty) = defaults.repetition_penalty {
        write!(text, " · repetition penalty {penalty}").expect("writing to a string cannot fail");
    }
    text + " unless the request says otherwise"
}

fn details(spec: &DecoderSpec) -> String {
    let windowed = spec.layers.iter().filter_map(|layer| match layer.attention {
        AttentionSpan::Window(window) => Some(window),
        AttentionSpan::Full => None,
    });
    let windows: Vec<u32> = windowed.collect();
    let spans = match windows.first() {
        None => "full attention".to_owned(),
        Some(window) => format!("window of {window} in {} layers", windows.len()),
    };
    let flags = [
        (spec.qk_norm.is_some(), "query and key norms"),
        (spec.block.post_norm, "norms after attention and mlp"),
        (spec.block.flow != Flow::Sequential, "attention and mlp in parallel"),
        (spec.qkv_bias, "qkv bias"),
        (spec.o_bias, "output bias"),
        (spec.mlp_bias, "mlp bias"),
        (spec.tied_head, "tied head"),
    ];
    let flags: Vec<&str> = flags.into_iter().filter_map(|(set, name)| set.then_some(name)).collect();
    format!(
        "layers  {} x hidden {} · {} query and {} kv heads of {} · {} · {spans}\n\
         rope    {} · context {}\n\
         extras  {}\n",
        spec.layers.len(),
        spec.hidden,
        spec.heads,
        spec.kv_heads,
        spec.head_dim,
        mlps(spec),
        rotations(spec),
        spec.max_context,
        if flags.is_empty() { "none".to_owned() } else { flags.join(", ") },
    )
}

/// The second branches of the layers.
fn mlps(spec: &DecoderSpec) -> String {
    let mixtures: Vec<_> = spec.layers.iter().filter_map(|layer| layer.mlp.experts()).collect();
    let Some(experts) = mixtures.first() else { return format!("mlp {}", spec.intermediate) };
    let shared = experts
        .shared
        .map_or_else(String::new, |shared| format!(" and a shared one of {}", shared.intermediate));
    let mut text =
        format!("{} of {} experts of {}{shared}", experts.per_token, experts.count, experts.intermediate);
    if mixtures.len() < spec.layers.len() {
        write!(text, " in {} layers, else mlp {}", mixtures.len(), spec.intermediate)
            .expect("writing to a string cannot fail");
    }
    text
}

fn rotations(spec: &DecoderSpec) -> String {
    let one = |rope: &RopeSpec| {
        let scaling = match &rope.scaling {
            RopeScaling::None => String::new(),
            RopeScaling::LongRope { original_max_position, .. } => {
                format!(" stretched from {original_max_position} by factors of their own")
            }
            scaling => format!(" scaled {scaling:?}"),
        };
        format!("theta {} over {} dimensions{scaling}", rope.theta, rope.rotary_dim)
    };
    if spec.ropes.is_empty() {
        return "none".to_owned();
    }
    spec.ropes.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn tensors(prepared: &Prepared) -> String {
    let mut text = String::from("\n");
    for (_, tensor) in prepared.checkpoint.tensors() {
        let shape = format!("{:?}", tensor.shape);
        let line = format!("{:<60} {:>16} {:<5} {}", tensor.name, shape, tensor.dtype, tensor.file);
        writeln!(text, "{line}").expect("writing to a string cannot fail");
    }
    text
}

/// Formats a count for people: `5.77 million`.
fn show_count(count: u64) -> String {
    let count = count as f64;
    if count >= 1e9 { format!("{:.2} billion", count / 1e9) } else { format!("{:.2} million", count / 1e6) }
}
