// Fastify with response schemas, pg's pool and named, so prepared, statements.
import jwt from '@fastify/jwt'
import Fastify from 'fastify'
import pg from 'pg'

pg.types.setTypeParser(pg.types.builtins.INT8, Number)

const text = { type: 'string' }
const optionalText = { type: 'string', nullable: true }
const whole = { type: 'integer' }
const moment = { type: 'string', format: 'date-time' }

const product = {
  type: 'object',
  properties: {
    id: whole,
    sku: text,
    name: text,
    description: optionalText,
    price: text,
    currency: text,
    stock: whole,
    is_active: { type: 'boolean' },
    category: optionalText,
    tags: { type: 'array', items: text },
    owner_id: whole,
    created_at: moment,
    updated_at: moment
  }
}
const user = {
  type: 'object',
  properties: {
    id: whole,
    email: text,
    username: text,
    full_name: optionalText,
    is_active: { type: 'boolean' },
    created_at: moment,
    updated_at: moment
  }
}
const productList = {
  type: 'object',
  properties: { items: { type: 'array', items: product } }
}
const productCreate = {
  type: 'object',
  required: ['sku', 'name', 'price'],
  additionalProperties: false,
  properties: {
    sku: text,
    name: text,
    description: optionalText,
    price: { type: 'string', pattern: '^\\d+\\.\\d\\d$' },
    currency: { type: 'string', default: 'EUR' },
    stock: { type: 'integer', minimum: 0, default: 0 },
    category: optionalText,
    tags: { type: 'array', items: text, default: [] }
  }
}
const page = {
  type: 'object',
  properties: {
    skip: { type: 'integer', minimum: 0, default: 0 },
    limit: { type: 'integer', minimum: 1, maximum: 100, default: 100 }
  }
}

const columns = 'id, sku, name, description, price_cents, currency, stock, is_active, ' +
  'category, tags, owner_id, created_at, updated_at'
const written = 'sku, name, description, price_cents, currency, stock, category, tags, owner_id'
const queries = {
  readProduct: `SELECT ${columns} FROM products WHERE id = $1`,
  readProducts: `SELECT ${columns} FROM products ORDER BY id OFFSET $1 LIMIT $2`,
  createProduct: `INSERT INTO products (${written}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ` +
    `RETURNING ${columns}`,
  readUser: 'SELECT id, email, username, full_name, is_active, created_at, updated_at ' +
    'FROM users WHERE id = $1'
}

const url = new URL(process.env.DATABASE_URL.replace('@/', '@localhost/'))
const pool = new pg.Pool({
  host: url.searchParams.get('host'),
  user: url.username,
  database: url.pathname.slice(1),
  max: 16
})

async function query (name, values) {
  const { rows } = await pool.query({ name, text: queries[name], values })
  return rows
}

function shown (row) {
  row.price = (row.price_cents / 100).toFixed(2)
  row.tags = JSON.parse(row.tags)
  return row
}

async function authenticate (request) {
  const { sub } = await request.jwtVerify()
  const [found] = await query('readUser', [sub])
  if (!found?.is_active) throw Object.assign(new Error('Unauthorized'), { statusCode: 401 })
  request.user = found
}

const app = Fastify()
app.register(jwt, { secret: process.env.SECRET_KEY })

app.get('/api/v1/products/', {
  schema: { querystring: page, response: { 200: productList } }
}, async ({ query: { skip, limit } }) => {
  const rows = await query('readProducts', [skip, limit])
  return { items: rows.map(shown) }
})

app.get('/api/v1/products/:id', {
  schema: { params: { type: 'object', properties: { id: whole } }, response: { 200: product } }
}, async ({ params: { id } }, reply) => {
  const [row] = await query('readProduct', [id])
  return row ? shown(row) : reply.code(404).send()
})

app.post('/api/v1/products/', {
  onRequest: authenticate,
  schema: { body: productCreate, response: { 201: product } }
}, async ({ body, user: owner }, reply) => {
  const [row] = await query('createProduct', [
    body.sku, body.name, body.description, Math.round(body.price * 100), body.currency,
    body.stock, body.category, JSON.stringify(body.tags), owner.id
  ])
  return reply.code(201).send(shown(row))
})

app.get('/api/v1/users/me', {
  onRequest: authenticate,
  schema: { response: { 200: user } }
}, async (request) => request.user)

await app.listen({ host: '127.0.0.1', port: Number(process.env.PORT) })
