//! Paged attention.

use crate::common::{EPS, Kind, Rng, Sequence, Store, all_kernels, assert_close, assert_same, scalar};
use pagoda_kernels::{
    AttentionInput, AttentionLimits, AttentionRow, AttentionScratch, Isa, Kernels, KvShape, WorkerPool,
};
use std::ops::Range;

/// A model's attention, some sequences and their blocks in one storage.
struct Case {
    shape: KvShape,
    heads: usize,
    window: Option<u32>,
    softcap: Option<f32>,
    sinks: Option<Vec<f32>>,
    kind: Kind,
    sequences: Vec<Sequence>,
    /// `[tokens, heads * head_dim]` of each sequence.
    queries: Vec<Vec<f32>>,
    store: Store,
}

impl Case {
    fn random(rng: &mut Rng) -> Self {
        let shape = KvShape {
            kv_heads: rng.pick(&[1, 2, 3]),
            head_dim: rng.pick(&[2, 6, 16, 20, 32, 64, 80, 96, 128, 130]),
            block_size: rng.pick(&[16, 32, 48, 64, 80]),
        };
        let heads = shape.kv_heads * rng.pick(&[1, 1, 2, 3, 4, 7, 8, 34]);
        let limit = rng.pick(&[3, 20, 70, 200]);
        let lengths: Vec<usize> = (0..1 + rng.below(3)).map(|_| 1 + rng.below(limit)).collect();
        Self::new(rng, shape, heads, &lengths)
    }

    fn new(rng: &mut Rng, shape: KvShape, heads: usize, lengths: &[usize]) -> Self {
        let kind = rng.pick(&Kind::ALL);
        let needed: usize = lengths.iter().map(|n| n.div_ceil(shape.block_size)).sum();
        let blocks = needed + 3;
        let mut free: Vec<u32> = (1..blocks as u32).collect();
        (1..free.len()).rev().for_each(|i| free.swap(i, rng.below(i + 1)));
        let mut store = Store::new(&shape, blocks, kind);
        let pool = WorkerPool::new(1).unwrap();
        let mut queries = Vec::new();
        let sequences = lengths
            .iter()
            .map(|&n| {
                let (keys, values) =
                    (rng.floats(n * shape.token_elements()), rng.floats(n * shape.token_elements()));
                let table = free.split_off(free.len() - n.div_ceil(shape.block_size));
                let sequence = Sequence { keys, values, table };
                sequence.store(&pool, &shape, &mut store, 0..n);
                queries.push(rng.floats(n * heads * shape.head_dim));
                sequence
            })
            .collect();
        let window = rng.pick(&[None, None, Some(1), Some(5), Some(33), Some(100)]);
        let softcap = rng.pick(&[None, None, Some(5.0)]);
        let sinks = rng.pick(&[false, false, true]).then(|| rng.floats(heads));
        Case { shape, heads, window, softcap, sinks, kind, sequences, queries, store }
    }

    fn width(&self) -> usize {
        self.heads * self.shape.head_dim
    }

    fn tokens(&self, sequence: usize) -> usize {
        self.queries[sequence].len() / self.width()
    }

    /// Attention of the given tokens of the given sequences, as rows of one step, over `store`.
    fn attend(
        &self,
        kernels: &Kernels,
        pool: &WorkerPool,
        store: &Store,
        rows: &[(usize, Range<usize>)],
    ) -> Vec<f32> {
        let (width, gap) = (self.width(), 3);
        let (mut q, mut tables, mut parts, mut total) = (Vec::new(), vec![0], Vec::new(), 0);
        for (sequence, tokens) in rows {
            for token in tokens.clone() {
                q.extend(&self.queries[*sequence][token * width..(token + 1) * width]);
                q.extend([f32::NAN; 3]);
            }
            let first = tables.len() as u32;
            tables.extend(&self.sequences[*sequence].table);
            // A block beyond the context, as a scheduler may have allocated already.
            tables.push(0);
            parts.push(AttentionRow {
                tokens: total as u32..(total + tokens.len()) as u32,
                context: tokens.end as u32,
                table: first..tables.len() as u32,
            });
            total += tokens.len();
        }
        let input = AttentionInput {
            q: &q,
            q_stride: width + gap,
            heads: self.heads,
            shape: self.shape,
            rows: &parts,
            tables: &tables,
            scale: (self.shape.head_dim as f32).powf(-0.5),
            window: self.window,
            softcap: self.softcap,
            sinks: self.sinks.as_deref(),
        };
        let mut out = vec![f32::NAN; total * width];
        kernels.attention(pool, &input, store.read(), &mut scratch(&input, pool), &mut out);
        out
    }

