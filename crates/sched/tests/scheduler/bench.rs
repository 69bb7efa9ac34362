//! A scheduler over a fake executor, with a clock that tests turn.

use pagoda_sched::fake::{FakeExecutor, FakeModel};
use pagoda_sched::{
    CompletionReason, Deadlines, Effect, Effects, Executor, Failure, KvCapacity, Priority, PromptLogprob,
    Request, RequestId, RequestStats, SampleIndex, SamplingParams, Scheduler, SchedulerConfig, StepInput,
    StepOutput, TokenId, TokenLogprob,
};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How a sample ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum End {
    Finished(CompletionReason),
    Failed(Failure),
}

pub(crate) struct Bench {
    pub(crate) scheduler: Scheduler,
    pub(crate) executor: FakeExecutor,
    pub(crate) now: Instant,
    /// How long a step takes on the machine that the bench stands for.
    pub(crate) cost: fn(&StepInput) -> Duration,
    pub(crate) outputs: HashMap<(RequestId, u16), Vec<TokenId>>,
    pub(crate) ends: HashMap<(RequestId, u16), (End, RequestStats)>,
    pub(crate) reports: HashMap<RequestId, PromptReading>,
}

/// All that was reported of a prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PromptReading {
    pub(crate) logprobs: Vec<PromptLogprob>,
    pub(crate) top: Vec<TokenLogprob>,
    pub(crate) hidden: [f64; FakeModel::WIDTH],
    pub(crate) reports: usize,
}

/// A greedy request of one sample in the normal class.
pub(crate) fn request(prompt: &[TokenId], max_tokens: u32) -> Request {
    Request {
        id: RequestId::new(),
        prompt: prompt.into(),
        sampling: SamplingParams::greedy().into(),
        max_tokens,
        samples: 1,
        priority: Priority::Normal,
        tenant: Default::default(),
        salt: Default::default(),
        adapter: Default::default(),
        retention: Default::default(),
        enqueued_at: Instant::now(),
        deadlines: Deadlines::default(),
    }
}

impl Bench {
    /// `blocks` usable blocks and the default limits.
    pub(crate) fn new(blocks: u32, block_size: u32) -> Self {
        Self::with(blocks, block_size, SchedulerConfig::default())
    }

    pub(crate) fn with(blocks: u32, block_size: u32, config: SchedulerConfig) -> Self {
        Self::over(FakeExecutor::capacity_of(blocks + 1, block_size, 4096, 1000), config)
    }

    pub(crate) fn over(capacity: KvCapacity, config: SchedulerConfig) -> Self {
        let executor = FakeExecutor::new(capacity);
        Self {
            scheduler: Scheduler::new(config, executor.capacity()).expect("the limits agree"),
            executor,
            now: Instant::now(),
            cost: |_| Duration::ZERO,
            outputs: HashMap::new(),
            ends: HashMap::new(),
            reports: HashMap::new(),
        }
    }

    /// Enqueues a request that arrives now.
    pub(crate) fn submit(&mut self, mut request: Request) -> RequestId {
        request.enqueued_at = self.now;
        self.executor.register(&request);
        let id = request.id;
        self.scheduler.enqueue(request, self.now).expect("the request is acceptable");
        id
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.now += by;
    }

    /// Runs one step; `false` if there was nothing to run.
    pub(crate) fn step(&mut self) -> bool {
        let mut effects = Effects::default();
        self.scheduler.reap(self.now, &mut effects);
        self.scheduler.check_invariants();
        let ran = match self.scheduler.plan(self.now) {
            None => false,
            Some(input) => {
                let mut output = StepOutput::default();
                let result = self.executor.execute(input, &mut output);
                self.now += (self.cost)(input);
                self.scheduler.check_invariants();
                self.scheduler.commit(result.as_ref().map(|()| &output), self.now, &mut effects);
                true
            }
        };
        self.scheduler.check_invariants();
        self.apply(effects);
        ran
    }

    /// Takes over what ended outside a step.
    pub(crate) fn reap(&mut self) {
        let mut effects = Effects::default();
        self.scheduler.reap(self.now, &mut effects);
        self.scheduler.check_invariants();
        self.apply(effects);
    }

    /// Runs until nothing is left to run and returns the number of steps.
    pub(crate) fn run(&mut self) -> usize {
        let mut steps = 0;
        while self.step() {
            steps += 1;
            assert!(steps < 10_000, "the scheduler does not come to an end");
        }
        self.reap();
        steps
    }

    pub(crate) fn apply(&mut self, effects: Effects) {
        let Effects { events, prompt, top: likely, hidden: sums } = effects;
        let of = |range: std::ops::Range<u32>| range.start as usize..range.end as usize;
        for event in events {
            let (key, end) = match event {
                Effect::Prompt { id, positions: _, logprobs, top, hidden } => {
                    assert!(!self.outputs.contains_key(&(id, 0)), "a report after the first token");
                    let reading = self.reports.entry(id).or_default();
                    reading.logprobs.extend(&prompt[of(logprobs)]);
                    reading.top.extend(&likely[of(top)]);
                    reading.hidden.iter_mut().zip(&sums[of(hidden)]).for_each(|(all, more)| *all += more);
                    reading.reports += 1;
                    continue;
                }
                Effect::Token { id, sample, token, .. } => {
                    assert!(!self.ends.contains_key(&(id, sample.0)), "a token after the end");
                    self.outputs.entry((id, sample.0)).or_default().push(token);
                    continue;
                }
                Effect::Finished { id, sample, reason, stats } => {
                    ((id, sample.0), (End::Finished(reason), stats))
                }
                Effect::Failed { id, sample, failure, stats } => {
                    ((id, sample.0), (End::Failed(failure), stats))
                }
            };
            assert_eq!(self.ends.insert(key, end), None, "a sample ended twice");
        }
    }

    pub(crate) fn output(&self, id: RequestId, sample: u16) -> &[TokenId] {
        self.outputs.get(&(id, sample)).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn answer(&self, request: &Request, sample: u16, count: usize) -> Vec<TokenId> {
        self.executor.model().with_adapter(request.adapter).answer(
            &request.prompt,
            SampleIndex(sample),
            count,
        )
    }

    pub(crate) fn end(&self, id: RequestId, sample: u16) -> Option<&End> {
        self.ends.get(&(id, sample)).map(|(end, _)| end)
    }

    /// Why a sample finished; `None` if it has not.
    pub(crate) fn reason(&self, id: RequestId, sample: u16) -> Option<CompletionReason> {
        match self.end(id, sample)? {
            End::Finished(reason) => Some(reason.clone()),
            End::Failed(failure) => panic!("sample failed: {failure}"),
        }
    }

    pub(crate) fn stats(&self, id: RequestId, sample: u16) -> RequestStats {
        self.ends[&(id, sample)].1
    }

    pub(crate) fn is_running(&self, id: RequestId) -> bool {
        self.scheduler.batch().iter().any(|sequence| sequence.id().request == id)
    }
}
