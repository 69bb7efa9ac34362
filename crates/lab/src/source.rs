//! Where requests come from.

use crate::trace::{TraceError, TraceReader};
use crate::workload::Generated;
use crate::{Arrival, Process, Workload};
use std::fmt;
use std::path::PathBuf;

/// Where requests come from. A source can be run any number of times, always with the same requests.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A built-in workload.
    Workload(Workload),
    /// A file; see [`trace`](crate::trace).
    Trace(PathBuf),
}

impl Source {
    /// The requests from the first on.
    ///
    /// # Errors
    /// [`TraceError`] if the file cannot be read.
    pub fn open(&self) -> Result<Feed, TraceError> {
        Ok(match self {
            Self::Workload(workload) => Feed::Generated(workload.arrivals()),
            Self::Trace(path) => Feed::Trace(Box::new(TraceReader::open(path)?)),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(workload) => workload.fmt(f),
            Self::Trace(path) => path.display().fmt(f),
        }
    }
}

/// The requests of a source, in order of arrival.
#[derive(Debug)]
pub enum Feed {
    /// Of a workload.
    Generated(Generated),
    /// Of a file.
    Trace(Box<TraceReader>),
}

impl Feed {
    /// How many tenants the requests so far name.
    pub fn tenants(&self) -> u32 {
        match self {
            Self::Generated(all) => all.workload().shape.tenants().len() as u32,
            Self::Trace(reader) => reader.tenants().len() as u32,
        }
    }

    /// Name of the tenant with this number.
    ///
    /// # Panics
    /// If no request so far has this tenant.
    pub fn tenant(&self, number: u32) -> &str {
        match self {
            Self::Generated(all) => all.workload().shape.tenants()[number as usize],
            Self::Trace(reader) => &reader.tenants()[number as usize],
        }
    }

    /// How many clients wait for their answers before they ask again; `None` if requests come by the clock.
    pub fn clients(&self) -> Option<u32> {
        match self {
            Self::Generated(all) => match all.workload().process {
                Process::Clients(clients) => Some(clients),
                Process::Poisson { .. } | Process::Burst => None,
            },
            Self::Trace(_) => None,
        }
    }
}

impl Iterator for Feed {
    type Item = Result<Arrival, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Generated(all) => all.next().map(Ok),
            Self::Trace(reader) => reader.next(),
        }
    }
}
