//! Recorded traffic: what is read, and how what is wrong is named.

use pagoda_lab::trace::{Format, TraceError, TraceReader};
use pagoda_lab::{Arrival, Prefix};
use pagoda_sched::Priority;
use std::io::Cursor;
use std::path::Path;

fn read(format: Format, text: &str) -> Result<Vec<Arrival>, TraceError> {
    TraceReader::new("trace".to_owned(), format, Cursor::new(text.to_owned().into_bytes()))?.collect()
}

fn csv(text: &str) -> Result<Vec<Arrival>, TraceError> {
    read(Format::Csv, text)
}

#[test]
fn both_formats_say_the_same() {
    let csv =
        csv("arrival_s,prompt_tokens,output_tokens,max_tokens,class,tenant,prefix_group,prefix_tokens\n\
                   0,10,5,,,,,\n\
                   0.5,100,20,200,urgent,\"a, b\",p,64\n\
                   0.5, 7 ,1,1,low,c,p,\n")
        .expect("a trace");
    let jsonl = read(
        Format::Jsonl,
        "{\"arrival_s\": 0, \"prompt_tokens\": 10, \"output_tokens\": 5, \"class\": null}\n\
         {\"arrival_s\": 0.5, \"prompt_tokens\": 100, \"output_tokens\": 20, \"max_tokens\": 200, \"class\": \"urgent\",\
          \"tenant\": \"a, b\", \"prefix_group\": \"p\", \"prefix_tokens\": 64}\n\n\
         {\"arrival_s\": 0.5, \"prompt_tokens\": 7, \"output_tokens\": 1, \"class\": \"low\", \"tenant\": \"c\", \"prefix_group\": \"p\"}",
    )
    .expect("a trace");
    assert_eq!(csv, jsonl);
    let plain = Arrival {
        at: 0.0,
        prompt_tokens: 10,
        output_tokens: 5,
        max_tokens: 5,
        class: Priority::Normal,
        tenant: 0,
        prefix: None,
    };
    assert_eq!(csv[0], plain);
    assert_eq!((csv[1].class, csv[1].tenant, csv[1].max_tokens), (Priority::Urgent, 1, 200));
    assert_eq!(csv[1].prefix, Some(Prefix { group: 0, tokens: 64 }));
    assert_eq!(csv[2].prefix, Some(Prefix { group: 0, tokens: 7 }), "the whole prompt");
}

#[test]
fn columns_come_in_any_order_and_lines_may_end_as_on_windows() {
    let all = csv("output_tokens,arrival_s,prompt_tokens\r\n3,1.5,2\r\n").expect("a trace");
    assert_eq!((all[0].at, all[0].prompt_tokens, all[0].output_tokens), (1.5, 2, 3));
    assert_eq!(csv("arrival_s,prompt_tokens,output_tokens\n").expect("an empty trace"), []);
}

#[test]
fn wrong_values_name_line_and_field() {
    let head = "arrival_s,prompt_tokens,output_tokens,max_tokens,class,tenant,prefix_group,prefix_tokens\n1,1,1,,,,,\n";
    for (line, named) in [
        ("-1,5,5,,,,,", "arrival_s: \"-1\" is outside of 0"),
        ("NaN,5,5,,,,,", "arrival_s: \"NaN\""),
        ("inf,5,5,,,,,", "arrival_s: \"inf\""),
        ("1e30,5,5,,,,,", "arrival_s: \"1e30\""),
        ("soon,5,5,,,,,", "arrival_s: \"soon\" is no number"),
        (",5,5,,,,,", "arrival_s: missing"),
        ("0.5,5,5,,,,,", "arrival_s: 0.5 is before 1 of the line above; sort"),
        ("2,,5,,,,,", "prompt_tokens: missing"),
        ("2,0,5,,,,,", "prompt_tokens: \"0\" is outside of 1"),
        ("2,-7,5,,,,,", "prompt_tokens: \"-7\""),
        ("2,1.5,5,,,,,", "prompt_tokens: \"1.5\" is no number"),
        ("2,99999999999,5,,,,,", "prompt_tokens: \"99999999999\" is outside of 1 to 16777216"),
        ("2,5, ,,,,,", "output_tokens: missing"),
        ("2,5,9,8,,,,", "output_tokens: 9 is more than max_tokens, which is 8"),
        ("2,5,9,0,,,,", "max_tokens: \"0\""),
        ("2,5,9,,vip,,,", "class: \"vip\" is no class; write low"),
        ("2,5,9,,,,p,6", "prefix_tokens: 6 is more than prompt_tokens, which is 5"),
        ("2,5,9,,,,,3", "prefix_tokens: given without prefix_group"),
    ] {
        let message = csv(&format!("{head}{line}\n")).expect_err(line).to_string();
        let expected = format!("trace, line 3, {}", named.replace('"', ""));
        assert!(message.replace('"', "").contains(&expected), "{message}\nis not\n{expected}");
    }
}

#[test]
fn lines_that_are_not_of_the_format_are_named() {
    for (text, named) in [
        (
            "arrival_s,prompt_tokens,output_token\n",
            "line 1: unknown field \"output_token\"; known are: arrival_s",
        ),
        ("arrival_s,arrival_s\n", "line 1: arrival_s is named twice"),
        ("arrival_s,prompt_tokens,output_tokens\n1,2,3\n1,2\n", "line 3"),
        ("arrival_s,prompt_tokens\n1,2\n", "line 2, output_tokens: missing"),
    ] {
        let message = csv(text).expect_err(text).to_string();
        assert!(message.contains(named), "{message}");
    }
    for (text, named) in [
        ("{\"arrival_s\": 0, \"prompt_tokens\": 1, \"output_tokens\": 1}\n[1]\n", "line 2: no JSON object"),
        ("\n{\"arrival_s\":", "line 2: no JSON"),
        ("{\"arrival\": 0}", "unknown field \"arrival\""),
        ("{\"arrival_s\": [0]}", "arrival_s is neither a number nor text"),
        ("{\"arrival_s\": 0, \"prompt_tokens\": 4294967296, \"output_tokens\": 1}", "line 1, prompt_tokens"),
    ] {
        let message = read(Format::Jsonl, text).expect_err(text).to_string();
        assert!(message.contains(named), "{message}");
    }
    let long = format!("arrival_s,prompt_tokens,output_tokens\n{}", "1".repeat(1 << 20));
    assert!(csv(&long).expect_err("a long line").to_string().contains("longer than 65536 bytes"));
}

#[test]
fn more_tenants_than_are_reported_on_are_refused() {
    let mut text = "arrival_s,prompt_tokens,output_tokens,tenant\n".to_owned();
    (0..=10_000).for_each(|tenant| text += &format!("0,1,1,t{tenant}\n"));
    let message = csv(&text).expect_err("too many").to_string();
    assert!(message.contains("line 10002, tenant: more than 10000"), "{message}");
}

#[test]
fn files_tell_their_format_by_their_name() {
    assert_eq!(Format::of(Path::new("a/b.csv")).expect("a format"), Format::Csv);
    assert_eq!(Format::of(Path::new("b.jsonl")).expect("a format"), Format::Jsonl);
    for name in ["trace", "trace.json", "csv", "trace.CSV.gz"] {
        let message = Format::of(Path::new(name)).expect_err(name).to_string();
        assert!(message.contains(".csv or .jsonl"), "{message}");
    }
    let message = TraceReader::open(Path::new("no/such/trace.csv")).expect_err("no file").to_string();
    assert!(message.starts_with("cannot read no/such/trace.csv"), "{message}");
}
