//! `quire-loadtest sim`: one seed told line by line, or many seeds and their totals.

use super::{Outcome, Planted, Setup, Totals, simulate};
use anyhow::{Context as _, Result, bail};
use std::ops::Range;

/// What to simulate.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Replay one seed and tell what happens
    #[arg(long, conflicts_with_all = ["seeds", "count"])]
    pub seed: Option<u64>,
    /// Run the seeds from the first up to and without the last
    #[arg(long, value_name = "FROM..TO", value_parser = range, conflicts_with = "count")]
    pub seeds: Option<Range<u64>>,
    /// Run the seeds from 0 on, so many
    #[arg(long, default_value_t = 100)]
    pub count: u64,
    /// Keep logs in memory: quicker, but no disk is written or torn
    #[arg(long)]
    pub memory: bool,
    /// Plant a bug in the simulator's drivers, to see that it is found
    #[cfg(feature = "planted")]
    #[arg(long, value_name = "NAME")]
    pub plant: Option<super::Plant>,
    /// Plant every bug in turn, and see that each is found within 200 seeds
    #[cfg(feature = "planted")]
    #[arg(long)]
    pub plants: bool,
}

impl Options {
    #[cfg(feature = "planted")]
    fn planted(&self) -> Planted {
        self.plant.map_or_else(Planted::default, Planted::with)
    }

    #[cfg(not(feature = "planted"))]
    #[expect(clippy::unused_self, reason = "as with the feature")]
    const fn planted(&self) -> Planted {
        Planted::NONE
    }
}

fn range(text: &str) -> Result<Range<u64>> {
    let (from, to) = text.split_once("..").context("a range is FROM..TO")?;
    Ok(from.parse()?..to.parse()?)
}

/// Runs what the options say.
///
/// # Errors
/// When a seed breaks a promise.
pub fn run(options: &Options) -> Result<()> {
    #[cfg(feature = "planted")]
    if options.plants {
        return all_plants(options);
    }
    let setup = Setup { in_memory: options.memory, planted: options.planted(), tells: false };
    if let Some(seed) = options.seed {
        let outcome = simulate(seed, Setup { tells: true, ..setup });
        outcome.lines.iter().for_each(|line| println!("{line}"));
        return outcome.violation.map_or(Ok(()), |violation| bail!("seed {seed}: {violation}"));
    }
    let seeds = options.seeds.clone().unwrap_or(0..options.count);
    let (totals, broken) = run_many(&seeds, setup);
    let ran = broken.as_ref().map_or(seeds.end, |(seed, _)| seed + 1).saturating_sub(seeds.start);
    tell(ran, &totals, usize::from(broken.is_some()));
    match broken {
        None => Ok(()),
        Some((seed, violation)) => {
            let memory = if options.memory { " --memory" } else { "" };
            bail!("seed {seed}: {violation}\nreplay it: quire-loadtest sim --seed {seed}{memory}")
        }
    }
}

/// Runs seeds until one breaks a promise.
fn run_many(seeds: &Range<u64>, setup: Setup) -> (Totals, Option<(u64, String)>) {
    let mut totals = Totals::default();
    let tenth = (seeds.end.saturating_sub(seeds.start) / 10).max(1);
    for seed in seeds.clone() {
        let Outcome { totals: of_it, violation, .. } = simulate(seed, setup);
        totals.add(&of_it);
        if let Some(violation) = violation {
            return (totals, Some((seed, violation)));
        }
        let done = seed - seeds.start + 1;
        if done.is_multiple_of(tenth) {
            println!("{done} seeds, all well");
        }
    }
    (totals, None)
}

fn tell(seeds: u64, totals: &Totals, violations: usize) {
    let (minutes, seconds) = (totals.simulated_ms / 60_000, totals.simulated_ms / 1000 % 60);
    println!("seeds           {seeds}");
    println!("simulated time  {} h {} min {seconds} s", minutes / 60, minutes % 60);
    println!("edits           {}", totals.edits);
    println!("field edits     {}, {} write-backs", totals.field_edits, totals.write_backs);
    println!(
        "conflicts       {} in the end, {} seen and gone by; {} versions told too often, {} write-backs given back",
        totals.conflicts, totals.past_conflicts, totals.told_too_often, totals.given_back
    );
    println!("entries         {}", totals.entries);
    println!("acknowledged    {}, {} gone with a disk", totals.acknowledged, totals.gone_with_disk);
    println!("shown           {}", totals.shown);
    println!("partitions      {}", totals.partitions);
    println!("crashes         {}", totals.crashes);
    println!("disks replaced  {}", totals.disks);
    println!("streams         {} begun anew, {} entries written again", totals.renewals, totals.moved);
    println!(
        "members         {} joins, {} removals, {} drains",
        totals.joins, totals.removals, totals.drains
    );
    println!(
        "documents       {} deletions, {} restorations, {} deleted and {} revived in the end",
        totals.deletions, totals.restorations, totals.deleted, totals.revived
    );
    println!("snapshots       {} begun, {} taken whole", totals.snapshots_begun, totals.snapshots_taken);
    println!("paced           {}", totals.paced);
    println!("duplicates      {}", totals.duplicates);
    println!("gaps            {}", totals.gaps);
    println!("violations      {violations}");
}

/// The first seed at which a planted bug is found, and how.
#[cfg(feature = "planted")]
#[must_use]
pub fn caught(plant: super::Plant, in_memory: bool) -> Option<(u64, String)> {
    (0..PLANT_SEEDS).find_map(|seed| {
        let setup = Setup { in_memory, planted: Planted::with(plant), tells: false };
        simulate(seed, setup).violation.map(|violation| (seed, violation))
    })
}

/// A planted bug is found within so many seeds.
#[cfg(feature = "planted")]
const PLANT_SEEDS: u64 = 200;

#[cfg(feature = "planted")]
fn all_plants(options: &Options) -> Result<()> {
    use clap::ValueEnum as _;
    let mut missed = Vec::new();
    for plant in super::Plant::value_variants() {
        match caught(*plant, options.memory) {
            Some((seed, violation)) => println!("{plant:?}: caught at seed {seed}: {violation}"),
            None => missed.push(plant),
        }
    }
    if missed.is_empty() { Ok(()) } else { bail!("not caught within {PLANT_SEEDS} seeds: {missed:?}") }
}
