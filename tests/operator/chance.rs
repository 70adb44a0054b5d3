//! Numbers at random that a seed gives again.

/// See the file's description (an LCG: Knuth, MMIX).
pub struct Chance(u64);

impl Chance {
    /// By the seed in this variable, else by one of its own, which is printed.
    pub fn new(variable: &str) -> anyhow::Result<Self> {
        let seed = match std::env::var(variable) {
            Ok(seed) => seed.parse()?,
            Err(_) => u64::from(std::process::id()),
        };
        println!("the same again with {variable}={seed}");
        Ok(Self::of(seed))
    }

    /// By this seed.
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one, from 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Its high bits are good enough.
        (self.0 >> 33) % limit
    }
}
