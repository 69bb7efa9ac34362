//! Hierarchical timing wheel: arming, disarming and firing a deadline cost O(1), however many are armed.

use std::num::NonZeroU16;
use std::time::{Duration, Instant};

/// 6 bits per level; eleven levels cover every `u64` tick, so that there is no overflow list.
const LEVELS: usize = 11;
const SLOTS: usize = 64;
const NIL: u32 = u32::MAX;
/// Nanoseconds per slot of the lowest level.
const TICK: u64 = 1_000_000;

/// Handle of an armed timer; invalid after the timer fired or was disarmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey(u32);

/// Timers with a payload, fired in slots of one millisecond but never before their due time.
#[derive(Debug)]
pub(crate) struct TimingWheel<T> {
    origin: Option<Instant>,
    current: u64,
    occupied: [u64; LEVELS],
    heads: Box<[[u32; SLOTS]; LEVELS]>,
    timers: slab::Slab<Timer<T>>,
}

#[derive(Debug)]
struct Timer<T> {
    /// Nanoseconds after the origin.
    due: u64,
    payload: T,
    prev: u32,
    next: u32,
    /// `level * SLOTS + slot + 1`; never zero, which spares the slab a tag.
    place: NonZeroU16,
}

impl<T> Default for TimingWheel<T> {
    fn default() -> Self {
        Self {
            origin: None,
            current: 0,
            occupied: [0; LEVELS],
            heads: Box::new([[NIL; SLOTS]; LEVELS]),
            timers: slab::Slab::new(),
        }
    }
}

impl<T> TimingWheel<T> {
    /// An empty wheel.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Armed timers.
    pub(crate) fn len(&self) -> usize {
        self.timers.len()
    }

    /// Arms a timer at `now`; the first one sets the wheel's origin.
    pub(crate) fn arm(&mut self, now: Instant, due: Instant, payload: T) -> TimerKey {
        self.origin.get_or_insert(now);
        let due = self.nanos(due);
        let key =
            self.timers.insert(Timer { due, payload, prev: NIL, next: NIL, place: NonZeroU16::MIN }) as u32;
        self.link(key);
        TimerKey(key)
    }

    /// Disarms a timer that has not fired and gives its payload back.
    pub(crate) fn disarm(&mut self, key: TimerKey) -> T {
        self.unlink(key.0);
        self.timers.remove(key.0 as usize).payload
    }

    /// Fires every timer that is due at `now`, appending its payload to `fired`.
    pub(crate) fn advance(&mut self, now: Instant, fired: &mut Vec<T>) {
        let now = self.nanos(now);
        let target = (now / TICK).max(self.current);
        while let Some((level, slot, start)) = self.next_slot() {
            if start > target {
                break;
            }
            self.current = start;
            if level > 0 {
                self.cascade(level, slot);
                continue;
            }
            self.fire_slot(slot, now, fired);
            if start == target {
                break;
            }
        }
        self.current = target;
    }

