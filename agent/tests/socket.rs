//! The socket file: its mode, and of whom it is.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::{fs, os::unix::fs::PermissionsExt as _};

use weir::api::socket::{SocketError, bind};

#[tokio::test]
async fn only_owner_and_group_may_use_it_and_it_goes_with_the_agent() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/weir.sock");
    let (_listener, guard) = bind(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    drop(guard);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_live_agent_keeps_it_and_a_dead_one_leaves_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weir.sock");
    let (listener, guard) = bind(&path).unwrap();
    assert!(matches!(bind(&path), Err(SocketError::InUse(_))));
    // Also when it has removed the file and is about to end.
    guard.unlink();
    assert!(matches!(bind(&path), Err(SocketError::InUse(_))));
    drop((listener, guard));

    // What a killed agent leaves: a file that nobody listens at.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let (_listener, _guard) = bind(&path).unwrap();
}

#[tokio::test]
async fn what_belongs_to_others_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weir.sock");
    fs::write(&path, "a file").unwrap();
    assert!(matches!(bind(&path), Err(SocketError::NotASocket(_))));
    assert_eq!(fs::read_to_string(&path).unwrap(), "a file");

    let path = directory.path().join("other.sock");
    let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(matches!(bind(&path), Err(SocketError::InUse(_))));
    assert!(path.exists());
}
