//! The client's end of one conversation: events in, text out.

use crate::event::{Ending, Event};
use crate::text::TextAssembler;
use crate::ticket::Ticket;
use crate::validate::TextOptions;
use crate::{Progress, PromptResult, RequestError, RequestResult, SessionEvent, TokenInfo};
use futures_util::Stream;
use pagoda_sched::{CompletionReason, RequestId, RequestStats, SampleIndex, SamplingParams};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// One sample of a submitted request. Dropping it cancels the sample.
///
/// Detokenization and stop strings happen here, on the client's task, so a slow client costs the engine nothing.
/// Also a [`Stream`] of [`SessionEvent`]s.
#[derive(Debug)]
pub struct Session {
    ticket: Arc<Ticket>,
    sample: SampleIndex,
    events: mpsc::Receiver<Event>,
    text: TextAssembler,
    pending: Vec<TokenInfo>,
    /// What was found in the prompt, until it is taken.
    prompt: Option<Arc<PromptResult>>,
    /// Sum over all tokens of the text.
    logprob: f64,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The engine works on it.
    Running,
    /// The engine is done; the terminal event has not been taken.
    Ended(Result<Box<RequestResult>, RequestError>),
    /// The terminal event has been taken.
    Taken,
}

impl Session {
    pub(crate) fn new(
        ticket: Arc<Ticket>,
        sample: SampleIndex,
        events: mpsc::Receiver<Event>,
        sampling: &Arc<SamplingParams>,
        options: &TextOptions,
    ) -> Self {
        let text = TextAssembler::new(&ticket.shared.model.tokenizer, Arc::clone(sampling), options);
        let (pending, phase) = (Vec::new(), Phase::Running);
        Self { ticket, sample, events, text, pending, prompt: None, logprob: 0.0, phase }
    }

    /// The request.
    pub fn id(&self) -> RequestId {
        self.ticket.id
    }

    /// Which of its samples.
    pub fn sample(&self) -> SampleIndex {
        self.sample
    }

    /// The next event, or `None` after the terminal one. May be dropped and called again without loss.
    pub async fn next(&mut self) -> Option<SessionEvent> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    /// [`Session::next`] for a thread that runs no async tasks; waits on the thread.
    ///
    /// # Panics
    /// When called inside an async runtime.
    pub fn next_blocking(&mut self) -> Option<SessionEvent> {
        loop {
            while let Phase::Running = self.phase {
                match self.events.try_recv() {
                    Ok(event) => self.absorb(Some(event)),
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => self.absorb(None),
                }
            }
            match self.take() {
                Taken::Event(event) => return Some(event),
                Taken::Over => return None,
                Taken::Nothing => {
                    let event = self.events.blocking_recv();
                    self.absorb(event);
                }
            }
        }
    }

    /// Waits for the end and returns it; the text holds all deltas, those taken before included.
    ///
    /// # Errors
    /// [`RequestError`] when the request could not be completed.
    pub async fn result(mut self) -> Result<RequestResult, RequestError> {
        loop {
            if let Some(end) = terminal(self.next().await) {
                return end;
            }
        }
    }

    /// [`Session::result`] for a thread that runs no async tasks.
    ///
    /// # Errors
    /// [`RequestError`] when the request could not be completed.
    ///
    /// # Panics
    /// When called inside an async runtime.
    pub fn result_blocking(mut self) -> Result<RequestResult, RequestError> {
        loop {
            if let Some(end) = terminal(self.next_blocking()) {
                return end;
            }
        }
    }

    /// Asks the engine to end the sample. Its terminal event still comes, with the text so far.
    pub fn cancel(&self) {
        self.ticket.cancel(self.sample);
    }

