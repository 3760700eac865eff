/** The flow with what openapi-typescript generates, and openapi-fetch. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";

import createClient from "openapi-fetch";

import type { paths } from "../generated/openapi_typescript";

const baseUrl = process.env["BASE_URL"] ?? "";
const name = `fetch-${randomUUID().slice(0, 8)}`;
const password = "Secret-Pass-1";
const passed = (what: string) => console.log(`PASS openapi-typescript: ${what}`);

async function main(): Promise<void> {
  const anybody = createClient<paths>({ baseUrl });
  const signUp = await anybody.POST("/api/v1/users/", {
    body: { email: `${name}@example.com`, username: name, password },
  });
  assert.equal(signUp.data?.username, name);
  passed("sign-up");

  const signIn = (secret: string) =>
    anybody.POST("/api/v1/auth/login", {
      body: { username: name, password: secret },
      headers: { "Content-Type": "application/x-www-form-urlencoded" },
    });
  assert.equal((await signIn("Wrong-Pass-1")).error?.error, "invalid_grant");
  const token = (await signIn(password)).data?.access_token;
  assert(token);
  const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });
  passed("sign-in");

  const chair = { sku: `${name}-0`, name: "Chair", price: "19.90", tags: ["oak"] };
  const header = { "Idempotency-Key": randomUUID() };
  const first = await client.POST("/api/v1/products/", { params: { header }, body: chair });
  assert.equal(first.response.status, 201);
  assert(first.data);
  const again = await client.POST("/api/v1/products/", { params: { header }, body: chair });
  assert.equal(again.data?.id, first.data.id);
  assert.equal(again.response.headers.get("Idempotency-Replayed"), "true");
  const taken = await client.POST("/api/v1/products/", { body: chair });
  assert.equal(taken.error?.code, "already_exists");
  passed("create and retry");

  const skus = [0, 1, 2, 3, 4].map((number) => `${name}-${number}`);
  for (const sku of skus.slice(1)) {
    const made = await client.POST("/api/v1/products/", { body: { sku, name: "Chair", price: 20 } });
    assert.equal(made.data?.price, "20.00");
  }
  const seen: string[] = [];
  let cursor: string | undefined;
  do {
    const query = { sku__in: skus, sort: "-sku", limit: 2, ...(cursor ? { cursor } : {}) };
    const page = await client.GET("/api/v1/products/", { params: { query } });
    assert(page.data, JSON.stringify(page.error));
    seen.push(...page.data.items.map((each) => each.sku));
    cursor = page.data.next_cursor ?? undefined;
  } while (cursor);
  assert.deepEqual(seen, skus.toReversed());
  passed("pages");

  const path = { product_id: first.data.id };
  const read = await client.GET("/api/v1/products/{product_id}", { params: { path } });
  assert(read.data);
  const etag = read.response.headers.get("ETag") ?? "";
  const change = (stock: number) =>
    client.PATCH("/api/v1/products/{product_id}", {
      params: { path, header: { "If-Match": etag } },
      body: { stock },
    });
  assert.equal((await change(3)).data?.stock, 3);
  const late = await change(4);
  assert.equal(late.response.status, 412);
  assert.equal(late.error?.code, "precondition_failed");
  const put = await client.PUT("/api/v1/products/{product_id}", {
    params: { path },
    body: { name: "Desk" },
  });
  assert.equal(put.data?.name, "Desk");
  passed("conditional update");
}

main().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
