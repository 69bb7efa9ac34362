//! Patterns of names of modules, as files write them: the part of Python's regular expressions that such patterns use.
//!
//! A pattern is matched with the set of all places at once, a bit each, so that no pattern takes longer than its length times
//! that of the name, for each repetition around it.

use std::iter::Peekable;
use std::str::Bytes;

/// Longest pattern, in bytes.
const MAX_BYTES: usize = 512;
/// Longest name that can match, in bytes: places are the bits of a `u128`.
const MAX_NAME: usize = 127;
/// Most groups in each other.
const MAX_DEPTH: usize = 16;
/// Most repetitions in each other.
const MAX_REPEATS: usize = 2;

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(Node);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    /// One byte that is, or is not, in one of the ranges.
    Byte(Vec<(u8, u8)>, bool),
    Sequence(Vec<Node>),
    Either(Vec<Node>),
    /// So many times, without end if there is no most.
    Repeat(Box<Node>, u32, Option<u32>),
    Start,
    End,
    /// What follows does, or does not, match.
    Ahead(Box<Node>, bool),
}

impl Pattern {
    /// Reads a pattern; fails with what is wrong with it.
    pub(crate) fn read(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_BYTES {
            return Err("is longer than 512 bytes");
        }
        let mut reader = Reader { bytes: text.bytes().peekable(), depth: 0 };
        let node = reader.either()?;
        if reader.bytes.next().is_some() {
            return Err("closes a group that is not open");
        }
        if node.repeats() > MAX_REPEATS {
            return Err("has more than two repetitions in each other");
        }
        Ok(Self(node))
    }

    /// Whether the pattern matches the beginning of `name`.
    pub(crate) fn matches(&self, name: &str) -> bool {
        name.len() <= MAX_NAME && self.0.run(name.as_bytes(), 1) != 0
    }
}

impl Node {
    /// Repetitions in each other.
    fn repeats(&self) -> usize {
        let most = |nodes: &[Self]| nodes.iter().map(Self::repeats).max().unwrap_or(0);
        match self {
            Self::Byte(..) | Self::Start | Self::End => 0,
            Self::Sequence(nodes) | Self::Either(nodes) => most(nodes),
            Self::Repeat(node, ..) => 1 + node.repeats(),
            // It is run from each place by itself.
            Self::Ahead(node, _) => 1 + node.repeats(),
        }
    }

    /// Places where the node ends if it begins at one of `places`.
    fn run(&self, text: &[u8], places: u128) -> u128 {
        let bit = |place: usize| 1u128 << place;
        match self {
            Self::Byte(ranges, within) => {
                let fits =
                    |byte: u8| ranges.iter().any(|(low, high)| (*low..=*high).contains(&byte)) == *within;
                let here = text.iter().enumerate().filter(|(i, byte)| places & bit(*i) != 0 && fits(**byte));
                here.fold(0, |ends, (i, _)| ends | bit(i + 1))
            }
            Self::Sequence(nodes) => nodes.iter().fold(places, |places, node| node.run(text, places)),
            Self::Either(nodes) => nodes.iter().fold(0, |ends, node| ends | node.run(text, places)),
            Self::Repeat(node, least, most) => {
                let start = (0..*least).fold(places, |places, _| node.run(text, places));
                let (mut ends, mut last, mut left) = (start, start, most.map(|most| most - least));
                while last != 0 && left != Some(0) {
                    last = node.run(text, last) & !ends;
                    ends |= last;
                    left = left.map(|left| left - 1);
                }
                ends
            }
            Self::Start => places & 1,
            Self::End => places & bit(text.len()),
            Self::Ahead(node, wanted) => {
                let holds = |place: &usize| {
                    places & bit(*place) != 0 && (node.run(text, bit(*place)) != 0) == *wanted
                };
                (0..=text.len()).filter(holds).fold(0, |places, place| places | bit(place))
            }
        }
    }
}

struct Reader<'a> {
    bytes: Peekable<Bytes<'a>>,
    depth: usize,
}

const UNREAD: &str = "uses a construct that is not read";

