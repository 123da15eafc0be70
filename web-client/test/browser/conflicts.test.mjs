// A field in conflict, on the page: seen by everybody, and resolved with the mouse or with the keyboard.
import assert from "node:assert/strict";
import { test } from "node:test";
import { artifacts, person, startBrowser, Visitor } from "../harness/browser.mjs";
import { startServer } from "../harness/server.mjs";
import { until } from "../harness/until.mjs";

const MARKUP = '<img src=x onerror="alert(1)">';

/** Writes a field over HTTP, on a version of it or on what stands there. */
async function write(server, name, value, version) {
  const body = JSON.stringify({ fields: { [name]: { value, ...(version === undefined ? {} : { version }) } } });
  const headers = { "content-type": "application/json" };
  const answer = await fetch(`${server.http}/v1/docs/notes/fields`, { method: "PATCH", headers, body });
  assert.equal(answer.status, 200, await answer.text());
}

async function read(server, name) {
  return (await fetch(`${server.http}/v1/docs/notes/fields/${name}`)).json();
}

/** Two writes on one version: neither had seen the other. */
async function conflict(server, name, values) {
  await write(server, name, "as it was");
  const { version } = await read(server, name);
  for (const value of values) await write(server, name, value, version);
}

test("a conflict is shown to everybody, taken with the mouse and with the keyboard, and then gone", async (t) => {
  const server = await startServer(t);
  const browser = await startBrowser(t);
  const shot = await artifacts(t);
  await conflict(server, "title", ["Plan A", MARKUP]);
  const ada = await Visitor.open(await person(browser, "Ada", "#4f56d6"), server);
  const phone = { viewport: { width: 390, height: 780 }, isMobile: true, hasTouch: true, colorScheme: "dark" };
  const grace = await Visitor.open(await person(browser, "Grace", "#b8357f", phone), server);
  const heading = (visitor) => visitor.page.locator("#conflicts-heading");
  for (const visitor of [ada, grace]) {
    await visitor.page.waitForSelector("#conflicts:not([hidden])");
    assert.equal(await heading(visitor).innerText(), "“title” was changed in 2 ways at once");
    // A value with markup is text.
    const values = (await visitor.page.locator(".version-value").allInnerTexts()).sort();
    assert.deepEqual(values, [MARKUP, "Plan A"]);
    assert.match(await visitor.page.locator("#conflicts .hint").innerText(), /Before, it was “as it was”/);
  }
  await shot(ada.page, "conflict");
  await shot(grace.page, "conflict-phone-dark");

  await ada.page.getByRole("button", { name: /^Take this: Plan A/ }).click();
  for (const visitor of [ada, grace]) await visitor.page.waitForSelector("#conflicts[hidden]", { state: "attached" });
  const resolved = await read(server, "title");
  assert.equal(resolved.value, "Plan A");
  assert.equal(resolved.conflict ?? false, false);

  // Another one, while both are there; and with the keyboard.
  await conflict(server, "status", ["open", "done"]);
  await conflict(server, "owner", ["ann", "ben"]);
  for (const visitor of [ada, grace]) {
    await until("both conflicts are shown", async () => (await heading(visitor).innerText()).startsWith("2 fields"));
  }
  await grace.page.getByRole("button", { name: /^Take this: done/ }).focus();
  await grace.page.keyboard.press("Enter");
  for (const visitor of [ada, grace]) {
    await until("one is left", async () => (await heading(visitor).innerText()).startsWith("“owner”"));
  }
  assert.equal((await read(server, "status")).value, "done");
  assert.deepEqual([...ada.problems, ...grace.problems], []);
});
