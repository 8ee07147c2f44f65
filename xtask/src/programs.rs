//! The test programs of the workspace: built, and where they are.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{lab, run};

/// The package whose tests have real traffic.
pub(crate) const LAB: &str = "weir-tests";

/// One test program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// Its package.
    pub(crate) package: String,
    /// The name of the file in `tests`, else of what it tests.
    pub(crate) name: String,
    /// Whether it is a file in `tests`.
    pub(crate) is_file: bool,
    /// The program.
    pub(crate) path: PathBuf,
    /// Where cargo would run it: its package's directory.
    pub(crate) directory: PathBuf,
}

impl Program {
    /// A file for its output in a directory: by its own name, for a package and its library may have
    /// the same.
    pub(crate) fn log(&self, directory: &Path, what: &str) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        directory.join(format!("{name}{what}.log"))
    }
}

/// Builds all of them. All together, so that what they depend on is built once for every use.
pub(crate) fn build(root: &Path) -> Result<Vec<Program>> {
    let line = "cargo test --workspace --no-run";
    run::say(&format!("\n{}", run::bold(&format!("== {line}"))));
    let mut cargo = lab::cargo(root, "test");
    cargo.args(["--workspace", "--no-run", "--message-format=json-render-diagnostics"]);
    let output = cargo.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("{line}: {}", output.status);
    }
    let text = String::from_utf8(output.stdout).context("cargo's messages")?;
    Ok(text.lines().filter_map(program).collect())
}

/// The test program that a message of cargo tells of, if it does.
fn program(line: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let directory = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
    let package = message["package_id"].as_str()?.rsplit_once('#')?;
    // `path+file:///weir/agent#weir@0.1.0`, or `…/xtask#0.1.0` where the two names are the same.
    let package = match package.1.split_once('@') {
        Some((name, _)) => name,
        None => package.0.rsplit('/').next()?,
    };
    Some(Program {
        package: package.to_owned(),
        name: message["target"]["name"].as_str()?.to_owned(),
        is_file: message["target"]["kind"][0] == "test",
        path: message["executable"].as_str()?.into(),
        directory,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn programs_are_read_from_what_cargo_says() {
        let line = |id: &str, kind: &str, test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"{id}","manifest_path":"/w/agent/Cargo.toml",
                "target":{{"name":"api","kind":["{kind}"]}},"profile":{{"test":{test}}},"executable":"/t/api-1"}}"#
            )
        };
        let weir = "path+file:///w/agent#weir@0.1.0";
        let one = program(&line(weir, "test", true)).unwrap();
        assert_eq!((one.package.as_str(), one.name.as_str(), one.is_file), ("weir", "api", true));
        assert_eq!((&*one.path, &*one.directory), ("/t/api-1".as_ref(), "/w/agent".as_ref()));
        assert_eq!(one.log(Path::new("/l"), ".again"), Path::new("/l/api-1.again.log"));
        let other = program(&line("path+file:///w/xtask#0.1.0", "bin", true)).unwrap();
        assert_eq!((other.package.as_str(), other.is_file), ("xtask", false));
        assert!(program(&line(weir, "lib", false)).is_none());
        assert!(program(r#"{"reason":"build-finished","success":true}"#).is_none());
        assert!(program("not JSON").is_none());
    }
}
