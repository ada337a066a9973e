//! What several test programs need. Each uses a part of it.
#![allow(dead_code, reason = "each test program uses a part")]

pub mod images;
