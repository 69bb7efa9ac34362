//! Shares of tenants within a class, by virtual token counters.
//!
//! Each token that is computed for a tenant is charged to it in inverse proportion to its weight; among tenants with waiting requests
//! the one that was charged least goes next, and one that had none waiting is lifted to the least charged of the others, so that
//! nobody saves up a claim (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024).

use super::list::{Kind, List, Nodes};
use crate::{Priority, Tenant, TenantId};
use rustc_hash::FxHashMap;
use slab::Slab;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// Charge of one unit of service at weight 1.
const UNIT: u64 = 1_000_000;

/// Units of service in a generated token; a token of a prompt is one.
const DECODE: u64 = 2;

/// Accounts without requests that are kept because they are still above the others of their class.
pub(super) const MAX_IDLE: usize = 4096;

/// What a tenant was charged in one class, and its waiting requests that never ran.
#[derive(Debug)]
struct Account {
    class: Priority,
    tenant: TenantId,
    /// Charge of a unit of service.
    unit: u64,
    charged: u64,
    waiting: List,
    /// Requests that are known to the scheduler.
    live: u32,
    /// Whether `backlogged` names the account.
    listed: bool,
    /// How often it became idle: an entry of `idle` with an older number means nothing.
    idled: u32,
}

/// Least charged first, then the one whose oldest request arrived first. While it is listed both only grow.
type Rank = (u64, u64);

/// The accounts of all classes.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    accounts: Slab<Account>,
    index: FxHashMap<(Priority, TenantId), u32>,
    /// Accounts with waiting requests, per class. Ranks may be out of date, too low; entries may be of accounts without any.
    backlogged: [BinaryHeap<Reverse<(Rank, u32)>>; 4],
    /// Highest charge of an account when its request was taken, per class.
    floors: [u64; 4],
    /// Accounts without requests, by charge.
    idle: BinaryHeap<Reverse<(u64, u32, u32)>>,
}

impl Accounts {
    /// The account that a request is charged to, until [`close`](Self::close).
    pub(super) fn open(&mut self, class: Priority, tenant: Tenant) -> u32 {
        let accounts = &mut self.accounts;
        let key = *self.index.entry((class, tenant.id)).or_insert_with(|| {
            let account = Account {
                class,
                tenant: tenant.id,
                unit: UNIT,
                charged: 0,
                waiting: List::EMPTY,
                live: 0,
                listed: false,
                idled: 0,
            };
            accounts.insert(account) as u32
        });
        let account = &mut self.accounts[key as usize];
        account.live += 1;
        account.unit = UNIT * 1000 / u64::from(tenant.weight.thousandths());
        key
    }

    /// Forgets a request. An account without any is forgotten once the others of its class have caught up with it.
    pub(super) fn close(&mut self, key: u32) {
        let account = &mut self.accounts[key as usize];
        account.live -= 1;
        if account.live > 0 {
            return;
        }
        account.idled += 1;
        self.idle.push(Reverse((account.charged, key, account.idled)));
        self.forget_idle();
    }

    /// Forgets idle accounts that would be lifted to where they are or further.
    fn forget_idle(&mut self) {
        while let Some(&Reverse((charged, key, idled))) = self.idle.peek() {
            let current = self
                .accounts
                .get(key as usize)
                .is_some_and(|account| account.live == 0 && account.idled == idled);
            if current {
                let account = &self.accounts[key as usize];
                if charged > self.floors[account.class.index()] && self.idle.len() <= MAX_IDLE {
                    return;
                }
                self.index.remove(&(account.class, account.tenant));
                // Entries of a heap must not outlive the account that they name.
                if account.listed {
                    self.backlogged[account.class.index()].retain(|&Reverse((_, listed))| listed != key);
                }
                self.accounts.remove(key as usize);
            }
            self.idle.pop();
        }
    }

    /// Charges `prefill` tokens of a prompt and `decode` generated ones.
    pub(super) fn charge(&mut self, key: u32, prefill: u32, decode: u32) {
        let account = &mut self.accounts[key as usize];
        let service = u64::from(prefill) + DECODE * u64::from(decode);
        account.charged = account.charged.saturating_add(service.saturating_mul(account.unit));
    }

    /// The waiting requests of an account.
    pub(super) fn waiting(&self, key: u32) -> &List {
        &self.accounts[key as usize].waiting
    }

