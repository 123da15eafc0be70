//! Links between regions: stories of one link, and random histories of whole clusters.

mod calls;
mod clusters;
mod histories;
mod snapshots;
mod stories;
mod world;
