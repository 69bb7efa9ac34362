//! Nothing allocates in a step.

use half::bf16;
use pagoda_kernels::{
    Angles, AttentionInput, AttentionLimits, AttentionRow, AttentionScratch, Glu, HeadRows, Isa, Kernels,
    KvMut, KvRef, KvRows, KvShape, LinearScratch, LinearShape, Map, Norm, NormKind, PackedLinear, Pairing,
    WeightFormat, Weights, WorkerPool,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands every call on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, SeqCst);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn no_operation_allocates() {
    let pool = WorkerPool::new(2).unwrap();
    let shape = KvShape { kv_heads: 2, head_dim: 64, block_size: 16 };
    let (m, h) = (40, 256);
    let weights = vec![0.5; h * h];
    let w = PackedLinear::pack(&[(Weights::F32(&weights), h)], h, WeightFormat::Bf16, &pool).unwrap();
    let both = [Weights::F32(&weights); 2];
    let unit = PackedLinear::pack_gated(both, LinearShape { n: h, k: h }, WeightFormat::Bf16, &pool).unwrap();
    let mut scratch = LinearScratch::new(m, h).unwrap();
    let (x, ones, mut y, mut z) = (vec![1.0; m * h], vec![1.0; h], vec![0.0; m * h], vec![0.0; m * h]);
    let mut keys = vec![bf16::ZERO; 4 * shape.block_elements()];
    let mut values = keys.clone();
    // A chunk, and a token whose context is split.
    let split = m as u32 - 1;
    let rows = [
        AttentionRow { tokens: 0..split, context: split, table: 0..3 },
        AttentionRow { tokens: split..m as u32, context: 4800, table: 0..300 },
    ];
    let tables: Vec<u32> = (0..300).map(|block| 1 + block % 3).collect();
    let slots: Vec<u32> = (16..16 + m as u32).collect();
    let heads = HeadRows { rows: m, stride: h, heads: 4, head_dim: 64 };
    let limits = AttentionLimits { heads: 4, kv_heads: 2, head_dim: 64, tokens: m, rows: 2, threads: 2 };
    let mut attention = AttentionScratch::new(&limits).unwrap();
    let norm = Norm { kind: NormKind::Rms, weight: &ones, bias: None, eps: 1e-5 };
    let angles = Angles { cos: &x[..m * 32], sin: &x[..m * 32], pairing: Pairing::Halves };
    for kernels in Isa::available().map(|isa| Kernels::for_isa(isa).unwrap()) {
        let mut step = || {
            kernels.norm(&pool, &x, &norm, &mut y);
            kernels.linear(&pool, &x, &w, Some(&ones), &mut scratch, &mut y);
            kernels.norm_heads(&pool, heads, &mut y, &Norm { weight: &ones[..64], ..norm });
            kernels.rope(&pool, heads, &mut y, &angles);
            let kv = KvMut::Bf16 { keys: &mut keys, values: &mut values };
            kernels.kv_write(&pool, &shape, kv, KvRows { keys: &x, values: &y, stride: h }, &slots);
            let input = AttentionInput {
                q: &x,
                q_stride: h,
                heads: 4,
                shape,
                rows: &rows,
                tables: &tables,
                scale: 0.125,
                window: None,
                softcap: None,
                sinks: None,
            };
            let kv = KvRef::Bf16 { keys: &keys, values: &values };
            kernels.attention(&pool, &input, kv, &mut attention, &mut y);
            kernels.gated_linear(&pool, &x, (&unit, Glu::Silu), None, &mut scratch, &mut y);
            kernels.add_norm(&pool, &mut z, &norm, &mut y);
            kernels.map(&pool, &mut y, Map::Activate(Glu::Gelu));
            kernels.add(&pool, &mut z, &y);
            assert!(kernels.row_stats(&y).finite);
        };
        step();
        let before = ALLOCATIONS.load(SeqCst);
        (0..10).for_each(|_| step());
        assert_eq!(ALLOCATIONS.load(SeqCst) - before, 0, "{}", kernels.isa());
    }
}
