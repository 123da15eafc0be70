//! The example configurations of docs/operating are ones that a region starts from.

use quire_server::config::{Sources, load};
use std::collections::BTreeMap;
use std::path::Path;

#[test]
fn every_example_lacks_nothing_but_the_files_it_names() {
    let operating = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operating");
    let mut seen = 0;
    for shape in ["mesh", "star", "ring"] {
        for entry in std::fs::read_dir(operating.join(shape)).expect("a directory of examples") {
            let path = entry.expect("an example").path();
            let arguments = vec!["--config".to_owned(), path.display().to_string()];
            let problems =
                load(&Sources { arguments, variables: BTreeMap::new() }).expect_err("no such files here");
            let text = problems.to_string();
            for problem in &problems.0 {
                assert!(problem.message.starts_with("cannot read /etc/quire/"), "{}: {text}", path.display());
            }
            seen += 1;
        }
    }
    assert_eq!(seen, 10);
}
