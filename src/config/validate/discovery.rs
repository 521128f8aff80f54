//! Checks where further apiservers are to be found. The files themselves may come later.

use std::path::PathBuf;

use super::Check;
use crate::config::{Discovery, shape};

impl Check<'_, '_> {
    pub(super) fn discovery(&mut self, raw: shape::Discovery) -> Discovery {
        let kubernetes = raw.kubernetes.unwrap_or_default();
        let has_section = self
            .around
            .document
            .is_some_and(|d| d.node(&self.path("discovery.kubernetes")).is_some());
        let at = "discovery.kubernetes.kubeconfig";
        if has_section && kubernetes.kubeconfig.is_none() && !self.is_given(at) {
            let hint = "name the kubeconfig of a user that may watch EndpointSlices; `apiproxy manifest \
                        rbac` shows how to make one";
            self.hinted("discovery.kubernetes", "it has no `kubeconfig`", hint);
        }
        let discovery = Discovery {
            kubeconfig: self.discovery_file(at, kubernetes.kubeconfig),
            file: self.discovery_file("discovery.file", raw.file),
            cache_file: self.discovery_file("discovery.cacheFile", raw.cache_file),
        };
        let Discovery { kubeconfig, file, cache_file } = &discovery;
        let clash = cache_file.is_some() && (cache_file == file || cache_file == kubeconfig);
        if clash {
            let hint = "give it a file of its own, which only apiproxy writes";
            self.hinted("discovery.cacheFile", "this file is also read as something else", hint);
        }
        discovery
    }

    fn discovery_file(&mut self, at: &str, path: Option<PathBuf>) -> Option<PathBuf> {
        let path = path?;
        if path.file_name().is_none() {
            self.hinted(at, "this is no file", "write the path of a file");
            return None;
        }
        let path = self.around.base.join(path);
        if path.is_dir() {
            self.hinted(at, format!("{} is a folder", path.display()), "name the file in it");
        }
        Some(path)
    }
}
