//! Stored text is a record or an error; a record survives the round trip.
#![no_main]

use dagd::core::record::Record;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    if let Ok(record) = serde_json::from_slice::<Record>(text) {
        let stored = serde_json::to_vec(&record).expect("a record is plain data");
        let again: Record = serde_json::from_slice(&stored).expect("was just written");
        assert_eq!(again, record);
    }
});
