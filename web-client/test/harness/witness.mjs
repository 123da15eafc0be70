// What an editor has seen of the server's word: every block and deletion it was sent, or told is saved.
//
// It keeps ranges, not a document: an update from others may rest on this editor's own unsaved edits.
import assert from "node:assert/strict";
import * as decoding from "lib0/decoding";
import * as Y from "yjs";
import { stateOf } from "./equal.mjs";

const SYNC = 0;
const STEP1 = 0;

export class Witness {
  #blocks = new Map();
  #deleted = new Map();
  /** How many updates it was sent. */
  updates = 0;

  constructor(editor) {
    if (editor.dialect === "y-websocket") this.#watchEchoes(editor);
    else this.#watchStatuses(editor);
  }

  /** Asserts that a document holds everything witnessed. */
  assertHeldBy(doc, what) {
    const held = stateOf(doc);
    const blocks = new Map(held.blocks);
    const deleted = new Map(held.deleted);
    for (const [client, end] of this.#blocks) {
      assert.ok((blocks.get(client) ?? 0) >= end, `${what}: blocks of ${client} end at ${blocks.get(client) ?? 0}, ${end} were seen`);
    }
    for (const [client, clocks] of this.#deleted) {
      const ranges = deleted.get(client) ?? [];
      for (const clock of clocks) {
        const covered = ranges.some(([from, to]) => from <= clock && clock < to);
        assert.ok(covered, `${what}: the deletion of ${client}:${clock} was seen and is gone`);
      }
    }
  }

  #watchEchoes({ provider }) {
    const sync = provider.messageHandlers[SYNC];
    provider.messageHandlers[SYNC] = (encoder, decoder, ...rest) => {
      const ahead = decoding.clone(decoder);
      if (decoding.readVarUint(ahead) !== STEP1) this.#saw(decoding.readVarUint8Array(ahead));
      sync(encoder, decoder, ...rest);
    };
  }

  #watchStatuses({ provider, doc }) {
    provider.on("message", ({ message }) => {
      message.readVarString();
      if (message.readVarUint() !== SYNC) return;
      if (message.readVarUint() !== STEP1) this.#saw(message.readVarUint8Array());
    });
    // At zero, everything this editor has is saved, whoever wrote it.
    provider.on("unsyncedChanges", ({ number }) => {
      if (number === 0 && provider.synced) this.#saw(Y.encodeStateAsUpdate(doc));
    });
  }

  #saw(update) {
    this.updates++;
    const { structs, ds } = Y.decodeUpdate(update);
    for (const struct of structs) {
      if (struct instanceof Y.Skip) continue;
      const { client, clock } = struct.id;
      this.#blocks.set(client, Math.max(this.#blocks.get(client) ?? 0, clock + struct.length));
    }
    for (const [client, ranges] of ds.clients) {
      const clocks = this.#deleted.get(client) ?? new Set();
      for (const { clock, len } of ranges) for (let each = clock; each < clock + len; each++) clocks.add(each);
      this.#deleted.set(client, clocks);
    }
  }
}
