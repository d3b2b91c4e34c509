//! Folding by key: one int a key.

use crate::column::Cell;
use crate::deal::{beginning, sort, Deal, Place};
use crate::frame::{Frame, Frames};
use crate::item::{put_int, Item};
use crate::slots::{hash, Slots};
use crate::{append, key, NoMemory};

/// How two ints of one key become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Add,
    Least,
    Greatest,
}

/// One key and its state lie together in the arena: the state, the lengths of the key's canonical bytes and of its item,
/// where they don't tell it, and these; all at multiples of this.
const UNIT: usize = 8;
const HEAD: usize = 16;

/// A key in the arena.
struct Entry<'a> {
    state: i64,
    canonical: &'a [u8],
    behind: &'a [u8],
}

/// A pair that waits to be folded, whose key's bytes wait beside it.
struct Waiting {
    hash: u64,
    at: usize,
    canonical: usize,
    behind: usize,
    value: i64,
}

/// So many pairs wait until they are folded together: what each looks up lies anywhere in memory, and the processor
/// fetches it for several at once only where they don't wait for each other.
const BATCH: usize = 32;
/// What a key takes beside its entry: its slots while the table grows, its place while it is dealt out.
const KEY_COST: usize = 40 + 32;
/// Places are 32 bits.
const ARENA_MAX: usize = (u32::MAX as usize - 1) * UNIT;

/// States by key.
pub struct Table {
    how: How,
    arena: Vec<u8>,
    keys: usize,
    slots: Slots,
    waiting: Vec<Waiting>,
    /// The bytes of the keys that wait.
    beside: Vec<u8>,
    /// Entries by partition, once they are dealt out.
    dealt: Vec<Vec<Place>>,
}

impl Table {
    pub fn new(how: How) -> Self {
        Self {
            how,
            arena: Vec::new(),
            keys: 0,
            slots: Slots::default(),
            waiting: Vec::new(),
            beside: Vec::new(),
            dealt: Vec::new(),
        }
    }

    /// Bytes that are held, about.
    pub fn held(&self) -> usize {
        self.arena.len() + self.beside.len() + self.keys * KEY_COST
    }

    pub fn is_empty(&self) -> bool {
        self.keys == 0 && self.waiting.is_empty()
    }

    /// Fold a value into the state of a key: its canonical bytes, and its item where they don't tell it. False, with
    /// nothing changed, for a key that is too long.
    #[inline]
    pub fn put(&mut self, canonical: &[u8], behind: &[u8], value: i64) -> Result<bool, NoMemory> {
        if canonical.len().max(behind.len()) > u32::MAX as usize {
            return Ok(false);
        }
        let at = self.beside.len();
        append(&mut self.beside, canonical)?;
        append(&mut self.beside, behind)?;
        let hash = hash(canonical);
        self.waiting.push(Waiting { hash, at, canonical: canonical.len(), behind: behind.len(), value });
        if self.waiting.len() == BATCH {
            self.settle()?;
        }
        Ok(true)
    }

    /// Fold what waits.
    pub fn settle(&mut self) -> Result<(), NoMemory> {
        let waiting = std::mem::take(&mut self.waiting);
        let arena = &self.arena;
        self.slots.reserve(
            waiting.len(),
            places(arena).map(|place| (place, hash(entry(arena, place).canonical))),
        )?;
        // A look at each, from which nothing follows: what will be needed is on its way then.
        let near: u64 = waiting
            .iter()
            .filter_map(|pair| self.slots.guess(pair.hash))
            .map(|place| u64::from(arena[place as usize * UNIT]))
            .sum();
        std::hint::black_box(near);
        for pair in &waiting {
            self.fold(pair)?;
        }
        self.waiting = waiting;
        self.waiting.clear();
        self.beside.clear();
        Ok(())
    }

