//! The canonical bytes of keys: equal for keys that Python takes for one, and in the order of keys.
//!
//! The order is None < numbers by value < text < bytes < tuples, and a byte says which. A number is the next float that
//! isn't greater, as eight bytes that order as floats do, and what is missing to it: so bool, int and float of one value
//! are alike, and -0.0 is 0. Text and bytes are themselves; within a tuple, where something follows, with a mark at the
//! end that no content has. Behind a key's canonical bytes lies, where they don't tell it, the item itself: the form
//! that was emitted first is the one that is shown.

use crate::item::{each, first, put_bytes, put_none, put_text, Item};

pub const NONE: u8 = 1;
pub const NUMBER: u8 = 2;
pub const TEXT: u8 = 3;
pub const BYTES: u8 = 4;
pub const TUPLE: u8 = 5;
const END: u8 = 0;
/// Stands behind each zero byte within a tuple's text: more than the zero that ends it.
const ESCAPE: u8 = 0xff;

/// Append a key's canonical bytes. False for what can't be a key here: NaN, an int beyond 64 bits, a list or dict.
pub fn put_canonical(out: &mut Vec<u8>, key: Item<'_>) -> bool {
    put(out, key, false)
}

fn put(out: &mut Vec<u8>, key: Item<'_>, inner: bool) -> bool {
    match key {
        Item::None => out.push(NONE),
        Item::Bool(value) => put_number(out, value.into(), 0),
        Item::Int(value) => {
            let (whole, more) = floor(value);
            put_number(out, whole, more);
        }
        Item::Float(value) if value.is_nan() => return false,
        Item::Float(value) => put_number(out, value, 0),
        Item::Text(text) => put_content(out, TEXT, text, inner),
        Item::Bytes(bytes) => put_content(out, BYTES, bytes, inner),
        Item::Tuple(_, items) => {
            out.push(TUPLE);
            if !each(items).all(|item| put(out, item, true)) {
                return false;
            }
            out.push(END);
        }
        Item::List(..) | Item::Dict(..) | Item::Long(_) => return false,
    }
    true
}

fn put_number(out: &mut Vec<u8>, value: f64, more: u16) {
    let bits = (value + 0.0).to_bits(); // -0.0 + 0.0 is 0.0
    let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    out.push(NUMBER);
    out.extend_from_slice(&ordered.to_be_bytes());
    out.extend_from_slice(&more.to_be_bytes());
}

/// The greatest float that isn't greater than an int, and what is missing to it.
fn floor(value: i64) -> (f64, u16) {
    let mut near = value as f64;
    if near as i128 > i128::from(value) {
        near = near.next_down();
    }
    (near, (i128::from(value) - near as i128) as u16)
}

fn put_content(out: &mut Vec<u8>, tag: u8, content: &[u8], inner: bool) {
    out.push(tag);
    if !inner {
        out.extend_from_slice(content);
        return;
    }
    for &byte in content {
        out.push(byte);
        if byte == 0 {
            out.push(ESCAPE);
        }
    }
    out.extend_from_slice(&[END, END]);
}

/// Whether canonical bytes tell all of a key.
pub fn tells_all(canonical: &[u8]) -> bool {
    matches!(canonical[0], NONE | TEXT | BYTES)
}

/// The key of its canonical bytes and of what lies behind them, as it was emitted.
pub fn shown<'a>(canonical: &'a [u8], behind: &'a [u8]) -> Item<'a> {
    match canonical[0] {
        NONE => Item::None,
        TEXT => Item::Text(&canonical[1..]),
        BYTES => Item::Bytes(&canonical[1..]),
        _ => first(behind).0,
    }
}

/// The item of a key of which canonical bytes tell all.
pub fn put_shown(out: &mut Vec<u8>, canonical: &[u8], behind: &[u8]) {
    match canonical[0] {
        NONE => put_none(out),
        TEXT => put_text(out, &canonical[1..]),
        BYTES => put_bytes(out, &canonical[1..]),
        _ => out.extend_from_slice(behind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::{begin_tuple, end_tuple, put_float, put_int};

    fn canonical(key: Item<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(put_canonical(&mut out, key));
        out
    }

    fn tuple(fill: impl Fn(&mut Vec<u8>), count: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let at = begin_tuple(&mut out, count);
        fill(&mut out);
        end_tuple(&mut out, at);
        out
    }

    #[test]
    fn equal_numbers_have_equal_bytes() {
        assert_eq!(canonical(Item::Int(1)), canonical(Item::Float(1.0)));
        assert_eq!(canonical(Item::Int(1)), canonical(Item::Bool(true)));
        assert_eq!(canonical(Item::Float(-0.0)), canonical(Item::Int(0)));
        assert_eq!(canonical(Item::Float(-9.2233720368547758e18)), canonical(Item::Int(i64::MIN)));
        let whole = 1i64 << 60;
        assert_eq!(canonical(Item::Float(whole as f64)), canonical(Item::Int(whole)));
    }

    #[test]
    fn order_is_that_of_keys() {
        let near = 9_007_199_254_740_993; // 2**53 + 1, no float
        let zero = tuple(|out| put_text(out, b"a\0"), 1);
        let short = tuple(|out| put_text(out, b"a"), 1);
        let longer = tuple(|out| (put_text(out, b"a"), put_int(out, 0)).1, 2);
        let float = tuple(|out| put_float(out, 0.5), 1);
        let keys = [
            Item::None,
            Item::Float(f64::NEG_INFINITY),
            Item::Int(i64::MIN),
            Item::Int(i64::MIN + 1),
            Item::Float(-1e18),
            Item::Int(-near),
            Item::Float(-0.5),
            Item::Bool(false),
            Item::Float(5e-324),
            Item::Bool(true),
            Item::Float(9_007_199_254_740_992.0),
            Item::Int(near),
            Item::Int(i64::MAX - 1),
            Item::Int(i64::MAX),
            Item::Float(9.3e18),
            Item::Float(f64::INFINITY),
            Item::Text(b""),
            Item::Text(b"a"),
            Item::Text(b"a\0"),
            Item::Text(b"b"),
            Item::Text(b"\xff"),
            Item::Bytes(b""),
            Item::Bytes(b"a"),
            first(&[0xc7, 1, 1, 0x90]).0,
            first(&float).0,
            first(&short).0,
            first(&longer).0,
            first(&zero).0,
        ];
        for pair in keys.windows(2) {
            assert!(canonical(pair[0]) < canonical(pair[1]), "{:?} {:?}", pair[0], pair[1]);
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let inner = tuple(|out| put_float(out, f64::NAN), 1);
        for key in [Item::Float(f64::NAN), Item::List(0, b""), Item::Long(b""), first(&inner).0] {
            assert!(!put_canonical(&mut Vec::new(), key));
        }
    }
}
