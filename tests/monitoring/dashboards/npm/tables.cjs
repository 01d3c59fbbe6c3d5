// Read tables and transformations as JSON, transform them as Grafana does, and print the columns, and what a data
// link on the first row finds by each column's name.
globalThis.navigator ??= { language: "en", languages: ["en"] }; // the package expects a browser
const { readFileSync } = require("fs");
const {
  createTheme,
  getDisplayProcessor,
  getFieldDisplayValuesProxy,
  standardTransformers,
  standardTransformersRegistry,
  toDataFrame,
  transformDataFrame,
} = require("@grafana/data");
const { firstValueFrom } = require("rxjs");
globalThis.window ??= {}; // after what would take it for a browser

const { mergeTransformer, organizeFieldsTransformer } = standardTransformers;
standardTransformersRegistry.setInit(() =>
  [mergeTransformer, organizeFieldsTransformer].map((transformation) => ({
    id: transformation.id,
    name: transformation.name,
    transformation: async () => transformation,
  })));

(async () => {
  const answers = [];
  for (const { frames, transformations } of JSON.parse(readFileSync(0, "utf-8"))) {
    const [table] = await firstValueFrom(transformDataFrame(transformations, frames.map(toDataFrame)));
    for (const field of table.fields) field.display = getDisplayProcessor({ field, theme: createTheme() });
    const found = getFieldDisplayValuesProxy({ frame: table, rowIndex: 0 });
    answers.push(table.fields.map((field) => {
      const name = field.config.displayName ?? field.name;
      return { name, values: [...field.values].map((value) => value ?? null), linked: found[name]?.text ?? null };
    }));
  }
  console.log(JSON.stringify(answers));
})();
