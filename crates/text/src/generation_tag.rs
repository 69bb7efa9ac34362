//! `{% generation %}` … `{% endgeneration %}`: marks what a model was trained to say. For inference it is only a scope.

/// Replaces both tags by `with` and `endwith`, which have the same scope and the same whitespace rules.
pub(crate) fn as_scopes(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find('{') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let length = if rest.starts_with("{#") {
            comment_len(rest)
        } else if rest.starts_with("{%") || rest.starts_with("{{") {
            tag_len(rest)
        } else {
            1
        };
        let (token, after) = rest.split_at(length);
        match renamed(token) {
            Some(tag) => out.push_str(&tag),
            None => out.push_str(token),
        }
        rest = after;
        if tag_name(token) == Some("raw") {
            let end = raw_len(rest);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    out
}

fn comment_len(text: &str) -> usize {
    text.find("#}").map_or(text.len(), |end| end + 2)
}

/// Length of a block or variable tag; its end inside a quoted text does not count.
fn tag_len(text: &str) -> usize {
    let close = if text.starts_with("{%") { "%}" } else { "}}" };
    let mut quote = None;
    let mut escaped = false;
    for (index, letter) in text.char_indices().skip(2) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if letter == '\\' => escaped = true,
            Some(open) if letter == open => quote = None,
            Some(_) => {}
            None if letter == '"' || letter == '\'' => quote = Some(letter),
            None if text[index..].starts_with(close) => return index + close.len(),
            None => {}
        }
    }
    text.len()
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
    use super::as_scopes;

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
}
