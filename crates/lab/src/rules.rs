//! The rules of the scheduler that can be switched off.

use crate::Setup;
use pagoda_sched::{Batching, Reservation};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A rule that can be switched off, so that what it is worth is a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Requests join at every step. Without it, only once the batch is empty.
    ContinuousBatching,
    /// Blocks are taken as they are needed. Without it, `max_tokens` are reserved at admission and nothing is shared.
    PagedKv,
    /// Requests share the blocks of equal prefixes.
    PrefixCache,
    /// Classes and tenants. Without them everybody is in one line.
    Classes,
    /// Chunks of prompts keep steps short. Without it, only the token budget bounds a step.
    Pacing,
}

/// Steps may take an hour: no chunk is cut for the sake of a stream.
const UNPACED: Duration = Duration::from_secs(3600);

impl Rule {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::ContinuousBatching, Self::PagedKv, Self::PrefixCache, Self::Classes, Self::Pacing];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::ContinuousBatching => "continuous-batching",
            Self::PagedKv => "paged-kv",
            Self::PrefixCache => "prefix-cache",
            Self::Classes => "classes",
            Self::Pacing => "pacing",
        }
    }
}

/// A name that is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no rule; write continuous-batching, paged-kv, prefix-cache, classes or pacing")]
pub struct UnknownRule(String);

impl FromStr for Rule {
    type Err = UnknownRule;

    fn from_str(text: &str) -> Result<Self, UnknownRule> {
        Self::ALL.into_iter().find(|rule| rule.name() == text).ok_or_else(|| UnknownRule(text.to_owned()))
    }
}

/// Some rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleSet(u8);

impl RuleSet {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// All of them.
    pub fn all() -> Self {
        Rule::ALL.into_iter().collect()
    }

    /// Whether a rule is one of them.
    pub fn contains(self, rule: Rule) -> bool {
        self.0 >> rule as u8 & 1 == 1
    }

    /// The rules, in the order of [`Rule::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Rule> {
        Rule::ALL.into_iter().filter(move |&rule| self.contains(rule))
    }
}

impl FromIterator<Rule> for RuleSet {
    fn from_iter<I: IntoIterator<Item = Rule>>(rules: I) -> Self {
        Self(rules.into_iter().fold(0, |set, rule| set | 1 << rule as u8))
    }
}

/// What is switched off, as the head of a column says it.
impl fmt::Display for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE {
            return f.write_str("all rules");
        }
        if *self == Self::all() {
            return f.write_str("no rules");
        }
        let names: Vec<&str> = self.iter().map(Rule::name).collect();
        write!(f, "without {}", names.join(", "))
    }
}

/// The limits of `setup` with the rules that it goes without switched off.
pub(crate) fn limits(setup: &Setup) -> pagoda_sched::SchedulerConfig {
    let mut config = setup.config;
    for rule in setup.without.iter() {
        match rule {
            Rule::ContinuousBatching => config.batching = Batching::Static,
            Rule::PagedKv => {
                config.reservation = Reservation::WorstCase;
                config.prefix_cache = false;
            }
            Rule::PrefixCache => config.prefix_cache = false,
            // Every request is made to be of one class and tenant.
            Rule::Classes => {}
            Rule::Pacing => config.itl_target = Some(UNPACED),
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_back_and_sets_hold_them() {
        for rule in Rule::ALL {
            assert_eq!(rule.name().parse(), Ok(rule));
        }
        assert!("fifo".parse::<Rule>().expect_err("no rule").to_string().contains("paged-kv"));
        let set: RuleSet = [Rule::Pacing, Rule::PagedKv, Rule::Pacing].into_iter().collect();
        assert!(set.contains(Rule::PagedKv) && !set.contains(Rule::Classes));
        assert_eq!(set.to_string(), "without paged-kv, pacing");
        assert_eq!(
            (RuleSet::NONE.to_string(), RuleSet::all().to_string()),
            ("all rules".into(), "no rules".into())
        );
    }
}
