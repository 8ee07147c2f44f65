//! The page: one file without anything from elsewhere.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use sha2::{Digest as _, Sha256};

const STYLE: &str = include_str!("page/page.css");
/// One module in several files.
const SCRIPT: &str = concat!(
    include_str!("page/words.js"),
    include_str!("page/judge.js"),
    include_str!("page/tables.js"),
    include_str!("page/charts.js"),
    include_str!("page/service.js"),
    include_str!("page/node.js"),
    include_str!("page/page.js"),
);

/// The page, style and script inside.
pub(super) static HTML: LazyLock<Bytes> = LazyLock::new(|| {
    let html = include_str!("page/page.html");
    html.replace("/*style*/", STYLE).replace("/*script*/", SCRIPT).into()
});

/// What a browser lets the page do: run this script and no other, with this style, and fetch from
/// where it came from.
pub(super) static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    // Always such text; without a policy the browser's own would do, too.
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_comes_from_elsewhere() {
        let html = String::from_utf8_lossy(&HTML);
        for outside in ["http://", "https://", "src=", "@import", "url(", "innerHTML", "eval("] {
            let known = html.replace("http://www.w3.org/2000/svg", "");
            assert!(!known.contains(outside), "{outside}");
        }
        assert_eq!((html.matches("<script").count(), html.matches("<style").count()), (1, 1));
        assert!(!html.contains("/*style*/") && !html.contains("/*script*/"));
        // A hash is of what stands between the tags, to the letter.
        assert!(html.contains(&format!("<script type=\"module\">{SCRIPT}</script>")));
        assert!(html.contains(&format!("<style>{STYLE}</style>")));
        assert!(POLICY.to_str().is_ok_and(|policy| policy.matches("sha256-").count() == 2));
    }
}
