//! The registry: one generic implementation of every verb for every kind.

pub mod names;
pub mod strategies;
mod strategy;

pub use strategy::{Cell, Column, Context, Reservation, Strategy};
