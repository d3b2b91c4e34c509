//! The extension module `mrq._native`: what `core` does, with the objects of Python on one side.

mod encode;
mod tables;

use pyo3::prelude::*;

/// One more whenever Python and this module would misunderstand each other; `mrq/native/__init__.py` has the same.
const INTERFACE: u32 = 4;

/// Panic, as a mistake in this module does: so that a test can see what becomes of it.
#[pyfunction]
fn panic_now(text: &str) {
    panic!("{text}");
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("INTERFACE", INTERFACE)?;
    module.add("Panic", module.py().get_type::<pyo3::panic::PanicException>())?;
    module.add_class::<tables::FoldTable>()?;
    module.add_class::<tables::PairTable>()?;
    module.add_function(wrap_pyfunction!(panic_now, module)?)
}
