//! The house rules, checked on the source itself: rooms and arrows, pure rooms, short files, no loose ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where something is wrong")]

mod architecture {
    mod files;
    mod line_endings;
    mod rooms;
    mod source;
}
