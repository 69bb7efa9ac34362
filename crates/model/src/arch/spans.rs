//! How far back each layer sees: `sliding_window`, `layer_types`, `max_window_layers`.

use crate::json::{Object, clip};
use crate::{AttentionSpan, LayerSpec, ModelError};

const DEFAULT_WINDOW: u32 = 4096;
const DEFAULT_MAX_WINDOW_LAYERS: u32 = 28;

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
    layers: u32,
    window: Option<u32>,
) -> Result<Vec<LayerSpec>, ModelError> {
    let spec = layer(window);
    if let Some(types) = layer_types(config, layers, window)?
        && types.iter().any(|other| *other != spec)
    {
        return Err(
            config.unsupported("layer_types", "this architecture has one kind of attention in all layers")
        );
    }
    Ok(vec![spec; layers as usize])
}

/// Layers as `layer_types` lists them, or else windows from layer `max_window_layers` on.
pub(super) fn mixed(config: &Object, layers: u32, window: Option<u32>) -> Result<Vec<LayerSpec>, ModelError> {
    if let Some(types) = layer_types(config, layers, window)? {
        return Ok(types);
    }
    let full = config.integer("max_window_layers", 0, u32::MAX)?.unwrap_or(DEFAULT_MAX_WINDOW_LAYERS);
    Ok((0..layers).map(|index| layer(window.filter(|_| index >= full))).collect())
}

fn layer(window: Option<u32>) -> LayerSpec {
    LayerSpec { attention: window.map_or(AttentionSpan::Full, AttentionSpan::Window) }
}

fn layer_types(
    config: &Object,
    layers: u32,
    window: Option<u32>,
) -> Result<Option<Vec<LayerSpec>>, ModelError> {
    let Some(types) = config.texts("layer_types")? else { return Ok(None) };
    if types.len() != layers as usize {
        let problem = format!("lists {} layers, but num_hidden_layers is {layers}", types.len());
        return Err(config.error("layer_types", problem));
    }
    let span = |kind: &str| match (kind, window) {
        ("full_attention", _) => Ok(layer(None)),
        ("sliding_attention", Some(window)) => Ok(layer(Some(window))),
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
    types.into_iter().map(span).collect::<Result<_, _>>().map(Some)
}
