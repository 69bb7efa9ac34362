//! How long a connection may take to say what it wants.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Whether a connection is being served, told by the service to the guard of its reads.
///
/// Counts beginnings and ends of calls: an odd count is a call in progress.
#[derive(Clone, Debug, Default)]
pub(crate) struct Activity(Arc<AtomicU64>);

/// A call in progress, until it is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Activity);

impl Activity {
    /// A call begins. On one connection they follow each other.
    pub(crate) fn begin(&self) -> Busy {
        self.0.fetch_add(1, Ordering::AcqRel);
        Busy(self.clone())
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// Times that a connection has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// From the first byte of a head to its last, and for the first byte of the first head.
    pub(crate) head: Duration,
    /// From the end of a call to the first byte of the next head.
    pub(crate) idle: Duration,
}

/// A stream whose reads fail when a request head takes too long to arrive.
///
/// What keeps a connection open without asking for anything costs memory and a file descriptor; a head that comes byte by
/// byte would do so for ever.
pub(crate) struct HeadGuard<T> {
    io: T,
    activity: Activity,
    patience: Patience,
    /// Calls when the wait began.
    seen: u64,
    /// Whether a part of a head has arrived.
    begun: bool,
    /// Runs while no call is in progress.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<T> HeadGuard<T> {
    pub(crate) fn new(io: T, activity: Activity, patience: Patience) -> Self {
        Self { io, activity, patience, seen: 0, begun: false, timer: None }
    }

    /// Forgets the wait if a call has come since it began. Returns whether one is in progress.
    fn look(&mut self) -> bool {
        let count = self.activity.count();
        if count != self.seen {
            self.seen = count;
            self.begun = false;
            self.timer = None;
        }
        count % 2 == 1
    }

    /// How long the present wait may last.
    fn limit(&self) -> Duration {
        if self.begun || self.seen == 0 { self.patience.head } else { self.patience.idle }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for HeadGuard<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, into);
        if self.look() {
            return read;
        }
        let arrived = read.is_ready() && into.filled().len() > before;
        // The time for the first head of a connection runs from its beginning.
        if arrived && !self.begun && self.seen > 0 {
            self.timer = None;
        }
        self.begun |= arrived;
        let limit = self.limit();
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        let late = timer.as_mut().poll(cx);
        if read.is_ready() {
            return read;
        }
        ready!(late);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no request head arrived in time")))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for HeadGuard<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::Instant;

    const HEAD: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(60);

    fn connection() -> (HeadGuard<DuplexStream>, DuplexStream, Activity) {
        let ((near, far), activity) = (duplex(64), Activity::default());
        let guard = HeadGuard::new(near, activity.clone(), Patience { head: HEAD, idle: IDLE });
        (guard, far, activity)
    }

    /// Reads until the guard gives up; the time that it took.
    async fn patience(guard: &mut HeadGuard<DuplexStream>) -> Duration {
        let begun = Instant::now();
        loop {
            match guard.read_u8().await {
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                    return begun.elapsed();
                }
            }
        }
    }

    /// Writes a byte every second.
    fn drip(mut far: DuplexStream) {
        tokio::spawn(async move {
            while far.write_u8(b'x').await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_and_a_slow_head_have_the_same_time() {
        let (mut guard, _far, _) = connection();
        assert_eq!(patience(&mut guard).await.as_secs(), HEAD.as_secs());
        let (mut guard, far, _) = connection();
        drip(far);
        assert_eq!(patience(&mut guard).await.as_secs(), HEAD.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn between_two_requests_a_connection_may_rest() {
        let (mut guard, mut far, activity) = connection();
        far.write_u8(b'x').await.unwrap();
        guard.read_u8().await.unwrap();
        drop(activity.begin());
        assert_eq!(patience(&mut guard).await.as_secs(), IDLE.as_secs());
        drop(activity.begin());
        tokio::time::sleep(IDLE / 2).await;
        drip(far);
        assert_eq!(patience(&mut guard).await.as_secs(), HEAD.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_may_take_its_time() {
        let (mut guard, _far, activity) = connection();
        let busy = activity.begin();
        let early = tokio::time::timeout(10 * IDLE, guard.read_u8()).await;
        assert!(early.is_err(), "{early:?}");
        drop(busy);
        assert_eq!(patience(&mut guard).await.as_secs(), IDLE.as_secs());
    }
}
