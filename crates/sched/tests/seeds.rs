//! One test per line of the testing sections and success criteria of the two specifications that the project
//! started from: the data models of continuous batching and those of PagedAttention.

/// Continuous batching: `RequestId`, `Request`, `Priority`, `Batch`, `CompletionReason`, `BatchStats`.
mod continuous_batching {
    use pagoda_sched::*;
    use std::collections::HashSet;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    fn request(prompt: &[TokenId], max_tokens: u32) -> Request {
        Request {
            id: RequestId::new(),
            prompt: prompt.into(),
            sampling: Arc::new(SamplingParams::greedy()),
            max_tokens,
            samples: 1,
            priority: Priority::default(),
            tenant: Default::default(),
            salt: CacheSalt::default(),
            adapter: Default::default(),
            retention: Retention::default(),
            enqueued_at: Instant::now(),
            deadlines: Deadlines::default(),
        }
    }

    fn capacity() -> KvCapacity {
        KvCapacity {
            layout: KvLayout {
                layers: 2,
                kv_heads: 3,
                head_dim: 8,
                block_size: 4,
                element_bytes: 2,
                scale_bytes: 0,
                blocks: 9,
            },
            max_context: 32,
            vocab_size: 100,
            window: None,
        }
    }

    // Testing requirement: "Unit tests for Request creation and state management", creation.
    #[test]
    fn a_request_is_created_with_what_was_asked() {
        let before = Instant::now();
        let request = request(&[5, 6, 7], 32);
        assert_ne!(request.id, RequestId::EMPTY);
        assert_eq!(&request.prompt[..], [5, 6, 7]);
        assert_eq!(request.max_tokens, 32);
        assert_eq!(request.priority, Priority::Normal);
        assert!(request.enqueued_at >= before && request.enqueued_at <= Instant::now());
        assert_eq!(request.deadlines, Deadlines { queue: None, first_token: None, total: None });
    }

    // Testing requirement: "Verify RequestId uniqueness and equality", uniqueness.
    #[test]
    fn request_ids_are_unique_across_threads() {
        let make = || (0..1000).map(|_| RequestId::new()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(make)).collect();
        let ids: HashSet<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(ids.len(), 4000);
        assert!(!ids.contains(&RequestId::EMPTY));
    }

    // Testing requirement: "Verify RequestId uniqueness and equality", equality.
    #[test]
    fn request_ids_are_equal_by_value_and_empty_by_default() {
        let id = RequestId::new();
        let copy = id;
        assert_eq!(id, copy);
        assert_eq!(RequestId::default(), RequestId::EMPTY);
        assert_eq!(RequestId::EMPTY.0.as_u128(), 0);
        assert!(RequestId::EMPTY < id);
        assert!(HashSet::from([id]).contains(&copy));
    }

    #[test]
    fn priorities_have_the_specified_values_and_order() {
        let named = [Priority::Low, Priority::Normal, Priority::High, Priority::Urgent];
        for (value, priority) in (0u8..).zip(named) {
            assert_eq!(priority as u8, value);
            assert_eq!(Priority::try_from(value), Ok(priority));
        }
        assert!(named.is_sorted());
        assert_eq!(Priority::try_from(4), Err(InvalidPriority(4)));
        assert_eq!(Priority::default(), Priority::Normal);
    }

    // Testing requirement: "Test completion reason enum values".
    #[test]
    fn every_specified_completion_reason_exists_and_is_distinct() {
        let reasons = [
            (CompletionReason::Eos, "eos"),
            (CompletionReason::MaxTokens, "max_tokens"),
            (CompletionReason::Cancelled, "cancelled"),
            (CompletionReason::LengthLimit(LengthKind::Context), "length_limit"),
            (CompletionReason::StopString("\n\n".into()), "stop_string"),
            (CompletionReason::Timeout(DeadlineKind::Total), "timeout"),
        ];
        for (at, (reason, name)) in reasons.iter().enumerate() {
            assert_eq!(reason.name(), *name);
            assert_eq!(reasons.iter().position(|(other, _)| other == reason), Some(at));
        }
    }