    /// A time at which [`advance`](Self::advance) is worth calling: not after the first due time by more than one
    /// millisecond, and possibly before it when the timer is far away.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let (level, _, start) = self.next_slot()?;
        let tick = if level == 0 { start + 1 } else { start };
        Some(self.origin? + Duration::from_nanos(tick.saturating_mul(TICK)))
    }

    fn nanos(&self, at: Instant) -> u64 {
        let origin = self.origin.unwrap_or(at);
        u64::try_from(at.saturating_duration_since(origin).as_nanos()).unwrap_or(u64::MAX)
    }

    /// The occupied slot that comes first, as level, slot and first tick. Lower levels always come first: a timer's
    /// level is that of the highest digit in which its tick differs from the current one.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|&bits| bits != 0)?;
        let slot = self.occupied[level].trailing_zeros() as usize;
        let shift = 6 * level as u32;
        let above =
            self.current.checked_shr(shift + 6).and_then(|high| high.checked_shl(shift + 6)).unwrap_or(0);
        Some((level, slot, above | (slot as u64) << shift))
    }

    fn cascade(&mut self, level: usize, slot: usize) {
        let mut key = std::mem::replace(&mut self.heads[level][slot], NIL);
        self.occupied[level] &= !(1 << slot);
        while key != NIL {
            let next = self.timers[key as usize].next;
            self.link(key);
            key = next;
        }
    }

    fn fire_slot(&mut self, slot: usize, now: u64, fired: &mut Vec<T>) {
        let mut key = self.heads[0][slot];
        while key != NIL {
            let timer = &self.timers[key as usize];
            let next = timer.next;
            if timer.due <= now {
                self.unlink(key);
                fired.push(self.timers.remove(key as usize).payload);
            }
            key = next;
        }
    }

    fn link(&mut self, key: u32) {
        let tick = (self.timers[key as usize].due / TICK).max(self.current);
        let differs = 63 - ((tick ^ self.current) | 1).leading_zeros();
        let level = (differs / 6) as usize;
        let slot = (tick >> (6 * level)) as usize % SLOTS;
        let head = std::mem::replace(&mut self.heads[level][slot], key);
        self.occupied[level] |= 1 << slot;
        if head != NIL {
            self.timers[head as usize].prev = key;
        }
        let timer = &mut self.timers[key as usize];
        (timer.prev, timer.next) = (NIL, head);
        timer.place = NonZeroU16::MIN.saturating_add((level * SLOTS + slot) as u16);
    }

    fn unlink(&mut self, key: u32) {
        let Timer { prev, next, place, .. } = self.timers[key as usize];
        let place = usize::from(place.get() - 1);
        let (level, slot) = (place / SLOTS, place % SLOTS);
        if prev == NIL {
            self.heads[level][slot] = next;
            if next == NIL {
                self.occupied[level] &= !(1 << slot);
            }
        } else {
            self.timers[prev as usize].next = next;
        }
        if next != NIL {
            self.timers[next as usize].prev = prev;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fires_at_the_due_time_and_not_before() {
        let t0 = Instant::now();
        let mut wheel = TimingWheel::new();
        wheel.arm(t0, t0, 0);
        let due = t0 + Duration::from_micros(5_700_300);
        wheel.arm(t0, due, 1);
        let mut fired = Vec::new();
        wheel.advance(due - Duration::from_micros(1), &mut fired);
        assert_eq!(fired, [0]);
        wheel.advance(due, &mut fired);
        assert_eq!(fired, [0, 1]);
        assert_eq!((wheel.len(), wheel.next_deadline()), (0, None));
    }

    #[test]
    fn a_timer_in_the_past_fires_at_once() {
        let t0 = Instant::now();
        let mut wheel = TimingWheel::new();
        wheel.arm(t0, t0 + Duration::from_secs(9), 0);
        let mut fired = Vec::new();
        wheel.advance(t0 + Duration::from_secs(20), &mut fired);
        wheel.arm(t0, t0, 1);
        wheel.advance(t0 + Duration::from_secs(20), &mut fired);
        assert_eq!(fired, [0, 1]);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Arm(u64),
        Disarm(prop::sample::Index),
        Advance(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        let micros = prop_oneof![0..5_000u64, 0..1_000_000u64, 0..100_000_000_000u64];
        prop_oneof![
            3 => micros.clone().prop_map(Op::Arm),
            1 => any::<prop::sample::Index>().prop_map(Op::Disarm),
            3 => micros.prop_map(Op::Advance),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_sorted_list(ops in prop::collection::vec(op(), 1..60)) {
            let t0 = Instant::now();
            let (mut now, mut wheel, mut armed) = (t0, TimingWheel::new(), Vec::new());
            for (id, op) in ops.into_iter().enumerate() {
                match op {
                    Op::Arm(micros) => {
                        let due = now + Duration::from_micros(micros);
                        armed.push((due, id, wheel.arm(now, due, id)));
                    }
                    Op::Disarm(index) if !armed.is_empty() => {
                        let (_, id, key) = armed.remove(index.index(armed.len()));
                        prop_assert_eq!(wheel.disarm(key), id);
                    }
                    Op::Disarm(_) => {}
                    Op::Advance(micros) => {
                        now += Duration::from_micros(micros);
                        let mut fired = Vec::new();
                        wheel.advance(now, &mut fired);
                        let mut due: Vec<_> = armed.iter().filter(|a| a.0 <= now).map(|a| a.1).collect();
                        armed.retain(|a| a.0 > now);
                        fired.sort_unstable();
                        due.sort_unstable();
                        prop_assert_eq!(fired, due);
                    }
                }
                prop_assert_eq!(wheel.len(), armed.len());
                let first = armed.iter().map(|a| a.0).min();
                prop_assert_eq!(wheel.next_deadline().is_some(), first.is_some());
                if let (Some(next), Some(first)) = (wheel.next_deadline(), first) {
                    prop_assert!(next <= first.max(now) + Duration::from_nanos(TICK));
                }
            }
        }
    }
}
