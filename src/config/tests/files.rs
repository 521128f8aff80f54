//! Files that cannot be read as text.

use super::*;
use crate::config::load;

fn refused(bytes: &[u8]) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = path(&folder, "p.yaml");
    fs::write(&file, bytes).unwrap();
    let error = load(Some(&file), &Overrides::default()).unwrap_err();
    assert_eq!(error.lines().len(), 1, "{error}");
    let folder = folder.path().display().to_string();
    (error.to_string().replace(&folder, "/etc"), error.lines()[0].replace(&folder, "/etc"))
}

#[test]
fn says_why_a_file_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let load = |name: &str| {
        let error = load(Some(&path(&folder, name)), &Overrides::default()).unwrap_err();
        error.to_string().replace(&folder.path().display().to_string(), "/etc")
    };
    assert_eq!(
        load("none.yaml"),
        "cannot read /etc/none.yaml: No such file or directory (os error 2)\n  hint: check the path"
    );
    assert_eq!(load("."), "cannot read /etc/.: is a directory\n  hint: name the file in it");
}

#[test]
fn refuses_a_huge_file_without_reading_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = path(&folder, "huge.yaml");
    fs::File::create(&file).unwrap().set_len(1 << 30).unwrap();
    for file in [file.as_path(), Path::new("/dev/zero")] {
        let error = load(Some(file), &Overrides::default()).unwrap_err();
        assert!(matches!(error, ConfigError::TooLarge { limit: 1_048_576, .. }), "{error}");
    }
}

#[test]
fn says_what_a_file_is_instead_of_utf8() {
    let utf16: Vec<u8> = "kind: x\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let marked = [&[0xff, 0xfe][..], &utf16].concat();
    for bytes in [utf16, marked] {
        let (text, line) = refused(&bytes);
        assert_eq!(
            text,
            "/etc/p.yaml is not UTF-8 text: it looks like UTF-16LE\n  \
             hint: convert it: iconv -f UTF-16LE -t UTF-8 /etc/p.yaml > utf8.yaml"
        );
        assert!(!line.contains('\n'));
    }
    let (text, _) = refused(b"# ok\nzone: caf\xe9\n");
    assert_eq!(
        text,
        "/etc/p.yaml is not UTF-8 text: byte 14, in line 2, is no part of a character\n  \
         hint: save it as UTF-8; from Latin-1: iconv -f ISO-8859-1 -t UTF-8"
    );
    let big_endian: Vec<u8> = "kind".encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert!(refused(&big_endian).0.contains("UTF-16BE"));
}

#[test]
fn says_that_a_file_is_empty() {
    for text in ["", "\n\n", "# nothing\n", "---\n", "\u{feff}"] {
        let error = parse(text).unwrap_err();
        assert!(matches!(error, ConfigError::Empty { .. }), "{text:?}: {error}");
    }
}

#[test]
fn a_relative_file_starts_from_the_folder_of_the_configuration() {
    let folder = certificates();
    let file = path(&folder, "proxy.yaml");
    fs::write(&file, SAMPLE).unwrap();
    let config = load(Some(&file), &Overrides::default()).unwrap();
    assert_eq!(
        config.clusters[0].health_check.tls.clone().unwrap().ca_file,
        Some(path(&folder, "ca.crt"))
    );
}
