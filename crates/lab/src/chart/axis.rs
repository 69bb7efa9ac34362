//! An axis of a chart.

/// How numbers are laid out on an axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Equal ratios are equally far apart; for positive numbers.
    #[default]
    Log,
    /// Equal differences are equally far apart, from 0 on; for numbers that are not negative.
    Linear,
}

/// Maps numbers to places; those beyond an end go to it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    ticks: Vec<f64>,
    from: f64,
    to: f64,
}

/// Most ticks at measured values before only powers of two are marked.
const MOST_TICKS: usize = 12;

impl Axis {
    /// An axis whose ticks are the values themselves, or powers of two when there are many.
    pub(super) fn of_values(values: impl Iterator<Item = f64>) -> Self {
        let mut ticks = usable(values);
        ticks.dedup();
        let (low, high) = ends(&ticks);
        if ticks.len() > MOST_TICKS {
            ticks = (-60..60)
                .map(|power| f64::from(power).exp2())
                .filter(|tick| (low..=high).contains(tick))
                .collect();
        }
        // Room at both sides, so that no mark sits on the frame.
        let room = (high / low).powf(0.04).max(1.15);
        Self { scale: Scale::Log, low: low / room, high: high * room, ticks, from: 0.0, to: 1.0 }
    }

    /// An axis from one round number to another, with ticks at 1, 2 and 5 times powers of ten.
    pub(super) fn of_decades(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = ends(&usable(values));
        let rounds: Vec<f64> =
            (-12..13).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power))).collect();
        let below = rounds.iter().copied().filter(|round| *round <= 0.92 * low).fold(rounds[0], f64::max);
        let last = rounds[rounds.len() - 1];
        let above = rounds.iter().copied().filter(|round| *round >= 1.02 * high).fold(last, f64::min);
        let mut ticks: Vec<f64> =
            rounds.into_iter().filter(|round| (below..=above).contains(round)).collect();
        if ticks.len() > MOST_TICKS {
            ticks.retain(|tick| (tick.log10() - tick.log10().round()).abs() < 1e-9);
        }
        Self { scale: Scale::Log, low: below, high: above, ticks, from: 0.0, to: 1.0 }
    }

    /// An axis from 0 to a round number, with about six ticks at round numbers.
    pub(super) fn of_differences(values: impl Iterator<Item = f64>) -> Self {
        let most = usable(values).last().copied().unwrap_or(1.0);
        let power = 10f64.powf((most / 6.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power);
        let step = step.into_iter().find(|step| most / step <= 6.0).unwrap_or(step[3]);
        let count = (most / step).ceil().max(1.0) as u32;
        let ticks = (0..=count).map(|tick| f64::from(tick) * step).collect();
        Self { scale: Scale::Linear, low: 0.0, high: f64::from(count) * step, ticks, from: 0.0, to: 1.0 }
    }

    /// The same axis between two places of the picture.
    pub(super) fn placed(self, from: f64, to: f64) -> Self {
        Self { from, to, ..self }
    }

    pub(super) fn ticks(&self) -> &[f64] {
        &self.ticks
    }

    pub(super) fn place(&self, value: f64) -> f64 {
        let value = if value.is_finite() { value.clamp(self.low, self.high) } else { self.low };
        let share = match self.scale {
            Scale::Log => (value / self.low).ln() / (self.high / self.low).ln(),
            Scale::Linear => (value - self.low) / (self.high - self.low),
        };
        self.from + (self.to - self.from) * share
    }
}

/// Positive finite numbers in ascending order.
fn usable(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite() && *value > 0.0).collect();
    values.sort_by(f64::total_cmp);
    values
}

fn ends(sorted: &[f64]) -> (f64, f64) {
    (sorted.first().copied().unwrap_or(1.0), sorted.last().copied().unwrap_or(10.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concurrencies_are_ticks_and_lie_evenly() {
        let axis = Axis::of_values([4.0, 1.0, 2.0, 2.0].into_iter()).placed(0.0, 100.0);
        assert_eq!(axis.ticks(), [1.0, 2.0, 4.0]);
        let places: Vec<f64> = axis.ticks().iter().map(|tick| axis.place(*tick)).collect();
        assert!((places[1] - places[0] - (places[2] - places[1])).abs() < 1e-9, "{places:?}");
        assert!(places[0] > 0.0 && places[2] < 100.0);
        assert_eq!(Axis::of_values((1..=100).map(f64::from)).ticks(), [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]);
    }

    #[test]
    fn decades_begin_and_end_at_round_numbers() {
        let axis = Axis::of_decades([25.0, 1686.0].into_iter());
        assert_eq!(axis.ticks(), [20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0]);
        assert_eq!((axis.place(20.0), axis.place(2000.0)), (0.0, 1.0));
        let wide = Axis::of_decades([0.03, 40_000.0].into_iter());
        assert_eq!(wide.ticks(), [0.1, 1.0, 10.0, 100.0, 1e3, 1e4]);
    }

    #[test]
    fn differences_begin_at_zero_and_end_at_a_round_number() {
        let axis = Axis::of_differences([0.0, 37.0, 100.0].into_iter());
        assert_eq!(axis.ticks(), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!((axis.place(0.0), axis.place(50.0), axis.place(100.0)), (0.0, 0.5, 1.0));
        assert_eq!(Axis::of_differences([6.1e-4].into_iter()).ticks().len(), 5);
    }

    #[test]
    fn every_number_has_a_place() {
        let none = || [].into_iter();
        for axis in
            [Axis::of_values(none()), Axis::of_decades([3.0].into_iter()), Axis::of_differences(none())]
        {
            for value in [f64::NAN, -1.0, 0.0, 1e300, f64::INFINITY] {
                assert!((0.0..=1.0).contains(&axis.place(value)), "{value}");
            }
        }
    }
}
