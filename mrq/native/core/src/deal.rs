//! Which partition a key goes to, and which key comes first in it.

use crate::hash;
use crate::item::Item;

/// How keys are dealt out.
pub enum Deal {
    /// To so many partitions, by hash.
    Hash(usize),
    /// To one more than there are boundaries, canonical keys in order: a key belongs behind those that aren't greater.
    Ranges(Vec<Vec<u8>>),
}

impl Deal {
    pub fn partition(&self, canonical: &[u8], key: Item<'_>) -> usize {
        match self {
            Deal::Hash(1) => 0,
            Deal::Hash(partitions) => hash::partition(key, *partitions),
            Deal::Ranges(boundaries) => boundaries.partition_point(|each| each.as_slice() <= canonical),
        }
    }
}

/// The beginning of a key's canonical bytes, by which most keys are told apart, and which one it is.
pub type Place = (u64, u32);

/// The first of these bytes as a number that is in their order.
#[inline]
pub fn beginning(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    let length = bytes.len().min(8);
    word[..length].copy_from_slice(&bytes[..length]);
    u64::from_be_bytes(word)
}

/// Sort by key, and what has one key by which came first.
pub fn sort<'a>(places: &mut [Place], canonical: impl Fn(u32) -> &'a [u8]) {
    places.sort_unstable_by(|one, other| {
        one.0.cmp(&other.0).then_with(|| canonical(one.1).cmp(canonical(other.1))).then(one.1.cmp(&other.1))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boundary_begins_its_range() {
        let deal = Deal::Ranges(vec![b"\x03b".to_vec(), b"\x03d".to_vec()]);
        let found: Vec<usize> =
            [b"\x03a", b"\x03b", b"\x03c", b"\x03d", b"\x03e"].map(|key| deal.partition(key, Item::None)).to_vec();
        assert_eq!(found, [0, 1, 1, 2, 2]);
    }

    #[test]
    fn the_hash_is_that_of_the_path_in_python() {
        let found: Vec<usize> =
            [&b"a"[..], b"word", "é".as_bytes()].iter().map(|text| Deal::Hash(7).partition(b"", Item::Text(text))).collect();
        assert_eq!(found, [6, 5, 4]); // partition_column(["a", "word", "é"], 7)
    }
}
