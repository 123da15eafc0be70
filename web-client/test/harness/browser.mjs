// A headless Chromium for the page's tests: the system's own, with a profile of its own.
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { chromium } from "playwright-core";
import { until } from "./until.mjs";

const NAMES = [process.env.QUIRE_CHROMIUM, "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/** Chromium looks for its maker's servers by itself; a test must work without a network. */
const QUIET = [
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

function chromiumPath() {
  for (const name of NAMES.filter(Boolean)) {
    try {
      return execFileSync("sh", ["-c", 'command -v "$0"', name], { encoding: "utf8" }).trim();
    } catch {
      // Not this one.
    }
  }
  throw new Error("no Chromium found: install one, or name it by QUIRE_CHROMIUM");
}

export async function startBrowser(t) {
  const browser = await chromium.launch({ executablePath: chromiumPath(), args: QUIET });
  t.after(() => browser.close());
  return browser;
}

/** Where screenshots go: QUIRE_ARTIFACTS, or a new directory that is printed. */
export async function artifacts(t) {
  const folder = process.env.QUIRE_ARTIFACTS || (await mkdtemp(path.join(tmpdir(), "quire-artifacts-")));
  await mkdir(folder, { recursive: true });
  return async (page, name) => {
    const file = path.join(folder, `${name}.png`);
    await page.screenshot({ path: file });
    t.diagnostic(`screenshot: ${file}`);
  };
}

/** One person at the page: what the tests read from it, and what must never happen on it. */
export class Visitor {
  /** Console errors, page errors and requests to elsewhere. */
  problems = [];

  static async open(context, server, address = "?doc=notes") {
    const visitor = new Visitor();
    const page = await context.newPage();
    visitor.page = page;
    const { origin } = new URL(server.http);
    page.on("pageerror", (error) => visitor.problems.push(`page error: ${error.message}`));
    page.on("console", (message) => {
      // A server that is down is reported by the browser itself, and is not the page's fault.
      const down = /WebSocket connection to .* failed/.test(message.text());
      if (message.type() === "error" && !down) visitor.problems.push(`console: ${message.text()}`);
    });
    page.on("request", (request) => {
      if (new URL(request.url()).origin !== origin) visitor.problems.push(`request to ${request.url()}`);
    });
    await page.goto(`${server.http}/${address}`);
    return visitor;
  }

  async is(state) {
    await this.page.waitForSelector(`#saved[data-state="${state}"]`, { timeout: 30_000 });
  }

  /** Types at the end of the text. */
  async type(text) {
    await this.page.locator(".cm-content").focus();
    await this.page.keyboard.press("Control+End");
    await this.page.keyboard.type(text);
  }

  async shows(text) {
    await until(`the page shows ${text}`, async () => (await this.text()).includes(text));
  }

  async showsCursorOf(name) {
    await this.page.waitForFunction(
      (wanted) => [...document.querySelectorAll(".cm-ySelectionInfo")].some(({ textContent }) => textContent === wanted),
      name,
      { timeout: 30_000 },
    );
  }

  /** The text alone: the names beside cursors stand in the same lines. */
  text() {
    return this.page.evaluate(() =>
      [...document.querySelectorAll(".cm-line")]
        .map((line) => {
          const copy = line.cloneNode(true);
          copy.querySelectorAll(".cm-ySelectionCaret, .cm-placeholder").forEach((other) => other.remove());
          return copy.textContent;
        })
        .join("\n"),
    );
  }

  savedText() {
    return this.page.locator("#saved").innerText();
  }
}

/** A browser profile of somebody with this name and colour. */
export async function person(browser, name, color, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 720 }, ...options });
  await context.addInitScript(
    ([key, me]) => localStorage.getItem(key) ?? localStorage.setItem(key, me),
    ["quire.me", JSON.stringify({ name, color })],
  );
  return context;
}
