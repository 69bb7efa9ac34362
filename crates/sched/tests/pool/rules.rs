//! Single rules of the pool, each in the smallest case that shows it.

use pagoda_sched::*;
use std::time::{Duration, Instant};

const SALT: CacheSalt = CacheSalt(0);

fn config(total: u32) -> PoolConfig {
    PoolConfig {
        blocks: total + 1,
        block_size: 2,
        hash_seed: 3,
        hash_bits: 32,
        prefix_cache: true,
        max_pinned: total / 2,
        max_kept: total / 2,
    }
}

/// A table that holds `tokens`, with every full block published.
fn write(pool: &mut BlockPool, tokens: &[TokenId]) -> BlockTable {
    let mut table = BlockTable::new();
    pool.allocate_many(tokens.len().div_ceil(2) as u32, &mut table).expect("blocks are free");
    let mut chain = ChainId::root(SALT);
    for (block, tokens) in table.iter().zip(tokens.chunks_exact(2)) {
        chain = pool.publish(block, chain, tokens);
    }
    table
}

fn sequence(sample: u16) -> SequenceId {
    SequenceId { request: RequestId::EMPTY, sample: SampleIndex(sample) }
}

fn holding(table: &BlockTable, tokens: u32) -> Holding<'_> {
    Holding { sequence: sequence(0), table, tokens }
}

fn ids(table: &BlockTable) -> Vec<u32> {
    table.ids().map(|id| id.0).collect()
}

#[test]
fn blocks_are_handed_out_in_id_order_and_never_the_null_block() {
    let mut pool = BlockPool::new(config(3));
    let mut table = BlockTable::new();
    pool.allocate_many(3, &mut table).unwrap();
    assert_eq!(ids(&table), [1, 2, 3]);
    assert!(pool.allocate().is_err());
}

#[test]
fn unpublished_blocks_are_reused_first_and_published_ones_last() {
    let mut pool = BlockPool::new(config(4));
    let mut table = write(&mut pool, &[1, 1, 2, 2, 3]);
    pool.release_table(&mut table);
    pool.allocate_many(4, &mut table).unwrap();
    // The half-full third block, the untouched fourth, then the prefix from its end.
    assert_eq!(ids(&table), [3, 4, 2, 1]);
}

#[test]
fn a_prefix_is_evicted_from_its_end_and_only_as_far_as_needed() {
    let mut pool = BlockPool::new(config(4));
    let prompt = [1, 1, 2, 2, 3, 3, 4, 4];
    let mut table = write(&mut pool, &prompt);
    pool.release_table(&mut table);
    for left in (0..4).rev() {
        pool.allocate_many(1, &mut table).unwrap();
        assert_eq!(pool.lookup(SALT, &prompt[..], 8).blocks, left);
    }
}

#[test]
fn a_hit_protects_a_prefix_from_eviction() {
    let mut pool = BlockPool::new(config(4));
    let mut first = write(&mut pool, &[1, 1, 2, 2]);
    let mut other = write(&mut pool, &[5, 5, 6, 6]);
    pool.release_table(&mut first);
    pool.release_table(&mut other);
    let hit = pool.take_hit(SALT, &[1, 1, 2, 2, 3][..], 4, &mut first);
    assert_eq!((hit.blocks, hit.cached, pool.available()), (2, 2, 2));
    pool.allocate_many(2, &mut other).unwrap();
    assert_eq!(pool.lookup(SALT, &[5, 5, 6, 6][..], 4).blocks, 0);
    assert_eq!(pool.lookup(SALT, &[1, 1, 2, 2][..], 4).blocks, 2);
    assert_eq!(pool.allocate().unwrap_err(), AllocError::OutOfBlocks { needed: 1, free: 0, reclaimable: 0 });
}

#[test]
fn a_lookup_is_cut_to_whole_blocks_within_the_cap() {
    let mut pool = BlockPool::new(config(4));
    let table = write(&mut pool, &[1, 1, 2, 2]);
    for (cap, blocks) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (9, 2)] {
        assert_eq!(pool.lookup(SALT, &[1, 1, 2, 2, 3][..], cap).blocks, blocks);
    }
    pool.check_invariants([holding(&table, 4)]);
}

