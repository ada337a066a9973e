//! Samples, medians, and alternating measurements.

use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};

/// Samples of one quantity, in the order they were taken.
#[derive(Debug, Clone, Default)]
pub struct Samples(pub Vec<f64>);

impl Samples {
    pub fn median(&self) -> f64 {
        median(self.0.clone())
    }

    /// The median of each sample's ratio to the floor's sample of the same round: what slows down both
    /// cancels out.
    pub fn ratio_to(&self, floor: &Samples) -> f64 {
        median(self.0.iter().zip(&floor.0).map(|(ours, bare)| ours / bare).collect())
    }

    /// The median of each sample's difference from the floor's sample of the same round.
    pub fn excess_over(&self, floor: &Samples) -> f64 {
        median(self.0.iter().zip(&floor.0).map(|(ours, bare)| ours - bare).collect())
    }

    pub fn to_json(&self) -> Value {
        json!({ "median": self.median(), "samples": self.0 })
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => f64::NAN,
        (length, middle) if length % 2 == 0 => f64::midpoint(values[middle - 1], values[middle]),
        (_, middle) => values[middle],
    }
}

/// Takes one sample.
pub type Sampler<'a> = &'a mut dyn FnMut() -> Result<f64>;

/// Takes `count` rounds of samples, one of each sampler, after a first round that does not count. Every
/// second round runs in reverse order, so that no sampler always follows the same other.
pub fn in_turns<const N: usize>(count: usize, mut take: [Sampler<'_>; N]) -> Result<[Samples; N]> {
    let taken = all_in_turns(count, &mut take)?;
    Ok(taken.try_into().expect("each sampler has samples"))
}

/// [`in_turns`] for any number of samplers.
pub fn all_in_turns(count: usize, take: &mut [Sampler<'_>]) -> Result<Vec<Samples>> {
    let mut taken = vec![Samples::default(); take.len()];
    for round in 0..=count {
        for turn in 0..take.len() {
            let which = if round % 2 == 0 { turn } else { take.len() - 1 - turn };
            let sample = take[which]()?;
            if round > 0 {
                taken[which].0.push(sample);
            }
        }
    }
    Ok(taken)
}

/// Milliseconds since `begun`.
pub fn ms_since(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1000.0
}
