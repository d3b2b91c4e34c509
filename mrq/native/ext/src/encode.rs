//! Objects as items. Only the types that are carried exactly are taken: the path in Python knows what becomes of others.

use mrq_core::item::{
    begin_tuple, end_tuple, put_bool, put_bytes, put_dict_head, put_float, put_int, put_list_head, put_none,
    put_text,
};
use mrq_core::key::{put_canonical, tells_all, BYTES, TEXT};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

/// As many containers may lie in each other as `mrq/codec/types.py` allows.
const DEPTH_MAX: usize = 200;
/// Longer ones are left to the path in Python, bytes.
const LENGTH_MAX: usize = 1 << 31;

/// A key's canonical bytes and, where they don't tell it, its item; kept to be filled again.
#[derive(Default)]
pub struct Key {
    pub canonical: Vec<u8>,
    pub behind: Vec<u8>,
}

impl Key {
    /// Take a key. False where the path in Python has to.
    #[inline]
    pub fn fill(&mut self, key: &Bound<'_, PyAny>) -> bool {
        self.canonical.clear();
        self.behind.clear();
        if let Ok(text) = key.cast_exact::<PyString>() {
            self.canonical.push(TEXT);
            return with_text(text, |bytes| self.canonical.extend_from_slice(bytes));
        }
        if let Ok(bytes) = key.cast_exact::<PyBytes>() {
            self.canonical.push(BYTES);
            self.canonical.extend_from_slice(bytes.as_bytes());
            return bytes.as_bytes().len() < LENGTH_MAX;
        }
        if !put(&mut self.behind, key, 0) {
            return false;
        }
        if !put_canonical(&mut self.canonical, mrq_core::item::first(&self.behind).0) {
            return false;
        }
        if tells_all(&self.canonical) {
            self.behind.clear();
        }
        true
    }
}

/// Append an object's item. False, with anything appended, where the path in Python has to take it.
pub fn put(out: &mut Vec<u8>, value: &Bound<'_, PyAny>, depth: usize) -> bool {
    if let Ok(text) = value.cast_exact::<PyString>() {
        return with_text(text, |bytes| put_text(out, bytes));
    }
    if let Ok(number) = value.cast_exact::<PyInt>() {
        return match number.extract() {
            Ok(number) => {
                put_int(out, number);
                true
            }
            Err(_) => false,
        };
    }
    if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        let at = begin_tuple(out, tuple.len());
        let taken = depth < DEPTH_MAX && tuple.iter_borrowed().all(|item| put(out, &item, depth + 1));
        end_tuple(out, at);
        return taken && out.len() < LENGTH_MAX;
    }
    if let Ok(number) = value.cast_exact::<PyFloat>() {
        put_float(out, number.value());
        return true;
    }
    if value.is_none() {
        put_none(out);
        return true;
    }
    if let Ok(truth) = value.cast_exact::<PyBool>() {
        put_bool(out, truth.is_true());
        return true;
    }
    if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        if bytes.as_bytes().len() >= LENGTH_MAX {
            return false;
        }
        put_bytes(out, bytes.as_bytes());
        return true;
    }
    if let Ok(list) = value.cast_exact::<PyList>() {
        put_list_head(out, list.len());
        return depth < DEPTH_MAX
            && list.iter().all(|item| put(out, &item, depth + 1))
            && out.len() < LENGTH_MAX;
    }
    if let Ok(dict) = value.cast_exact::<PyDict>() {
        put_dict_head(out, dict.len());
        return depth < DEPTH_MAX
            && dict.iter().all(|(key, item)| is_name(&key) && put(out, &key, 0) && put(out, &item, depth + 1))
            && out.len() < LENGTH_MAX;
    }
    false
}

/// Whether a dict's key is one that no other can be alike: two keys that are different text may stand for the same
/// bytes, and which types keys may have isn't looked at here.
fn is_name(key: &Bound<'_, PyAny>) -> bool {
    match key.cast_exact::<PyString>() {
        Ok(text) => text.to_str().is_ok(),
        Err(_) => key.is_exact_instance_of::<PyInt>() || key.is_exact_instance_of::<PyBytes>(),
    }
}

/// Do something with the bytes that text is equal and ordered by. False for a surrogate that stands for no byte.
#[inline]
fn with_text(text: &Bound<'_, PyString>, put: impl FnOnce(&[u8])) -> bool {
    if let Ok(text) = text.to_str() {
        if text.len() >= LENGTH_MAX {
            return false;
        }
        put(text.as_bytes());
        return true;
    }
    let Ok(encoded) = text.call_method1("encode", ("utf-8", "surrogateescape")) else {
        return false;
    };
    match encoded.cast_exact::<PyBytes>() {
        Ok(bytes) if bytes.as_bytes().len() < LENGTH_MAX => {
            put(bytes.as_bytes());
            true
        }
        _ => false,
    }
}
