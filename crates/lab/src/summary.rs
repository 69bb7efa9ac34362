//! A report as text.

use crate::stats::Distribution;
use crate::{Group, Report, Table};
use std::fmt;

/// The report as tables for people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head())?;
        writeln!(f, "\n{}", self.times().render())?;
        f.write_str(&self.resources())?;
        for (title, groups) in [("class", &self.classes), ("tenant", &self.tenants)] {
            if groups.len() > 1 {
                writeln!(f, "\n{}", of_groups(title, groups).render().trim_end())?;
            }
        }
        Ok(())
    }
}

impl Report {
    fn rules(&self) -> String {
        match self.without.as_slice() {
            [] => "all rules".to_owned(),
            names => format!("without {}", names.join(", ")),
        }
    }

    fn head(&self) -> String {
        let (outcomes, speed) = (&self.outcomes, &self.throughput);
        let mut line = format!("{} of {} requests finished", outcomes.finished, outcomes.requests);
        for (count, what) in
            [(outcomes.refused, "refused"), (outcomes.expired, "expired"), (outcomes.failed, "failed")]
        {
            if count > 0 {
                line += &format!(", {count} {what}");
            }
        }
        format!(
            "{}; {}\n{line}, in {} of virtual time and {} steps of {:.1} tokens\n\
             {:.1} generated and {:.1} prompt tokens/s, {:.3} requests/s, {:.3} of them good; {:.1} running, {} at most\n",
            self.source,
            self.rules(),
            duration(self.seconds),
            speed.steps,
            speed.tokens_per_step,
            speed.output_tok_s,
            speed.prompt_tok_s,
            speed.requests_per_s,
            speed.goodput_per_s,
            speed.mean_running,
            speed.peak_running,
        )
    }

    fn times(&self) -> Table {
        let mut table = Table::new(["", "mean", "p50", "p90", "p99", "max"]);
        let all = &self.latencies;
        for (name, times) in [
            ("queue", &all.queue_s),
            ("first token", &all.ttft_s),
            ("between tokens", &all.itl_s),
            ("end to end", &all.e2e_s),
        ] {
            let figures = [times.mean, times.p50, times.p90, times.p99, times.max];
            table.row(std::iter::once(name.to_owned()).chain(figures.map(duration)));
        }
        table
    }

    fn resources(&self) -> String {
        let (kv, cache, lost) = (&self.kv, &self.cache, &self.preemptions);
        let mut text = format!(
            "KV blocks: {} of {} tokens, {:.1} % in use, {:.1} % at most; {:.2} % of the slots in use without a token\n\
             prefix cache: {:.1} % of {} tokens found\n\
             preemptions: {} ({} for a higher class), {:.1} % of the requests, {} times at most; {:.1} % of the tokens computed again\n",
            kv.blocks,
            kv.block_size,
            kv.mean_used_percent,
            kv.peak_used_percent,
            kv.waste_percent,
            cache.hit_percent,
            cache.looked_up_tokens,
            lost.count,
            lost.displaced,
            lost.requests_percent,
            lost.most_per_request,
            lost.recomputed_percent,
        );
        if let Some(jain) = self.jain {
            text += &format!("fairness: {jain:.3} (Jain's index over tenants while they competed)\n");
        }
        text
    }
}

/// Most groups that are shown.
const MOST_GROUPS: usize = 20;

fn of_groups(title: &str, groups: &[Group]) -> Table {
    let titles = [
        title,
        "requests",
        "finished",
        "tok/s",
        "queue p90",
        "TTFT p50",
        "p99",
        "ITL p50",
        "p99",
        "e2e p50",
        "p90",
        "p99",
        "service",
    ];
    let mut table = Table::new(titles);
    for group in groups.iter().take(MOST_GROUPS) {
        let all = &group.latencies;
        let at = |times: &Distribution, p: fn(&Distribution) -> f64| duration(p(times));
        table.row([
            group.name.clone(),
            group.outcomes.requests.to_string(),
            group.outcomes.finished.to_string(),
            format!("{:.1}", group.output_tok_s),
            at(&all.queue_s, |times| times.p90),
            at(&all.ttft_s, |times| times.p50),
            at(&all.ttft_s, |times| times.p99),
            at(&all.itl_s, |times| times.p50),
            at(&all.itl_s, |times| times.p99),
            at(&all.e2e_s, |times| times.p50),
            at(&all.e2e_s, |times| times.p90),
            at(&all.e2e_s, |times| times.p99),
            group.service.map_or_else(String::new, |share| format!("{share:.2}")),
        ]);
    }
    if groups.len() > MOST_GROUPS {
        table.row([format!("… {} more", groups.len() - MOST_GROUPS)]);
    }
    table
}

/// Seconds with three digits and a unit: `41.2 ms`, `3.05 s`, `1.2 h`.
pub(crate) fn duration(seconds: f64) -> String {
    let (value, unit) = match seconds {
        _ if seconds < 1.0 => (1e3 * seconds, "ms"),
        _ if seconds < 1000.0 => (seconds, "s"),
        _ if seconds < 36_000.0 => (seconds / 60.0, "min"),
        _ => (seconds / 3600.0, "h"),
    };
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_have_three_digits() {
        for (seconds, text) in [
            (0.0, "0.00 ms"),
            (0.0412, "41.2 ms"),
            (0.5, "500 ms"),
            (3.05, "3.05 s"),
            (87.44, "87.4 s"),
            (2000.0, "33.3 min"),
            (36_000.0, "10.0 h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
