// Editors: a Yjs document behind a stock provider, in either dialect, with one face for the tests.
//
// `saved()` says what each dialect lets a client know: y-websocket by the echo of its own changes, Hocuspocus
// by `unsyncedChanges`. Neither provider is patched; the y-websocket one is listened in on, as the page does.
//
// `present: false` watches others and shows nothing of itself; `awareness: false` takes no part at all;
// `beside` is a Hocuspocus editor whose socket another one shares.
import { HocuspocusProvider, HocuspocusProviderWebsocket } from "@hocuspocus/provider";
import * as decoding from "lib0/decoding";
import WebSocket from "ws";
import { Awareness } from "y-protocols/awareness";
import { WebsocketProvider } from "y-websocket";
import * as Y from "yjs";
import { questionAfter } from "../../src/connection.ts";
import { Unsaved } from "../../src/saved.ts";
import { until } from "./until.mjs";

// Each y-websocket provider listens for the end of the process; a test opens many.
process.setMaxListeners(0);

export const DIALECTS = ["y-websocket", "hocuspocus"];

/** Opens an editor that is destroyed with the test. */
export function openEditor(t, server, dialect, name, options = {}) {
  const editor = dialect === "hocuspocus" ? new HocuspocusEditor(server, name, options) : new YWebsocketEditor(server, name, options);
  t.after(() => editor.close());
  return editor;
}

/** Somebody writes at the beginning of a document and goes, once the server has it: nobody else holds it. */
export async function write(t, server, name, text) {
  const editor = openEditor(t, server, "y-websocket", name);
  await editor.synced();
  editor.text.insert(0, text);
  await editor.saved();
  editor.close();
}

/** Opens `count` editors of one document, the dialects taking turns. */
export function openEditors(t, server, name, count, options = {}) {
  return Array.from({ length: count }, (_, index) => openEditor(t, server, DIALECTS[index % 2], name, options));
}

class Editor {
  constructor(dialect, name) {
    this.dialect = dialect;
    this.name = name;
    this.doc = new Y.Doc();
    this.text = this.doc.getText("content");
    /** Each loss of the connection: `{ code, reason }`, nothing where this side let go of it. */
    this.closes = [];
    this.closed = false;
  }

  /** How often the connection was lost. */
  get losses() {
    return this.closes.length;
  }

  async synced() {
    await until(`${this.dialect} editor of ${this.name} is synced`, () => this.isSynced);
  }

  async saved() {
    await until(() => `${this.dialect} editor of ${this.name} is saved (${this.unsaved} to go)`, () => this.isSaved);
  }

  get isSaved() {
    return this.isSynced && this.unsaved === 0;
  }

  others() {
    return [...this.awareness.getStates()].filter(([client]) => client !== this.doc.clientID).map(([, state]) => state);
  }
}

class YWebsocketEditor extends Editor {
  #unsaved = new Unsaved();

  constructor(server, name, { token, awareness = true, present = true, connect = true, tabs = false }) {
    super("y-websocket", name);
    this.awareness = new Awareness(this.doc);
    if (!awareness || !present) this.awareness.setLocalState(null);
    this.refusal = null;
    this.denials = [];
    const provider = new WebsocketProvider(server.ws, encodeURIComponent(name), this.doc, {
      WebSocketPolyfill: WebSocket,
      awareness: this.awareness,
      params: token === undefined ? {} : { token },
      disableBc: !tabs,
      connect: false,
    });
    this.provider = provider;
    this.doc.on("update", (update, origin) => origin === provider || this.#unsaved.made(update));
    const sync = provider.messageHandlers[0];
    provider.messageHandlers[0] = (encoder, decoder, ...rest) => {
      const ahead = decoding.clone(decoder);
      const confirms = decoding.readVarUint(ahead) > 0;
      sync(encoder, decoder, ...rest);
      if (confirms) this.#unsaved.seen(decoding.readVarUint8Array(ahead));
    };
    // An echo can be lost with its connection: what the server has is then asked for, as the page does it. During
    // a connection nothing is asked, so an echo that never comes is found out.
    provider.on("sync", (synced) => synced && this.unsaved > 0 && provider.ws.send(questionAfter(this.doc, this.#unsaved)));
    provider.on("connection-close", (event) => this.closes.push({ code: event?.code, reason: event?.reason }));
    provider.on("closed", (refusal) => (this.refusal = refusal));
    if (connect) provider.connect();
  }

  get isSynced() {
    return this.provider.synced;
  }

  get isConnected() {
    return this.provider.wsconnected;
  }

  get unsaved() {
    return this.#unsaved.count;
  }

  get socket() {
    return this.provider.ws;
  }

  connect() {
    this.provider.connect();
  }

  async disconnect() {
    this.provider.disconnect();
  }

  close() {
    if (this.closed) return;
    this.closed = true;
    this.provider.destroy();
    this.awareness.destroy();
    this.doc.destroy();
  }
}

/**
 * A socket for Hocuspocus's provider, which takes its listeners away before it closes one: where that was still
 * connecting, `ws` reports an error, and in Node an error that nobody listens for ends the process.
 */
class QuietWebSocket extends WebSocket {
  constructor(...parameters) {
    super(...parameters);
    this.on("error", () => {});
  }
}

class HocuspocusEditor extends Editor {
  #ownsSocket;

  constructor(server, name, { token, awareness = true, present = true, connect = true, beside }) {
    super("hocuspocus", name);
    this.awareness = new Awareness(this.doc);
    if (!awareness || !present) this.awareness.setLocalState(null);
    this.refusal = null;
    this.scope = null;
    this.#ownsSocket = beside === undefined;
    this.socketProvider = beside?.socketProvider ?? new HocuspocusProviderWebsocket({
      url: server.hocuspocus,
      WebSocketPolyfill: QuietWebSocket,
      autoConnect: connect,
      // The defaults suit people; a test that kills servers would wait 30 s for the next attempt.
      minDelay: 50,
      delay: 100,
      maxDelay: 1_000,
    });
    this.provider = new HocuspocusProvider({
      websocketProvider: this.socketProvider,
      name,
      document: this.doc,
      awareness: awareness ? this.awareness : null,
      token: token ?? null,
    });
    this.provider.on("close", ({ event }) => this.closes.push({ code: event?.code, reason: event?.reason }));
    this.provider.on("authenticated", ({ scope }) => (this.scope = scope));
    this.provider.on("authenticationFailed", ({ reason }) => (this.refusal = { reason }));
    this.provider.attach();
  }

  get isSynced() {
    return this.provider.synced;
  }

  get isConnected() {
    return this.socketProvider.status === "connected";
  }

  get unsaved() {
    return this.provider.unsyncedChanges;
  }

  get socket() {
    return this.socketProvider.webSocket;
  }

  connect() {
    void this.socketProvider.connect();
  }

  async disconnect() {
    this.socketProvider.disconnect();
    await until(`${this.name} is disconnected`, () => this.socketProvider.status === "disconnected");
  }

  close() {
    if (this.closed) return;
    this.closed = true;
    this.provider.destroy();
    if (this.#ownsSocket) this.socketProvider.destroy();
    this.awareness.destroy();
    this.doc.destroy();
  }
}