    /// All tokens of all sequences in one step.
    fn everything(&self) -> Vec<(usize, Range<usize>)> {
        (0..self.sequences.len()).map(|i| (i, 0..self.tokens(i))).collect()
    }

    /// A bound of the error of an output of `isa`, from the norms of what goes into it.
    fn bound(&self, isa: Isa) -> f64 {
        let largest = |x: &[f32]| x.iter().fold(0f64, |max, x| max.max(f64::from(x.abs())));
        let norm = |x: &[f32]| {
            let squares = |head: &[f32]| head.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
            x.chunks(self.shape.head_dim).map(squares).fold(0.0, f64::max).sqrt()
        };
        let over = |f: &dyn Fn(&Sequence) -> f64| self.sequences.iter().map(f).fold(0.0, f64::max);
        let (k, v) = (over(&|s| norm(&s.keys)), over(&|s| largest(&s.values)));
        let q = self.queries.iter().map(|q| norm(q)).fold(0.0, f64::max);
        let dim = self.shape.head_dim as f64;
        let longest = self.sequences.iter().map(|s| s.table.len()).max().unwrap_or(0) * self.shape.block_size;
        // How queries and weights are rounded.
        let (query, weight) = match self.kind {
            Kind::Bf16 if isa >= Isa::Avx512Bf16 => (1.0 / 512.0, 2.0 / 512.0),
            // Half an integer of the largest of 16383 in each element, and of 32767 in each weight of a span.
            Kind::Int8 if isa > Isa::Scalar => (dim.sqrt() / 32766.0, longest.min(512) as f64 / 65534.0),
            _ => (0.0, 0.0),
        };
        let score_error = (EPS * (dim + 4.0) + query) * q * k / dim.sqrt() + 1e-6;
        (2.0 * score_error + weight + 200.0 * EPS) * v
    }
}

/// Memory for one call.
fn scratch(input: &AttentionInput<'_>, pool: &WorkerPool) -> AttentionScratch {
    let limits = AttentionLimits {
        heads: input.heads,
        kv_heads: input.shape.kv_heads,
        head_dim: input.shape.head_dim,
        tokens: input.rows.last().map_or(0, |row| row.tokens.end as usize),
        rows: input.rows.len(),
        threads: pool.threads(),
    };
    AttentionScratch::new(&limits).unwrap()
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lengths: Vec<_> = (0..self.sequences.len()).map(|i| self.tokens(i)).collect();
        let Case { shape, heads, window, softcap, sinks, kind, .. } = self;
        let sinks = sinks.is_some();
        write!(
            f,
            "{shape:?} heads={heads} window={window:?} softcap={softcap:?} sinks={sinks} kind={kind:?} lengths={lengths:?}"
        )
    }
}

/// Attention of one head of one token from the formula, over rounded keys and values.
fn plain(case: &Case, sequence: usize, token: usize, head: usize) -> Vec<f64> {
    let (dim, width) = (case.shape.head_dim, case.shape.token_elements());
    let kv_head = head / (case.heads / case.shape.kv_heads);
    let q = &case.queries[sequence][token * case.width() + head * dim..][..dim];
    let first = case.window.map_or(0, |w| (token + 1).saturating_sub(w as usize));
    let place = |t: usize| t * width + kv_head * dim..t * width + (kv_head + 1) * dim;
    let (keys, values) = (&case.sequences[sequence].keys, &case.sequences[sequence].values);
    let round = |x: &[f32]| case.kind.round(x).into_iter().map(f64::from).collect::<Vec<_>>();
    let scores: Vec<f64> = (first..=token)
        .map(|t| {
            let dot: f64 = q.iter().zip(round(&keys[place(t)])).map(|(&q, k)| f64::from(q) * k).sum();
            let score = dot * f64::from((dim as f32).powf(-0.5));
            case.softcap.map(f64::from).map_or(score, |cap| cap * (score / cap).tanh())
        })
        .collect();
    let sink = case.sinks.as_ref().map(|sinks| f64::from(sinks[head]));
    let max = scores.iter().copied().chain(sink).fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
    let total = weights.iter().sum::<f64>() + sink.map_or(0.0, |sink| (sink - max).exp());
    let seen: Vec<_> = (first..=token).map(|t| round(&values[place(t)])).collect();
    let sum = |d: usize| weights.iter().zip(&seen).map(|(w, value)| w * value[d]).sum::<f64>();
    (0..dim).map(|d| sum(d) / total).collect()
}

