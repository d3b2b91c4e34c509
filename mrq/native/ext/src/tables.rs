//! What the pairs of a map are held in until they are written.

use mrq_core::deal::Deal;
use mrq_core::fold::{How, Table};
use mrq_core::frame::Frame;
use mrq_core::pairs::Pairs;
use mrq_core::NoMemory;
use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyInt, PyIterator, PyTuple};

use crate::encode::{self, Key};

/// Pairs between two looks whether there was a signal, where no code of Python's looks.
const PATIENCE: u64 = 1024;

/// No table holds more, bytes.
const MEMORY_MAX: usize = 16 << 30;

/// A frame as Python gets it: the payload, how many records, what they cost.
type Told<'py> = (Bound<'py, PyBytes>, usize, u64);

/// A table, and what is counted and bounded of it.
struct Held<T> {
    table: T,
    memory: usize,
    partitions: usize,
    deal: Deal,
    emitted: u64,
    key: Key,
}

/// What may take a pair: its key is canonical by now.
trait Takes {
    /// Hold a pair. False where the path in Python has to.
    fn put(&mut self, key: &Key, value: &Bound<'_, PyAny>) -> Result<bool, NoMemory>;
    fn bytes(&self) -> usize;
}

impl<T: Takes> Held<T> {
    fn new(
        table: T,
        memory: usize,
        partitions: usize,
        boundaries: Option<Vec<Bound<'_, PyAny>>>,
    ) -> PyResult<Self> {
        let mut key = Key::default();
        let deal = match boundaries {
            None => Deal::Hash(partitions),
            Some(keys) => {
                let mut canonical = Vec::with_capacity(keys.len());
                for each in keys {
                    if !key.fill(&each) {
                        return Err(PyValueError::new_err("a boundary that no table takes"));
                    }
                    canonical.push(key.canonical.clone());
                }
                Deal::Ranges(canonical)
            }
        };
        let memory = memory.min(MEMORY_MAX);
        Ok(Self { table, memory, partitions, deal, emitted: 0, key })
    }

    /// What `take` of each class says.
    fn take<'py>(
        &mut self,
        py: Python<'py>,
        pairs: &Bound<'py, PyIterator>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut pairs = pairs.clone();
        while let Some(pair) = pairs.next() {
            let pair = pair?;
            match self.put(&pair) {
                Ok(true) => self.emitted += 1,
                Ok(false) => return Ok(Some(pair)),
                Err(error) => return Err(no_memory(error)),
            }
            if self.table.bytes() > self.memory {
                return Ok(Some(PyBool::new(py, true).to_owned().into_any()));
            }
            if self.emitted % PATIENCE == 0 {
                py.check_signals()?;
            }
        }
        Ok(None)
    }

    #[inline]
    fn put(&mut self, pair: &Bound<'_, PyAny>) -> Result<bool, NoMemory> {
        let Ok(pair) = pair.cast_exact::<PyTuple>() else {
            return Ok(false);
        };
        let (2, Ok(key), Ok(value)) = (pair.len(), pair.get_borrowed_item(0), pair.get_borrowed_item(1)) else {
            return Ok(false);
        };
        if !self.key.fill(&key) {
            return Ok(false);
        }
        self.table.put(&self.key, &value)
    }
}

fn no_memory(_: NoMemory) -> PyErr {
    PyMemoryError::new_err("no memory for the pairs that a map holds")
}

fn told<'py>(py: Python<'py>, frames: Vec<Frame>) -> Vec<Told<'py>> {
    let made = frames.into_iter();
    made.map(|frame| (PyBytes::new(py, &frame.payload), frame.records, frame.cost)).collect()
}

struct Folding {
    table: Table,
    counts: bool,
    adds: bool,
    one: Py<PyAny>,
}

impl Takes for Folding {
    #[inline]
    fn put(&mut self, key: &Key, value: &Bound<'_, PyAny>) -> Result<bool, NoMemory> {
        let Some(value) = self.value(value) else {
            return Ok(false);
        };
        self.table.put(&key.canonical, &key.behind, value)
    }

    fn bytes(&self) -> usize {
        self.table.held()
    }
}

impl Folding {
    #[inline]
    fn value(&self, value: &Bound<'_, PyAny>) -> Option<i64> {
        if self.counts || value.is(&self.one) {
            return Some(1);
        }
        if value.is_exact_instance_of::<PyInt>() {
            return value.extract().ok();
        }
        match value.cast_exact::<PyBool>() {
            Ok(truth) if self.adds => Some(truth.is_true().into()),
            _ => None,
        }
    }
}