#[test]
fn a_long_prefix_is_found_up_to_the_first_difference() {
    for hash_bits in [0, 3, 32] {
        let mut pool = BlockPool::new(PoolConfig { hash_bits, ..config(80) });
        // Few different blocks, so that many prefixes end with the same tokens.
        let prompt: Vec<TokenId> = (0..160).map(|at| at / 2 % 3).collect();
        let table = write(&mut pool, &prompt);
        for at in 0..=prompt.len() {
            let mut asked = prompt.clone();
            asked.iter_mut().skip(at).take(1).for_each(|token| *token += 7);
            let hit = pool.lookup(SALT, &asked[..], 160);
            assert_eq!(hit.blocks as usize, at / 2, "first difference at token {at}");
            let BlockState::Held { chain, .. } = pool.state(BlockId(hit.blocks.max(1))) else { panic!() };
            assert_eq!(hit.chain, if hit.blocks == 0 { ChainId::root(SALT) } else { chain.unwrap() });
        }
        pool.check_invariants([holding(&table, 160)]);
    }
}

#[test]
fn nothing_is_found_before_it_is_published() {
    let mut pool = BlockPool::new(config(4));
    let mut table = BlockTable::new();
    pool.allocate_many(1, &mut table).unwrap();
    assert_eq!(pool.lookup(SALT, &[1, 1][..], 2).blocks, 0);
    pool.publish(table.get(0).unwrap(), ChainId::root(SALT), &[1, 1][..]);
    assert_eq!(pool.lookup(SALT, &[1, 1][..], 2).blocks, 1);
}

#[test]
fn salts_do_not_share_even_when_every_hash_collides() {
    let mut pool = BlockPool::new(PoolConfig { hash_bits: 0, ..config(4) });
    let table = write(&mut pool, &[1, 1, 2, 2]);
    for salt in 1..4 {
        assert_eq!(pool.lookup(CacheSalt(salt), &[1, 1][..], 2).blocks, 0);
        // Prefixes are numbered from 1, and no number is taken for a salt.
        assert_eq!(pool.lookup(CacheSalt(salt), &[2, 2][..], 2).blocks, 0);
    }
    pool.check_invariants([holding(&table, 4)]);
}

#[test]
fn equal_tokens_after_different_prefixes_are_different_prefixes() {
    let mut pool = BlockPool::new(config(4));
    let _first = write(&mut pool, &[1, 1, 9, 9]);
    let _second = write(&mut pool, &[2, 2]);
    let hit = pool.lookup(SALT, &[2, 2, 9, 9][..], 4);
    assert_eq!(hit.blocks, 1);
}

#[test]
fn equal_blocks_share_their_chain_and_each_keeps_it_findable() {
    let mut pool = BlockPool::new(config(4));
    let mut first = write(&mut pool, &[1, 1]);
    let mut second = write(&mut pool, &[1, 1]);
    let chain = |pool: &BlockPool, id| match pool.state(BlockId(id)) {
        BlockState::Held { chain, .. } => chain.unwrap(),
        state => panic!("{state:?}"),
    };
    assert_eq!(chain(&pool, 1), chain(&pool, 2));
    pool.release_table(&mut first);
    let mut filler = BlockTable::new();
    pool.allocate_many(3, &mut filler).unwrap();
    assert_eq!(pool.lookup(SALT, &[1, 1][..], 2).blocks, 1);
    pool.check_invariants([holding(&second, 2), holding(&filler, 0)]);
    pool.release_table(&mut second);
}

#[test]
fn a_prefix_that_left_the_cache_gets_another_identity() {
    let mut pool = BlockPool::new(config(1));
    let mut table = write(&mut pool, &[1, 1]);
    let first = pool.lookup(SALT, &[1, 1][..], 2).chain;
    pool.release_table(&mut table);
    table = write(&mut pool, &[1, 1]);
    assert_ne!(pool.lookup(SALT, &[1, 1][..], 2).chain, first);
    pool.release_table(&mut table);
}

#[test]
fn publishing_again_changes_nothing() {
    let mut pool = BlockPool::new(config(2));
    let table = write(&mut pool, &[1, 1]);
    let (epoch, chain) = (pool.epoch(), pool.lookup(SALT, &[1, 1][..], 2).chain);
    assert_eq!(pool.publish(table.get(0).unwrap(), ChainId::root(SALT), &[1, 1][..]), chain);
    assert_eq!(pool.epoch(), epoch);
}

#[test]
fn the_epoch_stands_while_lookups_cannot_change() {
    let mut pool = BlockPool::new(config(2));
    let mut table = write(&mut pool, &[1, 1]);
    let published = pool.epoch();
    pool.release_table(&mut table);
    pool.take_hit(SALT, &[1, 1][..], 2, &mut table);
    pool.release_table(&mut table);
    let fresh = pool.allocate().unwrap();
    assert_eq!(pool.epoch(), published);
    let evicting = pool.allocate().unwrap();
    assert_ne!(pool.epoch(), published);
    pool.release(fresh);
    pool.release(evicting);
}

