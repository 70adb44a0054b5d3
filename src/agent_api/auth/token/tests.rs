//! Token rules, row by row.
