//! What the limits of counts amount to in memory: the largest constraints under an allocator that counts.
//!
//! ```sh
//! cargo test --release -p pagoda-grammar --test memory -- --nocapture
//! ```

#[path = "suite/largest.rs"]
mod largest;

use pagoda_grammar::{Constraint, GrammarCompiler, GrammarLimits, Vocabulary};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The system's allocator, counting bytes.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator with the arguments unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        // SAFETY: the caller keeps the rules of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the rules of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most memory that compiling one constraint may take, and the matcher of one text.
const BUDGET: usize = 64 << 20;

/// Masks of the text that is drawn.
const MASKS: usize = 200;

fn held() -> usize {
    HELD.load(Ordering::Relaxed)
}

/// How much more than before was held at a time while `run` ran, and what it gave.
fn peak<T>(run: impl FnOnce() -> T) -> (usize, T) {
    let before = held();
    PEAK.store(before, Ordering::Relaxed);
    let value = run();
    (PEAK.load(Ordering::Relaxed) - before, value)
}

fn compiler() -> GrammarCompiler {
    let bytes: Vec<[u8; 1]> = (0..=255).map(|byte| [byte]).collect();
    let vocabulary = Vocabulary::new(257, |id| bytes.get(id as usize).map(<[u8; 1]>::as_slice), &[256]);
    GrammarCompiler::new(vocabulary.expect("a vocabulary"), GrammarLimits::default()).expect("a compiler")
}

/// Draws a text by always taking the token in the middle of those that are allowed; the slowest mask.
fn draw(grammar: &pagoda_grammar::Grammar) -> (usize, Duration) {
    let (mut matcher, mut words) = (grammar.matcher(), grammar.start().to_vec());
    let mut slowest = Duration::ZERO;
    for mask in 0..MASKS {
        let allowed: Vec<u32> =
            (0..256).filter(|id| words[*id as usize / 32] >> (id % 32) & 1 == 1).collect();
        let Some(&token) = allowed.get(allowed.len() / 2) else { return (mask, slowest) };
        let start = Instant::now();
        if matcher.consume(token).and_then(|()| matcher.mask(&mut words)).is_err() {
            return (mask, slowest);
        }
        slowest = slowest.max(start.elapsed());
    }
    (MASKS, slowest)
}

fn check(compiler: &GrammarCompiler, name: &str, constraint: &Constraint) {
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    let start = Instant::now();
    let (compiling, grammar) = peak(|| compiler.compile(constraint));
    let took = start.elapsed();
    let outcome = match &grammar {
        Err(error) => error.to_string(),
        Ok(grammar) => {
            let (matching, (masks, slowest)) = peak(|| draw(grammar));
            assert!(matching <= BUDGET, "{name}: {:.1} MiB for the masks of one text", mib(matching));
            format!("{masks} masks in {:.1} MiB, the slowest in {slowest:.1?}", mib(matching))
        }
    };
    println!("{name:18} {:6} bytes {took:10.1?} {:6.1} MiB  {outcome}", constraint.bytes(), mib(compiling));
    assert!(compiling <= BUDGET, "{name}: {:.1} MiB to compile", mib(compiling));
}

#[test]
fn no_constraint_takes_more_than_its_budget() {
    let compiler = compiler();
    for (name, constraint) in largest::largest() {
        check(&compiler, name, &constraint);
    }
}
