//! Selectors, templates, filters and checksum files take any text and any name without a panic.
#![no_main]

use dagd::core::filter::Filter;
use dagd::core::graph::Graph;
use dagd::core::path::Bytes;
use dagd::core::selector::Selector;
use dagd::core::sidecar::{Checksum, Sidecar};
use dagd::core::sums;
use dagd::core::task::TaskSpec;
use dagd::core::template::Template;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &[u8])| {
    let (text, name) = input;
    if let Ok(selector) = Selector::parse(text) {
        let tasks = ["a", "b", "c"].map(|name| {
            let mut task = TaskSpec::new(name, Vec::new());
            task.needs = if name == "a" { Vec::new() } else { vec!["a".into()] };
            task
        });
        let graph = Graph::build(tasks.into()).expect("a graph");
        let plan = graph.plan(&selector);
        assert_eq!(plan.topological().len(), plan.nodes().len());
        assert_eq!(Selector::parse(selector.text()).expect("parsed before"), selector);
    }
    if let Ok(template) = Template::parse(text) {
        let filled = template.expand(|slot| Some(slot.to_string().into_bytes())).expect("filled");
        assert!(filled.len() <= text.len() + 16 * template.slots().count());
    }
    if let Ok(filter) = Filter::new(vec![text.to_owned()], Vec::new(), true, false) {
        let rel = Bytes::from(name);
        let _ = (filter.rejects(&rel), filter.prunes(&rel));
    }
    if let Ok(sidecar) = Sidecar::parse(text) {
        let rel = Bytes::from(name);
        let _ = (sidecar.of(&rel), sidecar.is_for(&rel));
    }
    for sidecar in ["{name}.md5", "MD5SUMS"] {
        let sidecar = Sidecar::parse(sidecar).expect("a constant");
        let value = sums::find(name, text.as_bytes(), &sidecar, Checksum::Md5);
        assert!(value.is_none_or(|value| value.len() == Checksum::Md5.bytes()));
    }
});
