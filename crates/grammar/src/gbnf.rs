//! Grammars in the notation of GBNF (`root ::= ...`), rewritten in that of Lark.
//!
//! Rules that do not reach themselves become terminals, so that their texts are matched as a whole and none is lost to
//! where a lexer would cut.

use crate::error::{GrammarError, excerpt};
use crate::lark;
use std::collections::{BTreeMap, BTreeSet};

/// Whether a grammar is written with `::=`.
pub(crate) fn is_gbnf(text: &str) -> bool {
    text.contains("::=")
}

/// The grammar in the notation of Lark.
///
/// # Errors
/// Names what cannot be read.
pub(crate) fn to_lark(text: &str) -> Result<String, GrammarError> {
    let rules = split_rules(text)?;
    let mut bodies = BTreeMap::new();
    for (name, body) in &rules {
        let parts = Parts { rest: body, rule: name }.read()?;
        if bodies.insert(name.as_str(), parts).is_some() {
            return Err(syntax(name, "is defined twice"));
        }
    }
    if !bodies.contains_key("root") {
        return Err(GrammarError::Syntax("the grammar has no rule root".to_owned()));
    }
    let endless = endless(&bodies)?;
    let rename = |name: &str| rename(name, endless.contains(name));
    let mut lark = format!("start: {}\n", rename("root"));
    for (name, parts) in &bodies {
        lark.push_str(&rename(name));
        lark.push(':');
        for part in parts {
            lark.push(' ');
            match part {
                Part::Rule(rule) => lark.push_str(&rename(rule)),
                Part::Text(text) => lark.push_str(text),
            }
        }
        lark.push('\n');
    }
    Ok(lark)
}

/// A piece of a rule's right side.
#[derive(Debug, PartialEq)]
enum Part {
    /// Reference to a rule.
    Rule(String),
    /// Anything else, as Lark writes it.
    Text(String),
}

/// Names and right sides, in order. A rule ends where the next begins.
fn split_rules(text: &str) -> Result<Vec<(String, String)>, GrammarError> {
    let mut rules: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let line = without_comment(line);
        match line.split_once("::=").filter(|(name, _)| is_name(name.trim())) {
            Some((name, body)) => rules.push((name.trim().to_owned(), body.to_owned())),
            None => match rules.last_mut() {
                Some((_, body)) => {
                    body.push(' ');
                    body.push_str(line);
                }
                None if line.trim().is_empty() => {}
                None => {
                    let problem = format!("expected a rule (name ::= ...), got {:?}", excerpt(line.trim()));
                    return Err(GrammarError::Syntax(problem));
                }
            },
        }
    }
    Ok(rules)
}

/// The line up to a `#` outside literals and classes.
fn without_comment(line: &str) -> &str {
    let mut within = None;
    let mut escaped = false;
    for (at, letter) in line.char_indices() {
        match (within, letter) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(end), letter) if letter == end => within = None,
            (Some(_), _) => {}
            (None, '"') => within = Some('"'),
            (None, '[') => within = Some(']'),
            (None, '#') => return &line[..at],
            (None, _) => {}
        }
    }
    line
}

fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && text.bytes().all(is_part)
}

/// Names that no two rules share: letters that Lark's names cannot have are written as numbers.
fn rename(name: &str, as_rule: bool) -> String {
    let mut renamed = String::from(if as_rule { "r" } else { "T" });
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' if as_rule => renamed.push(char::from(byte)),
            b'a'..=b'z' => renamed.push(char::from(byte.to_ascii_uppercase())),
            byte => renamed.push_str(&format!("_{byte}_")),
        }
    }
    renamed
}

/// Rules that reach themselves, or a rule that does.
fn endless<'a>(bodies: &BTreeMap<&'a str, Vec<Part>>) -> Result<BTreeSet<&'a str>, GrammarError> {
    let mut finite: BTreeSet<&str> = BTreeSet::new();
    for parts in bodies.iter() {
        let (name, parts) = parts;
        for part in parts {
            if let Part::Rule(rule) = part
                && !bodies.contains_key(rule.as_str())
            {
                return Err(syntax(name, &format!("refers to {:?}, which is not defined", excerpt(rule))));
            }
        }
    }
    loop {
        let is_finite = |parts: &[Part]| {
            parts.iter().all(|part| match part {
                Part::Rule(rule) => finite.contains(rule.as_str()),
                Part::Text(_) => true,
            })
        };
        let more: Vec<&str> = (bodies.iter())
            .filter(|(name, parts)| !finite.contains(*name) && is_finite(parts))
            .map(|(name, _)| *name)
            .collect();
        if more.is_empty() {
            break;
        }
        finite.extend(more);
    }
    Ok(bodies.keys().copied().filter(|name| !finite.contains(name)).collect())
}

struct Parts<'a> {
    rest: &'a str,
    rule: &'a str,
}