    #[inline]
    fn fold(&mut self, pair: &Waiting) -> Result<(), NoMemory> {
        let key = &self.beside[pair.at..pair.at + pair.canonical];
        let arena = &self.arena;
        let slot = self.slots.find(pair.hash, |place| entry(arena, place).canonical == key);
        let held = self.slots.place(slot);
        if let Some(place) = held {
            let at = place as usize * UNIT;
            let state = state(&self.arena, at);
            let folded = match self.how {
                How::Least => Some(pair.value.min(state)),
                How::Greatest => Some(pair.value.max(state)),
                How::Add => state.checked_add(pair.value),
            };
            if let Some(folded) = folded {
                self.arena[at..at + 8].copy_from_slice(&folded.to_le_bytes());
                return Ok(());
            }
        }
        // A new key; or one whose sum 64 bits don't hold: then it is there a second time, as after a spill, and in the
        // form that came first.
        let behind = held.map_or(pair.behind, |place| entry(&self.arena, place).behind.len());
        let length = HEAD + pair.canonical + behind;
        let padded = length.next_multiple_of(UNIT);
        let at = self.arena.len();
        if at + padded > ARENA_MAX {
            return Err(NoMemory);
        }
        self.arena.try_reserve(padded).map_err(|_| NoMemory)?;
        self.arena.extend_from_slice(&pair.value.to_le_bytes());
        self.arena.extend_from_slice(&(pair.canonical as u32).to_le_bytes());
        self.arena.extend_from_slice(&(behind as u32).to_le_bytes());
        match held {
            Some(place) => {
                let first = place as usize * UNIT;
                self.arena.extend_from_within(first + HEAD..first + length);
            }
            None => self.arena.extend_from_slice(&self.beside[pair.at..pair.at + length - HEAD]),
        }
        self.arena.resize(at + padded, 0);
        self.slots.put(slot, pair.hash, (at / UNIT) as u32);
        self.keys += 1;
        Ok(())
    }

    /// Deal the keys out to so many partitions, once nothing waits.
    pub fn deal(&mut self, partitions: usize, deal: &Deal) {
        let mut dealt = vec![Vec::new(); partitions];
        // Where all keys are of one kind, its byte tells nothing.
        let kinds = places(&self.arena).fold(0u32, |kinds, place| kinds | 1 << entry(&self.arena, place).canonical[0]);
        let skip = usize::from(kinds.count_ones() == 1);
        for place in places(&self.arena) {
            let found = entry(&self.arena, place);
            let number = deal.partition(found.canonical, found.cell().item);
            dealt[number].push((beginning(&found.canonical[skip..]), place));
        }
        self.dealt = dealt;
    }

    /// Sort a partition by key.
    pub fn sort(&mut self, partition: usize) {
        let arena = &self.arena;
        sort(&mut self.dealt[partition], |place| entry(arena, place).canonical);
    }

    /// The frames of a partition, once keys are dealt out.
    pub fn frames(&self, partition: usize) -> Vec<Frame> {
        let mine = &self.dealt[partition];
        let mut packed = Vec::new();
        let mut ends = Vec::with_capacity(mine.len());
        for &(_, place) in mine {
            put_int(&mut packed, entry(&self.arena, place).state);
            ends.push(packed.len());
        }
        let mut frames = Frames::new();
        let mut begin = 0;
        for (&(_, place), end) in mine.iter().zip(ends) {
            let found = entry(&self.arena, place);
            frames.add(found.cell(), Cell { item: Item::Int(found.state), packed: &packed[begin..end] });
            begin = end;
        }
        frames.finish()
    }

    /// Hold nothing.
    pub fn clear(&mut self) {
        *self = Self::new(self.how);
    }
}

impl<'a> Entry<'a> {
    /// The key, as it came first.
    fn cell(&self) -> Cell<'a> {
        Cell { item: key::shown(self.canonical, self.behind), packed: self.behind }
    }
}

#[inline]
fn state(arena: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(arena[at..at + 8].try_into().unwrap_or_default())
}

#[inline]
fn entry(arena: &[u8], place: u32) -> Entry<'_> {
    let at = place as usize * UNIT;
    let (canonical, behind) = sizes(arena, at);
    let (canonical, rest) = arena[at + HEAD..].split_at(canonical);
    Entry { state: state(arena, at), canonical, behind: &rest[..behind] }
}

