//! How evenly tenants that compete are served.

use std::collections::VecDeque;

/// Compares what tenants got with what their weights entitle them to, over the time in which at least two of them compete.
///
/// A tenant competes while it has requests waiting, once so many requests have ended since it began to wait that the whole batch
/// could be another: before that it waits for rows, not for its share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fairness {
    tenants: Vec<Share>,
    /// Ends of requests until a tenant that waits competes.
    turnover: u64,
    ended: u64,
    /// Tenants that wait and do not compete yet: the count of ends at which they do, and which of their waits it is.
    settling: VecDeque<(u64, u32, u64)>,
    competing: u32,
    /// Weights of those that compete.
    weight: f64,
    /// Tokens per weight that competitors were entitled to so far.
    price: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Share {
    weight: f64,
    waiting: u32,
    /// How often it began to wait.
    waits: u64,
    competes: bool,
    /// The price when it began to compete.
    since: f64,
    /// Tokens while it competed with others.
    got: f64,
    /// Tokens that were its share of those.
    due: f64,
}

impl Fairness {
    /// Without tenants, for a batch of so many requests.
    pub(crate) fn new(batch: u32) -> Self {
        Self { turnover: u64::from(batch), ..Self::default() }
    }

    /// Makes sure that there is a tenant of this number; one that is there keeps its weight.
    pub(crate) fn know(&mut self, tenant: u32, weight: impl Fn(u32) -> f64) {
        for number in self.tenants.len() as u32..=tenant {
            self.tenants.push(Share { weight: weight(number), ..Share::default() });
        }
    }

    /// A request of `tenant` waits.
    pub(crate) fn waits(&mut self, tenant: u32) {
        let share = &mut self.tenants[tenant as usize];
        share.waiting += 1;
        if share.waiting == 1 {
            share.waits += 1;
            self.settling.push_back((self.ended + self.turnover, tenant, share.waits));
            self.settle();
        }
    }

    /// A request of `tenant` waits no longer.
    pub(crate) fn leaves(&mut self, tenant: u32) {
        let share = &mut self.tenants[tenant as usize];
        share.waiting -= 1;
        if share.waiting == 0 && std::mem::take(&mut share.competes) {
            share.due += share.weight * (self.price - share.since);
            self.competing -= 1;
            self.weight -= share.weight;
        }
    }

    /// A request ended.
    pub(crate) fn ended(&mut self) {
        self.ended += 1;
        self.settle();
    }

    /// Lets those compete that have waited for a turn of the batch.
    fn settle(&mut self) {
        while let Some(&(_, tenant, wait)) = self.settling.front().filter(|(at, ..)| *at <= self.ended) {
            self.settling.pop_front();
            let share = &mut self.tenants[tenant as usize];
            if share.waiting > 0 && share.waits == wait {
                (share.competes, share.since) = (true, self.price);
                self.competing += 1;
                self.weight += share.weight;
            }
        }
    }

    /// A step gave these tenants these tokens.
    pub(crate) fn served(&mut self, rows: impl Iterator<Item = (u32, u32)>) {
        if self.competing < 2 {
            return;
        }
        let mut total = 0.0;
        for (tenant, tokens) in rows {
            let share = &mut self.tenants[tenant as usize];
            if share.competes {
                share.got += f64::from(tokens);
                total += f64::from(tokens);
            }
        }
        self.price += total / self.weight;
    }

    /// Got over due of each tenant; `None` of one that never competed.
    pub(crate) fn shares(&self) -> impl Iterator<Item = Option<f64>> {
        self.tenants.iter().map(|share| {
            let open = if share.competes { share.weight * (self.price - share.since) } else { 0.0 };
            let due = share.due + open;
            (due > 0.0).then(|| share.got / due)
        })
    }

    /// Jain's index over the shares: 1 if all are equal, 1/n if one of n has everything; `None` without competition.
    pub(crate) fn jain(&self) -> Option<f64> {
        let shares: Vec<f64> = self.shares().flatten().collect();
        let (sum, squares) = shares.iter().fold((0.0, 0.0), |(s, q), x| (s + x, q + x * x));
        (squares > 0.0).then(|| sum * sum / (shares.len() as f64 * squares))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two(weights: [f64; 2]) -> Fairness {
        let mut fairness = Fairness::default();
        fairness.know(1, |tenant| weights[tenant as usize]);
        fairness
    }

    fn serve(fairness: &mut Fairness, tokens: [u32; 2]) {
        fairness.served([(0, tokens[0]), (1, tokens[1])].into_iter());
    }

    #[test]
    fn equal_service_per_weight_is_fair() {
        let mut fairness = two([1.0, 3.0]);
        assert_eq!(fairness.jain(), None);
        (0..2).for_each(|tenant| fairness.waits(tenant));
        serve(&mut fairness, [100, 300]);
        assert!((fairness.jain().expect("competition") - 1.0).abs() < 1e-12);
        serve(&mut fairness, [400, 0]);
        let shares: Vec<_> = fairness.shares().flatten().collect();
        assert_eq!(shares, [500.0 / 200.0, 300.0 / 600.0]);
    }

    #[test]
    fn one_that_has_everything_is_as_unfair_as_can_be() {
        let mut fairness = two([1.0, 1.0]);
        (0..2).for_each(|tenant| fairness.waits(tenant));
        serve(&mut fairness, [700, 0]);
        assert_eq!(fairness.jain(), Some(0.5));
    }

    #[test]
    fn who_only_waits_for_a_row_does_not_compete() {
        let mut fairness = Fairness { turnover: 2, ..two([1.0, 1.0]) };
        (0..2).for_each(|tenant| fairness.waits(tenant));
        serve(&mut fairness, [100, 0]);
        fairness.ended();
        fairness.leaves(1);
        fairness.waits(1);
        fairness.ended();
        serve(&mut fairness, [100, 0]);
        assert_eq!(fairness.jain(), None, "only the first has waited for two ends");
        fairness.ended();
        serve(&mut fairness, [30, 30]);
        assert_eq!(fairness.jain(), Some(1.0));
    }

    #[test]
    fn what_nobody_competes_for_counts_for_nobody() {
        let mut fairness = two([1.0, 1.0]);
        fairness.waits(0);
        serve(&mut fairness, [900, 0]);
        fairness.waits(1);
        serve(&mut fairness, [10, 10]);
        fairness.leaves(1);
        serve(&mut fairness, [900, 50]);
        fairness.waits(1);
        serve(&mut fairness, [5, 5]);
        let shares: Vec<_> = fairness.shares().flatten().collect();
        assert_eq!(shares, [1.0, 1.0]);
    }
}
