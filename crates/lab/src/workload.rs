//! Built-in shapes of traffic.

use crate::{Arrival, Prefix, Random};
use pagoda_sched::Priority;
use std::fmt;
use std::str::FromStr;

/// Who asks for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Lengths as in ShareGPT conversations: prompts of 160 tokens and answers of 310 in the mean, both lognormal; clients
    /// allow 1,024 tokens.
    Chat,
    /// Every prompt has so many tokens and every answer too.
    Fixed {
        /// Tokens of a prompt.
        prompt: u32,
        /// Tokens of an answer.
        output: u32,
    },
    /// Short questions behind one of 16 shared prefixes of 1,536 tokens.
    Agents,
    /// Chat in which one of fifty prompts has 30,000 tokens.
    Long,
    /// Chat of which 80 % is low, 15 % normal, 4 % high and 1 % urgent.
    Classes,
    /// Two tenants, of which `heavy` asks ten times as often as `light`.
    Tenants,
    /// Chat that comes ten times as fast in its second minute.
    Overload,
}

/// How requests arrive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Process {
    /// At random, so many per second on average.
    Poisson {
        /// Requests per second.
        rate: f64,
    },
    /// All at the start.
    Burst,
    /// So many clients, each of which asks again when it has its answer.
    Clients(u32),
}

/// A workload: a shape, when its requests come, how many, and the seed of everything random.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Workload {
    /// Who asks for what.
    pub shape: Shape,
    /// How requests arrive.
    pub process: Process,
    /// How many requests.
    pub requests: u64,
    /// Seed. A request does not depend on when it comes, so that workloads of other rates have the same requests.
    pub seed: u64,
}

/// A name that is no shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no workload; write chat, fixed:PROMPT:OUTPUT, agents, long, classes, tenants or overload, \
     with lengths from 1 to 1000000 tokens"
)]
pub struct UnknownShape(String);

/// Shared prefixes of [`Shape::Agents`].
const AGENTS: u32 = 16;
/// Their tokens.
const AGENT_PREFIX: u32 = 1536;
/// Seconds of [`Shape::Overload`] before, and of, its fast part.
const MINUTE: f64 = 60.0;
/// How much faster that is.
const OVERLOAD: f64 = 10.0;
/// Longest prompt or answer of [`Shape::Fixed`].
const LONGEST: u32 = 1_000_000;
/// Stream of random numbers for the gaps; requests use those from 0 on.
const GAPS: u64 = u64::MAX;
/// What clients of a chat ask for at most.
const CHAT_MAX_TOKENS: u32 = 1024;

impl FromStr for Shape {
    type Err = UnknownShape;

    fn from_str(text: &str) -> Result<Self, UnknownShape> {
        let unknown = || UnknownShape(text.to_owned());
        let length = |text: &str| {
            text.parse::<u32>().ok().filter(|length| (1..=LONGEST).contains(length)).ok_or_else(unknown)
        };
        Ok(match text {
            "chat" => Self::Chat,
            "agents" => Self::Agents,
            "long" => Self::Long,
            "classes" => Self::Classes,
            "tenants" => Self::Tenants,
            "overload" => Self::Overload,
            _ => {
                let lengths = text.strip_prefix("fixed:").and_then(|lengths| lengths.split_once(':'));
                let (prompt, output) = lengths.ok_or_else(unknown)?;
                Self::Fixed { prompt: length(prompt)?, output: length(output)? }
            }
        })
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chat => f.write_str("chat"),
            Self::Fixed { prompt, output } => write!(f, "fixed:{prompt}:{output}"),
            Self::Agents => f.write_str("agents"),
            Self::Long => f.write_str("long"),
            Self::Classes => f.write_str("classes"),
            Self::Tenants => f.write_str("tenants"),
            Self::Overload => f.write_str("overload"),
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} requests, ", self.shape, self.requests)?;
        match self.process {
            Process::Poisson { rate } => write!(f, "{rate} per second")?,
            Process::Burst => f.write_str("all at once")?,
            Process::Clients(clients) => write!(f, "{clients} clients")?,
        }
        write!(f, ", seed {}", self.seed)
    }
}

impl Shape {
    /// Names of the tenants.
    pub fn tenants(self) -> &'static [&'static str] {
        if self == Self::Tenants { &["heavy", "light"] } else { &["default"] }
    }

    /// One request, but for its time.
    fn draw(self, random: &mut Random) -> Arrival {
        let mut arrival = chat(random);
        match self {
            Self::Chat | Self::Overload => {}
            Self::Fixed { prompt, output } => {
                arrival.prompt_tokens = prompt;
                (arrival.output_tokens, arrival.max_tokens) = (output, output);
            }
            Self::Agents => {
                let group = random.within(0..AGENTS);
                arrival.prefix = Some(Prefix { group, tokens: AGENT_PREFIX });
                arrival.prompt_tokens += AGENT_PREFIX;
                arrival.output_tokens = length(random, 80.0, 0.8, 512);
                arrival.max_tokens = 512;
            }
            Self::Long if random.within(0..50) == 0 => {
                arrival.prompt_tokens = 30_000;
                arrival.output_tokens = length(random, 100.0, 0.5, 512);
                arrival.max_tokens = 512;
            }
            Self::Long => {}
            Self::Classes => {
                arrival.class = match random.within(0..100) {
                    0 => Priority::Urgent,
                    1..=4 => Priority::High,
                    5..=19 => Priority::Normal,
                    _ => Priority::Low,
                };
            }
            Self::Tenants => arrival.tenant = u32::from(random.within(0..11) == 0),
        }
        arrival
    }
}

