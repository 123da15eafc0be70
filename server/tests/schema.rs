//! The schema of a configuration as an operator meets it: what is refused, line by line, and what is shown.

mod support;

use support::{Scratch, Server, run, text};

const TASKS: &str = r#"
[[collections]]
name = "tasks"
pattern = "tasks/*"
on-delete = "delete-wins"
ids = { short = "T" }
default = { policy = "lww" }
[collections.fields.title]
type = "string"
policy = "text3"
required = true
[collections.fields.status]
policy = { rank = ["todo", "doing", "done"] }
[collections.fields.slug]
type = "string"
unique = true
home = "accept_and_flag"
[collections.fields.owner]
reference = { collection = "people", on-delete = "null" }
[collections.fields.labels]
policy = "custom"
script-file = "merge.rhai"

[[collections]]
name = "people"
pattern = "people/*"
"#;

#[test]
fn a_schema_is_shown_as_it_is_understood() {
    let scratch = Scratch::new();
    let file = scratch.write("quire.toml", &format!("region = \"eu\"\n{TASKS}"));
    scratch.write("merge.rhai", "fn merge(base, versions) { versions[0] }");
    let shown = run(&["schema", "show", "--config", &file]);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    let hash = text(&run(&["schema", "--config", &file, "hash"]).stdout);
    assert_eq!((hash.len(), hash.trim_end().len()), (33, 32), "{hash}");
    let script = text(&shown.stdout).split_once("(script ").expect("it is shown").1[..8].to_owned();
    let expected = format!(
        "schema {hash}\n\
        tasks: tasks/*\non delete delete_wins, ids short T\n\n\
        field      type    policy                    and\n\
        labels     any     custom (script {script})\n\
        owner      string  siblings                  refers to people, on delete null\n\
        slug       string  siblings                  unique; home accept_and_flag\n\
        status     string  rank todo < doing < done\n\
        title      string  text3                     required\n\
        any other  any     lww\n\n\
        people: people/*\non delete revive\n\n\
        field      type  policy    and\n\
        any other  any   siblings\n"
    );
    assert_eq!(text(&shown.stdout), expected);

    // What a script says belongs to the schema; how a file is laid out does not.
    scratch.write("merge.rhai", "fn merge(base, versions) { versions[1] }");
    let other = text(&run(&["schema", "hash", "--config", &file]).stdout);
    assert_ne!(other, hash);
    let inline = TASKS.replace(
        "script-file = \"merge.rhai\"",
        "script = \"fn merge(base, versions) { versions[0] }\" # as before",
    );
    let file = scratch.write("again.toml", &inline);
    assert_eq!(text(&run(&["schema", "hash", "--config", &file]).stdout), hash);
}

#[test]
fn the_example_of_the_operators_page_is_a_schema() {
    let page = include_str!("../../docs/operating/schema.md");
    let example = page.split("```").find_map(|part| part.strip_prefix("toml\n")).expect("an example");
    let scratch = Scratch::new();
    let file = scratch.write("quire.toml", example);
    scratch.write("labels.rhai", "fn merge(base, versions) { base }");
    let shown = run(&["schema", "show", "--config", &file]);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    assert!(text(&shown.stdout).contains("refers to people, on delete null"));
}

#[test]
fn without_collections_the_hash_is_that_of_regions_that_know_of_none() {
    let scratch = Scratch::new();
    let file = scratch.write("quire.toml", "region = \"eu\"\n");
    assert_eq!(text(&run(&["schema", "hash", "--config", &file]).stdout), format!("{}\n", "0".repeat(32)));
    let shown = text(&run(&["schema", "show", "--config", &file]).stdout);
    assert!(
        shown.ends_with("\nNo collections: every field is of any type, and keeps its siblings.\n"),
        "{shown}"
    );
}

