// Read tables and transformations as JSON, transform them as Grafana does, and print the columns.
globalThis.navigator ??= { language: "en", languages: ["en"] }; // the package expects a browser
const { readFileSync } = require("fs");
const { standardTransformers, standardTransformersRegistry, toDataFrame, transformDataFrame } = require("@grafana/data");
const { firstValueFrom } = require("rxjs");
globalThis.window ??= {}; // after what would take it for a browser

standardTransformersRegistry.setInit(() =>
  [standardTransformers.mergeTransformer, standardTransformers.organizeFieldsTransformer].map((transformation) => ({ id: transformation.id, name: transformation.name, transformation: async () => transformation })));

(async () => {
  const answers = [];
  for (const { frames, transformations } of JSON.parse(readFileSync(0, "utf-8"))) {
    const [table] = await firstValueFrom(transformDataFrame(transformations, frames.map(toDataFrame)));
    answers.push(table.fields.map((field) => ({
      name: field.config.displayName ?? field.name,
      values: [...field.values].map((value) => value ?? null),
    })));
  }
  console.log(JSON.stringify(answers));
})();