    /// What the engine has done so far, without waiting.
    pub fn progress(&self) -> Progress {
        self.ticket.progress(self.sample).read()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<SessionEvent>> {
        while let Phase::Running = self.phase {
            match self.events.poll_recv(cx) {
                Poll::Ready(event) => self.absorb(event),
                Poll::Pending => break,
            }
        }
        match self.take() {
            Taken::Event(event) => Poll::Ready(Some(event)),
            Taken::Over => Poll::Ready(None),
            Taken::Nothing => Poll::Pending,
        }
    }

    /// Takes in a message; `None` when the engine closed the channel without an end.
    fn absorb(&mut self, event: Option<Event>) {
        if let Some(Event::Token(info)) = &event {
            self.ticket.progress(self.sample).taken(info);
        }
        match event {
            Some(Event::Prompt(prompt)) => self.prompt = Some(prompt),
            Some(Event::Token(info)) if self.text.stopped().is_none() => {
                self.text.push(info.token);
                self.logprob += f64::from(info.logprob);
                self.pending.push(info);
                if self.text.stopped().is_some() {
                    self.cancel();
                }
            }
            // Generated between the stop string and the moment the engine heard of it.
            Some(Event::Token(_)) => {}
            Some(Event::Ended(end)) => self.end(*end),
            None => self.end(Err(self.ticket.shared.lost())),
        }
    }

    fn end(&mut self, end: Result<Ending, RequestError>) {
        self.text.finish();
        let stopped = self.text.stopped().map(|stop| CompletionReason::StopString(stop.to_owned()));
        let end = match (stopped, end) {
            // The text was complete before whatever ended the sample.
            (Some(reason), Ok(Ending { stats, .. })) => Ok((reason, stats)),
            (Some(reason), Err(_)) => Ok((reason, self.own_stats())),
            (None, Ok(Ending { reason, stats })) => Ok((reason, stats)),
            (None, Err(error)) => Err(error),
        };
        self.ticket.shared.metrics.count_end(end.as_ref().ok().map(|(reason, _)| reason));
        let output = (self.text.text().to_owned(), self.text.token_ids().to_vec(), self.logprob);
        self.phase = Phase::Ended(end.map(|(reason, stats)| {
            Box::new(RequestResult::new(&self.ticket, self.sample, reason, &stats, output))
        }));
    }

    /// What is known of a sample whose engine is gone.
    fn own_stats(&self) -> RequestStats {
        RequestStats {
            prompt_tokens: self.ticket.prompt_tokens,
            processing_time: self.ticket.accepted_at.elapsed(),
            ..RequestStats::default()
        }
    }

    /// What there is to hand out: the prompt first, then text, then the terminal event.
    fn take(&mut self) -> Taken {
        if let Some(prompt) = self.prompt.take() {
            return Taken::Event(SessionEvent::Prompt(prompt));
        }
        let text = self.text.take_unsent();
        let ended = !matches!(self.phase, Phase::Running);
        let due = ended || self.text.is_tokens_only();
        if !text.is_empty() || (due && !self.pending.is_empty()) {
            return Taken::Event(SessionEvent::Delta { text, tokens: std::mem::take(&mut self.pending) });
        }
        if !ended {
            return Taken::Nothing;
        }
        match std::mem::replace(&mut self.phase, Phase::Taken) {
            Phase::Ended(Ok(result)) => Taken::Event(SessionEvent::Finished(result)),
            Phase::Ended(Err(error)) => Taken::Event(SessionEvent::Failed(error)),
            Phase::Running | Phase::Taken => Taken::Over,
        }
    }
}

enum Taken {
    Event(SessionEvent),
    Nothing,
    Over,
}

/// The outcome, if `event` is a terminal one. `None` as an event follows a terminal one that was taken earlier.
fn terminal(event: Option<SessionEvent>) -> Option<Result<RequestResult, RequestError>> {
    match event {
        Some(SessionEvent::Delta { .. } | SessionEvent::Prompt(_)) => None,
        Some(SessionEvent::Finished(result)) => Some(Ok(*result)),
        Some(SessionEvent::Failed(error)) => Some(Err(error)),
        None => Some(Err(RequestError::Shutdown)),
    }
}

impl Stream for Session {
    type Item = SessionEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<SessionEvent>> {
        self.get_mut().poll_event(cx)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Phase::Running = self.phase {
            self.ticket.cancel(self.sample);
            self.ticket.shared.metrics.count_end(Some(&CompletionReason::Cancelled));
        }
    }
}
