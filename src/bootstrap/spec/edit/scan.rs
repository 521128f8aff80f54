//! Where scalars and collections of a YAML text end. The text is known to be YAML.

/// Where a scalar ends that begins here. In a flow collection, a plain one ends at its signs too.
pub(super) fn scalar_end(text: &str, at: usize, flow: bool) -> usize {
    let bytes = text.as_bytes();
    match bytes.get(at) {
        Some(b'"') => {
            let mut end = at + 1;
            while end < bytes.len() && bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            (end + 1).min(bytes.len())
        }
        Some(b'\'') => {
            let mut end = at + 1;
            loop {
                match (bytes.get(end), bytes.get(end + 1)) {
                    (Some(b'\''), Some(b'\'')) => end += 2,
                    (Some(b'\'') | None, _) => return (end + 1).min(bytes.len()),
                    _ => end += 1,
                }
            }
        }
        _ => {
            let rest = &bytes[at..];
            let ends = |place: usize| match rest[place] {
                b'\n' | b'\r' => true,
                b'#' => place > 0 && is_blank(rest[place - 1]),
                b',' | b']' | b'}' => flow,
                b':' => rest.get(place + 1).is_none_or(u8::is_ascii_whitespace),
                _ => false,
            };
            let end = (0..rest.len()).find(|place| ends(*place)).unwrap_or(rest.len());
            at + text[at..at + end].trim_end().len()
        }
    }
}

/// Where a flow collection ends that begins here, behind its bracket.
pub(super) fn flow_end(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut depth, mut place) = (0_usize, at);
    // Quotes begin a scalar only where one can begin.
    let mut fresh = true;
    while let Some(byte) = bytes.get(place) {
        match byte {
            b'"' | b'\'' if fresh => {
                place = scalar_end(text, place, true);
                fresh = false;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(place + 1);
                }
            }
            b'#' if place > at && bytes[place - 1].is_ascii_whitespace() => {
                place = line_end(text, place);
                continue;
            }
            _ => {}
        }
        if !byte.is_ascii_whitespace() {
            fresh = matches!(byte, b'{' | b'[' | b',' | b':');
        }
        place += 1;
    }
    None
}

/// Where a block collection ends that begins here, inside an item whose dash has this column: behind its
/// last line that is no blank and no comment of what follows, without the line's end.
pub(super) fn block_end(text: &str, at: usize, dash: usize) -> usize {
    let mut end = line_end(text, at);
    let mut next = end;
    while next < text.len() {
        let start = next + 1;
        next = line_end(text, start.min(text.len()));
        let line = &text[start.min(next)..next];
        let indent = line.len() - line.trim_start_matches(' ').len();
        match line.trim() {
            "" => {}
            _ if indent > dash => end = next,
            words if words.starts_with('#') => {}
            _ => break,
        }
    }
    end
}

/// The next character that is neither blank nor in a comment.
pub(super) fn next_sign(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut place = at;
    loop {
        match bytes.get(place)? {
            b'#' => place = line_end(text, place),
            byte if byte.is_ascii_whitespace() => place += 1,
            _ => return Some(place),
        }
    }
}

/// Where the line of this place begins.
pub(super) fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |end| end + 1)
}

/// Where the line of this place ends, before its line feed.
pub(super) fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |end| at + end)
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}
