//! The table of a map whose reduce folds ints.

use mrq_core::fold::{How, Put, Table};
use mrq_core::NoMemory;
use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyInt, PyIterator, PyList, PyTuple};

use crate::decode;
use crate::encode::Key;

/// Pairs between two looks whether there was a signal, where no code of Python's looks.
const PATIENCE: u64 = 1024;

/// Ints by key, folded as they come.
#[pyclass(module = "mrq._native")]
pub struct FoldTable {
    table: Table,
    counts: bool,
    adds: bool,
    memory: usize,
    one: Py<PyAny>,
    key: Key,
    /// Pairs that were taken.
    #[pyo3(get)]
    emitted: u64,
}

#[pymethods]
impl FoldTable {
    /// `how`: count, sum, min or max; `memory`: bytes that may be held.
    #[new]
    fn new(py: Python<'_>, how: &str, memory: usize) -> PyResult<Self> {
        let fold = match how {
            "count" | "sum" => How::Add,
            "min" => How::Least,
            "max" => How::Greatest,
            _ => return Err(PyValueError::new_err(format!("no table folds by {how}"))),
        };
        Ok(Self {
            table: Table::new(fold),
            counts: how == "count",
            adds: fold == How::Add,
            memory,
            one: PyInt::new(py, 1).into_any().unbind(),
            key: Key::default(),
            emitted: 0,
        })
    }

    /// Take pairs: None once there are no more, True when the table must be written before more are taken, else the
    /// pair that the path in Python has to take, which comes before those that are left.
    fn take<'py>(
        &mut self,
        py: Python<'py>,
        pairs: &Bound<'py, PyIterator>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut pairs = pairs.clone();
        while let Some(pair) = pairs.next() {
            let pair = pair?;
            if !self.put(&pair)? {
                return Ok(Some(pair));
            }
            self.emitted += 1;
            if self.table.held() > self.memory {
                return Ok(Some(PyBool::new(py, true).to_owned().into_any()));
            }
            if self.emitted % PATIENCE == 0 {
                py.check_signals()?;
            }
        }
        Ok(None)
    }

    /// How many keys are held.
    fn __len__(&self) -> usize {
        self.table.len()
    }

    /// The keys of some positions, as they came first.
    fn keys<'py>(&self, py: Python<'py>, begin: usize, end: usize) -> PyResult<Bound<'py, PyList>> {
        let end = end.min(self.table.len());
        let keys = (begin..end).map(|at| decode::object(py, self.table.key(at)));
        PyList::new(py, keys.collect::<PyResult<Vec<_>>>()?)
    }

    /// Deal the keys out, by hash or, where they are given, to these partitions.
    #[pyo3(signature = (partitions, numbers=None))]
    fn deal(&mut self, py: Python<'_>, partitions: usize, numbers: Option<Vec<usize>>) -> PyResult<()> {
        match numbers {
            None => py.detach(|| self.table.deal(partitions)),
            Some(numbers) => {
                if numbers.len() != self.table.len() || numbers.iter().any(|&number| number >= partitions) {
                    return Err(PyValueError::new_err("a partition for each key is wanted"));
                }
                self.table.deal_by(partitions, numbers.into_iter());
            }
        }
        Ok(())
    }

    /// A partition's frames, once keys are dealt out: of each the payload, how many records and what they cost.
    fn frames<'py>(
        &self,
        py: Python<'py>,
        partition: usize,
    ) -> Vec<(Bound<'py, PyBytes>, usize, u64)> {
        let frames = py.detach(|| self.table.frames(partition));
        let made = frames.into_iter();
        made.map(|frame| (PyBytes::new(py, &frame.payload), frame.records, frame.cost)).collect()
    }

    /// Hold nothing.
    fn clear(&mut self) {
        self.table.clear();
    }
}

impl FoldTable {
    /// Take a pair. False where the path in Python has to.
    #[inline]
    fn put(&mut self, pair: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Ok(pair) = pair.cast_exact::<PyTuple>() else {
            return Ok(false);
        };
        if pair.len() != 2 {
            return Ok(false);
        }
        let (key, value) = (pair.get_borrowed_item(0)?, pair.get_borrowed_item(1)?);
        let Some(value) = self.value(&value) else {
            return Ok(false);
        };
        if !self.key.fill(&key) {
            return Ok(false);
        }
        match self.table.put(&self.key.canonical, &self.key.behind, value) {
            Ok(put) => Ok(put == Put::Held),
            Err(NoMemory) => Err(PyMemoryError::new_err("no memory for the pairs that a map holds")),
        }
    }

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
