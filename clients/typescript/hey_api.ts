/** The flow with what @hey-api/openapi-ts generates. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";

import {
  createProduct,
  createUser,
  login,
  patchProduct,
  readProduct,
  readProducts,
  updateProduct,
} from "../generated/hey_api";
import { client } from "../generated/hey_api/client.gen";

const name = `hey-${randomUUID().slice(0, 8)}`;
const password = "Secret-Pass-1";
const passed = (what: string) => console.log(`PASS @hey-api/openapi-ts: ${what}`);

async function main(): Promise<void> {
  client.setConfig({ baseUrl: process.env["BASE_URL"] ?? "" });
  const signUp = await createUser({
    body: { email: `${name}@example.com`, username: name, password },
  });
  assert.equal(signUp.data?.username, name);
  passed("sign-up");

  const wrong = await login({ body: { username: name, password: "Wrong-Pass-1" } });
  assert.equal(wrong.error?.error, "invalid_grant");
  const token = (await login({ body: { username: name, password } })).data?.access_token;
  assert(token);
  client.setConfig({ auth: token });
  passed("sign-in");

  const body = { sku: `${name}-0`, name: "Chair", price: "19.90", tags: ["oak"] };
  const headers = { "Idempotency-Key": randomUUID() };
  const first = await createProduct({ body, headers });
  assert.equal(first.response?.status, 201);
  assert(first.data);
  const again = await createProduct({ body, headers });
  assert.equal(again.data?.id, first.data.id);
  assert.equal(again.response?.headers.get("Idempotency-Replayed"), "true");
  const taken = await createProduct({ body });
  assert.equal(taken.error?.code, "already_exists");
  passed("create and retry");

  const skus = [0, 1, 2, 3, 4].map((number) => `${name}-${number}`);
  for (const sku of skus.slice(1)) {
    const made = await createProduct({ body: { sku, name: "Chair", price: 20 } });
    assert.equal(made.data?.price, "20.00");
  }
  const seen: string[] = [];
  let cursor: string | undefined;
  do {
    const query = { sku__in: skus, sort: "-sku", limit: 2, ...(cursor ? { cursor } : {}) };
    const page = await readProducts({ query });
    assert(page.data, JSON.stringify(page.error));
    seen.push(...page.data.items.map((each) => each.sku));
    cursor = page.data.next_cursor ?? undefined;
  } while (cursor);
  assert.deepEqual(seen, skus.toReversed());
  passed("pages");

  const path = { product_id: first.data.id };
  const read = await readProduct({ path });
  const etag = read.response?.headers.get("ETag") ?? "";
  const change = (stock: number) =>
    patchProduct({ path, headers: { "If-Match": etag }, body: { stock } });
  assert.equal((await change(3)).data?.stock, 3);
  const late = await change(4);
  assert.equal(late.response?.status, 412);
  assert.equal(late.error?.code, "precondition_failed");
  const put = await updateProduct({ path, body: { name: "Desk" } });
  assert.equal(put.data?.name, "Desk");
  passed("conditional update");
}

main().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