#[test]
fn poisoned_content_is_never_found_again_whoever_holds_it() {
    let mut pool = BlockPool::new(config(6));
    let mut first = write(&mut pool, &[1, 1, 2, 2]);
    let mut twin = write(&mut pool, &[1, 1, 2, 2]);
    let mut shared = pool.share_table(&first);
    pool.discard_table(&mut first, 1);
    assert_eq!(pool.lookup(SALT, &[1, 1, 2, 2][..], 4).blocks, 1);
    pool.check_invariants([holding(&twin, 4), holding(&shared, 4)]);
    pool.release_table(&mut twin);
    pool.release_table(&mut shared);
    assert_eq!((pool.available(), pool.cached()), (6, 2));
}

#[test]
fn without_a_prefix_cache_nothing_is_found_or_kept() {
    let mut pool = BlockPool::new(PoolConfig { prefix_cache: false, ..config(4) });
    let mut table = write(&mut pool, &[1, 1, 2, 2]);
    assert_eq!(pool.lookup(SALT, &[1, 1, 2, 2][..], 4).blocks, 0);
    pool.release_table(&mut table);
    assert_eq!((pool.available(), pool.cached(), pool.epoch()), (4, 0, 0));
}

#[test]
fn clearing_the_cache_forgets_what_nobody_holds() {
    let mut pool = BlockPool::new(config(4));
    let mut held = write(&mut pool, &[1, 1]);
    let mut freed = write(&mut pool, &[2, 2]);
    assert_eq!(pool.retain_prefix(&held, 1, Retention::PINNED), 1);
    assert_eq!(pool.retain_prefix(&freed, 1, Retention::PINNED), 1);
    pool.release_table(&mut freed);
    assert_eq!(pool.clear_cache(), 1);
    assert_eq!(pool.lookup(SALT, &[2, 2][..], 2).blocks, 0);
    assert_eq!(pool.lookup(SALT, &[1, 1][..], 2).blocks, 1, "others may be about to share it");
    assert_eq!((pool.pinned(), pool.available()), (0, 3));
    pool.check_invariants([holding(&held, 2)]);
    pool.release_table(&mut held);
    assert_eq!((pool.clear_cache(), pool.cached()), (1, 0));
    pool.check_invariants([]);
}

#[test]
fn the_least_valuable_block_goes_first() {
    let mut pool = BlockPool::new(config(8));
    let prompts = [[4, 4], [3, 3], [2, 2], [1, 1]];
    let minute = |minutes: u64| Retention::ttl(Duration::from_secs(60 * minutes));
    let retentions = [Retention::PINNED, minute(10), minute(1), Retention::ORDINARY];
    // Freed from the most valuable on, so that the order of use says the opposite.
    for (prompt, retention) in prompts.iter().zip(retentions) {
        let mut table = write(&mut pool, prompt);
        assert_eq!(pool.retain_prefix(&table, 1, retention), 1);
        pool.release_table(&mut table);
    }
    assert_eq!((pool.kept(), pool.pinned(), pool.available(), pool.cached()), (2, 1, 7, 3));
    let found = |pool: &BlockPool| prompts.map(|prompt| pool.lookup(SALT, &prompt[..], 2).blocks);
    let mut table = BlockTable::new();
    pool.allocate_many(4, &mut table).unwrap();
    for expected in [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]] {
        pool.allocate_many(1, &mut table).unwrap();
        assert_eq!(found(&pool), expected);
        pool.check_invariants([holding(&table, 0)]);
    }
    let error = pool.allocate_many(1, &mut table).unwrap_err();
    assert_eq!(error, AllocError::OutOfBlocks { needed: 1, free: 0, reclaimable: 0 });
    let hit = pool.take_hit(SALT, &[4, 4][..], 2, &mut BlockTable::new());
    assert_eq!((hit.blocks, hit.cached), (1, 0), "a pinned block is there for its content alone");
}

#[test]
fn a_time_to_live_begins_anew_with_each_use() {
    let start = Instant::now();
    let mut pool = BlockPool::new(config(4));
    pool.advance(start);
    let mut table = write(&mut pool, &[1, 1, 2, 2]);
    let retention = Retention::ttl(Duration::from_secs(4));
    assert_eq!(pool.retain_prefix(&table, 2, retention), 2);
    pool.release_table(&mut table);
    let kept_at = |pool: &mut BlockPool, seconds: f64| {
        pool.advance(start + Duration::from_secs_f64(seconds));
        pool.check_invariants([]);
        pool.kept()
    };
    assert_eq!(kept_at(&mut pool, 3.9), 2);
    pool.take_hit(SALT, &[1, 1][..], 2, &mut table);
    pool.release_table(&mut table);
    assert_eq!(kept_at(&mut pool, 4.2), 1, "only the first block was used again");
    assert_eq!(kept_at(&mut pool, 7.8), 1);
    assert_eq!(kept_at(&mut pool, 8.1), 0);
    assert_eq!(
        (pool.cached(), pool.lookup(SALT, &[1, 1, 2, 2][..], 4).blocks),
        (2, 2),
        "ordinary from then on"
    );
}

