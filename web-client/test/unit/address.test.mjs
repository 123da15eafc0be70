// Names of documents in the page's address and in the socket's.
import assert from "node:assert/strict";
import { test } from "node:test";
import { addressOf, nameIn, nameProblem, roomOf, socketBase } from "../../src/address.ts";

const page = (rest) => new URL(`https://quire.example/edit/${rest}`);

test("any name survives the page's address and the socket's path", () => {
  for (const name of ["notes", "team/2026/plan", "launch notes 🚀", "50%", "a?b#c&d=e", "a/../b", "+", "Ünïcode"]) {
    assert.equal(nameIn(addressOf(name, page(""))), name);
    const socket = new URL(`${socketBase(page(""))}/${roomOf(name)}?token=x`);
    assert.equal(decodeURIComponent(socket.pathname.slice("/edit/ws/".length)), name);
  }
});

test("the name may stand behind # too, and the token stays", () => {
  assert.equal(nameIn(page("#notes%20of%20May")), "notes of May");
  assert.equal(nameIn(page("#50%")), "50%");
  assert.equal(nameIn(page("")), "welcome");
  assert.equal(addressOf("b", page("?doc=a&token=t#old")).href, "https://quire.example/edit/?doc=b&token=t");
});

test("the socket is beside the page, encrypted where the page is", () => {
  assert.equal(socketBase(page("?doc=a")), "wss://quire.example/edit/ws");
  assert.equal(socketBase(new URL("http://127.0.0.1:8080/?doc=a")), "ws://127.0.0.1:8080/ws");
});

test("names that cannot be are said so", () => {
  for (const name of ["", ".", "..", "a\u0000b", "line\nbreak", "é".repeat(257)]) assert.notEqual(nameProblem(name), null);
  for (const name of ["...", "a/..", "é".repeat(256), "🚀"]) assert.equal(nameProblem(name), null);
});
