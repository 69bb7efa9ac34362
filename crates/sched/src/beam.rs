//! Beam search as data: which continuations of which beams go on, and which ended ones are kept.
//!
//! The rules are those of `generate(num_beams = width, num_return_sequences = n)` of Hugging Face transformers. At each
//! step the continuations of all live beams compete by the sum of their log-probabilities. Of the best `width` those
//! that end are kept; the best `width` that do not end go on. What is kept is ranked by
//! `sum / generated_tokens ^ length_penalty`, the end token included in both. Equal sums are told apart by the rank of
//! the beam, then by token id, and among equal scores what ended first stays, so that a search has one outcome.
//!
//! Knows no sequence and no block: a beam has a slot, the number under which the scheduler runs it.

use crate::{CompletionReason, SampleIndex, TokenId, TokenLogprob};
use std::cmp::Ordering;
use std::ops::Range;

/// How a request is searched instead of sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BeamSearch {
    /// Beams that go on at each step; at least 1. Each counts as one row.
    pub width: u16,
    /// Exponent of the length that a sum of log-probabilities is divided by: above 0 long outputs gain, below 0
    /// short ones do. Finite.
    pub length_penalty: f32,
    /// When enough outputs have ended for the search to end.
    pub early_stopping: EarlyStopping,
}

/// When a search ends that has kept as many ended outputs as it has beams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyStopping {
    /// When the best live beam, if it ended at its present length, would not beat the worst kept output.
    #[default]
    No,
    /// At once.
    Yes,
    /// When no live beam could beat the worst kept output at any length it may still reach.
    Never,
}

/// Where outputs end.
#[derive(Clone, Debug)]
pub(crate) struct Limits<'a> {
    /// Ascending.
    pub(crate) stop_ids: &'a [TokenId],
    /// Stop ids are no continuation until so many tokens have been generated.
    pub(crate) min_tokens: u32,
    /// Most tokens of an output, and what ends one that has them.
    pub(crate) longest: u32,
    pub(crate) at_longest: CompletionReason,
}

/// One live beam.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Beam {
    /// Number under which it runs, below the width.
    pub(crate) slot: SampleIndex,
    /// Rank, among the beams of the step before, of the one that it continues.
    pub(crate) parent: u16,
    /// Last node of its tokens.
    node: u32,
    /// Sum of the log-probabilities.
    score: f64,
}

/// An output that has ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hypothesis {
    node: u32,
    /// Number of tokens, the end token included.
    pub(crate) length: u32,
    /// Sum of the log-probabilities over length to the power of the penalty.
    pub(crate) score: f64,
    pub(crate) reason: CompletionReason,
}

/// One token of the tree of all outputs.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    parent: u32,
    pub(crate) token: TokenId,
    pub(crate) logprob: f32,
    /// Range of the alternatives that are reported with it.
    top: Range<u32>,
}

const ROOT: u32 = u32::MAX;

/// A continuation of a live beam.
#[derive(Clone, Debug)]
struct Candidate {
    score: f64,
    /// Rank of the beam.
    parent: u16,
    token: TokenId,
    logprob: f32,
    top: Range<u32>,
}

/// The state of one search.
#[derive(Debug)]
pub(crate) struct Beams {
    search: BeamSearch,
    /// Alternatives that are kept per token, for the client.
    reported: usize,
    /// Tokens of every live beam.
    length: u32,
    nodes: Vec<Node>,
    top: Vec<TokenLogprob>,
    /// Best first, at least one until the search is over.
    live: Vec<Beam>,
    /// The beams of the step before, in their order.
    before: Vec<Beam>,
    /// Of the step that is being committed.
    candidates: Vec<Candidate>,
    /// Live beams that have offered their candidates in this step.
    offered: usize,
    /// Best first, at most `width`.
    kept: Vec<Hypothesis>,
}

impl Beams {
    /// A search before its first token. It reports `reported` alternatives with each token.
    pub(crate) fn new(search: BeamSearch, reported: usize) -> Self {
        Self {
            search,
            reported,
            length: 0,
            nodes: Vec::new(),
            top: Vec::new(),
            live: vec![Beam { slot: SampleIndex(0), parent: 0, node: ROOT, score: 0.0 }],
            before: Vec::new(),
            candidates: Vec::new(),
            offered: 0,
            kept: Vec::new(),
        }
    }

    /// Most live beams.
    pub(crate) fn width(&self) -> u16 {
        self.search.width
    }

    /// Live beams, best first.
    pub(crate) fn live(&self) -> &[Beam] {
        &self.live
    }

