//! What is to be done, from a description of the machine. Pure.

use std::fmt;
use std::path::{Path, PathBuf};

use super::machine::{Machine, Rights};
use crate::bpf::Core;

/// The release of bpf-linker that setup builds.
const LINKER_VERSION: &str = "0.13.0";
/// The LLVM of the distribution's newest compiler, as long as that compiler is not there to ask.
const DISTRIBUTION_LLVM: u32 = 22;
/// How to get a compiler where the distribution has none.
const NIGHTLY: &str =
    "rustup toolchain install nightly --profile minimal --component rust-src --component clippy";

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Update apt's lists.
    Update,
    /// Install these packages of Debian's.
    Packages(Vec<String>),
    /// Install a rustup nightly with rust-src.
    Nightly,
    /// Build bpf-linker for this LLVM major, whose development files are at `prefix`.
    Linker { llvm: u32, prefix: PathBuf },
}

/// The steps that this machine needs, in order; none if nothing is missing. Only the first is
/// sure: the later ones assume what it will bring.
pub(super) fn plan(machine: &Machine) -> Vec<Step> {
    let offered = machine.apt.is_some_and(|apt| apt.offers_core);
    let nightly = machine.compiler.is_none() && !offered && machine.rustup;
    let distribution = match &machine.compiler {
        Some(compiler) => compiler.core == Core::Prebuilt,
        None => !nightly,
    };
    let llvm =
        machine.compiler.as_ref().map_or(DISTRIBUTION_LLVM, |compiler| compiler.version.llvm);

    let mut packages = Vec::new();
    if distribution && machine.compiler.is_none() {
        packages.extend(["rustc-web", "libstd-rust-web-dev-bpf"].map(str::to_owned));
    }
    if distribution && machine.clippy.is_none() {
        packages.push("rust-web-clippy".to_owned());
    }
    if machine.linker.is_none() && machine.llvm.is_none() {
        packages.push(format!("llvm-{llvm}-dev"));
    }
    let tools = machine.tools.iter().filter(|tool| tool.path.is_none());
    packages.extend(tools.map(|tool| tool.package.to_owned()));

    let mut steps = Vec::new();
    // Also before a nightly: old lists may hide that the distribution has a compiler.
    if machine.apt.is_some_and(|apt| !apt.fresh) && (nightly || !packages.is_empty()) {
        steps.push(Step::Update);
    }
    if nightly {
        steps.push(Step::Nightly);
    }
    if !packages.is_empty() {
        steps.push(Step::Packages(packages));
    }
    if machine.linker.is_none() {
        let prefix = machine.llvm.clone().unwrap_or_else(|| format!("/usr/lib/llvm-{llvm}").into());
        steps.push(Step::Linker { llvm, prefix });
    }
    steps
}

/// Why this machine cannot do the step, if so.
pub(super) fn obstacle(machine: &Machine, step: &Step) -> Option<&'static str> {
    match step {
        Step::Packages(_) if machine.apt.is_none() => Some("there is no apt-get here"),
        _ if step.needs_root() && machine.rights == Rights::None => {
            Some("it needs root, and there is no sudo")
        }
        _ => None,
    }
}

/// The line that a person would type for the step.
pub(super) fn by_hand(machine: &Machine, step: &Step, tools: &Path) -> String {
    let line = step.command(tools).join(" ");
    match step {
        Step::Packages(packages) if machine.apt.is_none() => {
            format!("(by your package manager, what Debian calls) {}", packages.join(" "))
        }
        _ if !step.needs_root() => line,
        _ => match machine.rights {
            Rights::Root => line,
            Rights::Sudo => format!("sudo {line}"),
            Rights::None => format!("{line}    # as root"),
        },
    }
}

impl Step {
    /// The program and its arguments. Built tools go to `tools`.
    pub(super) fn command(&self, tools: &Path) -> Vec<String> {
        let apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-oDPkg::Lock::Timeout=120"];
        let mut line = Vec::new();
        match self {
            Self::Update => {
                line.extend(apt.map(str::to_owned));
                line.push("update".to_owned());
            }
            Self::Packages(packages) => {
                line.extend(apt.map(str::to_owned));
                // A package that would drive out another, such as an older rustc, is refused.
                line.extend(
                    ["install", "--yes", "--no-install-recommends", "--no-remove"]
                        .map(str::to_owned),
                );
                line.extend_from_slice(packages);
            }
            Self::Nightly => line.extend(NIGHTLY.split(' ').map(str::to_owned)),
            Self::Linker { llvm, prefix } => line.extend([
                "env".to_owned(),
                format!("LLVM_PREFIX={}", prefix.display()),
                "CARGO_PROFILE_RELEASE_DEBUG=0".to_owned(),
                "CARGO_PROFILE_RELEASE_OPT_LEVEL=1".to_owned(),
                "cargo".to_owned(),
                "install".to_owned(),
                "--locked".to_owned(),
                "--force".to_owned(),
                "--no-default-features".to_owned(),
                format!("--features=llvm-{llvm}"),
                format!("--root={}", tools.display()),
                format!("bpf-linker@{LINKER_VERSION}"),
            ]),
        }
        line
    }

