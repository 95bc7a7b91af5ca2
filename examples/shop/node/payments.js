// The shop's Payments, in Node: the same methods, the same bank, the same answers as shop/payments.py.
//
// What Fissile asks of a program: listen on PORT, ask for FISSILE_TOKEN, answer POST /rpc/Payments/<method>
// and GET /health. Payments are kept in a file that is only ever appended to, and durable before they count.
'use strict'

const { createHash, timingSafeEqual } = require('node:crypto')
const fs = require('node:fs')
const http = require('node:http')
const path = require('node:path')

const BODY_BYTES_MAX = 64 * 1024
const AUTHORISING_MS_MAX = 15_000
const SLOW_MS = 2_000
const DECLINES = {
  4000000000000002: 'The bank declined this card.',
  4000000000009995: 'There is not enough money on it.',
}
const BREAKS_DOWN = '4000000000000119'
const SLOW = '4000000000003220'
const CAPTURE_BREAKS_DOWN = '4000000000000341'

// -- what is kept ----------------------------------------------------------------------------------

const folder = process.env.PAYMENTS_DATA || path.join(process.cwd(), '.data')
fs.mkdirSync(folder, { recursive: true })
const file = path.join(folder, 'payments.jsonl')
const payments = new Map() // by key: { key, state, amount, last_four, reason, since }
const holds = new Map() // the bank's: { key, amount, captured, released, troubled }

for (const line of fs.existsSync(file) ? fs.readFileSync(file, 'utf8').split('\n') : []) {
  try {
    const { payment, hold } = JSON.parse(line)
    if (payment) payments.set(payment.key, payment)
    if (hold) holds.set(hold.key, hold)
  } catch {
    // The last line of a process that was killed while it wrote: it counted for nobody yet.
  }
}
const journal = fs.openSync(file, 'a')
if (fs.fstatSync(journal).size > 0) fs.writeSync(journal, '\n')

function keep(record) {
  fs.writeSync(journal, JSON.stringify(record) + '\n')
  fs.fdatasyncSync(journal)
  if (record.payment) payments.set(record.payment.key, record.payment)
  if (record.hold) holds.set(record.hold.key, record.hold)
}

// -- errors, as docs/reference/http.md describes them ------------------------------------------------

class Problem extends Error {
  constructor(status, document) {
    super(document.detail)
    this.status = status
    this.document = { status, ...document }
  }
}

const declared = (name, detail, fields) =>
  new Problem(422, { type: `urn:fissile:declared:${name}`, title: name, detail, fields, args: Object.values(fields) })

const refused = (status, detail) => new Problem(status, { type: 'about:blank', title: http.STATUS_CODES[status], detail })

// -- cards -------------------------------------------------------------------------------------------

const invalid = (field, reason) => declared('InvalidCard', reason, { field, reason })

function check(card) {
  const today = new Date()
  const [year, month] = [today.getFullYear(), today.getMonth() + 1]
  if (!/^[0-9]{12,19}$/.test(card.number) || !luhn(card.number))
    throw invalid('number', 'This is not a card number: please check the digits.')
  const known = card.expiry_month >= 1 && card.expiry_month <= 12
  if (!known || card.expiry_year <= year - 50 || card.expiry_year >= year + 30)
    throw invalid('expiry', 'Write the month and year that are on the card, as in 04/31.')
  if (card.expiry_year < year || (card.expiry_year === year && card.expiry_month < month))
    throw invalid('expiry', 'This card has expired.')
  if (!/^[0-9]{3,4}$/.test(card.code)) throw invalid('code', 'The security code has three or four digits.')
}

function luhn(number) {
  let total = 0
  for (let place = 0; place < number.length; place++) {
    const value = Number(number[number.length - 1 - place]) << place % 2
    total += value > 9 ? value - 9 : value
  }
  return total % 10 === 0
}

// -- the bank ----------------------------------------------------------------------------------------

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

// Resolves to why the bank declines, or to "" once the amount is held. Rejects when it breaks down.
async function hold(key, amount, number) {
  if (number === SLOW) await sleep(SLOW_MS)
  if (number in DECLINES) return DECLINES[number]
  if (number === BREAKS_DOWN) throw new Error('the card network does not answer')
  const troubled = number === CAPTURE_BREAKS_DOWN
  if (!holds.has(key)) keep({ hold: { key, amount, captured: false, released: false, troubled } })
  return ''
}

