//! Webhooks over real sockets: a receiver that fails and comes back, and a server that is killed.

mod support;

use std::collections::BTreeSet;
use support::hook::{Hook, Taken, deliveries};
use support::{SECRET, Scratch, Server, run, text, until};

fn configured(hook: &Hook, more: &str) -> Scratch {
    let scratch = Scratch::new();
    scratch.write("hook.secret", SECRET);
    let url = format!("http://{}/in?a=b", hook.address);
    let file =
        format!("region = \"eu\"\n[[webhook]]\nurl = \"{url}\"\nsecret-file = \"hook.secret\"\n{more}\n");
    scratch.write("quire.toml", &file);
    scratch
}

#[test]
fn what_changes_is_sent_in_order_signed_and_again_until_it_is_taken() {
    let hook = Hook::answering(&[500, 429, 200, 400, 200]);
    let server = Server::start_in(configured(&hook, "prefix = \"team/\""), &[]);
    let conflict = server.conflict("team/1", &[]);
    server.conflict("other", &[]);
    server.conflict("team/2", &[]);
    let first: Vec<_> = (0..3).map(|_| hook.next()).collect();
    for taken in &first {
        taken.assert_signed();
        assert_eq!((taken.document(), taken.id()), ("team/1".to_owned(), first[0].id()));
    }
    let told = first[0].json();
    assert_eq!((&told["event"], &told["region"]), (&"opened".into(), &"eu".into()));
    assert_eq!(told["id"], first[0].id());
    assert_eq!(told["conflict"], conflict);
    assert!(first[0].head.starts_with("post /in?a=b http/1.1\r\n"), "{}", first[0].head);
    assert_eq!(first[0].header("quire-event"), "opened");

    let second = hook.next();
    assert_eq!(second.document(), "team/2");
    assert_ne!(second.id(), first[0].id());
    until(|| (deliveries(&server, "refused") == 1).then_some(()));
    server.conflict("team/3", &[]);
    assert_eq!(hook.next().document(), "team/3", "what was refused is skipped");
    until(|| (deliveries(&server, "delivered") == 2).then_some(()));
    assert_eq!(deliveries(&server, "failed"), 2);

    let (status, log, scratch) = server.stop();
    assert!(status.success(), "{log}");
    assert!(log.contains("the receiver refused a change; it is skipped"), "{log}");
    let checked = run(&["check", &scratch.word("data")]);
    assert!(checked.status.success(), "{}{}", text(&checked.stdout), text(&checked.stderr));
}

#[test]
fn a_server_that_is_killed_goes_on_where_its_webhook_was() {
    let hook = Hook::answering(&[200]);
    let mut server = Server::start_in(configured(&hook, "statuses = [\"open\"]"), &[]);
    server.conflict("a", &[]);
    assert_eq!(hook.next().document(), "a");
    until(|| (deliveries(&server, "delivered") == 1).then_some(()));
    hook.answers_from_now_on(503);
    for document in ["b", "c", "d"] {
        server.conflict(document, &[]);
    }
    let tried = hook.next();
    assert_eq!(tried.document(), "b");
    let scratch = server.kill();

    hook.answers_from_now_on(200);
    let server = Server::start_in(scratch, &[]);
    // What a crash lost of the record is derived again, perhaps in another order; what was told may be told again.
    server.listed("", &[], 4);
    server.conflict("e", &[]);
    let mut all: Vec<Taken> = Vec::new();
    while all.last().is_none_or(|taken| taken.document() != "e") {
        all.push(hook.next());
        all[all.len() - 1].assert_signed();
    }
    let documents: BTreeSet<_> = all.iter().map(Taken::document).filter(|document| document != "a").collect();
    assert_eq!(documents, ["b", "c", "d", "e"].map(str::to_owned).into());
    let again = all.iter().find(|taken| taken.document() == "b").expect("it was looked for");
    assert_eq!(again.id(), tried.id(), "what is sent again has the id that it had");

    // What was taken before a clean stop does not come again.
    until(|| (deliveries(&server, "delivered") == all.len() as u64).then_some(()));
    let (status, log, scratch) = server.stop();
    assert!(status.success(), "{log}");
    let server = Server::start_in(scratch, &[]);
    server.conflict("f", &[]);
    assert_eq!(hook.next().document(), "f");
}
