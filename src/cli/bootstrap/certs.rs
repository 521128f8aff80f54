//! `apiproxy bootstrap certs`: when certificates end, and their renewal.

use std::fmt::Write as _;

use super::access::{Access, Form};
use super::job::{Consent, Ending, Job, conclude, interrupts, unless_ended};
use crate::bootstrap::spec::Role;
use crate::bootstrap::steps::certs::renew::steps;
use crate::bootstrap::steps::certs::{Certificate, Renewer, Table, Unreached, table};
use crate::cli::{CliError, output, runtime};

/// Who has fewer days left is renewed, unless the user says otherwise: the third of a year.
const DAYS: i64 = 122;

/// Flags of `bootstrap certs`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Shows the certificates of control planes, kubelets, etcd and proxies, and those in kubeconfigs,
those that end first before others. Exit 0 when all hosts could be asked and none has ended, else 1.

Examples:
  apiproxy bootstrap certs --file cluster.yaml
  apiproxy bootstrap certs --host 'cp[1-3]' -o json
  apiproxy bootstrap certs renew --days 400         # all of them, whatever is left")]
pub(in crate::cli) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Renew in place what ends soon, on one host after the other.
    Renew(Renew),
}

/// Flags of `bootstrap certs renew`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
On a control plane, kubeadm renews all certificates and kubeconfigs that it made, and the components
are started anew; this is waited for before the next one's turn comes, and refused where etcd's quorum
would not hold meanwhile. Members of an external etcd take theirs up without a restart. Authorities are
not renewed, kubelet renews its own certificates, and `apply` renews the proxies'.

Kubeconfigs that were copied from a control plane go on until the end of the certificate in them: fetch
them anew with `apiproxy bootstrap kubeconfig`.")]
struct Renew {
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    consent: Consent,
    /// Renew hosts on which a certificate has fewer days left than this.
    #[arg(long, value_name = "N", default_value_t = DAYS, value_parser = clap::value_parser!(i64).range(1..=36_500))]
    days: i64,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    match &args.command {
        None => show(&args.access),
        Some(Command::Renew(args)) => renew(args),
    }
}

fn show(access: &Access) -> Result<(), CliError> {
    let site = access.open("certs")?;
    let found = runtime()?.block_on(async {
        let chosen = site.chosen.as_ref();
        let work = async { Ok(table(&site.cluster, &site.cx, chosen, site.parallel).await) };
        unless_ended(&mut interrupts()?, work).await
    })?;
    match site.form {
        Form::Json => output::emit_json(&found)?,
        Form::Text => output::emit(&render(&found))?,
    }
    let well = found.unreached.is_empty() && !found.certificates.iter().any(Certificate::has_ended);
    if well { Ok(()) } else { Err(CliError::Unwell) }
}

fn renew(args: &Renew) -> Result<(), CliError> {
    let site = args.access.open_if("certs-renew", |_| args.consent.can_be_had())?;
    let renewing = steps(&site.shared, &site.keys, args.days);
    let job = Job::new(&site, "apiproxy bootstrap certs renew", &renewing)?;
    let result = runtime()?.block_on(async {
        let ending = job.carry_out(&site, &args.consent, &mut interrupts()?).await?;
        let planes = site.cluster.with_role(Role::ControlPlane).next().is_some();
        if ending == Ending::Applied && planes && site.form == Form::Text {
            output::emit(
                "Copies of kubeconfigs go on until the end of the certificate in them; fetch them \
                 anew with `apiproxy bootstrap kubeconfig`.\n",
            )?;
        }
        Ok(())
    });
    conclude(&site, result)
}

fn render(table: &Table) -> String {
    let row = |one: &Certificate| {
        let left = if one.has_ended() { "ended".to_owned() } else { one.days_left.to_string() };
        let by = match one.renewed_by {
            Renewer::Renew => "certs renew",
            Renewer::Apply => "apply",
            Renewer::Kubelet => "kubelet",
            Renewer::Nobody => "nobody: an authority",
        };
        vec![left, one.ends.clone(), one.host.clone(), one.file.clone(), by.to_owned()]
    };
    let mut text = String::new();
    if !table.certificates.is_empty() {
        let header = ["DAYS LEFT", "ENDS", "HOST", "CERTIFICATE", "RENEWED BY"];
        text += &output::table(&header, table.certificates.iter().map(row).collect());
        text.push('\n');
    }
    let count = |which: fn(&Certificate) -> bool| {
        table.certificates.iter().filter(|one| which(one)).count()
    };
    let ended = count(Certificate::has_ended);
    let soon = count(|one| one.ending && !one.has_ended());
    let _ = writeln!(
        text,
        "{} certificates: {ended} have ended, {soon} end soon.",
        table.certificates.len()
    );
    if count(|one| one.ending && one.renewed_by == Renewer::Renew) > 0 {
        text += "`apiproxy bootstrap certs renew` renews them.\n";
    }
    for Unreached { host, why } in &table.unreached {
        let host = format!("{host}: ");
        let _ = writeln!(text, "{host}{}", why.strip_prefix(&host).unwrap_or(why));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(days_left: i64, file: &str, renewed_by: Renewer) -> Certificate {
        let (host, file) = ("cp1".to_owned(), file.to_owned());
        let ends = format!("20{}-01-01T00:00:00Z", 27 + days_left / 365);
        Certificate { days_left, host, file, ends, renewed_by, ending: days_left < 30 }
    }

    #[test]
    fn what_ends_first_and_who_renews_it_is_shown() {
        let table = Table {
            certificates: vec![
                one(-3, "/etc/kubernetes/admin.conf", Renewer::Renew),
                one(12, "/var/lib/kubelet/pki/kubelet-client-current.pem", Renewer::Kubelet),
                one(3000, "/etc/kubernetes/pki/ca.crt", Renewer::Nobody),
            ],
            unreached: vec![Unreached {
                host: "w1".to_owned(),
                why: "w1: no answer on port 22; is it up?".to_owned(),
            }],
        };
        assert_eq!(
            render(&table),
            "DAYS LEFT  ENDS                  HOST  CERTIFICATE                                      RENEWED BY\n\
             ended      2027-01-01T00:00:00Z  cp1   /etc/kubernetes/admin.conf                       certs renew\n\
             12         2027-01-01T00:00:00Z  cp1   /var/lib/kubelet/pki/kubelet-client-current.pem  kubelet\n\
             3000       2035-01-01T00:00:00Z  cp1   /etc/kubernetes/pki/ca.crt                       nobody: an authority\n\
             \n\
             3 certificates: 1 have ended, 1 end soon.\n\
             `apiproxy bootstrap certs renew` renews them.\n\
             w1: no answer on port 22; is it up?\n"
        );
        let none = render(&Table::default());
        assert_eq!(none, "0 certificates: 0 have ended, 0 end soon.\n");
    }
}
