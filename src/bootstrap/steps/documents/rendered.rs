//! The documents as the renderer makes them.

use std::net::IpAddr;

use super::{Documents, Identity, Joining};
use crate::bootstrap::engine::StepError;
use crate::bootstrap::render::encryption::{self, KEY_LENGTH, Key};
use crate::bootstrap::render::kubeconfig::Credential;
use crate::bootstrap::render::{
    RenderError, SecretText, audit, hosts_block, kubeadm, patches, proxy, replace_block,
};
use crate::bootstrap::spec::{Cluster, Host, Role};
use crate::bootstrap::transport::{File, Secret};
use crate::manifest;

/// The namespace of the proxies' ServiceAccount.
const NAMESPACE: &str = "kube-system";

/// The documents as the renderer makes them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rendered;

/// The renderer's faults are in the file, and say what to do.
fn refused(error: &RenderError) -> StepError {
    let text = error.to_string();
    let (reason, remedy) = text.rsplit_once("; ").unwrap_or((&text, "change the file"));
    StepError::Refused { reason: reason.to_owned(), remedy: remedy.to_owned() }
}

fn random<const N: usize>() -> Result<[u8; N], StepError> {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0; N];
    match ring::rand::SystemRandom::new().fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => Err(StepError::Unverified("the system gives no random bytes".to_owned())),
    }
}

/// A bootstrap token: `[a-z0-9]{6}.[a-z0-9]{16}`. kubeadm's API has it as required, though `init` would
/// make one.
fn token() -> Result<SecretText, StepError> {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let letter = |byte: u8| char::from(LETTERS[usize::from(byte) % LETTERS.len()]);
    let (id, secret): ([u8; 6], [u8; 16]) = (random()?, random()?);
    let text: String = id.map(letter).into_iter().chain(['.']).chain(secret.map(letter)).collect();
    Ok(SecretText::new(text))
}

impl Documents for Rendered {
    fn init(&self, cluster: &Cluster, host: &Host, key: &str) -> Result<File, StepError> {
        let init =
            kubeadm::Init { certificate_key: Some(SecretText::new(key)), token: Some(token()?) };
        kubeadm::init(cluster, host, &init).map_err(|error| refused(&error))
    }

    fn join(&self, cluster: &Cluster, host: &Host, joining: &Joining) -> Result<File, StepError> {
        let join = kubeadm::Join {
            server: joining.server.clone(),
            token: SecretText::new(&joining.token),
            ca_cert_hashes: joining.pins.clone(),
            certificate_key: joining.certificate_key.as_deref().map(SecretText::new),
        };
        kubeadm::join(cluster, host, &join).map_err(|error| refused(&error))
    }

    fn settings(&self, cluster: &Cluster) -> Result<String, StepError> {
        kubeadm::cluster_configuration(cluster).map_err(|error| refused(&error))
    }

    fn beside(&self, cluster: &Cluster, host: &Host) -> Result<Vec<File>, StepError> {
        let mut files = patches::of(cluster, host).map_err(|error| refused(&error))?;
        if host.roles.contains(&Role::ControlPlane) {
            files.extend(audit::policy(cluster).map_err(|error| refused(&error))?);
        }
        Ok(files)
    }

    fn encryption(&self) -> Result<File, StepError> {
        let name = random::<4>()?.into_iter().map(|byte| char::from(b'a' + byte % 26));
        let bytes = Secret(random::<KEY_LENGTH>()?.to_vec());
        let key = Key::new(format!("key-{}", name.collect::<String>()), bytes);
        let key = key.map_err(|error| StepError::Unverified(error.to_string()))?;
        encryption::config(&key, &[]).map_err(|error| refused(&error))
    }

    fn hosts(&self, cluster: &Cluster, host: &Host, endpoint: IpAddr, current: &[u8]) -> Vec<u8> {
        replace_block(current, &hosts_block(cluster, host, endpoint))
    }

    fn hosts_without_ours(&self, current: &[u8]) -> Vec<u8> {
        replace_block(current, "")
    }

    fn proxy(&self, cluster: &Cluster, host: &Host) -> Result<Vec<File>, StepError> {
        let config = proxy::config(cluster, host).map_err(|error| refused(&error))?;
        Ok([config].into_iter().chain(proxy::user_and_folders()).collect())
    }

    fn unit(&self) -> Vec<String> {
        proxy::unit_command()
    }

    fn kubeconfig(&self, cluster: &Cluster, identity: &Identity) -> Result<File, StepError> {
        let Identity { ca, certificate, key } = identity;
        let key = Secret(key.clone().into_bytes());
        let credential = Credential::Certificate { certificate: certificate.clone(), key };
        proxy::kubeconfig(cluster, ca, credential).map_err(|error| refused(&error))
    }

    fn static_pod(&self, generation: u32, image: &str) -> Result<File, StepError> {
        proxy::static_pod(generation, image).map_err(|error| refused(&error))
    }

    fn rights(&self) -> Result<String, StepError> {
        manifest::rbac(NAMESPACE)
            .map_err(|error| StepError::Unverified(format!("the proxies' rights: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::render::paths;
    use crate::bootstrap::steps::documents as named;
    use crate::bootstrap::steps::world::cluster;

    #[test]
    fn the_steps_and_the_renderer_mean_the_same_files() {
        let cluster = cluster();
        let worker = cluster.host("w1").unwrap();
        assert_eq!(Rendered.proxy(&cluster, worker).unwrap()[0].path, named::PROXY_CONFIG);
        assert_eq!(named::PROXY_CA, paths::PROXY_CA_FILE);
        assert_eq!(named::MANIFESTS, paths::MANIFESTS);
        assert_eq!(named::PROGRAM, paths::PROXY_PROGRAM);
        assert_eq!(named::UNIT, proxy::UNIT);
        assert_eq!(named::FIRST_POD, proxy::UNIT_GENERATION + 1);
        let pod = Rendered.static_pod(named::FIRST_POD, "apiproxy:1").unwrap();
        assert_eq!(pod.path, format!("{}/apiproxy-g2.yaml", named::MANIFESTS));
        let identity = Identity { ca: "c".into(), certificate: "d".into(), key: "e".into() };
        let kubeconfig = Rendered.kubeconfig(&cluster, &identity).unwrap();
        assert_eq!((kubeconfig.path.as_str(), kubeconfig.mode), (named::PROXY_KUBECONFIG, 0o600));
        assert_eq!(Rendered.encryption().unwrap().path, named::ENCRYPTION);
        assert_ne!(Rendered.encryption().unwrap(), Rendered.encryption().unwrap());
    }

    #[test]
    fn the_block_of_etc_hosts_comes_and_goes() {
        let cluster = cluster();
        let host = cluster.host("cp2").unwrap();
        let own = b"127.0.0.1 localhost\n";
        let with = Rendered.hosts(&cluster, host, "10.0.0.11".parse().unwrap(), own);
        let text = String::from_utf8(with.clone()).unwrap();
        let found = crate::bootstrap::steps::shared::etc_hosts::lookup(&text, "api.prod");
        assert_eq!(found, "10.0.0.11".parse().ok());
        assert_eq!(Rendered.hosts_without_ours(&with), own);
    }
}