impl Parts<'_> {
    fn read(mut self) -> Result<Vec<Part>, GrammarError> {
        let mut parts = Vec::new();
        while let Some(letter) = self.next() {
            let part = match letter {
                letter if letter.is_whitespace() => continue,
                '(' | ')' | '|' | '*' | '+' | '?' => Part::Text(letter.to_string()),
                '"' => Part::Text(lark::literal(&self.literal()?)),
                '[' => Part::Text(self.class()?),
                '.' => Part::Text("/(?s:.)/".to_owned()),
                '{' => Part::Text(self.repetition()?),
                letter if letter.is_ascii_alphabetic() || letter == '_' => {
                    let length = self
                        .rest
                        .bytes()
                        .take_while(|byte| is_name(&format!("a{}", char::from(*byte))))
                        .count();
                    let (rest, after) = self.rest.split_at(length);
                    let name = format!("{letter}{rest}");
                    self.rest = after;
                    Part::Rule(name)
                }
                letter => return Err(self.syntax(&format!("has {letter:?} where none can stand"))),
            };
            parts.push(part);
        }
        if parts.is_empty() {
            parts.push(Part::Text("\"\"".to_owned()));
        }
        Ok(parts)
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.rest.chars().next()?;
        self.rest = &self.rest[letter.len_utf8()..];
        Some(letter)
    }

    /// The text of a literal, after its opening quote.
    fn literal(&mut self) -> Result<String, GrammarError> {
        let mut text = String::new();
        loop {
            match self.next() {
                Some('"') => return Ok(text),
                Some('\\') => text.push(self.escape()?),
                Some(letter) => text.push(letter),
                None => return Err(self.syntax("has a text without an end")),
            }
        }
    }

    /// The character that an escape stands for, after its backslash.
    fn escape(&mut self) -> Result<char, GrammarError> {
        let digits = match self.next() {
            Some('n') => return Ok('\n'),
            Some('r') => return Ok('\r'),
            Some('t') => return Ok('\t'),
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            Some(letter) if letter.is_ascii_punctuation() => return Ok(letter),
            _ => return Err(self.syntax("has an escape that is not known")),
        };
        let code = self.rest.get(..digits).and_then(|code| u32::from_str_radix(code, 16).ok());
        let Some(letter) = code.and_then(char::from_u32) else {
            return Err(self.syntax("has an escape of no character"));
        };
        self.rest = &self.rest[digits..];
        Ok(letter)
    }

    /// A character class as a regular expression, after its opening bracket.
    fn class(&mut self) -> Result<String, GrammarError> {
        let mut class = String::from("/[");
        if let Some(rest) = self.rest.strip_prefix('^') {
            class.push('^');
            self.rest = rest;
        }
        loop {
            let letter = match self.next() {
                Some(']') => {
                    class.push_str("]/");
                    return Ok(class);
                }
                Some('-') => {
                    class.push('-');
                    continue;
                }
                Some('\\') => self.escape()?,
                Some(letter) => letter,
                None => return Err(self.syntax("has a character class without an end")),
            };
            if letter.is_alphanumeric() {
                class.push(letter);
            } else {
                class.push_str(&format!("\\x{{{:x}}}", u32::from(letter)));
            }
        }
    }

    /// `{n}`, `{n,}` or `{n,m}`, after its brace.
    fn repetition(&mut self) -> Result<String, GrammarError> {
        let Some((inner, after)) = self.rest.split_once('}') else {
            return Err(self.syntax("has a repetition without an end"));
        };
        let is_count = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b' ');
        if !inner.split(',').all(is_count) || inner.split(',').count() > 2 || inner.trim().is_empty() {
            return Err(self.syntax("has a repetition that is none of {n}, {n,} and {n,m}"));
        }
        self.rest = after;
        Ok(format!("{{{inner}}}"))
    }

    fn syntax(&self, problem: &str) -> GrammarError {
        syntax(self.rule, problem)
    }
}

fn syntax(rule: &str, problem: &str) -> GrammarError {
    GrammarError::Syntax(format!("rule {:?} of the grammar {problem}", excerpt(rule)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_end_become_terminals() {
        let text = "# a list\nroot ::= \"[\" list? \"]\" # end\nlist ::= item (\",\" item)*\n  | root\nitem ::= [a-z0-9_]+ | \"\\n\\\"\"\n";
        let expected = "start: rroot\nTITEM: /[a-z0-9\\x{5f}]/ + | \"\\u000a\\\"\"\n\
                        rlist: TITEM ( \",\" TITEM ) * | rroot\nrroot: \"[\" rlist ? \"]\"\n";
        assert_eq!(to_lark(text).expect("a grammar"), expected);
    }

    #[test]
    fn names_stay_apart() {
        assert_eq!(rename("a-b", true), "ra_45_b");
        assert_ne!(rename("A", false), rename("a", false));
    }

    #[test]
    fn faults_are_named() {
        for (text, part) in [
            ("root ::= other", "\"other\", which is not defined"),
            ("item ::= \"a\"", "no rule root"),
            ("root ::= \"a", "text without an end"),
            ("root ::= [a", "class without an end"),
            ("root ::= a{x}\na ::= \"b\"", "repetition that is none"),
            ("root ::= \"a\"\nroot ::= \"b\"", "defined twice"),
            ("root ::= ;", "has ';'"),
            ("what\nroot ::= \"a\"", "expected a rule"),
            ("root ::= \"\\q\"", "escape"),
        ] {
            let error = to_lark(text).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
