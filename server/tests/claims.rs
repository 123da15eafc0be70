//! Values of unique fields that are claimed before they are written, in three real regions, over HTTP.
//!
//! The second region reaches the first over a path that can be cut, and otherwise only through the third.

mod support;

use serde_json::json;
use support::regions::{JSON, is_linked, region_in, until};
use support::{Answer, Relay, Scratch, Server};

fn schema(claims_at: &str) -> String {
    format!(
        "[[collections]]\nname = \"pages\"\npattern = \"pages/*\"\nclaims-at = {claims_at}\n\
         [collections.fields.slug]\ntype = \"string\"\nunique = true\n"
    )
}

struct Regions {
    all: Vec<Server>,
    path: Relay,
}

impl Regions {
    fn start(claims_at: &str) -> Self {
        let one = region(1, claims_at, &[]);
        let path = Relay::to(&one);
        let two = region(2, claims_at, &["--peer", &path.peer()]);
        let peers = [&one, &two].map(|peer| peer.url.replace("http", "ws"));
        let three = region(3, claims_at, &["--peer", &peers[0], "--peer", &peers[1]]);
        let regions = Self { all: vec![one, two, three], path };
        regions.are_linked();
        regions
    }

    fn are_linked(&self) {
        for (here, there) in [(0, 2), (1, 1), (0, 3), (2, 1), (1, 3), (2, 2)] {
            until(|| is_linked(&self.all[here], there));
        }
    }
}

fn region(replica: u16, claims_at: &str, words: &[&str]) -> Server {
    region_in(Scratch::new(), replica, &schema(claims_at), words)
}

fn claim(region: &Server, document: &str, value: &str) -> Answer {
    let path = format!("/v1/docs/pages%2F{document}/fields/slug/claim");
    region.ask("POST", &path, &[JSON], &json!({ "value": value }).to_string())
}

/// The same, once the region that reserves the value has read what was on record when it started.
fn claim_when_ready(region: &Server, document: &str, value: &str) -> Answer {
    let mut answer = claim(region, document, value);
    until(|| {
        if answer.status == 503
            && answer.json()["type"].as_str().is_some_and(|kind| kind.ends_with("not-yet"))
        {
            answer = claim(region, document, value);
        }
        answer.status != 503
    });
    answer
}

#[test]
fn of_those_who_claim_one_value_at_once_in_different_regions_one_gets_it() {
    let regions = Regions::start("[1, 2, 3]");
    for region in &regions.all {
        claim_when_ready(region, "ready", &format!("ready {}", region.url));
    }
    for round in 0..20 {
        let value = format!("slug {round}");
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let claims = regions.all.iter().enumerate().map(|(at, region)| {
                let (document, value) = (format!("{round}-{at}"), &value);
                scope.spawn(move || claim_when_ready(region, &document, value))
            });
            let claims: Vec<_> = claims.collect();
            claims.into_iter().map(|claim| claim.join().expect("an answer")).collect()
        });
        let got: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(got.iter().filter(|status| **status == 200).count(), 1, "round {round}: {answers:?}");
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            answer.is_problem(409, "taken");
        }
        let winner = answers.iter().position(|answer| answer.status == 200).expect("one");
        assert_eq!(
            answers[winner].json()["fields"]["slug"]["value"],
            value,
            "it is seen where it was asked for"
        );
        // Who has a value may claim it again; nobody else may.
        let document = format!("{round}-{winner}");
        assert_eq!(claim(&regions.all[(winner + 1) % 3], &document, &value).status, 200);
    }
}

#[test]
fn a_value_that_its_document_has_given_up_can_be_claimed() {
    let regions = Regions::start("[1]");
    let two = &regions.all[1];
    assert_eq!(claim_when_ready(two, "a", "x").status, 200);
    claim(two, "b", "x").is_problem(409, "taken");
    assert_eq!(claim(two, "a", "y").status, 200);
    // That it is free is known once it is on record.
    until(|| claim(two, "b", "x").status == 200);
    claim(two, "a", "x").is_problem(409, "taken");
}

#[test]
fn a_region_that_reserves_a_value_and_is_cut_off_makes_the_claim_unavailable() {
    let regions = Regions::start("[1]");
    let (one, two, three) = (&regions.all[0], &regions.all[1], &regions.all[2]);
    assert_eq!(claim_when_ready(two, "a", "x").status, 200);
    regions.path.cut();
    until(|| !is_linked(two, 1));
    let refused = claim(two, "b", "y");
    refused.is_problem(503, "home-unreachable");
    assert!(
        refused.json()["detail"].as_str().is_some_and(|detail| detail.contains("region 1")),
        "{refused:?}"
    );
    assert_eq!(claim(three, "c", "y").status, 200, "it reaches the first region");
    assert_eq!(claim(one, "d", "z").status, 200, "it is its own");
    regions.path.heal();
    regions.are_linked();
    claim(two, "b", "y").is_problem(409, "taken");
}

#[test]
fn a_claim_survives_a_crash_of_the_region_that_made_it() {
    let mut region = region(1, "[1]", &[]);
    assert_eq!(claim_when_ready(&region, "a", "x").status, 200);
    let region = region_in(region.kill(), 1, &schema("[1]"), &[]);
    claim_when_ready(&region, "b", "x").is_problem(409, "taken");
    assert_eq!(claim(&region, "a", "x").status, 200);
}

#[test]
fn what_cannot_be_claimed_is_refused_with_the_reason() {
    let region = region(1, "[1]", &[]);
    let refused = |path: &str, body: &serde_json::Value, reason: &str| {
        let answer = region.ask("POST", path, &[JSON], &body.to_string());
        answer.is_problem(422, "unprocessable");
        let detail = answer.json()["detail"].as_str().expect("a sentence").to_owned();
        assert!(detail.contains(reason), "{detail}");
    };
    let slug = "/v1/docs/pages%2Fa/fields/slug/claim";
    refused("/v1/docs/pages%2Fa/fields/title/claim", &json!({ "value": "x" }), "`title` is not unique");
    refused(
        "/v1/docs/other/fields/slug/claim",
        &json!({ "value": "x" }),
        "not unique in collection `default`",
    );
    refused(slug, &json!({ "value": 7 }), "type string");
    refused(slug, &json!({ "value": null }), "nothing but a value");
}
