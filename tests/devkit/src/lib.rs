//! Local environments for the demo, the tests and the benchmarks.
