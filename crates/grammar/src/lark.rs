//! Grammars in the notation of Lark: what is let through to the compiler, and texts written in it.

use crate::GrammarLimits;
use crate::error::{GrammarError, at_most};
use crate::regex;

/// Statements that a grammar may have. The others bring schemas, options or grammars of their own.
const STATEMENTS: [&str; 2] = ["ignore", "import"];

/// Checks the size, nesting and repetitions of a grammar, and that it uses nothing that would go round the limits; whether
/// it can be read is the compiler's to say.
///
/// # Errors
/// Names what is at fault and the line.
pub(crate) fn check(text: &str, limits: &GrammarLimits) -> Result<(), GrammarError> {
    let mut scan = Scan { rest: text, line: 1, limits, open: 0, rules: 0, classes: 0 };
    while let Some(letter) = scan.next() {
        scan.letter(letter)?;
    }
    Ok(())
}

/// A string literal of the notation.
pub(crate) fn literal(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            letter if letter.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// A grammar whose texts are `choices`. One terminal, so that no choice is lost to one that it begins with.
pub(crate) fn choices(choices: &[String], limits: &GrammarLimits) -> Result<String, GrammarError> {
    if choices.is_empty() {
        return Err(GrammarError::Syntax("there are no choices; give at least one".to_owned()));
    }
    at_most("the list", "choices", choices.len(), limits.choices)?;
    at_most("the list", "bytes", choices.iter().map(String::len).sum(), limits.bytes)?;
    if let Some(index) = choices.iter().position(String::is_empty) {
        return Err(GrammarError::Syntax(format!("choice {index} is empty; give at least one character")));
    }
    let texts: Vec<String> = choices.iter().map(|choice| literal(choice)).collect();
    Ok(format!("start: CHOICE\nCHOICE: {}\n", texts.join(" | ")))
}

struct Scan<'a> {
    rest: &'a str,
    line: usize,
    limits: &'a GrammarLimits,
    /// Brackets that are open.
    open: usize,
    rules: usize,
    /// Classes of Unicode in all regular expressions.
    classes: usize,
}

impl Scan<'_> {
    fn next(&mut self) -> Option<char> {
        let letter = self.rest.chars().next()?;
        self.rest = &self.rest[letter.len_utf8()..];
        self.line += usize::from(letter == '\n');
        Some(letter)
    }

    fn letter(&mut self, letter: char) -> Result<(), GrammarError> {
        match letter {
            '#' => self.skip_line(),
            '/' if self.rest.starts_with('/') => self.skip_line(),
            '/' => {
                let pattern = self.until('/');
                self.classes += regex::check(&pattern, self.limits)
                    .map_err(|problem| self.syntax(&format!("the regular expression {problem}")))?;
                at_most("the grammar", "classes of Unicode", self.classes, self.limits.classes)?;
            }
            '"' => {
                self.until('"');
            }
            '(' | '[' | '{' => {
                self.open += 1;
                at_most(self.place(), "open brackets", self.open, self.limits.depth)?;
            }
            ')' | ']' | '}' => self.open = self.open.saturating_sub(1),
            ':' => {
                self.rules += 1;
                at_most("the grammar", "rules", self.rules, self.limits.rules)?;
            }
            '%' => {
                let word: String = self.rest.chars().take_while(char::is_ascii_alphanumeric).collect();
                if !STATEMENTS.contains(&word.as_str()) {
                    return Err(self.syntax(&format!("%{word} is not supported; %ignore and %import are")));
                }
            }
            '<' | '@' => {
                return Err(self
                    .syntax(&format!("{letter} is not supported: name neither tokens nor other grammars")));
            }
            '0'..='9' => self.check_number(letter)?,
            _ => {}
        }
        Ok(())
    }

    /// A number outside texts and names is a bound of a repetition.
    fn check_number(&mut self, first: char) -> Result<(), GrammarError> {
        let mut number = u64::from(first.to_digit(10).unwrap_or(0));
        while let Some(digit) = self.rest.chars().next().and_then(|next| next.to_digit(10)) {
            self.next();
            number = number.saturating_mul(10).saturating_add(u64::from(digit));
        }
        if number <= self.limits.repetitions {
            return Ok(());
        }
        Err(GrammarError::too_many(self.place(), "repetitions", number, self.limits.repetitions))
    }

    fn skip_line(&mut self) {
        while !self.rest.is_empty() && !self.rest.starts_with('\n') {
            self.next();
        }
    }

    /// The text up to an `end` that is not escaped, which is passed over.
    fn until(&mut self, end: char) -> String {
        let mut text = String::new();
        while let Some(letter) = self.next() {
            if letter == end {
                break;
            }
            text.push(letter);
            if letter == '\\' {
                text.extend(self.next());
            }
        }
        text
    }

    fn place(&self) -> String {
        format!("line {} of the grammar", self.line)
    }

    fn syntax(&self, problem: &str) -> GrammarError {
        GrammarError::Syntax(format!("{}: {problem}", self.place()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(text: &str) -> Result<(), String> {
        check(text, &GrammarLimits::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn usual_grammars_pass() {
        let text = "start: item (\",\" item)* // {99999999}\n# %json\nitem: /[a-z]{3}/ | NUMBER~1..3\n\
                    NUMBER: \"<99999999>\" | /\\/%json/\n%ignore / /\n%import common.INT\n";
        assert_eq!(verdict(text), Ok(()));
    }

    #[test]
    fn what_goes_round_the_limits_is_refused() {
        let deep = format!("start: {}\"a\"{}", "(".repeat(60_000), ")".repeat(60_000));
        let many: String = (0..2000).map(|rule| format!("r{rule}: \"a\"\n")).collect();
        for (text, part) in [
            ("start: %json {\"minItems\": 1}", "line 1 of the grammar: %json is not supported"),
            ("%llguidance {}\nstart: \"a\"", "%llguidance is not supported"),
            ("start: \"a\"\n  | <|im_end|>", "line 2"),
            ("start: @other", "is not supported"),
            ("start: \"a\"{0,1000000000}", "1000000000 repetitions"),
            ("start: \"a\" ~ 10001", "10001 repetitions"),
            ("start: /a{0,1000000000}/", "repeats something up to 1000000000 times"),
            (deep.as_str(), "open brackets"),
            (many.as_str(), "rules"),
        ] {
            let error = verdict(text).expect_err(part);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn literals_hold_any_text() {
        assert_eq!(literal("a\"\\\n\u{7f}é"), "\"a\\\"\\\\\\u000a\\u007fé\"");
    }
}
