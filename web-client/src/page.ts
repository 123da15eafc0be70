/**
 * The editor page: wires one document, its connection, the editor and the bar above it.
 *
 * Everything that can be decided without a browser lives in the files beside this one.
 */
import * as Y from "yjs";
import { addressOf, nameIn, nameProblem, roomOf, socketBase } from "./address";
import { ConflictsList } from "./conflicts-list";
import { Connection, type State } from "./connection";
import { type Editor, openEditor } from "./editor";
import { announce, cleanName, COLOURS, initials, loadMe, others, type Person, saveMe } from "./presence";
import { loadRecent, saveRecent } from "./recent";

/** The root text that Quire's HTTP API reads and writes by default. */
const ROOT = "content";

/** "Saved" appears once typing has paused this long. It only delays good news: bad news shows at once. */
const CALM_MS = 350;

const FACES_MAX = 4;

main();

function main(): void {
  const here = new URL(location.href);
  const name = nameIn(here);
  element("title-text").textContent = name;
  document.title = `${name} · Quire`;
  openDialog(name, here);

  const problem = nameProblem(name);
  if (problem !== null) return notice(problem, null);
  saveRecent(localStorage, name);

  const doc = new Y.Doc();
  const connection = new Connection(doc, {
    base: socketBase(here),
    room: roomOf(name),
    token: here.searchParams.get("token"),
  });
  const { awareness } = connection.provider;
  const editor = openEditor(element("editor"), doc.getText(ROOT), awareness);
  showPeople(connection);
  showState(connection, editor, new ConflictsList(doc, element("conflicts")));
  connection.connect();
  editor.view.focus();
}

function showState(connection: Connection, editor: Editor, conflicts: ConflictsList): void {
  let calm: ReturnType<typeof setTimeout> | undefined;
  const badge = element("saved");
  const show = (state: State) => {
    badge.dataset["state"] = state.kind;
    element("saved-text").textContent = described(state);
  };
  connection.onState((state) => {
    clearTimeout(calm);
    if (state.kind === "saved" && badge.dataset["state"] === "saving") calm = setTimeout(() => show(state), CALM_MS);
    else show(state);

    const closed = state.kind === "refused" || state.kind === "denied";
    editor.setWritable(!closed);
    conflicts.setWritable(!closed);
    if (state.kind === "refused") notice(`The server closed this document: ${reasonOf(state)}.`, () => connection.connect());
    else if (state.kind === "denied") notice(`You can read this document, not change it: ${state.reason}.`, null);
    else element("notice").hidden = true;
  });

  // The browser asks before it throws away what is not saved.
  addEventListener("beforeunload", (event) => {
    const { state } = connection;
    if ("unsaved" in state && state.unsaved > 0) event.preventDefault();
  });
}

function described(state: State): string {
  switch (state.kind) {
    case "opening":
      return "Opening…";
    case "saved":
      return "Saved";
    case "saving":
      return "Saving…";
    case "offline":
      return state.unsaved === 0 ? "Offline" : `Offline · ${unsavedChanges(state.unsaved)}`;
    case "denied":
      return state.unsaved === 0 ? "Read only" : `Read only · ${unsavedChanges(state.unsaved)}`;
    case "refused":
      return state.unsaved === 0 ? "Closed" : `Closed · ${unsavedChanges(state.unsaved)}`;
  }
}

function unsavedChanges(count: number): string {
  return count === 1 ? "1 unsaved change" : `${count.toLocaleString("en")} unsaved changes`;
}

function reasonOf({ code, reason }: { code: number; reason: string }): string {
  return reason === "" ? `code ${code}` : reason;
}

function notice(text: string, retry: (() => void) | null): void {
  element("notice-text").textContent = text;
  const button = element<HTMLButtonElement>("notice-retry");
  button.hidden = retry === null;
  button.onclick = () => {
    element("notice").hidden = true;
    retry?.();
  };
  element("notice").hidden = false;
}

function showPeople({ provider: { awareness } }: Connection): void {
  const me = loadMe(localStorage);
  const changed = () => {
    const there = others(awareness);
    element("faces").replaceChildren(...faces([me, ...there]));
    element("people-text").textContent = there.length === 0 ? "Only you are here" : `${there.length + 1} people here`;
    element("others").replaceChildren(...there.map(listItem));
    element("others-heading").textContent = there.length === 0 ? "Nobody else is here" : "Also here";
  };
  const chosen = () => {
    saveMe(localStorage, me);
    announce(awareness, me);
    changed();
  };

  const nameInput = element<HTMLInputElement>("my-name");
  nameInput.value = me.name;
  nameInput.addEventListener("input", () => {
    const name = cleanName(nameInput.value);
    if (name === "") return;
    me.name = name;
    chosen();
  });
  nameInput.addEventListener("blur", () => (nameInput.value = me.name));
  element("my-colours").replaceChildren(
    ...COLOURS.map(({ name, color }) =>
      colourChoice(name, color, color === me.color, () => {
        me.color = color;
        chosen();
      }),
    ),
  );

  awareness.on("change", changed);
  chosen();
}

function faces(people: Person[]): HTMLElement[] {
  const shown = people.length > FACES_MAX ? people.slice(0, FACES_MAX - 1) : people;
  const list = shown.map((person) => face(person));
  if (shown.length < people.length) {
    const more = document.createElement("span");
    more.className = "face more";
    more.textContent = `+${people.length - shown.length}`;
    list.push(more);
  }
  return list;
}

function face({ name, color }: Person): HTMLElement {
  const circle = document.createElement("span");
  circle.className = "face";
  circle.style.backgroundColor = color;
  circle.textContent = initials(name);
  circle.title = name;
  return circle;
}

function listItem(person: Person): HTMLElement {
  const item = document.createElement("li");
  item.append(face(person), person.name);
  return item;
}

function colourChoice(name: string, color: string, checked: boolean, choose: () => void): HTMLElement {
  const label = document.createElement("label");
  const radio = document.createElement("input");
  radio.type = "radio";
  radio.name = "colour";
  radio.value = color;
  radio.checked = checked;
  radio.setAttribute("aria-label", name);
  radio.addEventListener("change", choose);
  const swatch = document.createElement("span");
  swatch.style.backgroundColor = color;
  label.title = name;
  label.append(radio, swatch);
  return label;
}

function openDialog(current: string, here: URL): void {
  const dialog = element<HTMLDialogElement>("open");
  const input = element<HTMLInputElement>("open-name");
  element("title").addEventListener("click", () => {
    input.value = current;
    input.setCustomValidity("");
    showRecent(current, here);
    dialog.showModal();
    input.select();
  });
  element("open-cancel").addEventListener("click", () => dialog.close());
  input.addEventListener("input", () => input.setCustomValidity(nameProblem(input.value) ?? ""));
  element<HTMLFormElement>("open-form").addEventListener("submit", (event) => {
    event.preventDefault();
    dialog.close();
    if (input.value !== current) location.assign(addressOf(input.value, here));
  });
}

function showRecent(current: string, here: URL): void {
  const names = loadRecent(localStorage).filter((name) => name !== current);
  element("recent").hidden = names.length === 0;
  element("recent-list").replaceChildren(
    ...names.map((name) => {
      const item = document.createElement("li");
      const link = document.createElement("a");
      link.href = addressOf(name, here).href;
      link.textContent = name;
      item.append(link);
      return item;
    }),
  );
}

function element<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`index.html has no #${id}`);
  return found as T;
}