function release(key) {
  const found = holds.get(key)
  if (found && !found.captured) keep({ hold: { ...found, released: true } })
}

// -- payments ----------------------------------------------------------------------------------------

const shown = ({ key, state, amount, last_four, reason }) => ({ key, state, amount, last_four, reason })
const cancelled = (key) => ({ key, state: 'cancelled', amount: 0, last_four: '', reason: '', since: Date.now() })

// The one door of the state: from `before` to `after`, or whatever another made of it first.
function move(key, before, after, reason = '') {
  const payment = payments.get(key)
  if (payment.state === before) keep({ payment: { ...payment, state: after, reason, since: Date.now() } })
  return payments.get(key)
}

const methods = {
  check({ card }) {
    check(card)
    return null
  },

  async authorise({ key, amount, card }) {
    check(card)
    const found = payments.get(key)
    if (found && found.state !== 'authorising') return shown(found)
    const last_four = card.number.slice(-4)
    if (!found) keep({ payment: { key, state: 'authorising', amount, last_four, reason: '', since: Date.now() } })
    let [state, reason] = ['authorised', '']
    try {
      reason = await hold(key, amount, card.number)
      if (reason) state = 'declined'
    } catch {
      ;[state, reason] = ['failed', 'The bank has a problem of its own. You were not charged.']
    }
    const payment = move(key, 'authorising', state, reason)
    if (payment.state === 'cancelled') release(key)
    return shown(payment)
  },

  capture({ key }) {
    const payment = payments.get(key)
    if (!payment) return shown(cancelled(key))
    if (payment.state !== 'authorised') return shown(payment)
    const found = holds.get(key)
    if (found.troubled) {
      keep({ hold: { ...found, troubled: false } })
      const lost = 'the capture was lost on the way'
      throw new Problem(422, { type: 'urn:fissile:declared:CaptureFailed', title: 'CaptureFailed', detail: lost, args: [lost] })
    }
    keep({ hold: { ...found, captured: true } })
    return shown(move(key, 'authorised', 'captured'))
  },

  settle({ key }) {
    const payment = payments.get(key)
    if (!payment) keep({ payment: cancelled(key) })
    else if (payment.state === 'authorising' && payment.since < Date.now() - AUTHORISING_MS_MAX)
      keep({ payment: { ...payment, state: 'cancelled', since: Date.now() } })
    if (payments.get(key).state === 'cancelled') release(key)
    return methods.capture({ key })
  },
}

// -- HTTP --------------------------------------------------------------------------------------------

const digest = (text) => createHash('sha256').update(text).digest()
const token = digest(`Bearer ${process.env.FISSILE_TOKEN || ''}`)

async function answer(request) {
  if (request.method === 'GET' && request.url === '/health') return { status: 'ok' }
  if (!process.env.FISSILE_TOKEN || !timingSafeEqual(digest(request.headers.authorization || ''), token))
    throw refused(401, 'the token is missing or wrong')
  const name = request.url.match(/^\/rpc\/Payments\/([a-z]+)$/)?.[1]
  if (!name || !Object.hasOwn(methods, name)) throw refused(404, `there is no ${request.url}`)
  if (request.method !== 'POST') throw refused(405, `${request.url} is called with POST`)
  let body = ''
  for await (const chunk of request) {
    body += chunk
    if (body.length > BODY_BYTES_MAX) throw refused(413, `a body may have ${BODY_BYTES_MAX} bytes`)
  }
  let given
  try {
    given = JSON.parse(body)
  } catch {
    throw new Problem(400, { type: 'urn:fissile:error:invalid_argument', title: 'invalid argument', detail: 'no JSON' })
  }
  return methods[name](given)
}

const server = http.createServer(async (request, response) => {
  let [status, type, document] = [200, 'application/json', null]
  try {
    document = await answer(request)
  } catch (error) {
    if (!(error instanceof Problem)) console.error(error)
    const bug = { type: 'urn:fissile:error:remote_error', title: 'remote error', detail: String(error), exception: error.name }
    ;[status, type, document] = [error.status || 500, 'application/problem+json', error.document || bug]
  }
  const body = JSON.stringify(document)
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) })
  response.end(body)
})

server.listen(Number(process.env.PORT), '127.0.0.1', () => console.log(`Payments in Node ${process.version}`))
process.on('SIGTERM', () => {
  server.close(() => process.exit(0))
  server.closeIdleConnections()
})
