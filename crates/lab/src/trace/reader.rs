//! Reading a trace line by line.

use super::fields::{Field, Fields};
use super::lines::ShortLines;
use super::names::Names;
use super::{Problem, TraceError};
use crate::{Arrival, Prefix};
use pagoda_sched::Priority;
use serde_json::Value;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Latest arrival in seconds: thirty years.
const LATEST: f64 = 1e9;
/// Most tokens of a prompt or an answer.
const MOST_TOKENS: u32 = 1 << 24;
/// Most tenants that are reported on.
const MOST_TENANTS: usize = 10_000;
/// Most prefix groups.
const MOST_GROUPS: usize = 1 << 24;
/// Tenant of lines that name none.
const NO_TENANT: &str = "default";

/// How a trace is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values with names in the first line.
    Csv,
    /// One JSON object per line.
    Jsonl,
}

impl Format {
    /// The format that the name of a file tells.
    ///
    /// # Errors
    /// [`TraceError::Name`] for other names.
    pub fn of(path: &Path) -> Result<Self, TraceError> {
        match path.extension().and_then(OsStr::to_str) {
            Some("csv") => Ok(Self::Csv),
            Some("jsonl" | "ndjson") => Ok(Self::Jsonl),
            _ => Err(TraceError::Name { path: path.display().to_string() }),
        }
    }
}

/// A trace that is being read.
pub struct TraceReader {
    path: String,
    rows: Rows,
    line: u64,
    before: f64,
    tenants: Names,
    groups: Names,
}

impl fmt::Debug for TraceReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceReader")
            .field("path", &self.path)
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

type Input = Box<dyn Read + Send>;

enum Rows {
    Csv { reader: Box<csv::Reader<ShortLines<Input>>>, record: csv::StringRecord, columns: Vec<Field> },
    Jsonl { reader: BufReader<ShortLines<Input>>, text: String },
}

/// What is wrong with a line, and with which field of it.
enum Wrong {
    Line(String),
    Field(Field, Problem),
}

impl TraceReader {
    /// Opens a file.
    ///
    /// # Errors
    /// [`TraceError`] if it cannot be read, if its name tells no format, or if its first line names unknown fields.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        let format = Format::of(path)?;
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Self::new(name, format, file),
            Err(source) => Err(TraceError::Read { path: name, source }),
        }
    }

    /// Reads from `input`, which errors call `path`.
    ///
    /// # Errors
    /// [`TraceError`] if the first line of CSV names unknown fields.
    pub fn new(path: String, format: Format, input: impl Read + Send + 'static) -> Result<Self, TraceError> {
        let input = ShortLines::new(Box::new(input) as Input);
        let rows = match format {
            Format::Jsonl => Rows::Jsonl { reader: BufReader::new(input), text: String::new() },
            Format::Csv => {
                let mut reader = Box::new(csv::Reader::from_reader(input));
                let columns = columns(&mut reader).map_err(|problem| TraceError::Line {
                    path: path.clone(),
                    line: 1,
                    problem,
                })?;
                Rows::Csv { reader, record: csv::StringRecord::new(), columns }
            }
        };
        Ok(Self {
            path,
            rows,
            line: 0,
            before: 0.0,
            tenants: Names::new(MOST_TENANTS),
            groups: Names::new(MOST_GROUPS),
        })
    }

    /// Names of the tenants so far.
    pub fn tenants(&self) -> &[String] {
        self.tenants.names()
    }

    fn read(&mut self) -> Result<Option<Arrival>, Wrong> {
        let Some(fields) = self.rows.next(&mut self.line)? else { return Ok(None) };
        let mut parser = Parser { fields, tenants: &mut self.tenants, groups: &mut self.groups };
        let arrival = parser.arrival(self.before)?;
        self.before = arrival.at;
        Ok(Some(arrival))
    }
}

impl Iterator for TraceReader {
    type Item = Result<Arrival, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (path, read) = (self.path.clone(), self.read());
        let line = self.line;
        read.transpose().map(|read| {
            read.map_err(|wrong| match wrong {
                Wrong::Line(problem) => TraceError::Line { path, line, problem },
                Wrong::Field(field, problem) => {
                    TraceError::Field { path, line, field: field.name(), problem }
                }
            })
        })
    }
}

/// The fields that the first line of CSV names.
fn columns(reader: &mut csv::Reader<ShortLines<Input>>) -> Result<Vec<Field>, String> {
    let headers = reader.headers().map_err(|error| error.to_string())?;
    let columns: Vec<Field> =
        headers.iter().map(|name| Field::named(name.trim())).collect::<Result<_, _>>()?;
    match columns.iter().enumerate().find(|(index, field)| columns[..*index].contains(field)) {
        Some((_, twice)) => Err(format!("{} is named twice", twice.name())),
        None => Ok(columns),
    }
}