fn chat(random: &mut Random) -> Arrival {
    Arrival {
        at: 0.0,
        prompt_tokens: length(random, 80.0, 1.2, 4096),
        output_tokens: length(random, 220.0, 0.9, CHAT_MAX_TOKENS),
        max_tokens: CHAT_MAX_TOKENS,
        class: Priority::Normal,
        tenant: 0,
        prefix: None,
    }
}

fn length(random: &mut Random, median: f64, sigma: f64, most: u32) -> u32 {
    random.lognormal(median, sigma).round().clamp(1.0, f64::from(most)) as u32
}

impl Workload {
    /// The requests, in order of arrival.
    pub fn arrivals(&self) -> Generated {
        Generated { workload: *self, next: 0, time: 0.0, gaps: Random::new(self.seed, GAPS) }
    }
}

/// The requests of a [`Workload`].
#[derive(Clone, Debug)]
pub struct Generated {
    workload: Workload,
    next: u64,
    time: f64,
    gaps: Random,
}

impl Generated {
    /// The workload that they are of.
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// Time from one request to the next: a Poisson process whose rate may change over time.
    fn gap(&mut self, rate: f64) -> f64 {
        let mut left = self.gaps.exponential() / rate;
        if self.workload.shape != Shape::Overload {
            return left;
        }
        // The gap is spent faster where requests come faster.
        let mut time = self.time;
        for (end, speed) in [(MINUTE, 1.0), (2.0 * MINUTE, OVERLOAD)] {
            let room = (end - time).max(0.0) * speed;
            if left <= room {
                return time + left / speed - self.time;
            }
            left -= room;
            time = time.max(end);
        }
        time + left - self.time
    }
}

impl Iterator for Generated {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        if self.next == self.workload.requests {
            return None;
        }
        let mut arrival = self.workload.shape.draw(&mut Random::new(self.workload.seed, self.next));
        if let Process::Poisson { rate } = self.workload.process {
            self.time += self.gap(rate);
        }
        arrival.at = self.time;
        self.next += 1;
        Some(arrival)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(shape: Shape, process: Process) -> Workload {
        Workload { shape, process, requests: 5_000, seed: 3 }
    }

    fn mean(values: impl Iterator<Item = u32>) -> f64 {
        let values: Vec<f64> = values.map(f64::from).collect();
        values.iter().sum::<f64>() / values.len() as f64
    }

    #[test]
    fn chat_has_its_means_and_leaves_room_for_longer_answers() {
        let all: Vec<_> = workload(Shape::Chat, Process::Burst).arrivals().collect();
        assert_eq!(all.len(), 5_000);
        let (prompts, outputs) =
            (mean(all.iter().map(|it| it.prompt_tokens)), mean(all.iter().map(|it| it.output_tokens)));
        assert!((145.0..175.0).contains(&prompts), "{prompts}");
        assert!((280.0..330.0).contains(&outputs), "{outputs}");
        assert!(all.iter().all(|it| it.at == 0.0 && it.output_tokens <= it.max_tokens));
    }

    #[test]
    fn arrivals_keep_the_rate_and_requests_do_not_depend_on_it() {
        let at = |rate| workload(Shape::Chat, Process::Poisson { rate }).arrivals();
        let slow: Vec<_> = at(2.0).collect();
        let last = slow.last().expect("requests").at;
        assert!((last / 2_500.0 - 1.0).abs() < 0.05, "{last}");
        assert!(slow.is_sorted_by_key(|arrival| arrival.at));
        assert!(
            slow.iter().zip(at(20.0)).all(|(a, b)| Arrival { at: 0.0, ..*a } == Arrival { at: 0.0, ..b })
        );
    }

    #[test]
    fn the_second_minute_of_an_overload_is_ten_times_as_busy() {
        let all = workload(Shape::Overload, Process::Poisson { rate: 4.0 }).arrivals();
        let mut minutes = [0; 4];
        all.filter(|arrival| arrival.at < 240.0)
            .for_each(|arrival| minutes[(arrival.at / 60.0) as usize] += 1);
        assert!((2_250..2_550).contains(&minutes[1]), "{minutes:?}");
        assert!([0, 2, 3].iter().all(|&minute| (190..290).contains(&minutes[minute])), "{minutes:?}");
    }

    #[test]
    fn shapes_have_what_they_are_named_for() {
        let all = |shape| workload(shape, Process::Burst).arrivals();
        assert!(
            all(Shape::Agents).all(|it| it.prefix.is_some_and(|prefix| prefix.tokens < it.prompt_tokens))
        );
        let long = all(Shape::Long).filter(|it| it.prompt_tokens == 30_000).count();
        assert!((60..140).contains(&long), "{long}");
        let light = all(Shape::Tenants).filter(|it| it.tenant == 1).count();
        assert!((380..530).contains(&light), "{light}");
        for class in Priority::ALL {
            assert!(all(Shape::Classes).any(|it| it.class == class));
        }
    }

    #[test]
    fn shapes_read_back_and_others_are_refused() {
        for text in ["chat", "fixed:100:20", "agents", "long", "classes", "tenants", "overload"] {
            assert_eq!(text.parse::<Shape>().map(|shape| shape.to_string()), Ok(text.to_owned()));
        }
        for text in
            ["", "Chat", "fixed", "fixed:1", "fixed:0:1", "fixed:1:-2", "fixed:1:2:3", "fixed:1:9999999"]
        {
            let message = text.parse::<Shape>().expect_err(text).to_string();
            assert!(message.contains("fixed:PROMPT:OUTPUT"), "{message}");
        }
    }
}
