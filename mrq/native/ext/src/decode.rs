//! Items as objects.

use mrq_core::item::{each, Item};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

/// The object that an item is.
pub fn object<'py>(py: Python<'py>, item: Item<'_>) -> PyResult<Bound<'py, PyAny>> {
    let objects = |items| each(items).map(|item| object(py, item)).collect::<PyResult<Vec<_>>>();
    Ok(match item {
        Item::None => py.None().into_bound(py),
        Item::Bool(value) => PyBool::new(py, value).to_owned().into_any(),
        Item::Int(value) => PyInt::new(py, value).into_any(),
        Item::Float(value) => PyFloat::new(py, value).into_any(),
        Item::Text(text) => return decoded(py, text),
        Item::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
        Item::Tuple(_, items) => PyTuple::new(py, objects(items)?)?.into_any(),
        Item::List(_, items) => PyList::new(py, objects(items)?)?.into_any(),
        Item::Dict(_, items) => {
            let dict = PyDict::new(py);
            let found = objects(items)?;
            for pair in found.chunks_exact(2) {
                dict.set_item(&pair[0], &pair[1])?;
            }
            dict.into_any()
        }
        Item::Long(_) => panic!("ints beyond 64 bits aren't held here"),
    })
}

fn decoded<'py>(py: Python<'py>, text: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    match std::str::from_utf8(text) {
        Ok(text) => Ok(PyString::new(py, text).into_any()),
        Err(_) => PyBytes::new(py, text).call_method1("decode", ("utf-8", "surrogateescape")),
    }
}
