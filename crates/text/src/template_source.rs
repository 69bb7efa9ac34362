//! What happens to the text of a chat template before the engine compiles it.
//!
//! `{% generation %}` … `{% endgeneration %}` marks what a model was trained to say; for inference it is only a scope,
//! so both tags become `with` and `endwith`, which have the same scope and the same whitespace rules.

/// Templates are a few kilobytes; the largest known ones stay below 100.
const MAX_BYTES: usize = 1 << 20;
/// The engine's parser recurses once per operator of an expression, so a longer chain could exhaust a thread's stack.
const MAX_OPERATORS: usize = 1000;
/// It recurses once per `elif`, too.
const MAX_ELIFS: usize = 250;

/// Why a template is refused before it is compiled.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooComplex {
    /// From 1.
    pub(crate) line: usize,
    pub(crate) problem: String,
}

/// Normalizes line ends, turns generation tags into scopes and refuses what the engine's parser cannot bear.
pub(crate) fn prepare(source: &str) -> Result<String, TooComplex> {
    if source.len() > MAX_BYTES {
        let problem = format!("the template has {} bytes; at most {MAX_BYTES} are accepted", source.len());
        return Err(TooComplex { line: 1, problem });
    }
    // Jinja reads every kind of line end as `\n`.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    let mut elifs = 0;
    while let Some(start) = rest.find('{') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let (token, after) = rest.split_at(token_len(rest));
        rest = after;
        let name = tag_name(token);
        elifs += usize::from(name == Some("elif"));
        if let Some(problem) = too_complex(token, elifs) {
            return Err(TooComplex { line: 1 + out.matches('\n').count(), problem });
        }
        match renamed(token) {
            Some(tag) => out.push_str(&tag),
            None => out.push_str(token),
        }
        if name == Some("raw") {
            let end = raw_len(rest);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn too_complex(token: &str, elifs: usize) -> Option<String> {
    if elifs > MAX_ELIFS {
        return Some(format!("more than {MAX_ELIFS} `elif` in one template"));
    }
    let is_tag = token.starts_with("{%") || token.starts_with("{{");
    (is_tag && operators(token) > MAX_OPERATORS)
        .then(|| format!("more than {MAX_OPERATORS} operators in one tag; split the expression"))
}

/// Counts what an expression can be chained by, outside quoted texts. Separators of lists and dictionaries are none.
fn operators(tag: &str) -> usize {
    let bare = unquoted(tag);
    let signs =
        bare.matches(|letter: char| letter.is_ascii_punctuation() && !",:_'\"".contains(letter)).count();
    let is_operator = |word: &str| matches!(word, "not" | "and" | "or" | "if" | "else" | "is" | "in");
    signs
        + bare
            .split(|letter: char| !letter.is_alphanumeric() && letter != '_')
            .filter(|word| is_operator(word))
            .count()
}

/// The tag without its quoted texts.
fn unquoted(tag: &str) -> String {
    let mut quotes = Quotes::default();
    tag.chars().filter(|letter| !quotes.holds(*letter)).collect()
}

/// Follows quoted texts through a tag.
#[derive(Default)]
struct Quotes {
    open: Option<char>,
    escaped: bool,
}

impl Quotes {
    /// Takes the next letter; whether it belongs to a quoted text, quotes included.
    fn holds(&mut self, letter: char) -> bool {
        match self.open {
            Some(_) if self.escaped => self.escaped = false,
            Some(_) if letter == '\\' => self.escaped = true,
            Some(open) if letter == open => self.open = None,
            Some(_) => {}
            None if letter == '"' || letter == '\'' => self.open = Some(letter),
            None => return false,
        }
        true
    }
}

/// Length of what begins with this brace: a comment, a tag or the brace alone.
fn token_len(text: &str) -> usize {
    if text.starts_with("{#") {
        text.find("#}").map_or(text.len(), |end| end + 2)
    } else if text.starts_with("{%") {
        tag_len(text, "%}")
    } else if text.starts_with("{{") {
        tag_len(text, "}}")
    } else {
        1
    }
}

/// Length of a block or variable tag; its end inside a quoted text does not count.
fn tag_len(text: &str, close: &str) -> usize {
    let mut quotes = Quotes::default();
    let mut letters = text.char_indices().skip(2);
    let end = letters.find(|(index, letter)| !quotes.holds(*letter) && text[*index..].starts_with(close));
    end.map_or(text.len(), |(index, _)| index + close.len())
}

/// Length of literal text up to its `endraw` tag.
fn raw_len(text: &str) -> usize {
    let tags = text.match_indices("{%");
    let mut ends = tags.filter(|(index, _)| tag_name(&text[*index..]) == Some("endraw"));
    ends.next().map_or(text.len(), |(index, _)| index)
}

/// The first word of a block tag.
fn tag_name(tag: &str) -> Option<&str> {
    let body = tag.strip_prefix("{%")?.trim_start_matches(['-', '+']).trim_start();
    let end = body.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(body.len());
    Some(&body[..end])
}

fn renamed(tag: &str) -> Option<String> {
    match tag_name(tag)? {
        "generation" => Some(tag.replacen("generation", "with", 1)),
        "endgeneration" => Some(tag.replacen("endgeneration", "endwith", 1)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_scopes(source: &str) -> String {
        prepare(source).unwrap()
    }

    #[test]
    fn tags_become_scopes_and_keep_their_whitespace_marks() {
        assert_eq!(
            as_scopes("a {%- generation -%} b {%endgeneration+%} c"),
            "a {%- with -%} b {%endwith+%} c"
        );
    }

    #[test]
    fn texts_comments_raw_blocks_and_longer_names_stay() {
        for source in [
            "{{ '{% generation %}' }}",
            "{# {% generation %} #}",
            "{% raw %}{% generation %}{% endraw %}",
            "{% raw %}{% generation %}{%- endraw -%}{{ x }}",
            "{% generation_x %}",
            "{% if x == '%} {% generation %}' %}",
            "{% set a = \"\\\"{% generation %}\" %}",
            "{ % generation % } {",
            "{% unterminated 'quote",
            "{{ a",
            "{#",
            "{%",
        ] {
            assert_eq!(as_scopes(source), source);
        }
    }

    #[test]
    fn a_tag_after_raw_and_comment_is_found_again() {
        assert_eq!(
            as_scopes("{% raw %}{{{% endraw %}{# x #}{% generation %}é{% endgeneration %}"),
            "{% raw %}{{{% endraw %}{# x #}{% with %}é{% endwith %}"
        );
    }

    #[test]
    fn a_large_table_is_no_complex_expression() {
        let table = format!("{{% set t = {{{}}} %}}", "\"a-b+c\": 'not x - y', ".repeat(2000));
        assert_eq!(as_scopes(&table), table);
    }

    #[test]
    fn what_the_parser_cannot_bear_is_refused_with_its_line() {
        let chain =
            |operator: &str, count: usize| prepare(&format!("a\n\n{{{{ 1{} }}}}", operator.repeat(count)));
        for operator in ["+1", " and 1", "|d", ".b", "[0]", " if 1 else 1", "-", " is x"] {
            assert!(chain(operator, 400).is_ok(), "{operator}");
            assert_eq!(chain(operator, 1001).unwrap_err().line, 3, "{operator}");
        }
        let elifs =
            |count: usize| prepare(&format!("{{% if 1 %}}{}{{% endif %}}", "\n{% elif 1 %}".repeat(count)));
        assert!(elifs(MAX_ELIFS).is_ok());
        assert_eq!(elifs(MAX_ELIFS + 1).unwrap_err().line, MAX_ELIFS + 2);
        assert!(prepare(&"x".repeat(MAX_BYTES)).is_ok());
        assert!(prepare(&"x".repeat(MAX_BYTES + 1)).is_err());
    }

    #[test]
    fn every_line_end_is_one() {
        assert_eq!(as_scopes("a\r\nb\rc\n"), "a\nb\nc\n");
    }
}
