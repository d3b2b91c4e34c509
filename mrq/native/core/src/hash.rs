//! The stable hash that partitions keys, as `mrq/codec/hashing.py` has it.

use crate::item::{each, Item};

const PRIME24: u32 = 16_777_213;
const TUPLE: u32 = 1_000_003;
const NONE: u32 = 0x6e6f_6e65;
const BYTES_SEED: u32 = 0x62;
/// Python's hash of numbers is a remainder by this prime.
const MODULUS: u64 = (1 << 61) - 1;
const INFINITE: i64 = 314_159;

/// Which of so many partitions a key belongs to.
pub fn partition(key: Item<'_>, partitions: usize) -> usize {
    (hash(key) % PRIME24) as usize % partitions
}

/// 32 bits, equal for keys that are one key. Panics for what can't be one.
pub fn hash(key: Item<'_>) -> u32 {
    match key {
        Item::None => NONE,
        Item::Bool(value) => of_number(value.into()),
        Item::Int(value) => of_number(of_int(value)),
        Item::Float(value) => of_number(of_float(value)),
        Item::Text(text) => crc32fast::hash(text),
        Item::Bytes(bytes) => {
            let mut crc = crc32fast::Hasher::new_with_initial(BYTES_SEED);
            crc.update(bytes);
            crc.finalize()
        }
        Item::Tuple(count, items) => each(items).fold(count as u32, |sum, item| {
            sum.wrapping_mul(TUPLE).wrapping_add(hash(item))
        }),
        Item::List(..) | Item::Dict(..) | Item::Long(_) => panic!("{key:?} is no key"),
    }
}

fn of_number(hash: i64) -> u32 {
    crc32fast::hash(&hash.to_le_bytes())
}

/// Python's hash of an int.
fn of_int(value: i64) -> i64 {
    let rest = (value.unsigned_abs() % MODULUS) as i64;
    never_minus_one(if value < 0 { -rest } else { rest })
}

/// Python's hash of a float that isn't NaN: that of the int or fraction that it is.
fn of_float(value: f64) -> i64 {
    if value.is_infinite() {
        return if value > 0.0 { INFINITE } else { -INFINITE };
    }
    if value == 0.0 {
        return 0;
    }
    let bits = value.to_bits();
    let (field, fraction) = ((bits >> 52 & 0x7ff) as i64, bits & ((1 << 52) - 1));
    let (mantissa, exponent) = match field {
        0 => (fraction, -1074),
        _ => (fraction | 1 << 52, field - 1075),
    };
    // A power of two turns the 61 bits of a remainder by 2**61 - 1.
    let turned = exponent.rem_euclid(61) as u32;
    let rest = mantissa % MODULUS;
    let rest = (u128::from(rest) << turned) % u128::from(MODULUS);
    never_minus_one(if value < 0.0 { -(rest as i64) } else { rest as i64 })
}

fn never_minus_one(hash: i64) -> i64 {
    if hash == -1 { -2 } else { hash }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_hash_as_in_python() {
        assert_eq!(of_int(-1), -2);
        assert_eq!(of_int(i64::MIN), -4);
        assert_eq!(of_float(0.1), 230_584_300_921_369_408);
        assert_eq!(of_float(-2.5), -1_152_921_504_606_846_978);
        assert_eq!(of_float(1e300), 1_224_995_262_755_759_164);
        assert_eq!(of_float(5e-324), 16_777_216);
        for value in [0, 1, -1, 12_345, -98_765, 1 << 53] {
            assert_eq!(of_float(value as f64), of_int(value));
        }
    }
}
