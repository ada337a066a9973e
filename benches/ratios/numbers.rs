//! Samples, medians, and taking turns.

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

    /// The median of each sample's ratio to the one taken next to it: what slows both down cancels.
    pub fn ratio_to(&self, floor: &Samples) -> f64 {
        median(self.0.iter().zip(&floor.0).map(|(ours, bare)| ours / bare).collect())
    }

    /// The median of each sample's distance from the one taken next to it.
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

/// One way of taking a sample.
pub type Take<'a> = &'a mut dyn FnMut() -> Result<f64>;

/// Takes `count` samples of each in turns, after one of each that does not count. Every second round
/// goes backwards, so that none always follows the same other.
pub fn in_turns<const N: usize>(count: usize, mut take: [Take<'_>; N]) -> Result<[Samples; N]> {
    let taken = all_in_turns(count, &mut take)?;
    Ok(taken.try_into().expect("there are as many as there are ways"))
}

/// The same of any number of ways.
pub fn all_in_turns(count: usize, take: &mut [Take<'_>]) -> Result<Vec<Samples>> {
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
