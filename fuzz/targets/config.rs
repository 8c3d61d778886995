//! Any text is a configuration or a list of errors, never a panic; errors can be shown.
#![no_main]

use std::path::PathBuf;

use dagd::config::{SourceText, Surroundings, resolve};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let around = Surroundings {
        is_root: false,
        cpus: 2,
        state_directory: None,
        runtime_directory: None,
        xdg_state_home: None,
        xdg_runtime_dir: None,
        group: |_| None,
        home: Some(PathBuf::from("/home/x")),
        uid: 1000,
    };
    let sources = [SourceText { path: PathBuf::from("/etc/dagd.toml"), text: text.to_owned() }];
    if let Err(diagnostics) = resolve(&sources, &around) {
        assert!(diagnostics.len() > 0);
        assert!(!diagnostics.render(false).is_empty());
    }
});
