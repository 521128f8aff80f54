//! Addresses of pods and services.

use std::net::IpAddr;

use super::Check;
use super::roles::NODES;
use super::roster::Roster;
use crate::bootstrap::spec::cidr::{Cidr, CidrError};
use crate::bootstrap::spec::{Cni, Network, Overrides, shape, syntax};
use crate::config::quoted;

const PODS: &str = "spec.network.podCIDR";
const SERVICES: &str = "spec.network.serviceCIDR";

/// Bits for services: kube-apiserver takes no more.
const SERVICE_BITS: u8 = 20;

/// Bits for the pods of nodes that kube-controller-manager can tell apart.
const NODE_BITS: u8 = 16;

impl Check<'_> {
    pub(super) fn network(
        &mut self,
        raw: shape::Network,
        roster: &Roster,
        overrides: &Overrides,
    ) -> Network {
        let pods = self.cidrs(PODS, raw.pod_cidr.as_deref().unwrap_or("10.244.0.0/16"));
        let services = self.cidrs(SERVICES, raw.service_cidr.as_deref().unwrap_or("10.96.0.0/12"));
        self.families(&pods, &services, roster);
        for pod in &pods {
            if let Some(service) = services.iter().find(|service| service.overlaps(pod)) {
                let hint = "give pods and services ranges of their own";
                self.fault(
                    PODS,
                    format!("{pod} overlaps {service}, the addresses of services"),
                    hint,
                );
            }
            self.room(pod, roster, overrides);
        }
        for service in &services {
            let least = service.bits() - SERVICE_BITS;
            if service.prefix < least {
                let hint = format!("write a prefix of at least /{least}");
                self.fault(SERVICES, format!("{service} is more than kube-apiserver takes"), hint);
            } else if service.prefix > service.bits() - 4 {
                let hint = format!("write a prefix of at most /{}", service.bits() - 4);
                self.fault(SERVICES, format!("{service} has no room for services"), hint);
            }
        }
        for (at, what, cidrs) in [(PODS, "pods", &pods), (SERVICES, "services", &services)] {
            let inside = roster.each().find_map(|(_, host)| {
                cidrs.iter().find(|cidr| cidr.contains(host.address)).map(|cidr| (host, cidr))
            });
            if let Some((host, cidr)) = inside {
                let message =
                    format!("{}, the address of {}, is in {cidr}", host.address, host.name);
                self.fault(at, message, format!("choose addresses for {what} that no host has"));
            }
        }
        let tuples =
            |cidrs: &[Cidr]| cidrs.iter().map(|cidr| (cidr.address, cidr.prefix)).collect();
        Network {
            pod_cidrs: tuples(&pods),
            service_cidrs: tuples(&services),
            dns_domain: self.dns_domain(raw.dns_domain),
            cni: self.cni(raw.cni),
        }
    }

    /// One range, or one of each family.
    fn cidrs(&mut self, at: &str, text: &str) -> Vec<Cidr> {
        let mut cidrs = Vec::<Cidr>::new();
        for part in text.split(',').map(str::trim) {
            match part.parse::<Cidr>() {
                Ok(cidr) if cidrs.iter().any(|other| other.is_ipv6() == cidr.is_ipv6()) => {
                    let hint = "write one range, or one of IPv4 and one of IPv6";
                    let message = format!("{cidr} is a second range of the same family");
                    self.fault(at, message, hint);
                }
                Ok(cidr) if !cidr.is_unicast() => {
                    let hint = "take a private range, such as 10.244.0.0/16";
                    let message =
                        format!("{cidr} has addresses that pods and services cannot have");
                    self.fault(at, message, hint);
                }
                Ok(cidr) => cidrs.push(cidr),
                Err(CidrError::NotFirst(network)) => {
                    let message = format!("{} is not the first address of its range", quoted(part));
                    self.fault(at, message, format!("write {network}"));
                }
                Err(CidrError::Syntax) => {
                    let hint = "write ADDRESS/PREFIX, such as 10.244.0.0/16; for dual stack two with a comma";
                    self.fault(at, format!("{} is no range of addresses", quoted(part)), hint);
                }
            }
        }
        cidrs
    }

    /// Pods and services have the same families in the same order, and nodes the first of them.
    fn families(&mut self, pods: &[Cidr], services: &[Cidr], roster: &Roster) {
        let families = |cidrs: &[Cidr]| cidrs.iter().map(Cidr::is_ipv6).collect::<Vec<_>>();
        let (Some(first), Some(_)) = (services.first(), pods.first()) else { return };
        if families(pods) != families(services) {
            let name = |ipv6: bool| if ipv6 { "IPv6" } else { "IPv4" };
            let list =
                |cidrs| families(cidrs).into_iter().map(name).collect::<Vec<_>>().join(", then ");
            let message = format!("services have {}, pods {}", list(services), list(pods));
            self.fault(SERVICES, message, "give both the same families in the same order");
            return;
        }
        let node = |address: IpAddr| address.is_ipv6() != first.is_ipv6();
        let other = roster.each().find(|(_, host)| {
            host.roles.iter().any(|role| NODES.contains(role)) && node(host.address)
        });
        if let Some((site, host)) = other {
            let spot = self.spot(site, "address");
            let message =
                format!("{} is not of the first family of services, {first}", host.address);
            let hint = "give the node an address of that family, or put the other family first";
            self.fault_at(&spot, message, hint);
        }
    }

    /// Each node gets a part of the addresses of pods: is there one for each?
    fn room(&mut self, pods: &Cidr, roster: &Roster, overrides: &Overrides) {
        let flags = &overrides.controller_manager;
        if flags.get("allocate-node-cidrs").is_some_and(|value| value == "false") {
            return;
        }
        let family =
            if pods.is_ipv6() { "node-cidr-mask-size-ipv6" } else { "node-cidr-mask-size-ipv4" };
        let given = flags.get(family).or_else(|| flags.get("node-cidr-mask-size"));
        let default = if pods.is_ipv6() { 64 } else { 24 };
        let mask = given.and_then(|text| text.parse::<u8>().ok()).unwrap_or(default);
        let nodes = roster.count(&NODES);
        let Some(bits) = mask.checked_sub(pods.prefix) else {
            let hint = format!("write a prefix of at most /{mask}, what one node gets");
            self.fault(PODS, format!("{pods} has no room for one node"), hint);
            return;
        };
        if bits > NODE_BITS {
            let hint = format!("write a prefix of at least /{}", mask - NODE_BITS);
            self.fault(
                PODS,
                format!("{pods} is more than kube-controller-manager can divide"),
                hint,
            );
        } else if nodes > 1 << bits {
            let message = format!(
                "{pods} has room for {} nodes (a /{mask} each), there are {nodes}",
                1 << bits
            );
            let needed = (0..=NODE_BITS).find(|bits| nodes <= 1 << bits).unwrap_or(NODE_BITS);
            self.fault(
                PODS,
                message,
                format!("write a prefix of at most /{}", mask.saturating_sub(needed)),
            );
        }
    }

    fn dns_domain(&mut self, raw: Option<String>) -> String {
        let domain = raw.unwrap_or_else(|| "cluster.local".to_owned());
        if !syntax::is_name(&domain, 253) {
            let hint =
                "use lower-case letters, digits, dots and inner hyphens, as in cluster.local";
            self.fault("spec.network.dnsDomain", format!("{} is no domain", quoted(&domain)), hint);
        }
        domain
    }

    fn cni(&mut self, raw: Option<shape::Cni>) -> Cni {
        let Some(cni) = raw else { return Cni::None };
        let Some(manifest) = cni.manifest else {
            let hint = "name the file, or remove `cni` if you install a network yourself";
            self.missing("spec.network.cni", "manifest", hint);
            return Cni::None;
        };
        let path = self.path(&manifest);
        // Better now than when the first control plane is up.
        if !path.is_file() {
            let message = format!("{} is no file", path.display());
            let hint =
                "put the manifest of a network there, such as Calico's, Cilium's or Flannel's";
            self.fault("spec.network.cni.manifest", message, hint);
        }
        Cni::Manifest(path)
    }
}
