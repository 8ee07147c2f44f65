//! The last checks, when everything has been seen.

use std::collections::BTreeMap;

use anyhow::Result;

use super::judge::{Books, differences, same_in_step};
use super::screen::{Paint, Screen};
use super::script::STEPS;
use super::table::count;
use super::walk::{Records, Seen};
use super::{ECHO, Verdict, WEB, answers};
use crate::identity::Identity;
use crate::lab::Lab;
use crate::load::long_lived::LongLivedState;

/// Judges the whole walk, and shows each check with its result.
pub(super) fn audit(lab: &Lab, records: &Records, screen: &mut Screen) -> Result<Verdict> {
    let answered = count(records.fresh.answered());
    let open = count(records.long_lived.connections.len() as u64);
    let (books, resent) = (books(lab, records)?, lab.retransmitted_syns()?);
    let checks = [
        Check {
            name: "new",
            holds: format!("{answered} connections, each answered in full"),
            complaints: failures(records),
        },
        Check {
            name: "long-lived",
            holds: format!("{open} connections, silent ones too: each answers where it began"),
            complaints: records.long_lived.check().err().iter().map(ToString::to_string).collect(),
        },
        Check {
            name: "shares",
            holds: "tables within one slot; observed within the joint 99.99% bound".to_owned(),
            complaints: shares(records),
        },
        Check {
            name: "counters",
            holds: format!(
                "clients, backends and kernel counted the same at {} places",
                books.len()
            ),
            complaints: [counters(records), differences(&books, resent)].concat(),
        },
    ];
    let paint = screen.paint();
    screen.say("\n")?;
    for check in &checks {
        screen.say(&check.lines(paint))?;
    }
    if resent > 0 {
        let note = format!("    clients sent {resent} SYNs again, which the kernel counts again\n");
        screen.say(&paint.dim(note))?;
    }
    let shifts = STEPS.len() - 1;
    Ok(Verdict {
        tried: format!("{answered} new connections, {open} long-lived, {shifts} shifts"),
        complaints: checks.into_iter().flat_map(|check| check.complaints).collect(),
    })
}

struct Check {
    name: &'static str,
    /// What is true if there are no complaints.
    holds: String,
    complaints: Vec<String>,
}

impl Check {
    fn lines(&self, paint: Paint) -> String {
        let Self { name, holds, complaints } = self;
        if complaints.is_empty() {
            return format!("  {} {name:<11} {holds}\n", paint.good("✓"));
        }
        let line = |complaint| format!("  {} {name:<11} {complaint}\n", paint.bad("✗"));
        complaints.iter().map(line).collect()
    }
}

/// Failed new connections, by step.
fn failures(records: &Records) -> Vec<String> {
    let mut all = records.fresh.failed();
    let mut complaints = Vec::new();
    for (index, seen) in records.seen.iter().enumerate() {
        let counts = seen.period.counts();
        all -= counts.failed();
        if counts.failed() > 0 {
            complaints.push(format!("{}: {counts}", step(index)));
        }
    }
    if all > 0 {
        complaints.push(format!("{all} connections failed that began between two steps"));
    }
    complaints
}

/// What is wrong with the shares of the steps, now that their last connections are answered.
fn shares(records: &Records) -> Vec<String> {
    let of_step = |(index, seen): (usize, &Seen)| {
        let wrong = seen.view(&records.long_lived).wrong_shares().into_iter();
        wrong.map(move |complaint| format!("{}: {complaint}", step(index))).collect::<Vec<_>>()
    };
    records.seen.iter().enumerate().flat_map(of_step).collect()
}

fn step(index: usize) -> String {
    format!("step {} ({})", index + 1, STEPS[index].title)
}

/// Steps in which the kernel counted something else than the clients.
fn counters(records: &Records) -> Vec<String> {
    let mut beside = records.fresh.by_version();
    for seen in &records.seen {
        for (beside, within) in beside.iter_mut().zip(seen.period.counts().by_version()) {
            *beside -= within;
        }
    }
    let steps = records.seen.iter().enumerate();
    let differing =
        steps.filter(|(_, seen)| !same_in_step(&seen.view(&records.long_lived).rows, beside));
    differing
        .map(|(index, seen)| {
            format!(
                "{}: the kernel counted {:?} connections to blue, green and canary, the clients \
                 {:?}, and {beside:?} between the steps",
                step(index),
                seen.counted,
                seen.period.counts().by_version(),
            )
        })
        .collect()
}

/// The connections to each server, by all who counted them.
fn books(lab: &Lab, records: &Records) -> Result<BTreeMap<String, Books>> {
    let kernel = answers::connections(lab)?;
    let web = records.fresh.by_backend();
    let echo = began(&records.long_lived);
    let mut books = BTreeMap::new();
    for (identity, served) in lab.served() {
        for (service, clients, backend) in
            [(WEB, &web, served.http_connections), (ECHO, &echo, served.echo_connections)]
        {
            let count = |counts: Option<&u64>| counts.copied().unwrap_or(0);
            let clients = count(clients.get(&identity));
            let kernel = count(kernel.get(&(service.to_owned(), identity)));
            books.insert(format!("{service} on {identity}"), Books { clients, backend, kernel });
        }
    }
    Ok(books)
}

/// Long-lived connections by the backend that greeted them.
fn began(state: &LongLivedState) -> BTreeMap<Identity, u64> {
    let mut counts = BTreeMap::new();
    for connection in &state.connections {
        if let Some(identity) = connection.identity {
            *counts.entry(identity).or_default() += 1;
        }
    }
    counts
}
