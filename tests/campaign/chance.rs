//! The size and the random numbers of campaigns. Variables set both, so that a failure can be repeated.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::trace::Point;

/// The default share of a full campaign.
const DEFAULT_SHARE: f64 = 0.06;

/// `full` times the share, at least one.
pub fn share_of(full: usize) -> usize {
    ((full as f64 * share()).round() as usize).max(1)
}

/// As [`share_of`], for campaigns with emulated VMs: half of the share, unless it is all.
pub fn share_of_slow(full: usize) -> usize {
    let share = if share() < 1.0 { share() / 2.0 } else { share() };
    ((full as f64 * share).round() as usize).max(1)
}

pub fn share() -> f64 {
    match std::env::var("MAYFLY_CAMPAIGN") {
        Ok(text) => text.parse().expect("MAYFLY_CAMPAIGN is a number such as 0.1 or 1.0"),
        Err(_) => DEFAULT_SHARE,
    }
}

/// Splitmix64: small, and the same on every machine.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// Takes the seed from `MAYFLY_CAMPAIGN_SEED` or the clock and prints it for failed tests.
    pub fn new(campaign: &str) -> Chance {
        let seed = match std::env::var("MAYFLY_CAMPAIGN_SEED") {
            Ok(text) => text.parse().expect("MAYFLY_CAMPAIGN_SEED is a number"),
            Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
        };
        println!("{campaign}: MAYFLY_CAMPAIGN_SEED={seed} MAYFLY_CAMPAIGN={}", share());
        Chance(seed)
    }

    /// An independent generator for another thread.
    pub fn split(&mut self) -> Chance {
        Chance(self.next())
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A random number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len())]
    }

    /// A random duration up to `longest`.
    pub fn pause(&mut self, longest: Duration) -> Duration {
        longest.mul_f64((self.next() >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// True for the campaign's share of calls, on average.
    pub fn takes_part(&mut self) -> bool {
        (self.next() >> 11) as f64 / ((1u64 << 53) as f64) < share()
    }

    /// The campaign's share of the points of a verb, and of each call no more than about `enough`. All, if they are few.
    pub fn part_of(&mut self, mut points: Vec<Point>, enough: usize) -> Vec<Point> {
        /// Calls that start processes are rare.
        const FEW: usize = 3;
        if points.len() <= FEW {
            return points;
        }
        let total = |call: &str| points.iter().filter(|point| point.call == call).count();
        let totals: Vec<usize> = points.iter().map(|point| total(&point.call)).collect();
        let mut totals = totals.into_iter();
        points.retain(|_| {
            let total = totals.next().unwrap();
            self.takes_part() && (total <= enough || self.below(total) < enough)
        });
        points
    }
}
