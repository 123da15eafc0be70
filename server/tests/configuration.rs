//! The configuration as an operator meets it: the real binary, its messages and its exit codes.

mod support;

use support::{Scratch, Server, quire, run, text};

#[test]
fn all_problems_are_listed_at_once_with_their_source_and_what_is_accepted() {
    let scratch = Scratch::new();
    let file = scratch.write(
        "quire.toml",
        "region = \"eu\"\nmax-frame-byte = 5\n\nunload-seconds = 1.5\nallow-origin = [\"https://a\", \"b\"]\n",
    );
    let words = ["serve", "--config", &file, "--replica", "0", "--lissten", "here", "now", "--auth=jwt"];
    let output = quire(&words)
        .env("QUIRE_MAX_BODY_BYTES", "12x")
        .env("QUIRE_PORT", "tcp://1")
        .output()
        .expect("it runs");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty());
    for expected in [
        "the configuration has 8 problems",
        "--lissten (flag --lissten)\n      there is no such setting; did you mean listen?",
        "now (flag now)\n      serve takes flags only",
        "replica (flag --replica)\n      \"0\" is not accepted\n      accepted: a whole number from 1 to 65535",
        "max-body-bytes (variable QUIRE_MAX_BODY_BYTES)\n      \"12x\" is not accepted\n      accepted: a size",
        "quire.toml:2)\n      there is no such setting; did you mean max-frame-bytes?",
        "quire.toml:4)\n      the value is of another kind\n      accepted: whole seconds from 0 to 86400",
        "quire.toml:5)\n      \"b\" is not accepted\n      accepted: an origin",
        "jwt-key-file (not given)\n      auth = jwt needs a key",
    ] {
        assert!(said.contains(expected), "{expected:?} is not in:\n{said}");
    }
}

#[test]
fn a_file_that_is_no_toml_is_refused_by_line() {
    let scratch = Scratch::new();
    let file = scratch.write("a.toml", "region = \"eu\"\nreplica = = 2\n");
    let output = run(&["serve", "--config", &file]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("a.toml:2"), "{}", text(&output.stderr));
    let output = run(&["serve", "--config", &scratch.word("absent.toml")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("config (flag --config)\n      cannot read "));
}

#[test]
fn a_flag_goes_over_a_variable_and_a_variable_over_the_file() {
    let scratch = Scratch::new();
    scratch.write("quire.toml", "log-format = \"text\"\nreplica = 7\n");
    let server = Server::start_in(scratch, &["--log-format", "json", "--replica", "8"]);
    server.post_json("/v1/docs", r#"{"name":"a"}"#);
    assert_eq!(server.get("/v1/docs/a").json()["home"], 8);
    let (status, log, _scratch) = server.stop();
    assert!(status.success());
    let said: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    assert!(said.iter().any(|line| line["message"] == "stopping"), "{log}");
}

#[test]
fn a_public_address_needs_authentication_or_insecure() {
    let scratch = Scratch::new();
    let data = scratch.dir("data");
    let output = run(&["serve", "--listen", "0.0.0.0:0", "--data", &data]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("accepted: a loopback address, or auth = jwt, or insecure"));
}

#[test]
fn keys_and_certificates_are_read_before_anything_starts() {
    let scratch = Scratch::new();
    let short = scratch.write("short", "too short");
    let output = run(&[
        "serve",
        "--data",
        &scratch.word("none"),
        "--auth",
        "jwt",
        "--jwt-key-file",
        &short,
        "--tls-cert",
        &short,
    ]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("the secret has 9 bytes; HS256 needs at least 32"), "{said}");
    assert!(said.contains("tls-key (not given)\n      tls-cert is given without its key"), "{said}");
}

#[test]
fn a_data_directory_that_cannot_be_used_is_one_clear_line_and_nothing_changes() {
    let scratch = Scratch::new();
    let missing = scratch.word("missing");
    let file = scratch.write("file", "content");
    for (data, reason) in
        [(&missing, "it does not exist; make it with: mkdir -p"), (&file, "it is not a directory")]
    {
        let output = run(&["serve", "--listen", "127.0.0.1:0", "--data", data]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("quire: ") && said.contains(reason) && said.lines().count() == 1, "{said}");
    }
    assert!(!scratch.path("missing").exists());
}

#[test]
fn a_directory_or_a_port_in_use_is_one_clear_line() {
    let server = Server::start(&[]);
    let data = server.scratch.word("data");
    let output = run(&["serve", "--listen", "127.0.0.1:0", "--data", &data]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("in use by another server") && said.lines().count() == 1, "{said}");

    let other = Scratch::new();
    let output = run(&["serve", "--listen", server.address(), "--data", &other.dir("data")]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("another program uses this port") && said.lines().count() == 1, "{said}");
    assert_eq!(std::fs::read_dir(other.path("data")).expect("it is there").count(), 0);
    assert_eq!(server.get("/readyz").status, 200);
}

#[test]
fn help_shows_every_setting_with_its_default_and_variable() {
    let output = run(&["serve", "--help"]);
    let said = text(&output.stdout);
    assert!(output.status.success());
    for expected in [
        "--listen <IP:PORT>",
        "[default: 127.0.0.1:8080] [env: QUIRE_LISTEN]",
        "[default: 16MiB]",
        "--insecure",
    ] {
        assert!(said.contains(expected), "{expected:?} is not in:\n{said}");
    }
    assert_eq!(run(&["sserve"]).status.code(), Some(2));
    assert_eq!(run(&[]).status.code(), Some(2));
}

#[test]
fn a_stop_exits_0() {
    let (status, _, _) = Server::start(&[]).stop();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn webhooks_are_refused_by_line() {
    let scratch = Scratch::new();
    scratch.write("short", "short");
    scratch.write("good", &"s".repeat(32));
    let file = scratch.write(
        "quire.toml",
        "[[webhook]]\nurl = \"ftp://a\"\nsecret-file = \"short\"\nstatuses = [\"opne\"]\n\
         [[webhook]]\nurl = \"https://a.example\"\nsecret_file = \"good\"\nstatuses = []\n\
         [[webhook]]\nurl = \"https://a.example/x\"\nsecret-file = \"good\"\n\
         [[webhook]]\nurl = \"https://a.example/x\"\nsecret-file = \"absent\"\n\
         [[webhook]]\nurl = \"https://a.example/x\"\nsecret-file = \"good\"\n",
    );
    let output = run(&["serve", "--config", &file]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for expected in [
        "the configuration has 8 problems",
        "webhook[1].url (FILE:2)\n      \"ftp://a\" is not accepted\n      accepted: the address",
        "webhook[1].secret-file (FILE:3)\n      DIR/short: it has 5 bytes",
        "webhook[1].statuses (FILE:4)\n      \"opne\" is not accepted\n      accepted: open, merged, resolved",
        "webhook[2].secret_file (FILE:7)\n      there is no such key; did you mean secret-file?",
        "webhook[2] (FILE:5)\n      a secret-file is missing",
        "webhook[2].statuses (FILE:8)\n      of no status anything would be sent",
        "webhook[4].secret-file (FILE:14)\n      cannot read DIR/absent: ",
        "webhook[5].url (FILE:15)\n      another webhook has this address",
    ] {
        let dir = file.strip_suffix("/quire.toml").expect("its name");
        let expected = expected.replace("FILE", &file).replace("DIR", dir);
        assert!(said.contains(&expected), "{expected:?} is not in:\n{said}");
    }
}
