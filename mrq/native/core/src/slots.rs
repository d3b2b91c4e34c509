//! A hash table of places in an arena: open addressing, the upper half of the hash beside each, so that most misses are
//! seen here.

use crate::NoMemory;

/// Places by hash. Whoever holds what lies there compares it.
#[derive(Default)]
pub struct Slots {
    /// The upper half of a hash, and a place plus one; 0 is free. A power of two of them, or none.
    slots: Vec<u64>,
    used: usize,
}

const HALF: u32 = 32;
const LOWER: u64 = u32::MAX as u64;
const LEAST: usize = 1024;

impl Slots {
    /// The slot with this hash of whose place `is` holds; else the free one where it belongs.
    #[inline]
    pub fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot == 0 || (slot >> HALF == hash >> HALF && is(Self::place_in(slot))) {
                return at;
            }
            at = (at + 1) & mask;
        }
    }

    /// The place that a slot holds; None where it is free.
    #[inline]
    pub fn place(&self, slot: usize) -> Option<u32> {
        let held = self.slots[slot];
        if held == 0 { None } else { Some(Self::place_in(held)) }
    }

    /// The place in the first slot that a search for a hash looks at, if it may be what is looked for.
    #[inline]
    pub fn guess(&self, hash: u64) -> Option<u32> {
        let held = self.slots[hash as usize & (self.slots.len() - 1)];
        if held != 0 && held >> HALF == hash >> HALF { Some(Self::place_in(held)) } else { None }
    }

    /// Make room for some more; `held` are the places and hashes of all that is in here.
    pub fn reserve(
        &mut self,
        more: usize,
        held: impl Iterator<Item = (u32, u64)>,
    ) -> Result<(), NoMemory> {
        if (self.used + more) * 8 <= self.slots.len() * 5 {
            return Ok(());
        }
        let size = (self.slots.len() * 2).max(LEAST);
        let mut larger: Vec<u64> = Vec::new();
        larger.try_reserve_exact(size).map_err(|_| NoMemory)?;
        larger.resize(size, 0);
        self.slots = larger;
        self.used = 0;
        for (place, hash) in held {
            let slot = self.find(hash, |_| false);
            self.put(slot, hash, place);
        }
        Ok(())
    }

    /// Put a place into a slot that `find` gave.
    #[inline]
    pub fn put(&mut self, slot: usize, hash: u64, place: u32) {
        self.used += usize::from(self.slots[slot] == 0);
        self.slots[slot] = (hash >> HALF << HALF) | (u64::from(place) + 1);
    }

    #[inline]
    fn place_in(slot: u64) -> u32 {
        ((slot & LOWER) - 1) as u32
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
        for (at, key) in keys.iter().enumerate() {
            let held = hashes[..at].iter().enumerate().map(|(place, &hash)| (place as u32, hash));
            slots.reserve(1, held).unwrap();
            let slot = slots.find(hashes[at], |place| keys[place as usize] == *key);
            assert_eq!(slots.place(slot), None);
            slots.put(slot, hashes[at], at as u32);
        }
        for (at, key) in keys.iter().enumerate() {
            let slot = slots.find(hashes[at], |place| keys[place as usize] == *key);
            assert_eq!(slots.place(slot), Some(at as u32));
        }
    }
}
