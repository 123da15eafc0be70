//! `quire doc`, `quire token` and TLS against the real server.

mod support;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use std::process::Stdio;
use support::{SECRET, Scratch, Server, quire, run, text, token};

fn doc(server: &Server, words: &[&str]) -> (i32, String, String) {
    let output =
        quire(&["doc", "--url", &server.url]).args(words).stdin(Stdio::null()).output().expect("it runs");
    (output.status.code().expect("a code"), text(&output.stdout), text(&output.stderr))
}

#[test]
fn documents_are_imported_listed_shown_exported_and_removed() {
    let server = Server::start(&[]);
    let scratch = Scratch::new();
    let file = scratch.write("plan.txt", "the plan 🪶\n");
    let ok = |words: &[&str]| {
        let (code, out, err) = doc(&server, words);
        assert_eq!((code, err.as_str()), (0, ""), "{words:?}");
        out
    };
    ok(&["import", "team/plan", &file, "--text"]);
    assert_eq!(ok(&["cat", "team/plan"]), "the plan 🪶\n");
    let (code, _, err) = doc(&server, &["import", "team/plan", &file, "--text"]);
    assert_eq!(
        (code, err.as_str()),
        (1, "quire: team/plan: a document of this name exists, and was left as it is\n")
    );

    let list = ok(&["ls"]);
    let rows: Vec<_> = list.lines().collect();
    assert!(rows[0].starts_with("NAME       CHANGED") && rows[1].starts_with("team/plan  20"), "{list}");
    assert_eq!(ok(&["ls", "x"]).lines().count(), 1);
    let shown = ok(&["show", "team/plan"]);
    assert!(
        shown.starts_with("name      team/plan\nstate     live\n") && shown.contains("sessions  0"),
        "{shown}"
    );

    let update = scratch.word("plan.bin");
    ok(&["export", "team/plan", &update]);
    ok(&["import", "copy", &update]);
    assert_eq!(ok(&["cat", "copy"]), "the plan 🪶\n");

    ok(&["rm", "copy"]);
    let (code, out, err) = doc(&server, &["cat", "copy"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(err, "quire: copy: the document has been deleted; it can be restored (410 Gone)\n");
    assert!(!ok(&["ls"]).contains("copy") && ok(&["ls", "--deleted"]).contains("deleted"));
    ok(&["restore", "copy"]);
    assert_eq!(ok(&["cat", "copy"]), "the plan 🪶\n");
}

#[test]
fn failures_are_one_clear_line() {
    let server = Server::start(&[]);
    let (code, _, err) = doc(&server, &["cat", "none"]);
    assert_eq!((code, err.as_str()), (1, "quire: none: there is no document of this name (404 Not Found)\n"));
    let url = server.url.clone();
    drop(server);
    let output = run(&["doc", "ls", "--url", &url]);
    assert_eq!(output.status.code(), Some(1));
    let err = text(&output.stderr);
    assert!(err.starts_with(&format!("quire: cannot reach {url}")) && err.lines().count() == 1, "{err}");
    assert_eq!(run(&["doc", "ls", "--url", "ftp://x"]).status.code(), Some(1));
    assert_eq!(run(&["doc", "fly"]).status.code(), Some(2));
}

#[test]
fn a_token_from_an_ed25519_key_opens_a_server_that_has_its_public_half() {
    let scratch = Scratch::new();
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key pair");
    scratch.write("private.pem", &pair.serialize_pem());
    let public = scratch.write("public.pem", &pair.public_key_pem());
    let server = Server::start(&["--auth", "jwt", "--jwt-key-file", &public]);
    let minted =
        token(&scratch.path("private.pem"), &["--write", "**", "--expires", "5m", "--subject", "ada"]);
    assert_eq!(doc(&server, &["ls", "--token", &minted]).0, 0);
    let (code, _, err) = doc(&server, &["ls"]);
    assert_eq!((code, err.as_str()), (1, "quire: a token is needed (401 Unauthorized)\n"));

    let output = run(&["token", "--jwt-key-file", &public, "--write", "**"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("a public key cannot sign"));
    assert_eq!(run(&["token", "--jwt-key-file", &public]).status.code(), Some(2));
    let secret = scratch.write("secret", SECRET);
    let bad = run(&["token", "--jwt-key-file", &secret, "--read", "a", "--expires", "5 weeks"]);
    assert_eq!(bad.status.code(), Some(2));
}

#[test]
fn tls_is_served_and_its_certificate_is_checked() {
    let scratch = Scratch::new();
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("a certificate");
    let cert = scratch.write("cert.pem", &cert.pem());
    let key = scratch.write("key.pem", &signing_key.serialize_pem());
    let server = Server::start(&["--tls-cert", &cert, "--tls-key", &key]);
    assert!(server.url.starts_with("https://"), "{}", server.url);

    let words = ["doc", "ls", "--url", &server.url];
    let trusted = quire(&words).env("SSL_CERT_FILE", &cert).output().expect("it runs");
    assert_eq!(trusted.status.code(), Some(0), "{}", text(&trusted.stderr));
    let unknown = quire(&words).env("SSL_CERT_FILE", "/dev/null").output().expect("it runs");
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("cannot reach"), "{}", text(&unknown.stderr));
    let (status, _, _) = server.stop();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_directory_is_checked() {
    let server = Server::start(&[]);
    server.post_json("/v1/docs", r#"{"name":"a","seed":{"text":"some content"}}"#);
    let used = run(&["check", &server.scratch.word("data")]);
    assert_eq!(used.status.code(), Some(1));
    assert!(text(&used.stderr).contains("in use by another server"), "{}", text(&used.stderr));

    let (_, _, scratch) = server.stop();
    let data = scratch.word("data");
    let good = run(&["check", &data]);
    let said = text(&good.stdout);
    assert_eq!(good.status.code(), Some(0), "{said}{}", text(&good.stderr));
    assert!(
        said.starts_with("documents            1\n") && said.ends_with("\nNothing is wrong.\n"),
        "{said}"
    );

    let file = scratch.path("data").join("store.redb");
    let mut bytes = std::fs::read(&file).expect("it is there");
    let at = bytes.windows(12).position(|window| window == b"some content").expect("it is stored as it is");
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).expect("it can be written");
    let bad = run(&["check", &data]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(text(&bad.stdout).contains("\n- "), "{}", text(&bad.stdout));
    assert!(text(&bad.stderr).contains("is damaged; keep a copy of it"), "{}", text(&bad.stderr));
    assert_eq!(run(&["check", &scratch.word("absent")]).status.code(), Some(1));
}

#[test]
fn conflicts_are_listed_shown_and_resolved() {
    let server = Server::start(&["--region", "eu"]);
    let ok = |words: &[&str]| {
        let output = quire(&["conflicts", "--url", &server.url]).args(words).output().expect("it runs");
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "{words:?}");
        text(&output.stdout)
    };
    let fails = |words: &[&str], code: i32| {
        let output = quire(&["conflicts", "--url", &server.url]).args(words).output().expect("it runs");
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(code), ""), "{words:?}");
        text(&output.stderr)
    };
    assert_eq!(ok(&["show", "team/plan"]), "No such conflicts.\n");
    let conflict = server.conflict("team/plan", &[]);
    server.conflict("other", &[]);

    let listed = ok(&["ls", "--prefix", "team/"]);
    let rows: Vec<_> = listed.lines().collect();
    assert!(rows[0].starts_with("DOCUMENT   FIELD  POLICY    STATUS  SINCE "), "{listed}");
    assert!(
        rows[1].starts_with("team/plan  title  siblings  open    20") && rows[1].ends_with("  2"),
        "{listed}"
    );
    assert_eq!((rows.len(), ok(&["ls"]).lines().count()), (2, 3));
    assert_eq!(ok(&["ls", "--document", "team/plan", "--json"]), format!("{conflict}\n"));

    let id = conflict["id"].as_str().expect("an id");
    let shown = ok(&["show", "team/plan", "title"]);
    assert!(shown.starts_with(&format!("team/plan, title\nconflict  {id}\nstatus    open\n")), "{shown}");
    let versions = shown.split_once("\nN  VALUE     TIME").expect("versions").1;
    assert!(shown.contains("base      \"Plan\"\n") && versions.contains("\n2  \"Plan B\"  20"), "{shown}");
    assert!(versions.ends_with("Z  eu      -\n"), "{shown}");

    let resolve = ["resolve", "team/plan", "title"];
    let told = |more: &[&str], code| fails(&[&resolve, more].concat(), code);
    assert_eq!(told(&["--take", "3"], 1), "quire: team/plan, title: there is no version 3; there are 2\n");
    assert!(told(&["--value", "Plan C"], 2).contains("a text has quotes of its own"));
    assert!(told(&[], 2).contains("<--value <JSON>|--take <N>|--delete>"));
    assert!(told(&["--take", "1", "--conflict", "f00"], 1).contains("there is no such conflict"));
    ok(&[&resolve, &["--take", "2"][..]].concat());
    assert_eq!(server.get("/v1/docs/team%2Fplan/fields/title").json()["value"], "Plan B");
    server.listed("document=team%2Fplan&status=resolved", &[], 1);
    let shown = ok(&["show", "team/plan", "--status", "all"]);
    assert!(shown.contains("\nleft      \"Plan B\"\n"), "{shown}");
    assert!(told(&["--delete"], 1).contains("there is no such conflict; `quire conflicts show` lists"));
    ok(&["resolve", "other", "title", "--value", "\"Plan C\""]);
    assert_eq!(server.get("/v1/docs/other/fields/title").json()["value"], "Plan C");
}

#[test]
fn a_text_with_conflict_markers_is_shown_as_it_is() {
    let scratch = Scratch::new();
    scratch.write(
        "quire.toml",
        "[[collections]]\nname = \"all\"\npattern = \"**\"\ndefault = { policy = \"text3\" }\n",
    );
    let server = Server::start_in(scratch, &[]);
    let conflict = server.conflict("plan", &[]);
    let marked = conflict["value"].as_str().expect("a text");
    assert!(marked.contains("<<<<<<<"), "{conflict}");
    let shown = text(&run(&["conflicts", "--url", &server.url, "show", "plan"]).stdout);
    assert!(shown.ends_with(&format!("\nshown is\n{}\n", marked.trim_end_matches('\n'))), "{shown}");
}

#[test]
fn a_value_that_is_claimed_twice_is_shown_with_its_documents_and_not_resolved() {
    let scratch = Scratch::new();
    scratch.write(
        "quire.toml",
        "[[collections]]\nname = \"pages\"\npattern = \"pages/*\"\n\
         [collections.fields.slug]\ntype = \"string\"\nunique = true\n",
    );
    let server = Server::start_in(scratch, &[]);
    for page in ["a", "b"] {
        let path = format!("/v1/docs/pages%2F{page}/fields");
        let written = server.ask(
            "PATCH",
            &path,
            &[("content-type", "application/json")],
            r#"{"fields": {"slug": {"value": "home"}}}"#,
        );
        assert_eq!(written.status, 200, "{}", written.text());
    }
    server.listed("kind=unique", &[], 1);
    let conflicts = |words: &[&str]| {
        let output = quire(&["conflicts", "--url", &server.url]).args(words).output().expect("it runs");
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, listed, _) = conflicts(&["ls"]);
    assert!(code == Some(0) && listed.contains("\npages/b   slug   first_claim  open  "), "{listed}");
    let (code, shown, _) = conflicts(&["show", "pages/b"]);
    assert!(shown.contains("\nN  VALUE   TIME                  DOCUMENT\n1  \"home\"  20"), "{shown}");
    assert!(code == Some(0) && shown.ends_with("Z  pages/b\n"), "{shown}");
    let (code, _, said) = conflicts(&["resolve", "pages/b", "slug", "--take", "1"]);
    assert!(code == Some(1) && said.contains("there is no such conflict"), "{said}");
}
