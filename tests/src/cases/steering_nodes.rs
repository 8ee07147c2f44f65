//! Nodes whose services have steering rules. All weight is on blue, but where a shift says else.

use weir::dataplane::kernel::Options;
use weir::dataplane::next_hop::NextHop;

use super::nodes::{AWAY, BARE, Spec};
use crate::program::SMALL;

const HOPS: &[(&str, NextHop)] = &[
    ("10.0.0.1", AWAY),
    ("10.0.0.2", AWAY),
    ("10.0.0.3", AWAY),
    ("10.0.0.11", AWAY),
    ("10.0.0.12", AWAY),
    ("10.0.0.21", AWAY),
    ("fd00::1", AWAY),
    ("fd00::2", AWAY),
    ("fd00::3", AWAY),
    ("fd00::11", AWAY),
    ("fd00::12", AWAY),
    ("fd00::21", AWAY),
];

/// All weight on blue, and these rules.
macro_rules! steered {
    ($v4:literal, $v6:literal) => {
        concat!(
            r#"
services:
  - name: steered4
    listeners:
      - { address: 198.51.100.1, port: 80, protocol: tcp }
      - { address: 198.51.100.1, port: 80, protocol: udp }
    versions:
      blue: { weight: 100%, backends: [{ address: 10.0.0.1, port: 8080 }] }
      green: { backends: [{ address: 10.0.0.2, port: 8080 }] }
      canary: { backends: [{ address: 10.0.0.3, port: 8080 }] }
    steering: ["#,
            $v4,
            r#"]
  - name: steered6
    listeners:
      - { address: "2001:db8::1", port: 80, protocol: tcp }
      - { address: "2001:db8::1", port: 80, protocol: udp }
    versions:
      blue: { weight: 100%, backends: [{ address: "fd00::1", port: 8080 }] }
      green: { backends: [{ address: "fd00::2", port: 8080 }] }
      canary: { backends: [{ address: "fd00::3", port: 8080 }] }
    steering: ["#,
            $v6,
            "]\n"
        )
    };
}

/// Rules of several lengths, one within another.
const RULES: &str = steered!(
    "
      { source: 10.0.0.0/8, version: canary },
      { source: 192.0.0.0/9, version: canary },
      { source: 192.0.2.0/24, version: green },
      { source: 192.0.2.128/25, version: canary },
      { source: 192.0.2.7/32, version: blue },
      { source: 192.0.2.254/31, version: blue }",
    r#"
      { source: "2001:db8::/32", version: canary },
      { source: "2001:db8:7::/48", version: green },
      { source: "2001:db8:7:8000::/49", version: canary },
      { source: "2001:db8:7::7/128", version: blue },
      { source: "2001:db8:7:0:8000::/65", version: canary },
      { source: "fd00::/8", version: canary }"#
);

/// A rule for everyone, a rule to a version that has no backend, and no rule at all.
const OTHERS: &str = r#"
services:
  - name: everyone4
    listeners: [{ address: 198.51.100.2, port: 80, protocol: tcp }]
    versions:
      blue: { weight: 100%, backends: [{ address: 10.0.0.11, port: 8080 }] }
      green: { backends: [{ address: 10.0.0.12, port: 8080 }] }
    steering: [{ source: 0.0.0.0/0, version: green }, { source: 192.0.2.7/32, version: canary }]
  - name: everyone6
    listeners: [{ address: "2001:db8::2", port: 80, protocol: tcp }]
    versions:
      blue: { weight: 100%, backends: [{ address: "fd00::11", port: 8080 }] }
      green: { backends: [{ address: "fd00::12", port: 8080 }] }
    steering: [{ source: "::/0", version: green }, { source: "2001:db8:7::7/128", version: canary }]
  - name: nobody4
    listeners: [{ address: 198.51.100.3, port: 80, protocol: tcp }]
    versions: { blue: { weight: 100%, backends: [{ address: 10.0.0.21, port: 8080 }] } }
  - name: nobody6
    listeners: [{ address: "2001:db8::3", port: 80, protocol: tcp }]
    versions: { blue: { weight: 100%, backends: [{ address: "fd00::21", port: 8080 }] } }
"#;

const NO_RULES: &str = steered!("", "");
/// One rule, to green.
const GREEN_RULE: &str = steered!(
    "{ source: 192.0.2.0/24, version: green }",
    r#"{ source: "2001:db8:7::/48", version: green }"#
);
/// The same, to canary.
const CANARY_RULE: &str = steered!(
    "{ source: 192.0.2.0/24, version: canary }",
    r#"{ source: "2001:db8:7::/48", version: canary }"#
);
/// The rule to green, and one within it.
const WITHIN: &str = steered!(
    "{ source: 192.0.2.0/24, version: green }, { source: 192.0.2.7/32, version: canary }",
    r#"{ source: "2001:db8:7::/48", version: green }, { source: "2001:db8:7::7/128", version: canary }"#
);

pub(super) static STEERED: Spec = Spec { name: "steered", services: RULES, hops: HOPS, ..BARE };
pub(super) static OTHER_RULES: Spec = Spec { name: "other-rules", services: OTHERS, ..STEERED };

/// A rule has just come, has gone, leads to another version, or has one within it.
pub(super) static ADDED: Spec =
    Spec { name: "rule-added", services: NO_RULES, then: &[GREEN_RULE], ..STEERED };
pub(super) static REMOVED: Spec =
    Spec { name: "rule-removed", services: GREEN_RULE, then: &[NO_RULES], ..STEERED };
pub(super) static CHANGED: Spec =
    Spec { name: "rule-changed", services: GREEN_RULE, then: &[CANARY_RULE], ..STEERED };
pub(super) static NESTED: Spec =
    Spec { name: "rule-within", services: GREEN_RULE, then: &[WITHIN], ..STEERED };
/// It has come and gone again.
pub(super) static BACK_AGAIN: Spec =
    Spec { name: "rule-reverted", services: NO_RULES, then: &[GREEN_RULE, NO_RULES], ..STEERED };

const TO_CANARY: &[(&str, [u32; 3])] =
    &[("steered4", [0, 0, 10_000]), ("steered6", [0, 0, 10_000])];
/// All weight has gone to canary, under a rule that stays, and under one that has just come.
pub(super) static SHIFTED: Spec =
    Spec { name: "shift-under-rule", services: GREEN_RULE, shifts: TO_CANARY, ..STEERED };
pub(super) static BOTH: Spec = Spec { name: "shift-and-rule", shifts: TO_CANARY, ..ADDED };

/// Flows come faster than they may be remembered.
const FLOOD: Options = Options { inserts_per_second: 0, ..SMALL };
pub(super) static STEERED_FLOOD: Spec = Spec { name: "steered-flood", options: FLOOD, ..STEERED };
pub(super) static ADDED_FLOOD: Spec = Spec { name: "rule-added-flood", options: FLOOD, ..ADDED };
pub(super) static REMOVED_FLOOD: Spec =
    Spec { name: "rule-removed-flood", options: FLOOD, ..REMOVED };