    // Success criterion: "Thread-safety where needed (concurrent access to Request)". A request is immutable, so
    // that any number of threads may read it without a lock.
    #[test]
    fn a_request_can_be_read_from_several_threads_at_once() {
        let request = Arc::new(request(&[1, 2, 3], 4));
        let reader = |request: Arc<Request>| move || (request.id, request.prompt.iter().sum::<u32>());
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(reader(Arc::clone(&request)))).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), (request.id, 6));
        }
    }

    // Testing requirement: "Unit tests for Request creation and state management", state. Progress is derived from
    // the sequence that owns it: `GeneratedTokens`, `GeneratedTokenIds` and `IsCompleted` cannot disagree.
    #[test]
    fn a_sequence_counts_what_it_generated_until_it_leaves_the_batch() {
        let mut scheduler = Scheduler::new(SchedulerConfig::default(), capacity()).unwrap();
        let asked = request(&[5, 6, 7], 2);
        let now = asked.enqueued_at;
        let id = SequenceId { request: asked.id, sample: SampleIndex(0) };
        scheduler.enqueue(asked, now).unwrap();
        assert!(scheduler.queue().contains(id) && !scheduler.batch().contains(id));

        let mut effects = Effects::default();
        let answer = |token| StepOutput {
            samples: vec![Sampled { token: Ok(token), logprob: 0.0, top: 0..0 }],
            ..StepOutput::default()
        };
        assert!(scheduler.plan(now).is_some());
        scheduler.commit(Ok(&answer(40)), now, &mut effects);
        let sequence = scheduler.batch().get(id).expect("it runs");
        assert_eq!((sequence.generated(), sequence.output()), (1, &[40][..]));
        assert_eq!((sequence.computed(), sequence.gap()), (3, 1));

        assert!(scheduler.plan(now).is_some());
        scheduler.commit(Ok(&answer(41)), now, &mut effects);
        assert!(!scheduler.batch().contains(id) && scheduler.is_idle(), "it is completed");
        let reason = effects.events.into_iter().find_map(|effect| match effect {
            Effect::Finished { reason, stats, .. } => Some((reason, stats.generated_tokens)),
            _ => None,
        });
        assert_eq!(reason, Some((CompletionReason::MaxTokens, 2)));
    }

    // `CancellationToken`: a request can be cancelled in any state, once.
    #[test]
    fn a_request_supports_cancellation() {
        let mut scheduler = Scheduler::new(SchedulerConfig::default(), capacity()).unwrap();
        let asked = request(&[5, 6, 7], 2);
        let (id, now) = (asked.id, asked.enqueued_at);
        scheduler.enqueue(asked, now).unwrap();
        assert!(scheduler.cancel(id));
        assert!(!scheduler.cancel(id));
        let mut effects = Effects::default();
        scheduler.reap(now, &mut effects);
        assert!(matches!(effects.events[..], [Effect::Finished { reason: CompletionReason::Cancelled, .. }]));
        assert!(scheduler.is_idle());
    }

    // Testing requirement: "Unit tests for Batch add/remove operations".
    #[test]
    fn a_batch_adds_finds_and_removes_sequences() {
        let sequences: Vec<_> = (0..5).map(|arrival| Sequence::new(request(&[1, 2], 3), arrival)).collect();
        let ids: Vec<_> = sequences.iter().map(Sequence::id).collect();
        let mut batch = Batch::new();
        assert!(batch.is_empty() && !batch.contains(ids[0]));
        for sequence in sequences {
            batch.add(sequence);
            batch.check_invariants();
        }
        assert_eq!(batch.len(), 5);
        assert!(ids.iter().all(|&id| batch.contains(id) && batch.get(id).is_some_and(|it| it.id() == id)));

        assert_eq!(batch.remove(ids[2]).map(|removed| removed.id()), Some(ids[2]));
        assert!(batch.remove(ids[2]).is_none() && batch.get(ids[2]).is_none() && !batch.contains(ids[2]));
        batch.check_invariants();
        batch.add(Sequence::new(request(&[1], 1), 9));
        let order: Vec<_> = batch.iter().map(Sequence::id).collect();
        assert_eq!(order[..4], [ids[0], ids[1], ids[3], ids[4]], "the others keep their order");
        for id in order {
            assert!(batch.remove(id).is_some());
            batch.check_invariants();
        }
        assert_eq!((batch.len(), batch.rows()), (0, 0));
    }

    #[test]
    #[should_panic(expected = "runs twice")]
    fn a_batch_refuses_the_same_sequence_twice() {
        let asked = request(&[1], 1);
        let mut batch = Batch::new();
        batch.add(Sequence::new(asked.clone(), 0));
        batch.add(Sequence::new(asked, 1));
    }

    // `BatchId` is sequential and `CreatedTime` tracks the lifetime; the memory is derived from what is held.
    #[test]
    fn a_batch_has_a_sequential_id_a_time_and_its_memory() {
        let capacity = capacity();
        let mut scheduler = Scheduler::new(SchedulerConfig::default(), capacity).unwrap();
        assert_eq!((scheduler.batch().id(), scheduler.batch().created_at()), (BatchId(0), None));
        let asked = request(&[1, 2, 3, 4, 5], 3);
        let now = asked.enqueued_at;
        scheduler.enqueue(asked, now).unwrap();
        let mut effects = Effects::default();
        for step in 1..4 {
            let at = now + Duration::from_millis(step);
            let input = scheduler.plan(at).unwrap();
            assert_eq!(input.batch, BatchId(step));
            let batch = scheduler.batch();
            assert_eq!((batch.id(), batch.created_at(), batch.len()), (BatchId(step), Some(at), 1));
            assert_eq!(batch.memory_bytes(&capacity.layout), 2 * capacity.layout.block_bytes());
            let samples = vec![Sampled { token: Ok(9), logprob: 0.0, top: 0..0 }];
            let output = StepOutput { samples, ..StepOutput::default() };
            scheduler.commit(Ok(&output), at + Duration::from_millis(7), &mut effects);
            let stats = scheduler.batch_stats();
            assert_eq!((stats.batch, stats.processing_time), (BatchId(step), Duration::from_millis(7)));
        }
        assert_eq!(scheduler.batch().memory_bytes(&capacity.layout), 0);
    }

    // `BatchStats`: integers, from which the ratio follows; no stored ratio, no NaN.
    #[test]
    fn batch_stats_derive_their_utilization() {
        let stats = BatchStats { rows: 3, max_rows: 12, ..BatchStats::default() };
        let copy = stats;
        assert_eq!(copy, stats);
        assert_eq!(stats.utilization_percent(), 25.0);
        assert_eq!(BatchStats::default().utilization_percent(), 0.0);
    }

    // Success criterion: "Memory overhead is minimal (especially for frequently-used structs)".
    #[test]
    fn models_are_small() {
        assert!(size_of::<Sequence>() <= 320, "a sequence takes {} bytes", size_of::<Sequence>());
        assert_eq!(size_of::<RequestId>(), 16);
        assert_eq!(size_of::<Priority>(), 1);
        assert_eq!(size_of::<SampleIndex>(), 2);
        assert_eq!(size_of::<BatchId>(), 8);
        assert!(size_of::<CompletionReason>() <= 24);
        assert!(size_of::<Request>() <= 192, "a request takes {} bytes", size_of::<Request>());
    }
}

