// Makes the golden updates: what real Yjs documents send, and what they hold in the end. Makes the seeds of the
// fuzz targets from them.
//
// Run `npm ci && npm run generate` in this folder. Client ids and every choice are fixed, so that the files
// change only when Yjs does.

import { mkdirSync, writeFileSync } from 'node:fs'
import * as Y from 'yjs'

const FOLDER = new URL('updates/', import.meta.url)

const SEEDS = new URL('../fuzz/seeds/', import.meta.url)

const hex = bytes => Buffer.from(bytes).toString('hex')

/** A small fixed generator of numbers: xorshift. */
const numbers = seed => {
  let state = seed
  return below => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}

/** The people of one story. Keeps every update that one of them makes, in order. */
class Story {
  constructor () {
    this.updates = []
    this.docs = []
  }

  doc (clientID, options = {}) {
    const doc = new Y.Doc(options)
    doc.clientID = clientID
    doc.on('update', (update, _origin, _doc, transaction) => {
      if (transaction.local) this.updates.push(hex(update))
    })
    this.docs.push(doc)
    return doc
  }

  /** Everybody gets what everybody has, as at a reconnect. What is sent counts as an update too. */
  sync () {
    for (const from of this.docs) {
      for (const to of this.docs) {
        if (from === to) continue
        const update = Y.encodeStateAsUpdate(from, Y.encodeStateVector(to))
        this.updates.push(hex(update))
        Y.applyUpdate(to, update)
      }
    }
  }
}

const deletesOf = update => {
  const deletes = {}
  for (const [client, ranges] of Y.decodeUpdate(update).ds.clients) {
    deletes[client] = ranges.map(range => [range.clock, range.clock + range.len])
  }
  return deletes
}

const contentOf = (doc, roots) => {
  const content = {}
  for (const [name, kind] of Object.entries(roots)) {
    if (kind === 'text') content[name] = { kind, text: doc.getText(name).toString(), delta: doc.getText(name).toDelta() }
    if (kind === 'map') content[name] = { kind, json: doc.getMap(name).toJSON() }
    if (kind === 'array') content[name] = { kind, json: doc.getArray(name).toJSON() }
    if (kind === 'xml') content[name] = { kind, text: doc.getXmlFragment(name).toString() }
  }
  return content
}

