//! The fuzz targets, run over their committed seeds and over what they once found.

#[path = "../../fuzz/src/state_vector.rs"]
mod state_vector;
#[path = "../../fuzz/src/update.rs"]
mod update;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = format!("{}/fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut seeds: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    seeds.sort();
    assert!(!seeds.is_empty());
    for seed in seeds {
        println!("{}", seed.display());
        run(&std::fs::read(seed).unwrap());
    }
}

#[test]
fn update_seeds_pass() {
    replay("update", update::run);
}

#[test]
fn state_vector_seeds_pass() {
    replay("state_vector", state_vector::run);
}