#[inline]
fn sizes(arena: &[u8], at: usize) -> (usize, usize) {
    let size = |at: usize| u32::from_le_bytes(arena[at..at + 4].try_into().unwrap_or_default()) as usize;
    (size(at + 8), size(at + 12))
}

/// The places of all entries, in the order in which they came.
fn places(arena: &[u8]) -> impl Iterator<Item = u32> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at == arena.len() {
            return None;
        }
        let place = (at / UNIT) as u32;
        let (canonical, behind) = sizes(arena, at);
        at += (HEAD + canonical + behind).next_multiple_of(UNIT);
        Some(place)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::put_float;

    fn put(table: &mut Table, key: Item<'_>, value: i64) {
        let mut canonical = Vec::new();
        assert!(key::put_canonical(&mut canonical, key));
        let mut behind = Vec::new();
        match key {
            Item::Int(value) => put_int(&mut behind, value),
            Item::Float(value) => put_float(&mut behind, value),
            _ => (),
        }
        assert_eq!(table.put(&canonical, &behind, value), Ok(true));
    }

    fn deal(table: &mut Table) {
        table.settle().unwrap();
        table.deal(1, &Deal::Hash(1));
        table.sort(0);
    }

    #[test]
    fn states_fold_and_the_first_form_of_a_key_stays() {
        let mut table = Table::new(How::Add);
        put(&mut table, Item::Float(1.0), 2);
        put(&mut table, Item::Int(1), 3);
        put(&mut table, Item::Text(b"w"), 1);
        deal(&mut table);
        assert_eq!(table.keys, 2);
        let frames = table.frames(0);
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].payload[8..], *b"m\x92\xcb\x3f\xf0\0\0\0\0\0\0\xa1wm\x92\x05\x01");
    }

    #[test]
    fn a_sum_beyond_64_bits_goes_on_in_another_state() {
        let mut table = Table::new(How::Add);
        put(&mut table, Item::None, i64::MAX);
        put(&mut table, Item::None, 1);
        put(&mut table, Item::None, 2);
        deal(&mut table);
        let frames = table.frames(0);
        assert_eq!((table.keys, frames[0].records), (2, 2));
        assert_eq!(frames[0].payload[8..], *b"c\x02\0\0\0\xc0m\x92\xd3\x7f\xff\xff\xff\xff\xff\xff\xff\x03");
    }

    #[test]
    fn many_keys_are_folded_over_many_batches() {
        let mut table = Table::new(How::Add);
        for round in 0..3 {
            for number in 0..5_000 {
                put(&mut table, Item::Int(number), round);
            }
        }
        deal(&mut table);
        let frames = table.frames(0);
        assert_eq!(table.keys, 5_000);
        assert_eq!(frames.iter().map(|frame| frame.records).sum::<usize>(), 5_000);
        assert!(frames.iter().all(|frame| frame.payload.ends_with(b"\x03")), "each sum is 3");
    }

    #[test]
    fn least_and_greatest() {
        for (how, wanted) in [(How::Least, 0xfd), (How::Greatest, 0x05)] {
            let mut table = Table::new(how);
            for value in [2, -3, 5] {
                put(&mut table, Item::Bytes(b"k"), value);
            }
            deal(&mut table);
            assert_eq!(table.frames(0)[0].payload[8..], [b"m\x91\xc4\x01km\x91".as_slice(), &[wanted]].concat());
        }
    }

    #[test]
    fn frames_are_in_the_order_of_keys() {
        let mut table = Table::new(How::Add);
        for (word, count) in [(&b"a longer word"[..], 1), (b"b", 2), (b"a", 1), (b"a longer one", 1)] {
            put(&mut table, Item::Text(word), count);
        }
        deal(&mut table);
        assert_eq!(table.frames(0)[0].payload[8..], *b"sa\0a longer one\0a longer word\0bm\x94\x01\x01\x01\x02");
    }
}
