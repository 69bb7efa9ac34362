//! From the files of a model to the model as clients see it.

use crate::BuildError;
use crate::hub::HubId;
use pagoda_engine::{SamplingDefaults, ServedModel};
use pagoda_model::{Checkpoint, ModelError, gguf_part};
use pagoda_text::{Tokenizer, TokenizerFiles};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What takes the place of what the model says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    /// Jinja source.
    pub(crate) chat_template: Option<String>,
    /// Whether sampling parameters of the model are left out.
    pub(crate) neutral_sampling: bool,
}

/// Reads tokenizer, template and defaults of `checkpoint`. `names` may be empty: the model's own name then serves.
pub(crate) fn served_model(
    checkpoint: &Checkpoint,
    names: &[String],
    max_model_len: u32,
    overrides: &Overrides,
) -> Result<ServedModel, BuildError> {
    let tokenizer = tokenizer(checkpoint, overrides.chat_template.as_deref())?;
    let mut stop_ids = [checkpoint.stop_ids(), tokenizer.eos_ids()].concat();
    stop_ids.sort_unstable();
    stop_ids.dedup();
    let name = names.first().cloned().unwrap_or_else(|| own_name(checkpoint));
    let mut served = ServedModel::new(name, Arc::new(tokenizer), max_model_len);
    served.names.extend(names.iter().skip(1).cloned());
    served.vocab_size = checkpoint.spec().vocab_size;
    served.stop_ids = stop_ids.into();
    if !overrides.neutral_sampling {
        served.defaults = defaults(checkpoint);
    }
    served.created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
    served.parameters = checkpoint.parameters();
    served.stored_bytes = checkpoint.stored_bytes();
    served.trained_context = checkpoint.spec().max_context;
    served.hidden = checkpoint.spec().hidden;
    served.dtype = Some(checkpoint.spec().dtype.to_string());
    Ok(served)
}

/// Reads the tokenizer and its chat template, or takes `chat_template` instead of that.
pub(crate) fn tokenizer(
    checkpoint: &Checkpoint,
    chat_template: Option<&str>,
) -> Result<Tokenizer, BuildError> {
    let origin = checkpoint.source().to_string();
    let read = |name| checkpoint.file(name);
    let Some(tokenizer_json) = read("tokenizer.json")? else {
        return Err(BuildError::MissingTokenizer { origin });
    };
    let config = read("tokenizer_config.json")?;
    let special = read("special_tokens_map.json")?;
    let model = read("config.json")?;
    let template =
        read("chat_template.jinja")?.map(|bytes| text_of("chat_template.jinja", bytes.into_owned()));
    let template = template.transpose()?;
    let further = checkpoint.source().files_in(TEMPLATES, ".jinja")?.into_iter().map(|(name, bytes)| {
        let source = text_of(&format!("{TEMPLATES}/{name}.jinja"), bytes)?;
        Ok((name, source))
    });
    let further = further.collect::<Result<Vec<_>, ModelError>>()?;
    Ok(Tokenizer::from_files(&TokenizerFiles {
        origin: &origin,
        tokenizer_json: &tokenizer_json,
        tokenizer_config: config.as_deref(),
        special_tokens_map: special.as_deref(),
        model_config: model.as_deref(),
        chat_template: chat_template.or(template.as_deref()),
        further_templates: if chat_template.is_some() { &[] } else { &further },
    })?)
}

/// The folder with templates for uses of their own.
const TEMPLATES: &str = "additional_chat_templates";

fn text_of(file: &str, bytes: Vec<u8>) -> Result<String, ModelError> {
    String::from_utf8(bytes).map_err(|error| ModelError::Io {
        file: file.to_owned(),
        action: "read",
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, error),
    })
}

/// Name on the hub of what is in its cache, else the last component of the folder, the name of a GGUF file, or that of the embedded
/// model.
fn own_name(checkpoint: &Checkpoint) -> String {
    let source = checkpoint.source().to_string();
    let path = Path::new(&source);
    // The links of a cache lead to files without a name.
    let path = if path.is_file() { std::path::absolute(path) } else { path.canonicalize() };
    let path = path.unwrap_or_else(|_| source.clone().into());
    if let Some(name) = path.ancestors().find_map(HubId::of_snapshot) {
        return name.repository();
    }
    let name = path.file_name().map_or(source, |name| name.to_string_lossy().into_owned());
    let whole = gguf_part(&name).map(|part| part.stem.to_owned());
    whole.or_else(|| name.strip_suffix(".gguf").map(str::to_owned)).unwrap_or(name)
}

fn defaults(checkpoint: &Checkpoint) -> SamplingDefaults {
    let generation = checkpoint.generation();
    SamplingDefaults {
        temperature: generation.temperature,
        top_k: generation.top_k,
        top_p: generation.top_p,
        min_p: generation.min_p,
        repetition_penalty: generation.repetition_penalty,
    }
}
