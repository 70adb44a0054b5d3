//! Random numbers that a seed reproduces.

/// See the file's description (an LCG: Knuth, MMIX).
pub struct Randomness(u64);

impl Randomness {
    /// Takes the seed from this variable, else a new one. The seed is printed.
    pub fn new(variable: &str) -> anyhow::Result<Self> {
        let seed = match std::env::var(variable) {
            Ok(seed) => seed.parse()?,
            Err(_) => u64::from(std::process::id()),
        };
        println!("random numbers: repeat them with {variable}={seed}");
        Ok(Self::of(seed))
    }

    /// Uses this seed.
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, from 0 to below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Its high bits are good enough.
        (self.0 >> 33) % limit
    }
}
