// `quire demo` in a real browser: three regions side by side, cut and healed with a click, a plug pulled and put back.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { createServer } from "node:net";
import { test } from "node:test";
import { artifacts, startBrowser } from "../harness/browser.mjs";
import { BIN, temporaryDirectory } from "../harness/server.mjs";
import { until } from "../harness/until.mjs";

/** A port with three free ones after it, as far as one can tell. */
async function freePorts() {
  for (;;) {
    const first = createServer().listen(0, "127.0.0.1");
    await once(first, "listening");
    const { port } = first.address();
    first.close();
    const after = await Promise.all([1, 2, 3].map(async (offset) => {
      const server = createServer().listen(port + offset, "127.0.0.1");
      const [what] = await Promise.race([once(server, "listening").then(() => ["free"]), once(server, "error").then(() => ["taken"])]);
      server.close();
      return what;
    }));
    if (port < 65_000 && after.every((what) => what === "free")) return port;
  }
}

async function startDemo(t) {
  const port = await freePorts();
  const child = spawn(BIN, ["demo", "--port", String(port), "--data", `${await temporaryDirectory(t)}/made`], { stdio: ["pipe", "pipe", "inherit"] });
  const stopped = once(child, "exit");
  t.after(async () => {
    child.kill("SIGTERM");
    await stopped;
  });
  const [first] = await once(createInterface({ input: child.stdout }), "line");
  assert.equal(first, `listening on http://127.0.0.1:${port}`);
  return { url: `http://127.0.0.1:${port}`, child, stopped };
}

test("links are cut and healed with a click, and a region's plug is pulled and put back", async (t) => {
  const demo = await startDemo(t);
  const browser = await startBrowser(t);
  const shot = await artifacts(t);
  const page = await browser.newPage({ viewport: { width: 1400, height: 700 } });
  const problems = [];
  page.on("pageerror", (error) => problems.push(error.message));
  page.on("console", (message) => /Content Security Policy/i.test(message.text()) && problems.push(message.text()));
  await page.goto(demo.url);
  const verdict = page.locator("#verdict-text");
  await until("all regions are there", async () => (await verdict.textContent()) === "All regions show the same");
  const regions = [0, 1, 2].map((at) => page.frameLocator("iframe").nth(at).locator(".cm-content"));
  const type = async (at, text) => {
    await regions[at].click();
    await page.keyboard.press("Control+End");
    await page.keyboard.type(text);
  };
  const shows = (at, text) => until(async () => `region ${at} shows ${text}: ${await regions[at].textContent()}`, async () => (await regions[at].textContent()).includes(text));
  await type(0, "Hello from Europe. ");
  await Promise.all([1, 2].map((at) => shows(at, "Hello from Europe.")));

  const links = page.locator(".link");
  for (const at of [1, 2]) await links.nth(at).click();
  await until("the cut is shown", async () => (await page.locator('.link[aria-pressed="true"]').count()) === 2);
  await type(2, "Asia alone. ");
  await type(0, "Europe and America. ");
  await shows(1, "Europe and America.");
  await until("the divergence is told", async () => /cannot see all edits/.test(await verdict.textContent()));
  assert.ok(!(await regions[2].textContent()).includes("America"));
  await shot(page, "demo-cut");
  for (const at of [1, 2]) await links.nth(at).click();
  for (const at of [0, 1, 2]) await Promise.all([shows(at, "Asia alone."), shows(at, "Europe and America.")]);

  await page.locator(".plug").nth(1).click();
  await until("it is told", async () => /us is down/.test(await verdict.textContent()));
  await type(2, "Without America. ");
  await shows(0, "Without America.");
  await page.locator(".plug").nth(1).click();
  await shows(1, "Without America.");
  await until("all show the same again", async () => (await verdict.textContent()) === "All regions show the same");
  await shot(page, "demo-healed");

  // A key and Enter does what the button does.
  demo.child.stdin.write("1\n");
  await until("the link is cut", async () => (await links.nth(0).getAttribute("aria-pressed")) === "true");
  // Nobody else's page may do any of it.
  assert.equal((await fetch(`${demo.url}/demo/links/0/heal`, { method: "POST" })).status, 403);
  assert.deepEqual(problems, []);
});
