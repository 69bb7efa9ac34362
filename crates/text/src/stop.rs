//! Stop strings: ends a text at the first one that occurs in it, wherever the pieces are cut.

use std::collections::VecDeque;
use std::sync::Arc;

/// A stop string was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopMatch {
    /// Its place in the list given to [`StopMatcher::new`].
    pub index: usize,
}

/// Finds the first stop string in a text that arrives in pieces; amortised O(1) per byte.
///
/// The first is the one that is complete first; of several complete at the same byte, the longest. The text is cut
/// before it (after it with `include_stop`). No byte that may yet belong to a stop string is let out: at most the
/// length of the longest stop string less one is held, and released by [`finish`](Self::finish).
#[derive(Clone, Debug)]
pub struct StopMatcher {
    automaton: Arc<Automaton>,
    stops: Arc<[String]>,
    include_stop: bool,
    /// The longest end of the text so far that begins a stop string, as a state and as text.
    state: u32,
    held: String,
    done: bool,
}

impl StopMatcher {
    /// Prepares to look for `stops`; empty strings match nothing.
    pub fn new(stops: Arc<[String]>, include_stop: bool) -> Self {
        let automaton = Arc::new(Automaton::new(&stops));
        Self { automaton, stops, include_stop, state: Automaton::ROOT, held: String::new(), done: false }
    }

    /// Takes a piece of text and appends to `out` what is certainly not part of a stop string. After a match the
    /// text is complete and further pieces are ignored.
    pub fn push(&mut self, text: &str, out: &mut String) -> Option<StopMatch> {
        if self.done {
            return None;
        }
        for (index, byte) in text.bytes().enumerate() {
            self.state = self.automaton.step(self.state, byte);
            if let Some(stop) = self.automaton.matched(self.state) {
                let seen = &text[..=index];
                let keep = if self.include_stop { 0 } else { self.stops[stop].len() };
                self.release(seen, keep, out);
                self.done = true;
                self.held.clear();
                return Some(StopMatch { index: stop });
            }
        }
        self.release(text, self.automaton.depth(self.state), out);
        None
    }

    /// Ends the text: lets out what was held.
    pub fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
        self.done = true;
    }

    /// Bytes held back at present.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Lets out all but the last `keep` bytes of what is held followed by `text`. They begin a stop string, hence
    /// at a character boundary.
    fn release(&mut self, text: &str, keep: usize, out: &mut String) {
        match text.len().checked_sub(keep) {
            Some(certain) => {
                out.push_str(&self.held);
                out.push_str(&text[..certain]);
                self.held.clear();
                self.held.push_str(&text[certain..]);
            }
            None => {
                let certain = self.held.len() + text.len() - keep;
                out.push_str(&self.held[..certain]);
                self.held.drain(..certain);
                self.held.push_str(text);
            }
        }
    }
}

/// The Aho-Corasick automaton of the stop strings. A state is a prefix of one of them.
#[derive(Debug)]
struct Automaton {
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    /// Continuations, by byte. At most as many as there are stop strings.
    next: Vec<(u8, u32)>,
    /// The longest proper suffix of this prefix that is a state too.
    fallback: u32,
    depth: u32,
    /// The longest stop string that ends here.
    stop: Option<u32>,
}

impl Automaton {
    const ROOT: u32 = 0;

    fn new(stops: &[String]) -> Self {
        let mut automaton = Self { nodes: vec![Node::new(0)] };
        for (index, stop) in stops.iter().enumerate().filter(|(_, stop)| !stop.is_empty()) {
            let mut state = Self::ROOT;
            for byte in stop.bytes() {
                state = automaton.child_or_insert(state, byte);
            }
            automaton.nodes[state as usize].stop.get_or_insert(index as u32);
        }
        automaton.link();
        automaton
    }

    fn child_or_insert(&mut self, state: u32, byte: u8) -> u32 {
        if let Some(child) = self.child(state, byte) {
            return child;
        }
        let child = self.nodes.len() as u32;
        let depth = self.nodes[state as usize].depth + 1;
        self.nodes.push(Node::new(depth));
        self.nodes[state as usize].next.push((byte, child));
        child
    }

    /// Sets fallbacks breadth first, so that those of shorter prefixes are known.
    fn link(&mut self) {
        let mut queue = VecDeque::from([Self::ROOT]);
        while let Some(state) = queue.pop_front() {
            for (byte, child) in self.nodes[state as usize].next.clone() {
                let fallback = if state == Self::ROOT {
                    Self::ROOT
                } else {
                    self.step(self.nodes[state as usize].fallback, byte)
                };
                let inherited = self.nodes[fallback as usize].stop;
                let node = &mut self.nodes[child as usize];
                node.fallback = fallback;
                node.stop = node.stop.or(inherited);
                queue.push_back(child);
            }
        }
    }

    fn child(&self, state: u32, byte: u8) -> Option<u32> {
        let next = &self.nodes[state as usize].next;
        next.iter().find(|(edge, _)| *edge == byte).map(|(_, child)| *child)
    }

    fn step(&self, mut state: u32, byte: u8) -> u32 {
        loop {
            match self.child(state, byte) {
                Some(child) => return child,
                None if state == Self::ROOT => return Self::ROOT,
                None => state = self.nodes[state as usize].fallback,
            }
        }
    }

    fn matched(&self, state: u32) -> Option<usize> {
        self.nodes[state as usize].stop.map(|stop| stop as usize)
    }

    fn depth(&self, state: u32) -> usize {
        self.nodes[state as usize].depth as usize
    }
}

impl Node {
    fn new(depth: u32) -> Self {
        Self { next: Vec::new(), fallback: Automaton::ROOT, depth, stop: None }
    }
}
