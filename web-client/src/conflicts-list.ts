/** Shows what is in conflict above the text, each version with who wrote it and where, and lets a person take one. */
import * as Y from "yjs";
import { type Conflict, conflictsIn, FIELDS_ROOT, take, type Version } from "./conflicts";

const when = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** Keeps a section up to date; `mayWrite` tells whether this person may resolve. */
export class ConflictsList {
  readonly #fields: Y.Map<unknown>;
  readonly #section: HTMLElement;
  readonly #heading: HTMLElement;
  readonly #list: HTMLElement;
  #mayWrite = true;
  #shown = "";

  constructor(doc: Y.Doc, section: HTMLElement) {
    this.#fields = doc.getMap(FIELDS_ROOT);
    this.#section = section;
    this.#heading = document.createElement("h2");
    this.#heading.id = `${section.id}-heading`;
    this.#list = document.createElement("ul");
    section.setAttribute("aria-labelledby", this.#heading.id);
    section.replaceChildren(this.#heading, this.#list);
    this.#fields.observeDeep(() => this.#show());
    this.#show();
  }

  setWritable(mayWrite: boolean): void {
    this.#mayWrite = mayWrite;
    this.#show();
  }

  #show(): void {
    const conflicts = conflictsIn(this.#fields);
    const shown = JSON.stringify([this.#mayWrite, conflicts]);
    // Whoever is about to press a button must not have it taken away by what changes nothing.
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.#section.hidden = conflicts.length === 0;
    const [first] = conflicts;
    this.#heading.textContent =
      conflicts.length === 1 && first
        ? `“${first.path.join(" / ")}” was changed in ${first.versions.length} ways at once`
        : `${conflicts.length} fields were changed in several ways at once`;
    this.#list.replaceChildren(...conflicts.map((conflict) => this.#conflict(conflict, conflicts.length > 1)));
  }

  #conflict(conflict: Conflict, named: boolean): HTMLElement {
    const item = document.createElement("li");
    if (named) item.append(made("h3", "", conflict.path.join(" / ")));
    const before = conflict.base === null ? "Nothing was there before." : `Before, it was “${conflict.base}”.`;
    item.append(made("p", "hint", conflict.reason === null ? before : `${before} ${conflict.reason}`));
    const versions = document.createElement("ul");
    versions.append(...conflict.versions.map((version) => this.#version(conflict, version)));
    item.append(versions);
    return item;
  }

  #version(conflict: Conflict, version: Version): HTMLElement {
    const item = document.createElement("li");
    item.className = "version";
    const by = [version.author ?? "somebody", version.region === "" ? "" : `in ${version.region}`].filter(Boolean).join(" ");
    const text = made("div", "version-text", "");
    text.append(made("span", "version-value", version.text), made("span", "version-by", `${by}, ${when.format(version.time)}`));
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.textContent = version.take === "delete" ? "Delete it" : "Take this";
    button.setAttribute("aria-label", `${button.textContent}: ${version.text}, by ${by}`);
    button.disabled = !this.#mayWrite || version.take === null;
    if (version.take === null) button.title = "It is too long to be taken here: write the field anew";
    button.addEventListener("click", () => take(this.#fields, conflict, version));
    item.append(text, button);
    return item;
  }
}

function made(name: string, className: string, text: string): HTMLElement {
  const element = document.createElement(name);
  if (className !== "") element.className = className;
  element.textContent = text;
  return element;
}
