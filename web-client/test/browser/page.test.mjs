// The editor page in a real browser against the real server.
import assert from "node:assert/strict";
import { test } from "node:test";
import { artifacts, person, startBrowser, Visitor } from "../harness/browser.mjs";
import { startServer } from "../harness/server.mjs";
import { storedDoc } from "../harness/stored.mjs";
import { startGuarded, token } from "../harness/token.mjs";

test("two tabs type, see each other, and find it all after kill -9", async (t) => {
  const server = await startServer(t);
  const browser = await startBrowser(t);
  const shot = await artifacts(t);
  const ada = await Visitor.open(await person(browser, "Ada", "#4f56d6"), server);
  const grace = await Visitor.open(await person(browser, "Grace", "#b8357f"), server);
  await Promise.all([ada.is("saved"), grace.is("saved")]);

  await ada.type("# Notes\n\nAda was here. ");
  await grace.shows("Ada was here.");
  await grace.type("So was Grace. ");
  await ada.shows("So was Grace.");
  await Promise.all([ada.showsCursorOf("Grace"), grace.showsCursorOf("Ada")]);
  await Promise.all([ada.is("saved"), grace.is("saved")]);
  await shot(ada.page, "two-editors");
  const shown = await ada.text();
  assert.equal(await grace.text(), shown);

  await server.kill("SIGKILL");
  await Promise.all([ada.is("offline"), grace.is("offline")]);
  // Gone before the server is back: nobody is left who could upload it again.
  await Promise.all([ada.page.context().close(), grace.page.context().close()]);
  await server.restart();
  const later = await Visitor.open(await person(browser, "Mary", "#0b7a75"), server);
  await later.is("saved");
  assert.equal(await later.text(), shown);
  await shot(later.page, "after-the-kill");
  for (const visitor of [ada, grace, later]) assert.deepEqual(visitor.problems, []);
});

test("saved is never shown for what is gone", async (t) => {
  const server = await startServer(t);
  const browser = await startBrowser(t);
  for (let round = 0; round < 3; round++) {
    const context = await browser.newContext();
    const visitor = await Visitor.open(context, server, `?doc=round-${round}`);
    await visitor.is("saved");
    await visitor.type("first line, then deleted");
    await visitor.page.keyboard.press("Shift+Home");
    await visitor.page.keyboard.press("Delete");
    await visitor.page.keyboard.type(`line of round ${round}`);
    await visitor.is("saved");
    const shown = await visitor.text();
    await server.kill("SIGKILL");
    await context.close();
    await server.restart();
    const later = await Visitor.open(await browser.newContext(), server, `?doc=round-${round}`);
    await later.is("saved");
    assert.equal(await later.text(), shown);
  }
});

test("offline it says so, counts what is not saved, and saves it when it can", async (t) => {
  const server = await startServer(t);
  const browser = await startBrowser(t);
  const shot = await artifacts(t);
  const visitor = await Visitor.open(await person(browser, "Ada", "#4f56d6"), server);
  await visitor.is("saved");
  await visitor.type("online. ");
  await visitor.is("saved");
  await server.kill("SIGKILL");
  await visitor.is("offline");
  assert.equal(await visitor.savedText(), "Offline");
  await visitor.type("offline.");
  assert.equal(await visitor.savedText(), "Offline · 8 unsaved changes");
  await shot(visitor.page, "offline");
  await server.restart();
  await visitor.is("saved");
  const other = await Visitor.open(await person(browser, "Grace", "#b8357f"), server);
  await other.shows("online. offline.");
  assert.deepEqual(visitor.problems, []);
});

test("any name, by the address and by the dialog, with the keyboard alone", async (t) => {
  const server = await startServer(t);
  const browser = await startBrowser(t);
  const shot = await artifacts(t);
  const visitor = await Visitor.open(await person(browser, "Ada", "#4f56d6"), server, "#team/launch%20notes%20🚀");
  await visitor.is("saved");
  assert.equal(await visitor.page.locator("#title-text").innerText(), "team/launch notes 🚀");
  await visitor.type("launch");
  await visitor.is("saved");

  await visitor.page.locator("#title").focus();
  await visitor.page.keyboard.press("Enter");
  await visitor.page.waitForSelector("#open[open]");
  await visitor.page.keyboard.type("50% done? #1/a&b");
  await shot(visitor.page, "open");
  await visitor.page.keyboard.press("Enter");
  await visitor.page.waitForURL(/doc=50/);
  await visitor.is("saved");
  assert.equal(await visitor.page.locator("#title-text").innerText(), "50% done? #1/a&b");
  await visitor.type("percent");
  await visitor.is("saved");

  const stored = await storedDoc(server, "50% done? #1/a&b");
  assert.equal(stored.getText("content").toString(), "percent");
  assert.deepEqual(visitor.problems, []);
});

test("a name and colour of one's own, kept, and seen by others", async (t) => {
  const server = await startServer(t);
  const browser = await startBrowser(t);
  const shot = await artifacts(t);
  const ada = await Visitor.open(await browser.newContext({ colorScheme: "dark" }), server);
  const phone = { viewport: { width: 390, height: 780 }, isMobile: true, hasTouch: true };
  const grace = await Visitor.open(await person(browser, "Grace", "#b8357f", phone), server);
  await Promise.all([ada.is("saved"), grace.is("saved")]);
  await ada.page.locator("#people").click();
  await ada.page.locator("#my-name").fill("Ada Lovelace");
  await ada.page.locator('#my-colours input[aria-label="Teal"]').check();
  await shot(ada.page, "people-dark");
  await ada.page.keyboard.press("Escape");
  await ada.type("Hello from here");
  await grace.showsCursorOf("Ada Lovelace");
  await shot(grace.page, "phone");
  await ada.page.reload();
  await ada.is("saved");
  assert.equal(await ada.page.locator("#my-name").inputValue(), "Ada Lovelace");
  assert.equal(await ada.page.locator('#my-colours input[aria-label="Teal"]').isChecked(), true);
  assert.deepEqual([...ada.problems, ...grace.problems], []);
});

test("a refusal is shown with its reason; a reader may read", async (t) => {
  const server = await startGuarded(t);
  const browser = await startBrowser(t);
  const shot = await artifacts(t);
  const stranger = await Visitor.open(await browser.newContext(), server);
  await stranger.is("refused");
  assert.match(await stranger.page.locator("#notice-text").innerText(), /token/);
  await shot(stranger.page, "refused");

  const writer = await Visitor.open(await person(browser, "Ada", "#4f56d6"), server, `?doc=notes&token=${token({ notes: "write" })}`);
  await writer.is("saved");
  await writer.type("for readers");
  const reader = await Visitor.open(await person(browser, "Grace", "#b8357f"), server, `?doc=notes&token=${token({ notes: "read" })}`);
  await reader.shows("for readers");
  await reader.type("!");
  await reader.is("denied");
  assert.match(await reader.page.locator("#notice-text").innerText(), /read/);
  await shot(reader.page, "reader");
  assert.equal(await writer.text(), "for readers");
});