const stories = {
  text (story) {
    const doc = story.doc(1)
    const text = doc.getText('content')
    for (const letter of ['H', 'e', 'l', 'l', 'o', ' ', '😀', '👩‍👩‍👧', 'ž', '女']) text.insert(text.length, letter)
    text.delete(1, 3)
    text.insert(1, 'ola, ')
    // Between the halves of the first emoji: Yjs leaves U+FFFD on both sides.
    text.insert(text.toString().indexOf('😀') + 1, '|')
    text.delete(text.length - 2, 2)
    return { content: 'text' }
  },

  formatting (story) {
    const a = story.doc(10)
    const b = story.doc(20)
    const text = a.getText('content')
    text.insert(0, 'The quick brown fox')
    text.format(4, 5, { bold: true })
    story.sync()
    b.getText('content').format(0, 9, { italic: true })
    text.format(6, 8, { bold: null, color: '#f00' })
    text.insert(4, 'very ', { bold: true, link: { href: 'https://example.org/?a="b"', tab: 1 } })
    story.sync()
    b.getText('content').delete(3, 9)
    b.getText('content').applyDelta([{ retain: 2 }, { insert: '\n', attributes: { header: 2 } }, { delete: 1 }])
    story.sync()
    return { content: 'text' }
  },

  embeds (story) {
    const doc = story.doc(7)
    const text = doc.getText('content')
    text.insert(0, 'before after')
    text.insertEmbed(7, { image: 'a.png', size: [3, 4.5], alt: 'ü "quoted" \\ 😀', nothing: null })
    text.insertEmbed(0, { mention: { id: 12345678901, on: true } }, { bold: true })
    text.insertEmbed(3, new Y.Map([['table', 'cell']]))
    text.delete(1, 1)
    return { content: 'text' }
  },

  maps (story) {
    const [a, b, c] = [story.doc(3), story.doc(1), story.doc(2)]
    const values = [null, true, -0, 1.5, 1e300, 2 ** 40, -5, 'text', [1, [2, { k: 'v' }]], { x: { y: [] } }, undefined]
    values.forEach((value, at) => a.getMap('fields').set(`key ${at}`, value))
    a.getMap('fields').set('', 'an empty key')
    a.getMap('fields').set('bytes', new Uint8Array([0, 255, 7]))
    a.getMap('fields').set('big', 2n ** 60n)
    for (const round of [0, 1]) {
      for (const doc of story.docs) doc.getMap('fields').set('shared', `${doc.clientID} in round ${round}`)
      story.sync()
    }
    b.getMap('fields').delete('shared')
    c.getMap('fields').set('shared', 'again')
    a.getMap('fields').set('key 7', 'first')
    a.getMap('fields').set('key 7', 'second')
    a.getMap('fields').delete('big')
    a.getMap('fields').delete('bytes')
    story.sync()
    return { fields: 'map' }
  },

  arrays (story) {
    const [a, b] = [story.doc(100), story.doc(4294967295)]
    a.getArray('list').push([1, 2, 3, 'four', { five: 5 }, [6]])
    b.getArray('list').insert(0, ['x', 'y', 'z'])
    story.sync()
    a.getArray('list').delete(2, 4)
    b.getArray('list').insert(4, [false, null, 0.1])
    a.getArray('list').insert(4, [new Uint8Array([1, 2]), new Y.Text('nested')])
    story.sync()
    a.getArray('list').delete(0, 1)
    a.getArray('list').forEach((value, at) => { if (value instanceof Uint8Array) a.getArray('list').delete(at) })
    return { list: 'array' }
  },

  nested (story) {
    const [a, b] = [story.doc(5), story.doc(6)]
    const board = a.getMap('board')
    let inner = board
    for (let depth = 0; depth < 12; depth++) inner = inner.set('deeper', new Y.Map())
    inner.set('bottom', new Y.Text('reached'))
    board.set('cards', new Y.Array())
    for (const title of ['one', 'two', 'three']) {
      const card = new Y.Map()
      board.get('cards').push([card])
      card.set('title', new Y.Text(title))
      card.set('tags', Y.Array.from([title.length]))
    }
    story.sync()
    // One deletes a card while the other writes in it.
    board.get('cards').delete(1)
    b.getMap('board').get('cards').get(1).get('title').insert(3, '!')
    b.getMap('board').get('cards').get(1).set('late', new Y.Map([['child', 1]]))
    story.sync()
    b.getMap('board').get('cards').get(0).get('title').insert(0, 'number ')
    board.set('deeper', 'gone')
    story.sync()
    return { board: 'map' }
  },

  xml (story) {
    const [a, b] = [story.doc(8), story.doc(9)]
    const page = a.getXmlFragment('page')
    const paragraph = new Y.XmlElement('paragraph')
    page.insert(0, [paragraph, new Y.XmlElement('hr')])
    paragraph.setAttribute('align', 'left')
    paragraph.insert(0, [new Y.XmlText('Some text'), new Y.XmlElement('br')])
    story.sync()
    b.getXmlFragment('page').get(0).get(0).format(0, 4, { strong: {} })
    b.getXmlFragment('page').get(0).setAttribute('align', 'right')
    paragraph.setAttribute('align', 'center')
    paragraph.get(0).insert(9, '!')
    story.sync()
    a.getXmlFragment('page').insertAfter(paragraph, [new Y.XmlElement('heading')])
    b.getXmlFragment('page').get(0).delete(1, 1)
    b.getXmlFragment('page').get(0).removeAttribute('align')
    story.sync()
    return { page: 'xml' }
  },

  subdocs (story) {
    const doc = story.doc(11)
    doc.getMap('folder').set('plain', new Y.Doc({ guid: 'one' }))
    doc.getMap('folder').set('loaded', new Y.Doc({ guid: 'two', autoLoad: true, gc: false }))
    doc.getMap('folder').set('meta', new Y.Doc({ guid: 'three', meta: { title: 'A', tags: ['b'] } }))
    doc.getArray('order').push([new Y.Doc({ guid: 'four' })])
    doc.getMap('folder').set('plain', new Y.Doc({ guid: 'five' }))
    doc.getMap('folder').delete('loaded')
    return {}
  },

  undo (story) {
    const [a, b] = [story.doc(12), story.doc(13)]
    const text = a.getText('content')
    const fields = a.getMap('fields')
    const manager = new Y.UndoManager([text, fields], { captureTimeout: 0 })
    text.insert(0, 'draft')
    text.insert(5, ' of a letter')
    fields.set('title', 'First')
    fields.set('title', 'Second')
    fields.set('tree', new Y.Map([['leaf', new Y.Text('green')]]))
    text.delete(0, 6)
    story.sync()
    b.getText('content').insert(2, '<b>')
    fields.delete('tree')
    story.sync()
    for (let step = 0; step < 4; step++) manager.undo()
    story.sync()
    manager.redo()
    b.getText('content').delete(0, 2)
    manager.redo()
    story.sync()
    return { content: 'text', fields: 'map' }
  },

  collected (story) {
    const [a, b, c] = [story.doc(21), story.doc(22), story.doc(23)]
    const list = a.getArray('list')
    list.push([new Y.Map([['a', new Y.Text('one')], ['b', 2]]), new Y.Array(), 'stays'])
    list.get(1).push([new Y.Text('two'), new Y.Text('three')])
    story.sync()
    // The third has not seen the deletion and writes into what the others have collected.
    const third = c.getArray('list')
    list.delete(0, 2)
    third.get(0).get('a').insert(1, 'xyz')
    third.get(0).set('a', 'replaced')
    third.get(1).get(0).insert(0, 'q')
    third.get(1).push([new Y.Map([['deep', new Y.Map()]])])
    b.getArray('list').insert(0, ['new'])
    story.sync()
    story.sync()
    return { list: 'array' }
  },

  offline (story) {
    const [a, b, c] = [story.doc(31), story.doc(32), story.doc(33)]
    a.getText('content').insert(0, 'The same place')
    story.sync()
    for (const [doc, word] of [[a, 'alpha '], [b, 'beta '], [c, 'gamma ']]) {
      for (const letter of word) doc.getText('content').insert(4 + word.indexOf(letter), letter)
    }
    b.getText('content').delete(0, 7)
    c.getText('content').delete(3, 8)
    story.sync()
    return { content: 'text' }
  },

  prepend (story) {
    const doc = story.doc(41)
    for (let at = 0; at < 40; at++) doc.getText('content').insert(0, String.fromCharCode(97 + at % 26))
    doc.getText('content').delete(5, 20)
    return { content: 'text' }
  },

  random (story) {
    const docs = [story.doc(51), story.doc(52), story.doc(53), story.doc(54)]
    const pick = numbers(20261122)
    const words = ['a', 'bc', 'déf', '😀', 'x😀y', '\n', 'longer words ']
    for (let step = 0; step < 240; step++) {
      const doc = docs[pick(4)]
      const text = doc.getText('content')
      const [list, fields] = [doc.getArray('list'), doc.getMap('fields')]
      const action = pick(12)
      if (action < 4) text.insert(pick(text.length + 1), words[pick(words.length)])
      else if (action < 6 && text.length > 0) {
        const at = pick(text.length)
        text.delete(at, Math.min(1 + pick(4), text.length - at))
      } else if (action === 6 && text.length > 2) text.format(pick(text.length - 2), 2, { bold: pick(2) === 0 || null })
      else if (action === 7) fields.set(`k${pick(4)}`, step)
      else if (action === 8) list.insert(pick(list.length + 1), [step, { step }])
      else if (action === 9 && list.length > 0) list.delete(pick(list.length))
      else if (action === 10) fields.set(`t${pick(3)}`, pick(2) ? new Y.Text('in') : new Y.Map([['n', step]]))
      else {
        const inner = fields.get(`t${pick(3)}`)
        if (inner instanceof Y.Text) inner.insert(pick(inner.length + 1), 'z')
        if (inner instanceof Y.Map) inner.set('m', step)
      }
      if (step % 30 === 29) story.sync()
    }
    story.sync()
    return { content: 'text', list: 'array', fields: 'map' }
  }
}

