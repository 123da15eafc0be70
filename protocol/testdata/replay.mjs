// Gives what admission let through of mutated updates to real Yjs documents: none may throw, none may keep
// anything pending, and the text should be what yrs makes of it.
//
// QUIRE_MUTATIONS=200000 QUIRE_MUTANTS_OUT=/tmp/mutants cargo test -p quire-protocol --test update mutations
// node replay.mjs /tmp/mutants

import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import * as Y from 'yjs'

let [count, threw, pending, different] = [0, 0, 0, 0]
for await (const line of createInterface({ input: createReadStream(process.argv[2]) })) {
  const [state, fresh, text] = line.split(' ').map(part => Buffer.from(part, 'hex'))
  count++
  const doc = new Y.Doc()
  const content = doc.getText('content')
  try {
    Y.applyUpdate(doc, state)
    Y.applyUpdate(doc, fresh)
    if (doc.store.pendingStructs || doc.store.pendingDs) {
      pending++
      console.log('pending', line)
    }
    // yrs shows U+FFFC for an embedded type, and Yjs nothing; mutants hold it as a letter too.
    const shown = content.toString().replaceAll('\ufffc', '')
    if (shown !== text.toString().replaceAll('\ufffc', '')) {
      different++
      if (different <= 20) console.log('different', line, JSON.stringify(shown), JSON.stringify(text.toString()))
    }
    Y.applyUpdate(new Y.Doc(), Y.encodeStateAsUpdate(doc))
  } catch (error) {
    threw++
    if (threw <= 20) console.log('threw', line, error.message)
  }
}
console.log(`${count} updates: ${threw} threw, ${pending} left something pending, ${different} gave another text`)
process.exitCode = threw + pending > 0 ? 1 : 0