    /// The beams of the step before, as they were ranked.
    pub(crate) fn before(&self) -> &[Beam] {
        &self.before
    }

    /// Outputs that have ended, best first.
    pub(crate) fn kept(&self) -> &[Hypothesis] {
        &self.kept
    }

    /// Takes the most likely tokens after the beam in `slot`, most likely first: at least `width` and one per stop id, or
    /// the whole vocabulary.
    pub(crate) fn offer(&mut self, slot: SampleIndex, tokens: &[TokenLogprob], limits: &Limits<'_>) {
        let rank = self.live.iter().position(|beam| beam.slot == slot).expect("a live beam offers");
        let sum = self.live[rank].score;
        let start = self.top.len() as u32;
        self.top.extend_from_slice(&tokens[..tokens.len().min(self.reported)]);
        let top = start..self.top.len() as u32;
        let masked = |token: TokenId| self.length < limits.min_tokens && limits.stops(token);
        self.candidates.extend(tokens.iter().filter(|next| !masked(next.token)).map(|next| Candidate {
            score: sum + f64::from(next.logprob),
            parent: rank as u16,
            token: next.token,
            logprob: next.logprob,
            top: top.clone(),
        }));
        self.offered += 1;
    }

    /// Whether every live beam has offered its candidates.
    pub(crate) fn is_complete(&self) -> bool {
        self.offered == self.live.len()
    }

    /// Chooses among the candidates. Returns whether the search is over; if not, each live beam has its slot.
    pub(crate) fn choose(&mut self, limits: &Limits<'_>) -> bool {
        let width = usize::from(self.search.width);
        self.offered = 0;
        self.length += 1;
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.sort_unstable_by(Candidate::order);
        std::mem::swap(&mut self.live, &mut self.before);
        self.live.clear();
        for (rank, candidate) in candidates.drain(..).enumerate() {
            let ends = limits.stops(candidate.token);
            if ends && rank < width {
                let score = candidate.score;
                let node = self.grow(&candidate);
                self.keep(node, score, CompletionReason::Eos);
            } else if !ends && self.live.len() < width {
                let node = self.grow(&candidate);
                let Candidate { parent, score, .. } = candidate;
                self.live.push(Beam { slot: SampleIndex(0), parent, node, score });
            } else if rank >= width && self.live.len() == width {
                break;
            }
        }
        self.candidates = candidates;
        if self.is_over(limits.longest) {
            return true;
        }
        if self.length >= limits.longest {
            self.keep_live(&limits.at_longest);
            return true;
        }
        self.seat();
        false
    }

    /// Keeps every live beam as an output that ends for `reason`.
    pub(crate) fn keep_live(&mut self, reason: &CompletionReason) {
        for rank in 0..self.live.len() {
            let Beam { node, score, .. } = self.live[rank];
            self.keep(node, score, reason.clone());
        }
    }

    fn is_over(&self, longest: u32) -> bool {
        let Some(best) = self.live.first() else { return true };
        let worst = match self.kept.last() {
            Some(worst) if self.kept.len() == usize::from(self.search.width) => worst.score,
            _ => return false,
        };
        let length = match self.search.early_stopping {
            EarlyStopping::Yes => return true,
            // A sum never rises, but with a reward for length a longer one may weigh less.
            EarlyStopping::Never if self.search.length_penalty > 0.0 => longest,
            EarlyStopping::No | EarlyStopping::Never => self.length,
        };
        worst >= self.normalised(best.score, length)
    }

    fn normalised(&self, sum: f64, length: u32) -> f64 {
        sum / f64::from(length).powf(f64::from(self.search.length_penalty))
    }

    fn keep(&mut self, node: u32, sum: f64, reason: CompletionReason) {
        let score = self.normalised(sum, self.length);
        let place = self.kept.iter().position(|kept| kept.score < score).unwrap_or(self.kept.len());
        self.kept.insert(place, Hypothesis { node, length: self.length, score, reason });
        self.kept.truncate(usize::from(self.search.width));
    }

    fn grow(&mut self, candidate: &Candidate) -> u32 {
        let Candidate { parent, token, logprob, .. } = *candidate;
        let parent = self.before[usize::from(parent)].node;
        self.nodes.push(Node { parent, token, logprob, top: candidate.top.clone() });
        self.nodes.len() as u32 - 1
    }