/** What Yjs sends of one run of content to someone who has its first units: a cut at every place. */
const cuts = () => {
  const runs = {
    text: doc => doc.getText('content').insert(0, 'a😀bé女👩‍👧c'),
    beside: doc => { doc.getText('content').insert(0, '[]'); doc.getText('content').insert(1, 'x😀😀y') },
    values: doc => doc.getArray('list').push([1, 'two', [3, [null]], { four: 4 }, null, 0.5]),
    entry: doc => doc.getMap('fields').set('key', 'value'),
    deleted: doc => { doc.getText('content').insert(0, 'abcdef'); doc.getText('content').delete(0, 6) },
    collected: doc => {
      doc.getArray('list').push([new Y.Text('abcdef')])
      doc.getArray('list').delete(0, 1)
    }
  }
  return Object.entries(runs).map(([name, run]) => {
    const doc = new Y.Doc()
    doc.clientID = 77
    run(doc)
    const state = Y.encodeStateAsUpdate(doc)
    const length = Y.decodeStateVector(Y.encodeStateVector(doc)).get(77)
    const rests = []
    for (let known = 0; known <= length; known++) {
      rests.push(hex(Y.encodeStateAsUpdate(doc, Y.encodeStateVector(new Map([[77, known]])))))
    }
    return { name, state: hex(state), rests }
  })
}