#[test]
fn scalar_is_the_plain_formula() {
    let pool = WorkerPool::new(2).unwrap();
    for seed in 0..30 {
        let case = Case::random(&mut Rng(seed));
        let got = case.attend(scalar(), &pool, &case.store, &case.everything());
        let mut want = Vec::new();
        for sequence in 0..case.sequences.len() {
            for token in 0..case.tokens(sequence) {
                (0..case.heads).for_each(|head| want.extend(plain(&case, sequence, token, head)));
            }
        }
        let want: Vec<f32> = want.into_iter().map(|x| x as f32).collect();
        let bound = case.bound(Isa::Scalar);
        assert_close(&format!("seed {seed}: {case}"), &got, &want, |_| bound / 8.0);
    }
}

#[test]
fn every_version_agrees_with_scalar() {
    for seed in 100..200 {
        let mut rng = Rng(seed);
        let case = Case::random(&mut rng);
        let pool = WorkerPool::new(rng.pick(&[1, 2, 3])).unwrap();
        let want = case.attend(scalar(), &pool, &case.store, &case.everything());
        for kernels in all_kernels() {
            let bound = case.bound(kernels.isa());
            let got = case.attend(kernels, &pool, &case.store, &case.everything());
            assert_close(&format!("{} seed {seed}: {case}", kernels.isa()), &got, &want, |_| bound);
        }
    }
}

#[test]
fn a_token_has_the_same_bits_in_any_chunk_batch_or_number_of_threads() {
    let pools: Vec<_> = [1, 2, 3, 5].into_iter().map(|n| WorkerPool::new(n).unwrap()).collect();
    for seed in 200..240 {
        let mut rng = Rng(seed);
        let case = Case::random(&mut rng);
        for kernels in all_kernels() {
            let whole = case.attend(kernels, &pools[0], &case.store, &case.everything());
            // Storage is filled as the sequence grows, so that a chunk finds NaN where the future will be.
            let mut store = Store::new(&case.shape, case.blocks(), case.kind);
            let mut done = vec![0; case.sequences.len()];
            while (0..done.len()).any(|i| done[i] < case.tokens(i)) {
                let step = rng.pick(&[1, 1, 7, 16, 64]);
                let mut rows = Vec::new();
                for (i, done) in done.iter_mut().enumerate() {
                    let end = case.tokens(i).min(*done + 1 + rng.below(step));
                    if end > *done && (rng.below(4) > 0 || rows.is_empty()) {
                        case.sequences[i].store(&pools[0], &case.shape, &mut store, *done..end);
                        rows.push((i, *done..end));
                        *done = end;
                    }
                }
                let part = case.attend(kernels, &pools[rng.below(4)], &store, &rows);
                let mut at = 0;
                for (i, tokens) in rows {
                    let before: usize = (0..i).map(|j| case.tokens(j)).sum();
                    let width = case.width();
                    let want = &whole[(before + tokens.start) * width..(before + tokens.end) * width];
                    let what = format!("{} seed {seed} sequence {i} {tokens:?}: {case}", kernels.isa());
                    assert_same(&what, &part[at..at + want.len()], want);
                    at += want.len();
                }
            }
        }
    }
}

impl Case {
    fn blocks(&self) -> usize {
        let needed: usize = self.sequences.iter().map(|s| s.table.len()).sum();
        needed + 3
    }
}

