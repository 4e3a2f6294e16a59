//! The generator: streams of integers and of uniform numbers.

/// Threefry-2x32, 20 rounds: a keyed bijection of 64 bits.
#[inline(always)]
pub(crate) fn threefry(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    const ROTATIONS: [u32; 8] = [13, 15, 26, 6, 17, 29, 16, 24];
    let keys = [key[0], key[1], 0x1BD1_1BDA ^ key[0] ^ key[1]];
    let mut x0 = counter[0].wrapping_add(keys[0]);
    let mut x1 = counter[1].wrapping_add(keys[1]);
    let mut group = 0;
    while group < 5 {
        let mut round = 0;
        while round < 4 {
            x0 = x0.wrapping_add(x1);
            x1 = x1.rotate_left(ROTATIONS[(group % 2) * 4 + round]) ^ x0;
            round += 1;
        }
        group += 1;
        x0 = x0.wrapping_add(keys[group % 3]);
        x1 = x1.wrapping_add(keys[(group + 1) % 3]).wrapping_add(group as u32);
    }
    [x0, x1]
}

#[inline(always)]
pub(crate) fn halves(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

/// A seed for the sub-stream `index` of `seed`: distinct (seed, index) give unrelated streams.
pub fn derive_seed(seed: u64, index: u64) -> u64 {
    let [a, b] = threefry(halves(seed), halves(index));
    u64::from(a) | u64::from(b) << 32
}

/// Number `index` of the stream `seed`, uniform over all 64-bit integers.
pub fn uniform_u64(seed: u64, index: u64) -> u64 {
    derive_seed(seed, index)
}

/// Number `index` of the stream `seed`, uniform in [0, 1) with 53 bits.
pub fn uniform_f64(seed: u64, index: u64) -> f64 {
    (uniform_u64(seed, index) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}