/** What a client sends that itself waits for something: skips, and deletions of what it does not have. */
const holes = () => {
  const doc = new Y.Doc()
  doc.clientID = 61
  const updates = []
  doc.on('update', update => updates.push(update))
  for (const word of ['zero ', 'one ', 'two ', 'three ', 'four ']) doc.getText('content').insert(doc.getText('content').length, word)
  doc.getText('content').delete(2, 12)
  const waiting = new Y.Doc()
  waiting.clientID = 62
  waiting.getText('content').insert(0, 'mine ')
  for (const at of [0, 2, 4, 5]) Y.applyUpdate(waiting, updates[at])
  const sent = {
    merged: Y.mergeUpdates([updates[0], updates[2], updates[4]]),
    waiting: Y.encodeStateAsUpdate(waiting)
  }
  const textOf = update => {
    const reader = new Y.Doc()
    for (const each of [update, ...updates]) Y.applyUpdate(reader, each)
    return reader.getText('content').toString()
  }
  return {
    updates: updates.map(hex),
    merged: hex(sent.merged),
    'merged text': textOf(sent.merged),
    waiting: hex(sent.waiting),
    'waiting text': textOf(sent.waiting),
    missing: [hex(updates[1]), hex(updates[3])]
  }
}

/** The number of updates of a story that make a seed: fuzzers like their inputs small. */
const SEED_UPDATES = 12

/** Longer ones are left out. */
const SEED_BYTES = 2000

const varUint = value => value < 128 ? [value] : [value % 128 + 128, ...varUint(Math.floor(value / 128))]

/** Updates, each behind its length. */
const seedOf = updates => Buffer.concat(updates.map(update => {
  const bytes = Buffer.from(update, 'hex')
  return Buffer.concat([Buffer.from(varUint(bytes.length)), bytes])
}))

const varBytes = bytes => Buffer.concat([Buffer.from(varUint(bytes.length)), bytes])

const text = string => varBytes(Buffer.from(string))

/** The y-protocols messages of one editor that joins, types and points. */
const messagesOf = (story, doc) => {
  const sync = (kind, bytes) => Buffer.concat([Buffer.from([0, kind]), varBytes(bytes)])
  const update = story.updates.findLast(hex => hex.length <= SEED_BYTES) ?? '0000'
  const state = Buffer.from(Y.encodeStateAsUpdate(doc))
  return {
    step1: sync(0, Buffer.from(Y.encodeStateVector(doc))),
    ...(state.length <= SEED_BYTES ? { step2: sync(1, state) } : {}),
    update: sync(2, Buffer.from(update, 'hex')),
    awareness: Buffer.concat([Buffer.from([1]), varBytes(awarenessOf(doc.clientID, 1, { user: { name: 'Ann', color: '#30bced' } }))]),
    query: Buffer.from([3])
  }
}

