use pyo3::prelude::*;

/// Raised by one whenever Python and this module would misunderstand each other; `mrq/native/__init__.py` has the same.
const INTERFACE: u32 = 1;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("INTERFACE", INTERFACE)
}