#[test]
fn a_long_context_has_the_same_bits_however_it_is_shared_out() {
    let pools: Vec<_> = [1, 2, 3, 5].into_iter().map(|n| WorkerPool::new(n).unwrap()).collect();
    for seed in 240..246 {
        let mut rng = Rng(seed);
        let shape =
            KvShape { kv_heads: 2, head_dim: rng.pick(&[16, 24]), block_size: rng.pick(&[16, 48, 1024]) };
        let length = 1500 + rng.below(1500);
        let mut case = Case::new(&mut rng, shape, 2 * [1, 3, 33][seed as usize % 3], &[length, 40]);
        case.window = [None, Some(3), Some(700)][seed as usize / 2 % 3];
        let (first, rows) = (length - 12, [(1, 38..40), (0, length - 12..length)]);
        let want = case.attend(scalar(), &pools[0], &case.store, &rows);
        for kernels in all_kernels().filter(|kernels| kernels.isa() > Isa::Scalar) {
            let what = format!("{} seed {seed}: {case}", kernels.isa());
            let whole = case.attend(kernels, &pools[0], &case.store, &rows);
            let bound = case.bound(kernels.isa());
            assert_close(&what, &whole, &want, |_| bound);
            for pool in &pools {
                assert_same(&what, &case.attend(kernels, pool, &case.store, &rows), &whole);
                for tokens in [length - 1..length, length - 9..length - 2] {
                    let part = case.attend(kernels, pool, &case.store, &[(0, tokens.clone())]);
                    let at = (2 + tokens.start - first) * case.width();
                    assert_same(&what, &part, &whole[at..at + part.len()]);
                }
            }
        }
    }
}

#[test]
fn where_the_blocks_lie_does_not_matter() {
    let pool = WorkerPool::new(1).unwrap();
    let shape = KvShape { kv_heads: 2, head_dim: 64, block_size: 16 };
    for kernels in all_kernels() {
        let outs = [11, 12].map(|shuffle| {
            let mut case = Case::new(&mut Rng(9), shape, 8, &[90]);
            let mut rng = Rng(shuffle);
            let table = &mut case.sequences[0].table;
            (1..table.len()).rev().for_each(|i| table.swap(i, rng.below(i + 1)));
            case.store = Store::new(&shape, case.blocks(), case.kind);
            case.sequences[0].store(&pool, &shape, &mut case.store, 0..90);
            case.attend(kernels, &pool, &case.store, &case.everything())
        });
        assert_same(kernels.isa().name(), &outs[0], &outs[1]);
    }
}

#[test]
fn bad_values_reach_the_tokens_that_see_them_and_no_others() {
    let pool = WorkerPool::new(2).unwrap();
    let shape = KvShape { kv_heads: 2, head_dim: 32, block_size: 16 };
    for kernels in all_kernels() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut case = Case::new(&mut Rng(10), shape, 6, &[100, 20]);
            (case.window, case.softcap, case.sinks) = (None, None, None);
            let at = 70 * 64 + 32 + 5;
            case.sequences[0].values[at] = bad;
            case.sequences[0].store(&pool, &shape, &mut case.store, 0..100);
            let out = case.attend(kernels, &pool, &case.store, &case.everything());
            for (i, head) in out.chunks(32).enumerate() {
                let (token, head_index) = (i / 6, i % 6);
                let sees = (70..100).contains(&token) && head_index >= 3;
                let what = format!("{} {bad}: token {token} head {head_index}", kernels.isa());
                assert_eq!(head.iter().all(|x| x.is_finite()), !sees, "{what}: {head:?}");
                assert_eq!(head[5].is_finite(), !sees, "{what}");
            }
            case.sequences[0].values[at] = 0.0;
            case.sequences[0].keys[at] = bad;
            case.sequences[0].store(&pool, &shape, &mut case.store, 0..100);
            let out = case.attend(kernels, &pool, &case.store, &case.everything());
            for (i, head) in out.chunks(32).enumerate() {
                let clean = !(70..100).contains(&(i / 6)) || i % 6 < 3;
                assert!(!clean || head.iter().all(|x| x.is_finite()), "{} {bad}: head {i}", kernels.isa());
                assert!(
                    clean || !bad.is_nan() || head.iter().all(|x| x.is_nan()),
                    "{} head {i}",
                    kernels.isa()
                );
            }
        }
    }
}

