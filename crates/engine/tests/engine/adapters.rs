//! Adapters that come and go while requests run.

use crate::common::{Running, Setup, metric, prompt_for};
use pagoda_engine::{
    AdapterError, AdapterSource, Engine, EngineError, EngineState, GenerateParams, InitialAdapter,
    LoadedAdapter, Session, SubmitError,
};
use pagoda_sched::SampleIndex;
use pagoda_sched::fake::FakeModel;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// Weights that are counted as long as somebody has them.
struct Counted(Arc<AtomicU32>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An engine with room for `limit` adapters, every folder of which but `bad` is one, and the number of adapters in memory.
fn setup(limit: u32, initial: &[(&str, &str, bool)]) -> (Setup, Arc<AtomicU32>) {
    let alive = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&alive);
    let load = move |path: &Path| {
        if path == Path::new("bad") {
            return Err("bad: adapter_config.json is missing".to_owned());
        }
        counter.fetch_add(1, Ordering::SeqCst);
        Ok(LoadedAdapter { weights: Box::new(Counted(Arc::clone(&counter))), rank: 4, bytes: 100 })
    };
    let initial = initial.iter().map(|&(name, path, required)| InitialAdapter {
        name: name.to_owned(),
        path: PathBuf::from(path),
        required,
    });
    let mut setup = Setup::default();
    setup.config.adapters = Some(AdapterSource { limit, load: Arc::new(load), initial: initial.collect() });
    (setup, alive)
}

fn load(running: &Running, name: &str) -> Result<(), AdapterError> {
    running.handle.load_adapter(name, Path::new("folder")).map(drop)
}

fn with(adapter: &str, text: &str, max_tokens: u32) -> GenerateParams {
    GenerateParams { adapter: Some(adapter.into()), ..prompt_for(text, max_tokens) }
}

fn tokens(session: Session) -> Vec<u32> {
    session.result_blocking().expect("the request ends").token_ids
}

/// The number of the adapter that an engine loaded as its `index`-th.
fn answer(fake: &FakeModel, index: u32, text: &str, count: usize) -> Vec<u32> {
    let prompt: Vec<u32> = text.bytes().map(u32::from).collect();
    fake.with_adapter(pagoda_sched::AdapterId(index)).answer(&prompt, SampleIndex(0), count)
}

fn unload(running: &Running, name: &'static str) -> thread::JoinHandle<Result<(), AdapterError>> {
    let handle = running.handle.clone();
    thread::spawn(move || block_on(handle.unload_adapter(name)))
}

/// Waits for a future on this thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(future)
}

#[test]
fn requests_are_computed_with_the_adapter_that_they_name() {
    let (setup, _) = setup(4, &[("first", "a", true)]);
    let running = setup.start();
    load(&running, "second").expect("it is loaded");
    let names: Vec<_> = running.handle.adapters().iter().map(|info| info.name.to_string()).collect();
    assert_eq!(names, ["first", "second"]);
    let sessions = [(0, None), (1, Some("first")), (2, Some("second"))].map(|(index, adapter)| {
        let params = GenerateParams { adapter: adapter.map(Into::into), ..prompt_for("a prompt", 9) };
        (index, running.session(params))
    });
    for (index, session) in sessions {
        let expected = answer(&running.fake, index, "a prompt", 9);
        assert_eq!(tokens(session), expected, "adapter {index}");
    }
    running.finish();
}

#[test]
fn unloading_refuses_at_once_waits_for_what_runs_and_frees() {
    let (setup, alive) = setup(2, &[]);
    let (running, gate) = setup.start_gated();
    load(&running, "a").expect("it is loaded");
    load(&running, "b").expect("it is loaded");
    assert_eq!(load(&running, "c"), Err(AdapterError::Full { limit: 2 }));
    assert_eq!(load(&running, "b"), Err(AdapterError::Taken("b".to_owned())));
    let session = running.session(with("a", "text", 5));
    gate.wait();
    let leaving = unload(&running, "a");
    while running.handle.adapters().len() == 2 {
        thread::sleep(Duration::from_millis(1));
    }
    let request = running.handle.model().validate(with("a", "text", 5)).expect("valid");
    let refused = running.handle.submit(request).expect_err("it is leaving");
    assert_eq!(refused, SubmitError::UnknownAdapter("a".to_owned()));
    assert_eq!(load(&running, "a"), Err(AdapterError::Taken("a".to_owned())), "the name is still in use");
    assert!(!leaving.is_finished());
    gate.release();
    gate.steps(4);
    let expected = answer(&running.fake, 1, "text", 5);
    assert_eq!(tokens(session), expected, "a running request ends as it would have");
    assert_eq!(leaving.join().expect("no panic"), Ok(()));
    assert_eq!(alive.load(Ordering::SeqCst), 1, "its memory is free");
    drop(gate);
    load(&running, "a").expect("there is room again");
    let session = running.session(with("a", "text", 5));
    let result = session.result_blocking().expect("it ends");
    assert_eq!(result.token_ids, answer(&running.fake, 3, "text", 5), "another adapter, whatever its name");
    assert_eq!(result.cached_tokens, 0, "nothing of the first one is left");
    running.finish();
}

