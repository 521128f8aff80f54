//! Objects in etcd, as JSON.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::Refusal;
use super::resources::Target;
use crate::etcd::{Entry, Etcd};
use crate::patch;
use crate::token::{date, hex, now, random};

/// How long a server that says nothing stays among the endpoints, in seconds.
const ADVERTISED: u32 = 15;

/// How often a change is tried that others come in between of.
const TRIES: usize = 10;

/// The objects.
pub(super) struct Store {
    etcd: Etcd,
    /// What keeps this server among the endpoints.
    lease: Arc<Mutex<Option<(String, u64)>>>,
    /// Nothing is written.
    dry: bool,
}

impl Store {
    pub(super) fn new(etcd: Etcd) -> Self {
        Self { etcd, lease: Arc::default(), dry: false }
    }

    /// The same objects; a dry run writes nothing.
    pub(super) fn dry(&self, dry: bool) -> Self {
        Self { etcd: self.etcd.clone(), lease: Arc::clone(&self.lease), dry }
    }

    /// Can etcd be read?
    pub(super) fn is_well(&self) -> Result<(), String> {
        self.etcd.get("/registry/health").map(drop)
    }

    /// An object.
    pub(super) fn get(&self, target: &Target) -> Result<Value, Refusal> {
        self.find(target).map(|(object, _)| object)
    }

    fn find(&self, target: &Target) -> Result<(Value, u64), Refusal> {
        let entry = self.etcd.get(&target.key()).map_err(lost)?.ok_or_else(|| {
            Refusal(404, "NotFound", format!("{} {:?} not found", target.kind.name, target.name))
        })?;
        Ok((object(&entry), entry.revision))
    }

    /// All objects of a kind in a namespace.
    pub(super) fn all(&self, resource: &str, namespace: &str) -> Result<Vec<Value>, Refusal> {
        let (entries, _) =
            self.etcd.list(&Target::named(resource, namespace, "").key()).map_err(lost)?;
        Ok(entries.iter().map(object).collect())
    }

    /// The objects of a collection that the selectors of a query fit, and the revision that they have.
    pub(super) fn selected(
        &self,
        target: &Target,
        query: &BTreeMap<String, String>,
    ) -> Result<(Vec<Value>, u64), Refusal> {
        let (entries, revision) = self.etcd.list(&target.key()).map_err(lost)?;
        let fits = |object: &Value| {
            let labels =
                query.get("labelSelector").is_none_or(|s| selects(s, |key| label(object, key)));
            labels
                && query
                    .get("fieldSelector")
                    .is_none_or(|s| selects(s, |path| Some(field(object, path))))
        };
        Ok((entries.iter().map(object).filter(fits).collect(), revision))
    }

    pub(super) fn list(
        &self,
        target: &Target,
        query: &BTreeMap<String, String>,
    ) -> Result<Value, Refusal> {
        let (items, revision) = self.selected(target, query)?;
        Ok(json!({
            "kind": format!("{}List", target.kind.word), "apiVersion": target.kind.api,
            "metadata": { "resourceVersion": revision.to_string() }, "items": items,
        }))
    }

    /// Makes a new object.
    pub(super) fn create(&self, target: &Target, mut object: Value) -> Result<Value, Refusal> {
        let mut target = target.clone();
        if let Some(start) = object["metadata"]["generateName"].as_str()
            && object["metadata"]["name"].is_null()
        {
            object["metadata"]["name"] = json!(format!("{start}{}", &hex(&random(3))[..5]));
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        if name.is_empty()
            || object["kind"] != target.kind.word
            || object["apiVersion"] != target.kind.api
        {
            let message =
                format!("it is no {} of {} with a name", target.kind.word, target.kind.api);
            return Err(Refusal(422, "Invalid", message));
        }
        name.clone_into(&mut target.name);
        let metadata = &mut object["metadata"];
        metadata["uid"] = json!(hex(&random(16)));
        metadata["creationTimestamp"] = json!(date(now()));
        if target.kind.namespaced {
            metadata["namespace"] = json!(target.namespace);
        }
        self.write(&target, object, 0)?.ok_or_else(|| {
            Refusal(
                409,
                "AlreadyExists",
                format!("{} {:?} already exists", target.kind.name, target.name),
            )
        })
    }

    /// Puts an object in the place of what is there.
    pub(super) fn update(&self, target: &Target, new: &Value) -> Result<Value, Refusal> {
        let wanted = new["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        self.change(target, |old, revision| {
            if wanted.as_ref().is_some_and(|wanted| *wanted != revision.to_string()) {
                return Err(conflict(target));
            }
            let mut object = new.clone();
            match target.subresource.as_str() {
                // Only that part is taken over.
                "status" | "approval" => {
                    object = old.clone();
                    object["status"] = new["status"].clone();
                }
                _ if !old["status"].is_null() => object["status"] = old["status"].clone(),
                _ => {}
            }
            for kept in ["uid", "creationTimestamp", "namespace"] {
                if !old["metadata"][kept].is_null() {
                    object["metadata"][kept] = old["metadata"][kept].clone();
                }
            }
            Ok(object)
        })
    }

