//! The page: plain HTML that asks for itself again every two seconds. No script. Pure.

use std::fmt::Write as _;

use weir_proto::rollout::v1::{Agent, Metric, Rollout, Step};

use crate::model::weight::percent;

/// What a browser lets the page do: nothing but its own style.
pub const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
                          form-action 'none'; frame-ancestors 'none'";

const STYLE: &str = "\
:root{color-scheme:light dark;font:15px/1.45 system-ui,sans-serif}body{margin:2rem auto;max-width:70rem;padding:0 1rem}\
h1{font-size:1.2rem}h2{font-size:1.1rem;margin:2rem 0 .2rem}table{border-collapse:collapse;margin:.6rem 0}\
th,td{text-align:left;padding:.15rem .9rem .15rem 0;white-space:nowrap}th{opacity:.65;font-weight:normal}\
td.n{text-align:right;font-variant-numeric:tabular-nums}ol{padding-left:1.4rem}li.done{opacity:.6}li.running{font-weight:600}\
li.waiting{opacity:.75}.phase{padding:.05rem .5rem;border-radius:.6rem;border:1px solid}.healthy{color:#1a7f37}\
.degraded,.aborting,.rolling-back,.bad{color:#c62828}.paused{color:#a86500}meter{width:8rem}small{opacity:.65}";

/// The page of all rollouts, as they are at `now_ms`.
#[must_use]
pub fn render(rollouts: &[Rollout], now_ms: i64) -> String {
    let mut html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=2>\
         <meta name=viewport content=\"width=device-width\"><title>weir rollouts</title>\
         <style>{STYLE}</style><h1>weir rollouts</h1>"
    );
    if rollouts.is_empty() {
        html.push_str("<p>No rollout yet: <code>weir rollout run FILE</code>.");
    }
    for one in rollouts {
        rollout(&mut html, one, now_ms);
    }
    html.push_str(
        "<footer><p><small>Read-only: promote and abort with <code>weir rollout</code>. \
         Series for Prometheus: <a href=/metrics>/metrics</a>; JSON: <a href=/rollouts>/rollouts</a>.\
         </small></footer></html>",
    );
    html
}

fn rollout(html: &mut String, rollout: &Rollout, now_ms: i64) {
    let Rollout { service, revision, strategy, phase, activity, reason, held, .. } = rollout;
    let seconds = now_ms.saturating_sub(rollout.since_ms).max(0) / 1_000;
    // Writing to a string cannot fail.
    let _ = write!(
        html,
        "<h2>{} {} <span class=\"phase {}\">{}</span></h2><p>{} {} <small>for {seconds} s</small><br>{}",
        text(service),
        text(revision),
        text(phase),
        text(phase),
        text(strategy),
        text(activity),
        text(reason),
    );
    if !held.is_empty() {
        let _ = write!(html, "<br><span class=bad>{}</span>", text(held));
    }
    html.push_str("<ol>");
    for Step { text: what, state, .. } in &rollout.steps {
        let _ = write!(html, "<li class=\"{}\">{}</li>", text(state), text(what));
    }
    html.push_str("</ol><table><tr><th>agent<th>blue<th>green<th>canary<th>shares<th>conn/s");
    for one in &rollout.agents {
        agent(html, one);
    }
    html.push_str("</table>");
    if let Some(analysis) = &rollout.analysis {
        let _ = write!(html, "<p>{}: {}", text(&analysis.verdict), text(&analysis.text));
        html.push_str("<table><tr><th>metric<th>new<th>old<th>ratio<th>evidence<th>");
        for one in &analysis.metrics {
            metric(html, one);
        }
        html.push_str("</table>");
    }
}

fn agent(html: &mut String, agent: &Agent) {
    let _ = write!(html, "<tr><td>{}", text(&agent.name));
    if !agent.reachable {
        let _ = write!(html, "<td colspan=5 class=bad>away: {}", text(&agent.error));
        return;
    }
    for version in &agent.versions {
        let _ = write!(html, "<td class=n>{}", percent(version.weight_bp));
    }
    let _ = write!(html, "<td>{}<td class=n>{:.0}", text(&agent.share), agent.connections_per_s);
}

fn metric(html: &mut String, metric: &Metric) {
    let ratio = metric.ratio.map_or_else(|| "?".to_owned(), |ratio| format!("×{ratio:.2}"));
    let part =
        if metric.bound > 0.0 { (metric.evidence / metric.bound).clamp(0.0, 1.0) } else { 0.0 };
    let _ = write!(
        html,
        "<tr><td>{}<td class=n>{} of {}<td class=n>{} of {}<td class=n>{ratio}<td><meter value={part:.2}></meter>\
         <td>10^{:.1} of 10^{:.1}",
        text(&metric.name),
        metric.candidate_failures,
        metric.candidate_n,
        metric.baseline_failures,
        metric.baseline_n,
        metric.evidence,
        metric.bound,
    );
}

/// Text that is only text to a browser.
fn text(raw: &str) -> String {
    let mut safe = String::with_capacity(raw.len());
    for character in raw.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_only_text() {
        let bad = "<script>alert('x')</script>".to_owned();
        let step = Step { text: bad.clone(), ..Step::default() };
        let rollout = Rollout {
            service: "shop".to_owned(),
            revision: bad.clone(),
            reason: bad.clone(),
            steps: vec![step],
            ..Rollout::default()
        };
        let html = render(&[rollout], 0);
        assert!(!html.contains("<script"), "{html}");
        assert!(html.contains("&lt;script&gt;"));
        for outside in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
    }
}