#[test]
fn a_sink_takes_its_share_however_large_and_a_bad_one_spoils_its_head_alone() {
    let pool = WorkerPool::new(2).unwrap();
    let shape = KvShape { kv_heads: 2, head_dim: 32, block_size: 16 };
    for kernels in all_kernels() {
        let mut case = Case::new(&mut Rng(12), shape, 4, &[600]);
        (case.window, case.softcap, case.sinks) = (None, None, None);
        let without = case.attend(kernels, &pool, &case.store, &case.everything());
        case.sinks = Some(vec![f32::NEG_INFINITY, -300.0, 1e30, f32::NAN]);
        let out = case.attend(kernels, &pool, &case.store, &case.everything());
        for (i, (head, old)) in out.chunks(32).zip(without.chunks(32)).enumerate() {
            let what = format!("{} head {i}", kernels.isa());
            match i % 4 {
                0 | 1 => assert_close(&what, head, old, |i| 4.0 * EPS * f64::from(old[i].abs())),
                2 => assert!(head.iter().all(|&x| x == 0.0), "{what}: {head:?}"),
                _ => assert!(head.iter().all(|x| x.is_nan()), "{what}: {head:?}"),
            }
        }
    }
}

#[test]
fn no_rows_are_no_work() {
    let pool = WorkerPool::new(2).unwrap();
    let case = Case::new(&mut Rng(11), KvShape { kv_heads: 1, head_dim: 16, block_size: 16 }, 1, &[5]);
    all_kernels().for_each(|kernels| assert!(case.attend(kernels, &pool, &case.store, &[]).is_empty()));
}

const LIMITS: AttentionLimits =
    AttentionLimits { heads: 2, kv_heads: 1, head_dim: 16, tokens: 2, rows: 1, threads: 1 };

fn refused(change: impl Fn(&mut AttentionInput<'_>)) -> String {
    let pool = WorkerPool::new(1).unwrap();
    let shape = KvShape { kv_heads: 1, head_dim: 16, block_size: 16 };
    let store = Store::new(&shape, 4, Kind::Bf16);
    let rows = [AttentionRow { tokens: 0..2, context: 20, table: 0..2 }];
    let mut input = AttentionInput {
        q: &[0.0; 64],
        q_stride: 32,
        heads: 2,
        shape,
        rows: &rows,
        tables: &[1, 2],
        scale: 1.0,
        window: None,
        softcap: None,
        sinks: None,
    };
    change(&mut input);
    let mut scratch = AttentionScratch::new(&LIMITS).unwrap();
    let call = || scalar().attention(&pool, &input, store.read(), &mut scratch, &mut [0.0; 64]);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).unwrap_err();
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap()
}

#[test]
fn wrong_tables_and_shapes_are_refused() {
    let row = |tokens, context, table| [AttentionRow { tokens, context, table }];
    assert!(refused(|input| input.tables = &[1, 4]).contains("block"));
    assert!(refused(|input| input.tables = &[1]).contains("block numbers"));
    let short = row(0..2, 33, 0..2);
    assert!(refused(|input| input.rows = leak(&short)).contains("needs 3 blocks"));
    let long = row(0..3, 20, 0..2);
    assert!(refused(|input| input.rows = leak(&long)).contains("among 2 tokens"));
    let early = row(0..2, 1, 0..2);
    assert!(refused(|input| input.rows = leak(&early)).contains("context"));
    assert!(refused(|input| input.heads = 0).contains("query heads"));
    assert!(refused(|input| input.window = Some(0)).contains("itself"));
    assert!(refused(|input| input.sinks = Some(&[0.0; 3])).contains("3 sinks of 2"));
    assert!(refused(|input| input.q = &[0.0; 63]).contains("no query"));
    assert!(refused(|input| input.shape.head_dim = 15).contains("geometry"));
}

fn leak(rows: &[AttentionRow]) -> &'static [AttentionRow] {
    Box::leak(rows.to_vec().into_boxed_slice())
}
