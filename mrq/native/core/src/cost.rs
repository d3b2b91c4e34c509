//! What items take in memory as objects of Python, about, by the constants of `mrq/shuffle/budget.py`.
//!
//! A frame carries it, and merges go by it. It needn't be what the path in Python would have written there, only a
//! function of the data: that one looks at columns, and this at each item by itself.

use crate::item::{each, Item};

const SLOT: u64 = 8;
const TEXT: u64 = 64;
const WIDER: u64 = 8;
const BYTES: u64 = 48;
const INT: u64 = 40;
const FLOAT: u64 = 32;
const LIST: u64 = 72;
const DICT: u64 = 80;
const DICT_ITEM: u64 = 104;
const PAIR: u64 = 40;
/// A tuple may have to be sorted by a key made of it, which takes twice as much.
const TUPLE_KEY: u64 = 3;
/// CPython keeps those as one object each.
const SMALL: std::ops::RangeInclusive<i64> = -5..=256;

/// Of a key, with what sorting takes.
pub fn of_key(key: Item<'_>) -> u64 {
    let times = if matches!(key, Item::Tuple(..)) { TUPLE_KEY } else { 1 };
    PAIR + times * of(key)
}

/// Of an item and its slot.
pub fn of(item: Item<'_>) -> u64 {
    SLOT + match item {
        Item::None | Item::Bool(_) => 0,
        Item::Int(value) if SMALL.contains(&value) => 0,
        Item::Int(_) => INT,
        Item::Long(bytes) => INT + 8 * bytes.len() as u64 / 7,
        Item::Float(_) => FLOAT,
        Item::Bytes(bytes) => BYTES + bytes.len() as u64,
        Item::Text(text) => TEXT + of_text(text),
        Item::Tuple(_, items) | Item::List(_, items) => LIST + each(items).map(of).sum::<u64>(),
        Item::Dict(count, items) => DICT + DICT_ITEM * count as u64 + each(items).map(of).sum::<u64>(),
    }
}

/// Beyond ASCII a character takes 2 bytes, or 4 where any needs it.
fn of_text(text: &[u8]) -> u64 {
    if text.is_ascii() {
        return text.len() as u64;
    }
    let characters = text.iter().filter(|&&byte| byte & 0xc0 != 0x80).count() as u64;
    let width = if text.iter().any(|&byte| byte >= 0xf0) { 4 } else { 2 };
    WIDER + width * characters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_those_of_the_budget() {
        assert_eq!(of(Item::Text(b"word")), 8 + 64 + 4);
        assert_eq!(of(Item::Text("ж".as_bytes())), 8 + 64 + 8 + 2);
        assert_eq!(of(Item::Int(1)), 8);
        assert_eq!(of(Item::Int(1000)), 48);
        assert_eq!(of(Item::List(2, &[0xc0, 0xc0])), 8 + 72 + 16);
        assert_eq!(of_key(Item::Bytes(b"")), 40 + 8 + 48);
    }
}
