//! The stores of the coordinator's state. What every store must do is tested of each, by the same
//! functions: with a directory, and with a real etcd.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

#[path = "ledger/conformance.rs"]
mod conformance;
#[path = "ledger/etcd.rs"]
mod etcd;
#[path = "ledger/file.rs"]
mod file;
#[path = "ledger/secure.rs"]
mod secure;
#[path = "ledger/world.rs"]
mod world;

/// The same test of each store.
macro_rules! of_each_store {
    ($($name:ident)*) => {
        mod of_files {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::conformance::$name(super::world::World::files()).await;
            })*
        }
        mod of_etcd {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::conformance::$name(super::world::World::etcd()).await;
            })*
        }
    };
}

of_each_store! {
    what_is_saved_is_loaded
    one_leads_and_fences_grow
    a_change_of_what_was_not_read_is_refused
    a_refused_save_keeps_nothing
    history_is_bounded_and_its_numbers_go_on
    what_is_too_large_or_too_much_is_refused
    a_command_is_put_once_and_answered_once
    two_contenders_do_each_command_exactly_once
    a_follower_sees_a_change_within_a_second
    another_takes_over_when_the_holder_is_killed
    a_holder_that_was_paused_does_no_harm
}
