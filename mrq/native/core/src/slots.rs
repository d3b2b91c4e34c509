//! A hash table of positions: open addressing, the upper half of the hash beside each, so that most misses are seen here.

use crate::NoMemory;

/// Positions by hash. Whoever holds the entries compares them.
#[derive(Default)]
pub struct Slots {
    /// The upper half of a hash, and a position plus one; 0 is free. A power of two of them, or none.
    slots: Vec<u64>,
    used: usize,
}

const HALF: u32 = 32;
const LOWER: u64 = u32::MAX as u64;
const LEAST: usize = 1024;

impl Slots {
    /// The position with this hash for which `is` holds, else the place where it belongs.
    #[inline]
    pub fn find(&self, hash: u64, is: impl Fn(usize) -> bool) -> Result<usize, usize> {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return Err(at);
            }
            if slot >> HALF == hash >> HALF {
                let position = (slot & LOWER) as usize - 1;
                if is(position) {
                    return Ok(position);
                }
            }
            at = (at + 1) & mask;
        }
    }

    /// Make room for one more; `hashes` are those of all positions, in order.
    #[inline]
    pub fn reserve(&mut self, hashes: impl Iterator<Item = u64>) -> Result<(), NoMemory> {
        if self.used * 8 < self.slots.len() * 5 {
            return Ok(());
        }
        let size = (self.slots.len() * 2).max(LEAST);
        let mut larger: Vec<u64> = Vec::new();
        larger.try_reserve_exact(size).map_err(|_| NoMemory)?;
        larger.resize(size, 0);
        self.slots = larger;
        for (position, hash) in hashes.enumerate() {
            let place = self.find(hash, |_| false).unwrap_or_else(|place| place);
            self.slots[place] = Self::slot(hash, position);
        }
        Ok(())
    }

    /// Put a position where `find` said that it belongs.
    #[inline]
    pub fn put(&mut self, place: usize, hash: u64, position: usize) {
        self.slots[place] = Self::slot(hash, position);
        self.used += 1;
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn slot(hash: u64, position: usize) -> u64 {
        (hash >> HALF << HALF) | (position as u64 + 1)
    }
}

/// A hash for this table alone.
#[inline]
pub fn hash(bytes: &[u8]) -> u64 {
    let mut sum = 0x9e37_79b9_7f4a_7c15 ^ bytes.len() as u64;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        sum = mixed(sum ^ u64::from_le_bytes(word.try_into().unwrap_or_default()));
    }
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    mixed(sum ^ u64::from_le_bytes(last))
}

#[inline]
fn mixed(value: u64) -> u64 {
    let wide = u128::from(value ^ 0xa076_1d64_78bd_642f) * 0xd6e8_feb8_6659_fd93;
    wide as u64 ^ (wide >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_found_while_the_table_grows() {
        let keys: Vec<Vec<u8>> = (0..20_000u32).map(|i| i.to_le_bytes().to_vec()).collect();
        let hashes: Vec<u64> = keys.iter().map(|key| hash(key)).collect();
        let mut slots = Slots::default();
        for position in 0..keys.len() {
            slots.reserve(hashes[..position].iter().copied()).unwrap();
            let place = slots.find(hashes[position], |at| keys[at] == keys[position]).unwrap_err();
            slots.put(place, hashes[position], position);
        }
        for (position, key) in keys.iter().enumerate() {
            assert_eq!(slots.find(hashes[position], |at| keys[at] == *key), Ok(position));
        }
    }
}