/// PagedAttention: `MemoryBlock`, `BlockManagerStats`, `BlockAllocationResult`.
mod paged_attention {
    use pagoda_sched::*;

    const SIZE: u32 = 4;

    fn pool(total: u32) -> BlockPool {
        BlockPool::new(PoolConfig {
            blocks: total + 1,
            block_size: SIZE,
            hash_seed: 1,
            hash_bits: 32,
            prefix_cache: true,
            max_pinned: 0,
            max_kept: 0,
        })
    }

    fn holding(table: &BlockTable, tokens: u32) -> Holding<'_> {
        Holding { sequence: SequenceId { request: RequestId::EMPTY, sample: SampleIndex(0) }, table, tokens }
    }

    fn root() -> ChainId {
        ChainId::root(CacheSalt::default())
    }

    // Testing requirement: "Unit tests for MemoryBlock state transitions (allocate, free, reset)", allocate.
    #[test]
    fn an_allocated_block_has_a_sequence_and_a_place_in_it() {
        let mut pool = pool(8);
        let mut table = BlockTable::new();
        pool.allocate_many(2, &mut table).unwrap();
        let sequence = SequenceId { request: RequestId::new(), sample: SampleIndex(3) };
        let owner = Holding { sequence, table: &table, tokens: 6 };
        let second = table.ids().next_back().unwrap();
        let block = pool.block(second, [owner]);
        assert_eq!(block.id(), second);
        assert!(block.is_allocated());
        assert_eq!(block.state(), BlockState::Held { refs: 1, chain: None });
        assert_eq!(block.sequence(), Some(sequence));
        assert_eq!(block.start_token(), Some(SIZE));
        assert_eq!(block.token_count(), 2);
        assert_eq!(block.block_size(), SIZE);
    }

    // Testing requirement: "Unit tests for MemoryBlock state transitions (allocate, free, reset)", free.
    #[test]
    fn a_freed_block_is_free_or_cached() {
        let mut pool = pool(8);
        let mut table = BlockTable::new();
        pool.allocate_many(2, &mut table).unwrap();
        let ids: Vec<_> = table.ids().collect();
        let chain = pool.publish(table.get(0).unwrap(), root(), &[1, 2, 3, 4][..]);
        pool.release_table(&mut table);

        let cached = pool.block(ids[0], []);
        assert_eq!(cached.state(), BlockState::Cached(chain));
        assert_eq!(cached.token_count(), SIZE);
        let free = pool.block(ids[1], []);
        assert_eq!(free.state(), BlockState::Free);
        assert_eq!(free.token_count(), 0);
        for block in [cached, free] {
            assert!(!block.is_allocated());
            assert_eq!(block.sequence(), None);
            assert_eq!(block.start_token(), None);
        }
    }

    // Testing requirement: "Unit tests for MemoryBlock state transitions (allocate, free, reset)", reset: releasing
    // a block for one sequence leaves it untouched for another, and a discarded block keeps nothing.
    #[test]
    fn a_reset_concerns_the_holder_alone_until_it_is_the_last() {
        let mut pool = pool(8);
        let mut first = BlockTable::new();
        pool.allocate_many(1, &mut first).unwrap();
        let id = first.ids().next().unwrap();
        pool.publish(first.get(0).unwrap(), root(), &[1, 2, 3, 4][..]);
        let mut second = pool.share_table(&first);
        pool.release_table(&mut first);
        let block = pool.block(id, [holding(&second, 4)]);
        assert!(block.is_allocated());
        assert_eq!(block.token_count(), 4);
        pool.discard_table(&mut second, 0);
        assert_eq!(pool.state(id), BlockState::Free);
        assert_eq!(pool.block(id, []).token_count(), 0);
    }

    // The specified `KeyTensor` and `ValueTensor`.
    #[test]
    fn a_block_knows_where_its_keys_and_values_are() {
        let layout = KvLayout {
            layers: 2,
            kv_heads: 2,
            head_dim: 8,
            block_size: SIZE,
            element_bytes: 2,
            scale_bytes: 0,
            blocks: 9,
        };
        let pool = pool(8);
        let block = pool.block(BlockId(3), []);
        let elements = 2 * 8 * SIZE as usize;
        assert_eq!(block.keys(&layout, 0), 3 * elements..4 * elements);
        assert_eq!(block.values(&layout, 1), (9 + 3) * elements..(9 + 4) * elements);
    }

    // Testing requirement: "Tests for BlockManagerStats calculations".
    #[test]
    fn stats_count_blocks_tokens_and_operations() {
        let mut pool = pool(10);
        let (mut short, mut long) = (BlockTable::new(), BlockTable::new());
        pool.allocate_many(1, &mut short).unwrap();
        pool.allocate_many(3, &mut long).unwrap();
        let stats = pool.stats([holding(&short, 3), holding(&long, 11)]);
        assert_eq!(stats.total_blocks, 10);
        assert_eq!(stats.allocated_blocks, 4);
        assert_eq!(stats.free_blocks(), 6);
        assert_eq!(stats.cached_blocks, 0);
        assert_eq!(stats.active_sequences, 2);
        assert_eq!(stats.total_tokens, 14);
        assert_eq!((stats.allocation_count, stats.deallocation_count), (4, 0));
        assert_eq!(stats.memory_utilization_percentage(), 35.0);

        pool.release_table(&mut long);
        let stats = pool.stats([holding(&short, 3)]);
        assert_eq!((stats.allocation_count, stats.deallocation_count), (4, 3));
        assert_eq!((stats.allocated_blocks, stats.total_tokens), (1, 3));
    }

    // Testing requirement: "Tests for BlockManagerStats calculations", with sharing.
    #[test]
    fn a_shared_block_counts_once() {
        let mut pool = pool(10);
        let mut first = BlockTable::new();
        pool.allocate_many(3, &mut first).unwrap();
        let second = pool.share_table(&first);
        let stats = pool.stats([holding(&first, 9), holding(&second, 9)]);
        assert_eq!((stats.allocated_blocks, stats.active_sequences, stats.total_tokens), (3, 2, 9));
    }

    // Testing requirement: "Tests for BlockManagerStats calculations", the line.
    #[test]
    fn stats_print_the_specified_line() {
        let mut pool = pool(12);
        let mut table = BlockTable::new();
        pool.allocate_many(2, &mut table).unwrap();
        let line = "BlockManagerStats: Free=10/12, ActiveSeqs=1, Utilization=14.6%, Tokens=7";
        assert_eq!(pool.stats([holding(&table, 7)]).to_string(), line);
    }

    // Testing requirement: "Tests for BlockAllocationResult creation patterns", success.
    #[test]
    fn a_successful_allocation_names_its_block() {
        let result: BlockAllocationResult = pool(2).allocate();
        assert_eq!(result.unwrap().id(), BlockId(1));
    }

    // Testing requirement: "Tests for BlockAllocationResult creation patterns", failure.
    #[test]
    fn a_failed_allocation_says_what_was_needed_and_what_there_is() {
        let mut pool = pool(3);
        let (mut table, mut freed) = (BlockTable::new(), BlockTable::new());
        pool.allocate_many(1, &mut freed).unwrap();
        pool.allocate_many(1, &mut table).unwrap();
        pool.publish(freed.get(0).unwrap(), root(), &[1, 2, 3, 4][..]);
        pool.release_table(&mut freed);

        let error = pool.allocate_many(5, &mut table).unwrap_err();
        assert_eq!(error, AllocError::OutOfBlocks { needed: 5, free: 1, reclaimable: 1 });
        assert_eq!(table.len(), 1);
        let message = "out of KV blocks: 5 needed, 1 free and 1 reclaimable from the prefix cache; \
                       finish or preempt a sequence first";
        assert_eq!(error.to_string(), message);
    }

    // Requirement: "Validation: Add validation logic in constructors".
    #[test]
    #[should_panic(expected = "block_size is 0")]
    fn a_block_without_room_is_refused() {
        let config = PoolConfig { block_size: 0, ..*pool(2).config() };
        BlockPool::new(config);
    }

    // Requirement: "Thread Safety". One thread owns the pool; it may be any, and readers get snapshots.
    #[test]
    fn a_pool_moves_between_threads_and_its_stats_are_a_copy() {
        let mut pool = pool(2);
        let stats = pool.stats([]);
        let pool = std::thread::spawn(move || {
            let block = pool.allocate().unwrap();
            pool.release(block);
            pool
        });
        assert_eq!(pool.join().unwrap().stats([]).allocation_count, 1);
        assert_eq!(stats.allocation_count, 0);
    }

    // Success criterion: "Proper encapsulation of block state": what is held is reached by handles only, and the
    // handles of all tables account for every count.
    #[test]
    fn block_state_follows_from_the_tables() {
        let mut pool = pool(6);
        let mut first = BlockTable::new();
        pool.allocate_many(3, &mut first).unwrap();
        let mut second = pool.share_table(&first);
        assert_eq!(pool.refs(first.get(1).unwrap()), 2);
        pool.check_invariants([holding(&first, 10), holding(&second, 10)]);
        pool.release_table(&mut first);
        pool.check_invariants([holding(&second, 10)]);
        pool.release_table(&mut second);
        pool.check_invariants([]);
        assert_eq!(pool.available(), 6);
    }

    // Success criterion: "Clear API surface for block management operations": a block's whole life.
    #[test]
    fn a_block_is_allocated_published_found_copied_and_evicted() {
        let mut pool = pool(2);
        let tokens = [7, 8, 9, 10, 11];
        let mut writer = BlockTable::new();
        pool.allocate_many(1, &mut writer).unwrap();
        let chain = pool.publish(writer.get(0).unwrap(), root(), &tokens[..4]);

        let mut reader = BlockTable::new();
        let hit = pool.take_hit(CacheSalt::default(), &tokens[..], 4, &mut reader);
        assert_eq!(hit, PrefixHit { blocks: 1, cached: 0, chain });
        let copy = pool.make_unique(&mut reader, 0).unwrap().unwrap();
        assert_eq!((copy.from, copy.to), (BlockId(1), BlockId(2)));

        pool.release_table(&mut writer);
        pool.release_table(&mut reader);
        assert_eq!(pool.lookup(CacheSalt::default(), &tokens[..], 4).blocks, 1);
        pool.allocate_many(2, &mut writer).unwrap();
        assert_eq!(pool.lookup(CacheSalt::default(), &tokens[..], 4).blocks, 0);
        pool.release_table(&mut writer);
    }
}