    /// Gives each live beam a slot: the best continuation of a beam takes that beam's, the others take those of beams
    /// that nothing continues, then free numbers.
    fn seat(&mut self) {
        const NONE: SampleIndex = SampleIndex(u16::MAX);
        for rank in 0..self.live.len() {
            let parent = self.live[rank].parent;
            let first = self.live[..rank].iter().all(|beam| beam.parent != parent);
            self.live[rank].slot = if first { self.before[usize::from(parent)].slot } else { NONE };
        }
        for rank in 0..self.live.len() {
            if self.live[rank].slot == NONE {
                let mut slots = self.before.iter().map(|beam| beam.slot).chain((0..).map(SampleIndex));
                let free = slots.find(|&slot| self.live.iter().all(|beam| beam.slot != slot));
                self.live[rank].slot = free.expect("there are more numbers than beams");
            }
        }
    }

    /// Gives the live beams the first numbers in order of rank. For when nothing runs under the old ones.
    pub(crate) fn renumber(&mut self) {
        self.live.iter_mut().zip(0..).for_each(|(beam, rank)| beam.slot = SampleIndex(rank));
    }

    /// The live beam before `rank` that has most generated tokens in common with it, and how many; 0 of itself for the
    /// first.
    pub(crate) fn shared(&self, rank: usize) -> (usize, u32) {
        let common = |other: usize| (other, self.common(other, rank));
        // Among equals the first: `max_by_key` would take the last.
        (0..rank).map(common).rev().max_by_key(|&(_, tokens)| tokens).unwrap_or((rank, 0))
    }

    /// Generated tokens that two live beams have in common.
    pub(crate) fn common(&self, one: usize, other: usize) -> u32 {
        let (mut one, mut other, mut tokens) = (self.live[one].node, self.live[other].node, self.length);
        while one != other {
            one = self.nodes[one as usize].parent;
            other = self.nodes[other as usize].parent;
            tokens -= 1;
        }
        tokens
    }

    /// Blocks of all live beams over a prompt of `prompt` tokens; one that several share counts once.
    pub(crate) fn blocks(&self, prompt: u32, block_size: u32) -> u32 {
        let each = (prompt + self.length).div_ceil(block_size);
        let shared = |rank| (prompt + self.shared(rank).1) / block_size;
        each * self.live.len() as u32 - (1..self.live.len()).map(shared).sum::<u32>()
    }

    /// The last token of a live beam; there is one once a step has chosen.
    pub(crate) fn last(&self, rank: usize) -> &Node {
        &self.nodes[self.live[rank].node as usize]
    }

    /// Appends the generated tokens of a live beam.
    pub(crate) fn tokens(&self, rank: usize, into: &mut Vec<TokenId>) {
        let start = into.len();
        into.extend(self.path(self.live[rank].node).map(|node| node.token));
        into[start..].reverse();
    }

    /// Tokens of a kept output, in order.
    pub(crate) fn output(&self, hypothesis: &Hypothesis) -> Vec<&Node> {
        let mut nodes = Vec::with_capacity(hypothesis.length as usize);
        nodes.extend(self.path(hypothesis.node));
        nodes.reverse();
        nodes
    }

    /// The alternatives that are reported with a token.
    pub(crate) fn top(&self, node: &Node) -> &[TokenLogprob] {
        &self.top[node.top.start as usize..node.top.end as usize]
    }

    /// The nodes from one to the root.
    fn path(&self, from: u32) -> impl Iterator<Item = &Node> {
        std::iter::successors(self.nodes.get(from as usize), |node| self.nodes.get(node.parent as usize))
    }
}

impl Candidate {
    /// Higher sum, then better beam, then lower token id.
    fn order(&self, other: &Self) -> Ordering {
        let sums = other.score.total_cmp(&self.score);
        sums.then_with(|| (self.parent, self.token).cmp(&(other.parent, other.token)))
    }
}

