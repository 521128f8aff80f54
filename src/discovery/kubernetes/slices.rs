//! What EndpointSlices say, as far as it matters, and the state that a list and a watch make of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use crate::discovery::found::{Server, zone};

/// More slices than this are no list of apiservers.
const MOST_SLICES: usize = 64;

/// More servers than this are not collected; the answer is absurd long before.
const MOST_SERVERS: usize = 1024;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    resource_version: String,
}

/// `discovery.k8s.io/v1`, `EndpointSlice`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Slice {
    metadata: Metadata,
    address_type: String,
    endpoints: Option<Vec<Endpoint>>,
    ports: Option<Vec<Port>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Endpoint {
    addresses: Vec<String>,
    conditions: Option<Conditions>,
    zone: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Conditions {
    ready: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
struct Port {
    name: Option<String>,
    port: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct List {
    metadata: Metadata,
    items: Vec<Slice>,
}

#[derive(Debug, Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    object: serde_json::Value,
}

/// `metav1.Status`, which an event of the type `ERROR` carries.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
    message: String,
}

/// What an event of a watch means.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::discovery) enum News {
    /// The servers may be others.
    Changed,
    /// All is as it was.
    Same,
}

/// All slices of the Service.
#[derive(Debug)]
pub(in crate::discovery) struct Slices {
    slices: BTreeMap<String, Slice>,
    version: String,
}

impl Slices {
    /// Those of an answer to a list.
    ///
    /// # Errors
    /// It is no such list.
    pub(in crate::discovery) fn list(text: &[u8]) -> Result<Self, String> {
        let list: List = serde_json::from_slice(text)
            .map_err(|error| format!("the answer is no list of EndpointSlices: {error}"))?;
        if list.items.len() > MOST_SLICES {
            return Err(format!("{} EndpointSlices are too many", list.items.len()));
        }
        let named = list.items.into_iter().map(|slice| (slice.metadata.name.clone(), slice));
        Ok(Self { slices: named.collect(), version: list.metadata.resource_version })
    }

    /// The version to watch from.
    pub(in crate::discovery) fn version(&self) -> &str {
        &self.version
    }

    /// Takes an event in.
    ///
    /// # Errors
    /// It is none, or says that the watch is over (such as 410 Gone): list again.
    pub(in crate::discovery) fn apply(&mut self, line: &[u8]) -> Result<News, String> {
        let event: Event =
            serde_json::from_slice(line).map_err(|error| format!("that is no event: {error}"))?;
        match event.kind.as_str() {
            "ERROR" => {
                let status: Status = serde_json::from_value(event.object).unwrap_or_default();
                Err(format!("the watch ended with {}: {}", status.code, status.message))
            }
            "BOOKMARK" => Ok(News::Same),
            kind @ ("ADDED" | "MODIFIED" | "DELETED") => {
                let slice: Slice = serde_json::from_value(event.object)
                    .map_err(|error| format!("that is no EndpointSlice: {error}"))?;
                if slice.metadata.name.is_empty() {
                    return Err("an EndpointSlice has no name".to_owned());
                }
                if kind == "DELETED" {
                    self.slices.remove(&slice.metadata.name);
                } else if self.slices.len() < MOST_SLICES {
                    self.slices.insert(slice.metadata.name.clone(), slice);
                }
                Ok(News::Changed)
            }
            other => Err(format!("events of the type {other:?} are not known")),
        }
    }

    /// The servers that they name, by address. Of two families only one: a server that has both would be
    /// taken for two.
    ///
    /// # Errors
    /// An address or port is none.
    pub(in crate::discovery) fn servers(&self) -> Result<Vec<Server>, String> {
        let mut servers = Vec::new();
        for slice in self.slices.values() {
            let port = slice.port()?;
            let endpoints = slice.endpoints.iter().flatten().filter(|e| e.is_ready());
            for endpoint in endpoints {
                for address in &endpoint.addresses {
                    let Some(port) = port else {
                        return Err(format!("{} has no port `https`", slice.metadata.name));
                    };
                    let ip: IpAddr =
                        address.parse().map_err(|_| format!("{address:?} is no IP address"))?;
                    let socket = SocketAddr::new(ip.to_canonical(), port);
                    servers
                        .push(Server { address: socket.into(), zone: zone(endpoint.zone.clone()) });
                    if servers.len() > MOST_SERVERS {
                        return Err(format!("more than {MOST_SERVERS} endpoints"));
                    }
                }
            }
        }
        let is_v4 = |server: &Server| server.address.socket_addr().is_some_and(|a| a.is_ipv4());
        if servers.iter().any(is_v4) {
            servers.retain(is_v4);
        }
        Ok(servers)
    }
}

