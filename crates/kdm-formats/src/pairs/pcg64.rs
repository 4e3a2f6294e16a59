//! NumPy's default generator, as far as `Generator.standard_normal` of f64 needs it: noise that is
//! published as the generator's state is drawn again.
//!
//! PCG64 is the permuted congruential generator XSL-RR with 128 bits of state (O'Neill 2014);
//! normal numbers come from it by the ziggurat of 256 layers (Marsaglia and Tsang 2000; Doornik
//! 2005), in NumPy's order of bits.

/// The multiplier of the 128-bit congruential generator.
const MULTIPLIER: u128 = 0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645;
/// Where the tail of the normal density begins.
const TAIL: f64 = 3.654_152_885_361_009;
/// Area beyond [`TAIL`]: sqrt(pi / 2) erfc(TAIL / sqrt 2).
const BEYOND: f64 = 0.000_323_395_764_663_321_73;
/// Positions within a layer.
const POSITIONS: f64 = 4_503_599_627_370_496.0;

/// The layers of the density exp(-x^2 / 2), each of the same area.
pub struct Ziggurat {
    /// Positions below this are inside the density.
    inside: [u64; 256],
    /// Width of a position.
    width: [f64; 256],
    /// The density at a layer's end.
    density: [f64; 256],
}

fn density(x: f64) -> f64 {
    (-0.5 * x * x).exp()
}

impl Ziggurat {
    /// The table.
    pub fn new() -> Self {
        let area = TAIL * density(TAIL) + BEYOND;
        let base = area / density(TAIL);
        let mut table = Self { inside: [0; 256], width: [0.0; 256], density: [1.0; 256] };
        table.inside[0] = (TAIL / base * POSITIONS) as u64;
        table.width[0] = base / POSITIONS;
        table.width[255] = TAIL / POSITIONS;
        table.density[255] = density(TAIL);
        let mut x = TAIL;
        for layer in (1..255).rev() {
            let next = (-2.0 * (area / x + density(x)).ln()).sqrt();
            table.inside[layer + 1] = (next / x * POSITIONS) as u64;
            table.width[layer] = next / POSITIONS;
            table.density[layer] = density(next);
            x = next;
        }
        table
    }
}

/// A generator in some state.
pub struct Pcg64 {
    state: u128,
    increment: u128,
}

impl Pcg64 {
    /// From the state as 2-RF++ writes it: state and increment, 16 bytes each, largest first.
    pub fn new(bytes: [u8; 32]) -> Self {
        let number = |half: &[u8]| half.iter().fold(0, |n, byte| n << 8 | u128::from(*byte));
        Self { state: number(&bytes[..16]), increment: number(&bytes[16..]) }
    }

    fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_mul(MULTIPLIER).wrapping_add(self.increment);
        let (high, low) = ((self.state >> 64) as u64, self.state as u64);
        (high ^ low).rotate_right((high >> 58) as u32)
    }

    fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / 9_007_199_254_740_992.0
    }

    /// A standard normal number.
    pub fn normal(&mut self, table: &Ziggurat) -> f64 {
        loop {
            let bits = self.bits();
            let layer = (bits & 0xff) as usize;
            let position = (bits >> 9) & (POSITIONS as u64 - 1);
            let size = position as f64 * table.width[layer];
            let x = if bits >> 8 & 1 == 1 { -size } else { size };
            if position < table.inside[layer] {
                return x;
            }
            if layer == 0 {
                loop {
                    let beyond = -(-self.uniform()).ln_1p() / TAIL;
                    let height = -(-self.uniform()).ln_1p();
                    if 2.0 * height > beyond * beyond {
                        let x = TAIL + beyond;
                        return if position >> 8 & 1 == 1 { -x } else { x };
                    }
                }
            }
            let [above, below] = [table.density[layer - 1], table.density[layer]];
            if (above - below) * self.uniform() + below < density(x) {
                return x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// numpy 2: `rng = numpy.random.default_rng(0)`, its `bit_generator.state["state"]`, and
    /// `rng.standard_normal(100000).astype("f4")`: the first four, the last, and the largest, which
    /// are from the tail.
    #[test]
    fn numbers_are_numpys() {
        let (state, increment) =
            (0x1aa1b5345996452d09585eb7a69561e3_u128, 0x418ddadb3af71a82588133bc447873a9_u128);
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&state.to_be_bytes());
        bytes[16..].copy_from_slice(&increment.to_be_bytes());
        let (mut rng, table) = (Pcg64::new(bytes), Ziggurat::new());
        let found: Vec<f32> = (0..100_000).map(|_| rng.normal(&table) as f32).collect();
        let first = [0.1257302165031433, -0.13210485875606537, 0.6404226422309875];
        assert_eq!(found[..3], first.map(|x: f64| x as f32));
        assert_eq!((found[3], found[99_999]), (0.104_900_114, -0.495_412_95));
        let [a, b, c] = [36_758, 21_655, 81_084].map(|i| found[i]);
        assert_eq!([a, b, c], [4.731_958, -4.494_117_3, 4.144_727]);
        let sum: f64 = found.iter().map(|x| f64::from(x.abs())).sum();
        assert!((sum - 79_796.721_494_088_21).abs() < 1e-6, "{sum}");
    }
}
