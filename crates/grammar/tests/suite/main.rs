//! Constraints over a vocabulary of bytes: what they let through, what is refused, and what never happens.

mod bombs;
mod common;
mod corpus;
mod largest;
mod matching;
mod refusals;
mod validator;