#[test]
fn an_adapter_leaves_when_its_requests_are_cancelled() {
    let (setup, alive) = setup(1, &[]);
    let (running, gate) = setup.start_gated();
    load(&running, "a").expect("it is loaded");
    let waiting: Vec<_> = (0..40).map(|_| running.session(with("a", "text", 50))).collect();
    gate.wait();
    let leaving = unload(&running, "a");
    drop(waiting);
    drop(gate);
    assert_eq!(leaving.join().expect("no panic"), Ok(()));
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    let again = block_on(running.handle.unload_adapter("a"));
    assert_eq!(again, Err(AdapterError::Unknown("a".to_owned())));
    running.finish();
}

#[test]
fn what_cannot_be_loaded_leaves_no_trace() {
    let (setup, alive) = setup(1, &[]);
    let running = setup.start();
    let error = running.handle.load_adapter("x", Path::new("bad")).expect_err("no adapter").to_string();
    assert!(error.contains("adapter_config.json"), "{error}");
    for name in ["", "a\nb", &"x".repeat(257)] {
        assert!(matches!(load(&running, name), Err(AdapterError::Name(_))), "{name:?}");
    }
    assert_eq!(load(&running, "fake"), Err(AdapterError::Taken("fake".to_owned())), "the name of the model");
    assert_eq!(load(&running, "default"), Err(AdapterError::Taken("default".to_owned())));
    load(&running, "x").expect("name and place are free");
    assert_eq!(alive.load(Ordering::SeqCst), 1);
    running.finish();
    assert_eq!(alive.load(Ordering::SeqCst), 0, "the engine frees what it has");

    let none = Setup::default().start();
    assert_eq!(load(&none, "x"), Err(AdapterError::NoRoom));
    none.finish();
}

#[test]
fn an_engine_starts_with_its_adapters_or_says_which_is_bad() {
    let (setup, _) = setup(3, &[("a", "good", true), ("lost", "bad", false), ("b", "good", true)]);
    let running = setup.start();
    assert_eq!(running.handle.adapters().len(), 2, "what need not be there is left out");
    running.finish();
    let (setup, alive) = self::setup(3, &[("a", "good", true), ("b", "bad", true)]);
    let error = Engine::start(Arc::new(setup.model), setup.executor, setup.config).expect_err("b is bad");
    let EngineError::Adapter { name, reason } = error else { panic!("{error}") };
    assert!(name == "b" && reason.contains("adapter_config.json"), "{name}: {reason}");
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

#[test]
fn orders_to_an_engine_that_has_ended_are_answered() {
    let (setup, _) = setup(2, &[("a", "good", true)]);
    let running = setup.start();
    let handle = running.handle.clone();
    running.finish();
    assert_eq!(handle.state(), EngineState::Stopped);
    assert_eq!(handle.load_adapter("b", Path::new("good")).map(drop), Err(AdapterError::Busy));
    assert_eq!(block_on(handle.unload_adapter("a")), Err(AdapterError::Busy));
}

#[test]
fn the_metrics_name_the_adapters_in_use() {
    let (setup, _) = setup(5, &[("a", "good", true), ("b", "good", true)]);
    let (running, gate) = setup.start_gated();
    let page = running.handle.metrics_text();
    let idle = "max_lora=\"5\",running_lora_adapters=\"\",waiting_lora_adapters=\"\"";
    assert!(metric(&page, "vllm:lora_requests_info", idle) > 1.7e9, "{page}");
    assert_eq!(metric(&page, "pagoda_adapters_loaded", ""), 2.0);
    let first = running.session(with("a", "text", 3));
    gate.wait();
    let second = running.session(with("b", "text", 3));
    let page = running.handle.metrics_text();
    let busy = "running_lora_adapters=\"a\",waiting_lora_adapters=\"b\"";
    assert!(metric(&page, "vllm:lora_requests_info", busy) > 1.7e9, "{page}");
    drop((first, second, gate));
    running.finish();
}

/// Loads, unloads and requests of many threads at once: every accepted request ends, and nothing is left.
#[test]
fn requests_and_adapters_in_any_order_leave_nothing_behind() {
    let (setup, alive) = setup(3, &[]);
    let running = setup.start();
    let names = ["a", "b", "c", "d"];
    let accepted = AtomicU32::new(0);
    thread::scope(|scope| {
        for turn in 0..3u32 {
            let (running, accepted) = (&running, &accepted);
            scope.spawn(move || {
                for step in 0..30 {
                    let name = names[((turn + step) % 4) as usize];
                    let _ = load(running, name);
                    let _ = block_on(running.handle.unload_adapter(names[((turn * 2 + step) % 4) as usize]));
                }
            });
            scope.spawn(move || {
                for step in 0..60 {
                    let name = names[((turn * 3 + step) % 4) as usize];
                    let request =
                        running.handle.model().validate(with(name, "shared text", 3)).expect("valid");
                    if let Ok(mut sessions) = running.handle.submit(request) {
                        accepted.fetch_add(1, Ordering::SeqCst);
                        let result = sessions.remove(0).result_blocking().expect("it ends");
                        assert_eq!(result.token_ids.len(), 3);
                    }
                }
            });
        }
    });
    println!("{} requests were accepted", accepted.load(Ordering::SeqCst));
    let left = running.handle.adapters();
    assert_eq!(alive.load(Ordering::SeqCst) as usize, left.len());
    running.finish();
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}
