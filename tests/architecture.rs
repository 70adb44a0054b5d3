//! Rules of the source: imports between folders, pure folders, short files, no unfinished code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where something is wrong")]

mod architecture {
    mod circles;
    mod files;
    mod line_endings;
    mod modules;
    mod programs;
    mod source;
    mod vocabulary;
}
