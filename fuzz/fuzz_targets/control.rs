//! A line on the control socket: no panic; what is understood is said again in the same way; what is
//! not is refused with a message that fits a line.
#![no_main]

use apiproxy::control::{Answer, Reply, Request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match Request::decode(data) {
        Ok(request) => {
            let line = request.encode();
            assert_eq!(Request::decode(whole(&line)), Ok(request));
        }
        Err(refusal) => {
            let answer = Answer::Refused(refusal);
            let line = Reply::new(answer.clone()).encode();
            assert_eq!(Reply::decode(whole(&line)).unwrap().answer, answer);
        }
    }
    if let Ok(reply) = Reply::decode(data) {
        let line = reply.encode();
        let again = whole(&line);
        if let Answer::Events(_) = &reply.answer {
            assert_eq!(Reply::decode(again).unwrap(), reply);
        }
    }
});

/// The line without its end, which is the only one in it.
fn whole(line: &[u8]) -> &[u8] {
    let (end, text) = line.split_last().unwrap();
    assert!(*end == b'\n' && !text.contains(&b'\n'));
    text
}
