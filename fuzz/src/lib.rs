//! What all targets have in common.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::Once;

static HOOK: Once = Once::new();

/// Runs the target of that name. A panic that gets out of it ends the process; one of a library that is caught where it has to be
/// is no fault, so libFuzzer's hook, which ends the process at any, is replaced.
pub fn run(name: &str, data: &[u8]) {
    HOOK.call_once(|| set_hook(Box::new(|panic| eprintln!("{panic}"))));
    if catch_unwind(AssertUnwindSafe(|| pagoda_hostile::run(name, data))).is_err() {
        std::process::abort();
    }
}