const awarenessOf = (client, clock, state) =>
  Buffer.concat([Buffer.from([1, ...varUint(client), ...varUint(clock)]), text(JSON.stringify(state))])

/** What happens in one room, in the words of the target: say, point, leave, wait. */
const rooms = {
  'comes-and-goes': [
    [0, 0, varBytes(awarenessOf(7, 1, { cursor: { anchor: 3, head: 3 } }))], [3, 0, varUint(20)],
    [0, 1, varBytes(awarenessOf(8, 1, {}))], [1, 0, [7, 2, 2]], [3, 0, varUint(20)], [2, 0], [3, 0, varUint(20)]
  ],
  'times-out-and-comes-back': [
    [1, 0, [7, 5, 1]], [3, 0, varUint(30000)], [1, 1, [7, 5, 1]], [3, 0, varUint(20)], [1, 1, [7, 9, 1]], [3, 0, varUint(20)]
  ],
  'seventeen-clients': Array.from({ length: 17 }, (_, at) => [1, 0, [at, 1, 1]])
}

/** What happens on one socket, in the words of the target: a frame, a known frame, a verdict, an end, a pause. */
const socketsOf = frames => ({
  'joins-and-types': [...frames.map(frame => [0, varBytes(frame)]), [3, [2]], ...frames.map(frame => [0, varBytes(frame)])],
  'two-documents': [[1, [0, 0]], [1, [1, 1]], [1, [1, 2]], [3, [2]], [3, [1]], [1, [0, 3]], [1, [1, 4]], [4, [1, 0]], [1, [0, 6]]],
  'renews-in-vain': [[1, [2, 0]], [3, [2]], [1, [2, 1]], [3, [0]], [1, [2, 5]], [5, varUint(999)], [5, varUint(1)]],
  'never-granted': [[1, [0, 5]], [5, varUint(999)], [5, varUint(1)]],
  ping: [[0, varBytes(Buffer.from([9]))], [0, varBytes(Buffer.from([10]))]]
})

const written = events => Buffer.concat(events.flat().map(part => Buffer.from(typeof part === 'number' ? [part] : part)))

/** What happens to one document, in the words of the target: two honest editors, and a stranger who says all this. */
const historyOf = (limits, stranger, messages) => {
  const everybodyReads = [0, 1].flatMap(who => [[2, who, 3], [3, who, 3]])
  const everybodyIsTold = [...everybodyReads, ...everybodyReads, [23], ...everybodyReads]
  return [
    [limits], [9, 0], [9, 1], [16, stranger, 1, 5],
    [0, 0, 3, 0], [0, 1, 2, 1], ...everybodyIsTold,
    ...messages.map(message => [18, stranger, varBytes(message)]),
    ...everybodyIsTold, [1, 0, 1, 2], [11, 1], [0, 0, 1, 1], ...everybodyIsTold, [12, 1]
  ]
}

/** Histories that no stranger takes part in. */
const histories = {
  'a-server-is-killed': [[0], [9, 0], [9, 1], [0, 0, 3, 0], [2, 0, 4], [6], [14], [9, 1], [9, 0], [7, 0], [15, 0]],
  'a-disk-fails': [[0], [9, 0], [9, 3], [0, 0, 3, 0], [0, 3, 1, 1], [2, 0, 4], [2, 3, 4], [6], [15, 0]],
  'two-tabs': [[0], [9, 0], [0, 0, 3, 0], [8, 0], [0, 0, 2, 1], [4, 1, 0], [9, 1], [0, 1, 1, 2], [2, 1, 4], [23]],
  'over-http': [
    [0], [22, 7, 0], [22, 5, 0, 0, text('hello')], [23], [22, 6, 1, 2, text('é')], [22, 3], [22, 0], [22, 1, [1, 0]],
    [22, 2, text('content')], [22, 8], [22, 0], [23], [22, 9], [9, 0], [2, 0, 4], [23]
  ],
  'a-token-runs-out': [[0], [16, 0, varUint(2000), 5], [16, 1, varUint(3000), 5], [16, 1, varUint(1), 3], [13, 0, varUint(5000)]],
  'an-idle-document': [[1], [9, 0], [0, 0, 1, 0], [2, 0, 4], [23], [8, 0], [13, 0, varUint(1200)], [13, 0, varUint(1200)]]
}

