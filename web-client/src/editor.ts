/**
 * The text editor: CodeMirror 6 bound to one Yjs text by y-codemirror.next, with Markdown made visible.
 *
 * It knows nothing of connections. Undo is Yjs's: it takes back this person's edits only.
 */
import { defaultKeymap, indentWithTab } from "@codemirror/commands";
import { HighlightStyle, indentOnInput, Language, defineLanguageFacet, syntaxHighlighting } from "@codemirror/language";
import { highlightSelectionMatches, search, searchKeymap } from "@codemirror/search";
import { Compartment, EditorState } from "@codemirror/state";
import { drawSelection, dropCursor, EditorView, keymap, placeholder } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { GFM, parser } from "@lezer/markdown";
import { yCollab, yUndoManagerKeymap } from "y-codemirror.next";
import type { Awareness } from "y-protocols/awareness";
import type * as Y from "yjs";

// @codemirror/lang-markdown would bring the parsers of HTML, CSS and JavaScript along: twice this page's size.
const markdown = new Language(defineLanguageFacet({}), parser.configure(GFM), [], "markdown");

const look = HighlightStyle.define([
  { tag: tags.heading1, class: "md-h1" },
  { tag: tags.heading2, class: "md-h2" },
  { tag: [tags.heading3, tags.heading4, tags.heading5, tags.heading6], class: "md-h3" },
  { tag: tags.strong, class: "md-strong" },
  { tag: tags.emphasis, class: "md-emphasis" },
  { tag: tags.strikethrough, class: "md-strike" },
  { tag: [tags.link, tags.url], class: "md-link" },
  { tag: tags.monospace, class: "md-code" },
  { tag: tags.quote, class: "md-quote" },
  { tag: [tags.processingInstruction, tags.contentSeparator, tags.labelName], class: "md-mark" },
]);

export interface Editor {
  view: EditorView;
  /** Lets the person type, or only read. */
  setWritable(writable: boolean): void;
}

export function openEditor(parent: HTMLElement, text: Y.Text, awareness: Awareness): Editor {
  const writable = new Compartment();
  const permit = (may: boolean) => [EditorState.readOnly.of(!may), EditorView.editable.of(may)];
  const view = new EditorView({
    parent,
    state: EditorState.create({
      doc: text.toString(),
      extensions: [
        EditorView.lineWrapping,
        drawSelection(),
        dropCursor(),
        indentOnInput(),
        search({ top: true }),
        highlightSelectionMatches(),
        markdown.extension,
        syntaxHighlighting(look),
        placeholder("Start writing. Everyone who opens this address writes here with you."),
        EditorView.contentAttributes.of({ "aria-label": "Document text", spellcheck: "true", autocapitalize: "sentences" }),
        writable.of(permit(true)),
        yCollab(text, awareness),
        keymap.of([...yUndoManagerKeymap, ...defaultKeymap, ...searchKeymap, indentWithTab]),
      ],
    }),
  });
  const setWritable = (may: boolean) => {
    if (view.state.readOnly === may) view.dispatch({ effects: writable.reconfigure(permit(may)) });
  };
  return { view, setWritable };
}
