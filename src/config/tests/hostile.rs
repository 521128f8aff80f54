//! Files that no one means well: nothing may panic, hang or take much memory.

use proptest::prelude::*;

use super::*;

#[test]
fn truncated_samples_never_panic() {
    for end in 0..=SAMPLE.len() {
        let _any = parse(&SAMPLE[..end]);
    }
}

#[test]
fn flipped_bits_never_panic() {
    for index in 0..SAMPLE.len() {
        for bit in [0, 1, 4, 5, 6] {
            let mut bytes = SAMPLE.as_bytes().to_vec();
            bytes[index] ^= 1 << bit;
            if let Ok(text) = std::str::from_utf8(&bytes)
                && let Err(error) = parse(text)
            {
                assert!(!error.to_string().is_empty());
            }
        }
    }
}

#[test]
fn alias_bombs_are_refused() {
    let text = format!(
        "{HEAD}a: &a {}\nb: &b [{}]\nc: [{}]\n",
        "x".repeat(500_000),
        ["*a"; 50].join(","),
        ["*b"; 50].join(",")
    );
    assert!(parse(&text).unwrap_err().to_string().contains("far more"));
    let laugh = |level: usize| match level.checked_sub(1) {
        None => "a0: &a0 [x, x]
"
        .to_owned(),
        Some(last) => format!(
            "a{level}: &a{level} [*a{last}, *a{last}]
"
        ),
    };
    let laughs: String = (0..40).map(laugh).collect();
    assert!(parse(&laughs).unwrap_err().to_string().contains("far more"));
}

#[test]
fn deep_nests_are_refused() {
    for text in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(50_000)] {
        assert!(matches!(parse(&text).unwrap_err(), ConfigError::Syntax(_)));
    }
    let lines: Vec<_> = (0..500)
        .map(|level| {
            format!(
                "{}a:
",
                " ".repeat(level)
            )
        })
        .collect();
    let block = lines.concat();
    assert!(matches!(parse(&block).unwrap_err(), ConfigError::Syntax(_)));
}

#[test]
fn only_a_hundred_faults_are_told() {
    let keys: Vec<_> = (0..20_000)
        .map(|key| {
            format!(
                "key{key}: 1
"
            )
        })
        .collect();
    for tail in [
        keys.concat(),
        "kind: ProxyConfiguration
"
        .repeat(20_000),
    ] {
        let error = parse(&format!("{HEAD}{tail}")).unwrap_err();
        assert_eq!(error.faults().unwrap().as_slice().len(), 100);
        assert!(error.to_string().ends_with(
            "
and more; fix these first"
        ));
    }
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in any::<String>(), tail in "[ -~\n\t]{0,200}") {
        for text in [text, format!("{HEAD}{tail}")] {
            if let Err(error) = parse(&text) {
                prop_assert!(error.to_string().chars().all(|c| c == '\n' || !c.is_control()));
                prop_assert!(error.lines().iter().all(|line| !line.is_empty()));
            }
        }
    }

    #[test]
    fn arbitrary_splices_never_panic(
        start in 0..SAMPLE.len(), length in 0..60_usize, with in "[-\\[\\]{}:,&*!|>'\"%@`#?a0 \n\t]{0,8}"
    ) {
        let end = (start + length).min(SAMPLE.len());
        let _any = parse(&format!("{}{with}{}", &SAMPLE[..start], &SAMPLE[end..]));
    }
}
