//! Log lines on their way to stderr. Who logs does not wait: where stderr is a pipe that nobody reads, or a disk that is full,
//! lines are lost and the work goes on.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Lines that may wait to be written.
const WAITING: usize = 4_096;

/// How long the end of the process waits for them.
const FLUSH: Duration = Duration::from_secs(1);

static STARTED: OnceLock<LogLines> = OnceLock::new();

/// Whether notices go the same way.
static TAKES_NOTICES: AtomicBool = AtomicBool::new(false);

/// What waits.
enum Item {
    Line(Vec<u8>),
    /// Answered once all before it is written.
    Flush(SyncSender<()>),
}

/// The way to the thread that writes. Each write is a line.
#[derive(Clone)]
pub(crate) struct LogLines {
    items: SyncSender<Item>,
    lost: Arc<AtomicU64>,
}

impl LogLines {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Self> {
        let (items, waiting) = sync_channel(WAITING);
        let lines = Self { items, lost: Arc::default() };
        let lost = Arc::clone(&lines.lost);
        std::thread::Builder::new().name("pagoda-log".to_owned()).spawn(move || write(&waiting, &lost))?;
        Ok(STARTED.get_or_init(|| lines).clone())
    }
}

impl Write for LogLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.items.try_send(Item::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(waiting: &Receiver<Item>, lost: &AtomicU64) {
    let mut out = io::stderr();
    for item in waiting {
        // What cannot be written has no other place to go.
        match item {
            Item::Line(line) => drop(out.write_all(&line)),
            Item::Flush(done) => drop(done.try_send(())),
        }
        let missing = lost.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let _ = writeln!(out, "{missing} log lines were lost, because stderr took no more");
        }
    }
}

/// From here on notices go to stderr behind the lines of the log, so that nobody waits for them either.
pub(crate) fn take_notices() {
    TAKES_NOTICES.store(true, Ordering::Relaxed);
}

/// Hands over a notice; `false` if notices go their own way.
pub(crate) fn notice(text: &str) -> bool {
    let lines = STARTED.get().filter(|_| TAKES_NOTICES.load(Ordering::Relaxed));
    // A line that there is no room for is counted as lost.
    lines.is_some_and(|lines| lines.clone().write_all(text.as_bytes()).is_ok())
}

/// Waits until what was logged is written, a second at most.
pub(crate) fn flush() {
    let Some(lines) = STARTED.get() else { return };
    let (done, is_done) = sync_channel(1);
    if lines.items.try_send(Item::Flush(done)).is_ok() {
        let _ = is_done.recv_timeout(FLUSH);
    }
}