#[test]
fn everything_that_is_wrong_with_a_schema_is_told_at_once_by_its_line() {
    let scratch = Scratch::new();
    // Each line with what is to be told of it.
    let lines = [
        ("[[collections]]", None),
        ("name = \"tasks\"", None),
        ("patern = \"tasks/*\"", Some("patern .*there is no such key; did you mean pattern?")),
        ("on-delete = \"forget\"", Some("on-delete .*\"forget\" is not accepted .*revive, delete_wins")),
        ("ids = {}", Some("ids .*it says nothing .*uuid, range, or { short")),
        ("[collections.fields.title]", None),
        ("type = \"text\"", Some("title.type .*\"text\" is not accepted .*any, string, number")),
        ("policy = \"text33\"", Some("title.policy .*there is no policy \"text33\"; did you mean text3?")),
        ("[collections.fields.points]", None),
        ("type = \"string\"", None),
        (
            "policy = \"counter\"",
            Some("points.policy .*policy counter does not go with type string, but with number"),
        ),
        ("[collections.fields.status]", None),
        ("policy = \"rank\"", Some("status.policy .*rank needs the order of its values")),
        ("unique = \"yes\"", Some("status.unique .*the value is of another kind .*true or false")),
        ("[collections.fields.tags]", None),
        ("policy = \"set\"", None),
        (
            "unique = true",
            Some("tags.unique .*only a string, number, integer, boolean or timestamp can be unique"),
        ),
        ("[collections.fields.merged]", None),
        ("policy = \"custom\"", None),
        ("script-file = \"absent.rhai\"", Some("merged.script-file .*cannot read .*absent.rhai")),
        ("[collections.fields.blank]", None),
        ("policy = \"custom\"", None),
        ("script = \" \"", Some("blank.script .*the script is empty")),
        ("[collections.fields.idle]", None),
        (
            "script = \"fn merge(base, versions) { base }\"",
            Some("idle.script .*a script is given, and the policy is another"),
        ),
        ("[collections.fields.owner]", None),
        ("reference = \"poeple\"", Some("owner.reference .*there is no collection \"poeple\" to refer to")),
        ("[collections.fields.__conflicts]", Some("__conflicts .*a field's name has")),
        ("[[collections]]", Some(r"collections\[2\] .*a name is missing")),
        (
            "pattern = \"\"",
            Some(r"collections\[2\].pattern .*a document pattern needs at least one character"),
        ),
        ("[[collections]]", None),
        ("name = \"tasks\"", Some("tasks.name .*another collection has this name")),
        ("pattern = \"**\"", None),
    ];
    let content: String = lines.iter().flat_map(|(line, _)| [line, "\n"]).collect();
    let file = scratch.write("quire.toml", &content);
    let data = scratch.dir("data");
    for words in [
        &["serve", "--listen", "127.0.0.1:0", "--data", &data, "--config", &file][..],
        &["schema", "hash", "--config", &file],
    ] {
        let output = run(words);
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{said}");
        // The pattern that was not read is missing, too.
        let told = lines.iter().filter(|(_, told)| told.is_some()).count() + 1;
        assert!(said.starts_with(&format!("quire: the configuration has {told} problems\n")), "{said}");
        let problems: Vec<_> = said.split("\n\n  ").skip(1).collect();
        let at =
            |line: usize| problems.iter().filter(move |one| one.contains(&format!("quire.toml:{line})")));
        for (number, (line, told)) in lines.iter().enumerate() {
            let found: Vec<_> = at(number + 1).collect();
            let Some(told) = told else { continue };
            let parts: Vec<_> = told.split(" .*").map(|part| part.replace('\\', "")).collect();
            let fits = |one: &&str| parts.iter().all(|part| one.contains(part.as_str()));
            assert!(
                found.iter().any(|one| fits(one)),
                "{line:?} is to be told of with {parts:?}, in:\n{said}"
            );
        }
    }
    assert_eq!(
        std::fs::read_dir(scratch.path("data")).expect("it is there").count(),
        0,
        "nothing was started"
    );
}

#[test]
fn a_region_starts_with_a_schema_and_earlier_ones_by_their_hashes() {
    let scratch = Scratch::new();
    scratch.write("merge.rhai", "fn merge(base, versions) { versions[0] }");
    let before = "0".repeat(32);
    scratch.write("quire.toml", &format!("previous-schema = [\"{before}\"]\n{TASKS}"));
    let server = Server::start_in(scratch, &[]);
    assert_eq!(server.get("/readyz").status, 200);

    let scratch = Scratch::new();
    let many = vec![format!("\"{before}\""); 9].join(", ");
    let file = scratch.write("quire.toml", &format!("previous-schema = [{many}]\n"));
    let said = text(&run(&["serve", "--config", &file]).stderr);
    assert!(
        said.contains("quire.toml:1)\n      at most 8 earlier schemas can be named, and 9 are"),
        "{said}"
    );
    let said = text(&run(&["serve", "--previous-schema", "none"]).stderr);
    assert!(said.contains("accepted: 32 digits, as `quire schema hash` prints them"), "{said}");
    let file = scratch.write("plural.toml", &format!("previous-schemas = [\"{before}\"]\ncollection = 1\n"));
    let said = text(&run(&["serve", "--config", &file]).stderr);
    assert!(
        said.contains("did you mean previous-schema?") && said.contains("did you mean collections?"),
        "{said}"
    );
}
