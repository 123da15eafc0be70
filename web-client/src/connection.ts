/**
 * One document's connection to the server: the stock y-websocket provider, and what it takes to say
 * truthfully whether everything typed here is saved.
 *
 * It never forks or patches the provider: it listens in on the instance's own message handlers.
 *
 * Invariant: the state is `saved` only while the socket is synced and no change made here is unconfirmed.
 */
import * as decoding from "lib0/decoding";
import * as encoding from "lib0/encoding";
import { messagePermissionDenied } from "y-protocols/auth";
import { messageYjsSyncStep1, messageYjsSyncStep2, messageYjsUpdate } from "y-protocols/sync";
import { messageAuth, messageSync, WebsocketProvider } from "y-websocket";
import * as Y from "yjs";
import { Unsaved } from "./saved";

/** What the person is told about the document and the server. */
export type State =
  | { kind: "opening" }
  | { kind: "saved" }
  | { kind: "saving"; unsaved: number }
  | { kind: "offline"; unsaved: number }
  /** This session may read, not write: what is unsaved stays so. */
  | { kind: "denied"; unsaved: number; reason: string }
  | { kind: "refused"; unsaved: number; code: number; reason: string };

/** An unconfirmed change this old is asked after: its echo may have been lost with an earlier connection. */
const ASK_AGAIN_MS = 4_000;

export interface Options {
  /** The server's y-websocket endpoint, without the document. */
  base: string;
  /** The document, escaped as the address needs it. */
  room: string;
  token: string | null;
}

export class Connection {
  readonly doc: Y.Doc;
  readonly provider: WebsocketProvider;
  readonly #unsaved = new Unsaved();
  readonly #listeners = new Set<(state: State) => void>();
  #denied: string | null = null;
  #refused: { code: number; reason: string } | null = null;
  #askAgain: ReturnType<typeof setTimeout> | undefined;

  constructor(doc: Y.Doc, { base, room, token }: Options) {
    this.doc = doc;
    this.provider = new WebsocketProvider(base, room, doc, {
      params: token === null ? {} : { token },
      connect: false,
      // Tabs of one browser would otherwise show each other edits that are not saved yet.
      disableBc: true,
    });
    doc.on("update", (update: Uint8Array, origin: unknown) => {
      if (origin === this.provider) return;
      this.#unsaved.made(update);
      this.#changed();
    });
    this.#listenIn();
    this.provider.on("status", ({ status }) => {
      if (status === "connected") {
        // A new session may be told something else.
        this.#refused = this.#denied = null;
        this.#announceAnew();
      }
      this.#changed();
    });
    this.provider.on("sync", (synced) => {
      if (synced) this.#askForUnconfirmed();
      this.#changed();
    });
    this.provider.on("closed", ({ code, reason }) => {
      this.#refused = { code, reason };
      this.#changed();
    });
  }

  connect(): void {
    this.#refused = null;
    this.provider.connect();
    this.#changed();
  }

  get state(): State {
    const unsaved = this.#unsaved.count;
    if (this.#refused !== null) return { kind: "refused", unsaved, ...this.#refused };
    if (!this.provider.wsconnected) {
      const neverTried = this.provider.wsUnsuccessfulReconnects === 0;
      return neverTried && unsaved === 0 ? { kind: "opening" } : { kind: "offline", unsaved };
    }
    if (this.#denied !== null) return { kind: "denied", unsaved, reason: this.#denied };
    if (unsaved > 0) return { kind: "saving", unsaved };
    return this.provider.synced ? { kind: "saved" } : { kind: "opening" };
  }

  /** Calls back with every new state, and with the present one at once. */
  onState(listener: (state: State) => void): void {
    this.#listeners.add(listener);
    listener(this.state);
  }

  /** Those who lost their own connections have put everybody away, and take nobody back under an old clock. */
  #announceAnew(): void {
    const { awareness } = this.provider;
    const state = awareness.getLocalState();
    if (state !== null) awareness.setLocalState(state);
  }

  #changed(): void {
    const state = this.state;
    for (const listener of this.#listeners) listener(state);
    if (state.kind === "saving") this.#askLater();
  }

  #listenIn(): void {
    const handlers = this.provider.messageHandlers;
    const sync = handlers[messageSync];
    const auth = handlers[messageAuth];
    if (sync === undefined || auth === undefined) throw new Error("y-websocket has other message handlers than 3.1");
    handlers[messageSync] = (encoder, decoder, provider, emitSynced, type) => {
      const sent = updateIn(decoder);
      sync(encoder, decoder, provider, emitSynced, type);
      if (sent === null) return;
      this.#unsaved.seen(sent);
      this.#changed();
    };
    handlers[messageAuth] = (encoder, decoder, provider, emitSynced, type) => {
      this.#denied = denialIn(decoder) ?? this.#denied;
      auth(encoder, decoder, provider, emitSynced, type);
      this.#changed();
    };
  }

  #askLater(): void {
    this.#askAgain ??= setTimeout(() => {
      this.#askAgain = undefined;
      this.#askForUnconfirmed();
    }, ASK_AGAIN_MS);
  }

  /** Asks the server to send back whatever it holds of the unconfirmed changes. */
  #askForUnconfirmed(): void {
    const socket = this.provider.ws;
    if (this.#unsaved.count === 0 || !this.provider.wsconnected || socket === null) return;
    socket.send(questionAfter(this.doc, this.#unsaved));
    this.#askLater();
  }
}

/** A sync step 1 that claims to lack whatever is unconfirmed, so that the answer holds what the server has of it. */
export function questionAfter(doc: Y.Doc, unsaved: Unsaved): Uint8Array {
  const claim = unsaved.stateVectorWithout(Y.decodeStateVector(Y.encodeStateVector(doc)));
  const claimed = encoding.createEncoder();
  encoding.writeVarUint(claimed, claim.size);
  for (const [client, clock] of claim) {
    encoding.writeVarUint(claimed, client);
    encoding.writeVarUint(claimed, clock);
  }
  const question = encoding.createEncoder();
  encoding.writeVarUint(question, messageSync);
  encoding.writeVarUint(question, messageYjsSyncStep1);
  encoding.writeVarUint8Array(question, encoding.toUint8Array(claimed));
  return encoding.toUint8Array(question);
}

/** The update in a sync message, read ahead of the provider; the decoder is left where it was. */
function updateIn(decoder: decoding.Decoder): Uint8Array | null {
  const ahead = decoding.clone(decoder);
  const type = decoding.readVarUint(ahead);
  return type === messageYjsSyncStep2 || type === messageYjsUpdate ? decoding.readVarUint8Array(ahead) : null;
}

function denialIn(decoder: decoding.Decoder): string | null {
  const ahead = decoding.clone(decoder);
  return decoding.readVarUint(ahead) === messagePermissionDenied ? decoding.readVarString(ahead) : null;
}