    /// The same, to be changed; [`list`](Self::list) follows where a request was added.
    pub(super) fn waiting_mut(&mut self, key: u32) -> &mut List {
        &mut self.accounts[key as usize].waiting
    }

    /// Lifts an account without waiting requests, before one is added, to the least charged of those that have some.
    pub(super) fn lift(&mut self, key: u32, nodes: &Nodes) {
        let class = self.accounts[key as usize].class;
        let level = match self.least_charged(class, nodes) {
            Some(least) => self.accounts[least as usize].charged,
            None => self.floors[class.index()],
        };
        let account = &mut self.accounts[key as usize];
        account.charged = account.charged.max(level);
    }

    /// Makes an account, to which a request was added, one of those that are chosen from.
    pub(super) fn list(&mut self, key: u32, nodes: &Nodes) {
        let account = &mut self.accounts[key as usize];
        if !account.listed {
            account.listed = true;
            let head = account.waiting.first().expect("a request was added");
            let rank = (account.charged, nodes.at(head).arrival);
            self.backlogged[account.class.index()].push(Reverse((rank, key)));
        }
    }

    /// The account of a class that goes next.
    pub(super) fn least_charged(&mut self, class: Priority, nodes: &Nodes) -> Option<u32> {
        loop {
            let mut top = self.backlogged[class.index()].peek_mut()?;
            let Reverse((rank, key)) = *top;
            let account = &mut self.accounts[key as usize];
            let Some(head) = account.waiting.first() else {
                account.listed = false;
                PeekMut::pop(top);
                continue;
            };
            let actual = (account.charged, nodes.at(head).arrival);
            if rank == actual {
                return Some(key);
            }
            *top = Reverse((actual, key));
        }
    }

    /// The waiting requests of the class that go before the one at `key`, in order, if no others arrive: by what their tenants
    /// will have been charged when it is their turn.
    pub(super) fn turns_before(&self, key: u32, nodes: &Nodes) -> Vec<u32> {
        let own = &self.accounts[nodes.at(key).account as usize];
        let turns = |account: &Account| {
            let (mut charged, unit) = (account.charged, account.unit);
            let members = nodes.from(Kind::Tenant, account.waiting.first());
            let turns = members.map(move |key| {
                let request = &nodes.at(key).request;
                let turn = (charged, nodes.at(key).arrival);
                // The last token is not computed.
                let generated = request.max_tokens.saturating_sub(1);
                let service = request.prompt.len() as u64 + DECODE * u64::from(generated);
                charged = charged.saturating_add(service.saturating_mul(unit));
                (turn, key)
            });
            turns.collect::<Vec<_>>()
        };
        let Some(&(last, _)) = turns(own).iter().find(|(_, member)| *member == key) else {
            return Vec::new();
        };
        let same_class = self.accounts.iter().filter(|(_, account)| account.class == own.class);
        let mut before: Vec<_> =
            same_class.flat_map(|(_, account)| turns(account)).filter(|(turn, _)| *turn < last).collect();
        before.sort_unstable();
        before.into_iter().map(|(_, key)| key).collect()
    }

    /// Notes that a request of the account was taken in its turn.
    pub(super) fn taken(&mut self, key: u32) {
        let account = &self.accounts[key as usize];
        let floor = &mut self.floors[account.class.index()];
        *floor = account.charged.max(*floor);
        self.forget_idle();
    }

    /// Number of accounts, idle ones included.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Asserts that the heaps name every account with waiting requests once; returns the requests that wait.
    ///
    /// # Panics
    /// With what is broken.
    pub(super) fn check(&self, nodes: &Nodes) -> usize {
        let mut waiting = 0;
        for (key, account) in &self.accounts {
            let key = key as u32;
            assert_eq!(self.index.get(&(account.class, account.tenant)), Some(&key), "index of an account");
            let listed = self.backlogged[account.class.index()].iter().filter(|entry| entry.0.1 == key);
            assert_eq!(listed.count(), usize::from(account.listed), "places of an account in the order");
            assert!(account.listed || account.waiting.len() == 0, "an account with waiting requests is lost");
            waiting += nodes.check(Kind::Tenant, &account.waiting);
            for key in nodes.from(Kind::Tenant, account.waiting.first()) {
                assert_eq!(nodes.at(key).priority(), account.class, "class of a waiting request");
                assert_eq!(nodes.at(key).request.tenant.id, account.tenant, "tenant of a waiting request");
            }
        }
        assert_eq!(self.index.len(), self.accounts.len(), "accounts and their index");
        waiting
    }
}