impl Slice {
    /// The port called `https`, or the only one.
    fn port(&self) -> Result<Option<u16>, String> {
        if self.address_type == "FQDN" {
            return Err(format!("{} holds names, not addresses", self.metadata.name));
        }
        let ports = self.ports.as_deref().unwrap_or_default();
        let named = ports.iter().find(|port| port.name.as_deref() == Some("https"));
        let only = match ports {
            [only] => Some(only),
            _ => None,
        };
        match named.or(only).and_then(|port| port.port) {
            None => Ok(None),
            Some(port) => match u16::try_from(port) {
                Ok(port) if port > 0 => Ok(Some(port)),
                _ => Err(format!("{port} is no port")),
            },
        }
    }
}

impl Endpoint {
    /// Without a condition it is ready, as the API defines.
    fn is_ready(&self) -> bool {
        self.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(name: &str, addresses: &[&str], port: i64) -> serde_json::Value {
        let endpoints: Vec<_> = addresses.iter().map(|a| json!({ "addresses": [a] })).collect();
        json!({
            "metadata": { "name": name, "namespace": "default" }, "addressType": "IPv4",
            "endpoints": endpoints, "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
        })
    }

    fn list(items: &[serde_json::Value]) -> Slices {
        let text = json!({ "metadata": { "resourceVersion": "7" }, "items": items });
        Slices::list(text.to_string().as_bytes()).unwrap()
    }

    fn shown(slices: &Slices) -> Result<Vec<String>, String> {
        Ok(slices.servers()?.iter().map(|server| server.address.to_string()).collect())
    }

    #[test]
    fn a_list_and_its_events_make_the_servers() {
        let mut slices = list(&[slice("kubernetes", &["10.0.0.1", "10.0.0.2"], 6443)]);
        assert_eq!(slices.version(), "7");
        assert_eq!(shown(&slices).unwrap(), ["10.0.0.1:6443", "10.0.0.2:6443"]);
        let event = |kind, object| json!({ "type": kind, "object": object }).to_string();
        let more = slice("kubernetes-2", &["10.0.0.3"], 6444);
        assert_eq!(slices.apply(event("ADDED", more.clone()).as_bytes()), Ok(News::Changed));
        assert_eq!(shown(&slices).unwrap().len(), 3);
        let one = slice("kubernetes", &["10.0.0.1"], 6443);
        assert_eq!(slices.apply(event("MODIFIED", one).as_bytes()), Ok(News::Changed));
        assert_eq!(slices.apply(event("DELETED", more).as_bytes()), Ok(News::Changed));
        assert_eq!(shown(&slices).unwrap(), ["10.0.0.1:6443"]);
        let bookmark = json!({ "metadata": { "resourceVersion": "9" } });
        assert_eq!(slices.apply(event("BOOKMARK", bookmark).as_bytes()), Ok(News::Same));
        let gone = json!({ "kind": "Status", "code": 410, "message": "too old" });
        let error = slices.apply(event("ERROR", gone).as_bytes()).unwrap_err();
        assert!(error.contains("410"), "{error}");
        for bad in [
            "",
            "{",
            "{}",
            "{\"type\":\"ODD\",\"object\":{}}",
            "{\"type\":\"ADDED\",\"object\":{}}",
        ] {
            assert!(slices.apply(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_ready_endpoints_of_one_family_count() {
        let mut mixed = slice("kubernetes", &["10.0.0.1", "10.0.0.2"], 6443);
        mixed["endpoints"][1]["conditions"] = json!({ "ready": false });
        mixed["endpoints"][0]["zone"] = json!("a");
        let v6 = slice("kubernetes-v6", &["2001:db8::1"], 6443);
        let slices = list(&[mixed, v6.clone()]);
        assert_eq!(shown(&slices).unwrap(), ["10.0.0.1:6443"]);
        assert_eq!(slices.servers().unwrap()[0].zone.as_deref(), Some("a"));
        assert_eq!(shown(&list(&[v6])).unwrap(), ["[2001:db8::1]:6443"]);
    }

    #[test]
    fn odd_ports_and_addresses_are_refused() {
        for (address, port) in [("10.0.0.1", 0), ("10.0.0.1", 65_536), ("10.0.0.1", -1), ("cp1", 1)]
        {
            assert!(
                shown(&list(&[slice("kubernetes", &[address], port)])).is_err(),
                "{address} {port}"
            );
        }
        let mut none = slice("kubernetes", &["10.0.0.1"], 6443);
        none["ports"] = json!(null);
        assert!(shown(&list(&[none])).is_err());
        assert!(shown(&list(&[])).unwrap().is_empty());
    }
}
