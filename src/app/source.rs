//! Where the configuration comes from.

use std::path::{Path, PathBuf};

use super::Refusal;
use crate::config::{self, Config, ConfigError, LogLevel, Overrides};
use crate::watch::{Stamp, Watch};

/// Changes the level of the log.
type SetLevel = Box<dyn Fn(LogLevel)>;

/// What a configuration needs and this process may not have, in words.
type Lacks = Box<dyn Fn(&Config) -> Vec<String>>;

/// The file and the flags that make up the configuration.
pub struct Source {
    file: Option<PathBuf>,
    overrides: Overrides,
    set_level: Option<SetLevel>,
    lacks: Option<Lacks>,
    /// The file as it was when the configuration was read that the process starts with.
    first: Stamp,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Source {
    /// Make it before the configuration is first read, so that no change goes unseen.
    pub fn new(file: Option<PathBuf>, overrides: Overrides) -> Self {
        let first = file.as_deref().map(Stamp::of).unwrap_or_default();
        Self { file, overrides, set_level: None, lacks: None, first }
    }

    /// How to change the level of the log; without, it needs a restart.
    #[must_use]
    pub fn with_log(self, set_level: impl Fn(LogLevel) + 'static) -> Self {
        Self { set_level: Some(Box::new(set_level)), ..self }
    }

    /// What this process has denied itself when it started: a configuration that needs any of it is
    /// refused.
    #[must_use]
    pub fn with_limits(self, lacks: impl Fn(&Config) -> Vec<String> + 'static) -> Self {
        Self { lacks: Some(Box::new(lacks)), ..self }
    }

    fn lacks(&self, config: &Config) -> Vec<String> {
        self.lacks.as_ref().map(|lacks| lacks(config)).unwrap_or_default()
    }

    /// Reads the configuration again.
    ///
    /// # Errors
    /// It is not a valid one, needs more than this process may have, or is being written.
    pub(super) fn read(&self) -> Result<Config, Refusal> {
        let before = self.stamp();
        let config = self.load().map_err(|error| Refusal(error.lines()))?;
        let lacks = self.lacks(&config);
        if !lacks.is_empty() {
            let fault = |lack| {
                format!("hardening: {lack} is not allowed since the start; restart apiproxy")
            };
            return Err(Refusal(lacks.into_iter().map(fault).collect()));
        }
        if self.stamp() == before {
            Ok(config)
        } else {
            // The watch sees the change too, and has the file read when it is left alone.
            Err(Refusal(vec!["the file changed while it was read".to_owned()]))
        }
    }

    /// The process has not begun yet, and reads the file once more for that.
    pub(super) fn begin_anew(&mut self) {
        self.first = self.stamp();
    }

    /// Reads the configuration.
    ///
    /// # Errors
    /// It is not a valid one.
    pub fn load(&self) -> Result<Config, ConfigError> {
        config::load(self.file.as_deref(), &self.overrides)
    }

    /// The file, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    pub(super) fn set_level(&self, level: LogLevel) {
        if let Some(set) = &self.set_level {
            set(level);
        }
    }

    pub(super) fn stamp(&self) -> Stamp {
        self.file.as_deref().map(Stamp::of).unwrap_or_default()
    }

    /// A watch over the file, from the reading on that the process starts with.
    pub(super) fn watch(&self) -> Watch {
        Watch::new(self.first)
    }
}
