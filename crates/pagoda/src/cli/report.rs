//! What is left of a defect: a file with the panic and where it happened, for whoever mends it. Nothing of it goes to the
//! log, because the message of a panic can hold what a client has sent.

use super::exit::{CliError, Failure};
use anyhow::anyhow;
use std::backtrace::Backtrace;
use std::panic::{PanicHookInfo, UnwindSafe};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// The last panic of any thread.
static LAST: Mutex<Option<Panic>> = Mutex::new(None);

#[derive(Clone)]
struct Panic {
    message: String,
    place: String,
    trace: String,
}

/// Keeps panics for the report instead of writing them to stderr; of each, the place is logged.
pub(crate) fn keep_panics() {
    std::panic::set_hook(Box::new(|info| {
        let panic = Panic::of(info);
        tracing::error!(place = panic.place, "a thread panicked");
        *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
    }));
}

impl Panic {
    fn of(info: &PanicHookInfo<'_>) -> Self {
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
        let place = info.location().map_or_else(|| "?".to_owned(), ToString::to_string);
        Self { message, place, trace: Backtrace::force_capture().to_string() }
    }
}

/// Runs `work`; a panic of it is an error.
pub(crate) fn contain<T>(work: impl FnOnce() -> Result<T, CliError> + UnwindSafe) -> Result<T, CliError> {
    let done = std::panic::catch_unwind(work);
    done.unwrap_or_else(|_| Err(CliError::new(Failure::Internal, anyhow!("the program has a defect"))))
}

/// `error` with the place of the report, where it is a defect of the program and there is something to report.
pub(crate) fn with_report(error: CliError) -> CliError {
    let panic = LAST.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(panic) = panic.filter(|_| error.failure == Failure::Internal) else { return error };
    let report = match write(&panic) {
        Ok(path) => format!("the report is in {}", path.display()),
        Err(failed) => format!("no report could be written: {failed}"),
    };
    let CliError { failure, error } = error;
    CliError::new(failure, anyhow!("{error:#} (at {}); {report}", panic.place))
}

fn write(panic: &Panic) -> std::io::Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("pagoda-report-{}.txt", std::process::id()));
    let Panic { message, place, trace } = panic;
    let version = env!("CARGO_PKG_VERSION");
    let text =
        format!("pagoda {version} on {} panicked at {place}:\n{message}\n\n{trace}", std::env::consts::ARCH);
    // A file that somebody else has put there is not written through.
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_defect_exits_with_70_and_names_its_report() {
        keep_panics();
        let error = contain::<()>(|| panic!("secret prompt")).unwrap_err();
        let error = with_report(error);
        let _ = std::panic::take_hook();
        assert_eq!(error.failure, Failure::Internal);
        let line = error.line();
        assert!(line.contains("report.rs") && !line.contains("secret prompt"), "{line}");
        let path = line.rsplit(' ').next().expect("the path is last");
        let report = std::fs::read_to_string(path).expect("the report exists");
        std::fs::remove_file(path).expect("it can be removed");
        assert!(report.contains("secret prompt") && report.contains("report.rs"), "{report}");
    }
}
