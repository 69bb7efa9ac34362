//! Configurations, beside the good weights of a model.

use crate::folder::Folder;
use crate::split_kind;

/// A configuration is refused in words, or the weights fit it.
pub(crate) fn run(data: &[u8]) {
    let Some((kind, data)) = split_kind(data) else { return };
    let name = if kind.is_multiple_of(2) { "config.json" } else { "generation_config.json" };
    let folder = Folder::take();
    folder.put(name, data);
    folder.open();
    folder.restore(name);
}