impl Rows {
    /// The fields of the next line that is not empty; `line` becomes its number.
    fn next(&mut self, line: &mut u64) -> Result<Option<Fields<'_>>, Wrong> {
        match self {
            Self::Csv { reader, record, columns } => {
                *line = reader.position().line();
                let more = reader.read_record(record).map_err(|error| Wrong::Line(error.to_string()))?;
                *line = record.position().map_or(*line, csv::Position::line);
                let mut fields = Fields::default();
                for (field, text) in columns.iter().zip(record.iter()) {
                    fields.set(*field, text.into());
                }
                Ok(more.then_some(fields))
            }
            Self::Jsonl { reader, text } => loop {
                text.clear();
                *line += 1;
                let count = reader.read_line(text).map_err(|error| Wrong::Line(error.to_string()))?;
                if count == 0 {
                    return Ok(None);
                }
                if !text.trim().is_empty() {
                    return object(text).map(Some).map_err(Wrong::Line);
                }
            },
        }
    }
}

fn object(text: &str) -> Result<Fields<'static>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
    let Value::Object(entries) = value else { return Err("no JSON object".to_owned()) };
    let mut fields = Fields::default();
    for (name, value) in entries {
        let field = Field::named(&name)?;
        match value {
            Value::Null => {}
            Value::String(text) => fields.set(field, text.into()),
            Value::Number(number) => fields.set(field, number.to_string().into()),
            _ => return Err(format!("{name} is neither a number nor text")),
        }
    }
    Ok(fields)
}

struct Parser<'a> {
    fields: Fields<'a>,
    tenants: &'a mut Names,
    groups: &'a mut Names,
}

impl Parser<'_> {
    fn arrival(&mut self, before: f64) -> Result<Arrival, Wrong> {
        let prompt_tokens = self.required_tokens(Field::Prompt)?;
        let output_tokens = self.required_tokens(Field::Output)?;
        Ok(Arrival {
            at: self.time(before)?,
            prompt_tokens,
            output_tokens,
            max_tokens: self.max_tokens(output_tokens)?,
            class: self.class()?,
            tenant: self.tenant()?,
            prefix: self.prefix(prompt_tokens)?,
        })
    }

    fn time(&self, before: f64) -> Result<f64, Wrong> {
        let wrong = |problem| Wrong::Field(Field::Arrival, problem);
        let value = self.fields.number(Field::Arrival, (0.0, LATEST)).map_err(wrong)?;
        let value = value.ok_or_else(|| wrong(Problem::Missing))?;
        if value < before { Err(wrong(Problem::Unsorted { value, before })) } else { Ok(value) }
    }

    fn tokens(&self, field: Field) -> Result<Option<u32>, Wrong> {
        self.fields.tokens(field, MOST_TOKENS).map_err(|problem| Wrong::Field(field, problem))
    }

    fn required_tokens(&self, field: Field) -> Result<u32, Wrong> {
        self.tokens(field)?.ok_or(Wrong::Field(field, Problem::Missing))
    }

    fn max_tokens(&self, output: u32) -> Result<u32, Wrong> {
        let limit = self.tokens(Field::MaxTokens)?.unwrap_or(output);
        if output > limit {
            let problem = Problem::Above { value: output, field: Field::MaxTokens.name(), limit };
            return Err(Wrong::Field(Field::Output, problem));
        }
        Ok(limit)
    }

    fn class(&self) -> Result<Priority, Wrong> {
        match self.fields.get(Field::Class) {
            None | Some("normal") => Ok(Priority::Normal),
            Some("low") => Ok(Priority::Low),
            Some("high") => Ok(Priority::High),
            Some("urgent") => Ok(Priority::Urgent),
            Some(other) => Err(Wrong::Field(Field::Class, Problem::Class(other.to_owned()))),
        }
    }

    fn tenant(&mut self) -> Result<u32, Wrong> {
        let name = self.fields.get(Field::Tenant).unwrap_or(NO_TENANT);
        self.tenants.number(name).map_err(|problem| Wrong::Field(Field::Tenant, problem))
    }

    fn prefix(&mut self, prompt: u32) -> Result<Option<Prefix>, Wrong> {
        let wrong = |problem| Wrong::Field(Field::Prefix, problem);
        let tokens = self.tokens(Field::Prefix)?;
        let Some(name) = self.fields.get(Field::Group) else {
            return match tokens {
                None => Ok(None),
                Some(_) => Err(wrong(Problem::Without(Field::Group.name()))),
            };
        };
        let group = self.groups.number(name).map_err(|problem| Wrong::Field(Field::Group, problem))?;
        let tokens = tokens.unwrap_or(prompt);
        if tokens > prompt {
            let field = Field::Prompt.name();
            return Err(wrong(Problem::Above { value: tokens, field, limit: prompt }));
        }
        Ok(Some(Prefix { group, tokens }))
    }
}
