//! `pagoda inspect`: what a model is and what it will take.

use super::args::InspectArgs;
use super::exit::CliError;
use super::options::builder;
use super::size::show_bytes;
use pagoda::bench::rss_bytes;
use pagoda::memory::available_bytes;
use pagoda::model::{AttentionSpan, DecoderSpec, Flow, RopeScaling, RopeSpec};
use pagoda::{Prepared, ServedModel};
use std::fmt::Write;

/// Prints the description of the model to stdout.
pub(crate) fn inspect(args: &InspectArgs) -> Result<(), CliError> {
    let prepared = builder(args.model.as_deref(), &args.engine)?.prepare()?;
    print!("{}{}{}", describe(&prepared), details(prepared.checkpoint.spec()), special(&prepared.model));
    if args.template {
        let source = prepared.model.tokenizer.chat_template().map_or("", |template| template.source());
        println!("\n{source}");
    }
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
    let free = available_bytes().map_or_else(|| "?".to_owned(), show_bytes);
    let mut lines = vec![
        format!(
            "pagoda  {} · device cpu · {} · {} threads · {free} free",
            env!("CARGO_PKG_VERSION"),
            prepared.isa(),
            memory.threads
        ),
        format!(
            "model   {} · {} · {} parameters · stored as {} in {} · {} tokens in the vocabulary",
            model.name(),
            spec.architecture,
            show_count(checkpoint.parameters()),
            spec.dtype,
            show_bytes(checkpoint.stored_bytes()),
            spec.vocab_size,
        ),
        format!("chat    {} · stops: {}", chat(model), stops(model)),
        format!("sample  {}", defaults(model)),
        self::memory(prepared),
        format!(
            "kv      {tokens} tokens · {} blocks x {} · {} per token · fits {} requests of full length ({}){}",
            layout.blocks - 1,
            layout.block_size,
            show_bytes(layout.block_bytes() / u64::from(layout.block_size)),
            tokens / u64::from(model.max_model_len),
            model.max_model_len,
            short_requests(tokens, model.max_model_len),
        ),
    ];
    if model.max_model_len < spec.max_context {
        lines.push(format!(
            "note    requests can have {} tokens of the {} that the model was made for",
            model.max_model_len, spec.max_context
        ));
    }
    lines.iter().map(|line| line.clone() + "\n").collect()
}

/// How many shorter requests fit, where the longest are longer.
fn short_requests(tokens: u64, longest: u32) -> String {
    const SHORT: u32 = 2048;
    if longest > SHORT { format!(" or {} of {SHORT}", tokens / u64::from(SHORT)) } else { String::new() }
}

/// The tokens that end an answer, as text and number.
fn stops(model: &ServedModel) -> String {
    let name = |id: &u32| match model.tokenizer.id_to_token(*id) {
        Some(text) => format!("{text} ({id})"),
        None => id.to_string(),
    };
    let stops: Vec<String> = model.stop_ids.iter().map(name).collect();
    if stops.is_empty() { "none".to_owned() } else { stops.join(", ") }
}

/// The memory plan in a line.
pub(crate) fn memory(prepared: &Prepared) -> String {
    let memory = &prepared.memory;
    let free = available_bytes().map_or_else(|| "?".to_owned(), show_bytes);
    let program = rss_bytes().unwrap_or(0);
    let adapters = match memory.adapters {
        0 => String::new(),
        bytes => format!(" + up to {} adapters {}", prepared.cpu.adapters.count, show_bytes(bytes)),
    };
    format!(
        "memory  weights {} ({}) + KV {} ({}) + workspace {}{adapters} + program {} = {} of {free} free",
        show_bytes(memory.weights),
        memory.weight_formats,
        show_bytes(memory.kv),
        memory.kv_dtype,
        show_bytes(memory.activations),
        show_bytes(program),
        show_bytes(memory.total() + program),
    )
}

fn chat(model: &ServedModel) -> String {
    let Some(template) = model.tokenizer.chat_template() else {
        return "no chat template (it looks like a base model): /v1/completions works, for chat give --chat-template"
            .to_owned();
    };
    match template.check() {
        Err(error) => format!("the chat template cannot be used: {error}"),
        Ok(()) if template.mentions("tools") => "template with a tool section".to_owned(),
        Ok(()) => "template without a tool section, so tools get a generic JSON prompt".to_owned(),
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
    let given = [defaults.temperature, defaults.top_p, defaults.min_p, defaults.repetition_penalty];
    let of_model = given.iter().any(Option::is_some) || defaults.top_k.is_some();
    let origin = if of_model { " (generation_config.json)" } else { "" };
    text + origin + " unless the request says otherwise"
}

/// The special tokens by what they are for.
fn special(model: &ServedModel) -> String {
    let tokens = model.tokenizer.special_tokens();
    let named = tokens.entries().map(|(role, text)| format!("{} {text}", role.trim_end_matches("_token")));
    let more = tokens.additional().iter().cloned();
    let told: Vec<String> = named.chain(more).collect();
    format!("special {}\n", if told.is_empty() { "none".to_owned() } else { told.join(" · ") })
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
