//! How far back each layer sees: `sliding_window` and `layer_types`.

use crate::json::{Object, clip};
use crate::{AttentionSpan, DecoderSpec, LayerSpec, Mlp, ModelError};

const DEFAULT_WINDOW: u32 = 4096;

/// The window: 4096 when the field is not written, none when it is `null`.
pub(super) fn window(config: &Object) -> Result<Option<u32>, ModelError> {
    if !config.is_written("sliding_window") {
        return Ok(Some(DEFAULT_WINDOW));
    }
    config.count("sliding_window", u32::MAX)
}

/// The same span in all layers; `layer_types`, when given, must agree.
pub(super) fn uniform(
    config: &Object,
    spec: &mut DecoderSpec,
    window: Option<u32>,
) -> Result<(), ModelError> {
    let span = span(window);
    if let Some(types) = layer_types(config, spec, window)?
        && types.iter().any(|other| *other != span)
    {
        return Err(
            config.unsupported("layer_types", "this architecture has one kind of attention in all layers")
        );
    }
    spec.layers.iter_mut().for_each(|layer| layer.attention = span);
    Ok(())
}

/// Layers as `layer_types` lists them, or else a window in those, counted from 0, for which `windowed` holds.
pub(super) fn mixed(
    config: &Object,
    spec: &mut DecoderSpec,
    window: Option<u32>,
    windowed: impl Fn(u32) -> bool,
) -> Result<(), ModelError> {
    let spans = match layer_types(config, spec, window)? {
        Some(types) => types,
        None => (0..spec.layers.len() as u32).map(|index| span(window.filter(|_| windowed(index)))).collect(),
    };
    spec.layers.iter_mut().zip(spans).for_each(|(layer, span)| layer.attention = span);
    Ok(())
}

/// A window in all layers but every `n`-th, where `n` is what `field` says or `default`.
pub(super) fn all_but_every(
    config: &Object,
    spec: &mut DecoderSpec,
    window: Option<u32>,
    (field, default): (&str, u32),
) -> Result<(), ModelError> {
    let every = match config.get("layer_types") {
        Some(_) => default,
        None => config.count(field, u32::MAX)?.unwrap_or(default),
    };
    mixed(config, spec, window, |index| !(index + 1).is_multiple_of(every))
}

/// A layer with a rotation and a gated MLP.
pub(super) fn layer(window: Option<u32>) -> LayerSpec {
    LayerSpec { attention: span(window), rope: Some(0), mlp: Mlp::Gated }
}

fn span(window: Option<u32>) -> AttentionSpan {
    window.map_or(AttentionSpan::Full, AttentionSpan::Window)
}

fn layer_types(
    config: &Object,
    spec: &DecoderSpec,
    window: Option<u32>,
) -> Result<Option<Vec<AttentionSpan>>, ModelError> {
    let Some(types) = config.texts("layer_types")? else { return Ok(None) };
    let layers = spec.layers.len();
    if types.len() != layers {
        let problem = format!("lists {} layers, but num_hidden_layers is {layers}", types.len());
        return Err(config.error("layer_types", problem));
    }
    let of_kind = |kind: &str| match (kind, window) {
        ("full_attention", _) => Ok(AttentionSpan::Full),
        ("sliding_attention", Some(window)) => Ok(AttentionSpan::Window(window)),
        ("sliding_attention", None) => {
            let problem = "names sliding_attention, but no window is in force: give sliding_window (and \
                           use_sliding_window, where the architecture has it)";
            Err(config.error("layer_types", problem))
        }
        (other, _) => {
            let problem =
                format!("names {:?}; only full_attention and sliding_attention are read", clip(other));
            Err(config.error("layer_types", problem))
        }
    };
    types.into_iter().map(of_kind).collect::<Result<_, _>>().map(Some)
}
