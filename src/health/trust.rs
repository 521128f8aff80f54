//! The CAs and the client certificate of the probes, read again when their files change.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use rustls::ClientConfig;
use tracing::{info, warn};

use crate::config::ProbeTls;
use crate::tls::{self, Material, MaterialError, Paths, Stamps};

/// Trust and identity with the files they came from. The last good content stays in force while a
/// file is missing or broken.
#[derive(Debug)]
pub struct Trust {
    paths: Paths,
    material: RefCell<Rc<Material>>,
    seen: RefCell<Stamps>,
    generation: Cell<u64>,
}

impl Trust {
    /// Reads the files of `healthCheck.tls`.
    ///
    /// # Errors
    /// A file is missing or not usable, or the client certificate and key do not belong together.
    pub fn read(config: &ProbeTls) -> Result<Self, MaterialError> {
        let ca = config.ca_file.clone().filter(|_| !config.insecure_skip_verify);
        let paths = Paths { ca, identity: config.identity.clone() };
        let seen = Stamps::of(&paths);
        let material = Material::read(&paths)?;
        Ok(Self {
            paths,
            material: RefCell::new(Rc::new(material)),
            seen: RefCell::new(seen),
            generation: Cell::new(0),
        })
    }

    /// Grows with every change that was taken in.
    pub(super) fn generation(&self) -> u64 {
        let stamps = Stamps::of(&self.paths);
        if *self.seen.borrow() != stamps {
            match Material::read(&self.paths) {
                Ok(material) => {
                    info!("the certificates of the health check have changed and were read again");
                    self.material.replace(Rc::new(material));
                    self.generation.set(self.generation.get() + 1);
                }
                Err(error) => {
                    warn!(%error, "the new certificates of the health check are not usable; the old ones stay in force");
                }
            }
            self.seen.replace(stamps);
        }
        self.generation.get()
    }

    /// A TLS configuration with an empty session store.
    pub(super) fn client_config(&self, alpn: &[&[u8]]) -> Result<ClientConfig, rustls::Error> {
        tls::client_config(&self.material.borrow(), alpn)
    }
}
