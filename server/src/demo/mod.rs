//! `quire demo`: three regions on one machine, with distance between them, and a page that shows all three.
//!
//! Each region is a server of its own, as it would be on its own machine, with its own data directory. Links
//! between them go through `distance`, which makes them take their time and can cut them.

mod distance;
mod http;
mod regions;

use distance::Distance;
use regions::Region;
use ring::rand::{SecureRandom as _, SystemRandom};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpListener;

/// The regions, by name. Their ports follow the page's.
const REGIONS: [&str; 3] = ["eu", "us", "asia"];

/// Which regions are linked, and how many milliseconds apart they are, one way.
const LINKS: [(usize, usize, u64); 3] = [(0, 1, 40), (1, 2, 80), (0, 2, 120)];

/// What `quire demo` is told.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The page's port on loopback; the regions' are the three after it.
    pub(crate) port: u16,
    /// Where the regions keep their data.
    pub(crate) data: PathBuf,
}

/// Why the demo did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    #[error("cannot listen on {address}: {error}")]
    Listen { address: SocketAddr, error: std::io::Error },
    #[error("cannot use {}: {error}", path.display())]
    Data { path: PathBuf, error: std::io::Error },
    #[error("the region {name} did not start; see above")]
    Region { name: &'static str },
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
    #[error("{0} is no port with three more after it")]
    Port(u16),
}

/// Three regions and the distance between them.
pub(crate) struct Demo {
    regions: Vec<Region>,
    distances: Vec<Distance>,
}

/// Starts everything, says where it is, and serves until `stop`.
pub(crate) async fn run(options: Options, stop: impl Future<Output = ()>) -> Result<(), DemoError> {
    let Options { port, data } = options;
    if port > u16::MAX - 3 {
        return Err(DemoError::Port(port));
    }
    let page = listen(port).await?;
    let secret = make_secret(&data)?;
    let origin = format!("http://{}", address(port));
    let ports: Vec<u16> = (1..=3).map(|after| port + after).collect();
    let mut distances = Vec::new();
    for (from, to, delay_ms) in LINKS {
        distances.push(Distance::open(from, to, delay_ms, address(ports[to])).await?);
    }
    let mut regions = Vec::new();
    for (at, name) in REGIONS.into_iter().enumerate() {
        let directory = data.join(name);
        make_directory(&directory)?;
        let peers = distances.iter().filter(|distance| distance.from == at);
        let peers = peers.map(|distance| format!("ws://{}", distance.address)).collect();
        regions.push(Region::new(name, at, address(ports[at]), &directory, &secret, peers, &origin));
    }
    for region in &regions {
        region.start().await.map_err(|()| DemoError::Region { name: region.name })?;
    }
    let demo = Arc::new(Demo { regions, distances });
    tell(&demo, &origin);
    let serving = tokio::spawn(http::serve(page, demo.clone()));
    let keys = tokio::spawn(keys(demo.clone()));
    stop.await;
    keys.abort();
    serving.abort();
    for region in &demo.regions {
        region.stop().await;
    }
    Ok(())
}

const fn address(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

async fn listen(port: u16) -> Result<TcpListener, DemoError> {
    let address = address(port);
    TcpListener::bind(address).await.map_err(|error| DemoError::Listen { address, error })
}

fn make_directory(path: &Path) -> Result<(), DemoError> {
    std::fs::create_dir_all(path).map_err(|error| DemoError::Data { path: path.to_owned(), error })
}

/// The secret that the three share: made once, readable by its owner alone.
fn make_secret(data: &Path) -> Result<PathBuf, DemoError> {
    make_directory(data)?;
    let path = data.join("cluster-secret");
    let failed = |error| DemoError::Data { path: path.clone(), error };
    let opened = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&path);
    match opened {
        Ok(mut file) => {
            let mut bytes = [0; 32];
            let drawn = SystemRandom::new().fill(&mut bytes);
            drawn.map_err(|_| failed(std::io::Error::other("the system has no randomness")))?;
            let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            file.write_all(text.as_bytes()).map_err(failed)?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    Ok(path)
}

fn tell(demo: &Demo, origin: &str) {
    let mut out = std::io::stdout().lock();
    let mut text = format!("listening on {origin}\n\n");
    for region in &demo.regions {
        text.push_str(&format!("  {:<6} http://{}\n", region.name, region.address));
    }
    text.push('\n');
    for (key, distance) in demo.distances.iter().enumerate() {
        let (from, to) = (REGIONS[distance.from], REGIONS[distance.to]);
        text.push_str(&format!(
            "  {} + Enter cuts or heals the link {from}–{to} ({} ms one way)\n",
            key + 1,
            distance.delay_ms
        ));
    }
    text.push_str("  Ctrl-C stops all three\n");
    // Whoever started the demo may have closed stdout; it serves all the same.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Cuts and heals links by what is typed, for as long as there is a terminal.
async fn keys(demo: Arc<Demo>) {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let key = line.trim().parse::<usize>().ok().and_then(|key| key.checked_sub(1));
        let Some(distance) = key.and_then(|key| demo.distances.get(key)) else { continue };
        let cut = !distance.is_cut();
        distance.set_cut(cut);
        let (from, to) = (REGIONS[distance.from], REGIONS[distance.to]);
        println!("{from}–{to} is {}", if cut { "cut" } else { "healed" });
    }
}
