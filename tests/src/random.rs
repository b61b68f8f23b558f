//! Numbers that look random and are the same for the same seed.

/// A small generator; good enough to choose moments.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From `SENDERO_SEED`, or always the same. The seed is printed, so that a failure can be run again.
    #[must_use]
    pub fn seeded(name: &str) -> Self {
        let seed = std::env::var("SENDERO_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_125);
        println!("{name}: SENDERO_SEED={seed}");
        Self(seed | 1)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}