/// Ints by key, folded as they come.
#[pyclass(module = "mrq._native")]
pub struct FoldTable(Held<Folding>);

#[pymethods]
impl FoldTable {
    /// `how`: count, sum, min or max; `memory`: bytes that may be held; `boundaries`: of ranges, else keys are hashed.
    #[new]
    #[pyo3(signature = (how, memory, partitions, boundaries=None))]
    fn new(
        py: Python<'_>,
        how: &str,
        memory: usize,
        partitions: usize,
        boundaries: Option<Vec<Bound<'_, PyAny>>>,
    ) -> PyResult<Self> {
        let fold = match how {
            "count" | "sum" => How::Add,
            "min" => How::Least,
            "max" => How::Greatest,
            _ => return Err(PyValueError::new_err(format!("no table folds by {how}"))),
        };
        let table = Folding {
            table: Table::new(fold),
            counts: how == "count",
            adds: fold == How::Add,
            one: PyInt::new(py, 1).into_any().unbind(),
        };
        Held::new(table, memory, partitions, boundaries).map(Self)
    }

    /// Pairs that were taken.
    #[getter]
    fn emitted(&self) -> u64 {
        self.0.emitted
    }

    /// Take pairs: None once there are no more, True when the table must be written before more are taken, else the
    /// pair that the path in Python has to take, which comes before those that are left.
    fn take<'py>(
        &mut self,
        py: Python<'py>,
        pairs: &Bound<'py, PyIterator>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.take(py, pairs)
    }

    /// Whether anything is held.
    fn __bool__(&self) -> bool {
        !self.0.table.table.is_empty()
    }

    /// Deal what is held out to the partitions.
    fn deal(&mut self, py: Python<'_>) -> PyResult<()> {
        let held = &mut self.0;
        held.table.table.settle().map_err(no_memory)?;
        py.detach(|| held.table.table.deal(held.partitions, &held.deal));
        Ok(())
    }

    /// A partition's frames, sorted by key, once all is dealt out.
    fn frames<'py>(&mut self, py: Python<'py>, partition: usize) -> Vec<Told<'py>> {
        let table = &mut self.0.table.table;
        let frames = py.detach(|| {
            table.sort(partition);
            table.frames(partition)
        });
        told(py, frames)
    }

    /// Hold nothing.
    fn clear(&mut self) {
        self.0.table.table.clear();
    }
}

/// The pairs themselves, and a place for the item of a value.
#[derive(Default)]
struct Gathering {
    pairs: Pairs,
    value: Vec<u8>,
}

impl Takes for Gathering {
    #[inline]
    fn put(&mut self, key: &Key, value: &Bound<'_, PyAny>) -> Result<bool, NoMemory> {
        self.value.clear();
        if !encode::put(&mut self.value, value, 0) {
            return Ok(false);
        }
        self.pairs.put(&key.canonical, &key.behind, &self.value)
    }

    fn bytes(&self) -> usize {
        self.pairs.held()
    }
}

/// Pairs, to be sorted by key.
#[pyclass(module = "mrq._native")]
pub struct PairTable(Held<Gathering>);

#[pymethods]
impl PairTable {
    /// `memory`: bytes that may be held; `boundaries`: of ranges, else keys are hashed.
    #[new]
    #[pyo3(signature = (memory, partitions, boundaries=None))]
    fn new(memory: usize, partitions: usize, boundaries: Option<Vec<Bound<'_, PyAny>>>) -> PyResult<Self> {
        Held::new(Gathering::default(), memory, partitions, boundaries).map(Self)
    }

    /// Pairs that were taken.
    #[getter]
    fn emitted(&self) -> u64 {
        self.0.emitted
    }

    /// Take pairs, as `FoldTable.take` does.
    fn take<'py>(
        &mut self,
        py: Python<'py>,
        pairs: &Bound<'py, PyIterator>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.take(py, pairs)
    }

    /// Whether anything is held.
    fn __bool__(&self) -> bool {
        !self.0.table.pairs.is_empty()
    }

    /// Deal what is held out to the partitions.
    fn deal(&mut self, py: Python<'_>) {
        let held = &mut self.0;
        py.detach(|| held.table.pairs.deal(held.partitions, &held.deal));
    }

    /// A partition's frames, sorted by key, once all is dealt out.
    fn frames<'py>(&mut self, py: Python<'py>, partition: usize) -> Vec<Told<'py>> {
        let pairs = &mut self.0.table.pairs;
        let frames = py.detach(|| {
            pairs.sort(partition);
            pairs.frames(partition)
        });
        told(py, frames)
    }

    /// Hold nothing.
    fn clear(&mut self) {
        self.0.table.pairs.clear();
    }
}
