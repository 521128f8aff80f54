//! Landlock: the files and TCP ports that stay within reach.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    Scope,
};

use super::{Plan, Report};

/// The newest version whose rights over files are meant here: with ioctl on devices, Linux 6.10.
/// TCP ports came with version 4 (6.7), signals with version 6 (6.12).
const FILES: ABI = ABI::V5;

/// Restricts the calling thread, as far as the kernel can.
pub(super) fn restrict(plan: &Plan, report: &mut Report) {
    let what = "files and TCP ports (Landlock)";
    match apply(plan) {
        Ok(status) => match status.ruleset {
            RulesetStatus::FullyEnforced => report.done.push(what.to_owned()),
            RulesetStatus::PartiallyEnforced => {
                report.done.push("files (Landlock)".to_owned());
                report.missing.push(format!(
                    "this kernel's Landlock does not know all of files, TCP ports and signals: {:?}",
                    status.landlock
                ));
            }
            RulesetStatus::NotEnforced => {
                report.missing.push(format!("{what}: this kernel has none, or it is switched off"));
            }
        },
        Err(error) => report.missing.push(format!("{what}: {error}")),
    }
}

fn apply(plan: &Plan) -> Result<RestrictionStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(FILES))?
        .scope(Scope::Signal)?;
    if !plan.connect_anywhere {
        // To listen is not restricted: a reload may add a listener.
        rules = rules.handle_access(AccessNet::ConnectTcp)?;
    }
    let mut rules = rules.create()?;
    let mut read = AccessFs::ReadFile | AccessFs::ReadDir;
    if cfg!(target_env = "gnu") {
        // The modules of glibc that look names up.
        read |= AccessFs::Execute;
    }
    let write = AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeSock
        | AccessFs::RemoveFile;
    let paths = plan.read.iter().map(|path| (path, read));
    for (path, access) in paths.chain(plan.write.iter().map(|path| (path, write))) {
        // What is not there cannot be opened, and stays out of reach if it comes.
        let Ok(at) = PathFd::new(path) else { continue };
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(FILES) };
        rules = rules.add_rule(PathBeneath::new(at, access))?;
    }
    for port in plan.connect.iter().filter(|_| !plan.connect_anywhere) {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    rules.restrict_self()
}
