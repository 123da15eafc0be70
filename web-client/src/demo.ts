/**
 * The demo's page: the same document in three regions, and the links between them to cut and heal.
 *
 * The state of the demo comes from its own server, how far each region is from the region itself. Nothing is
 * decided here.
 */

interface Demo {
  regions: { name: string; url: string; runs: boolean }[];
  links: { from: number; to: number; delay_ms: number; cut: boolean }[];
}

interface Status {
  region: { streams: { replica: number; incarnation: number; received: number; applied: number }[] };
}

const LOOK_EVERY_MS = 500;
const DOCUMENT = "welcome";

const byId = (id: string): HTMLElement => {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
};

const shown = new Map<string, { section: HTMLElement; facts: HTMLElement; plug: HTMLButtonElement }>();
const buttons: HTMLButtonElement[] = [];

/** Asks the demo's server for something; what changes something carries the header that only this page may send. */
async function ask(path: string, change = false): Promise<Response> {
  return fetch(path, change ? { method: "POST", headers: { "x-quire-demo": "1" } } : {});
}

function element<K extends keyof HTMLElementTagNameMap>(tag: K, className: string, text = ""): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function showRegion(name: string, url: string, index: number): void {
  const section = element("section", "region");
  section.setAttribute("aria-label", `Region ${name}`);
  const header = element("header", "");
  const facts = element("p", "facts");
  const plug = element("button", "plug");
  plug.type = "button";
  plug.addEventListener("click", () => {
    plug.disabled = true;
    void ask(`/demo/regions/${index}/${section.dataset["runs"] === "true" ? "kill" : "start"}`, true)
      .then(look)
      .finally(() => (plug.disabled = false));
  });
  header.append(element("h2", "", name), facts, plug);
  const frame = element("iframe", "");
  frame.title = `The document in ${name}`;
  frame.src = `${url}/?doc=${DOCUMENT}`;
  section.append(header, frame);
  byId("regions").append(section);
  shown.set(name, { section, facts, plug });
}

function showLink(demo: Demo, index: number): void {
  const button = element("button", "link");
  button.type = "button";
  const { from, to } = demo.links[index]!;
  const between = element("span", "between", `${demo.regions[from]!.name} – ${demo.regions[to]!.name}`);
  button.append(between, element("small", ""));
  button.addEventListener("click", () => {
    const cut = button.getAttribute("aria-pressed") === "true";
    void ask(`/demo/links/${index}/${cut ? "heal" : "cut"}`, true).then(look);
  });
  byId("links").append(button);
  buttons.push(button);
}

async function statusOf(url: string): Promise<Status | undefined> {
  try {
    return (await (await fetch(`${url}/v1/regions`)).json()) as Status;
  } catch {
    return undefined;
  }
}

/** What a region shows of each stream, in one line that compares. */
const applied = (status: Status): string =>
  status.region.streams.map(({ replica, incarnation, applied }) => `${replica}.${incarnation}:${applied}`).join(" ");

/** How many entries a region shows. */
const entries = (status: Status): number => status.region.streams.reduce((sum, stream) => sum + stream.applied, 0);

function verdict(demo: Demo, statuses: (Status | undefined)[]): [state: string, text: string] {
  const down = demo.regions.filter((_, at) => !statuses[at]).map(({ name }) => name);
  const up = statuses.filter((status) => status !== undefined);
  const most = Math.max(...up.map(entries), 0);
  const equal = up.every((status) => applied(status) === applied(up[0]!));
  if (down.length > 0) return ["apart", `${down.join(" and ")} ${down.length > 1 ? "are" : "is"} down; the others go on`];
  if (equal) return ["equal", "All regions show the same"];
  const behind = demo.regions.filter((_, at) => entries(statuses[at]!) < most).map(({ name }) => name);
  const cut = demo.links.some((link) => link.cut);
  return [cut ? "apart" : "busy", `${behind.join(" and ") || "The regions"} ${cut ? "cannot see all edits" : "catching up"}`];
}

async function look(): Promise<void> {
  let demo: Demo;
  try {
    demo = (await (await ask("/demo/state")).json()) as Demo;
  } catch {
    byId("verdict").dataset["state"] = "apart";
    byId("verdict-text").textContent = "The demo has stopped";
    return;
  }
  if (shown.size === 0) {
    demo.regions.forEach(({ name, url }, index) => showRegion(name, url, index));
    demo.links.forEach((_, index) => showLink(demo, index));
  }
  demo.links.forEach(({ cut, delay_ms }, index) => {
    const button = buttons[index]!;
    button.setAttribute("aria-pressed", String(cut));
    button.title = cut ? "Heal this link" : "Cut this link";
    button.querySelector("small")!.textContent = cut ? "cut" : `${delay_ms} ms`;
  });
  const statuses = await Promise.all(demo.regions.map(({ url, runs }) => (runs ? statusOf(url) : undefined)));
  demo.regions.forEach(({ name, runs }, at) => {
    const { section, facts, plug } = shown.get(name)!;
    section.dataset["runs"] = String(runs);
    plug.textContent = runs ? "Pull the plug" : "Start again";
    const status = statuses[at];
    facts.textContent = status ? `${entries(status)} entries` : "down";
  });
  const [state, text] = verdict(demo, statuses);
  byId("verdict").dataset["state"] = state;
  byId("verdict-text").textContent = text;
}

async function watch(): Promise<never> {
  for (;;) {
    await look();
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
}

void watch();
