//! Names as numbers.

use super::Problem;
use rustc_hash::FxHashMap;

/// Numbers for names, in order of appearance.
#[derive(Debug)]
pub(super) struct Names {
    most: usize,
    numbers: FxHashMap<Box<str>, u32>,
    names: Vec<String>,
}

impl Names {
    /// No names; at most `most` of them.
    pub(super) fn new(most: usize) -> Self {
        Self { most, numbers: FxHashMap::default(), names: Vec::new() }
    }

    pub(super) fn number(&mut self, name: &str) -> Result<u32, Problem> {
        if let Some(&number) = self.numbers.get(name) {
            return Ok(number);
        }
        if self.names.len() == self.most {
            return Err(Problem::TooMany(self.most));
        }
        let number = self.names.len() as u32;
        self.names.push(name.to_owned());
        self.numbers.insert(name.into(), number);
        Ok(number)
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }
}
