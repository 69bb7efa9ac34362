//! Values between TOML and what is typed.

use toml::de::DeValue;

/// A value as it would be typed, a list as several.
pub(super) fn as_typed(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    match value {
        DeValue::Array(items) => items.iter().map(|item| scalar(item.get_ref())).collect(),
        other => Ok(vec![scalar(other)?]),
    }
}

fn scalar(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => {
            let value = i128::from_str_radix(number.as_str(), number.radix());
            value.map(|value| value.to_string()).map_err(|error| error.to_string())
        }
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(value) => Ok(value.to_string()),
        other => Err(format!(
            "a {} is no value of a setting; write a text, number, true, false or a list",
            other.type_str()
        )),
    }
}

/// A typed value as TOML: numbers and truth values plain, everything else quoted.
pub(super) fn as_toml(typed: &str) -> String {
    let plain = matches!(typed, "true" | "false") || is_number(typed);
    if plain { typed.to_owned() } else { toml::Value::String(typed.to_owned()).to_string() }
}

/// Whether TOML reads the number that was typed back as the same text.
fn is_number(typed: &str) -> bool {
    let is_integer = typed.parse::<i64>().is_ok_and(|value| value.to_string() == typed);
    let is_float =
        || typed.contains('.') && typed.parse::<f64>().is_ok_and(|value| value.to_string() == typed);
    is_integer || is_float()
}

#[cfg(test)]
mod tests {
    use super::*;
    use toml::de::DeTable;

    #[test]
    fn what_is_written_is_read_back() {
        for typed in ["8000", "0.5", "4GiB", "true", "a \"b\"\n\u{7}", "-3", "1e5", "007", "inf", "", "1.50"]
        {
            let text = format!("x = {}", as_toml(typed));
            let table = DeTable::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let value = table.get_ref().values().next().expect("a value");
            assert_eq!(as_typed(value.get_ref()), Ok(vec![typed.to_owned()]), "{text}");
        }
    }

    #[test]
    fn other_bases_are_read() {
        let table = DeTable::parse("x = 0x1F_F").expect("TOML");
        let value = table.get_ref().values().next().expect("a value");
        assert_eq!(as_typed(value.get_ref()), Ok(vec!["511".to_owned()]));
    }
}
