//! The documentation at the top of the repository agrees with the code.
// Helpers of tests count as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod readme {
    mod generated;
    mod links;
}