impl Reader<'_> {
    fn either(&mut self) -> Result<Node, &'static str> {
        let mut nodes = vec![self.sequence()?];
        while self.bytes.next_if_eq(&b'|').is_some() {
            nodes.push(self.sequence()?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Either(nodes) })
    }

    fn sequence(&mut self) -> Result<Node, &'static str> {
        let mut nodes = Vec::new();
        while let Some(byte) = self.bytes.next_if(|byte| !b"|)".contains(byte)) {
            let node = match byte {
                b'^' => Node::Start,
                b'$' => Node::End,
                b'.' => Node::Byte(vec![(0, u8::MAX)], true),
                b'[' => self.class()?,
                b'(' => self.group()?,
                b'\\' => escape(self.bytes.next())?,
                b'*' | b'+' | b'?' => return Err("repeats nothing"),
                byte => Node::Byte(vec![(byte, byte)], true),
            };
            nodes.push(self.repeated(node)?);
        }
        Ok(Node::Sequence(nodes))
    }

    fn repeated(&mut self, node: Node) -> Result<Node, &'static str> {
        let Some(byte) = self.bytes.next_if(|byte| b"*+?{".contains(byte)) else { return Ok(node) };
        let (least, most) = match byte {
            b'*' => (0, None),
            b'+' => (1, None),
            b'?' => (0, Some(1)),
            _ => self.counts()?,
        };
        if most.is_some_and(|most| most < least) {
            return Err("repeats fewer times at most than at least");
        }
        // One that takes as little as it can matches the same names.
        self.bytes.next_if_eq(&b'?');
        Ok(Node::Repeat(Box::new(node), least, most))
    }

    /// `{n}`, `{n,}` or `{n,m}`, from behind the brace on.
    fn counts(&mut self) -> Result<(u32, Option<u32>), &'static str> {
        let least = self.number()?;
        let comma = self.bytes.next_if_eq(&b',').is_some();
        let most = match self.bytes.peek() {
            Some(b'}') if comma => None,
            _ if comma => Some(self.number()?),
            _ => Some(least),
        };
        if self.bytes.next() == Some(b'}') {
            Ok((least, most))
        } else {
            Err("counts in a way that is not read")
        }
    }

    fn number(&mut self) -> Result<u32, &'static str> {
        let mut number = None;
        while let Some(digit) = self.bytes.next_if(u8::is_ascii_digit) {
            number = Some(number.unwrap_or(0) * 10 + u32::from(digit - b'0'));
            if number > Some(MAX_NAME as u32) {
                return Err("counts to more than 127");
            }
        }
        number.ok_or("counts in a way that is not read")
    }

    /// From behind the opening parenthesis to the closing one.
    fn group(&mut self) -> Result<Node, &'static str> {
        let kind = match self.bytes.next_if_eq(&b'?') {
            Some(_) => self.bytes.next().filter(|kind| b":=!".contains(kind)).ok_or(UNREAD)?,
            None => b':',
        };
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("has more than 16 groups in each other");
        }
        let node = self.either()?;
        self.depth -= 1;
        if self.bytes.next() != Some(b')') {
            return Err("leaves a group open");
        }
        Ok(if kind == b':' { node } else { Node::Ahead(Box::new(node), kind == b'=') })
    }

    /// From behind the opening bracket to the closing one.
    fn class(&mut self) -> Result<Node, &'static str> {
        let within = self.bytes.next_if_eq(&b'^').is_none();
        let mut ranges = Vec::new();
        loop {
            let low = match self.bytes.next().ok_or("leaves a set open")? {
                b']' if !ranges.is_empty() => return Ok(Node::Byte(ranges, within)),
                b'\\' => match escape(self.bytes.next())? {
                    Node::Byte(one, true) if one.len() == 1 && one[0].0 == one[0].1 => one[0].0,
                    Node::Byte(more, true) => {
                        ranges.extend(more);
                        continue;
                    }
                    _ => return Err(UNREAD),
                },
                byte => byte,
            };
            let high = match self.bytes.next_if_eq(&b'-') {
                None => low,
                Some(_) => match self.bytes.next().ok_or("leaves a set open")? {
                    // A bar at the end stands for itself.
                    b']' => {
                        ranges.extend([(low, low), (b'-', b'-')]);
                        return Ok(Node::Byte(ranges, within));
                    }
                    high => high,
                },
            };
            ranges.push((low, high));
        }
    }
}

/// What stands behind a backslash.
fn escape(byte: Option<u8>) -> Result<Node, &'static str> {
    let word = vec![(b'0', b'9'), (b'A', b'Z'), (b'_', b'_'), (b'a', b'z')];
    match byte.ok_or("ends with a backslash")? {
        b'd' => Ok(Node::Byte(vec![(b'0', b'9')], true)),
        b'D' => Ok(Node::Byte(vec![(b'0', b'9')], false)),
        b'w' => Ok(Node::Byte(word, true)),
        b'W' => Ok(Node::Byte(word, false)),
        byte if byte.is_ascii_alphanumeric() => Err(UNREAD),
        byte => Ok(Node::Byte(vec![(byte, byte)], true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_the_beginnings_of_names() {
        let name = "model.layers.17.mlp.gate";
        for (pattern, matches) in [
            (".*mlp.gate$", true),
            (".*mlp.gate", true),
            ("mlp.gate", false),
            ("model.layers.17", true),
            (r"model\.layers\.\d+\.mlp\.(gate|up)$", true),
            (r"^model\.layers\.(1[0-6]|[2-9])\..*", false),
            (r"model\.layers\.[0-9]{2}\.", true),
            (r"model\.layers\.[0-9]{3,}\.", false),
            (r"(?!.*lm_head).*", true),
            (r"^(?!model).*$", false),
            (r"(?:.*\.)?gate$", true),
            (r".*\.(q|k|v|o)_proj", false),
            (r"[^l]+\.[a-z]+?\.\w+", false),
            (r"m[^l]+l\.[a-z]+?\.\w+\.", true),
            ("", true),
            ("(x|)model", true),
            ("$", false),
        ] {
            let read = Pattern::read(pattern).unwrap_or_else(|problem| panic!("{pattern} {problem}"));
            assert_eq!(read.matches(name), matches, "{pattern}");
        }
        assert!(!Pattern::read(".*").unwrap().matches(&"x".repeat(128)));
        assert!(Pattern::read(".*x$").unwrap().matches(&"x".repeat(127)));
    }

    #[test]
    fn what_is_not_read_is_told() {
        for pattern in [
            "(", ")", "a)", "[", "[a", "*", "a{", "a{3", "a{200}", "a{2,1}", "(?P<a>b)", r"\b", r"a\",
            "((a*)*)*",
        ] {
            assert!(Pattern::read(pattern).is_err(), "{pattern}");
        }
        assert!(Pattern::read(&"a".repeat(513)).is_err());
        assert!(Pattern::read(&"(".repeat(100)).is_err());
    }

    #[test]
    fn repetitions_in_each_other_end() {
        let pattern = Pattern::read("(a*)*(a*)*(a*)*b").unwrap();
        assert!(!pattern.matches(&"a".repeat(120)));
    }
}
