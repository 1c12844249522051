//! Any bytes are a message, which is written as it was read, or are refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use naru_dbus::Message;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = Message::read(bytes)
        && let Ok(written) = message.write()
        // Numbers that are none are not equal to themselves.
        && !format!("{message:?}").contains("NaN")
    {
        assert_eq!(Message::read(&written), Ok(message));
    }
});