    /// Must root do it?
    pub(super) fn needs_root(&self) -> bool {
        matches!(self, Self::Update | Self::Packages(_))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Update => f.write_str("updating apt's lists"),
            Self::Packages(packages) => write!(f, "installing {}", packages.join(", ")),
            Self::Nightly => f.write_str("installing a rustup nightly with rust-src"),
            Self::Linker { llvm, .. } => {
                write!(f, "building bpf-linker {LINKER_VERSION} for LLVM {llvm}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::{Apt, Kernel, Tool};
    use super::*;
    use crate::bpf::{Compiler, Version};

    /// A Debian with nothing of what weir needs.
    fn bare() -> Machine {
        Machine {
            compiler: None,
            clippy: None,
            linker: None,
            llvm: None,
            tools: vec![Tool { name: "ethtool", package: "ethtool", path: None }],
            apt: Some(Apt { fresh: true, offers_core: true }),
            rustup: true,
            rights: Rights::Root,
            kernel: Kernel { release: "6.12".to_owned(), btf: true, capabilities: u64::MAX },
        }
    }

    fn compiler(core: Core, llvm: u32) -> Compiler {
        let version = Version { release: "1.96.0".to_owned(), llvm };
        Compiler { rustc: "rustc".into(), cargo: "cargo".into(), version, core }
    }

    /// The same with all of it.
    fn ready() -> Machine {
        let there = Some(PathBuf::from("/x"));
        Machine {
            compiler: Some(compiler(Core::Prebuilt, 22)),
            clippy: there.clone(),
            linker: there.clone(),
            tools: vec![Tool { name: "ethtool", package: "ethtool", path: there }],
            apt: Some(Apt { fresh: false, offers_core: false }),
            ..bare()
        }
    }

    fn packages(names: &[&str]) -> Step {
        Step::Packages(names.iter().map(ToString::to_string).collect())
    }

    fn linker(llvm: u32, prefix: &str) -> Step {
        Step::Linker { llvm, prefix: prefix.into() }
    }

    #[test]
    fn a_ready_machine_needs_nothing() {
        assert_eq!(plan(&ready()), []);
        // Neither apt nor rights matter then.
        assert_eq!(plan(&Machine { apt: None, rights: Rights::None, ..ready() }), []);
    }

    #[test]
    fn a_bare_debian_gets_the_distributions_compiler() {
        let all = packages(&[
            "rustc-web",
            "libstd-rust-web-dev-bpf",
            "rust-web-clippy",
            "llvm-22-dev",
            "ethtool",
        ]);
        assert_eq!(plan(&bare()), [all, linker(22, "/usr/lib/llvm-22")]);
    }

    #[test]
    fn lists_are_updated_once_and_only_to_install() {
        let stale = Some(Apt { fresh: false, offers_core: false });
        assert_eq!(plan(&Machine { apt: stale, ..bare() }).first(), Some(&Step::Update));
        assert!(!plan(&bare()).contains(&Step::Update));
        let only_the_linker = Machine { linker: None, llvm: Some("/l".into()), ..ready() };
        assert_eq!(plan(&only_the_linker), [linker(22, "/l")]);
    }

    #[test]
    fn a_nightly_stands_in_where_the_distribution_has_no_compiler() {
        let apt = Some(Apt { fresh: true, offers_core: false });
        let steps = plan(&Machine { apt, ..bare() });
        assert_eq!(steps[..2], [Step::Nightly, packages(&["llvm-22-dev", "ethtool"])]);
        // Without rustup the distribution is asked all the same, and says what it has not.
        assert!(!plan(&Machine { apt, rustup: false, ..bare() }).contains(&Step::Nightly));
    }

    #[test]
    fn the_linker_follows_the_compilers_llvm() {
        let machine = Machine {
            compiler: Some(compiler(Core::Source, 23)),
            linker: None,
            clippy: None,
            ..ready()
        };
        let expected = [Step::Update, packages(&["llvm-23-dev"]), linker(23, "/usr/lib/llvm-23")];
        assert_eq!(plan(&machine), expected);
    }

    #[test]
    fn says_why_it_cannot_and_what_to_type() {
        let step = packages(&["rustc-web", "ethtool"]);
        let hand = |machine: &Machine, step: &Step| by_hand(machine, step, Path::new("/t"));
        let powerless = Machine { rights: Rights::None, ..bare() };
        assert!(obstacle(&powerless, &step).is_some());
        assert!(hand(&powerless, &step).ends_with("--no-remove rustc-web ethtool    # as root"));
        assert_eq!(obstacle(&powerless, &linker(22, "/l")), None, "cargo needs no root");
        assert!(!hand(&powerless, &linker(22, "/l")).contains("root "));

        let user = Machine { rights: Rights::Sudo, ..bare() };
        assert_eq!(obstacle(&user, &step), None);
        assert!(hand(&user, &step).starts_with("sudo env DEBIAN_FRONTEND"));

        let other = Machine { apt: None, ..bare() };
        assert!(obstacle(&other, &step).is_some());
        assert!(hand(&other, &step).ends_with(" rustc-web ethtool"));
        assert_eq!(plan(&other).first(), Some(&Step::Nightly));
        assert_eq!(obstacle(&bare(), &step), None);
    }

    #[test]
    fn a_path_with_a_space_stays_one_argument() {
        let line = linker(22, "/l").command(Path::new("/a b"));
        assert!(line.contains(&"--root=/a b".to_owned()), "{line:?}");
    }
}
