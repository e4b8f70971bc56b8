//! The server client against scripted servers on the loopback interface.

#![allow(clippy::expect_used, clippy::panic)] // These are tests.

mod auth;
mod deployments;
mod download;
mod links;
mod mock;
mod mutual;
mod proxy;
mod tls;
mod token;