    /// Changes parts of an object. One that is applied may be new.
    pub(super) fn patch(
        &self,
        target: &Target,
        change: &Value,
        applies: bool,
    ) -> Result<Value, Refusal> {
        if applies && self.find(target).is_err_and(|refusal| refusal.0 == 404) {
            return self.create(target, change.clone());
        }
        self.change(target, |old, _| {
            let mut object = old.clone();
            if let Value::Array(operations) = change {
                for operation in operations {
                    patch::operate(&mut object, operation)
                        .map_err(|error| Refusal(422, "Invalid", error))?;
                }
            } else {
                patch::merge(&mut object, change);
            }
            Ok(object)
        })
    }

    /// Removes an object.
    pub(super) fn delete(&self, target: &Target) -> Result<Value, Refusal> {
        let old = self.get(target)?;
        if !self.dry {
            self.etcd.delete(&target.key()).map_err(lost)?;
        }
        Ok(json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": { "name": target.name, "kind": target.kind.name, "uid": old["metadata"]["uid"] },
        }))
    }

    /// Keeps a server among the endpoints of the Service `kubernetes`.
    pub(super) fn advertise(&self, address: &str, port: u16) -> Result<(), String> {
        self.keep_lease(address)?;
        let (servers, _) = self.etcd.list("/registry/masterleases/")?;
        let addresses = servers.iter().filter_map(|server| server.key.rsplit('/').next());
        let endpoints: Vec<_> = addresses
            .map(|address| json!({ "addresses": [address], "conditions": { "ready": true } }))
            .collect();
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": { "name": "kubernetes", "labels": { "kubernetes.io/service-name": "kubernetes" } },
            "endpoints": endpoints, "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
        });
        let target = Target::named("endpointslices", "default", "kubernetes");
        let told = |refusal: Refusal| refusal.2;
        match self.get(&target) {
            Ok(old) if old["endpoints"] == slice["endpoints"] => Ok(()),
            Ok(_) => self.update(&target, &slice).map(drop).map_err(told),
            Err(Refusal(404, ..)) => self.create(&target, slice).map(drop).map_err(told),
            Err(refusal) => Err(told(refusal)),
        }
    }

    fn keep_lease(&self, address: &str) -> Result<(), String> {
        let mut held = self.lease.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A lease cannot be kept alive by a plain request: a new one takes its place in time.
        if held.as_ref().is_none_or(|(_, since)| now() - since > u64::from(ADVERTISED) / 3) {
            let lease = self.etcd.lease(ADVERTISED)?;
            let key = format!("/registry/masterleases/{address}");
            let revision = self.etcd.get(&key)?.map_or(0, |entry| entry.revision);
            self.etcd.put(&key, b"{}", revision, Some(&lease))?;
            *held = Some((lease, now()));
        }
        Ok(())
    }

    /// Reads, changes and writes an object, again when somebody was faster.
    fn change(
        &self,
        target: &Target,
        change: impl Fn(&Value, u64) -> Result<Value, Refusal>,
    ) -> Result<Value, Refusal> {
        for _ in 0..TRIES {
            let (old, revision) = self.find(target)?;
            if let Some(object) = self.write(target, change(&old, revision)?, revision)? {
                return Ok(object);
            }
        }
        Err(conflict(target))
    }

    fn write(
        &self,
        target: &Target,
        mut object: Value,
        revision: u64,
    ) -> Result<Option<Value>, Refusal> {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        if self.dry {
            object["metadata"]["resourceVersion"] = json!(revision.to_string());
            return Ok(Some(object));
        }
        let written = self
            .etcd
            .put(&target.key(), object.to_string().as_bytes(), revision, None)
            .map_err(lost)?;
        Ok(written.map(|revision| {
            object["metadata"]["resourceVersion"] = json!(revision.to_string());
            object
        }))
    }
}

fn lost(error: String) -> Refusal {
    Refusal(500, "InternalError", error)
}

fn conflict(target: &Target) -> Refusal {
    Refusal(409, "Conflict", format!("{:?}: the object has been modified", target.name))
}

fn object(entry: &Entry) -> Value {
    let mut object: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
    object["metadata"]["resourceVersion"] = json!(entry.revision.to_string());
    object
}

fn label(object: &Value, key: &str) -> Option<String> {
    object["metadata"]["labels"][key].as_str().map(str::to_owned)
}

fn field(object: &Value, path: &str) -> String {
    let value = path.split('.').fold(object, |value, part| &value[part]);
    value.as_str().unwrap_or_default().to_owned()
}

/// `a=b,c!=d,e,!f`.
fn selects(selector: &str, value: impl Fn(&str) -> Option<String>) -> bool {
    selector.split(',').filter(|term| !term.is_empty()).all(|term| {
        if let Some((key, wanted)) = term.split_once("!=") {
            value(key).as_deref() != Some(wanted)
        } else if let Some((key, wanted)) = term.split_once('=') {
            value(key).as_deref() == Some(wanted.trim_start_matches('='))
        } else if let Some(key) = term.strip_prefix('!') {
            value(key).is_none()
        } else {
            value(term).is_some()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_select() {
        let labels = |key: &str| (key == "a").then(|| "b".to_owned());
        for (selector, wanted) in [
            ("a=b", true),
            ("a==b", true),
            ("a!=b", false),
            ("a", true),
            ("!a", false),
            ("a=b,c", false),
            ("", true),
        ] {
            assert_eq!(selects(selector, labels), wanted, "{selector}");
        }
    }
}
