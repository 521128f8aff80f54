//! An address that is understood is printed so that it is understood again, as the same one.
#![no_main]

use apiproxy::model::BackendAddress;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match text.parse::<BackendAddress>() {
        Ok(address) => {
            let printed = address.to_string();
            let again = printed.parse::<BackendAddress>();
            assert_eq!(again.as_ref(), Ok(&address), "{text:?} was printed as {printed:?}");
            assert_eq!(again.map(|address| address.to_string()), Ok(printed));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