/** A batch in the words of the target: stream, first seq, stamp, dependencies, entries. */
const batchOf = updates => Buffer.concat([
  Buffer.from([...varUint(65537), ...varUint(1), ...varUint(1700000000000 * 65536), 1, ...varUint(131073), ...varUint(9)]),
  ...updates.map(update => Buffer.concat([Buffer.from([1, 1, 5]), varBytes(Buffer.from(update, 'hex'))]))
])

const seed = (target, name, bytes) => {
  mkdirSync(new URL(`${target}/`, SEEDS), { recursive: true })
  writeFileSync(new URL(`${target}/${name}`, SEEDS), bytes)
}

mkdirSync(FOLDER, { recursive: true })
for (const [name, tell] of Object.entries(stories)) {
  const story = new Story()
  const roots = tell(story)
  story.sync()
  const last = story.docs.at(-1)
  const state = Y.encodeStateAsUpdate(last)
  const golden = {
    updates: story.updates,
    state: hex(state),
    clocks: Object.fromEntries(Y.decodeStateVector(Y.encodeStateVector(last))),
    deletes: deletesOf(state),
    content: contentOf(last, roots)
  }
  writeFileSync(new URL(`${name}.json`, FOLDER), JSON.stringify(golden, null, 1) + '\n')
  for (let at = 0; at < story.updates.length; at += SEED_UPDATES) {
    // Each seed starts from nothing: the story so far is its first update.
    const before = at === 0 ? [] : [hex(Y.mergeUpdates(story.updates.slice(0, at).map(update => Buffer.from(update, 'hex'))))]
    const bytes = seedOf([...before, ...story.updates.slice(at, at + SEED_UPDATES)])
    if (bytes.length <= SEED_BYTES) seed('update', `${name}-${at}`, bytes)
  }
  seed('state_vector', name, Y.encodeStateVector(last))
  const messages = messagesOf(story, last)
  for (const [kind, message] of Object.entries(messages)) {
    seed('ysync', `${name}-${kind}`, message)
    seed('hocuspocus', `${name}-${kind}`, Buffer.concat([text(name), message]))
  }
  const said = story.updates.slice(0, SEED_UPDATES).map(hex => Buffer.concat([Buffer.from([0, 2]), varBytes(Buffer.from(hex, 'hex'))]))
  seed('document', `${name}-to-y-websocket`, written(historyOf(0, 0, said)))
  seed('document', `${name}-to-hocuspocus`, written(historyOf(0, 1, [...Object.values(messages), ...said.slice(0, 4)])))
  seed('batch', name, batchOf(story.updates.slice(0, SEED_UPDATES)))
}
for (const [name, events] of Object.entries(rooms)) seed('awareness', name, written(events))
for (const [name, events] of Object.entries(histories)) seed('document', name, written(events))
seed('document', 'tight-limits', written(historyOf(1, 0, Array.from({ length: 4 }, () => Buffer.alloc(300)))))
seed('awareness', 'one-update', awarenessOf(4294967295, 2 ** 40, { user: { name: 'Zoë 😀' } }))
const newcomer = new Story()
const frames = [Buffer.from([2, 0, ...text('token'), ...text('4.8.0')]), ...Object.values(messagesOf(newcomer, newcomer.doc(71)))]
for (const [name, events] of Object.entries(socketsOf(frames.map(frame => Buffer.concat([text('notes'), frame]))))) {
  seed('hocuspocus', name, written(events))
}
for (const [name, bytes] of Object.entries({
  create: Buffer.concat([Buffer.from([1]), Buffer.from('team/plan 🪶')]),
  delete: Buffer.from([2, 2, 1, 5, ...varUint(65537), 7]),
  home: Buffer.from([4, ...varUint(300)]),
  token: Buffer.from('AgEFgYAEBw'),
  address: Buffer.from('team/plan\0session')
})) seed('batch', name, bytes)
writeFileSync(new URL('../cuts.json', FOLDER), JSON.stringify(cuts(), null, 1) + '\n')
writeFileSync(new URL('../holes.json', FOLDER), JSON.stringify(holes(), null, 1) + '\n')
