//! Cost of the pool's operations at 100,000 blocks of 16 tokens.
//!
//! Targets: 20 ns for one allocation and its release; 100 ns per block for a lookup that hits.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pagoda_sched::{BlockHandle, BlockPool, BlockTable, CacheSalt, ChainId, PoolConfig, TokenId, TokenView};
use std::hint::black_box;
use std::time::Duration;

const BLOCKS: u32 = 100_000;
const BLOCK_SIZE: u32 = 16;
/// Blocks of one prompt.
const PROMPT: u32 = 64;
const SALT: CacheSalt = CacheSalt(0);

fn empty_pool() -> BlockPool {
    BlockPool::new(PoolConfig {
        blocks: BLOCKS + 1,
        block_size: BLOCK_SIZE,
        hash_seed: 0x5eed,
        hash_bits: 32,
        prefix_cache: true,
        max_pinned: BLOCKS / 4,
        max_kept: BLOCKS / 4,
    })
}

/// Tokens of prompt `number`; no two prompts share a block.
fn prompt(number: u32) -> Vec<TokenId> {
    let tokens = PROMPT * BLOCK_SIZE;
    (0..tokens).map(|at| (number * tokens + at).wrapping_mul(2_654_435_761) >> 15).collect()
}

/// A pool whose every block is cached, in prompts that were freed in a scattered order, and these prompts.
fn full_cache() -> (BlockPool, Vec<Vec<TokenId>>) {
    let mut pool = empty_pool();
    let prompts: Vec<_> = (0..BLOCKS / PROMPT).map(prompt).collect();
    let mut tables: Vec<_> = prompts.iter().map(|tokens| write(&mut pool, tokens)).collect();
    let count = tables.len();
    for at in 0..count {
        pool.release_table(&mut tables[at * 641 % count]);
    }
    (pool, prompts)
}

fn write(pool: &mut BlockPool, tokens: &[TokenId]) -> BlockTable {
    let mut table = BlockTable::new();
    pool.allocate_many(PROMPT, &mut table).expect("the pool holds all prompts");
    let mut chain = ChainId::root(SALT);
    for (block, tokens) in table.iter().zip(tokens.chunks_exact(BLOCK_SIZE as usize)) {
        chain = pool.publish(block, chain, tokens);
    }
    table
}

fn allocate(c: &mut Criterion) {
    let mut group = c.benchmark_group("allocate");
    let mut pool = empty_pool();
    group.bench_function("one block and release", |b| {
        b.iter(|| {
            let block = pool.allocate().expect("a block is free");
            pool.release(black_box(block));
        });
    });

    let mut table = BlockTable::with_capacity(PROMPT as usize);
    group.throughput(Throughput::Elements(u64::from(PROMPT)));
    group.bench_function("table of 64 blocks and release", |b| {
        b.iter(|| {
            pool.allocate_many(PROMPT, &mut table).expect("blocks are free");
            pool.release_table(black_box(&mut table));
        });
    });

    // Blocks come and go over the whole pool, so that records are seldom in the nearest cache.
    let mut held: Vec<BlockHandle> =
        (0..BLOCKS / 2).map(|_| pool.allocate().expect("half the pool is free")).collect();
    let mut at = 0;
    group.throughput(Throughput::Elements(1));
    group.bench_function("scattered over a pool in use", |b| {
        b.iter(|| {
            at = (at + 20_011) % held.len();
            let block = pool.allocate().expect("a block is free");
            pool.release(std::mem::replace(&mut held[at], block));
        });
    });
    group.finish();
    held.drain(..).for_each(|block| pool.release(block));
}

fn evict(c: &mut Criterion) {
    let mut group = c.benchmark_group("evict");
    group.throughput(Throughput::Elements(u64::from(PROMPT)));
    let (mut pool, _) = full_cache();
    let mut next = BLOCKS / PROMPT;
    group.bench_function("64 cached blocks, write and publish 64", |b| {
        b.iter_batched(
            || {
                next += 1;
                prompt(next)
            },
            |tokens| {
                let mut table = write(&mut pool, &tokens);
                pool.release_table(&mut table);
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn hit(c: &mut Criterion) {
    let mut group = c.benchmark_group("hit");
    group.throughput(Throughput::Elements(u64::from(PROMPT)));
    let (mut pool, prompts) = full_cache();
    let tokens = PROMPT * BLOCK_SIZE;
    group.bench_function("look up the same 64 blocks again", |b| {
        b.iter(|| black_box(pool.lookup(SALT, &prompts[0][..], tokens)));
    });
    let mut at = 0;
    let mut scattered = || {
        at = (at + 641) % prompts.len();
        &prompts[at]
    };
    group.bench_function("look up 64 blocks", |b| {
        b.iter(|| {
            let hit = pool.lookup(SALT, &scattered()[..], tokens);
            assert_eq!(hit.blocks, PROMPT);
        });
    });
    group.bench_function("look up 64 blocks of tokens in two pieces", |b| {
        b.iter(|| {
            let (head, tail) = scattered().split_at(tokens as usize / 2 + 5);
            let hit = pool.lookup(SALT, TokenView::new(head, tail), tokens);
            assert_eq!(hit.blocks, PROMPT);
        });
    });
    let mut table = BlockTable::with_capacity(PROMPT as usize);
    group.bench_function("take 64 blocks and release", |b| {
        b.iter(|| {
            let hit = pool.take_hit(SALT, &scattered()[..], tokens, &mut table);
            assert_eq!(hit.blocks, PROMPT);
            pool.release_table(&mut table);
        });
    });
    group.throughput(Throughput::Elements(1));
    let unknown = prompt(1 << 20);
    group.bench_function("look up a prompt that is not cached", |b| {
        b.iter(|| black_box(pool.lookup(SALT, &unknown[..], tokens)));
    });
    group.finish();
}

/// Many short samples: few of them are interrupted by other work on the machine, so the median is the pool's.
fn short_samples() -> Criterion {
    Criterion::default()
        .sample_size(100)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(500))
}

criterion_group! { name = benches; config = short_samples(); targets = allocate, evict, hit }
criterion_main!(benches);
