//! The session against a world that loses, repeats and reorders everything it is allowed to, and case by case.

mod cases;
mod properties;
mod world;