impl Limits<'_> {
    fn stops(&self, token: TokenId) -> bool {
        self.stop_ids.binary_search(&token).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Log-probability of each token after some others: any function will do.
    fn logprobs(seed: u64, tokens: &[TokenId], vocab: u32) -> Vec<TokenLogprob> {
        let spread = |hash: u64, word: u32| {
            (hash ^ u64::from(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
        };
        let prefix = tokens.iter().fold(seed, |hash, &token| spread(hash, token + 1));
        let logprob = |token| -0.25 - (spread(spread(prefix, token), 7) % 64) as f32 / 16.0;
        let mut all: Vec<_> =
            (0..vocab).map(|token| TokenLogprob { token, logprob: logprob(token) }).collect();
        all.sort_by(|one, other| other.logprob.total_cmp(&one.logprob));
        all
    }

    fn limits(stop_ids: &[TokenId], longest: u32) -> Limits<'_> {
        Limits { stop_ids, min_tokens: 0, longest, at_longest: CompletionReason::MaxTokens }
    }

    /// Runs a search to its end and checks slots on the way.
    fn search(beam: BeamSearch, seed: u64, vocab: u32, limits: &Limits<'_>) -> Beams {
        let mut beams = Beams::new(beam, 1);
        loop {
            for rank in 0..beams.live.len() {
                let mut tokens = Vec::new();
                beams.tokens(rank, &mut tokens);
                let slot = beams.live[rank].slot;
                let count = usize::from(beam.width) + limits.stop_ids.len();
                let offered = logprobs(seed, &tokens, vocab);
                beams.offer(slot, &offered[..count.min(vocab as usize)], limits);
            }
            assert!(beams.is_complete());
            if beams.choose(limits) {
                return beams;
            }
            let mut slots: Vec<_> = beams.live.iter().map(|beam| beam.slot.0).collect();
            slots.sort_unstable();
            slots.dedup();
            assert_eq!(slots.len(), beams.live.len(), "two beams in one slot");
            assert!(slots.iter().all(|&slot| slot < beam.width), "{slots:?}");
        }
    }

    /// Score and tokens of every output there is.
    fn outputs(
        seed: u64,
        vocab: u32,
        limits: &Limits<'_>,
        (tokens, sum): (Vec<TokenId>, f64),
        into: &mut Vec<(f64, Vec<TokenId>)>,
        penalty: f32,
    ) {
        for next in logprobs(seed, &tokens, vocab) {
            let longer = [&tokens[..], &[next.token]].concat();
            let sum = sum + f64::from(next.logprob);
            if limits.stops(next.token) || longer.len() as u32 == limits.longest {
                into.push((sum / (longer.len() as f64).powf(f64::from(penalty)), longer));
            } else {
                outputs(seed, vocab, limits, (longer, sum), into, penalty);
            }
        }
    }

    proptest! {
        /// With a beam for everything that can go on, the best outputs are those of a look at all of them.
        #[test]
        fn a_wide_search_finds_what_there_is(
            seed: u64,
            vocab in 2_u32..4,
            longest in 1_u32..5,
            stops in 0_usize..2,
            penalty in -1.0_f32..2.0,
        ) {
            let stop_ids = &[1][..stops];
            let limits = limits(stop_ids, longest);
            let width = vocab.pow(longest) as u16;
            let beam = BeamSearch { width, length_penalty: penalty, early_stopping: EarlyStopping::Never };
            let found = search(beam, seed, vocab, &limits);
            let mut all = Vec::new();
            outputs(seed, vocab, &limits, (Vec::new(), 0.0), &mut all, penalty);
            all.sort_by(|one, other| other.0.total_cmp(&one.0));
            all.truncate(usize::from(width));
            let scores: Vec<f64> = found.kept.iter().map(|kept| kept.score).collect();
            prop_assert_eq!(&scores, &all.iter().map(|one| one.0).collect::<Vec<_>>());
            for kept in &found.kept {
                let tokens: Vec<_> = found.output(kept).iter().map(|node| node.token).collect();
                let same = |one: &(f64, Vec<TokenId>)| one.0 == kept.score && one.1 == tokens;
                prop_assert!(all.iter().any(same), "{:?} is no output", tokens);
            }
        }

        /// The tree answers what a look at the tokens answers.
        #[test]
        fn beams_share_what_they_have_in_common(
            seed: u64,
            width in 1_u16..7,
            steps in 1_u32..30,
            prompt in 1_u32..9,
            block_size in 1_u32..5,
        ) {
            let limits = limits(&[], u32::MAX);
            let search = BeamSearch { width, length_penalty: 1.0, early_stopping: EarlyStopping::No };
            let mut beams = Beams::new(search, 0);
            let mut all: Vec<Vec<TokenId>> = vec![Vec::new()];
            for _ in 0..steps {
                for (rank, tokens) in all.iter().enumerate() {
                    beams.offer(beams.live[rank].slot, &logprobs(seed, tokens, 9)[..usize::from(width)], &limits);
                }
                prop_assert!(!beams.choose(&limits));
                all = (0..beams.live.len()).map(|rank| {
                    let mut tokens = Vec::new();
                    beams.tokens(rank, &mut tokens);
                    tokens
                }).collect();
            }
            let mut blocks = std::collections::HashSet::new();
            for tokens in &all {
                let whole: Vec<_> = (0..prompt).map(|_| 1000).chain(tokens.iter().copied()).collect();
                // A block is known by all tokens up to its end; one that is not full belongs to its beam.
                for end in (0..whole.len()).step_by(block_size as usize).map(|at| at + block_size as usize) {
                    blocks.insert(match whole.get(..end) {
                        Some(full) => (full.to_vec(), None),
                        None => (whole.clone(), Some(tokens.clone())),
                    });
                }
            }
            prop_assert_eq!(beams.blocks(prompt, block_size), blocks.len() as u32);
            for one in 0..all.len() {
                for other in 0..all.len() {
                    let equal = all[one].iter().zip(&all[other]).take_while(|(a, b)| a == b).count();
                    prop_assert_eq!(beams.common(one, other), equal as u32);
                }
            }
        }
    }

    #[test]
    fn equal_sums_are_told_apart_by_beam_and_then_by_token() {
        let limits = limits(&[], 9);
        let search = BeamSearch { width: 2, length_penalty: 1.0, early_stopping: EarlyStopping::No };
        let mut beams = Beams::new(search, 0);
        let even = |tokens: [TokenId; 3]| tokens.map(|token| TokenLogprob { token, logprob: -1.0 });
        beams.offer(SampleIndex(0), &even([7, 3, 5]), &limits);
        assert!(!beams.choose(&limits));
        let tokens = |beams: &Beams, rank| {
            let mut tokens = Vec::new();
            beams.tokens(rank, &mut tokens);
            tokens
        };
        assert_eq!([0, 1].map(|rank| tokens(&beams, rank)), [[3], [5]]);
        // The second beam offers first, which makes no difference.
        beams.offer(beams.live[1].slot, &even([0, 1, 2]), &limits);
        beams.offer(beams.live[0].slot, &even([9, 8, 6]), &limits);
        assert!(!beams.choose(&limits));
        assert_eq!([0, 1].map(|rank| tokens(&beams, rank)), [[3, 6], [3, 8]]);
        assert_eq!(beams.live.iter().map(|beam| beam.slot.0).collect::<Vec<_>>(), [0, 1]);
    }

    /// One beam ends at each step; how soon that is enough depends on the rule.
    #[test]
    fn the_rules_of_stopping_differ() {
        let length = |early_stopping, length_penalty| {
            let limits = limits(&[0], 50);
            let search = BeamSearch { width: 2, length_penalty, early_stopping };
            let mut beams = Beams::new(search, 0);
            for step in 1.. {
                for rank in 0..beams.live.len() {
                    // Going on costs less than ending at first, then much more.
                    let next = if step < 4 { -1.0 } else { -9.0 };
                    let offered = [(0, -2.5), (1, next), (2, -9.0), (3, -9.5)];
                    let mut offered = offered.map(|(token, logprob)| TokenLogprob { token, logprob });
                    offered.sort_by(|one, other| other.logprob.total_cmp(&one.logprob));
                    beams.offer(beams.live[rank].slot, &offered, &limits);
                }
                if beams.choose(&limits) {
                    return step;
                }
            }
            unreachable!("every search ends")
        };
        assert_eq!(length(EarlyStopping::Yes, 1.0), 2);
        let (heuristic, exact) = (length(EarlyStopping::No, 1.0), length(EarlyStopping::Never, 1.0));
        assert!(2 < heuristic && heuristic < exact && exact < 50, "{heuristic} and {exact} steps");
        assert_eq!(length(EarlyStopping::Never, 0.0), length(EarlyStopping::No, 0.0), "length is no merit");
    }

    #[test]
    fn stop_ids_are_no_continuation_before_the_least_length() {
        let limits = Limits { min_tokens: 2, ..limits(&[0], 3) };
        let search = BeamSearch { width: 1, length_penalty: 1.0, early_stopping: EarlyStopping::Yes };
        let mut beams = Beams::new(search, 0);
        let offered = [(0, -0.1), (4, -5.0)].map(|(token, logprob)| TokenLogprob { token, logprob });
        for over in [false, false, true] {
            beams.offer(SampleIndex(0), &offered, &limits);
            assert_eq!(beams.choose(&limits), over);
        }
        let tokens: Vec<_> = beams.output(&beams.kept[0]).iter().map(|node| node.token).collect();
        assert_eq!((tokens, beams.kept[0].reason.clone()), (vec![4, 4, 0], CompletionReason::Eos));
    }
}
