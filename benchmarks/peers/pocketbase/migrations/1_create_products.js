// The fields of myapi's products, by PocketBase's kinds: it has no null for text, and one for numbers.
migrate((app) => {
  app.save(new Collection({
    type: "base",
    name: "products",
    listRule: "",
    viewRule: "",
    fields: [
      { type: "text", name: "sku", required: true },
      { type: "text", name: "name", required: true },
      { type: "text", name: "description" },
      { type: "number", name: "price" },
      { type: "text", name: "currency" },
      { type: "number", name: "stock", onlyInt: true },
      { type: "bool", name: "is_active" },
      { type: "text", name: "category" },
      { type: "json", name: "tags" },
      { type: "number", name: "owner_id", onlyInt: true },
      { type: "autodate", name: "created_at", onCreate: true },
      { type: "autodate", name: "updated_at", onCreate: true, onUpdate: true },
    ],
    indexes: ["CREATE UNIQUE INDEX uq_products_sku ON products (sku)"],
  }))
})