#[test]
fn only_so_many_blocks_are_retained() {
    let mut pool = BlockPool::new(PoolConfig { max_pinned: 1, max_kept: 2, ..config(8) });
    let table = write(&mut pool, &[1, 1, 2, 2, 3, 3]);
    let (long, short) = (Retention::ttl(Duration::from_secs(90)), Retention::ttl(Duration::from_secs(9)));
    let mut retain = |retention| pool.retain_prefix(&table, 3, retention);
    assert_eq!(retain(short), 2);
    assert_eq!(retain(long), 2, "a longer time is no other block");
    assert_eq!(retain(Retention::PINNED), 1);
    assert_eq!(retain(short), 3, "the pinned block left room");
    assert_eq!(retain(Retention::ORDINARY), 3);
    assert_eq!((pool.usable(), pool.kept(), pool.pinned()), (7, 2, 1));
    pool.check_invariants([holding(&table, 6)]);
}

#[test]
fn of_equal_blocks_the_one_that_stays_is_found() {
    let mut pool = BlockPool::new(config(6));
    let mut first = write(&mut pool, &[1, 1]);
    let mut second = write(&mut pool, &[1, 1]);
    assert_eq!(pool.retain_prefix(&first, 1, Retention::PINNED), 1);
    let mut third = write(&mut pool, &[1, 1]);
    let kept = first.ids().next();
    for table in [&mut first, &mut second, &mut third] {
        pool.release_table(table);
    }
    let hit = pool.take_hit(SALT, &[1, 1][..], 2, &mut first);
    assert_eq!((hit.blocks, first.ids().next()), (1, kept));
    pool.check_invariants([holding(&first, 2)]);
    pool.release_table(&mut first);
}

#[test]
fn the_map_shows_each_block_with_its_first_holder() {
    let mut pool = BlockPool::new(config(4));
    let first = write(&mut pool, &[1, 1, 2]);
    let second = pool.share_table(&first);
    let map = pool.map([holding(&first, 3), Holding { sequence: sequence(1), ..holding(&second, 3) }]);
    let seen: Vec<_> =
        map.iter().map(|block| (block.id().0, block.start_token(), block.token_count())).collect();
    assert_eq!(seen, [(1, Some(0), 2), (2, Some(2), 1), (3, None, 0), (4, None, 0)]);
    assert_eq!(map.block(BlockId(2)).sequence(), Some(sequence(0)));
}

#[test]
#[should_panic(expected = "block 1 has count 1, but 0 tables hold it")]
fn a_leaked_block_is_reported() {
    let mut pool = BlockPool::new(config(2));
    drop(pool.allocate().unwrap());
    pool.check_invariants([]);
}

#[test]
#[should_panic(expected = "is published with 1 tokens")]
fn a_block_published_before_it_is_full_is_reported() {
    let mut pool = BlockPool::new(config(2));
    let table = write(&mut pool, &[1, 1]);
    pool.check_invariants([holding(&table, 1)]);
}

#[test]
#[should_panic(expected = "has 2 tokens")]
fn holders_that_disagree_about_a_shared_block_are_reported() {
    let mut pool = BlockPool::new(config(2));
    let mut first = BlockTable::new();
    pool.allocate_many(1, &mut first).unwrap();
    let second = pool.share_table(&first);
    pool.check_invariants([holding(&first, 2), holding(&second, 1)]);
}

#[test]
#[should_panic(expected = "continues")]
fn a_block_published_after_the_wrong_prefix_is_reported() {
    let mut pool = BlockPool::new(config(4));
    let other = write(&mut pool, &[7, 7]);
    let mut table = write(&mut pool, &[1, 1]);
    pool.allocate_many(1, &mut table).unwrap();
    let wrong = pool.lookup(SALT, &[7, 7][..], 2).chain;
    pool.publish(table.last().unwrap(), wrong, &[2, 2][..]);
    pool.check_invariants([holding(&other, 2), holding(&table, 4)]);
}

#[test]
#[should_panic(expected = "is published with other tokens")]
fn two_contents_for_one_block_are_refused() {
    let mut pool = BlockPool::new(config(2));
    let table = write(&mut pool, &[1, 1]);
    pool.publish(table.get(0).unwrap(), ChainId::root(SALT), &[1, 2][..]);
}
