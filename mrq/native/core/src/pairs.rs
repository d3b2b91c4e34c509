//! Pairs as they come, to be sorted by key: for reduces that need the values themselves.

use crate::column::Cell;
use crate::deal::{beginning, sort, Deal, Place};
use crate::frame::{Frame, Frames};
use crate::item::first;
use crate::{append, key, NoMemory};

struct Pair {
    at: usize,
    canonical: u32,
    behind: u32,
    value: u32,
}

/// What a pair takes beside its bytes: itself, while all of them grow, and its place while it is dealt out.
const PAIR_COST: usize = 24 + 8 + 16;
/// Positions are 32 bits.
const PAIRS_MAX: usize = u32::MAX as usize;

/// Pairs in the order in which they came.
#[derive(Default)]
pub struct Pairs {
    arena: Vec<u8>,
    pairs: Vec<Pair>,
    /// Which kinds of keys there are, a bit each: where all are of one, its byte tells nothing.
    kinds: u32,
    dealt: Vec<Vec<Place>>,
}

impl Pairs {
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that are held, about.
    pub fn held(&self) -> usize {
        self.arena.len() + self.pairs.len() * PAIR_COST
    }

    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Hold a pair: a key's canonical bytes, its item where they don't tell it, and the value's item. False, with
    /// nothing changed, where there are too many, or too long ones.
    #[inline]
    pub fn put(&mut self, canonical: &[u8], behind: &[u8], value: &[u8]) -> Result<bool, NoMemory> {
        let sizes = [canonical.len(), behind.len(), value.len()].map(u32::try_from);
        let ([Ok(canonical_size), Ok(behind_size), Ok(value_size)], true) =
            (sizes, self.pairs.len() < PAIRS_MAX)
        else {
            return Ok(false);
        };
        let at = self.arena.len();
        self.pairs.try_reserve(1).map_err(|_| NoMemory)?;
        self.arena.try_reserve(canonical.len() + behind.len() + value.len()).map_err(|_| NoMemory)?;
        append(&mut self.arena, canonical)?;
        append(&mut self.arena, behind)?;
        append(&mut self.arena, value)?;
        self.kinds |= 1 << canonical[0];
        self.pairs.push(Pair { at, canonical: canonical_size, behind: behind_size, value: value_size });
        Ok(true)
    }

    fn canonical(&self, pair: &Pair) -> &[u8] {
        &self.arena[pair.at..pair.at + pair.canonical as usize]
    }

    fn cells(&self, pair: &Pair) -> (Cell<'_>, Cell<'_>) {
        let (canonical, rest) = self.arena[pair.at..].split_at(pair.canonical as usize);
        let (behind, rest) = rest.split_at(pair.behind as usize);
        let value = &rest[..pair.value as usize];
        let key = Cell { item: key::shown(canonical, behind), packed: behind };
        (key, Cell { item: first(value).0, packed: value })
    }

    /// Deal the pairs out to so many partitions.
    pub fn deal(&mut self, partitions: usize, deal: &Deal) {
        let skip = usize::from(self.kinds.count_ones() == 1);
        let mut dealt = vec![Vec::new(); partitions];
        for (position, pair) in self.pairs.iter().enumerate() {
            let canonical = self.canonical(pair);
            let number = match deal {
                Deal::Hash(1) => 0,
                _ => deal.partition(canonical, self.cells(pair).0.item),
            };
            dealt[number].push((beginning(&canonical[skip..]), position as u32));
        }
        self.dealt = dealt;
    }

    /// Sort a partition by key, pairs of one key in the order in which they came.
    pub fn sort(&mut self, partition: usize) {
        let mut mine = std::mem::take(&mut self.dealt[partition]);
        sort(&mut mine, |position| self.canonical(&self.pairs[position as usize]));
        self.dealt[partition] = mine;
    }

    /// The frames of a partition, once pairs are dealt out.
    pub fn frames(&self, partition: usize) -> Vec<Frame> {
        let mut frames = Frames::new();
        for place in &self.dealt[partition] {
            let (key, value) = self.cells(&self.pairs[place.1 as usize]);
            frames.add(key, value);
        }
        frames.finish()
    }

    /// Hold nothing.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::{put_int, put_text, Item};

    fn put(pairs: &mut Pairs, key: Item<'_>, behind: &[u8], value: &[u8]) {
        let mut canonical = Vec::new();
        assert!(key::put_canonical(&mut canonical, key));
        assert_eq!(pairs.put(&canonical, behind, value), Ok(true));
    }

    #[test]
    fn pairs_are_sorted_by_key_and_then_by_when_they_came() {
        let mut pairs = Pairs::new();
        for (at, key) in [b"long key b".as_slice(), b"b", b"long key a", b"b", b""].into_iter().enumerate() {
            let mut value = Vec::new();
            put_int(&mut value, at as i64);
            put(&mut pairs, Item::Text(key), b"", &value);
        }
        pairs.deal(1, &Deal::Hash(1));
        pairs.sort(0);
        let frames = pairs.frames(0);
        assert_eq!(frames[0].payload[8..], *b"s\0b\0b\0long key a\0long key bm\x95\x04\x01\x03\x02\x00");
    }

    #[test]
    fn keys_of_one_value_keep_their_own_forms() {
        let mut pairs = Pairs::new();
        let mut text = Vec::new();
        put_text(&mut text, b"v");
        put(&mut pairs, Item::Text(b"k"), b"", &text);
        put(&mut pairs, Item::Int(1), b"\x01", &text);
        put(&mut pairs, Item::Bool(true), b"\xc3", &text);
        pairs.deal(1, &Deal::Hash(1));
        pairs.sort(0);
        assert_eq!(pairs.frames(0)[0].payload[8..], *b"m\x93\x01\xc3\xa1kc\x03\0\0\0\xa1v");
    }
}
